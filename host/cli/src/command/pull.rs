//! `pull`: downloads a model file from the Hugging Face hub for the embedded engine.

use lmstrix::client;
use lmstrix::engine::{DEFAULT_HUB_URL, Hub, HubReference, PullProgress, format_bytes};
use lmstrix::job::Cancel;

use super::models::print;
use crate::args::PullArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::{DownloadProgress, Messages};

/// Runs `pull`.
///
/// # Errors
/// Returns an error if the file does not exist on the hub, the hub is unreachable, the disk
/// is full, or a different file exists at the target path.
pub(crate) async fn pull(
    args: PullArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    client::warn_about_unknown_variables(env, &notices(messages));
    let reference = HubReference::parse(&args.reference)?;
    let base_url = env
        .all_variables
        .get("HF_ENDPOINT")
        .map_or(DEFAULT_HUB_URL, |value| value.expose());
    let hub = Hub::new(base_url, env.all_variables.get("HF_TOKEN").cloned())?;
    let folder = env.paths.data.join("models");
    let mut display = DownloadProgress::new(messages);
    let mut on_progress = |progress: PullProgress| match progress {
        PullProgress::Started {
            name,
            total_bytes,
            present_bytes,
        } => display.start(&name, total_bytes, present_bytes),
        PullProgress::Received(bytes) => display.set_position(bytes),
        PullProgress::Retrying(cause) => display.message(&format!("{cause}; resuming")),
        PullProgress::Verifying => display.message("verifying the checksum"),
    };
    let downloaded = tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()
            .hint("partial download kept; run the same command to resume")),
        result = hub.pull(&reference, &args.revision, &folder, args.force, &mut on_progress) => {
            result.map_err(Failure::from)
        }
    };
    display.finish();
    let downloaded = downloaded?;
    let path = downloaded.path.display();
    messages.status(&if downloaded.already_present {
        format!("{path} already exists")
    } else {
        format!("{path}: {}", format_bytes(downloaded.size_bytes))
    });
    let name = downloaded
        .path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    messages.hint(&format!(
        "lmstrix-host infer tldr --text-file FILE -m {name}"
    ));
    print(&format!("{name}\n"))?;
    Ok(Exit::Done)
}
