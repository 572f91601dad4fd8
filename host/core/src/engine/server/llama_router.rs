//! Loading and unloading with llama.cpp's router. The router confirms a request
//! to load at once and reports the progress in an event stream. The model list
//! is authoritative, since older builds have no such stream.

use std::time::Duration;

use lmstrix_inference::Event;
use serde_json::{Value, json};

use super::detected_server::Server;
use super::json_request::{get_json, post_json};
use super::listed_model::ListedInstance;
use super::router_props::context;
use super::server_target::ServerTarget;
use super::{fault, sse};
use crate::engine::Error;

/// Interval between requests for the status of a model.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Time limit for opening the event stream.
const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the status of a model as a string, and the status object with all
/// details.
async fn model_status(server: &Server, id: &str) -> Result<(String, Value), Error> {
    let models = get_json(server, "/models").await?;
    let status = models
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|model| model.get("id").and_then(Value::as_str) == Some(id))
        .and_then(|model| model.get("status"))
        .cloned()
        .unwrap_or_default();
    let value = status.get("value").and_then(Value::as_str);
    Ok((value.unwrap_or_default().to_owned(), status))
}

/// Returns `false` while the model is loading; `true` if it is loaded or the
/// router does not know it.
pub(super) async fn is_ready(server: &Server, id: &str) -> Result<bool, Error> {
    Ok(model_status(server, id).await?.0 != "loading")
}

/// Loads a model, and reports progress through `emit`. Returns the instance,
/// and whether this program loaded it; otherwise another program was faster.
///
/// # Errors
/// Returns an error if the router cannot be reached, rejects the request, or
/// reports that the load failed.
pub(super) async fn load(
    target: &ServerTarget,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(ListedInstance, bool), Error> {
    let id = &target.listed.id;
    // Open the stream before the load, so that no event is missed.
    let mut events = ProgressStream::open(&target.server).await;
    let body = json!({ "model": id });
    let is_owned = match post_json(&target.server, id, "/models/load", &body).await {
        Ok(_) => true,
        Err(Error::LoadFailed { fault, .. }) if fault.message.contains("already") => false,
        Err(error) => return Err(error),
    };
    loop {
        let (value, details) = model_status(&target.server, id).await?;
        if details.get("failed").and_then(Value::as_bool) == Some(true) {
            let code = details.get("exit_code").cloned().unwrap_or_default();
            return Err(Error::LoadFailed {
                engine: target.server.display_name(),
                model: id.clone(),
                fault: Box::new(fault::from_text(&format!(
                    "the model process exited with code {code}"
                ))),
            });
        }
        match value.as_str() {
            "loaded" | "sleeping" => break,
            _ => {
                let event = tokio::time::timeout(POLL_INTERVAL, events.next(id)).await;
                if let Ok(Some(progress)) = event {
                    emit(Event::Loading(Some(progress)));
                }
            }
        }
    }
    let loaded = ListedInstance {
        id: id.clone(),
        context: context(&target.server, id).await,
    };
    Ok((loaded, is_owned))
}

/// Waits until a model is unloaded: the router confirms the request at once and
/// ends the model process later.
pub(super) async fn wait_until_unloaded(server: &Server, id: &str) -> Result<(), Error> {
    while model_status(server, id).await?.0 == "loaded" {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// The router's event stream, if it has one.
struct ProgressStream {
    response: Option<reqwest::Response>,
    decoder: sse::SseDecoder,
    frames: Vec<sse::Frame>,
}

impl ProgressStream {
    async fn open(server: &Server) -> Self {
        let opened = tokio::time::timeout(
            STREAM_OPEN_TIMEOUT,
            server.client.get_streaming("/models/sse"),
        )
        .await;
        Self {
            response: opened
                .ok()
                .and_then(Result::ok)
                .filter(|response| response.status().is_success()),
            decoder: sse::SseDecoder::default(),
            frames: Vec::new(),
        }
    }

    /// Waits for the next event. Returns the load progress of the model from 0
    /// to 1, or `None` for another event. Never returns if there is no stream
    /// or it ended.
    async fn next(&mut self, id: &str) -> Option<f32> {
        loop {
            if !self.frames.is_empty() {
                return parse_progress(&self.frames.remove(0).data, id);
            }
            let Some(response) = &mut self.response else {
                return std::future::pending().await;
            };
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    if self.decoder.push(&bytes, &mut self.frames).is_err() {
                        self.response = None;
                    }
                }
                Ok(None) | Err(_) => self.response = None,
            }
        }
    }
}

fn parse_progress(data: &str, id: &str) -> Option<f32> {
    let event: Value = serde_json::from_str(data).ok()?;
    if event.get("model")?.as_str()? != id {
        return None;
    }
    let value = event.pointer("/data/progress/value")?.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "f32 is precise enough for a progress fraction"
    )]
    Some(value.clamp(0.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_progress_ignores_other_models() {
        let event = |model: &str, data: &str| {
            format!(r#"{{"model":"{model}","event":"model_status","data":{data}}}"#)
        };
        let loading = r#"{"status":"loading","progress":{"stage":"text_model","value":0.42}}"#;
        for (data, expected) in [
            (event("m", loading), Some(0.42)),
            (event("other", loading), None),
            (event("m", r#"{"status":"loaded"}"#), None),
            ("no json".to_owned(), None),
        ] {
            assert_eq!(parse_progress(&data, "m"), expected, "{data}");
        }
    }
}
