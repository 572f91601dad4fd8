//! All engines and all their models: what `scan`, `ps` and `doctor` ask for.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::embedded::ModelFile;
use super::server::{self, Endpoint, Kind};
use super::{DEMO, DEMO_GGUF, EMBEDDED, Error, Reach, Wanted, claims};

/// A model that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its name at the server.
    pub id: String,
    /// Tokens of context, where known.
    pub context: Option<u32>,
    /// Whether this program loaded it.
    pub is_ours: bool,
}

/// A model that an engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// What `-m` takes.
    pub id: String,
    /// Other names for exactly this model.
    pub aliases: Vec<String>,
    /// Tokens of context that it was made for.
    pub declared: Option<u32>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// How the weights are stored.
    pub quantization: Option<String>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// Bytes that one token of context takes.
    pub context_bytes_per_token: Option<u64>,
    /// Whether it sees pictures.
    pub vision: bool,
    /// Whether it was trained to call tools.
    pub tools: bool,
    /// Whether it only makes embeddings.
    pub embeds_only: bool,
    /// Its instances.
    pub instances: Vec<Offered>,
}

/// One engine and what it has.
#[derive(Clone, Debug)]
pub struct Place {
    /// A server's address, or `embedded`.
    pub place: String,
    /// `lmstudio`, `ollama`, …
    pub kind: &'static str,
    /// As messages name it.
    pub shown: String,
    /// Its version, where it tells.
    pub version: Option<String>,
    /// Its models, or why they cannot be had.
    pub models: Result<Vec<Offer>, String>,
    /// Files that are no models, and why.
    pub problems: Vec<String>,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The engines in the order of their addresses, the embedded one last.
    pub places: Vec<Place>,
    /// Why no server is among them, when none is.
    pub refused: Option<Error>,
}

/// Asks all engines for what they have. `models` is the embedded engine's
/// folder, `state` that of the claims; `seen` is told of each model file that
/// is about to be read.
///
/// # Errors
/// Never for one engine among several: what is wrong with each is said beside
/// the others.
pub async fn survey(
    wanted: &Wanted,
    models: &Path,
    state: &Path,
    reach: Reach,
    seen: &mut (dyn FnMut(&Path) + Send),
) -> Survey {
    let (endpoints, named): (&[Endpoint], bool) = match wanted {
        Wanted::Embedded => (&[], false),
        Wanted::Servers(endpoints) => (endpoints, endpoints.len() == 1),
        Wanted::Auto(endpoints) => (endpoints, false),
    };
    let mut survey = Survey::default();
    if !endpoints.is_empty() {
        match server::survey(endpoints, named, reach).await {
            Ok(found) => survey.places = found,
            Err(error) => survey.refused = Some(error),
        }
    }
    for place in &mut survey.places {
        let claims = claims::peek(state, &place.place);
        for offer in place.models.iter_mut().flatten() {
            for it in &mut offer.instances {
                it.is_ours = claims::is_ours(&claims, &it.id, it.context);
            }
        }
    }
    if !matches!(wanted, Wanted::Servers(_)) {
        survey.places.push(embedded(models, seen));
    }
    survey
}

/// The demo model and the files of the folder.
fn embedded(models: &Path, seen: &mut (dyn FnMut(&Path) + Send)) -> Place {
    let mut files: Vec<PathBuf> = fs::read_dir(models)
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == "gguf"))
        .collect();
    files.sort();
    let mut problems = Vec::new();
    let mut offers = Vec::new();
    match ModelFile::from_bytes(DEMO, DEMO_GGUF) {
        Ok(file) => offers.push(offer(DEMO.to_owned(), &file)),
        Err(error) => problems.push(error.to_string()),
    }
    for path in files {
        seen(&path);
        let name = path.file_stem().and_then(|it| it.to_str());
        let opened = ModelFile::open(&path).and_then(|it| it.check_supported().map(|()| it));
        match (name, opened) {
            (Some(name), Ok(file)) => offers.push(offer(name.to_owned(), &file)),
            (None, _) => problems.push(format!("{}: its name is not UTF-8", path.display())),
            (_, Err(error)) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    Place {
        place: EMBEDDED.to_owned(),
        kind: EMBEDDED,
        shown: "the embedded engine".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        models: Ok(offers),
        problems,
    }
}

/// What a model's file says of itself, for files anywhere.
///
/// # Errors
/// It is no model that the embedded engine runs.
pub(super) fn of_file(path: &Path) -> Result<Offer, Error> {
    let file = ModelFile::open(path)?;
    file.check_supported()?;
    Ok(offer(path.display().to_string(), &file))
}

fn offer(id: String, file: &ModelFile) -> Offer {
    Offer {
        id,
        declared: Some(file.context_length()),
        architecture: Some(file.architecture().to_owned()),
        quantization: Some(file.quantization()),
        size_bytes: Some(file.size_bytes()),
        context_bytes_per_token: Some(file.context_bytes_per_token()),
        ..Offer::default()
    }
}

impl Offer {
    /// What a model's file says of itself, for files anywhere.
    ///
    /// # Errors
    /// It is no model that the embedded engine runs.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        of_file(path)
    }
}

/// Unloads instances of a server: those that this program loaded, or with
/// `force` whoever did. Gives those that were left alone. `lms` is LM Studio's
/// own program, for servers of it that are too old to unload.
///
/// # Errors
/// The server cannot, or cannot be reached.
pub async fn unload(
    endpoint: &Endpoint,
    instances: &[(String, Offered)],
    force: bool,
    state: &Path,
    lms: Option<&Path>,
    reach: Reach,
) -> Result<Vec<String>, Error> {
    server::unload(endpoint, instances, force, state, lms, reach).await
}

impl Kind {
    /// Whether this kind of server loads and unloads while it runs.
    #[must_use]
    pub fn loads(self) -> bool {
        matches!(self, Self::LmStudio | Self::Ollama | Self::LlamaRouter)
    }
}
