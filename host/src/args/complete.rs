//! Completion in the shell: the shell calls this program at each Tab, and what
//! it offers comes from what is known: no server is asked.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::Typed;

/// The variable by which the shell's script says what it wants.
const VARIABLE: &str = "LMSTRIX_HOST_COMPLETE";

/// What can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Names of models.
    Models,
    /// Names of prompts.
    Prompts,
    /// Names of packs.
    Packs,
}

type Source = Box<dyn Fn(What) -> Vec<String> + Send + Sync>;

static SOURCE: OnceLock<Source> = OnceLock::new();

fn candidates(what: What) -> Vec<CompletionCandidate> {
    let names = SOURCE.get().map(|it| it(what)).unwrap_or_default();
    names.into_iter().map(CompletionCandidate::new).collect()
}

pub(super) fn models() -> Vec<CompletionCandidate> {
    candidates(What::Models)
}

pub(super) fn prompts() -> Vec<CompletionCandidate> {
    candidates(What::Prompts)
}

pub(super) fn packs() -> Vec<CompletionCandidate> {
    candidates(What::Packs)
}

/// Answers the shell, when it is the shell that asks; whether it was. `source`
/// gives the names.
///
/// # Errors
/// The answer cannot be written.
pub fn answer_shell(
    arguments: impl Iterator<Item = OsString>,
    folder: Option<&Path>,
    source: impl Fn(What) -> Vec<String> + Send + Sync + 'static,
) -> std::io::Result<bool> {
    let _first = SOURCE.set(Box::new(source));
    CompleteEnv::with_factory(Typed::command)
        .var(VARIABLE)
        .try_complete(arguments, folder)
        .map_err(|e| std::io::Error::other(e.to_string()))
}

/// The script that a shell reads at its start; `None` for a shell that is not
/// known.
///
/// # Errors
/// None that memory would not have.
pub fn script(shell: &str, program: &str) -> Option<std::io::Result<Vec<u8>>> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell)?;
    let mut script = Vec::new();
    let name = Typed::command().get_name().to_owned();
    let written = completer.write_registration(VARIABLE, &name, &name, program, &mut script);
    Some(written.map(|()| script))
}

/// The shells that `script` knows.
#[must_use]
pub fn shells() -> Vec<&'static str> {
    Shells::builtins().names().collect()
}
