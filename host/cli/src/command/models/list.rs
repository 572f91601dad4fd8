//! `list`: prints the models of the registry. Sends no request and writes no file.

use lmstrix::client;
use lmstrix::engine::{Memory, display_model, format_bytes};
use lmstrix::registry::{ModelRecord, SortRow, sort_models};
use serde::Serialize;

use super::{engine_filter, escape_for_terminal, format_ago, format_table, print, print_json};
use crate::args::{ListArgs, ListShow};
use crate::command::notices;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Output of `list --json`.
#[derive(Serialize)]
struct ListReport<'a> {
    schema: u32,
    models: Vec<ListEntry<'a>>,
}

#[derive(Serialize)]
struct ListEntry<'a> {
    id: &'a str,
    engine: &'a str,
    kind: &'a str,
    fits: bool,
    #[serde(flatten)]
    model: &'a ModelRecord,
}

enum ListFormat {
    Table,
    Ids,
    Paths,
    Json,
    Markdown,
}

/// Runs `list`.
///
/// # Errors
/// Returns an error if a flag is invalid or the registry cannot be read.
pub(crate) fn list(args: &ListArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let config = resolve_args::config(&args.common, env)?;
    let (sort_key, is_reversed) = args.sort;
    let format = match (args.show, args.ids, args.json) {
        (_, true, _) | (Some(ListShow::Id), ..) => ListFormat::Ids,
        (_, _, true) | (Some(ListShow::Json), ..) => ListFormat::Json,
        (Some(ListShow::Path), ..) => ListFormat::Paths,
        (Some(ListShow::Md), ..) => ListFormat::Markdown,
        (None, ..) => ListFormat::Table,
    };
    let selection = client::engine_selection(
        args.engines.engine.as_deref(),
        env,
        &config,
        &notices(messages),
    )?;
    let is_selected = engine_filter(&selection, args.engines.engine.is_some());
    let loaded = client::registry_store(env).read()?;
    for warning in &loaded.warnings {
        messages.warning(warning);
    }
    let registry = &loaded.registry;
    let memory = Memory::detect();
    let mut rows: Vec<SortRow<'_>> = registry
        .models()
        .filter(|(engine, ..)| is_selected(engine))
        .filter(|(_, id, model)| matches_filters(args, id, model))
        .map(|(engine, id, model)| SortRow {
            engine,
            id,
            model,
            fits: client::fits_memory(engine, model, memory),
        })
        .collect();
    sort_models(&mut rows, sort_key, is_reversed != args.reverse);
    if rows.is_empty() {
        messages.status(if registry.models().next().is_none() {
            "the registry is empty; `scan` queries the engines for models"
        } else {
            "no model matches"
        });
    }
    let kind = |address: &str| {
        let engine = registry.engines.get(address);
        engine.map_or("", |engine| engine.kind.as_str())
    };
    match format {
        ListFormat::Ids => print(&join_lines(
            rows.iter().map(|row| escape_for_terminal(row.id, env)),
        ))?,
        ListFormat::Paths => {
            print(&join_lines(rows.iter().map(|row| {
                escape_for_terminal(row.model.path.as_deref().unwrap_or(row.id), env)
            })))?
        }
        ListFormat::Json => {
            let models = rows
                .iter()
                .map(|row| ListEntry {
                    id: row.id,
                    engine: row.engine,
                    kind: kind(row.engine),
                    fits: row.fits,
                    model: row.model,
                })
                .collect();
            print_json(&ListReport { schema: 1, models }, env)?;
        }
        ListFormat::Markdown => print(&escape_for_terminal(&markdown(&rows), env))?,
        ListFormat::Table if rows.is_empty() => {}
        ListFormat::Table => {
            let head = [
                "model", "engine", "size", "context", "tested", "tok/s", "ttft", "features",
                "state",
            ];
            let cells = rows.iter().map(|row| cells(row, kind(row.engine), env));
            print(&format_table(&head, cells.collect()))?;
        }
    }
    Ok(Exit::Done)
}

fn matches_filters(args: &ListArgs, id: &str, model: &ModelRecord) -> bool {
    let contains = |text: &str| {
        let text = text.to_lowercase();
        [
            Some(id),
            model.architecture.as_deref(),
            model.quantization.as_deref(),
        ]
        .into_iter()
        .flatten()
        .any(|value| value.to_lowercase().contains(&text))
    };
    (args.all || (model.missing_since.is_none() && !model.generates_no_text))
        && args.filter.as_deref().is_none_or(contains)
        && (!args.loaded || !model.loaded.is_empty())
        && (!args.vision || model.vision)
        && (!args.tools || model.tools)
        && (!args.failed || model.failures > 0)
        && args.key.as_deref().is_none_or(|keywords| {
            keywords
                .split(',')
                .all(|keyword| model.has_keyword(keyword.trim()))
        })
}

fn join_lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

fn cells(row: &SortRow<'_>, kind: &str, env: &Env) -> Vec<String> {
    let model = row.model;
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let declared_context = model
        .declared_context
        .map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
    let tested = match &model.tested {
        None => "-".to_owned(),
        Some(tested) => {
            // Results of the Python program have no level.
            let level = tested
                .level
                .map_or("imported", lmstrix::registry::TestLevel::as_str);
            let plus = if tested.complete { "" } else { "+" };
            format!("{}{plus} ({level})", tested.context)
        }
    };
    let features = [(model.vision, "vision"), (model.tools, "tools")];
    let features: Vec<&str> = features
        .iter()
        .filter(|(has_feature, _)| *has_feature)
        .map(|(_, name)| *name)
        .collect();
    vec![
        escape_for_terminal(display_model(row.id), env),
        kind.to_owned(),
        model
            .size_bytes
            .map_or_else(|| "-".to_owned(), format_bytes),
        declared_context,
        tested,
        number(model.speeds.decode.median()),
        number(model.speeds.first_token_s.median()),
        if features.is_empty() {
            "-".to_owned()
        } else {
            features.join(",")
        },
        state(row),
    ]
}

fn state(row: &SortRow<'_>) -> String {
    let model = row.model;
    let mut states = Vec::new();
    if let Some(at) = model.missing_since {
        states.push(format!("removed {}", format_ago(at)));
    }
    if model.generates_no_text {
        states.push("no text output".to_owned());
    }
    if !model.loaded.is_empty() {
        let contexts: Vec<String> = model.loaded.iter().flatten().map(u32::to_string).collect();
        states.push(
            format!("loaded {}", contexts.join(","))
                .trim_end()
                .to_owned(),
        );
    }
    if model.failures > 0 {
        states.push(format!("failed {}", model.failures));
    }
    if !row.fits {
        states.push("too large".to_owned());
    }
    if states.is_empty() {
        "-".to_owned()
    } else {
        states.join("; ")
    }
}

fn markdown(rows: &[SortRow<'_>]) -> String {
    let mut text = "# Models\n".to_owned();
    for row in rows {
        let model = row.model;
        text.push_str(&format!("\n## {}\n\n- engine: {}\n", row.id, row.engine));
        let facts = [
            ("architecture", model.architecture.clone()),
            ("quantization", model.quantization.clone()),
            ("size", model.size_bytes.map(format_bytes)),
            (
                "context",
                model.declared_context.map(|tokens| tokens.to_string()),
            ),
            (
                "tested context",
                model
                    .tested
                    .as_ref()
                    .map(|tested| tested.context.to_string()),
            ),
            (
                "tokens/s",
                model
                    .speeds
                    .decode
                    .median()
                    .map(|rate| format!("{rate:.1}")),
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
