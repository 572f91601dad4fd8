//! Servers: LM Studio, Ollama, llama-server, vLLM and whatever else speaks
//! OpenAI's protocol.
//!
//! In the order of the way through: `endpoint` (an address and its key),
//! `client` (HTTP, and nothing of any protocol), `detect` (who answers there),
//! `models` (what it has), `pick` (which of them is meant), `ensure` (an
//! instance that is loaded: `decide` says whether, `load`, `router` and
//! `lms` do it),
//! `dialect` (what is asked, in each protocol, and
//! how its answer reads), `support` (which settings a server honours), `talk`
//! (one inference, with its retries). `sse`, `ndjson` and `fault` read what
//! comes over the wire and know no server.

mod client;
mod decide;
mod detect;
mod dialect;
mod endpoint;
mod ensure;
mod fault;
mod lines;
mod lms;
mod load;
mod models;
mod ndjson;
mod pick;
mod router;
mod sse;
mod support;
mod talk;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use detect::Kind;
pub use endpoint::{BadUrl, Endpoint};
pub use fault::{Fault, FaultKind};

use super::claims::Claims;
use super::context::beyond;
use super::{Ask, Context, Error, Facts, Life, Offer, Offered, Place, Stream};
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
    /// The instance that was named, where that was no model's name.
    instance: Option<String>,
    asked_context: Option<u32>,
    life: Arc<Life>,
}

/// A model that is loaded, as its server says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Instance {
    /// What requests name.
    pub(super) id: String,
    /// Tokens of context that it has, where known.
    pub(super) context: Option<u32>,
    /// Tokens of context that the model was made for, where known.
    pub(super) declared: Option<u32>,
    /// Seconds of loading, when this run loaded it.
    pub(super) load_s: Option<f64>,
    /// Whether this run loaded it.
    pub(super) is_ours: bool,
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
    names: Names<'_>,
    context: Option<Context>,
    reach: Reach,
    life: Arc<Life>,
) -> Result<Target, Error> {
    let model = names.model;
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
    } = pick::pick(&lists, names)?;
    let Some((server, _)) = lists.get(at) else {
        return Err(Error::NoEngine { tried: Vec::new() });
    };
    models::complete(server, &mut listed).await;
    let tested = life.facts(server.client.base(), &listed.id).tested;
    // Percent are of what works, where that is known.
    let asked_context = match (context, tested.or(listed.declared)) {
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
    if let (Some(asked), Some(declared), false) = (asked_context, listed.declared, life.force)
        && asked > declared
    {
        return Err(beyond(asked, declared));
    }
    let is_instance =
        |name: &&str| *name != listed.id && loaded.as_ref().is_some_and(|it| it.id == **name);
    Ok(Target {
        server: Arc::clone(server),
        instance: model.filter(is_instance).map(str::to_owned),
        listed,
        loaded,
        asked_context,
        life,
    })
}

/// All servers among `endpoints` with their models.
///
/// # Errors
/// None answers.
pub(super) async fn survey(
    endpoints: &[Endpoint],
    named: bool,
    reach: Reach,
) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for server in detect::all(endpoints, named, reach).await? {
        let models = match models::list(&server).await {
            Ok(mut listed) => {
                for it in &mut listed {
                    // Ollama's list leaves out how much context there is.
                    if it.declared.is_none() {
                        models::complete(&server, it).await;
                    }
                }
                Ok(listed.into_iter().map(offer).collect())
            }
            Err(error) => Err(error.to_string()),
        };
        places.push(Place {
            place: server.client.base().to_owned(),
            kind: server.kind.name(),
            shown: server.shown(),
            version: server.version,
            models,
            problems: Vec::new(),
        });
    }
    Ok(places)
}

fn offer(listed: Listed) -> Offer {
    let instances = listed.loaded.into_iter().map(|it| Offered {
        id: it.id,
        context: it.context,
        is_ours: false,
    });
    Offer {
        instances: instances.collect(),
        id: listed.id,
        aliases: listed.aliases,
        declared: listed.declared,
        architecture: listed.architecture,
        quantization: listed.quantization,
        size_bytes: listed.size_bytes,
        context_bytes_per_token: None,
        vision: listed.vision,
        tools: listed.tools,
        embeds_only: listed.embeds_only,
    }
}

/// Unloads instances (model and instance) under the server's lock; gives those
/// that somebody else loaded and that were left alone.
pub(super) async fn unload(
    endpoint: &Endpoint,
    instances: &[(String, Offered)],
    force: bool,
    state: &Path,
    lms: Option<&Path>,
    reach: Reach,
) -> Result<Vec<String>, Error> {
    let servers = detect::all(std::slice::from_ref(endpoint), true, reach).await?;
    let Some(server) = servers.first() else {
        return Err(Error::NoEngine {
            tried: vec![endpoint.base().to_owned()],
        });
    };
    let mut claims = Claims::lock(state, server.client.base()).await?;
    let mut left = Vec::new();
    for (model, instance) in instances {
        if force || claims.is_ours(&instance.id, instance.context) {
            load::unload(server, model, &instance.id, lms).await?;
            claims.release(&instance.id)?;
        } else {
            left.push(instance.id.clone());
        }
    }
    Ok(left)
}

/// By which names a model may be meant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'a> {
    /// The one that was given.
    pub(super) model: Option<&'a str>,
    /// The config's, when none was given and not exactly one is loaded.
    pub(super) fallback: Option<&'a str>,
    /// The one used last, when there is nothing else to go by.
    pub(super) last: Option<&'a str>,
}

impl Target {
    /// The server's address.
    pub(super) fn place(&self) -> &str {
        self.server.client.base()
    }

    /// Tokens of context that the model was made for, where known.
    pub(super) fn declared(&self) -> Option<u32> {
        self.listed.declared
    }

    /// Whether it can be loaded with a context of one's choice.
    pub(super) fn loads_with_context(&self) -> bool {
        let way = ensure::way(self.server.kind, &self.listed);
        matches!(way, decide::Way::Stacks | decide::Way::Replaces)
    }

    /// What is known of the model from before.
    pub(super) fn facts(&self) -> Facts {
        self.life.facts(self.place(), &self.listed.id)
    }

    /// The context that a load asks for: what the user wants, else what was
    /// found to work. Without either the server's own settings hold, since
    /// nobody here sees its video memory.
    pub(super) fn load_context(&self) -> Option<u32> {
        let declared = self.listed.declared.unwrap_or(u32::MAX);
        self.asked_context
            .or(self.facts().tested.map(|it| it.min(declared)))
    }

    /// Unloads an instance that this program loaded; whether it was one.
    pub(super) async fn unload(&self, instance: &Instance) -> Result<bool, Error> {
        let mut claims = Claims::lock(&self.life.state, self.place()).await?;
        if !claims.is_ours(&instance.id, instance.context) {
            return Ok(false);
        }
        load::unload(
            &self.server,
            &self.listed.id,
            &instance.id,
            self.life.lms.as_deref(),
        )
        .await?;
        claims.release(&instance.id)?;
        Ok(true)
    }

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
            return self
                .asked_context
                .or(loaded)
                .or(self.load_context())
                .or(self.listed.declared);
        }
        loaded.or(self.load_context()).or(self.listed.declared)
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

    /// How many inferences an instance runs at once, where the server says so.
    pub(super) async fn slots(&self, instance: &Instance) -> Option<u32> {
        models::slots(&self.server, &instance.id).await
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
