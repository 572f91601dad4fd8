//! Runs a case and compares its values with the expected ones.

use std::fmt::Write;

use lmstrix::job::{self, PackSet, PromptRequest, ResolveError, ResolvedJob};
use lmstrix_inference::{Prompt, Scalar, SettingsLayer};
use lmstrix_sandbox::{ContractError, Pack, ProcessorRef, TextFile};
use similar::{ChangeTag, TextDiff};
use toml_edit::{Array, InlineTable, Value};

use super::case::Case;

/// The values of a case, in the order in which `--update` writes them.
pub(super) type Outcome = Vec<(&'static str, Value)>;

/// The key of a result that no case should expect, such as an unknown name.
const FAULT: &str = "fault";

/// Returns the result that no case should expect, if it is one.
pub(super) fn fault(outcome: &Outcome) -> Option<&Value> {
    let mut values = outcome.iter();
    values
        .find(|(key, _)| *key == FAULT)
        .map(|(_, value)| value)
}

/// Runs a case.
pub(super) fn run(packs: &mut PackSet, pack: &Pack, case: &Case, files: Vec<TextFile>) -> Outcome {
    let pairs = |values: &std::collections::BTreeMap<String, String>| {
        let pairs = values.iter();
        pairs
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let (address, processors) = match (&case.prompt, &case.processor) {
        (Some(prompt), _) => (format!("{}/{prompt}", pack.name()), None),
        (None, processor) => {
            let processor = ProcessorRef {
                name: format!(
                    "{}/{}",
                    pack.name(),
                    processor.as_deref().unwrap_or_default()
                ),
                options: pairs(&case.options),
            };
            // The prompt is not looked at.
            ("standard prompt".to_owned(), Some(vec![processor]))
        }
    };
    let request = PromptRequest {
        address,
        pack_files: files,
        params: pairs(&case.params),
        // The prompt of a processor's case uses none of them.
        optional_params: match case.processor {
            Some(_) => case.params.keys().cloned().collect(),
            None => Vec::new(),
        },
        processors,
        ..PromptRequest::default()
    };
    match job::resolve(packs, &request, case.model().as_ref(), &mut || Ok(None)) {
        Err(ResolveError::Pack(error)) => of_error(&error),
        Err(error @ ResolveError::Setting(_)) => vec![(FAULT, first_line(&error).into())],
        Err(error) => vec![("error", first_line(&error).into())],
        Ok(resolved) if case.prompt.is_some() => of_prompt(&resolved),
        Ok(resolved) => of_processor(case, &resolved),
    }
}

/// Returns the error of a pack, which is a fault if the name in the case is unknown.
fn of_error(whole: &lmstrix_sandbox::Error) -> Outcome {
    let unknown = |item: &str, kind: &str, similar: &[String]| {
        let similar: Vec<String> = similar.iter().map(|name| format!("`{name}`")).collect();
        let help = match similar.len() {
            0 => String::new(),
            _ => format!("; did you mean {}?", similar.join(", ")),
        };
        vec![(FAULT, format!("no {kind} `{item}`{help}").into())]
    };
    match whole {
        lmstrix_sandbox::Error::Contract { item, error, .. } => match error {
            ContractError::UnknownPrompt(similar) => unknown(item, "prompt", similar),
            ContractError::UnknownProcessor(similar) => unknown(item, "processor", similar),
            _ => vec![("error", error_text(whole).into())],
        },
        other => vec![("error", error_text(other).into())],
    }
}

/// Returns the first line of a pack's error, without the digest of the pack, which each build
/// changes.
fn error_text(error: &lmstrix_sandbox::Error) -> String {
    match error {
        lmstrix_sandbox::Error::Guest(error) => first_line(&error.cause),
        other => first_line(other),
    }
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn of_prompt(resolved: &ResolvedJob) -> Outcome {
    let prompt = &resolved.resolved;
    let mut outcome = vec![match &prompt.prompt {
        Prompt::Raw(text) => ("raw", text.clone().into()),
        Prompt::Chat(messages) => {
            let message = |message: &lmstrix_inference::Message| {
                let mut table = InlineTable::new();
                table.insert("role", message.role.as_str().into());
                table.insert("content", message.content.clone().into());
                Value::InlineTable(table)
            };
            (
                "messages",
                Value::Array(messages.iter().map(message).collect()),
            )
        }
    }];
    let settings = settings(&prompt.settings);
    if !settings.is_empty() {
        outcome.push(("settings", Value::InlineTable(settings)));
    }
    let processors: Array = resolved
        .steps
        .iter()
        .map(|step| format!("{}/{}", step.pack.name(), step.context.processor))
        .collect();
    if !processors.is_empty() {
        outcome.push(("post", Value::Array(processors)));
    }
    if let Some(extension) = &prompt.extension {
        outcome.push(("extension", extension.clone().into()));
    }
    add_warnings(
        &mut outcome,
        resolved.warnings.iter().map(ToString::to_string),
    );
    outcome
}

fn settings(layer: &SettingsLayer) -> InlineTable {
    let mut table = InlineTable::new();
    for (name, value) in layer.values() {
        let value = match value {
            Scalar::Integer(number) => match i64::try_from(number) {
                Ok(number) => number.into(),
                Err(_) => number.to_string().into(),
            },
            Scalar::Float(number) => number.into(),
            other => other.to_string().into(),
        };
        table.insert(name, value);
    }
    table
}

fn add_warnings(outcome: &mut Outcome, warnings: impl Iterator<Item = String>) {
    let warnings: Array = warnings.collect();
    if !warnings.is_empty() {
        outcome.push(("warnings", Value::Array(warnings)));
    }
}

/// Processes the answer as a whole, and cut at every place, which must make no difference.
fn of_processor(case: &Case, resolved: &ResolvedJob) -> Outcome {
    let whole = process(case, resolved, &[&case.answer]);
    let answer = case.answer.as_str();
    let cuts = answer.char_indices().map(|(at, _)| answer.split_at(at));
    for (before, after) in cuts {
        let cut = process(case, resolved, &[before, after]);
        if shown(&cut) != shown(&whole) {
            let text = format!(
                "cut after {before:?}, the values are other ones:\n{}",
                shown(&cut)
            );
            return vec![(FAULT, text.into())];
        }
    }
    whole
}

fn process(case: &Case, resolved: &ResolvedJob, pieces: &[&str]) -> Outcome {
    let Some(step) = resolved.steps.first() else {
        return Vec::new();
    };
    let processed = (|| {
        let mut processor = step.pack.open(&step.context)?;
        let mut text = String::new();
        for piece in pieces {
            let pushed = processor.push(piece)?;
            text.push_str(&pushed.text);
            if pushed.done {
                break;
            }
        }
        let (finished, _) = processor.finish(&case.stop())?;
        Ok::<_, lmstrix_sandbox::Error>((text + &finished.tail, finished.warnings))
    })();
    match processed {
        Ok((text, warnings)) => {
            let mut outcome = vec![("text", text.into())];
            let warnings = resolved
                .warnings
                .iter()
                .map(ToString::to_string)
                .chain(warnings);
            add_warnings(&mut outcome, warnings);
            outcome
        }
        Err(error) => of_error(&error),
    }
}

/// Returns all values as text, to compare them.
fn shown(outcome: &Outcome) -> String {
    outcome
        .iter()
        .map(|(key, value)| format!("{key} = {}\n", value_text(value)))
        .collect()
}

/// Returns a value as text: a text with its line breaks, a list with an entry in each line.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| format!("{}\n", value_text(entry)))
            .collect(),
        Value::InlineTable(table) => table
            .iter()
            .map(|(key, value)| format!("{key}: {}\n", value_text(value)))
            .collect(),
        other => other.clone().decorated("", "").to_string(),
    }
}

/// Returns the differences from the expected values; nothing if there are none. A case
/// without expected values differs.
pub(super) fn differences(expected: Option<&InlineTable>, outcome: &Outcome) -> String {
    let indented = |text: &str| text.trim_end().replace('\n', "\n         ");
    if let Some(fault) = fault(outcome) {
        return format!("         {}\n", indented(&value_text(fault)));
    }
    let Some(expected) = expected else {
        let values = indented(&shown(outcome));
        return format!("         no expected values; the present ones are\n         {values}\n");
    };
    let mut text = String::new();
    for (key, value) in expected {
        let found = outcome.iter().find(|(known, _)| *known == key);
        let found = found.map_or_else(String::new, |(_, value)| value_text(value));
        let wanted = value_text(value);
        if found == wanted {
            continue;
        }
        let _infallible = writeln!(text, "         {key}");
        for change in TextDiff::from_lines(&wanted, &found).iter_all_changes() {
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value().trim_end_matches('\n');
            let _infallible = writeln!(text, "         {mark} {line}");
        }
    }
    // An error that is not expected explains the rest.
    let is_expected = expected.contains_key("error");
    if let Some((_, error)) = outcome
        .iter()
        .find(|(key, _)| *key == "error" && !is_expected)
    {
        let _infallible = writeln!(text, "         error: {}", value_text(error));
    }
    text
}
