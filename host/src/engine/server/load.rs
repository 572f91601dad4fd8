//! Loading and unloading, in each server's own way: LM Studio and llama.cpp's
//! router when they are told to, Ollama when it is asked with nothing to say.

use std::path::Path;

use serde_json::{Value, json};

use super::models::{self, Loaded, get, unreachable};
use super::{Kind, Server, Target, fault, lms, router};
use crate::engine::Error;
use crate::inference::Event;

/// What a load gave.
pub(super) struct Got {
    pub(super) loaded: Loaded,
    /// Not so when somebody else's load was faster.
    pub(super) is_ours: bool,
    /// What the user should know of it.
    pub(super) warnings: Vec<String>,
}

/// Loads one more instance.
pub(super) async fn load(
    target: &Target,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<Got, Error> {
    let mut is_ours = true;
    let mut warnings = Vec::new();
    let loaded = match target.server.kind {
        Kind::LmStudio if !target.listed.has_studio_chat => {
            let (loaded, warning) = older_studio(target).await?;
            warnings.extend(warning);
            loaded
        }
        Kind::LmStudio => studio(target).await?,
        Kind::Ollama => ollama(target).await?,
        Kind::LlamaRouter => {
            let loaded;
            (loaded, is_ours) = router::load(target, emit).await?;
            loaded
        }
        Kind::LlamaServer | Kind::Vllm | Kind::OpenAi => Loaded {
            id: target.listed.id.clone(),
            context: None,
        },
    };
    Ok(Got {
        loaded,
        is_ours,
        warnings,
    })
}

/// Unloads one instance; `lms` is LM Studio's own program, where it was found.
///
/// # Errors
/// The server cannot, or cannot be reached. That it is gone already is none.
pub(super) async fn unload(
    server: &Server,
    model: &str,
    instance: &str,
    lms: Option<&Path>,
) -> Result<(), Error> {
    let (path, body) = match server.kind {
        Kind::LmStudio if is_older_studio(server).await? => {
            return unload_older(server, model, instance, lms).await;
        }
        Kind::LmStudio => ("/api/v1/models/unload", json!({ "instance_id": instance })),
        Kind::Ollama => (
            "/api/generate",
            json!({ "model": instance, "keep_alive": 0, "stream": false }),
        ),
        Kind::LlamaRouter => ("/models/unload", json!({ "model": instance })),
        Kind::LlamaServer | Kind::Vllm | Kind::OpenAi => {
            return Err(Error::Refused {
                engine: server.shown(),
                model: model.to_owned(),
                why: "the server was started with its model and cannot unload it".to_owned(),
            });
        }
    };
    match post(server, model, path, &body).await {
        Err(Error::NotLoaded { fault, .. }) if is_gone(&fault) => Ok(()),
        Err(Error::NotLoaded {
            engine,
            model,
            fault,
        }) => Err(Error::Server {
            engine,
            model,
            fault,
        }),
        Err(error) => Err(error),
        Ok(_) if server.kind == Kind::LlamaRouter => router::gone(server, instance).await,
        Ok(_) => Ok(()),
    }
}

/// LM Studio before 0.4.0 says 200 to a request to unload, and does nothing.
async fn is_older_studio(server: &Server) -> Result<bool, Error> {
    let all = models::list(server).await?;
    Ok(!all.is_empty() && !all.iter().any(|it| it.has_studio_chat))
}

/// Only its own program can make it.
async fn unload_older(
    server: &Server,
    model: &str,
    instance: &str,
    lms: Option<&Path>,
) -> Result<(), Error> {
    let cannot = |why: String| Error::Refused {
        engine: server.shown(),
        model: model.to_owned(),
        why: format!("this program cannot unload it: {why}"),
    };
    let Some(lms) = lms.filter(|_| server.client.is_loopback()) else {
        return Err(cannot(
            "LM Studio before 0.4.0 takes that from its own program `lms` alone, which was not \
             found here"
                .to_owned(),
        ));
    };
    lms::unload(lms, server.client.base(), instance)
        .await
        .map_err(|why| cannot(format!("`lms unload {instance}` failed ({why})")))
}

fn is_gone(fault: &fault::Fault) -> bool {
    fault.status == Some(404) || fault.message.contains("is not running")
}

/// Sends a body and reads the whole answer, errors as errors.
pub(super) async fn post(
    server: &Server,
    model: &str,
    path: &str,
    body: &Value,
) -> Result<Value, Error> {
    let lost = |trouble| unreachable(server, &trouble);
    let response = server.client.post(path, body).await.map_err(lost)?;
    let whole = server.client.whole(response).await.map_err(lost)?;
    models::read(server, path, &whole).map_err(|error| match error {
        Error::Server { engine, fault, .. } => Error::NotLoaded {
            engine,
            model: model.to_owned(),
            fault,
        },
        other => other,
    })
}

/// Loading is not idempotent: each request stacks another instance.
async fn studio(target: &Target) -> Result<Loaded, Error> {
    let id = target.listed.id.clone();
    let mut body = json!({ "model": id, "echo_load_config": true });
    if let Some(context) = target.load_context() {
        body["context_length"] = context.into();
    }
    let answer = post(&target.server, &id, "/api/v1/models/load", &body).await?;
    let instance = answer
        .get("instance_id")
        .and_then(Value::as_str)
        .map_or(id, str::to_owned);
    let context = answer
        .pointer("/load_config/context_length")
        .and_then(Value::as_u64)
        .and_then(|it| u32::try_from(it).ok());
    // What was asked for is not always what came; a server that does not echo
    // it says it in its list.
    let context = match context {
        Some(context) => Some(context),
        None => models::list(&target.server)
            .await?
            .iter()
            .flat_map(|it| &it.loaded)
            .find(|it| it.id == instance)
            .and_then(|it| it.context),
    };
    Ok(Loaded {
        id: instance,
        context,
    })
}

/// Before 0.4.0 only its own program loads with a context; without it the first
/// request does, with whatever is set in LM Studio.
async fn older_studio(target: &Target) -> Result<(Loaded, Option<String>), Error> {
    let id = target.listed.id.clone();
    let context = target.load_context();
    let base = target.server.client.base();
    if let Some(lms) = target
        .life
        .lms
        .as_ref()
        .filter(|_| target.server.client.is_loopback())
    {
        match lms::load(lms, base, &id, context).await {
            Ok(()) => {
                let all = models::list(&target.server).await?;
                let there = all.into_iter().flat_map(|it| it.loaded);
                let context = there
                    .into_iter()
                    .find(|it| it.id == id)
                    .and_then(|it| it.context);
                return Ok((Loaded { id, context }, None));
            }
            Err(why) => {
                let warning =
                    format!("`lms load {id}` failed ({why}); LM Studio loads it by itself");
                return Ok((Loaded { id, context: None }, Some(warning)));
            }
        }
    }
    let warning = "this LM Studio is older than 0.4.0: it loads the model by itself, with its own \
                   context"
        .to_owned();
    Ok((Loaded { id, context: None }, Some(warning)))
}

/// Another context than the loaded one makes Ollama load the model anew.
async fn ollama(target: &Target) -> Result<Loaded, Error> {
    let id = &target.listed.id;
    // How long it is kept is for the server's own settings to say.
    let mut body = json!({ "model": id, "stream": false });
    if let Some(context) = target.load_context() {
        body["options"] = json!({ "num_ctx": context });
    }
    post(&target.server, id, "/api/generate", &body).await?;
    let running = get(&target.server, "/api/ps").await?;
    let context = running
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|it| it.get("model").or_else(|| it.get("name")) == Some(&Value::from(id.as_str())))
        .and_then(|it| it.get("context_length")?.as_u64())
        .and_then(|it| u32::try_from(it).ok());
    Ok(Loaded {
        id: id.clone(),
        context,
    })
}
