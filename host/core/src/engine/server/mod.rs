//! Engines reached by HTTP: LM Studio, Ollama, llama-server, vLLM and other
//! servers with an OpenAI-compatible API.
//!
//! The modules, in the order in which a run uses them:
//!
//! - `server_address`: a base URL and its keys; `server_kind`: the kinds of server
//! - `http_client`: HTTP, independent of any API; `json_request`: one JSON value
//! - `detect`: finds the servers at addresses; `probe` identifies their kind, and
//!   `detected_server` is the result; `confirm` does so for `remembered` servers
//! - `model_list`: the models and loaded instances of a server, as `listed_model`
//! - `select_listing`: selects one model from those lists
//! - `select_target`: does all of the above for a run, `catalog` for a list of models
//! - `server_target`: the selected model, and what is known of it
//! - `ensure_loaded`: reuses or loads an instance; `load_decision` decides,
//!   `memory_check` estimates, `load`, `llama_router` and `lms_cli` load
//! - `server_instance`: the loaded instance
//! - `dialect`: request bodies and response formats of each API, and the settings that
//!   each server honours; `router_props`: properties that llama.cpp's router reports
//! - `render_prompt`: the text that the model would receive
//! - `chat_request`: one inference with its retries
//! - `unload_owned`: unloads what this program loaded
//!
//! `sse`, `ndjson`, `line_decoder` and `fault` decode what comes over the wire,
//! for all kinds of server.

mod catalog;
mod chat_request;
mod confirm;
mod detect;
mod detected_server;
mod dialect;
mod ensure_loaded;
mod fault;
mod http_client;
mod json_request;
mod line_decoder;
mod listed_model;
mod llama_router;
mod lms_cli;
mod load;
mod load_decision;
mod memory_check;
mod model_list;
mod ndjson;
mod probe;
mod remembered;
mod render_prompt;
mod router_props;
mod select_listing;
mod select_target;
mod server_address;
mod server_instance;
mod server_kind;
mod server_target;
mod sse;
mod tls;
mod unload_owned;

pub use detect::ConnectTimeouts;
pub use fault::{FaultKind, ServerFault};
pub use server_address::{InvalidUrl, ServerAddress};
pub use server_kind::ServerKind;
pub use tls::TrustedCertificates;

pub(super) use catalog::catalog_servers;
pub(super) use dialect::llama_server_support;
pub(super) use listed_model::ListedInstance;
pub(super) use load_decision::{LoadDecision, LoadMethod, LoadedCopy, WantedInstance, decide_load};
pub(super) use select_listing::ModelNames;
pub(super) use select_target::select_target;
pub(super) use server_instance::ServerInstance;
pub(super) use server_target::ServerTarget;
pub(super) use unload_owned::unload_instances;
