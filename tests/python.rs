//! Creates Python environments, each once, under `target/`: one with llama.cpp, and one that
//! builds packs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::outside_program::{download, run};

pub(crate) const PACKAGES: &[&str] = &["gguf==0.19.0", "numpy==2.4.6", "xllamacpp==2026.10.11549"];

const COMPONENTIZE: &[&str] = &["componentize-py==0.25.1"];

/// Returns the path of the interpreter with llama.cpp. Fails the test if the environment cannot
/// be created.
pub(crate) fn environment() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(|| create_environment("embedded", PACKAGES)) {
        Ok(python) => python,
        Err(reason) => panic!("cannot create a Python environment with llama.cpp: {reason}"),
    }
}

/// Returns the path of a component with the world `resolver-pack`, built from the module `app`.
/// Fails the test if it cannot be built.
pub(crate) fn component(name: &str, app: &str) -> PathBuf {
    build_component(name, app)
        .unwrap_or_else(|reason| panic!("cannot build the pack in Python: {reason}"))
}

fn build_component(name: &str, app: &str) -> Result<PathBuf, String> {
    let python = create_environment("componentize-py", COMPONENTIZE)?;
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = host.join("../../target/componentize-py").join(name);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    std::fs::write(work.join("app.py"), app).map_err(|error| error.to_string())?;
    run(
        Command::new(python.with_file_name("componentize-py"))
            .current_dir(&work)
            .arg("-d")
            .arg(host.join("../../wit").canonicalize().unwrap())
            .args(["-w", "resolver-pack", "componentize", "app", "-o"])
            .arg("app.wasm"),
        "",
    )?;
    Ok(work.join("app.wasm"))
}

fn create_environment(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = target.canonicalize().map_err(|error| error.to_string())?;
    let work = target.join(name);
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let folder = work.join("python");
    let python = folder.join("bin/python");
    let ready = folder.join("ready.txt");
    if std::fs::read_to_string(&ready).ok() != Some(packages.concat()) {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "",
        )?;
        let install = ["-m", "pip", "install", "--quiet"];
        download(Command::new(&python).args(install).args(packages))?;
        std::fs::write(&ready, packages.concat()).map_err(|error| error.to_string())?;
    }
    Ok(python)
}
