//! An instance that is loaded. Servers load in four ways: LM Studio and
//! llama.cpp's router when they are told to, Ollama when it is asked with
//! nothing to say, the others have been started with their model.

use std::time::Duration;

use serde_json::{Value, json};

use super::models::{self, Loaded, get, unreachable};
use super::{Instance, Kind, Target, fault};
use crate::engine::Error;
use crate::inference::Event;

/// How often a model that is being loaded is asked after.
const ASK_AGAIN: Duration = Duration::from_millis(300);

pub(super) async fn ensure(
    target: &Target,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<Instance, Error> {
    let loaded = match target.server.kind {
        Kind::LmStudio => studio(target, emit).await?,
        Kind::Ollama => ollama(target, emit).await?,
        Kind::LlamaRouter => router(target, emit).await?,
        Kind::LlamaServer | Kind::Vllm | Kind::OpenAi => {
            target.loaded.clone().unwrap_or_else(|| Loaded {
                id: target.listed.id.clone(),
                context: None,
            })
        }
    };
    let mut instance = Instance {
        id: loaded.id,
        context: loaded.context,
        declared: target.listed.declared,
        warnings: Vec::new(),
    };
    if target.server.kind == Kind::LmStudio
        && target.loaded.is_none()
        && !target.listed.has_studio_chat
    {
        instance.warnings.push(
            "this LM Studio is older than 0.4.0: it loads the model by itself, with its own context"
                .to_owned(),
        );
    }
    instance.warnings.extend(of_context(
        instance.context,
        instance.declared,
        target.asked_context,
    ));
    Ok(instance)
}

/// A context smaller than somebody thinks is the commonest reason for answers
/// that forget half of the text.
fn of_context(has: Option<u32>, declared: Option<u32>, asked: Option<u32>) -> Option<String> {
    match (has, declared, asked) {
        (Some(has), _, Some(asked)) if has < asked => Some(format!(
            "a context of {asked} tokens was asked for, and the model is loaded with {has}"
        )),
        (Some(has), Some(declared), None) if has < declared => Some(format!(
            "the model is loaded with {has} of its {declared} tokens of context"
        )),
        (None, _, Some(asked)) => Some(format!(
            "a context of {asked} tokens was asked for, and the server does not say what it has"
        )),
        _ => None,
    }
}

/// Sends a body and reads the whole answer, errors as errors.
async fn post(target: &Target, path: &str, body: &Value) -> Result<Value, Error> {
    let server = &target.server;
    let lost = |trouble| unreachable(server, &trouble);
    let response = server.client.post(path, body).await.map_err(lost)?;
    let whole = server.client.whole(response).await.map_err(lost)?;
    models::read(server, path, &whole).map_err(|error| match error {
        Error::Server { engine, fault, .. } => Error::NotLoaded {
            engine,
            model: target.listed.id.clone(),
            fault,
        },
        other => other,
    })
}

/// Loading is not idempotent: each request stacks another instance, so what is
/// there is used.
async fn studio(target: &Target, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Loaded, Error> {
    if let Some(loaded) = &target.loaded {
        return Ok(loaded.clone());
    }
    let id = target.listed.id.clone();
    emit(Event::Loading(None));
    if !target.listed.has_studio_chat {
        return Ok(Loaded { id, context: None });
    }
    let mut body = json!({ "model": id, "echo_load_config": true });
    if let Some(context) = target.asked_context {
        body["context_length"] = context.into();
    }
    let answer = post(target, "/api/v1/models/load", &body).await?;
    let context = answer
        .pointer("/load_config/context_length")
        .and_then(Value::as_u64)
        .and_then(|it| u32::try_from(it).ok());
    Ok(Loaded {
        id: answer
            .get("instance_id")
            .and_then(Value::as_str)
            .map_or(id, str::to_owned),
        context,
    })
}

/// Another context than the loaded one makes Ollama load the model anew.
async fn ollama(target: &Target, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Loaded, Error> {
    let id = &target.listed.id;
    if let Some(loaded) = &target.loaded
        && (target.asked_context.is_none() || target.asked_context == loaded.context)
    {
        return Ok(loaded.clone());
    }
    emit(Event::Loading(None));
    // How long it is kept is for the server's own settings to say.
    let mut body = json!({ "model": id, "stream": false });
    if let Some(context) = target.asked_context {
        body["options"] = json!({ "num_ctx": context });
    }
    post(target, "/api/generate", &body).await?;
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

async fn router(target: &Target, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Loaded, Error> {
    let id = &target.listed.id;
    if target.loaded.is_none() {
        emit(Event::Loading(None));
        post(target, "/models/load", &json!({ "model": id })).await?;
        loop {
            let models = get(&target.server, "/models").await?;
            let status = models
                .get("data")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|it| it.get("id").and_then(Value::as_str) == Some(id))
                .and_then(|it| it.get("status"))
                .cloned()
                .unwrap_or_default();
            if status.get("failed").and_then(Value::as_bool) == Some(true) {
                let code = status.get("exit_code").cloned().unwrap_or_default();
                return Err(Error::NotLoaded {
                    engine: target.server.shown(),
                    model: id.clone(),
                    fault: Box::new(fault::of_text(&format!(
                        "the process of the model left with {code}"
                    ))),
                });
            }
            match status.get("value").and_then(Value::as_str) {
                Some("loaded" | "sleeping") => break,
                _ => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }
    // A path segment's characters are all that matter here; ids hold slashes
    // and colons, which a query takes as they are.
    let query = id
        .replace('%', "%25")
        .replace('&', "%26")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23");
    let props = get(&target.server, &format!("/props?model={query}")).await;
    let context = props
        .ok()
        .and_then(|it| it.pointer("/default_generation_settings/n_ctx")?.as_u64())
        .and_then(|it| u32::try_from(it).ok());
    Ok(Loaded {
        id: id.clone(),
        context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_smaller_than_thought_is_said() {
        for (has, declared, asked, said) in [
            (Some(4096), Some(131_072), None, true),
            (Some(4096), Some(4096), None, false),
            (Some(4096), Some(131_072), Some(8192), true),
            (Some(8192), Some(131_072), Some(8192), false),
            (None, None, Some(8192), true),
            (None, Some(8192), None, false),
        ] {
            let warning = of_context(has, declared, asked);
            assert_eq!(warning.is_some(), said, "{has:?} {declared:?} {asked:?}");
        }
    }
}
