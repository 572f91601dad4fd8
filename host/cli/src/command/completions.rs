//! `completions`: prints shell scripts; [`completion_candidates`] returns the names for them.

use lmstrix::client::{self, Notices, PackSource};
use lmstrix::config::Config;
use lmstrix_sandbox::{PackContents, PackItemInfo, STANDARD_PACK};

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
/// `words` are those of the command line so far.
#[must_use]
pub(crate) fn completion_candidates(
    env: &Env,
    kind: CompletionKind,
    words: &[String],
) -> Vec<String> {
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
            let mut packs = compiled_packs(env);
            packs.retain(|(pack, _)| pack != STANDARD_PACK);
            let prompts = packs
                .into_iter()
                .flat_map(|(pack, contents)| prompts(&pack, contents));
            // The standard pack need not be compiled.
            let stock = client::stock_prompt_names().into_iter();
            stock.chain(prompts.map(|(address, _)| address)).collect()
        }
        CompletionKind::Params => {
            let is_named = |address: &String| {
                words
                    .iter()
                    .any(|word| word.split(',').any(|name| name == address))
            };
            let prompts = compiled_packs(env)
                .into_iter()
                .flat_map(|(pack, contents)| prompts(&pack, contents));
            let named = prompts.filter(|(address, _)| is_named(address));
            let params = named.flat_map(|(_, prompt)| prompt.params);
            params.map(|param| format!("{}=", param.name)).collect()
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
            let source = client::pack_source(env, &Config::default(), &Notices::ignore());
            let found = source
                .map(|source| source.folders.list())
                .unwrap_or_default();
            let mut names: Vec<String> = found.into_iter().map(|pack| pack.name).collect();
            names.push(STANDARD_PACK.to_owned());
            names
        }
    }
}

/// Returns the prompts of a pack, each with the name by which a command selects it.
fn prompts(pack: &str, contents: PackContents) -> Vec<(String, PackItemInfo)> {
    let address = |name: &str| match pack {
        STANDARD_PACK => name.to_owned(),
        pack => format!("{pack}/{name}"),
    };
    let prompts = contents.prompts.into_iter();
    prompts
        .map(|prompt| (address(&prompt.name), prompt))
        .collect()
}

/// Returns the contents of the packs that need not be compiled, which would take too long. The
/// standard pack has the stock prompts.
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
            let stock = [client::stock_file()];
            let files = if pack.name() == STANDARD_PACK {
                &stock
            } else {
                pack.sidecar_files()
            };
            let contents = pack.describe(files).ok()?;
            Some((pack.name().to_owned(), contents))
        })
        .collect()
}
