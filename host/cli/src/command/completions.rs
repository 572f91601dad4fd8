//! `completions`: prints shell scripts; [`completion_candidates`] returns the names for them.

use std::path::PathBuf;

use lmstrix::client::{self, Notices, PackSource};
use lmstrix::config::Config;
use lmstrix_sandbox::{PackContents, PackFolders, STANDARD_PACK};

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
        CompletionKind::Prompts => {
            let mut names = client::stock_prompt_names();
            for (pack, contents) in compiled_packs(env) {
                let prompts = contents.prompts.iter();
                names.extend(prompts.map(|prompt| format!("{pack}/{}", prompt.name)));
            }
            names
        }
        CompletionKind::Processors => {
            let mut names = Vec::new();
            for (pack, contents) in compiled_packs(env) {
                let processors = contents.processors.into_iter();
                names.extend(processors.map(|processor| match pack.as_str() {
                    STANDARD_PACK => processor.name,
                    pack => format!("{pack}/{}", processor.name),
                }));
            }
            names
        }
        CompletionKind::Packs => {
            let folders = PackFolders(vec![PathBuf::from("packs"), env.paths.data.join("packs")]);
            let mut names: Vec<String> = folders.list().into_iter().map(|pack| pack.name).collect();
            names.push(STANDARD_PACK.to_owned());
            names
        }
    }
}

/// Returns the contents of the packs that need not be compiled, which would take too long.
fn compiled_packs(env: &Env) -> Vec<(String, PackContents)> {
    let source = client::pack_source(env, &Config::default(), &Notices::ignore());
    let Ok(PackSource { loader, folders }) = source else {
        return Vec::new();
    };
    let mut packs = Vec::new();
    if loader.is_standard_compiled() {
        packs.extend(loader.load_standard());
    }
    for pack in folders.list() {
        if loader.is_compiled(&pack.path) {
            packs.extend(loader.load(&pack));
        }
    }
    packs
        .iter()
        .filter_map(|pack| {
            let contents = pack.describe(pack.sidecar_files()).ok()?;
            Some((pack.name().to_owned(), contents))
        })
        .collect()
}
