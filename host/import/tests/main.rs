//! Tests of the conversion through the public functions.

#![expect(
    clippy::panic,
    reason = "clippy exempts test functions, but not the helpers beside them"
)]

/// The folders of `data` with their expected prompt file and report.
mod formats;
/// Files with errors, and limits.
mod malformed;
/// The notes on prompts that are converted, with their lines.
mod notes;
/// Any text in a prompt reaches the model unchanged.
mod properties;
/// Reading files and folders.
mod reading;

use lmstrix_import::{Format, Imported, Note, Source, convert};
use lmstrix_pack::{Entry, Error, File, Request};
use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::resolve::{ResolvedPrompt, resolve};

/// Converts a single file.
fn convert_one(format: Format, text: &str) -> Imported {
    let (path, name) = match format {
        Format::Fabric => ("p/system.md", "p"),
        Format::Llm => ("p.yaml", "p"),
        Format::Prompty => ("p.prompty", "p"),
        Format::Dotprompt => ("p.prompt", "p"),
    };
    convert(format, &[source(path, name, text)])
}

fn source(path: &str, name: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn files(toml: &str) -> Vec<File> {
    vec![File {
        name: "imported.toml".to_owned(),
        text: toml.to_owned(),
    }]
}

/// Resolves a prompt with the standard pack.
fn try_resolve(toml: &str, prompt: &str, params: &[(&str, &str)]) -> Result<ResolvedPrompt, Error> {
    resolve(&Request {
        prompt: prompt.to_owned(),
        params: params
            .iter()
            .map(|(key, value)| Entry::new(*key, *value))
            .collect(),
        files: files(toml),
        ..Request::default()
    })
}

fn resolve_prompt(toml: &str, prompt: &str, params: &[(&str, &str)]) -> ResolvedPrompt {
    try_resolve(toml, prompt, params).unwrap_or_else(|error| panic!("{prompt}: {error:?}\n{toml}"))
}

/// Checks that the standard pack reads every prompt without a warning, and that the parameters
/// it lists are all that a prompt needs. Returns the prompts with `value` for each of them.
fn check_valid(imported: &Imported) -> Vec<ResolvedPrompt> {
    let (prompts, _) = describe(&files(&imported.toml))
        .unwrap_or_else(|error| panic!("{error:?}\n{}", imported.toml));
    let names: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
    assert_eq!(names, imported.prompts, "{}", imported.toml);
    let mut found = Vec::new();
    for prompt in prompts {
        let required = prompt.params.iter().filter(|param| param.required);
        let params: Vec<(&str, &str)> = required
            .map(|param| (param.name.as_str(), "value"))
            .collect();
        let resolved = resolve_prompt(&imported.toml, &prompt.name, &params);
        assert_eq!(resolved.warnings, Vec::<String>::new(), "{}", prompt.name);
        found.push(resolved);
    }
    found
}

/// Returns `LINE: MESSAGE` for each note; without the line if it has none.
fn messages(imported: &Imported) -> Vec<String> {
    let message = |note: &Note| match note.line {
        Some(line) => format!("{line}: {}", note.message),
        None => note.message.clone(),
    };
    imported.notes.iter().map(message).collect()
}

fn report(imported: &Imported) -> String {
    let lines: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
