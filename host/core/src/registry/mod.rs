//! The registry: facts about models from engines, tested contexts and measured
//! speeds, in one JSON file in the data folder.
//!
//! `record`, `context_test` and `speeds` are the data, `store` the file with its lock and backup, `observations`
//! the log of finished runs, `import` reads the registry of the Python program
//! lmstrix, and `sort` orders lists of models.

mod context_test;
mod import;
mod observations;
mod record;
mod sort;
mod speeds;
mod store;

pub use context_test::{ContextTrial, PendingProbe, TestLevel, TestedContext};
pub use import::{ImportError, import_lmstrix};
pub use observations::Observation;
pub use record::{EngineRecord, LastUsedModel, ModelRecord, Registry};
pub use sort::{SortKey, SortRow, sort_models};
pub use speeds::{Samples, Speeds};
pub use store::{Error, LoadedRegistry, RegistryStore};
