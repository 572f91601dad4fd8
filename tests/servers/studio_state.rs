//! The state of the fake LM Studio: the loaded instances and a record of every request. All
//! model lists are derived from it, as in LM Studio.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::{StatusCode, request::Parts};
use axum::response::Response;
use serde_json::{Value, json};

use super::studio::{ContextRule, Fault, Model, RecordedRequest, Setup};
use super::studio_routes::{error, reply};

/// Context length of a load that does not request one.
const DEFAULT_CONTEXT: u32 = 4096;

pub(crate) struct Shared {
    pub(crate) setup: Setup,
    state: Mutex<State>,
    cancelled: Condvar,
}

pub(crate) struct State {
    pub(crate) fault: Fault,
    pub(crate) instances: Vec<Instance>,
    pub(crate) requests: Vec<RecordedRequest>,
    pub(crate) loads: usize,
    pub(crate) concurrent: usize,
    pub(crate) max_concurrent: usize,
    /// Keys of models that were removed from the disk.
    pub(crate) removed: Vec<String>,
    /// Ids of the responses that `/api/v1/chat` stored.
    pub(crate) responses: Vec<String>,
}

/// A model that is loaded or loading.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) context: u32,
    pub(crate) ready: bool,
    /// Loaded just in time: the next just-in-time load evicts it.
    jit: bool,
}

/// The message of a failed load.
pub(crate) struct LoadError(pub(crate) String);

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
            concurrent: 0,
            max_concurrent: 0,
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

    pub(crate) fn wait_cancelled(&self, timeout: Duration) -> bool {
        let none_cancelled =
            |state: &mut State| !state.requests.iter().any(|request| request.cancelled);
        let waited = self
            .cancelled
            .wait_timeout_while(self.lock(), timeout, none_cancelled);
        !waited.unwrap().1.timed_out()
    }

    /// Returns the model of a key; accepts `key@variant`, too.
    pub(crate) fn model(&self, key: &str) -> Option<&Model> {
        let base_key = key.split('@').next().unwrap_or(key);
        if self
            .lock()
            .removed
            .iter()
            .any(|removed| removed == base_key)
        {
            return None;
        }
        let find = |key: &str| self.setup.models.iter().find(|model| model.key == key);
        find(key).or_else(|| find(base_key))
    }

    pub(crate) fn is_loaded(&self, id: &str) -> bool {
        self.lock()
            .instances
            .iter()
            .any(|instance| instance.id == id)
    }

    /// Removes an instance. Returns whether it existed.
    pub(crate) fn unload(&self, id: &str) -> bool {
        let mut state = self.lock();
        let count = state.instances.len();
        state.instances.retain(|instance| instance.id != id);
        state.instances.len() < count
    }

    /// Starts a load: the instance is listed immediately, but not ready.
    pub(crate) fn start_load(&self, model: &Model, context: Option<u32>, jit: bool) -> Instance {
        let requested = context.unwrap_or(DEFAULT_CONTEXT.min(model.max_context));
        let context = match self.setup.context {
            ContextRule::Exact => requested,
            ContextRule::RoundedTo64 => requested.next_multiple_of(64),
            ContextRule::Smaller(max) => requested.min(max),
            ContextRule::Larger(min) => requested.max(min),
        };
        let mut state = self.lock();
        if jit {
            // Auto-Evict: one just-in-time instance at a time.
            state.instances.retain(|instance| !instance.jit);
        }
        let is_taken = |id: &str| state.instances.iter().any(|instance| instance.id == id);
        let mut id = model.key.clone();
        let mut number = 2;
        while is_taken(&id) {
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

    /// Finishes a load: the instance becomes ready, or is removed if the load fails.
    pub(crate) fn finish_load(&self, id: &str) -> Result<(), LoadError> {
        if let Some(message) = &self.setup.load_error {
            self.unload(id);
            return Err(LoadError(message.clone()));
        }
        let mut state = self.lock();
        let mut instances = state.instances.iter_mut();
        let Some(instance) = instances.find(|instance| instance.id == id) else {
            return Err(LoadError("Model unloaded.".to_owned()));
        };
        instance.ready = true;
        state.loads += 1;
        Ok(())
    }

    pub(crate) async fn load(
        &self,
        model: &Model,
        context: Option<u32>,
        jit: bool,
    ) -> Result<Instance, LoadError> {
        let mut instance = self.start_load(model, context, jit);
        tokio::time::sleep(self.setup.load_time).await;
        self.finish_load(&instance.id)?;
        instance.ready = true;
        Ok(instance)
    }

    /// Returns the instance with this id or model key. It may not be ready.
    pub(crate) fn find_instance(&self, name: &str) -> Option<Instance> {
        let key = self.model(name).map(|model| model.key.as_str());
        let state = self.lock();
        let mut instances = state.instances.iter();
        let by_id = instances.clone().find(|instance| instance.id == name);
        by_id
            .or_else(|| instances.find(|instance| Some(instance.key.as_str()) == key))
            .cloned()
    }

    /// Returns the instance that answers a request; loads it if just-in-time loading is on.
    pub(crate) async fn instance_for_request(&self, body: &Value) -> Result<Instance, Response> {
        let name = body["model"].as_str().unwrap_or_default();
        let found = if name.is_empty() {
            // A request without a model name uses any loaded instance.
            self.lock().instances.first().cloned()
        } else {
            self.find_instance(name)
        };
        if let Some(instance) = found {
            return self.wait_until_ready(instance).await;
        }
        match self.model(name) {
            Some(model) if self.setup.jit => {
                let loaded = self.load(model, None, true).await;
                loaded.map_err(|LoadError(message)| {
                    let text = format!("Failed to load model \"{name}\". Error: {message}");
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

    /// Waits for the end of a load that another request started.
    async fn wait_until_ready(&self, mut instance: Instance) -> Result<Instance, Response> {
        while !instance.ready {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let state = self.lock();
            let current = state.instances.iter().find(|other| other.id == instance.id);
            let Some(current) = current else {
                let body = json!({"error": "Model unloaded."});
                return Err(reply(StatusCode::BAD_REQUEST, &body));
            };
            instance = current.clone();
        }
        Ok(instance)
    }
}

/// Tracks one request while it is answered. If it is dropped before `close`, the request is
/// marked as cancelled: axum drops the answer when the client disconnects.
pub(crate) struct RequestGuard {
    shared: Arc<Shared>,
    index: usize,
    open: bool,
    is_answer: bool,
}

fn is_generation(path: &str) -> bool {
    path.contains("completions") || path.ends_with("/chat")
}

impl RequestGuard {
    pub(crate) fn new(shared: &Arc<Shared>, parts: &Parts, body: &Value) -> Self {
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        });
        let mut state = shared.lock();
        let is_answer = is_generation(&parts.uri.to_string());
        if is_answer {
            state.concurrent += 1;
            state.max_concurrent = state.max_concurrent.max(state.concurrent);
        }
        state.requests.push(RecordedRequest {
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

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.is_answer {
            self.shared.lock().concurrent -= 1;
        }
        if self.open {
            self.shared.lock().requests[self.index].cancelled = true;
            self.shared.cancelled.notify_all();
        }
    }
}
