//! Builds a pack from JavaScript, once, under `target/`. Without Node.js or access to the npm
//! registry the test that needs it is skipped with a message.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::python::run;

const PACKAGE: &str = "componentize-qjs@0.4.5";

/// Returns the path of the component of `tests/guests/script`, or the reason why it cannot be
/// built.
pub(crate) fn component() -> Result<PathBuf, String> {
    static COMPONENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    COMPONENT.get_or_init(build_component).clone()
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
    // One retry: without a network npm's default of two takes 70 seconds.
    let install = ["install", "--no-audit", "--no-fund", "--fetch-retries=1"];
    run_program(
        Command::new("npm")
            .args(install)
            .args(["--prefer-offline", "--prefix"])
            .arg(&work)
            .arg(PACKAGE),
    )?;
    run_program(
        Command::new("node")
            .arg(work.join("node_modules/componentize-qjs/bin/componentize-qjs"))
            .args(["--sync", "--stub-wasi", "--world", "pack", "--wit"])
            .arg(&contract)
            .arg("--js")
            .arg(&script)
            .arg("--output")
            .arg(&component),
    )?;
    std::fs::write(&ready, source).map_err(|error| error.to_string())?;
    Ok(component)
}

/// Runs a program. The error begins with the name of the program.
fn run_program(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    run(command, "")
        .map(drop)
        .map_err(|message| format!("{name}: {message}"))
}
