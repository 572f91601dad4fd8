//! Converts command-line arguments to a [`Request`] and its options.

mod params;
mod sampling;

use std::path::Path;

use lmstrix::client::{LoadPolicy, Notices, Request, TimeoutOptions, processor};
use lmstrix::config::{Config, EngineConfig};
use lmstrix::duration::TimeLimit;
use lmstrix::job::ModelReference;

use crate::args::{CommonArgs, ModelArgs, PromptArgs, SamplingArgs, TimeoutArgs};
use crate::environment::Env;
use crate::error::Failure;
use crate::ui::Messages;
use params::params;
pub(crate) use sampling::flag_layer;

/// Loads the config file. A file given by `--config` must exist.
///
/// # Errors
/// Returns an error if the file cannot be read or is invalid.
pub(crate) fn config(common: &CommonArgs, env: &Env) -> Result<Config, Failure> {
    let path = common.config.as_ref().unwrap_or(&env.paths.config);
    tracing::info!(?path, exists = path.exists(), "config file");
    tracing::info!(paths = ?env.paths, "folders");
    let config = match &common.config {
        Some(path) => Config::load(path, true)?,
        None => Config::load(&env.paths.config, false)?,
    };
    let sends_secrets = |engine: &EngineConfig| engine.key_env.is_some();
    if config.engines.iter().any(sends_secrets) && others_can_write(path) {
        let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
        messages.warning(&format!(
            "other users can change {}, which decides where API keys are sent; make it and its \
             folder writable for yourself only",
            path.display()
        ));
    }
    Ok(config)
}

/// Returns whether other users can write a file or its folder.
#[cfg(unix)]
fn others_can_write(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    /// The bits of the group and of all others.
    const WRITABLE: u32 = 0o022;
    [Some(path), path.parent()]
        .into_iter()
        .flatten()
        .filter_map(|path| fs_err::metadata(path).ok())
        .any(|metadata| metadata.permissions().mode() & WRITABLE != 0)
}

#[cfg(not(unix))]
fn others_can_write(_path: &Path) -> bool {
    false
}

/// Returns the prompt, its parameters and its settings as a request.
///
/// # Errors
/// Returns an error if a value is invalid, or if a file that it names cannot be read.
pub(crate) fn request_from_args(
    prompt: &PromptArgs,
    sampling: &SamplingArgs,
    notices: &Notices,
) -> Result<Request, Failure> {
    let PromptArgs {
        prompt,
        prompts,
        pack,
        pack_dir,
        locked,
        post,
        no_post,
        text,
        text_file,
        param,
        dict,
        file,
        attach,
        system,
        raw,
        show_pack_output: _,
    } = prompt;
    Ok(Request {
        prompt: prompt.clone(),
        prompt_files: prompts.clone(),
        pack_files: file.clone(),
        packs: pack.clone(),
        pack_dirs: pack_dir.clone(),
        locked: *locked,
        params: params(dict, param, text.as_deref(), text_file.as_deref(), notices)?,
        processors: if *no_post {
            Some(Vec::new())
        } else if post.is_empty() {
            None
        } else {
            let processors = post.iter().map(|post| processor(post));
            Some(processors.collect::<Result<_, _>>()?)
        },
        system: system.clone(),
        raw: *raw,
        attachments: attach.clone(),
        settings: flag_layer(sampling)?,
        ..Request::default()
    })
}

/// Returns whether [`request_from_args`] may read files: a parameter may be `@FILE`, too.
pub(crate) fn names_files(prompt: &PromptArgs, sampling: &SamplingArgs) -> bool {
    prompt.text_file.is_some()
        || !prompt.param.is_empty()
        || !prompt.dict.is_empty()
        || sampling.settings.json_schema.is_some()
}

/// Returns the model and the load policy that flags set.
pub(crate) fn model_reference(model: &ModelArgs) -> (ModelReference, LoadPolicy) {
    let ModelArgs {
        model,
        engine,
        context,
        reload,
        unload: _,
        ttl,
        force,
    } = model;
    let reference = ModelReference {
        engine: engine.clone(),
        model: model.clone(),
        context: *context,
    };
    let load = LoadPolicy {
        reload: *reload,
        force: *force,
        // 0 unloads the model at once.
        ttl: ttl.map(|TimeLimit(ttl)| ttl.unwrap_or_default()),
        keep_loaded: false,
    };
    (reference, load)
}

/// Returns the time limits that flags set.
pub(crate) fn timeout_options(timeouts: &TimeoutArgs) -> TimeoutOptions {
    TimeoutOptions {
        connect: timeouts.connect_timeout,
        load: timeouts.load_timeout,
        first_token: timeouts.first_token_timeout,
        stream: timeouts.stream_timeout,
        total: timeouts.timeout,
        max_repeat: timeouts.max_repeat,
    }
}
