//! `scan`: asks every engine, and remembers what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::Serialize;

use super::{count, print_json, problems, start};
use crate::args::Scan;
use crate::command::resolve_args;
use crate::engine::{EMBEDDED, Offer, Place, Wanted, survey};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::Interrupt;
use crate::registry::{ModelRecord, import};
use crate::sink::Messages;
use crate::studio_settings;

/// How deep LM Studio's folder of models is: publisher, repository, file.
const DEPTH: usize = 4;

/// What `--json` prints.
#[derive(Serialize)]
struct Found {
    schema: u32,
    engines: Vec<FoundEngine>,
    imported: usize,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct FoundEngine {
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
pub(crate) async fn scan(args: Scan, env: &Env, interrupt: Interrupt<'_>) -> Result<Exit, Failure> {
    let begun = start(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let imported = args.import.as_deref().map(read_import).transpose()?;
    let state = resolve_args::claims(env);
    let models = env.paths.data.join("models");
    let mut seen = |path: &Path| tracing::debug!(path = %path.display(), "reads a model file");
    let mut asked = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        it = survey(&begun.wanted, &models, &state, begun.reach, &mut seen) => it,
    };
    if let Some(refused) = asked.refused.take() {
        if !matches!(begun.wanted, Wanted::Auto(_)) {
            return Err(refused.into());
        }
        messages.status(&format!("{refused}"));
    }
    problems(&asked, messages);
    let mut files = Files::default();
    if args.no_files {
        files.is_whole = false;
    } else if !matches!(begun.wanted, Wanted::Servers(_)) {
        files = studio_files(env, messages);
    }
    let mut places: Vec<(Place, Vec<(String, ModelRecord)>)> = Vec::new();
    for place in asked.places {
        let mut records: Vec<(String, ModelRecord)> = Vec::new();
        for offer in place.models.iter().flatten() {
            let mut record = record(offer);
            files.complete(offer, &mut record);
            records.push((offer.id.clone(), record));
        }
        if place.place == EMBEDDED {
            records.extend(files.offers.iter().map(|it| (it.id.clone(), record(it))));
        }
        places.push((place, records));
    }
    let now = Timestamp::now();
    let import_place = places
        .iter()
        .find(|(place, _)| place.kind == "lmstudio")
        .map(|(it, _)| it.place.clone())
        .or_else(|| resolve_args::usual_studio(env, messages))
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
            gained += usize::from(engine.models.entry(name).or_default().fill(old));
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
                place.place == EMBEDDED && !files.is_whole && Path::new(id).is_absolute()
            };
            registry.scanned(&place.place, place.kind, version, said, now, is_unseen);
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
    let (imported_count, warnings) = resolve_args::store(env).update(update)?;
    for warning in &warnings {
        messages.warning(warning);
    }
    for (place, records) in &places {
        messages.status(&format!(
            "{}: {}",
            place.shown,
            count(records.len(), "model")
        ));
    }
    if imported_count > 0 {
        let models = count(imported_count, "model");
        messages.status(&format!("taken over from lmstrix: {models}"));
    } else if is_import {
        messages.status("taken over from lmstrix: nothing that was not known already");
    }
    if args.json {
        let found = Found {
            schema: 1,
            engines: places
                .into_iter()
                .map(|(place, records)| FoundEngine {
                    place: place.place,
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
    let text = fs::read_to_string(path).map_err(|e| wrong(crate::error::chain(&e)))?;
    import(&text).map_err(|e| wrong(e.to_string()))
}

/// What an engine says of a model, as the registry keeps it.
pub(in crate::command) fn record(offer: &Offer) -> ModelRecord {
    ModelRecord {
        aliases: offer.aliases.clone(),
        architecture: offer.architecture.clone(),
        quantization: offer.quantization.clone(),
        size_bytes: offer.size_bytes,
        declared_context: offer.declared,
        context_bytes_per_token: offer.context_bytes_per_token,
        vision: offer.vision,
        tools: offer.tools,
        embeds_only: offer.embeds_only,
        loaded: offer.instances.iter().map(|it| it.context).collect(),
        ..ModelRecord::default()
    }
}

/// What lies in LM Studio's folder of models.
struct Files {
    /// Whether all of the folder was looked at: what was not is not gone.
    is_whole: bool,
    /// Those that the embedded engine can run; their names are their paths.
    offers: Vec<Offer>,
    /// By size: the path below the folder, and bytes per token of context.
    /// LM Studio's server does not tell which file a model is, and two models
    /// of exactly one size are rare; where they occur, nothing is claimed.
    by_size: BTreeMap<u64, Vec<(String, Option<u64>)>>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            is_whole: true,
            offers: Vec::new(),
            by_size: BTreeMap::new(),
        }
    }
}

impl Files {
    fn complete(&self, offer: &Offer, record: &mut ModelRecord) {
        let size = offer.size_bytes.unwrap_or(0);
        if let Some([(path, per_token)]) = self.by_size.get(&size).map(Vec::as_slice) {
            record.path = Some(path.clone());
            // The embedded engine keeps 32 bits of each number, LM Studio 16.
            let per_token = per_token.map(|it| it / 2);
            record.context_bytes_per_token = record.context_bytes_per_token.or(per_token);
        }
    }
}

fn studio_files(env: &Env, messages: Messages) -> Files {
    let mut files = Files::default();
    let Some(home) = resolve_args::studio_home(env) else {
        files.is_whole = false;
        return files;
    };
    let folder = home.join("models");
    let mut paths = Vec::new();
    files.is_whole = gguf_files(&folder, DEPTH, &mut paths);
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
        let offer = Offer::of_file(&path).ok();
        if let Some(below) = studio_settings::below(&folder, &path) {
            let per_token = offer.as_ref().and_then(|it| it.context_bytes_per_token);
            files
                .by_size
                .entry(size)
                .or_default()
                .push((below, per_token));
        }
        if offer.is_none() && fs::File::open(&path).is_err() {
            files.is_whole = false;
        }
        // What the embedded engine cannot run is no problem: LM Studio can.
        files.offers.extend(offer);
    }
    files
}

/// Finds them; whether all that there is could be looked at.
fn gguf_files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> bool {
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
            is_whole &= gguf_files(&path, depth, found);
        } else if path
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
        {
            found.push(path);
        }
    }
    is_whole
}
