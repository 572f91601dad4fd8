//! Builds the standard pack (`guest-prompts/standard`) into `OUT_DIR`.

#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a build script communicates with cargo by stderr and environment"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";
const PACKAGE: &str = "lmstrix-pack-standard";

fn main() {
    if let Err(message) = build() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest = env_path("CARGO_MANIFEST_DIR")?;
    let out = env_path("OUT_DIR")?;
    let workspace = manifest.join("../..");
    let guest = workspace.join("guest-prompts/standard");
    copy(&guest.join("stock.toml"), &out.join("stock.toml"))?;
    for watched in ["guest-prompts/standard", "wit", "Cargo.toml", "Cargo.lock"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    let target_dir = out.join("pack");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--locked",
            "--profile",
            "pack",
            "--target",
            TARGET,
            "--package",
            PACKAGE,
        ])
        // The outer cargo process holds the lock of its target folder.
        .arg("--target-dir")
        .arg(&target_dir);
    // These flags and wrappers apply to the build of the host only.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
    ] {
        cargo.env_remove(name);
    }
    let output = cargo
        .output()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let hint = if stderr.contains(TARGET) && stderr.contains("not be installed") {
            format!("\nhint: install the WebAssembly target: rustup target add {TARGET}")
        } else {
            String::new()
        };
        return Err(format!("cannot build the standard pack:\n{stderr}{hint}"));
    }
    copy(
        &target_dir
            .join(TARGET)
            .join("pack")
            .join("lmstrix_pack_standard.wasm"),
        &out.join("standard.wasm"),
    )
}

fn env_path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|e| format!("cannot copy {} to {}: {e}", from.display(), to.display()))
}
