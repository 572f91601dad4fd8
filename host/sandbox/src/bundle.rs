//! A pack as one file: its other files are in a custom section of the component, which
//! WebAssembly tools ignore. So it travels as a plain component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Parser, Payload};

use super::error::Error;
use super::pack_files::{PackFile, PackFiles};

/// Name of the custom section.
const SECTION: &str = "lmstrix:files";
/// The ID of custom sections in WebAssembly's binary format.
const CUSTOM_SECTION_ID: u8 = 0;

/// The content of the section, as JSON.
#[derive(Serialize, Deserialize)]
struct Section {
    /// Texts by path, without the pack's name: `.toml`, `/FILE`.
    files: BTreeMap<String, String>,
}

/// Returns the files of a pack as one file: the component with the other files inside. `None` if
/// the pack has no component.
#[must_use]
pub fn bundle(pack: &PackFiles) -> Option<Vec<u8>> {
    let component_path = format!("{}.wasm", pack.name);
    let component = pack.files.iter().find(|file| file.path == component_path)?;
    let others = pack.files.iter().filter(|file| file.path != component_path);
    let files: BTreeMap<String, String> = others
        .filter_map(|file| {
            let path = file.path.strip_prefix(&pack.name)?;
            let text = String::from_utf8_lossy(&file.bytes);
            Some((path.to_owned(), text.into_owned()))
        })
        .collect();
    let mut bytes = component.bytes.clone();
    if !files.is_empty() {
        let content = serde_json::to_vec(&Section { files }).ok()?;
        let mut section = Vec::new();
        write_length(&mut section, SECTION.len());
        section.extend_from_slice(SECTION.as_bytes());
        section.extend_from_slice(&content);
        bytes.push(CUSTOM_SECTION_ID);
        write_length(&mut bytes, section.len());
        bytes.extend_from_slice(&section);
    }
    Some(bytes)
}

/// Writes a length as unsigned LEB128, the number format of WebAssembly.
fn write_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Returns the files of a pack from its component, as [`bundle`] made it, or as any other tool
/// did: then it is the only file.
///
/// # Errors
/// Returns an error if the name or the section is invalid.
pub fn unbundle(name: &str, component: &[u8]) -> Result<PackFiles, Error> {
    let invalid = |reason| Error::InvalidPackFile {
        pack: name.to_owned(),
        path: format!("{name}.wasm"),
        reason,
    };
    let mut plain = component.to_vec();
    let mut files = Vec::new();
    if let Some((section, content)) = find_section(component) {
        plain.drain(section);
        let section: Section = serde_json::from_slice(content)
            .map_err(|_| invalid("its section `lmstrix:files` is invalid"))?;
        files = section
            .files
            .into_iter()
            .map(|(path, text)| PackFile {
                path: format!("{name}{path}"),
                bytes: text.into_bytes(),
            })
            .collect();
        if find_section(&plain).is_some() {
            return Err(invalid("it has two sections `lmstrix:files`"));
        }
    }
    files.push(PackFile {
        path: format!("{name}.wasm"),
        bytes: plain,
    });
    PackFiles::new(name, files)
}

/// Returns whether a component holds other files of the pack, which loading it does not use.
pub(super) fn is_bundle(component: &[u8]) -> bool {
    find_section(component).is_some()
}

/// Finds the section in a component, and not in the modules within it. Returns its range with
/// its header, and its content.
fn find_section(component: &[u8]) -> Option<(std::ops::Range<usize>, &[u8])> {
    let mut offset = 0;
    let mut parser = Parser::new(0);
    loop {
        let rest = component.get(offset..)?;
        let wasmparser::Chunk::Parsed { consumed, payload } = parser.parse(rest, true).ok()? else {
            return None;
        };
        let start = offset;
        offset += consumed;
        match payload {
            Payload::Version { encoding, .. } if encoding != Encoding::Component => return None,
            Payload::CustomSection(section) if section.name() == SECTION => {
                return Some((start..offset, section.data()));
            }
            // Skipped as a whole.
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } => offset = unchecked_range.end,
            Payload::End(_) => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::STANDARD_WASM;

    fn pack(files: &[(&str, &str)]) -> PackFiles {
        let component = PackFile {
            path: "a.wasm".to_owned(),
            bytes: STANDARD_WASM.to_vec(),
        };
        let others = files.iter().map(|(path, text)| PackFile {
            path: (*path).to_owned(),
            bytes: text.as_bytes().to_vec(),
        });
        PackFiles::new("a", others.chain([component]).collect()).unwrap()
    }

    #[test]
    fn a_bundle_is_a_valid_component_with_all_files() {
        let long = "ü\0\n".repeat(100_000);
        for files in [
            &[][..],
            &[("a.toml", "")],
            &[
                ("a", "x"),
                ("a.toml", &long),
                ("a/b.csv", "\u{feff}1,2\r\n"),
            ],
        ] {
            let pack = pack(files);
            let bytes = bundle(&pack).unwrap();
            assert_eq!(is_bundle(&bytes), !files.is_empty());
            wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::default())
                .validate_all(&bytes)
                .unwrap();
            assert_eq!(unbundle("a", &bytes).unwrap(), pack);
            // The name is that of the file.
            let renamed = unbundle("b.c", &bytes).unwrap();
            assert_eq!(renamed, pack.renamed("b.c").unwrap());
        }
    }

    #[test]
    fn a_prompt_file_is_no_bundle() {
        let file = PackFile {
            path: "a.toml".to_owned(),
            bytes: Vec::new(),
        };
        assert_eq!(bundle(&PackFiles::new("a", vec![file]).unwrap()), None);
    }

    #[test]
    fn invalid_sections_are_errors_and_cut_files_are_plain() {
        let two = {
            let mut bytes = bundle(&pack(&[("a.toml", "x")])).unwrap();
            bytes.extend_from_slice(&bytes.clone()[STANDARD_WASM.len()..]);
            bytes
        };
        unbundle("a", &two).unwrap_err();
        let whole = bundle(&pack(&[("a.toml", "x")])).unwrap();
        for end in [0, 4, 8, 9, 100, STANDARD_WASM.len(), whole.len() - 1] {
            let cut = &whole[..end];
            let files = unbundle("a", cut).unwrap().files;
            assert_eq!(files.len(), 1, "{end}");
            assert_eq!(files[0].bytes, cut);
        }
        let broken = String::from_utf8_lossy(&whole[STANDARD_WASM.len()..]).replace('{', "[");
        let broken = [STANDARD_WASM, broken.as_bytes()].concat();
        let error = unbundle("a", &broken).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid pack `a`: `a.wasm`: its section `lmstrix:files` is invalid"
        );
    }
}
