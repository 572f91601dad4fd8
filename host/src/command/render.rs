//! `render`: what would be sent, and nothing else. No model, no server.

use std::io::Write;

use serde_json::json;

use super::resolve_args;
use crate::args::Render;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::{Origin, Prompt, settle};
use crate::job::{Interrupt, ResolvedJob};
use crate::report::packs_used;
use crate::sink::{Messages, Sink, Stdout, visible_json};

/// The schema of `--json`.
const SCHEMA: u32 = 1;

/// Runs `render`.
///
/// # Errors
/// The prompt cannot be resolved, or stdout cannot be written.
pub(crate) async fn render(
    args: Render,
    env: &Env,
    interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let Render {
        asked,
        sampling,
        json,
        common,
    } = args;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    resolve_args::warn_of_unknown_variables(env, messages);
    let config = resolve_args::config(&common, env)?;
    let [flags, environment, written] = resolve_args::layers(&sampling, env, &config)?;
    let ask = resolve_args::ask(&asked, env, &config)?;
    let shelf = resolve_args::shelf(&asked, env, &config, messages)?;
    let preparing = resolve_args::prepared(shelf, ask, None, env.stdin_has_text, messages);
    let prepared = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        prepared = preparing => prepared?,
    };
    for warning in &prepared.warnings {
        messages.warning(warning);
    }
    let ResolvedJob {
        resolved,
        steps,
        resolver,
        warnings,
    } = prepared;
    let layers = [
        flags,
        environment,
        (Origin::Prompt, resolved.settings.clone()),
        written,
    ];
    let settings = settle(&layers);
    if json {
        let post: Vec<_> = steps
            .iter()
            .map(|step| {
                json!({
                    "pack": step.pack.name(),
                    "processor": step.context.processor,
                    "options": step.context.options,
                })
            })
            .collect();
        let packs = packs_used(std::iter::once(&resolver).chain(steps.iter().map(|it| &it.pack)));
        let object = json!({
            "schema": SCHEMA,
            "input": resolved.prompt,
            "settings": settings,
            "post": post,
            "extension": resolved.extension,
            "extra": resolved.extra,
            "packs": packs,
            "warnings": warnings,
        });
        let text = serde_json::to_string_pretty(&object).unwrap_or_default();
        let text = if env.stdout_is_terminal {
            visible_json(&text)
        } else {
            text
        };
        let mut stdout = std::io::stdout().lock();
        return match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(Exit::Done),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Done),
            Err(e) => Err(Failure::new(
                Exit::Broken,
                format!("cannot write to stdout: {e}"),
            )),
        };
    }
    let mut stdout = Stdout::new(std::io::stdout(), env.stdout_is_terminal);
    stdout
        .text(&shown(&resolved.prompt))
        .and_then(|()| stdout.end())?;
    Ok(Exit::Done)
}

/// One message is shown as it stands; several get a line with their role.
fn shown(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Raw(text) => text.clone(),
        Prompt::Chat(messages) => match &messages[..] {
            [message] => message.content.clone(),
            messages => messages
                .iter()
                .map(|it| {
                    format!(
                        "--- {} ---\n{}\n",
                        it.role.as_str(),
                        it.content.trim_end_matches('\n')
                    )
                })
                .collect(),
        },
    }
}
