//! `render`: prints the resolved prompt without a model or a server.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use lmstrix::client::{self, Links, RunLimit, TextFiles};
use lmstrix::job::{Cancel, PackOutput, PackUsed, ResolvedJob, add_token_facts};
use lmstrix::sink::{Sink, Stdout, escape_controls_json};
use lmstrix_inference::{Prompt, SettingsLayer};
use lmstrix_sandbox::{ModelFacts, PackRules};
use serde_json::json;

use super::resolve_args;
use crate::args::RenderArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::{Messages, print_pack_output};

/// Schema version of the `--json` output.
const SCHEMA: u32 = 1;

/// Runs `render`.
///
/// # Errors
/// Returns an error if the prompt cannot be resolved or stdout cannot be written.
pub(crate) async fn render(
    args: RenderArgs,
    env: &Env,
    mut cancel: Cancel<'_>,
) -> Result<Exit, Failure> {
    let RenderArgs {
        prompt,
        sampling,
        context,
        model_fact,
        json,
        common,
    } = args;
    let mut model = model_facts(context, &model_fact)?;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    let notices = notices(messages);
    client::warn_about_unknown_variables(env, &notices);
    let config = resolve_args::config(&common, env)?;
    let no_limit = RunLimit {
        limit: None,
        start: Instant::now(),
    };
    let of_args = notices.clone();
    let show_pack_output = prompt.show_pack_output;
    let names_files = resolve_args::names_files(&prompt, &sampling);
    let read = move || resolve_args::request_from_args(&prompt, &sampling, &of_args);
    let request = client::read_files(names_files, no_limit, cancel.as_mut(), read).await?;
    let settings = client::settings_by_origin(request.settings.clone(), env, &config)?;
    if let Some(facts) = &mut model {
        add_token_facts(facts, None, &settings);
    }
    let owned = (request.clone(), (**env).clone(), config.clone());
    let names_files = client::names_files(&request, env, &config);
    let read =
        move || client::prompt_request(&owned.0, &owned.1, &owned.2, &mut TextFiles::default());
    let prompt = client::read_files(names_files, no_limit, cancel.as_mut(), read).await?;
    let packs = client::pack_source(env, &config, &notices)?;
    let packs = packs
        .pack_set(&request.pack_dirs, Links::Allowed, &notices)
        .with_rules(PackRules::new(request.locked, BTreeMap::new()));
    let resolving = client::resolve_prompt(packs, prompt, model, env.stdin_has_text, &notices);
    let resolved = tokio::select! {
        biased;
        () = cancel => return Err(Failure::interrupted()),
        resolved = resolving => resolved?,
    };
    let ResolvedJob {
        resolved,
        steps,
        resolver,
        warnings,
    } = resolved;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        messages.warning(warning);
    }
    let pack_output = PackOutput::new(resolver.name(), &resolved.written);
    if let (Some(output), true) = (&pack_output, show_pack_output) {
        print_pack_output(messages, &output.from, &output.text);
    }
    let settings = settings.resolve(&resolved.settings, &SettingsLayer::default());
    if json {
        let processors: Vec<_> = steps
            .iter()
            .map(|step| {
                json!({
                    "pack": step.pack.name(),
                    "processor": step.context.processor,
                    "options": step.context.options,
                    "defaults": step.context.defaults,
                })
            })
            .collect();
        let packs =
            PackUsed::list(std::iter::once(&resolver).chain(steps.iter().map(|step| &step.pack)));
        let object = json!({
            "schema": SCHEMA,
            "input": resolved.prompt,
            "settings": settings,
            "post": processors,
            "extension": resolved.extension,
            "extra": resolved.extra,
            "packs": packs,
            "warnings": warnings,
            "pack_output": pack_output,
        });
        let text = serde_json::to_string_pretty(&object).unwrap_or_default();
        let text = if env.stdout_is_terminal {
            escape_controls_json(&text)
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
        .text(&format_prompt(&resolved.prompt))
        .and_then(|()| stdout.end())?;
    for message in resolved.prompt.messages() {
        for name in &message.attachments {
            messages.status(&format!(
                "sent with a {} message: {name}",
                message.role.as_str()
            ));
        }
    }
    Ok(Exit::Done)
}

/// Returns the facts about the model for packs; `None` if no flag gives one.
fn model_facts(context: Option<u32>, facts: &[String]) -> Result<Option<ModelFacts>, Failure> {
    if context.is_none() && facts.is_empty() {
        return Ok(None);
    }
    let mut model = ModelFacts {
        id: "model".to_owned(),
        context_length: context,
        ..ModelFacts::default()
    };
    for fact in facts {
        let Some((key, value)) = fact.split_once('=') else {
            return Err(Failure::usage(format!(
                "--model-fact takes KEY=VALUE; `{fact}` has no `=`"
            )));
        };
        model.set(key, value);
    }
    Ok(Some(model))
}

/// Formats a prompt: a single message as it is, several messages each with a line that names
/// its role.
fn format_prompt(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Raw(text) => text.clone(),
        Prompt::Chat(messages) => match &messages[..] {
            [message] => message.content.clone(),
            messages => messages
                .iter()
                .map(|message| {
                    format!(
                        "--- {} ---\n{}\n",
                        message.role.as_str(),
                        message.content.trim_end_matches('\n')
                    )
                })
                .collect(),
        },
    }
}
