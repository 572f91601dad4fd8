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

/// clap's own script, but for one thing: bash cuts words at `:`, which names
/// of models hold. They are put together again, and of what is offered only
/// the part behind the last `:` goes back to bash.
const BASH: &str = include_str!("complete.bash");

type Source = Box<dyn Fn(What) -> Vec<String> + Send + Sync>;

static SOURCE: OnceLock<Source> = OnceLock::new();

fn candidates(what: What) -> Vec<CompletionCandidate> {
    let names = SOURCE.get().map(|it| it(what)).unwrap_or_default();
    names
        .into_iter()
        .filter(|it| is_plain(it))
        .map(CompletionCandidate::new)
        .collect()
}

/// Whether a shell takes a name as it stands. Shells put what is offered into
/// the line without quotes, and servers name models as they like.
fn is_plain(name: &str) -> bool {
    let is_harmless = |it: char| {
        it.is_alphanumeric() || "-_./:@+=,%".contains(it) || (cfg!(windows) && it == '\\')
    };
    !name.starts_with(['-', '=']) && name.chars().all(is_harmless)
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
    if shell == "bash" {
        let program = format!("'{}'", program.replace('\'', r"'\''"));
        let script = BASH.replace("VARIABLE", VARIABLE);
        return Some(Ok(script.replace("PROGRAM", &program).into_bytes()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_shell_takes_as_they_stand_are_offered() {
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
            assert_eq!(is_plain(name), expected, "{name:?}");
        }
    }
}
