//! Builds a pack from JavaScript, once, under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::outside_program::{download, run};

const PACKAGE: &str = "componentize-qjs@0.4.5";

/// Returns the path of the component of `tests/guests/script`. Fails the test if it cannot be
/// built.
pub(crate) fn component() -> &'static Path {
    static COMPONENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match COMPONENT.get_or_init(build_component) {
        Ok(component) => component,
        Err(reason) => panic!("cannot build the pack in JavaScript: {reason}"),
    }
}

fn build_component() -> Result<PathBuf, String> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = host.join("../../target/javascript");
    let script = host.join("../../tests/guests/script/pack.js");
    let contract = host.join("../../wit");
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    // Everything that determines the component.
    let source = [
        PACKAGE,
        &read(&contract.join("prompts.wit"))?,
        &read(&script)?,
    ]
    .join("\n");
    let component = work.join("pack.wasm");
    let ready = work.join("ready.txt");
    if std::fs::read_to_string(&ready).ok() == Some(source.clone()) {
        return Ok(component);
    }
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    // `download` tries again.
    let install = ["install", "--no-audit", "--no-fund", "--fetch-retries=0"];
    download(
        Command::new("npm")
            .args(install)
            .args(["--prefer-offline", "--prefix"])
            .arg(&work)
            .arg(PACKAGE),
    )?;
    run(
        Command::new("node")
            .arg(work.join("node_modules/componentize-qjs/bin/componentize-qjs"))
            .args(["--sync", "--stub-wasi", "--world", "pack", "--wit"])
            .arg(&contract)
            .arg("--js")
            .arg(&script)
            .arg("--output")
            .arg(&component),
        "",
    )?;
    std::fs::write(&ready, source).map_err(|error| error.to_string())?;
    Ok(component)
}
