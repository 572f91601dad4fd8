//! Engines reached by HTTP: LM Studio, Ollama, llama-server, vLLM and other
//! servers with an OpenAI-compatible API.
//!
//! The modules, in the order in which a run uses them:
//!
//! - `server_address`: a base URL and its keys
//! - `http_client`: HTTP, independent of any API
//! - `detect`: the kind of server at an address
//! - `model_list`: the models and loaded instances of a server
//! - `select_listing`: selects one model from those lists
//! - `ensure_loaded`: reuses or loads an instance; `load_decision` decides,
//!   `load`, `llama_router` and `lms_cli` load
//! - `dialect`: request bodies and response formats of each API
//! - `setting_support`: the settings that each server honours
//! - `chat_request`: one inference with its retries
//!
//! `sse`, `ndjson`, `line_decoder` and `fault` decode what comes over the wire,
//! for all kinds of server.

mod chat_request;
mod detect;
mod dialect;
mod ensure_loaded;
mod fault;
mod http_client;
mod json_request;
mod line_decoder;
mod llama_router;
mod lms_cli;
mod load;
mod load_decision;
mod model_list;
mod ndjson;
mod router_props;
mod select_listing;
mod server_address;
mod setting_support;
mod sse;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use detect::ServerKind;
pub use fault::{FaultKind, ServerFault};
pub use server_address::{InvalidUrl, ServerAddress};

use lmstrix_inference::{ContextSize, Event, Prompt, SettingSupport, Settings};

use super::ownership::Ownership;
use super::{
    CatalogEngine, CatalogModel, Error, InferenceRequest, InferenceStream, KnownModel,
    LifecycleOptions, LoadedInstance,
};
use dialect::Endpoint;
use http_client::HttpClient;
use model_list::ListedModel;
use select_listing::SelectedListing;

/// The limits on connecting to a server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTimeouts {
    /// The limit on making a connection; `None` leaves it to the system.
    pub connect: Option<Duration>,
    /// The limit on waiting for a server that reports that it is still loading
    /// its model; `None` is unlimited.
    pub load: Option<Duration>,
}

/// A server whose kind has been detected.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: ServerKind,
    pub(super) version: Option<String>,
    client: HttpClient,
}

impl Server {
    /// The name in messages, such as `LM Studio at http://127.0.0.1:1234`.
    pub(super) fn display_name(&self) -> String {
        format!("{} at {}", self.kind, self.client.base_url())
    }
}

/// A model selected on a server, not necessarily loaded.
#[derive(Clone, Debug)]
pub(super) struct ServerTarget {
    server: Arc<Server>,
    listed: ListedModel,
    listed_instance: Option<model_list::ListedInstance>,
    /// The requested instance, if the requested name is an instance's and not
    /// the model's.
    requested_instance: Option<String>,
    requested_context: Option<u32>,
    lifecycle: Arc<LifecycleOptions>,
}

/// A loaded instance, as reported by its server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerInstance {
    /// The identifier that requests use.
    pub(super) id: String,
    /// Effective context length in tokens, if known.
    pub(super) context: Option<u32>,
    /// Context length in tokens that the model declares, if known.
    pub(super) declared: Option<u32>,
    /// Load time in seconds, if this run loaded the instance.
    pub(super) load_s: Option<f64>,
    /// `true` if this run loaded the instance.
    pub(super) is_owned: bool,
    /// Warnings to show to the user.
    pub(super) warnings: Vec<String>,
}

/// Detects the servers at `addresses` and selects a model by `names`.
///
/// # Errors
/// Returns an error if no server answers, none has the model, the names select
/// no model, or the requested context length exceeds the declared one.
pub(super) async fn select_target(
    addresses: &[ServerAddress],
    is_explicit: bool,
    names: ModelNames<'_>,
    context: Option<ContextSize>,
    timeouts: ConnectTimeouts,
    lifecycle: Arc<LifecycleOptions>,
) -> Result<ServerTarget, Error> {
    let model = names.requested;
    let servers = detect::detect_all(addresses, is_explicit, timeouts).await?;
    let mut lists = Vec::new();
    let mut list_error = None;
    for server in servers {
        // A server that fails to list its models must not hide those of others.
        match model_list::list_models(&server).await {
            Ok(listed) => lists.push((Arc::new(server), listed)),
            Err(error) => list_error = Some(error),
        }
    }
    if let (true, Some(error)) = (lists.is_empty(), list_error) {
        return Err(error);
    }
    let SelectedListing {
        server_index,
        mut listed,
        instance: listed_instance,
    } = select_listing::select_listing(&lists, names)?;
    let Some((server, _)) = lists.get(server_index) else {
        return Err(Error::NoEngine {
            addresses: Vec::new(),
        });
    };
    model_list::fill_details(server, &mut listed).await;
    let tested = lifecycle
        .known_model(server.client.base_url(), &listed.id)
        .tested;
    // A percentage refers to the tested context length, if there is one.
    let requested_context = match (context, tested.or(listed.declared)) {
        (None, _) => None,
        (Some(ContextSize::Tokens(tokens)), _) => Some(tokens),
        (Some(ContextSize::Percent(percent)), Some(declared)) => {
            let tokens = u64::from(declared) * u64::from(percent) / 100;
            Some(u32::try_from(tokens).unwrap_or(declared).max(1))
        }
        (Some(ContextSize::Percent(_)), None) => {
            return Err(Error::InvalidContext(format!(
                "{} does not report the context length of `{}`, so a percentage cannot be \
                 resolved; give a number of tokens",
                server.display_name(),
                listed.id
            )));
        }
    };
    if let (Some(requested), Some(declared), false) =
        (requested_context, listed.declared, lifecycle.force)
        && requested > declared
    {
        return Err(Error::exceeds_declared(requested, declared));
    }
    let is_instance = |name: &&str| {
        *name != listed.id
            && listed_instance
                .as_ref()
                .is_some_and(|instance| instance.id == **name)
    };
    Ok(ServerTarget {
        server: Arc::clone(server),
        requested_instance: model.filter(is_instance).map(str::to_owned),
        listed,
        listed_instance,
        requested_context,
        lifecycle,
    })
}

/// Lists the servers at `addresses` with their models.
///
/// # Errors
/// Returns an error if no server answers.
pub(super) async fn catalog_servers(
    addresses: &[ServerAddress],
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Vec<CatalogEngine>, Error> {
    let mut servers = Vec::new();
    for server in detect::detect_all(addresses, is_explicit, timeouts).await? {
        let models = match model_list::list_models(&server).await {
            Ok(mut listed) => {
                for model in &mut listed {
                    // Ollama's list has no context lengths.
                    if model.declared.is_none() {
                        model_list::fill_details(&server, model).await;
                    }
                }
                Ok(listed.into_iter().map(catalog_model).collect())
            }
            Err(error) => Err(error.to_string()),
        };
        servers.push(CatalogEngine {
            address: server.client.base_url().to_owned(),
            kind: server.kind.name(),
            display_name: server.display_name(),
            version: server.version,
            models,
            problems: Vec::new(),
        });
    }
    Ok(servers)
}

fn catalog_model(listed: ListedModel) -> CatalogModel {
    let instances = listed.instances.into_iter().map(|instance| LoadedInstance {
        id: instance.id,
        context: instance.context,
        is_owned: false,
    });
    CatalogModel {
        instances: instances.collect(),
        id: listed.id,
        aliases: listed.aliases,
        declared_context: listed.declared,
        architecture: listed.architecture,
        quantization: listed.quantization,
        size_bytes: listed.size_bytes,
        context_bytes_per_token: None,
        vision: listed.supports_vision,
        tools: listed.supports_tools,
        embeds_only: listed.is_embedding_only,
    }
}

/// Unloads `instances`, pairs of model ID and instance, under the server's
/// lock.
///
/// Returns the IDs of the instances that were skipped because another program
/// loaded them and `force` is not set.
///
/// # Errors
/// Returns an error if the server does not answer, its lock cannot be taken, or
/// an unload fails.
pub(super) async fn unload_instances(
    address: &ServerAddress,
    instances: &[(String, LoadedInstance)],
    force: bool,
    state_dir: &Path,
    lms: Option<&Path>,
    timeouts: ConnectTimeouts,
) -> Result<Vec<String>, Error> {
    let servers = detect::detect_all(std::slice::from_ref(address), true, timeouts).await?;
    let Some(server) = servers.first() else {
        return Err(Error::NoEngine {
            addresses: vec![address.base_url().to_owned()],
        });
    };
    let mut ownership = Ownership::lock(state_dir, server.client.base_url()).await?;
    let mut skipped = Vec::new();
    for (model, instance) in instances {
        if force || ownership.is_owned(&instance.id, instance.context) {
            load::unload(server, model, &instance.id, lms).await?;
            ownership.release(&instance.id)?;
        } else {
            skipped.push(instance.id.clone());
        }
    }
    Ok(skipped)
}

/// The names by which a model is selected, in the order of precedence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ModelNames<'a> {
    /// The name given for this run, of a model or an instance.
    pub(super) requested: Option<&'a str>,
    /// The configured default, used if no name is given and not exactly one
    /// model is loaded.
    pub(super) fallback: Option<&'a str>,
    /// The model used last, used if nothing else selects a model.
    pub(super) last_used: Option<&'a str>,
}

impl ServerTarget {
    /// Returns the base URL of the server.
    pub(super) fn base_url(&self) -> &str {
        self.server.client.base_url()
    }

    /// Returns the context length in tokens that the model declares, if known.
    pub(super) fn declared_context(&self) -> Option<u32> {
        self.listed.declared
    }

    /// Returns `true` if a load can set the context length.
    pub(super) fn can_set_context(&self) -> bool {
        let method = ensure_loaded::load_method(self.server.kind, &self.listed);
        matches!(
            method,
            load_decision::LoadMethod::AddsInstance | load_decision::LoadMethod::ReplacesInstance
        )
    }

    /// Returns what earlier runs recorded about the model.
    pub(super) fn facts(&self) -> KnownModel {
        self.lifecycle.known_model(self.base_url(), &self.listed.id)
    }

    /// Returns the context length in tokens to load with: the requested one,
    /// else the tested one. `None` leaves it to the server's settings, since
    /// the server's video memory is not visible from here.
    pub(super) fn context_to_load(&self) -> Option<u32> {
        let declared = self.listed.declared.unwrap_or(u32::MAX);
        self.requested_context
            .or(self.facts().tested.map(|tested| tested.min(declared)))
    }

    /// Unloads `instance` if this program loaded it, in this run or an earlier
    /// one. Returns whether it did.
    pub(super) async fn unload_if_owned(&self, instance: &ServerInstance) -> Result<bool, Error> {
        let mut ownership = Ownership::lock(&self.lifecycle.state_dir, self.base_url()).await?;
        if !ownership.is_owned(&instance.id, instance.context) {
            return Ok(false);
        }
        load::unload(
            &self.server,
            &self.listed.id,
            &instance.id,
            self.lifecycle.lms_path.as_deref(),
        )
        .await?;
        ownership.release(&instance.id)?;
        Ok(true)
    }

    pub(super) fn model(&self) -> &str {
        &self.listed.id
    }

    pub(super) fn engine_name(&self) -> &'static str {
        self.server.kind.name()
    }

    pub(super) fn display_name(&self) -> String {
        self.server.display_name()
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

    /// Returns the context length in tokens that the instance of this run is
    /// expected to have: that of the loaded instance, the one to load with, or
    /// the declared one.
    pub(super) fn expected_context(&self) -> Option<u32> {
        let loaded = self
            .listed_instance
            .as_ref()
            .and_then(|instance| instance.context);
        // Ollama reloads a model if a request has another context length.
        if self.server.kind == ServerKind::Ollama {
            return self
                .requested_context
                .or(loaded)
                .or(self.context_to_load())
                .or(self.listed.declared);
        }
        loaded.or(self.context_to_load()).or(self.listed.declared)
    }

    pub(super) fn requested_context(&self) -> Option<u32> {
        self.requested_context
    }

    /// Returns `true` if the model is probably instruction-tuned, judged by its
    /// name.
    pub(super) fn is_instruct(&self) -> bool {
        self.listed.is_instruct()
    }

    /// Returns whether the server honours the setting `name` (snake case) for
    /// this prompt and these settings.
    pub(super) fn support(
        &self,
        prompt: &Prompt,
        settings: &Settings,
        name: &str,
    ) -> SettingSupport {
        let endpoint = Endpoint::select(
            self.server.kind,
            self.listed.has_lmstudio_chat,
            prompt,
            settings,
        );
        let level = settings
            .reasoning
            .as_ref()
            .map(|reasoning| reasoning.value.as_str());
        if let ("reasoning", Some(levels), Some(level)) =
            (name, &self.listed.reasoning_levels, level)
            && !levels.iter().any(|known| known == level)
        {
            // For a model without reasoning, `off` is what it does anyway.
            return if level == "off" && levels.is_empty() {
                SettingSupport::Honoured
            } else {
                SettingSupport::Dropped
            };
        }
        setting_support::setting_support(self.server.kind, endpoint, name)
    }

    /// Ensures that an instance is loaded, and reports progress through `emit`.
    pub(super) async fn ensure_loaded(
        &self,
        emit: &mut (dyn FnMut(Event) + Send),
    ) -> Result<ServerInstance, Error> {
        ensure_loaded::ensure_loaded(self, emit).await
    }

    /// Returns the number of inferences that the instance runs in parallel, if
    /// the server reports it.
    pub(super) async fn parallel_slots(&self, instance: &ServerInstance) -> Option<u32> {
        model_list::parallel_slots(&self.server, &instance.id).await
    }

    /// Returns the prompt with the chat template applied, if the server
    /// supports that.
    pub(super) async fn render_prompt(
        &self,
        prompt: &Prompt,
        instance: &ServerInstance,
    ) -> Option<String> {
        chat_request::render_prompt(self, prompt, instance).await
    }

    /// Starts the inference. Dropping the stream closes the connection, on
    /// which servers stop generating.
    pub(super) fn infer(
        self,
        instance: ServerInstance,
        request: InferenceRequest,
    ) -> InferenceStream {
        chat_request::start(self, instance, request)
    }
}
