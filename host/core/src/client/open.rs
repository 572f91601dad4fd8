//! From a request to a prepared job: the environment and the config file fill in what
//! the request leaves out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lmstrix_inference::SettingsLayer;
use lmstrix_sandbox::{ModelFacts, PackRules};

use super::blocking_read::{RunLimit, read_files};
use super::environment_settings::environment_layer;
use super::notices::Notices;
use super::request::{LoadPolicy, Request};
use super::stores::{lifecycle_options, model_folders, read_registry};
use super::text_files::{TextFiles, read_stdin};
use super::{Links, PackSource, engine_selection, timeouts};
use crate::attachment::{Attachment, with_distinct_names};
use crate::config::Config;
use crate::engine::{ConnectTimeouts, ModelQuery, SelectedModel, select_model};
use crate::environment::Environment;
use crate::error::Error;
use crate::job::{
    Cancel, JobSpec, ModelReference, PackSet, PreparedJob, PromptRequest, ResolvedJob,
    SettingsByOrigin, TimeoutPhase, add_token_facts, model_facts, on_pack_thread, prepare, resolve,
};

/// What a request is opened with.
#[derive(Clone, Copy)]
pub struct OpenContext<'a> {
    /// The environment.
    pub env: &'a Environment,
    /// The config file.
    pub config: &'a Config,
    /// The packs.
    pub packs: &'a PackSource,
    /// True if stdin may be read for a prompt that lacks its text.
    pub reads_stdin: bool,
    /// The receiver of warnings.
    pub notices: &'a Notices,
    /// The start of the run.
    pub start: Instant,
}

/// Selects the model, resolves the prompt and opens the processors. Loads nothing.
///
/// # Errors
/// Returns everything that can be wrong before a model is loaded, and an error if the limit
/// of the run is reached.
pub async fn open(
    request: &Request,
    context: OpenContext<'_>,
    mut cancel: Cancel<'_>,
) -> Result<(SelectedModel, PreparedJob), Error> {
    let OpenContext {
        env,
        config,
        packs,
        reads_stdin,
        notices,
        start,
    } = context;
    let (timeouts, connect) = timeouts(&request.timeouts, env, config)?;
    let owned = (request.clone(), env.clone(), config.clone());
    let read = move || prompt_request(&owned.0, &owned.1, &owned.2, &mut TextFiles::default());
    let limit = RunLimit {
        limit: timeouts.total,
        start,
    };
    let names_files = names_files(request, env, config);
    let prompt = read_files(names_files, limit, cancel.as_mut(), read).await?;
    let spec = JobSpec {
        settings: settings_by_origin(request.settings.clone(), env, config)?,
        prompt,
        model: request.model.clone(),
        timeouts,
        strict: request.strict,
        split_reasoning: !request.keep_reasoning_tags,
    };
    let query = model_query(&spec.model, request.load, env, config, connect, notices)?;
    let loading = load_compiled(packs);
    tokio::pin!(loading);
    let selecting = async {
        let mut selecting = std::pin::pin!(select_model(query));
        tokio::select! {
            model = &mut selecting => return model,
            () = &mut loading => {}
        }
        selecting.await
    };
    let model = tokio::select! {
        biased;
        () = &mut cancel => return Err(Error::interrupted()),
        model = selecting => model?,
        expired = limit.expired(TimeoutPhase::Total) => return Err(expired),
    };
    tracing::info!(
        model = model.model,
        engine = model.display_name(),
        version = model.version(),
        architecture = model.architecture(),
        quantization = model.quantization(),
        context = model.expected_context(),
        "selected a model"
    );
    let packs = packs
        .pack_set(&request.pack_dirs, Links::Allowed, notices)
        .with_rules(PackRules::new(request.locked, BTreeMap::new()));
    let preparing = async {
        let mut facts = model_facts(&model);
        add_token_facts(&mut facts, model.tokens_per_byte(), &spec.settings);
        let resolved = resolve_prompt(
            packs,
            spec.prompt.clone(),
            Some(facts),
            reads_stdin,
            notices,
        )
        .await?;
        Ok::<_, Error>(prepare(&spec, resolved, &model).await?)
    };
    let job = tokio::select! {
        biased;
        () = &mut cancel => return Err(Error::interrupted()),
        job = preparing => job?,
        expired = limit.expired(TimeoutPhase::Total) => return Err(expired),
    };
    Ok((model, job))
}

/// Loads the standard pack, which nearly every run needs, while a server answers. A pack that is
/// not compiled yet is left for later: the compilation is announced and takes a second.
async fn load_compiled(packs: &PackSource) {
    let loader = Arc::clone(&packs.loader);
    // An error is reported when the pack is used.
    let _loaded = on_pack_thread(move || {
        loader
            .is_standard_compiled()
            .then(|| loader.load_standard().is_ok())
    })
    .await;
}

/// Resolves a prompt on a thread of its own. The warnings of a failed search for packs
/// are shown, too, since they may be the reason.
///
/// # Errors
/// See [`resolve`].
pub async fn resolve_prompt(
    mut packs: PackSet,
    prompt: PromptRequest,
    model: Option<ModelFacts>,
    reads_stdin: bool,
    notices: &Notices,
) -> Result<ResolvedJob, Error> {
    let stdin_notices = notices.clone();
    let (resolved, warnings) = on_pack_thread(move || {
        let resolved = resolve(&mut packs, &prompt, model.as_ref(), &mut || {
            read_stdin(reads_stdin, &stdin_notices)
        });
        (resolved, packs.take_warnings())
    })
    .await?;
    for warning in &warnings {
        notices.warning(&warning.to_string());
    }
    Ok(resolved?)
}

/// Returns whether [`prompt_request`] reads files.
#[must_use]
pub fn names_files(request: &Request, env: &Environment, config: &Config) -> bool {
    let of_request = [
        &request.prompt_files,
        &request.pack_files,
        &request.attachments,
        &config.prompts,
    ];
    of_request.iter().any(|files| !files.is_empty()) || env.own_variables.contains_key("PROMPTS")
}

/// Returns the request to the packs. Reads the files and the attachments.
///
/// # Errors
/// Returns an error if a file or an attachment cannot be read.
pub fn prompt_request(
    request: &Request,
    env: &Environment,
    config: &Config,
    text_files: &mut TextFiles,
) -> Result<PromptRequest, Error> {
    let from_env: Vec<PathBuf> = env
        .own_variables
        .get("PROMPTS")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let paths = [&request.prompt_files, &from_env, &config.prompts]
        .into_iter()
        .find(|paths| !paths.is_empty());
    let mut read = |path: &PathBuf| text_files.read(path);
    let files = paths.into_iter().flatten().map(&mut read);
    let files = files.collect::<Result<_, _>>()?;
    let pack_files = request.pack_files.iter().map(&mut read);
    let pack_files = pack_files.collect::<Result<_, _>>()?;
    let attachments = request
        .attachments
        .iter()
        .map(|path| Attachment::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(PromptRequest {
        address: request.prompt.clone(),
        packs: request.packs.clone(),
        files,
        pack_files,
        params: request.params.clone(),
        optional_params: Vec::new(),
        processors: request.processors.clone(),
        system: request.system.clone(),
        raw: request.raw,
        attachments: with_distinct_names(&attachments),
    })
}

/// Returns the settings of each origin that is known before the prompt is resolved.
///
/// # Errors
/// Returns an error if a setting of the environment is invalid, or one of the request is
/// out of range.
pub fn settings_by_origin(
    flags: SettingsLayer,
    env: &Environment,
    config: &Config,
) -> Result<SettingsByOrigin, Error> {
    flags
        .check()
        .map_err(|error| Error::usage(error.to_string()))?;
    Ok(SettingsByOrigin {
        flags,
        plan: SettingsLayer::default(),
        environment: environment_layer(env)?,
        config: config.settings.clone(),
    })
}

/// Returns the query that selects an engine and a model.
///
/// # Errors
/// Returns an error if the engine is unknown, or the environment's context is invalid.
pub fn model_query(
    model: &ModelReference,
    load: LoadPolicy,
    env: &Environment,
    config: &Config,
    connect: ConnectTimeouts,
    notices: &Notices,
) -> Result<ModelQuery, Error> {
    let selection = engine_selection(model.engine.as_deref(), env, config, notices)?;
    let registry = read_registry(env, notices);
    let from_env = || {
        let text = env.own_variables.get("CONTEXT")?;
        let context = text.parse();
        Some(context.map_err(|cause| {
            Error::usage(format!(
                "LMSTRIX_HOST_CONTEXT: invalid value `{text}`: {cause}"
            ))
        }))
    };
    let context = match model.context {
        Some(context) => Some(context),
        None => from_env().transpose()?,
    };
    Ok(ModelQuery {
        selection,
        model: model
            .model
            .clone()
            .or_else(|| env.own_variables.get("MODEL").cloned()),
        default_model: config.model.clone(),
        context,
        folders: model_folders(env),
        timeouts: connect,
        last_used: registry.last_used.as_ref().map(|used| used.model.clone()),
        lifecycle: lifecycle_options(load, env, config, &registry),
    })
}
