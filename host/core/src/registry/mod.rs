//! The registry: facts about models from engines, tested contexts and measured
//! speeds, in one JSON file in the data folder.
//!
//! `record` is the data, `store` the file with its lock and backup, `observations`
//! the log of finished runs, `import` reads the registry of the Python program
//! lmstrix, and `sort` orders lists of models. This module depends on no other one.

mod import;
mod observations;
mod record;
mod sort;
mod store;

pub use import::{ImportError, import_lmstrix};
pub use observations::Observation;
pub use record::{
    ContextTrial, EngineRecord, LastUsedModel, ModelRecord, PendingProbe, Registry, Samples,
    Speeds, TestLevel, TestedContext,
};
pub use sort::{SortKey, SortRow, sort_models};
pub use store::{Error, LoadedRegistry, RegistryStore};
