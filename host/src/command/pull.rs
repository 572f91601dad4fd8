//! `pull`: a model's file from the Hugging Face hub, for the embedded engine.

use super::models::print;
use crate::args::PullArgs;
use crate::client;
use crate::engine::{DEFAULT_HUB_URL, Hub, HubReference, PullProgress, format_bytes};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::Cancel;
use crate::sink::{DownloadProgress, Messages};

/// Runs `pull`.
///
/// # Errors
/// No such file, no room, a hub that cannot be reached, another file in its
/// place.
pub(crate) async fn pull(
    args: PullArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    client::warn_about_unknown_variables(env, messages);
    let reference = HubReference::parse(&args.reference)?;
    let base = env
        .all_variables
        .get("HF_ENDPOINT")
        .map_or(DEFAULT_HUB_URL, |it| it.expose());
    let hub = Hub::new(base, env.all_variables.get("HF_TOKEN").cloned())?;
    let folder = env.paths.data.join("models");
    let mut shown = DownloadProgress::new(messages, env.stderr_is_terminal, args.common.quiet);
    let mut tell = |it: PullProgress| match it {
        PullProgress::Started {
            name,
            total_bytes: bytes,
            present_bytes: have,
        } => shown.start(&name, bytes, have),
        PullProgress::Received(bytes) => shown.set_position(bytes),
        PullProgress::Retrying(why) => shown.message(&format!("{why}; goes on where it was")),
        PullProgress::Verifying => shown.message("checks it"),
    };
    let pulled = tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()
            .hint("what has come is kept; the same command goes on with it")),
        it = hub.pull(&reference, &args.revision, &folder, args.force, &mut tell) => {
            it.map_err(Failure::from)
        }
    };
    shown.finish();
    let pulled = pulled?;
    let path = pulled.path.display();
    messages.status(&if pulled.already_present {
        format!("{path} is there already")
    } else {
        format!("{path}: {}", format_bytes(pulled.size_bytes))
    });
    let name = pulled
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
