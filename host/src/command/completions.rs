//! `completions`, and the names that are offered.

use std::path::PathBuf;

use super::models::print;
use crate::args::{CompletionKind, CompletionsArgs, completion_script, supported_shells};
use crate::client;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::pack::PackFolders;

/// Runs `completions`.
///
/// # Errors
/// The shell is none that is known.
pub(crate) fn completions(args: &CompletionsArgs, env: &Env) -> Result<Exit, Failure> {
    let program = env.program.display().to_string();
    let script = completion_script(&args.shell, &program).ok_or_else(|| {
        Failure::usage(format!("no completions for a shell named `{}`", args.shell))
            .hint(format!("it takes {}", supported_shells().join(", ")))
    })?;
    let script = script.map_err(|e| Failure::new(Exit::Broken, e.to_string()))?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// The names that a Tab offers; what cannot be read offers nothing.
#[must_use]
pub fn completion_candidates(env: &Env, what: CompletionKind) -> Vec<String> {
    match what {
        CompletionKind::Models => {
            let known = client::registry_store(env).read().unwrap_or_default();
            let mut names: Vec<String> = known
                .registry
                .models()
                .filter(|(_, _, model)| model.missing_since.is_none() && !model.embeds_only)
                .map(|(_, id, _)| id.to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        }
        CompletionKind::Prompts => client::stock_prompt_names(),
        CompletionKind::Packs => {
            let folders = PackFolders(vec![PathBuf::from("packs"), env.paths.data.join("packs")]);
            let mut names: Vec<String> = folders.list().into_iter().map(|it| it.name).collect();
            names.push("standard".to_owned());
            names
        }
    }
}
