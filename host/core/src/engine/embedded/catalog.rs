//! The models of the embedded engine.

use std::path::Path;

use lmstrix_gguf::ModelFile;

use crate::engine::catalog::{CatalogEngine, CatalogModel};
use crate::engine::model_files::NamedFile;
use crate::engine::{DEMO, EMBEDDED, Error};

/// Lists the demo model and model files.
pub(crate) fn catalog_engine(
    files: Vec<NamedFile>,
    on_file: &mut (dyn FnMut(&Path) + Send),
) -> Option<CatalogEngine> {
    let mut problems = Vec::new();
    let mut models = Vec::new();
    match ModelFile::from_bytes(DEMO, lmstrix_gguf::DEMO_MODEL) {
        Ok(file) => models.push(catalog_model(DEMO.to_owned(), &file)),
        Err(error) => problems.push(error.to_string()),
    }
    for NamedFile { name, path, .. } in files {
        on_file(&path);
        match ModelFile::open(&path).and_then(|file| file.check_supported().map(|()| file)) {
            Ok(file) => models.push(catalog_model(name, &file)),
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    Some(CatalogEngine {
        address: EMBEDDED.to_owned(),
        kind: EMBEDDED,
        display_name: "the embedded engine".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        models: Ok(models),
        problems,
    })
}

/// Describes a model file by its header.
fn catalog_model(id: String, file: &ModelFile) -> CatalogModel {
    CatalogModel {
        id,
        declared_context: Some(file.context_length()),
        architecture: Some(file.architecture().to_owned()),
        quantization: Some(file.quantization()),
        size_bytes: Some(file.size_bytes()),
        context_bytes_per_token: Some(file.kv_cache_bytes_per_token()),
        vision: Some(false),
        ..CatalogModel::default()
    }
}

/// Reads the header of a model file in any folder.
///
/// # Errors
/// Returns an error if the embedded engine cannot run the file.
pub(crate) fn catalog_file(path: &Path) -> Result<CatalogModel, Error> {
    let file = ModelFile::open(path)?;
    file.check_supported()?;
    Ok(catalog_model(path.display().to_string(), &file))
}
