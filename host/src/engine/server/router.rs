//! llama.cpp's router: it loads when it is told to, says yes at once, and tells
//! of its progress in a stream of events. The list of models has the last word,
//! since older builds have no such stream.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::post;
use super::models::{Loaded, get};
use super::{Server, Target, fault, sse};
use crate::engine::Error;
use crate::inference::Event;

/// How often a model that is being loaded is asked after.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How long the stream of events may take to begin.
const NEWS_LIMIT: Duration = Duration::from_secs(2);

/// A model's status at the router, and the whole of what it says.
async fn status(server: &Server, id: &str) -> Result<(String, Value), Error> {
    let models = get(server, "/models").await?;
    let status = models
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|it| it.get("id").and_then(Value::as_str) == Some(id))
        .and_then(|it| it.get("status"))
        .cloned()
        .unwrap_or_default();
    let value = status.get("value").and_then(Value::as_str);
    Ok((value.unwrap_or_default().to_owned(), status))
}

/// Whether a model is loaded to its end; one that is not there at all is not
/// waited for.
pub(super) async fn is_ready(server: &Server, id: &str) -> Result<bool, Error> {
    Ok(status(server, id).await?.0 != "loading")
}

/// Loads a model, and says how far it is; whether it was this program that
/// loaded it, or somebody who was faster.
pub(super) async fn load(
    target: &Target,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(Loaded, bool), Error> {
    let id = &target.listed.id;
    // Before the load, so that nothing of it is missed.
    let mut news = News::open(&target.server).await;
    let body = json!({ "model": id });
    let is_ours = match post(&target.server, id, "/models/load", &body).await {
        Ok(_) => true,
        Err(Error::NotLoaded { fault, .. }) if fault.message.contains("already") => false,
        Err(error) => return Err(error),
    };
    loop {
        let (value, said) = status(&target.server, id).await?;
        if said.get("failed").and_then(Value::as_bool) == Some(true) {
            let code = said.get("exit_code").cloned().unwrap_or_default();
            return Err(Error::NotLoaded {
                engine: target.server.shown(),
                model: id.clone(),
                fault: Box::new(fault::of_text(&format!(
                    "the process of the model left with {code}"
                ))),
            });
        }
        match value.as_str() {
            "loaded" | "sleeping" => break,
            _ => {
                let news = tokio::time::timeout(ASK_AGAIN, news.next(id)).await;
                if let Ok(Some(progress)) = news {
                    emit(Event::Loading(Some(progress)));
                }
            }
        }
    }
    let loaded = Loaded {
        id: id.clone(),
        context: context(&target.server, id).await,
    };
    Ok((loaded, is_ours))
}

/// The properties of a model that the router has loaded, where it tells them.
pub(super) async fn props(server: &Server, id: &str) -> Option<Value> {
    // A path segment's characters are all that matter here; ids hold slashes
    // and colons, which a query takes as they are.
    let query = id
        .replace('%', "%25")
        .replace('&', "%26")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23");
    get(server, &format!("/props?model={query}")).await.ok()
}

/// The context of a model that the router has loaded, where it says so.
pub(super) async fn context(server: &Server, id: &str) -> Option<u32> {
    let props = props(server, id).await?;
    let context = props
        .pointer("/default_generation_settings/n_ctx")?
        .as_u64()?;
    u32::try_from(context).ok()
}

/// Waits until a model is gone: the router says yes at once and ends the
/// process later.
pub(super) async fn gone(server: &Server, id: &str) -> Result<(), Error> {
    while status(server, id).await?.0 == "loaded" {
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// The router's stream of events, where it has one.
struct News {
    response: Option<reqwest::Response>,
    decoder: sse::Decoder,
    frames: Vec<sse::Frame>,
}

impl News {
    async fn open(server: &Server) -> Self {
        let opened = tokio::time::timeout(NEWS_LIMIT, server.client.open("/models/sse")).await;
        Self {
            response: opened
                .ok()
                .and_then(Result::ok)
                .filter(|it| it.status().is_success()),
            decoder: sse::Decoder::default(),
            frames: Vec::new(),
        }
    }

    /// How far the model is, 0 to 1; `None` for other news. Where there is no
    /// stream, or no more, it waits for ever.
    async fn next(&mut self, id: &str) -> Option<f32> {
        loop {
            if !self.frames.is_empty() {
                return progress(&self.frames.remove(0).data, id);
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

fn progress(data: &str, id: &str) -> Option<f32> {
    let news: Value = serde_json::from_str(data).ok()?;
    if news.get("model")?.as_str()? != id {
        return None;
    }
    let value = news.pointer("/data/progress/value")?.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share needs no more digits"
    )]
    Some(value.clamp(0.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_of_the_model_that_is_loaded() {
        let news = |model: &str, data: &str| {
            format!(r#"{{"model":"{model}","event":"model_status","data":{data}}}"#)
        };
        let loading = r#"{"status":"loading","progress":{"stage":"text_model","value":0.42}}"#;
        for (data, expected) in [
            (news("m", loading), Some(0.42)),
            (news("other", loading), None),
            (news("m", r#"{"status":"loaded"}"#), None),
            ("no json".to_owned(), None),
        ] {
            assert_eq!(progress(&data, "m"), expected, "{data}");
        }
    }
}
