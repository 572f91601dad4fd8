//! What is known of models: what engines said of them, which context was
//! tested and how, how fast they were. One JSON file in the data folder.
//!
//! `record` is the data, `store` the file with its lock and its backup,
//! `observations` the lines that finished runs leave, `import` the registry of
//! the Python program, `order` the sorting of lists. This room knows no other.

mod import;
mod observations;
mod order;
mod record;
mod store;

pub use import::{ImportError, import};
pub use observations::Observation;
pub use order::{Row, Sort, sort};
pub use record::{
    EngineRecord, Level, ModelRecord, Pending, Registry, Samples, Seen, Speeds, Tested, Trial,
};
pub use store::{Error, Known, Store};
