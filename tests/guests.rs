//! Builds packs from source, once per test process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

const PACKAGES: [&str; 6] = [
    "lmstrix-pack-standard",
    "lmstrix-pack-hello",
    "lmstrix-pack-shout",
    "lmstrix-pack-glossary",
    "lmstrix-test-hostile",
    "lmstrix-test-changed",
];

const TARGET: &str = "wasm32-wasip2";

/// Builds all packs and returns the folder of the components.
fn build_packs() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let target_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packs");
        let mut cargo = cargo();
        cargo.args(["build", "--locked", "--profile", "pack"]);
        cargo.args(["--target", TARGET, "--target-dir"]);
        cargo.arg(&target_folder);
        for package in PACKAGES {
            cargo.args(["--package", package]);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", remap_flags().join("\x1f"));
        output(&mut cargo);
        target_folder.join(TARGET).join("pack")
    })
}

/// Returns the compiler flags that remove the paths of this machine from a pack. With the
/// same compiler on the same platform its bytes are then the same on every machine.
///
/// A pack contains the paths of its source files, for the messages of panics. Cargo passes
/// those of this workspace as relative paths.
fn remap_flags() -> Vec<String> {
    let metadata = output(cargo().args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        TARGET,
    ]));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let registry_folders: BTreeSet<&Path> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| !package["source"].is_null())
        .map(|package| Path::new(package["manifest_path"].as_str().unwrap()))
        .map(|manifest| manifest.ancestors().nth(2).unwrap())
        .collect();
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
    // With the component `rust-src`, the compiler names these files instead of the second path.
    let standard_library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    let standard_library_name = format!("/rustc/{}", compiler_version("commit-hash: "));
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    registry_folders
        .into_iter()
        .map(|folder| remap(folder, "/crates"))
        .chain([remap(&standard_library, &standard_library_name)])
        .collect()
}

/// Returns the value of a line of `rustc --version --verbose` that starts with `key`.
pub(crate) fn compiler_version(key: &str) -> String {
    let version = output(Command::new("rustc").args(["--version", "--verbose"]));
    let value = version.lines().find_map(|line| line.strip_prefix(key));
    value.unwrap().to_owned()
}

/// Returns the command `cargo` in the root of the workspace, without the flags and wrappers of
/// the build of the host.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command and returns its stdout.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the path of the component of `lmstrix-pack-NAME` or `lmstrix-test-NAME`.
pub(crate) fn component(name: &str) -> PathBuf {
    let folder = build_packs();
    let paths = ["pack", "test"].map(|kind| folder.join(format!("lmstrix_{kind}_{name}.wasm")));
    paths.into_iter().find(|path| path.exists()).unwrap()
}
