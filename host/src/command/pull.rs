//! `pull`: a model's file from the Hugging Face hub, for the embedded engine.

use super::models::print;
use crate::args::Pull;
use crate::engine::{HUB, Hub, Pulling, Reference, gigabytes};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::Interrupt;
use crate::sink::{Download, Messages};

/// Runs `pull`.
///
/// # Errors
/// No such file, no room, a hub that cannot be reached, another file in its
/// place.
pub(crate) async fn pull(args: Pull, env: &Env, interrupt: Interrupt<'_>) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    super::resolve_args::warn_of_unknown_variables(env, messages);
    let reference = Reference::parse(&args.reference)?;
    let base = env.others.get("HF_ENDPOINT").map_or(HUB, |it| it.expose());
    let hub = Hub::new(base, env.others.get("HF_TOKEN").cloned())?;
    let folder = env.paths.data.join("models");
    let mut shown = Download::new(messages, env.stderr_is_terminal, args.common.quiet);
    let mut tell = |it: Pulling| match it {
        Pulling::Begin { name, bytes, have } => shown.begin(&name, bytes, have),
        Pulling::Have(bytes) => shown.have(bytes),
        Pulling::Again(why) => shown.say(&format!("{why}; goes on where it was")),
        Pulling::Checking => shown.say("checks it"),
    };
    let pulled = tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()
            .hint("what has come is kept; the same command goes on with it")),
        it = hub.pull(&reference, &args.revision, &folder, args.force, &mut tell) => {
            it.map_err(Failure::from)
        }
    };
    shown.end();
    let pulled = pulled?;
    let path = pulled.path.display();
    messages.status(&if pulled.was_there {
        format!("{path} is there already")
    } else {
        format!("{path}: {}", gigabytes(pulled.bytes))
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
