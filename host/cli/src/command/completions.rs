//! `completions`: prints shell scripts; [`completion_candidates`] returns the names for them.

use std::path::PathBuf;

use lmstrix::client;
use lmstrix_sandbox::PackFolders;

use super::models::print;
use crate::args::{CompletionKind, CompletionsArgs, completion_script, supported_shells};
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `completions`.
///
/// # Errors
/// Returns an error if the shell is not supported.
pub(crate) fn completions(args: &CompletionsArgs, env: &Env) -> Result<Exit, Failure> {
    let program = env.program.display().to_string();
    let script = completion_script(&args.shell, &program).ok_or_else(|| {
        Failure::usage(format!("no completions for a shell named `{}`", args.shell)).hint(format!(
            "supported shells: {}",
            supported_shells().join(", ")
        ))
    })?;
    let script = script.map_err(|e| Failure::new(Exit::Broken, e.to_string()))?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Returns the names that shell completion offers. Files that cannot be read are ignored.
#[must_use]
pub(crate) fn completion_candidates(env: &Env, kind: CompletionKind) -> Vec<String> {
    match kind {
        CompletionKind::Models => {
            let loaded = client::registry_store(env).read().unwrap_or_default();
            let mut names: Vec<String> = loaded
                .registry
                .models()
                .filter(|(_, _, model)| model.missing_since.is_none() && !model.generates_no_text)
                .map(|(_, id, _)| id.to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        }
        CompletionKind::Prompts => client::stock_prompt_names(),
        CompletionKind::Packs => {
            let folders = PackFolders(vec![PathBuf::from("packs"), env.paths.data.join("packs")]);
            let mut names: Vec<String> = folders.list().into_iter().map(|pack| pack.name).collect();
            names.push("standard".to_owned());
            names
        }
    }
}
