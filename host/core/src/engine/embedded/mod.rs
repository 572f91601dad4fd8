//! The embedded engine as an engine: finds model files, and runs a model on its own
//! thread.

mod catalog;
mod worker;

use std::sync::Arc;

use lmstrix_gguf::ModelFile;
use lmstrix_inference::{ContextSize, Prompt, SettingSupport, SettingsLayer};

pub(super) use catalog::{catalog_engine, catalog_file};
pub(super) use worker::EmbeddedWorker;

use super::context_limits::{ContextLimits, resolve_context};
use super::memory::{Memory, MemoryNeed};
use super::{DEMO, EMBEDDED, Error, LifecycleOptions, ModelFolders};

/// A model file with the context that it runs with.
#[derive(Debug)]
pub(super) struct EmbeddedModel {
    file: Arc<ModelFile>,
    context: u32,
    requested_context: Option<u32>,
    tokens_per_byte: Option<f64>,
}

/// A selected model with what its file says.
#[derive(Debug)]
pub(super) struct EmbeddedSelection {
    pub(super) name: String,
    pub(super) is_demo: bool,
    pub(super) warnings: Vec<String>,
    /// The settings that the file recommends.
    pub(super) recommended: SettingsLayer,
    pub(super) model: EmbeddedModel,
}

impl EmbeddedModel {
    /// Returns the value of `general.architecture`.
    pub(super) fn architecture(&self) -> &str {
        self.file.architecture()
    }

    /// Returns the quantization by its llama.cpp name.
    pub(super) fn quantization(&self) -> String {
        self.file.quantization()
    }

    /// Returns the context length in tokens.
    pub(super) fn context(&self) -> u32 {
        self.context
    }

    /// Returns the declared context length in tokens.
    pub(super) fn declared_context(&self) -> u32 {
        self.file.context_length()
    }

    /// Returns the context length in tokens, if it was requested.
    pub(super) fn requested_context(&self) -> Option<u32> {
        self.requested_context
    }

    /// Returns the tokens per byte of earlier prompts, if known.
    pub(super) fn tokens_per_byte(&self) -> Option<f64> {
        self.tokens_per_byte
    }

    /// Returns whether the model appears to be instruction-tuned.
    pub(super) fn is_instruct(&self) -> bool {
        self.file.chat_template().is_some()
    }

    /// Returns how the engine treats a setting, given by its snake-case name.
    pub(super) fn setting_support(&self, name: &str) -> SettingSupport {
        self.file.setting_support(name)
    }

    /// Returns the prompt after the chat template.
    pub(super) fn render(&self, prompt: &Prompt, reasoning: Option<&str>) -> Option<String> {
        self.file.render(prompt, reasoning).ok()
    }

    /// Starts the model's thread, which loads the weights with the first inference.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be created.
    pub(super) fn start(&self) -> Result<EmbeddedWorker, Error> {
        EmbeddedWorker::start(Arc::clone(&self.file), self.context)
    }
}

/// Reads the header of a model file, and decides on its context.
///
/// # Errors
/// Returns an error if there is no such file, or the engine cannot run it.
pub(super) fn select_embedded(
    model: Option<&str>,
    context: Option<ContextSize>,
    folders: &ModelFolders,
    lifecycle: &LifecycleOptions,
) -> Result<EmbeddedSelection, Error> {
    let (name, is_demo, file) = match model {
        None | Some(DEMO) => (
            DEMO.to_owned(),
            true,
            ModelFile::from_bytes(DEMO, lmstrix_gguf::DEMO_MODEL)?,
        ),
        Some(name) => (
            name.to_owned(),
            false,
            ModelFile::open(&folders.find(name)?)?,
        ),
    };
    file.check_supported()?;
    let known = lifecycle.known_model(EMBEDDED, &name);
    let (recommended, mut warnings) = drop_invalid_settings(file.recommended_settings());
    let limits = ContextLimits {
        model: &name,
        declared: file.context_length(),
        tested: known.tested,
        memory_need: MemoryNeed {
            weight_bytes: file.weight_memory_bytes(),
            bytes_per_token: Some(file.kv_cache_bytes_per_token()),
        },
        memory: Memory::detect(),
        force: lifecycle.force,
    };
    let (tokens, context_warning) = resolve_context(context, limits)?;
    warnings.extend(context_warning);
    if lifecycle.ttl.is_some() {
        warnings.push("the embedded engine ends with the program; --ttl has no effect".to_owned());
    }
    Ok(EmbeddedSelection {
        name,
        is_demo,
        warnings,
        recommended,
        model: EmbeddedModel {
            file: Arc::new(file),
            context: tokens,
            requested_context: context.map(|_| tokens),
            tokens_per_byte: known.tokens_per_byte,
        },
    })
}

/// Removes settings recommended by the model file that are out of range. Returns
/// the remaining settings and a warning for each removed one.
fn drop_invalid_settings(mut layer: SettingsLayer) -> (SettingsLayer, Vec<String>) {
    let mut warnings = Vec::new();
    while let Err(error) = layer.check() {
        warnings.push(format!("ignored a setting of the model file: {error}"));
        layer.clear(&error.name);
    }
    (layer, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_recommended_settings_are_dropped() {
        let recommended = SettingsLayer {
            temperature: Some(0.5),
            top_p: Some(7.0),
            repeat_penalty: Some(0.0),
            ..SettingsLayer::default()
        };
        let (layer, warnings) = drop_invalid_settings(recommended);
        assert_eq!(
            (layer.temperature, layer.top_p, layer.repeat_penalty),
            (Some(0.5), None, None)
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}
