//! The models in Ollama's folder: a manifest names the blob that is the GGUF file.

use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;

use super::NamedFile;

/// The host of the models that Ollama names without a host.
const DEFAULT_HOST: &str = "registry.ollama.ai";
/// The namespace that Ollama's names leave out.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag that Ollama's names may leave out.
const DEFAULT_TAG: &str = "latest";
/// The media type of the layer that is the GGUF file.
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";
/// The media type of a layer that changes the model. Models with one are left out.
const ADAPTER_LAYER: &str = "application/vnd.ollama.image.adapter";
/// Manifests have some hundred bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// The levels of folders: host, namespace, model; the file is the tag.
const MANIFEST_LEVELS: usize = 3;

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// Returns the models of a folder. What cannot be read is left out.
pub(super) fn files(folder: &Path) -> Vec<NamedFile> {
    let root = folder.join("manifests");
    let mut manifests = vec![root.clone()];
    for _ in 0..=MANIFEST_LEVELS {
        manifests = manifests.iter().flat_map(|path| entries(path)).collect();
    }
    manifests.sort();
    let named = manifests.into_iter().filter_map(|path| {
        let (name, alias) = names(path.strip_prefix(&root).ok()?)?;
        Some(NamedFile {
            name,
            aliases: alias.into_iter().collect(),
            path: blob(folder, &path)?,
        })
    });
    named.collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns the name of a model by the path of its manifest, and the name without its tag if
/// Ollama knows it by that, too.
fn names(manifest: &Path) -> Option<(String, Option<String>)> {
    let parts: Option<Vec<&str>> = manifest.iter().map(|part| part.to_str()).collect();
    let parts = parts?;
    let [host, namespace, model, tag] = parts.as_slice() else {
        return None;
    };
    let base = match (*host, *namespace) {
        (DEFAULT_HOST, DEFAULT_NAMESPACE) => (*model).to_owned(),
        (DEFAULT_HOST, namespace) => format!("{namespace}/{model}"),
        (host, namespace) => format!("{host}/{namespace}/{model}"),
    };
    let alias = (*tag == DEFAULT_TAG).then(|| base.clone());
    Some((format!("{base}:{tag}"), alias))
}

/// Returns the GGUF file that a manifest names, if it exists.
fn blob(folder: &Path, manifest: &Path) -> Option<PathBuf> {
    let mut text = String::new();
    let file = fs::File::open(manifest).ok()?;
    file.take(MANIFEST_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let of_type = |media_type: &str| {
        let mut layers = manifest.layers.iter();
        layers.find(|layer| layer.media_type == media_type)
    };
    if of_type(ADAPTER_LAYER).is_some() {
        return None;
    }
    let layer = of_type(MODEL_LAYER)?;
    let digest = layer.digest.strip_prefix("sha256:")?;
    // The digest becomes a part of a path.
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let path = folder.join("blobs").join(format!("sha256-{digest}"));
    path.is_file().then_some(path)
}
