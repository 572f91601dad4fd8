//! What `infer` and `render` share: from what was typed, written down and set
//! in the environment to what is asked of the packs.

mod engines;
mod known;
mod layers;
mod post;
mod texts;

use std::path::PathBuf;

use crate::args::{Asked, Common};
use crate::config::Config;
use crate::environment::Env;
use crate::error::Failure;
use crate::job::{PackSet, PromptRequest, ResolvedJob, on_pack_thread, prepare};
use crate::pack::{Cache, Compiler, Folders, ModelFacts, Notice, Packs, TextFile};
use crate::sink::Messages;
pub(super) use engines::{choice, limits, reach, studio_home, usual_studio, wanted};
pub(super) use known::{claims, known, life, lms, store};
pub(super) use layers::{flag_layer, layers, warn_of_unknown_variables};
pub(super) use post::processor;
pub(super) use texts::at_file;
use texts::{params, stdin_if, text_file_of};

/// The prompts of this program, for when nobody names a file.
const STOCK: &str = include_str!(concat!(env!("OUT_DIR"), "/stock.toml"));
/// Their file's name in messages.
const STOCK_NAME: &str = "stock.toml";

/// Reads the config file that holds for this run.
pub(super) fn config(common: &Common, env: &Env) -> Result<Config, Failure> {
    let path = common.config.as_ref().unwrap_or(&env.paths.config);
    tracing::info!(?path, exists = path.exists(), "the config file");
    tracing::info!(paths = ?env.paths, "folders");
    match &common.config {
        Some(path) => Ok(Config::load(path, true)?),
        None => Ok(Config::load(&env.paths.config, false)?),
    }
}

/// The sandbox, and the folders that are always looked into.
pub(super) fn packs(
    env: &Env,
    config: &Config,
    messages: Messages,
) -> Result<(Packs, Folders), Failure> {
    let packs = Packs::new(
        config.limits,
        Cache::new(env.paths.cache.join("packs")),
        Compiler::Child(env.program.clone()),
        move |notice| match notice {
            Notice::Compiling { name, bytes } => {
                let size = crate::pack::Bytes(bytes);
                messages.status(&format!("compiling pack {name} ({size}), once"));
            }
            Notice::NotCached { folder, reason } => messages.warning(&format!(
                "compiled packs cannot be kept in {}, so each run compiles them again: {reason}",
                folder.display()
            )),
        },
    )?;
    let folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    Ok((packs, Folders(folders)))
}

/// The names of the prompts that are part of this program.
pub(super) fn stock_prompts() -> Vec<String> {
    let stock: toml::Table = toml::from_str(STOCK).unwrap_or_default();
    stock.keys().cloned().collect()
}

/// The sandbox, and the folders that it looks into.
pub(super) fn shelf(
    asked: &Asked,
    env: &Env,
    config: &Config,
    messages: Messages,
) -> Result<PackSet, Failure> {
    let (packs, Folders(mut folders)) = packs(env, config, messages)?;
    for folder in asked.pack_dir.iter().filter(|it| !it.is_dir()) {
        messages.warning(&format!("--pack-dir {} is not a folder", folder.display()));
    }
    folders.extend(asked.pack_dir.iter().cloned());
    Ok(PackSet::new(packs, Folders(folders)))
}

/// What the packs are asked.
pub(super) fn ask(asked: &Asked, env: &Env, config: &Config) -> Result<PromptRequest, Failure> {
    let Asked {
        prompt,
        prompts,
        pack,
        pack_dir: _,
        post,
        no_post,
        text,
        text_file,
        param,
        dict,
        system,
        raw,
    } = asked;
    let from_env: Vec<PathBuf> = env
        .own
        .get("PROMPTS")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let paths = [prompts, &from_env, &config.prompts]
        .into_iter()
        .find(|it| !it.is_empty());
    let files = paths
        .into_iter()
        .flatten()
        .map(|path| text_file_of(path))
        .collect::<Result<_, _>>()?;
    let post = if *no_post {
        Some(Vec::new())
    } else if post.is_empty() {
        None
    } else {
        Some(
            post.iter()
                .map(|it| processor(it))
                .collect::<Result<_, _>>()?,
        )
    };
    Ok(PromptRequest {
        typed: prompt.clone(),
        packs: pack.clone(),
        files,
        stock: TextFile {
            name: STOCK_NAME.to_owned(),
            shown: STOCK_NAME.to_owned(),
            text: STOCK.to_owned(),
        },
        params: params(dict, param, text.as_deref(), text_file.as_deref())?,
        post,
        system: system.clone(),
        raw: *raw,
    })
}

/// Prepares the job on a thread of its own. What was found on the way is said
/// also when it fails: it may be the reason.
pub(super) async fn prepared(
    mut shelf: PackSet,
    ask: PromptRequest,
    model: Option<ModelFacts>,
    has_stdin: bool,
    messages: Messages,
) -> Result<ResolvedJob, Failure> {
    let (prepared, left) = on_pack_thread(move || {
        let prepared = prepare(&mut shelf, &ask, model.as_ref(), &mut || {
            stdin_if(has_stdin)
        });
        (prepared, shelf.warnings)
    })
    .await?;
    for warning in &left {
        messages.warning(warning);
    }
    let prepared = prepared?;
    check(&prepared)?;
    Ok(prepared)
}

/// A prompt's settings must be ones that some engine could honour.
pub(super) fn check(prepared: &ResolvedJob) -> Result<(), Failure> {
    let checked = prepared.resolved.settings.check();
    checked.map_err(|(name, why)| Failure::usage(format!("the prompt's setting {name} {why}")))
}
