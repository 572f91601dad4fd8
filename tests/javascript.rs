//! Builds packs from JavaScript, each once, under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::outside_program::{download, run};

const PACKAGE: &str = "componentize-qjs@0.4.5";

/// Returns the path of the component of `tests/guests/script`. Fails the test if it cannot be
/// built.
pub(crate) fn component() -> PathBuf {
    build("script", include_str!("guests/script/pack.js"))
}

/// Returns the path of a component with the world `pack`, built from `NAME.js`. Fails the test
/// if it cannot be built.
pub(crate) fn build(name: &str, script: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    build_component(name, script)
        .unwrap_or_else(|reason| panic!("cannot build the pack in JavaScript: {reason}"))
}

fn build_component(name: &str, script: &str) -> Result<PathBuf, String> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = host.join("../../target/javascript");
    let contract = host.join("../../wit");
    // Everything that determines the component.
    let source = [PACKAGE, include_str!("../wit/prompts.wit"), script].join("\n");
    let component = work.join(format!("{name}.wasm"));
    let ready = work.join(format!("{name}.txt"));
    if std::fs::read_to_string(&ready).ok() == Some(source.clone()) {
        return Ok(component);
    }
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let file = work.join(format!("{name}.js"));
    std::fs::write(&file, script).map_err(|error| error.to_string())?;
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
            .args(["--sync", "--world", "pack", "--wit"])
            .arg(&contract)
            .arg("--js")
            .arg(&file)
            .arg("--output")
            .arg(&component),
        "",
    )?;
    std::fs::write(&ready, source).map_err(|error| error.to_string())?;
    Ok(component)
}
