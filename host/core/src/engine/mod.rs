//! Engines: selects an engine and a model, loads models, and runs inferences as
//! streams of events.
//!
//! HTTP and JSON wire types stay private to this module. It does not depend on
//! packs or sinks.

mod catalog;
mod context_limits;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(not(feature = "embedded"))]
#[path = "no_embedded.rs"]
mod embedded;
mod embedded_fault;
mod error;
mod hub;
mod instance;
mod lease;
mod lifecycle;
mod llama_server;
mod memory;
mod model_files;
mod ownership;
mod reasoning;
mod request;
mod select;
mod selected_model;
mod server;
mod stream;

use std::time::Duration;

pub use catalog::{
    Catalog, CatalogEngine, CatalogModel, LoadedInstance, file_engine, query_catalog, unload,
};
pub use embedded_fault::{EmbeddedError, EmbeddedFault, embedded_fault};
pub use error::Error;
pub use hub::{DEFAULT_HUB_URL, Hub, HubError, HubReference, PullProgress, PullResult};
pub use instance::{Instance, Unloader};
pub use lifecycle::{KnownModel, LifecycleOptions, UnloadResult};
pub use llama_server::{
    GpuLayers, LlamaCppStatus, LlamaServerFailure, LlamaServerFault, LlamaServerOptions,
    LlamaServerSettings, SUPERVISOR_COMMAND, TIED_COMMAND, llama_cpp_status, reserved_flag,
    restart_without_inherited_files, run_supervisor, run_tied, running_servers, stop_servers,
};
pub use memory::{Memory, process_start_time};
pub use model_files::{ModelFolders, display_model, lm_studio_model_files};

pub use crate::quantity::format_bytes;
pub use request::InferenceRequest;
pub use select::{ModelQuery, select_model};
pub use selected_model::SelectedModel;
pub use server::{
    ConnectTimeouts, FaultKind, InvalidUrl, ServerAddress, ServerFault, ServerKind,
    TrustedCertificates,
};
pub use stream::InferenceStream;

/// The `--engine` value that selects the embedded engine.
pub const EMBEDDED: &str = "embedded";
/// The `--engine` value that selects a llama-server that this program starts.
pub const LLAMA_CPP: &str = "llama.cpp";
/// The `--engine` value that selects an engine automatically.
pub const AUTO: &str = "auto";
/// The name of the built-in demo model.
pub const DEMO: &str = "demo";

/// Formats a duration in seconds, such as `2.5 s`.
#[must_use]
pub fn format_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// The engines to select from.
#[derive(Clone, Debug)]
pub enum EngineSelection {
    /// The embedded engine of this process.
    Embedded,
    /// A llama-server that this program starts for a model file.
    LlamaCpp,
    /// The servers at these addresses. A single address must answer; of several,
    /// those that do not answer are skipped.
    Servers(Vec<ServerAddress>),
    /// For model files a llama-server that this program starts, or the embedded engine if no
    /// llama-server is installed; for other models the servers that answer at these addresses.
    Auto(Vec<ServerAddress>),
}

impl EngineSelection {
    /// Returns whether a path to a GGUF file means the file. An engine that was named decides
    /// where a name is looked up: a server's model may be called like its file.
    #[must_use]
    pub fn can_mean_file(&self) -> bool {
        !matches!(self, Self::Servers(_))
    }

    /// Returns the servers that may answer.
    #[must_use]
    pub fn servers(&self) -> &[ServerAddress] {
        match self {
            Self::Embedded | Self::LlamaCpp => &[],
            Self::Servers(servers) | Self::Auto(servers) => servers,
        }
    }

    /// Returns the selection of a single engine by its address.
    #[must_use]
    pub fn only(&self, address: &str) -> Self {
        match address {
            EMBEDDED => Self::Embedded,
            LLAMA_CPP => Self::LlamaCpp,
            url => {
                let servers = self.servers().iter();
                let servers = servers.filter(|server| server.base_url() == url);
                Self::Servers(servers.cloned().collect())
            }
        }
    }
}

/// Returns whether an engine, by its kind or address, runs model files of this machine.
#[must_use]
pub fn runs_files(engine: &str) -> bool {
    [EMBEDDED, LLAMA_CPP].contains(&engine)
}

/// Returns whether an engine's address is on this machine.
#[must_use]
pub fn is_local(address: &str) -> bool {
    runs_files(address) || ServerAddress::parse(address).is_ok_and(|address| address.is_loopback())
}
