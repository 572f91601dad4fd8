//! Converts an engine's catalog to records of the registry.

use crate::engine::{CatalogModel, Memory, is_local};
use crate::registry::ModelRecord;

/// Returns the registry's record of a model that an engine lists.
pub fn model_record(model: &CatalogModel) -> ModelRecord {
    ModelRecord {
        aliases: model.aliases.clone(),
        architecture: model.architecture.clone(),
        quantization: model.quantization.clone(),
        size_bytes: model.size_bytes,
        declared_context: model.declared_context,
        context_bytes_per_token: model.context_bytes_per_token,
        vision: model.vision == Some(true),
        tools: model.tools,
        generates_no_text: model.generates_no_text,
        loaded: model
            .instances
            .iter()
            .map(|instance| instance.context)
            .collect(),
        ..ModelRecord::default()
    }
}

/// Returns whether a model fits into the memory of its machine; `true` for another
/// machine, whose memory is unknown.
pub fn fits_memory(address: &str, model: &ModelRecord, memory: Memory) -> bool {
    !is_local(address) || model.size_bytes.is_none_or(|size| size <= memory.total)
}
