//! Servers: LM Studio, Ollama, llama-server, vLLM and whatever else speaks
//! OpenAI's protocol.
//!
//! In the order of the way through: `endpoint` (an address and its key),
//! `client` (HTTP, and nothing of any protocol), `detect` (who answers there),
//! `models` (what it has), `pick` (which of them is meant), `ensure` (an
//! instance that is loaded), `dialect` (what is asked, in each protocol, and
//! how its answer reads), `support` (which settings a server honours), `talk`
//! (one inference, with its retries). `sse`, `ndjson` and `fault` read what
//! comes over the wire and know no server.

mod client;
mod detect;
mod dialect;
mod endpoint;
mod ensure;
mod fault;
mod lines;
mod models;
mod ndjson;
mod pick;
mod sse;
mod support;
mod talk;

use std::sync::Arc;
use std::time::Duration;

pub use detect::Kind;
pub use endpoint::{BadUrl, Endpoint};
pub use fault::{Fault, FaultKind};

use super::{Ask, Context, Error, Stream};
use crate::inference::{Event, Prompt, Settings, Support};
use client::Client;
use dialect::Road;
use models::Listed;
use pick::Picked;

/// How long a server may take to be reached, and who hears of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// For the connection; `None` waits as long as the system does.
    pub connect: Option<Duration>,
    /// For a server that says that it is still loading; `None` is for ever.
    pub load: Option<Duration>,
}

/// A server that said who it is.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) version: Option<String>,
    client: Client,
}

impl Server {
    /// How messages name it: `LM Studio at http://127.0.0.1:1234`.
    pub(super) fn shown(&self) -> String {
        format!("{} at {}", self.kind, self.client.base())
    }
}

/// A model of a server; nothing is loaded yet.
#[derive(Clone, Debug)]
pub(super) struct Target {
    server: Arc<Server>,
    listed: Listed,
    loaded: Option<models::Loaded>,
    asked_context: Option<u32>,
}

/// A model that is loaded, as its server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    /// What requests name.
    pub(super) id: String,
    /// Tokens of context that it has, where known.
    pub(super) context: Option<u32>,
    /// Tokens of context that the model was made for, where known.
    pub(super) declared: Option<u32>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// Finds the servers among `endpoints` and the model that is meant.
///
/// # Errors
/// None answers, none has the model, or it is not clear which is meant.
pub(super) async fn choose(
    endpoints: &[Endpoint],
    named: bool,
    model: Option<&str>,
    fallback: Option<&str>,
    context: Option<Context>,
    reach: Reach,
) -> Result<Target, Error> {
    let servers = detect::all(endpoints, named, reach).await?;
    let mut lists = Vec::new();
    let mut failed = None;
    for server in servers {
        // One server that cannot be asked must not hide what another has.
        match models::list(&server).await {
            Ok(listed) => lists.push((Arc::new(server), listed)),
            Err(error) => failed = Some(error),
        }
    }
    if let (true, Some(error)) = (lists.is_empty(), failed) {
        return Err(error);
    }
    let Picked {
        at,
        mut listed,
        loaded,
    } = pick::pick(&lists, model, fallback)?;
    let Some((server, _)) = lists.get(at) else {
        return Err(Error::NoEngine { tried: Vec::new() });
    };
    models::complete(server, &mut listed).await;
    let asked_context = match (context, listed.declared) {
        (None, _) => None,
        (Some(Context::Tokens(tokens)), _) => Some(tokens),
        (Some(Context::Percent(percent)), Some(declared)) => {
            let share = u64::from(declared) * u64::from(percent) / 100;
            Some(u32::try_from(share).unwrap_or(declared).max(1))
        }
        (Some(Context::Percent(_)), None) => {
            return Err(Error::Context(format!(
                "{} does not say how much context `{}` was made for, so a percentage means \
                 nothing; give a number of tokens",
                server.shown(),
                listed.id
            )));
        }
    };
    Ok(Target {
        server: Arc::clone(server),
        listed,
        loaded,
        asked_context,
    })
}

impl Target {
    pub(super) fn model(&self) -> &str {
        &self.listed.id
    }

    pub(super) fn engine(&self) -> &'static str {
        self.server.kind.name()
    }

    pub(super) fn shown(&self) -> String {
        self.server.shown()
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.server.version.as_deref()
    }

    pub(super) fn architecture(&self) -> Option<&str> {
        self.listed.architecture.as_deref()
    }

    pub(super) fn quantization(&self) -> Option<&str> {
        self.listed.quantization.as_deref()
    }

    /// The most context that this run would load: what is loaded, what was
    /// asked for, or what the model was made for.
    pub(super) fn context(&self) -> Option<u32> {
        let loaded = self.loaded.as_ref().and_then(|it| it.context);
        // Ollama loads a model anew when another context is asked for.
        if self.server.kind == Kind::Ollama {
            return self.asked_context.or(loaded).or(self.listed.declared);
        }
        loaded.or(self.asked_context).or(self.listed.declared)
    }

    pub(super) fn asked_context(&self) -> Option<u32> {
        self.asked_context
    }

    /// Whether the model answers raw texts by more than going on with them.
    pub(super) fn is_instruct(&self) -> bool {
        self.listed.is_instruct()
    }

    pub(super) fn support(&self, prompt: &Prompt, settings: &Settings, name: &str) -> Support {
        let road = Road::of(
            self.server.kind,
            self.listed.has_studio_chat,
            prompt,
            settings,
        );
        let level = settings.reasoning.as_ref().map(|it| it.value.as_str());
        if let ("reasoning", Some(levels), Some(level)) = (name, &self.listed.reasoning, level)
            && !levels.iter().any(|it| it == level)
        {
            // A model that cannot think has it switched off.
            return if level == "off" && levels.is_empty() {
                Support::Honoured
            } else {
                Support::Dropped
            };
        }
        support::support(self.server.kind, road, name)
    }

    /// Sees to it that an instance is there; says what goes on through `emit`.
    pub(super) async fn ensure(
        &self,
        emit: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Instance, Error> {
        ensure::ensure(self, emit).await
    }

    /// The exact text that the model would be sent, where the server tells.
    pub(super) async fn rendered(&self, prompt: &Prompt, instance: &Instance) -> Option<String> {
        talk::rendered(self, prompt, instance).await
    }

    /// Starts the inference; dropping the stream closes the connection, by
    /// which servers stop generating.
    pub(super) fn infer(self, instance: Instance, ask: Ask) -> Stream {
        talk::start(self, instance, ask)
    }
}
