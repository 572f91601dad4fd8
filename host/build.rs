//! Builds the standard pack (`guest-prompts/standard`) into `OUT_DIR`.

#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a build script speaks to cargo, by stderr and environment"
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
    let manifest = path("CARGO_MANIFEST_DIR")?;
    let out = path("OUT_DIR")?;
    let to = out.join("standard.wasm");
    let stock_to = out.join("stock.toml");
    let workspace = manifest.join("..");
    let guest = workspace.join("guest-prompts/standard");
    copy(&guest.join("stock.toml"), &stock_to)?;
    for watched in ["guest-prompts/standard", "wit", "Cargo.toml", "Cargo.lock"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    let target = out.join("pack");
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
        // The outer cargo holds the lock on its own target folder.
        .arg("--target-dir")
        .arg(&target);
    // Flags and wrappers are meant for the host's build, not for the guest's.
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
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = if said.contains(TARGET) && said.contains("not be installed") {
            format!("\nThe standard pack needs the WebAssembly target: rustup target add {TARGET}")
        } else {
            String::new()
        };
        return Err(format!("building the standard pack failed:\n{said}{hint}"));
    }
    copy(
        &target
            .join(TARGET)
            .join("pack")
            .join("lmstrix_pack_standard.wasm"),
        &to,
    )
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|e| format!("cannot copy {} to {}: {e}", from.display(), to.display()))
}
