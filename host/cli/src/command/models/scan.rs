//! `scan`: queries every engine for its models and records them in the registry.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use lmstrix::client;
use lmstrix::engine::{
    CatalogEngine, CatalogModel, EMBEDDED, EngineSelection, LLAMA_CPP, lm_studio_model_files,
    runs_files,
};
use lmstrix::job::Cancel;
use lmstrix::quantity::count;
use lmstrix::registry::{ModelRecord, import_lmstrix};
use lmstrix::studio_settings;
use serde::Serialize;

use super::{command_setup, print_json, warn_about_problems};
use crate::args::ScanArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Output of `scan --json`.
#[derive(Serialize)]
struct ScanReport {
    schema: u32,
    engines: Vec<ScannedEngine>,
    imported: usize,
    warnings: Vec<String>,
}

/// One engine of a [`ScanReport`].
#[derive(Serialize)]
struct ScannedEngine {
    #[serde(rename = "place")]
    address: String,
    kind: &'static str,
    version: Option<String>,
    models: Vec<String>,
    error: Option<String>,
}

/// Runs `scan`.
///
/// # Errors
/// Returns an error if the registry cannot be written, or if the engine of `--engine` does
/// not respond.
pub(crate) async fn scan(
    args: ScanArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let messages = setup.messages;
    let imported = args.import.as_deref().map(read_import).transpose()?;
    let mut folders = client::model_folders(env);
    if args.no_files {
        folders.lm_studio = None;
        folders.ollama = None;
    }
    let mut log_file =
        |path: &Path| tracing::debug!(path = %path.display(), "reading a model file");
    let querying = setup.catalog(&setup.selection, &folders, env, &mut log_file);
    let mut catalog = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        catalog = querying => catalog,
    };
    if let Some(error) = catalog.server_error.take() {
        if !matches!(setup.selection, EngineSelection::Auto(_)) {
            return Err(error.into());
        }
        messages.status(&format!("{error}"));
    }
    warn_about_problems(&catalog, messages);
    let mut files = StudioFiles::default();
    if args.no_files {
        files.is_complete = false;
    } else if !matches!(setup.selection, EngineSelection::Servers(_)) {
        files = studio_files(env, messages);
    }
    let has_llama_cpp = catalog
        .engines
        .iter()
        .any(|engine| engine.address == LLAMA_CPP && engine.models.is_ok());
    let mut engines: Vec<(CatalogEngine, Vec<(String, ModelRecord)>)> = Vec::new();
    for engine in catalog.engines {
        let mut records: Vec<(String, ModelRecord)> = Vec::new();
        for model in engine.models.iter().flatten() {
            let mut record = client::model_record(model);
            files.add_file_facts(model, &mut record);
            records.push((model.id.clone(), record));
        }
        // Each file is listed at the engine that runs it.
        if engine.address == EMBEDDED && !has_llama_cpp {
            records.extend(
                files
                    .models
                    .iter()
                    .map(|model| (model.id.clone(), client::model_record(model))),
            );
        }
        engines.push((engine, records));
    }
    let now = Timestamp::now();
    // The models of the Python program belong to LM Studio.
    let import_address = engines
        .iter()
        .find(|(engine, _)| engine.kind == "lmstudio")
        .map(|(engine, _)| engine.address.clone())
        .or_else(|| client::default_lm_studio_address(env, &notices(messages)))
        .unwrap_or_else(|| "http://127.0.0.1:1234".to_owned());
    let is_import = imported.is_some();
    let update = |registry: &mut lmstrix::registry::Registry| {
        let mut imported_count = 0;
        for (id, old) in imported.into_iter().flatten() {
            let engine = registry.engines.entry(import_address.clone()).or_default();
            if engine.kind.is_empty() {
                "lmstudio".clone_into(&mut engine.kind);
            }
            let mut known_models = engine.models.iter();
            let name = known_models
                .find(|(name, model)| model.is_named(name, &id))
                .map_or(id, |(name, _)| name.clone());
            let model = engine.models.entry(name).or_default();
            imported_count += usize::from(model.fill_missing(old));
        }
        for (engine, records) in &engines {
            let version = engine.version.as_deref();
            let listed = if engine.models.is_ok() {
                records.clone()
            } else {
                Vec::new()
            };
            // The id of a model in LM Studio's folder is its absolute path.
            let was_not_checked = |id: &str| {
                runs_files(&engine.address) && !files.is_complete && Path::new(id).is_absolute()
            };
            registry.apply_scan(
                &engine.address,
                engine.kind,
                version,
                listed,
                now,
                was_not_checked,
            );
        }
        for model in registry
            .engines
            .values_mut()
            .flat_map(|engine| engine.models.values_mut())
        {
            if args.reset {
                model.forget_tests();
            }
            if args.failed {
                model.failures = 0;
                model.last_failure = None;
            }
        }
        imported_count
    };
    let (imported_count, warnings) = client::registry_store(env).update(update)?;
    for warning in &warnings {
        messages.warning(warning);
    }
    for (engine, records) in &engines {
        messages.status(&format!(
            "{}: {}",
            engine.display_name,
            count(records.len(), "model")
        ));
    }
    if imported_count > 0 {
        let models = count(imported_count, "model");
        messages.status(&format!("imported {models} from lmstrix"));
    } else if is_import {
        messages.status("imported nothing from lmstrix: all of it is already known");
    }
    if args.json {
        let report = ScanReport {
            schema: 1,
            engines: engines
                .into_iter()
                .map(|(engine, records)| ScannedEngine {
                    address: engine.address,
                    kind: engine.kind,
                    version: engine.version,
                    models: records.into_iter().map(|(id, _)| id).collect(),
                    error: engine.models.err(),
                })
                .collect(),
            imported: imported_count,
            warnings,
        };
        print_json(&report, env)?;
    } else {
        messages.status("`list` prints them");
    }
    Ok(Exit::Done)
}

/// Reads the registry of the Python program.
fn read_import(path: &Path) -> Result<Vec<(String, ModelRecord)>, Failure> {
    let failure = |cause: String| {
        Failure::usage(format!("--import {}: {cause}", path.display()))
            .hint("the Python program stores it as lmstrix.json in LM Studio's folder")
    };
    let text =
        fs::read_to_string(path).map_err(|e| failure(lmstrix::error_chain::error_chain(&e)))?;
    import_lmstrix(&text).map_err(|e| failure(e.to_string()))
}

/// The files in LM Studio's models folder.
struct StudioFiles {
    /// The whole folder was read. Otherwise a missing file is not a removed model.
    is_complete: bool,
    /// The models that the embedded engine can run; their ids are their paths.
    models: Vec<CatalogModel>,
    /// By file size: the path below the folder, and the bytes per token of context.
    /// LM Studio's server does not report the file of a model. Two files of exactly the
    /// same size are rare; such a size is not used.
    by_size: BTreeMap<u64, Vec<(String, Option<u64>)>>,
}

impl Default for StudioFiles {
    fn default() -> Self {
        Self {
            is_complete: true,
            models: Vec::new(),
            by_size: BTreeMap::new(),
        }
    }
}

impl StudioFiles {
    /// Adds path and memory need to the record of an LM Studio model, if its file is known.
    fn add_file_facts(&self, model: &CatalogModel, record: &mut ModelRecord) {
        let size = model.size_bytes.unwrap_or(0);
        if let Some([(path, bytes_per_token)]) = self.by_size.get(&size).map(Vec::as_slice) {
            record.path = Some(path.clone());
            // The embedded engine's KV cache has 32 bits per number, LM Studio's 16.
            let bytes_per_token = bytes_per_token.map(|bytes| bytes / 2);
            record.context_bytes_per_token = record.context_bytes_per_token.or(bytes_per_token);
        }
    }
}

/// Reads the headers of all GGUF files in LM Studio's models folder.
fn studio_files(env: &Env, messages: Messages) -> StudioFiles {
    let mut files = StudioFiles::default();
    let Some(home) = client::lm_studio_home(env) else {
        files.is_complete = false;
        return files;
    };
    let folder = home.join("models");
    let (paths, is_complete) = lm_studio_model_files(&folder);
    files.is_complete = is_complete;
    let total = paths.len();
    for (number, path) in paths.into_iter().enumerate() {
        if number % 20 == 19 {
            messages.status(&format!(
                "read {number} of {total} files in {}",
                folder.display()
            ));
        }
        let Ok(size) = fs::metadata(&path).map(|metadata| metadata.len()) else {
            continue;
        };
        let model = CatalogModel::from_file(&path, EMBEDDED).ok();
        if let Some(relative) = studio_settings::relative_model_path(&folder, &path) {
            let bytes_per_token = model
                .as_ref()
                .and_then(|model| model.context_bytes_per_token);
            files
                .by_size
                .entry(size)
                .or_default()
                .push((relative, bytes_per_token));
        }
        if model.is_none() && fs::File::open(&path).is_err() {
            files.is_complete = false;
        }
        // A file that the embedded engine cannot run is not a problem: LM Studio can.
        files.models.extend(model);
    }
    files
}
