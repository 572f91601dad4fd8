//! The engine `llama.cpp`: runs GGUF files with a llama-server that this program starts, uses
//! and stops.
//!
//! - `options`: the settings of the config; `program`: the executable and the flags that it
//!   knows
//! - `file_facts`: the facts about a model file, mostly from its header
//! - `managed_model`: a model file that is selected, with the context it will be loaded with
//! - `start`: reuses or starts a server for the file; `arguments` is its command line
//! - `usage`: keeps the server running as long as this process uses it
//! - `run_files`: the files of a running server, by which processes share it
//! - `supervisor`: the process that is the parent of a server and ends it when its last user
//!   has ended; `tied_child` starts the server so that it does not outlive the supervisor
//! - `server_log`: the output of a server, with a limit
//! - `failure`: errors, with the last lines of that output
//! - `catalog`: the models and running servers, for lists
//!
//! A process that uses a server holds a lease on its model file. The supervisor looks at the
//! leases, so that no end of a process, also not a kill, leaves a server behind.

mod arguments;
mod catalog;
mod failure;
mod file_facts;
mod managed_model;
mod options;
mod program;
mod run_files;
mod server_log;
mod start;
mod supervisor;
mod tied_child;
mod usage;

pub use catalog::{LlamaCppStatus, llama_cpp_status, running_servers, stop_servers};
pub use failure::{LlamaServerFailure, LlamaServerFault};
pub use options::{GpuLayers, LlamaServerOptions, LlamaServerSettings, reserved_flag};
pub use supervisor::{SUPERVISOR_COMMAND, run_supervisor};
pub use tied_child::{TIED_COMMAND, restart_without_inherited_files, run_tied};

pub(super) use catalog::{catalog_engine, catalog_file};
pub(super) use managed_model::{ManagedModel, select_managed};
pub(super) use start::RunningServer;
pub(super) use usage::ServerUsage;
