//! Builds packs from source, once per target folder. Uses the target folder of the host's
//! build script, so that wit-bindgen is compiled only once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: [&str; 4] = [
    "lmstrix-pack-hello",
    "lmstrix-pack-shout",
    "lmstrix-test-hostile",
    "lmstrix-test-changed",
];

/// Builds all packs and returns the folder of the components.
fn build_packs() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packs");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        cargo.args([
            "build",
            "--locked",
            "--profile",
            "pack",
            "--target",
            "wasm32-wasip2",
        ]);
        for package in PACKAGES {
            cargo.args(["--package", package]);
        }
        cargo.arg("--target-dir").arg(&target);
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            cargo.env_remove(name);
        }
        let output = cargo.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join("wasm32-wasip2/pack")
    })
}

/// Returns the path of the component of `lmstrix-pack-NAME` or `lmstrix-test-NAME`.
pub(crate) fn component(name: &str) -> PathBuf {
    let folder = build_packs();
    let paths = ["pack", "test"].map(|kind| folder.join(format!("lmstrix_{kind}_{name}.wasm")));
    paths.into_iter().find(|path| path.exists()).unwrap()
}
