//! Native tests of the standard pack, through its public modules.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy exempts test functions, but not the helpers beside them"
)]

/// The output must not depend on how the answer is split into chunks.
mod chunking;
/// Unusual files: invalid, very large, with CRLF or a byte order mark.
mod edge_cases;
/// Results of the Python program, and the deliberate differences.
mod golden;
/// Tests of each processor.
mod processors;
/// Prompt tables: properties, settings, processors, multiple files.
mod prompts;
/// The examples in README.md.
mod readme;
/// The stock prompts of the host.
mod stock;

use lmstrix_pack::{Entry, Error, File, Request};
use lmstrix_pack_standard::resolve::ResolvedPrompt;
use lmstrix_pack_standard::resolve::resolve;

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

/// Resolves a prompt of a single file `p.toml`.
fn try_resolve(text: &str, prompt: &str, params: &[(&str, &str)]) -> Result<ResolvedPrompt, Error> {
    resolve(&Request {
        prompt: prompt.to_owned(),
        params: entries(params),
        files: vec![file("p.toml", text)],
        ..Request::default()
    })
}

fn resolve_prompt(text: &str, prompt: &str, params: &[(&str, &str)]) -> ResolvedPrompt {
    try_resolve(text, prompt, params).unwrap_or_else(|error| panic!("{prompt}: {error:?}"))
}

/// Returns the error of a failed resolution as one line.
fn error_of(result: Result<ResolvedPrompt, Error>) -> String {
    match result {
        Ok(resolved) => panic!("no error but {resolved:?}"),
        Err(error) => error_line(&error),
    }
}

fn error_line(error: &Error) -> String {
    match error {
        Error::UnknownPrompt(similar) => format!("unknown prompt, similar: {}", similar.join(" ")),
        Error::UnknownProcessor(similar) => {
            format!("unknown processor, similar: {}", similar.join(" "))
        }
        Error::MissingParams(names) => format!("missing: {}", names.join(" ")),
        Error::InvalidParam((name, message)) => format!("{name}: {message}"),
        Error::InvalidFile(error) => {
            let number =
                |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
            let (line, column) = (number(error.line), number(error.column));
            format!("{}:{line}:{column}: {}", error.file, error.message)
        }
        Error::Rejected(reason) => format!("rejected: {reason}"),
        Error::Other((code, message)) => format!("{code}: {message}"),
    }
}
