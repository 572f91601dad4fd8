//! Loading and unloading of instances. LM Studio and llama.cpp's router have
//! endpoints for it; Ollama loads on a request without a prompt.

use std::path::Path;

use lmstrix_inference::Event;
use serde_json::{Value, json};

use super::detected_server::Server;
use super::json_request::{get_json, post_json};
use super::listed_model::ListedInstance;
use super::server_kind::ServerKind;
use super::server_target::ServerTarget;
use super::{fault, llama_router, lms_cli, model_list};
use crate::engine::Error;

/// The result of a load.
pub(super) struct LoadResult {
    pub(super) loaded: ListedInstance,
    /// `true` if this program loaded the instance; `false` if another program
    /// was faster.
    pub(super) is_owned: bool,
    /// Warnings to show to the user.
    pub(super) warnings: Vec<String>,
}

/// Loads an instance, in addition to those loaded already.
///
/// # Errors
/// Returns an error if the server cannot be reached or cannot load the model.
pub(super) async fn load(
    target: &ServerTarget,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<LoadResult, Error> {
    let mut is_owned = true;
    let mut warnings = Vec::new();
    let loaded = match target.server.kind {
        ServerKind::LmStudio if !target.listed.has_lmstudio_chat => {
            let (loaded, warning) = load_old_lmstudio(target).await?;
            warnings.extend(warning);
            loaded
        }
        ServerKind::LmStudio => load_lmstudio(target).await?,
        ServerKind::Ollama => load_ollama(target).await?,
        ServerKind::LlamaRouter => {
            let loaded;
            (loaded, is_owned) = llama_router::load(target, emit).await?;
            loaded
        }
        ServerKind::LlamaServer | ServerKind::Vllm | ServerKind::OpenAi => ListedInstance {
            id: target.listed.id.clone(),
            context: None,
        },
    };
    Ok(LoadResult {
        loaded,
        is_owned,
        warnings,
    })
}

/// Unloads one instance. `lms` is the path of LM Studio's program, if found.
///
/// # Errors
/// Returns an error if the server cannot be reached or cannot unload. An
/// instance that is not loaded is not an error.
pub(super) async fn unload(
    server: &Server,
    model: &str,
    instance: &str,
    lms: Option<&Path>,
) -> Result<(), Error> {
    let (path, body) = match server.kind {
        ServerKind::LmStudio if is_old_lmstudio(server).await? => {
            return unload_with_lms(server, model, instance, lms).await;
        }
        ServerKind::LmStudio => ("/api/v1/models/unload", json!({ "instance_id": instance })),
        ServerKind::Ollama => (
            "/api/generate",
            json!({ "model": instance, "keep_alive": 0, "stream": false }),
        ),
        ServerKind::LlamaRouter => ("/models/unload", json!({ "model": instance })),
        ServerKind::LlamaServer | ServerKind::Vllm | ServerKind::OpenAi => {
            return Err(Error::Refused {
                engine: server.display_name(),
                model: model.to_owned(),
                reason: "the server was started with its model and cannot unload it".to_owned(),
            });
        }
    };
    match post_json(server, model, path, &body).await {
        Err(Error::LoadFailed { fault, .. }) if is_not_loaded(&fault) => Ok(()),
        Err(Error::LoadFailed {
            engine,
            model,
            fault,
        }) => Err(Error::Server {
            engine,
            model,
            fault,
        }),
        Err(error) => Err(error),
        Ok(_) if server.kind == ServerKind::LlamaRouter => {
            llama_router::wait_until_unloaded(server, instance).await
        }
        Ok(_) => Ok(()),
    }
}

/// Returns `true` if this LM Studio is older than 0.4.0, which answers 200 to a
/// request to unload but does nothing.
async fn is_old_lmstudio(server: &Server) -> Result<bool, Error> {
    let models = model_list::list_models(server).await?;
    Ok(!models.is_empty() && !models.iter().any(|model| model.has_lmstudio_chat))
}

/// Unloads an instance of an old LM Studio, for which only `lms` can unload.
async fn unload_with_lms(
    server: &Server,
    model: &str,
    instance: &str,
    lms: Option<&Path>,
) -> Result<(), Error> {
    let refused = |reason: String| Error::Refused {
        engine: server.display_name(),
        model: model.to_owned(),
        reason: format!("cannot unload the model: {reason}"),
    };
    let Some(lms) = lms.filter(|_| server.client.is_loopback()) else {
        return Err(refused(
            "LM Studio before 0.4.0 unloads models only by its program `lms`, which was not found"
                .to_owned(),
        ));
    };
    lms_cli::unload(lms, server.client.base_url(), instance)
        .await
        .map_err(|error| refused(format!("`lms unload {instance}` failed ({error})")))
}

fn is_not_loaded(fault: &fault::ServerFault) -> bool {
    fault.status == Some(404) || fault.message.contains("is not running")
}

/// Loads with LM Studio 0.4.0 or newer. Each request adds another instance, so
/// that loading is not idempotent.
async fn load_lmstudio(target: &ServerTarget) -> Result<ListedInstance, Error> {
    let id = target.listed.id.clone();
    let mut body = json!({ "model": id, "echo_load_config": true });
    if let Some(context) = target.context_to_load() {
        body["context_length"] = context.into();
    }
    let response = post_json(&target.server, &id, "/api/v1/models/load", &body).await?;
    let instance = response
        .get("instance_id")
        .and_then(Value::as_str)
        .map_or(id, str::to_owned);
    let context = response
        .pointer("/load_config/context_length")
        .and_then(Value::as_u64)
        .and_then(|context| u32::try_from(context).ok());
    // The effective context length may differ from the requested one. A server
    // that does not echo it reports it in its list.
    let context = match context {
        Some(context) => Some(context),
        None => model_list::list_models(&target.server)
            .await?
            .iter()
            .flat_map(|model| &model.instances)
            .find(|listed| listed.id == instance)
            .and_then(|listed| listed.context),
    };
    Ok(ListedInstance {
        id: instance,
        context,
    })
}

/// Loads with LM Studio before 0.4.0, where only `lms` can set the context
/// length. Without `lms`, the first request loads the model with LM Studio's
/// own settings. Returns the instance and a warning.
async fn load_old_lmstudio(
    target: &ServerTarget,
) -> Result<(ListedInstance, Option<String>), Error> {
    let id = target.listed.id.clone();
    let context = target.context_to_load();
    let base_url = target.server.client.base_url();
    if let Some(lms) = target
        .lifecycle
        .lms_path
        .as_ref()
        .filter(|_| target.server.client.is_loopback())
    {
        match lms_cli::load(lms, base_url, &id, context).await {
            Ok(()) => {
                let models = model_list::list_models(&target.server).await?;
                let context = models
                    .into_iter()
                    .flat_map(|model| model.instances)
                    .find(|instance| instance.id == id)
                    .and_then(|instance| instance.context);
                return Ok((ListedInstance { id, context }, None));
            }
            Err(error) => {
                let warning = format!(
                    "`lms load {id}` failed ({error}); LM Studio loads the model on the first request"
                );
                return Ok((ListedInstance { id, context: None }, Some(warning)));
            }
        }
    }
    let warning =
        "LM Studio is older than 0.4.0: it loads the model on the first request, with the \
                   context length of its own settings"
            .to_owned();
    Ok((ListedInstance { id, context: None }, Some(warning)))
}

/// Loads with Ollama. A context length other than that of the loaded instance
/// makes it reload the model.
async fn load_ollama(target: &ServerTarget) -> Result<ListedInstance, Error> {
    let id = &target.listed.id;
    let mut body = json!({ "model": id, "stream": false });
    if let Some(ttl) = target.lifecycle.ttl {
        body["keep_alive"] = ttl.as_secs_f64().into();
    }
    if let Some(context) = target.context_to_load() {
        body["options"] = json!({ "num_ctx": context });
    }
    post_json(&target.server, id, "/api/generate", &body).await?;
    let running = get_json(&target.server, "/api/ps").await?;
    let context = running
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|model| {
            model.get("model").or_else(|| model.get("name")) == Some(&Value::from(id.as_str()))
        })
        .and_then(|model| model.get("context_length")?.as_u64())
        .and_then(|context| u32::try_from(context).ok());
    Ok(ListedInstance {
        id: id.clone(),
        context,
    })
}
