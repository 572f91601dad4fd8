//! Converts command-line arguments to a [`Request`] and its options.

mod params;
mod sampling;

use std::time::Duration;

use crate::args::{CommonArgs, ModelArgs, PromptArgs, SamplingArgs, TimeoutArgs};
use crate::client::{LoadPolicy, Request, TimeoutOptions, processor};
use crate::config::Config;
use crate::duration;
use crate::engine::ContextSize;
use crate::environment::Env;
use crate::error::Failure;
use crate::job::ModelReference;
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
    match &common.config {
        Some(path) => Ok(Config::load(path, true)?),
        None => Ok(Config::load(&env.paths.config, false)?),
    }
}

/// Returns the prompt, its parameters and its settings as a request.
///
/// # Errors
/// Returns an error if a value is invalid, or if a file that it names cannot be read.
pub(crate) fn request_from_args(
    prompt: &PromptArgs,
    sampling: &SamplingArgs,
) -> Result<Request, Failure> {
    let PromptArgs {
        prompt,
        prompts,
        pack,
        pack_dir,
        post,
        no_post,
        text,
        text_file,
        param,
        dict,
        system,
        raw,
    } = prompt;
    Ok(Request {
        prompt: prompt.clone(),
        prompt_files: prompts.clone(),
        packs: pack.clone(),
        pack_dirs: pack_dir.clone(),
        params: params(dict, param, text.as_deref(), text_file.as_deref())?,
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
        settings: flag_layer(sampling)?,
        ..Request::default()
    })
}

/// Returns the model and the load policy that flags set.
///
/// # Errors
/// Returns an error if the context length is invalid.
pub(crate) fn model_reference(model: &ModelArgs) -> Result<(ModelReference, LoadPolicy), Failure> {
    let ModelArgs {
        model,
        engine,
        context,
        reload,
        unload: _,
        force,
    } = model;
    let context = context
        .as_deref()
        .map(|text| {
            ContextSize::parse(text).map_err(|cause| Failure::usage(format!("--context: {cause}")))
        })
        .transpose()?;
    let reference = ModelReference {
        engine: engine.clone(),
        model: model.clone(),
        context,
    };
    let load = LoadPolicy {
        reload: *reload,
        force: *force,
    };
    Ok((reference, load))
}

/// Returns the time limits that flags set.
///
/// # Errors
/// Returns an error if a value is not a duration.
pub(crate) fn timeout_options(timeouts: &TimeoutArgs) -> Result<TimeoutOptions, Failure> {
    let TimeoutArgs {
        connect_timeout,
        load_timeout,
        first_token_timeout,
        stream_timeout,
        timeout,
        max_repeat,
    } = timeouts;
    let parse = |text: &Option<String>, flag: &str| -> Result<Option<Option<Duration>>, Failure> {
        text.as_deref()
            .map(|text| {
                duration::parse(text).map_err(|cause| Failure::usage(format!("--{flag}: {cause}")))
            })
            .transpose()
    };
    Ok(TimeoutOptions {
        connect: parse(connect_timeout, "connect-timeout")?,
        load: parse(load_timeout, "load-timeout")?,
        first_token: parse(first_token_timeout, "first-token-timeout")?,
        stream: parse(stream_timeout, "stream-timeout")?,
        total: parse(timeout, "timeout")?,
        max_repeat: *max_repeat,
    })
}

/// Parses `--reasoning-tags`; returns whether the tags are kept in the text.
///
/// # Errors
/// Returns an error unless the value is `auto` or `none`.
pub(crate) fn keeps_reasoning_tags(value: &str) -> Result<bool, Failure> {
    match value {
        "auto" => Ok(false),
        "none" => Ok(true),
        other => Err(Failure::usage(format!(
            "--reasoning-tags `{other}`: expected `auto` or `none`"
        ))),
    }
}
