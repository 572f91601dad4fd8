//! `pack add`, `pull`, `push`, `update`, `remove`, `verify` and `lock`, and runs with `--locked`.

/// A registry from Debian, and the clients of other projects.
mod docker_registry;
/// Files, folders and URLs as sources.
mod files;
/// Runs that refuse packs which are not locked or pinned.
mod locked;
/// Faults of registries and of their artifacts.
mod oci_faults;

use std::path::Path;

use sha2::Digest;

use crate::support::Machine;

/// Returns a digest as the program writes it.
fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns the paths and contents of all files in a folder and its folders, sorted.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push((name.replace('\\', "/"), std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Returns the paths of all files in a folder and its folders, sorted.
fn paths(folder: &Path) -> Vec<String> {
    tree(folder).into_iter().map(|(path, _)| path).collect()
}

/// A prompt file with one prompt.
const PROMPT_FILE: &str = "[greet]\nprompt = \"Greet {{name}}.\"\n";

/// Writes a pack of three files into a folder of the machine.
fn write_pack(machine: &Machine, folder: &str) {
    let component = std::fs::read(crate::guests::component("glossary")).unwrap();
    machine.write(&format!("{folder}/glossary.wasm"), component);
    machine.write(
        &format!("{folder}/glossary.csv"),
        "term,translation\nserver,Server\n",
    );
    machine.write(
        &format!("{folder}/glossary/more.csv"),
        "term,translation\nkey,Schlüssel\n",
    );
}
