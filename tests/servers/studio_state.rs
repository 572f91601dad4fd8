//! The state of the double: which instances are loaded, and a record of every
//! request. One state feeds all lists, as in LM Studio.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::{StatusCode, request::Parts};
use axum::response::Response;
use serde_json::{Value, json};

use super::studio::{ContextRule, Fault, Model, Recorded, Setup};
use super::studio_routes::{error, reply};

/// The context of a load that asks for none.
const DEFAULT_CONTEXT: u32 = 4096;

pub(crate) struct Shared {
    pub(crate) setup: Setup,
    state: Mutex<State>,
    cancelled: Condvar,
}

pub(crate) struct State {
    pub(crate) fault: Fault,
    pub(crate) instances: Vec<Instance>,
    pub(crate) requests: Vec<Recorded>,
    pub(crate) loads: usize,
    pub(crate) at_once: usize,
    pub(crate) most_at_once: usize,
    /// Keys of models that were taken off the disk.
    pub(crate) removed: Vec<String>,
    /// The answers that `/api/v1/chat` stored.
    pub(crate) responses: Vec<String>,
}

/// A model in memory, or on its way there.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) context: u32,
    pub(crate) ready: bool,
    /// Loaded by a request for an answer: the next such load evicts it.
    jit: bool,
}

/// Why a load gave no instance.
pub(crate) struct LoadFailed(pub(crate) String);

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        let instances = setup.models.iter().flat_map(|model| {
            model.loaded.iter().map(|(id, context)| Instance {
                id: id.clone(),
                key: model.key.clone(),
                context: *context,
                ready: true,
                jit: false,
            })
        });
        let state = State {
            fault: setup.fault.clone(),
            instances: instances.collect(),
            requests: Vec::new(),
            loads: 0,
            at_once: 0,
            most_at_once: 0,
            removed: Vec::new(),
            responses: Vec::new(),
        };
        Self {
            setup,
            state: Mutex::new(state),
            cancelled: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn wait_cancelled(&self, within: Duration) -> bool {
        let none = |state: &mut State| !state.requests.iter().any(|it| it.cancelled);
        let waited = self.cancelled.wait_timeout_while(self.lock(), within, none);
        !waited.unwrap().1.timed_out()
    }

    /// The model of a key; `key@variant` names it too.
    pub(crate) fn model(&self, key: &str) -> Option<&Model> {
        let plain = key.split('@').next().unwrap_or(key);
        if self.lock().removed.iter().any(|it| it == plain) {
            return None;
        }
        let find = |key: &str| self.setup.models.iter().find(|it| it.key == key);
        find(key).or_else(|| find(plain))
    }

    pub(crate) fn is_loaded(&self, instance: &str) -> bool {
        self.lock().instances.iter().any(|it| it.id == instance)
    }

    /// Removes an instance: whether there was one.
    pub(crate) fn unload(&self, instance: &str) -> bool {
        let mut state = self.lock();
        let before = state.instances.len();
        state.instances.retain(|it| it.id != instance);
        state.instances.len() < before
    }

    /// The first half of a load: the instance is listed at once, but not ready.
    pub(crate) fn begin_load(&self, model: &Model, context: Option<u32>, jit: bool) -> Instance {
        let asked = context.unwrap_or(DEFAULT_CONTEXT.min(model.max_context));
        let context = match self.setup.context {
            ContextRule::Exact => asked,
            ContextRule::RoundedTo64 => asked.next_multiple_of(64),
            ContextRule::Smaller(most) => asked.min(most),
            ContextRule::Larger(least) => asked.max(least),
        };
        let mut state = self.lock();
        if jit {
            // Auto-Evict: one such model at a time.
            state.instances.retain(|it| !it.jit);
        }
        let taken = |id: &str| state.instances.iter().any(|it| it.id == id);
        let mut id = model.key.clone();
        let mut number = 2;
        while taken(&id) {
            id = format!("{}:{number}", model.key);
            number += 1;
        }
        let instance = Instance {
            id,
            key: model.key.clone(),
            context,
            ready: false,
            jit,
        };
        state.instances.push(instance.clone());
        instance
    }

    /// The second half, after the time of a load.
    pub(crate) fn end_load(&self, instance: &str) -> Result<(), LoadFailed> {
        if let Some(reason) = &self.setup.load_fails {
            self.unload(instance);
            return Err(LoadFailed(reason.clone()));
        }
        let mut state = self.lock();
        let Some(it) = state.instances.iter_mut().find(|it| it.id == instance) else {
            return Err(LoadFailed("Model unloaded.".to_owned()));
        };
        it.ready = true;
        state.loads += 1;
        Ok(())
    }

    pub(crate) async fn load(
        &self,
        model: &Model,
        context: Option<u32>,
        jit: bool,
    ) -> Result<Instance, LoadFailed> {
        let mut instance = self.begin_load(model, context, jit);
        tokio::time::sleep(self.setup.load_time).await;
        self.end_load(&instance.id)?;
        instance.ready = true;
        Ok(instance)
    }

    /// The instance that a name means, by id or by key. It may not be ready.
    pub(crate) fn find_instance(&self, name: &str) -> Option<Instance> {
        let key = self.model(name).map(|it| it.key.as_str());
        let state = self.lock();
        let mut all = state.instances.iter();
        let by_id = all.clone().find(|it| it.id == name);
        by_id
            .or_else(|| all.find(|it| Some(it.key.as_str()) == key))
            .cloned()
    }

    /// The instance that answers a request; loads it when that is allowed.
    pub(crate) async fn address(&self, body: &Value) -> Result<Instance, Response> {
        let name = body["model"].as_str().unwrap_or_default();
        let found = if name.is_empty() {
            // Clients that name nothing get whatever is loaded.
            self.lock().instances.first().cloned()
        } else {
            self.find_instance(name)
        };
        if let Some(instance) = found {
            return self.ready(instance).await;
        }
        match self.model(name) {
            Some(model) if self.setup.jit => {
                let loaded = self.load(model, None, true).await;
                loaded.map_err(|LoadFailed(reason)| {
                    let text = format!("Failed to load model \"{name}\". Error: {reason}");
                    let body = json!({"error": {"message": text, "type": "invalid_request_error",
                        "param": "model", "code": null}});
                    reply(StatusCode::BAD_REQUEST, &body)
                })
            }
            None if !name.is_empty() && self.setup.jit => Err(error(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                &format!("Model \"{name}\" not found. Please specify a valid model."),
                "model_not_found",
            )),
            _ => Err(reply(
                StatusCode::BAD_REQUEST,
                &json!({"error": {
                    "message": "No models loaded. Please load a model in the developer page \
                        or use the 'lms load' command.",
                    "type": "invalid_request_error", "param": "model", "code": null,
                }}),
            )),
        }
    }

    /// Waits for the end of a load that another request began.
    async fn ready(&self, mut instance: Instance) -> Result<Instance, Response> {
        while !instance.ready {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let state = self.lock();
            let now = state.instances.iter().find(|it| it.id == instance.id);
            let Some(now) = now else {
                let text = json!({"error": "Model unloaded."});
                return Err(reply(StatusCode::BAD_REQUEST, &text));
            };
            instance = now.clone();
        }
        Ok(instance)
    }
}

/// The record of one request while it is answered. Dropped early, it says
/// that the client left: axum drops the answer then.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    index: usize,
    open: bool,
    is_answer: bool,
}

fn is_answer(path: &str) -> bool {
    path.contains("completions") || path.ends_with("/chat")
}

impl Ticket {
    pub(crate) fn new(shared: &Arc<Shared>, parts: &Parts, body: &Value) -> Self {
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        });
        let mut state = shared.lock();
        let is_answer = is_answer(&parts.uri.to_string());
        if is_answer {
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
        }
        state.requests.push(Recorded {
            path: parts.uri.to_string(),
            headers: headers.collect(),
            body: body.clone(),
            cancelled: false,
            tokens_sent: 0,
        });
        Self {
            shared: Arc::clone(shared),
            index: state.requests.len() - 1,
            open: true,
            is_answer,
        }
    }

    pub(crate) fn sent(&self, tokens: usize) {
        self.shared.lock().requests[self.index].tokens_sent += tokens;
    }

    pub(crate) fn close(&mut self) {
        self.open = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_answer {
            self.shared.lock().at_once -= 1;
        }
        if self.open {
            self.shared.lock().requests[self.index].cancelled = true;
            self.shared.cancelled.notify_all();
        }
    }
}
