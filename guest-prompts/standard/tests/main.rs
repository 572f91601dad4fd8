//! Tests of the standard pack, natively, through its public modules.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy exempts test functions, but not the helpers beside them"
)]

/// What every way of cutting an answer must have in common.
mod cutting;
/// The original program's results, and where ours differ on purpose.
mod golden;
/// Files as people and machines leave them: broken, huge, oddly encoded.
mod odd;
/// One table of cases per processor.
mod processors;
/// Prompt tables: properties, settings, processors, several files.
mod prompts;
/// The examples of the README.
mod readme;
/// The prompts that the host brings along.
mod stock;

use lmstrix_pack_standard::resolve::resolve;
use lmstrix_pack_standard::types::{Entry, Error, File, Request, Resolved};

fn file(name: &str, text: &str) -> File {
    File {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
    let entry = |(key, value): &(&str, &str)| Entry::new(*key, *value);
    pairs.iter().map(entry).collect()
}

/// Resolves a prompt of one file, `p.toml`.
fn try_one(text: &str, prompt: &str, params: &[(&str, &str)]) -> Result<Resolved, Error> {
    resolve(&Request {
        prompt: prompt.to_owned(),
        params: entries(params),
        files: vec![file("p.toml", text)],
        extra: vec![],
    })
}

fn one(text: &str, prompt: &str, params: &[(&str, &str)]) -> Resolved {
    try_one(text, prompt, params).unwrap_or_else(|error| panic!("{prompt}: {error:?}"))
}

/// The error as one line: what kind, where, and what it says.
fn failure(result: Result<Resolved, Error>) -> String {
    match result {
        Ok(resolved) => panic!("no error but {resolved:?}"),
        Err(error) => shown(&error),
    }
}

fn shown(error: &Error) -> String {
    match error {
        Error::UnknownPrompt(close) => format!("unknown prompt, close: {}", close.join(" ")),
        Error::UnknownProcessor(close) => format!("unknown processor, close: {}", close.join(" ")),
        Error::MissingParams(names) => format!("missing: {}", names.join(" ")),
        Error::InvalidParam(name, message) => format!("{name}: {message}"),
        Error::InvalidFile(error) => {
            let number = |number: Option<u32>| number.map(|it| it.to_string()).unwrap_or_default();
            let (line, column) = (number(error.line), number(error.column));
            format!("{}:{line}:{column}: {}", error.file, error.message)
        }
        Error::Rejected(why) => format!("rejected: {why}"),
    }
}
