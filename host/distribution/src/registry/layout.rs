//! The manifest of a pack, and the files that a manifest describes.
//!
//! A component is an artifact in the layout of the CNCF for WebAssembly, with one layer; the
//! other files of the pack are in the component, see [`lmstrix_sandbox::bundle`]. A prompt file
//! is an OCI artifact with one layer per file. Sources:
//! <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/> and
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>.

use bytes::Bytes;
use lmstrix_sandbox::{Digest, PackFile, PackFiles, bundle, unbundle};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::{Value, json};

use crate::error::Error;

/// Media type of manifests.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of indices of manifests.
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Maximum number of files of an artifact.
const LAYERS_MAX: usize = 1_000;
/// Media type of the config of a component.
const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media types of components. The second one is that of Spin.
const WASM_TYPES: [&str; 2] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];
/// Media type of the config of an artifact that has no config.
const EMPTY_CONFIG_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Type of the artifact of a prompt file.
const PROMPTS_TYPE: &str = "application/vnd.lmstrix.prompts.v1";
/// The annotation with the file name of a layer.
const TITLE: &str = "org.opencontainers.image.title";
/// The time in the config, which is required. It is always the same, so that the same pack has
/// the same digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An artifact that can be pushed.
pub(super) struct Artifact {
    /// The contents of the config and the layers, by digest.
    pub(super) blobs: Vec<(String, Bytes)>,
    /// The manifest as JSON.
    pub(super) manifest: Bytes,
}

/// The names of the interfaces that a component imports and exports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interfaces<'a> {
    pub(super) imports: &'a [String],
    pub(super) exports: &'a [String],
}

/// Returns the artifact of a pack.
pub(super) fn artifact(pack: &PackFiles, interfaces: Interfaces<'_>) -> Artifact {
    let mut blobs = Vec::new();
    let mut blob = |media_type: &str, content: Vec<u8>, title: Option<&str>| {
        let digest = Digest::of(&content).to_string();
        let mut descriptor = json!({
            "mediaType": media_type,
            "digest": digest,
            "size": content.len(),
        });
        if let (Some(title), Some(fields)) = (title, descriptor.as_object_mut()) {
            fields.insert("annotations".to_owned(), json!({ TITLE: title }));
        }
        blobs.push((digest.clone(), Bytes::from(content)));
        (digest, descriptor)
    };
    let manifest = match bundle(pack) {
        Some(component) => {
            let [media_type, _] = WASM_TYPES;
            let title = format!("{}.wasm", pack.name);
            let (digest, layer) = blob(media_type, component, Some(&title));
            let config = json!({
                "created": CREATED,
                "architecture": "wasm",
                "os": "wasip2",
                "layerDigests": [digest],
                "component": {
                    "exports": interfaces.exports,
                    "imports": interfaces.imports,
                    "target": Value::Null,
                },
            });
            let (_, config) = blob(WASM_CONFIG_TYPE, config.to_string().into_bytes(), None);
            manifest(&config, &[layer], None)
        }
        None => {
            let layers = pack.files.iter().map(|file| {
                let is_toml = file.path.ends_with(".toml");
                let media_type = if is_toml {
                    "application/toml"
                } else {
                    "text/plain"
                };
                blob(media_type, file.bytes.clone(), Some(&file.path)).1
            });
            let layers: Vec<Value> = layers.collect();
            let (_, config) = blob(EMPTY_CONFIG_TYPE, b"{}".to_vec(), None);
            manifest(&config, &layers, Some(PROMPTS_TYPE))
        }
    };
    Artifact { blobs, manifest }
}

fn manifest(config: &Value, layers: &[Value], artifact_type: Option<&str>) -> Bytes {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    });
    if let (Some(artifact_type), Some(fields)) = (artifact_type, manifest.as_object_mut()) {
        fields.insert("artifactType".to_owned(), artifact_type.into());
    }
    manifest.to_string().into()
}

/// A layer that is a file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileLayer {
    /// The name of the file in the artifact; `None` for a component without a name.
    title: Option<String>,
    /// True for a component.
    pub(super) is_component: bool,
    /// The digest of the content.
    pub(super) digest: Digest,
    /// The size in bytes.
    pub(super) bytes: u64,
}

/// Returns the layers of a manifest. Each is a component, or has a file name.
///
/// # Errors
/// Returns an error if a layer is neither, or has an invalid digest or size, and if there are
/// several components or too many layers.
pub(super) fn file_layers(
    manifest: &OciImageManifest,
    address: &str,
) -> Result<Vec<FileLayer>, Error> {
    let layers = manifest
        .layers
        .iter()
        .map(|layer| file_layer(layer, address));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let components = layers.iter().filter(|layer| layer.is_component).count();
    let reason = match (layers.len(), components) {
        (0, _) => "the artifact has no files",
        (_, 2..) => "the artifact has several components",
        (LAYERS_MAX.., _) => "the artifact has too many files",
        _ => return Ok(layers),
    };
    Err(not_a_pack(address, reason.to_owned()))
}

fn file_layer(layer: &OciDescriptor, address: &str) -> Result<FileLayer, Error> {
    let title = layer
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(TITLE))
        .cloned();
    let is_component = WASM_TYPES.contains(&layer.media_type.as_str())
        || title.as_ref().is_some_and(|title| title.ends_with(".wasm"));
    if title.is_none() && !is_component {
        return Err(not_a_pack(
            address,
            format!(
                "it has a layer of the type `{}` without a file name",
                layer.media_type
            ),
        ));
    }
    let digest = layer
        .digest
        .parse()
        .map_err(|reason| not_a_pack(address, reason))?;
    let bytes = u64::try_from(layer.size)
        .map_err(|_| not_a_pack(address, "a layer has a negative size".to_owned()))?;
    Ok(FileLayer {
        title,
        is_component,
        digest,
        bytes,
    })
}

fn not_a_pack(address: &str, reason: String) -> Error {
    Error::NotAPack {
        address: address.to_owned(),
        reason,
    }
}

/// Returns the pack of an artifact's layers and their contents. Its name is that of the file, or
/// `default_name` for a component without one. Folders above all files are left out.
///
/// # Errors
/// Returns an error if the files are not those of one pack.
pub(super) fn pack_files(
    layers: Vec<(FileLayer, Vec<u8>)>,
    default_name: &str,
) -> Result<PackFiles, Error> {
    let title = |layer: &FileLayer| match &layer.title {
        Some(title) => title.clone(),
        None => format!("{default_name}.wasm"),
    };
    let main = layers
        .iter()
        .find(|(layer, _)| layer.is_component)
        .map(|(layer, _)| title(layer))
        .or_else(|| {
            let titles = layers.iter().map(|(layer, _)| title(layer));
            let files = titles.filter(|title| title.ends_with(".toml"));
            files.min_by_key(|title| title.matches('/').count())
        })
        .unwrap_or_default();
    let (above, file_name) = match main.rfind('/') {
        Some(slash) => main.split_at(slash + 1),
        None => ("", main.as_str()),
    };
    let stem = file_name
        .rsplit_once('.')
        .map_or(default_name, |(stem, _)| stem);
    // A name that is no pack name is replaced by the default, which the user can choose.
    let name = match lmstrix_sandbox::check_name(stem) {
        Ok(()) => stem,
        Err(_) => default_name,
    };
    let mut files = Vec::new();
    for (layer, bytes) in layers {
        let title = title(&layer);
        let path = title.strip_prefix(above).unwrap_or(&title);
        if layer.is_component {
            let unbundled = unbundle(name, &bytes)?;
            files.extend(unbundled.files);
        } else {
            let rest = path.strip_prefix(stem);
            files.push(PackFile {
                path: rest.map_or_else(|| path.to_owned(), |rest| format!("{name}{rest}")),
                bytes,
            });
        }
    }
    Ok(PackFiles::new(name, files)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(paths: &[&str]) -> PackFiles {
        let files = paths.iter().map(|path| PackFile {
            path: (*path).to_owned(),
            bytes: b"x".to_vec(),
        });
        PackFiles::new("a", files.collect()).unwrap()
    }

    /// The digest of `x`.
    const X: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

    #[test]
    fn a_component_has_the_layout_of_webassembly_artifacts() {
        let exports = ["lmstrix:prompts/catalog@0.1.0".to_owned()];
        let artifact = artifact(
            &pack(&["a.wasm"]),
            Interfaces {
                imports: &[],
                exports: &exports,
            },
        );
        let [(layer_digest, layer), (config_digest, config)] = artifact.blobs.as_slice() else {
            panic!("{}", artifact.blobs.len());
        };
        assert_eq!((layer_digest.as_str(), &layer[..]), (X, &b"x"[..]));
        let config_json: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(
            config_json,
            json!({
                "created": "1970-01-01T00:00:00Z",
                "architecture": "wasm",
                "os": "wasip2",
                "layerDigests": [X],
                "component": {
                    "exports": ["lmstrix:prompts/catalog@0.1.0"],
                    "imports": [],
                    "target": null,
                },
            })
        );
        let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        assert_eq!(
            manifest,
            json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.wasm.config.v0+json",
                    "digest": config_digest,
                    "size": config.len(),
                },
                "layers": [{
                    "mediaType": "application/wasm",
                    "digest": X,
                    "size": 1,
                    "annotations": { "org.opencontainers.image.title": "a.wasm" },
                }],
            })
        );
    }

    #[test]
    fn a_prompt_file_is_an_artifact_with_a_layer_for_each_file() {
        let artifact = artifact(&pack(&["a.toml", "a/b.txt"]), Interfaces::default());
        let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        let layer = |media_type: &str, title: &str| {
            json!({
                "mediaType": media_type,
                "digest": X,
                "size": 1,
                "annotations": { "org.opencontainers.image.title": title },
            })
        };
        assert_eq!(
            manifest,
            json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "artifactType": "application/vnd.lmstrix.prompts.v1",
                "config": {
                    "mediaType": "application/vnd.oci.empty.v1+json",
                    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                    "size": 2,
                },
                "layers": [layer("application/toml", "a.toml"), layer("text/plain", "a/b.txt")],
            })
        );
    }
}
