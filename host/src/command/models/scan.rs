//! `scan`: asks every engine, and remembers what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::Serialize;

use super::{command_setup, format_count, print_json, warn_about_problems};
use crate::args::ScanArgs;
use crate::client;
use crate::engine::{CatalogEngine, CatalogModel, EMBEDDED, EngineSelection, query_catalog};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::Cancel;
use crate::registry::{ModelRecord, import_lmstrix};
use crate::sink::Messages;
use crate::studio_settings;

/// How deep LM Studio's folder of models is: publisher, repository, file.
const STUDIO_FOLDER_DEPTH: usize = 4;

/// What `--json` prints.
#[derive(Serialize)]
struct ScanReport {
    schema: u32,
    engines: Vec<ScannedEngine>,
    imported: usize,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ScannedEngine {
    place: String,
    kind: &'static str,
    version: Option<String>,
    models: Vec<String>,
    error: Option<String>,
}

/// Runs `scan`.
///
/// # Errors
/// The registry cannot be written, or the one engine that was named does not
/// answer.
pub(crate) async fn scan(
    args: ScanArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let begun = command_setup(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let imported = args.import.as_deref().map(read_import).transpose()?;
    let state = client::ownership_folder(env);
    let models = env.paths.data.join("models");
    let mut seen = |path: &Path| tracing::debug!(path = %path.display(), "reads a model file");
    let mut asked = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        it = query_catalog(&begun.selection, &models, &state, begun.connect_timeouts, &mut seen) => it,
    };
    if let Some(refused) = asked.server_error.take() {
        if !matches!(begun.selection, EngineSelection::Auto(_)) {
            return Err(refused.into());
        }
        messages.status(&format!("{refused}"));
    }
    warn_about_problems(&asked, messages);
    let mut files = StudioFiles::default();
    if args.no_files {
        files.is_complete = false;
    } else if !matches!(begun.selection, EngineSelection::Servers(_)) {
        files = studio_files(env, messages);
    }
    let mut places: Vec<(CatalogEngine, Vec<(String, ModelRecord)>)> = Vec::new();
    for place in asked.engines {
        let mut records: Vec<(String, ModelRecord)> = Vec::new();
        for offer in place.models.iter().flatten() {
            let mut record = client::model_record(offer);
            files.add_file_facts(offer, &mut record);
            records.push((offer.id.clone(), record));
        }
        if place.address == EMBEDDED {
            records.extend(
                files
                    .models
                    .iter()
                    .map(|it| (it.id.clone(), client::model_record(it))),
            );
        }
        places.push((place, records));
    }
    let now = Timestamp::now();
    let import_place = places
        .iter()
        .find(|(place, _)| place.kind == "lmstudio")
        .map(|(it, _)| it.address.clone())
        .or_else(|| client::default_lm_studio_address(env, messages))
        .unwrap_or_else(|| "http://127.0.0.1:1234".to_owned());
    let is_import = imported.is_some();
    let update = |registry: &mut crate::registry::Registry| {
        let mut gained = 0;
        for (id, old) in imported.into_iter().flatten() {
            let engine = registry.engines.entry(import_place.clone()).or_default();
            if engine.kind.is_empty() {
                "lmstudio".clone_into(&mut engine.kind);
            }
            let mut known = engine.models.iter();
            let name = known
                .find(|(name, model)| model.is_named(name, &id))
                .map_or(id, |(name, _)| name.clone());
            gained += usize::from(engine.models.entry(name).or_default().fill_missing(old));
        }
        for (place, records) in &places {
            let version = place.version.as_deref();
            let said = if place.models.is_ok() {
                records.clone()
            } else {
                Vec::new()
            };
            // Of files in LM Studio's folder the name is the path.
            let is_unseen = |id: &str| {
                place.address == EMBEDDED && !files.is_complete && Path::new(id).is_absolute()
            };
            registry.apply_scan(&place.address, place.kind, version, said, now, is_unseen);
        }
        for model in registry
            .engines
            .values_mut()
            .flat_map(|it| it.models.values_mut())
        {
            if args.reset {
                model.forget_tests();
            }
            if args.failed {
                model.failures = 0;
                model.last_failure = None;
            }
        }
        gained
    };
    let (imported_count, warnings) = client::registry_store(env).update(update)?;
    for warning in &warnings {
        messages.warning(warning);
    }
    for (place, records) in &places {
        messages.status(&format!(
            "{}: {}",
            place.display_name,
            format_count(records.len(), "model")
        ));
    }
    if imported_count > 0 {
        let models = format_count(imported_count, "model");
        messages.status(&format!("taken over from lmstrix: {models}"));
    } else if is_import {
        messages.status("taken over from lmstrix: nothing that was not known already");
    }
    if args.json {
        let found = ScanReport {
            schema: 1,
            engines: places
                .into_iter()
                .map(|(place, records)| ScannedEngine {
                    place: place.address,
                    kind: place.kind,
                    version: place.version,
                    models: records.into_iter().map(|(id, _)| id).collect(),
                    error: place.models.err(),
                })
                .collect(),
            imported: imported_count,
            warnings,
        };
        print_json(&found, env)?;
    } else {
        messages.status("`list` shows them");
    }
    Ok(Exit::Done)
}

fn read_import(path: &Path) -> Result<Vec<(String, ModelRecord)>, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("--import {}: {why}", path.display()))
            .hint("the Python program keeps it as lmstrix.json in LM Studio's folder")
    };
    let text = fs::read_to_string(path).map_err(|e| wrong(crate::error::error_chain(&e)))?;
    import_lmstrix(&text).map_err(|e| wrong(e.to_string()))
}

/// What lies in LM Studio's folder of models.
struct StudioFiles {
    /// Whether all of the folder was looked at: what was not is not gone.
    is_complete: bool,
    /// Those that the embedded engine can run; their names are their paths.
    models: Vec<CatalogModel>,
    /// By size: the path below the folder, and bytes per token of context.
    /// LM Studio's server does not tell which file a model is, and two models
    /// of exactly one size are rare; where they occur, nothing is claimed.
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
    fn add_file_facts(&self, offer: &CatalogModel, record: &mut ModelRecord) {
        let size = offer.size_bytes.unwrap_or(0);
        if let Some([(path, per_token)]) = self.by_size.get(&size).map(Vec::as_slice) {
            record.path = Some(path.clone());
            // The embedded engine keeps 32 bits of each number, LM Studio 16.
            let per_token = per_token.map(|it| it / 2);
            record.context_bytes_per_token = record.context_bytes_per_token.or(per_token);
        }
    }
}

fn studio_files(env: &Env, messages: Messages) -> StudioFiles {
    let mut files = StudioFiles::default();
    let Some(home) = client::lm_studio_home(env) else {
        files.is_complete = false;
        return files;
    };
    let folder = home.join("models");
    let mut paths = Vec::new();
    files.is_complete = find_gguf_files(&folder, STUDIO_FOLDER_DEPTH, &mut paths);
    let all = paths.len();
    for (number, path) in paths.into_iter().enumerate() {
        if number % 20 == 19 {
            messages.status(&format!(
                "read {number} of {all} files in {}",
                folder.display()
            ));
        }
        let Ok(size) = fs::metadata(&path).map(|it| it.len()) else {
            continue;
        };
        let offer = CatalogModel::from_file(&path).ok();
        if let Some(below) = studio_settings::relative_model_path(&folder, &path) {
            let per_token = offer.as_ref().and_then(|it| it.context_bytes_per_token);
            files
                .by_size
                .entry(size)
                .or_default()
                .push((below, per_token));
        }
        if offer.is_none() && fs::File::open(&path).is_err() {
            files.is_complete = false;
        }
        // What the embedded engine cannot run is no problem: LM Studio can.
        files.models.extend(offer);
    }
    files
}

/// Finds them; whether all that there is could be looked at.
fn find_gguf_files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return true;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let mut is_whole = true;
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(_) => is_whole = false,
        }
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            is_whole &= find_gguf_files(&path, depth, found);
        } else if path
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
        {
            found.push(path);
        }
    }
    is_whole
}
