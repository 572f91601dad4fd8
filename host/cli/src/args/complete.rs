//! Shell completion: the shell calls this program at each Tab. Names come from
//! files only; no server is contacted.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::Cli;

/// Environment variable that the completion script sets to the shell's name.
const VARIABLE: &str = "LMSTRIX_HOST_COMPLETE";

/// The kinds of names that can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompletionKind {
    /// Names of models.
    Models,
    /// Names of prompts.
    Prompts,
    /// Names of packs.
    Packs,
    /// Names of processors.
    Processors,
    /// Parameters of the prompts on the command line, as `NAME=`.
    Params,
}

/// clap's bash script with one change: bash splits words at `:`, which model
/// names contain. The script joins them again, and returns to bash only the
/// part of each candidate after the last `:`.
const BASH: &str = include_str!("complete.bash");

type NameSource = Box<dyn Fn(CompletionKind) -> Vec<String> + Send + Sync>;

static NAME_SOURCE: OnceLock<NameSource> = OnceLock::new();

fn candidates(kind: CompletionKind) -> Vec<CompletionCandidate> {
    let names = NAME_SOURCE
        .get()
        .map(|source| source(kind))
        .unwrap_or_default();
    names
        .into_iter()
        .filter(|name| is_shell_safe(name))
        .map(CompletionCandidate::new)
        .collect()
}

/// Returns true if a shell takes `name` literally without quotes. Shells insert
/// candidates unquoted, and servers can use any characters in model names.
fn is_shell_safe(name: &str) -> bool {
    let is_harmless =
        |c: char| c.is_alphanumeric() || "-_./:@+=,%".contains(c) || (cfg!(windows) && c == '\\');
    !name.starts_with(['-', '=']) && name.chars().all(is_harmless)
}

pub(super) fn models() -> Vec<CompletionCandidate> {
    candidates(CompletionKind::Models)
}

pub(super) fn prompts() -> Vec<CompletionCandidate> {
    candidates(CompletionKind::Prompts)
}

pub(super) fn packs() -> Vec<CompletionCandidate> {
    candidates(CompletionKind::Packs)
}

pub(super) fn params() -> Vec<CompletionCandidate> {
    candidates(CompletionKind::Params)
}

pub(super) fn processors() -> Vec<CompletionCandidate> {
    candidates(CompletionKind::Processors)
}

/// Answers a completion request of the shell. Returns false if the program was
/// not called for completion. `source` returns the names of a kind.
///
/// # Errors
/// Returns an error if the answer cannot be written.
pub(crate) fn answer_completion_request(
    arguments: impl Iterator<Item = OsString>,
    folder: Option<&Path>,
    source: impl Fn(CompletionKind) -> Vec<String> + Send + Sync + 'static,
) -> std::io::Result<bool> {
    let _already_set = NAME_SOURCE.set(Box::new(source));
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(arguments, folder)
        .map_err(|e| std::io::Error::other(e.to_string()))
}

/// Returns the completion script for a shell, or `None` if the shell is not
/// supported. `program` is the path that the script calls.
pub(crate) fn completion_script(shell: &str, program: &str) -> Option<std::io::Result<Vec<u8>>> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell)?;
    if shell == "bash" {
        let program = format!("'{}'", program.replace('\'', r"'\''"));
        let script = BASH.replace("VARIABLE", VARIABLE);
        return Some(Ok(script.replace("PROGRAM", &program).into_bytes()));
    }
    let mut script = Vec::new();
    let name = Cli::command().get_name().to_owned();
    let written = completer.write_registration(VARIABLE, &name, &name, program, &mut script);
    Some(written.map(|()| script))
}

/// The shells supported by `completion_script`.
#[must_use]
pub(crate) fn supported_shells() -> Vec<&'static str> {
    Shells::builtins().names().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shell_safe_names_are_offered() {
        for (name, expected) in [
            ("qwen/qwen3-4b@q4_k_m:2", true),
            ("llama3.2:latest", true),
            ("modèle", true),
            ("a b", false),
            ("a;rm -rf", false),
            ("$(x)", false),
            ("a\u{b}b", false),
            ("a\u{202e}b", false),
            ("~root", false),
            ("-x", false),
            ("a'b", false),
        ] {
            assert_eq!(is_shell_safe(name), expected, "{name:?}");
        }
    }
}
