//! The library interface: a [`Request`] becomes a job, whose answer arrives as a stream
//! of events or from one blocking call.

mod answer_stream;
mod blocking_read;
mod catalog_records;
mod engine_selection;
mod environment_settings;
mod notices;
mod open;
mod packs;
mod processors;
mod request;
mod stores;
mod text_files;
mod timeouts;

pub use answer_stream::{AnswerStream, Client, Output};
pub use blocking_read::{RunLimit, read_files};
pub use catalog_records::{fits_memory, model_record};
pub use engine_selection::{default_lm_studio_address, engine_selection, lm_studio_home};
pub use environment_settings::warn_about_unknown_variables;
pub use notices::{Notice, Notices};
pub use open::{
    OpenContext, model_query, names_files, open, prompt_request, resolve_prompt, settings_by_origin,
};
pub use packs::{Links, PackSource, pack_source, stock_file, stock_prompt_names};
pub use processors::processor;
pub use request::{LoadPolicy, Request};
pub use stores::{
    lifecycle_options, listing_options, llama_server_options, lms_program, model_folders,
    ownership_folder, read_registry, registry_store, selected_folders,
};
pub use text_files::{TextFiles, at_file, parse_json_schema, read_text_file, stdin_text};
pub use timeouts::{TimeoutOptions, timeouts};
