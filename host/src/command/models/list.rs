//! `list`: what is known. Asks nobody and writes nothing.

use serde::Serialize;

use super::{ago, fits, places, print, print_json, shown, table};
use crate::args::List;
use crate::command::resolve_args;
use crate::engine::{Memory, gigabytes};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::registry::{ModelRecord, Row, Sort, sort};
use crate::sink::Messages;

/// What `--json` prints.
#[derive(Serialize)]
struct Listed<'a> {
    schema: u32,
    models: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    engine: &'a str,
    kind: &'a str,
    fits: bool,
    #[serde(flatten)]
    model: &'a ModelRecord,
}

enum Form {
    Table,
    Ids,
    Paths,
    Json,
    Markdown,
}

/// Runs `list`.
///
/// # Errors
/// A wrong flag, or the registry cannot be read.
pub(crate) fn list(args: &List, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let config = resolve_args::config(&args.common, env)?;
    let (by, reversed) = Sort::parse(&args.sort).ok_or_else(|| {
        Failure::usage(format!("--sort `{}`: there is no such order", args.sort))
            .hint(format!("it takes {}", Sort::NAMES.join(", ")))
    })?;
    let form = match (args.show.as_deref(), args.ids, args.json) {
        (_, true, _) | (Some("id"), ..) => Form::Ids,
        (_, _, true) | (Some("json"), ..) => Form::Json,
        (Some("path"), ..) => Form::Paths,
        (Some("md"), ..) => Form::Markdown,
        (None, ..) => Form::Table,
        (Some(other), ..) => {
            return Err(Failure::usage(format!(
                "--show `{other}`: it takes id, path, json or md"
            )));
        }
    };
    let wanted = resolve_args::wanted(args.engines.engine.as_deref(), env, &config, messages)?;
    let is_meant = places(&wanted, args.engines.engine.is_some());
    let known = resolve_args::store(env).read()?;
    for warning in &known.warnings {
        messages.warning(warning);
    }
    let memory = Memory::here();
    let all = known
        .registry
        .models()
        .filter(|(place, ..)| is_meant(place));
    let mut rows: Vec<Row<'_>> = all
        .filter(|(_, id, model)| is_wanted(args, id, model))
        .map(|(engine, id, model)| Row {
            engine,
            id,
            model,
            fits: fits(engine, model, memory),
        })
        .collect();
    sort(&mut rows, by, reversed != args.reverse);
    if rows.is_empty() {
        messages.status(if known.registry.models().next().is_none() {
            "no models are known yet; `scan` asks the engines for theirs"
        } else {
            "no model is like that"
        });
    }
    let kind = |place: &str| {
        let engine = known.registry.engines.get(place);
        engine.map_or("", |it| it.kind.as_str())
    };
    match form {
        Form::Ids => print(&lines(rows.iter().map(|it| shown(it.id, env))))?,
        Form::Paths => {
            print(&lines(rows.iter().map(|it| {
                shown(it.model.path.as_deref().unwrap_or(it.id), env)
            })))?
        }
        Form::Json => {
            let models = rows
                .iter()
                .map(|it| Entry {
                    id: it.id,
                    engine: it.engine,
                    kind: kind(it.engine),
                    fits: it.fits,
                    model: it.model,
                })
                .collect();
            print_json(&Listed { schema: 1, models }, env)?;
        }
        Form::Markdown => print(&shown(&markdown(&rows), env))?,
        Form::Table if rows.is_empty() => {}
        Form::Table => {
            let head = [
                "model", "engine", "size", "context", "tested", "tok/s", "first", "can", "state",
            ];
            let cells = rows.iter().map(|row| cells(row, kind(row.engine), env));
            print(&table(&head, cells.collect()))?;
        }
    }
    Ok(Exit::Done)
}

fn is_wanted(args: &List, id: &str, model: &ModelRecord) -> bool {
    let holds = |text: &str| {
        let text = text.to_lowercase();
        [
            Some(id),
            model.architecture.as_deref(),
            model.quantization.as_deref(),
        ]
        .into_iter()
        .flatten()
        .any(|it| it.to_lowercase().contains(&text))
    };
    (args.all || (model.missing_since.is_none() && !model.embeds_only))
        && args.filter.as_deref().is_none_or(holds)
        && (!args.loaded || !model.loaded.is_empty())
        && (!args.vision || model.vision)
        && (!args.tools || model.tools)
        && (!args.failed || model.failures > 0)
        && args
            .key
            .as_deref()
            .is_none_or(|it| it.split(',').all(|word| model.has_keyword(word.trim())))
}

fn lines(of: impl Iterator<Item = String>) -> String {
    of.map(|it| it + "\n").collect()
}

fn cells(row: &Row<'_>, kind: &str, env: &Env) -> Vec<String> {
    let model = row.model;
    let number = |it: Option<f64>, digits: usize| {
        it.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}"))
    };
    let tokens = |it: Option<u32>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let tested = match &model.tested {
        None => "-".to_owned(),
        Some(it) => {
            let level = it.level.map_or("old test", crate::registry::Level::as_str);
            let more = if it.complete { "" } else { "+" };
            format!("{}{more} ({level})", it.context)
        }
    };
    let can = [(model.vision, "vision"), (model.tools, "tools")];
    let can: Vec<&str> = can
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, it)| *it)
        .collect();
    vec![
        shown(row.id, env),
        kind.to_owned(),
        model.size_bytes.map_or_else(|| "-".to_owned(), gigabytes),
        tokens(model.declared_context),
        tested,
        number(model.speeds.decode.median(), 1),
        number(model.speeds.first_token_s.median(), 1),
        if can.is_empty() {
            "-".to_owned()
        } else {
            can.join(",")
        },
        state(row),
    ]
}

fn state(row: &Row<'_>) -> String {
    let model = row.model;
    let mut said = Vec::new();
    if let Some(at) = model.missing_since {
        said.push(format!("gone, seen {}", ago(at)));
    }
    if model.embeds_only {
        said.push("embeds only".to_owned());
    }
    if !model.loaded.is_empty() {
        let contexts: Vec<String> = model.loaded.iter().flatten().map(u32::to_string).collect();
        said.push(
            format!("loaded {}", contexts.join(","))
                .trim_end()
                .to_owned(),
        );
    }
    if model.failures > 0 {
        said.push(format!("failed {}", model.failures));
    }
    if !row.fits {
        said.push("too large".to_owned());
    }
    if said.is_empty() {
        "-".to_owned()
    } else {
        said.join("; ")
    }
}

fn markdown(rows: &[Row<'_>]) -> String {
    let mut text = "# Models\n".to_owned();
    for row in rows {
        let model = row.model;
        text.push_str(&format!("\n## {}\n\n- engine: {}\n", row.id, row.engine));
        let facts = [
            ("architecture", model.architecture.clone()),
            ("quantization", model.quantization.clone()),
            ("size", model.size_bytes.map(gigabytes)),
            ("context", model.declared_context.map(|it| it.to_string())),
            (
                "tested context",
                model.tested.as_ref().map(|it| it.context.to_string()),
            ),
            (
                "tokens/s",
                model.speeds.decode.median().map(|it| format!("{it:.1}")),
            ),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                text.push_str(&format!("- {name}: {fact}\n"));
            }
        }
    }
    text
}
