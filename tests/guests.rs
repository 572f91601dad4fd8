//! Builds packs from source, once per target folder. It shares the folder that
//! the host's build script built the standard pack in, so wit-bindgen is
//! compiled once.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: [&str; 4] = [
    "lmstrix-pack-hello",
    "lmstrix-pack-shout",
    "lmstrix-test-hostile",
    "lmstrix-test-changed",
];

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let target = PathBuf::from(concat!(env!("OUT_DIR"), "/pack"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
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

/// The component of `lmstrix-pack-NAME` or `lmstrix-test-NAME`.
pub(crate) fn component(name: &str) -> PathBuf {
    let names = ["pack", "test"].map(|kind| folder().join(format!("lmstrix_{kind}_{name}.wasm")));
    names.into_iter().find(|path| path.exists()).unwrap()
}
