//! In place of the embedded engine, in builds without it: there is no such model, so the
//! types have no values.

use std::path::Path;

use lmstrix_inference::{ContextSize, Prompt, SettingSupport, SettingsLayer};

use super::catalog::{CatalogEngine, CatalogModel};
use super::model_files::NamedFile;
use super::request::InferenceRequest;
use super::{Error, InferenceStream, LifecycleOptions, ModelFolders};

/// A model of the embedded engine.
#[derive(Debug)]
pub(super) enum EmbeddedModel {}

/// The thread of an embedded model.
#[derive(Debug)]
pub(super) enum EmbeddedWorker {}

/// A selected model with what its file says.
#[derive(Debug)]
pub(super) struct EmbeddedSelection {
    pub(super) name: String,
    pub(super) is_demo: bool,
    pub(super) warnings: Vec<String>,
    pub(super) recommended: SettingsLayer,
    pub(super) model: EmbeddedModel,
}

impl EmbeddedModel {
    pub(super) fn architecture(&self) -> &str {
        match *self {}
    }

    pub(super) fn quantization(&self) -> String {
        match *self {}
    }

    pub(super) fn context(&self) -> u32 {
        match *self {}
    }

    pub(super) fn declared_context(&self) -> u32 {
        match *self {}
    }

    pub(super) fn requested_context(&self) -> Option<u32> {
        match *self {}
    }

    pub(super) fn tokens_per_byte(&self) -> Option<f64> {
        match *self {}
    }

    pub(super) fn is_instruct(&self) -> bool {
        match *self {}
    }

    pub(super) fn setting_support(&self, _name: &str) -> SettingSupport {
        match *self {}
    }

    pub(super) fn render(&self, _prompt: &Prompt, _reasoning: Option<&str>) -> Option<String> {
        match *self {}
    }

    pub(super) fn start(&self) -> Result<EmbeddedWorker, Error> {
        match *self {}
    }
}

impl EmbeddedWorker {
    pub(super) fn infer(&self, _request: InferenceRequest) -> Result<InferenceStream, Error> {
        match *self {}
    }
}

/// Refuses the selection.
///
/// # Errors
/// Always returns an error.
pub(super) fn select_embedded(
    _model: Option<&str>,
    _context: Option<ContextSize>,
    _folders: &ModelFolders,
    _lifecycle: &LifecycleOptions,
) -> Result<EmbeddedSelection, Error> {
    Err(Error::NoEmbeddedEngine)
}

/// Returns `None`: the engine is not in the list.
pub(super) fn catalog_engine(
    _files: Vec<NamedFile>,
    _on_file: &mut (dyn FnMut(&Path) + Send),
) -> Option<CatalogEngine> {
    None
}

/// Refuses the file.
///
/// # Errors
/// Always returns an error.
pub(super) fn catalog_file(_path: &Path) -> Result<CatalogModel, Error> {
    Err(Error::NoEmbeddedEngine)
}
