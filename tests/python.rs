//! Creates a Python environment with llama.cpp, once, under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::outside_program::{download, run};

pub(crate) const PACKAGES: &[&str] = &["gguf==0.19.0", "numpy==2.4.6", "xllamacpp==2026.10.11549"];

/// Returns the path of the interpreter with llama.cpp. Fails the test if the environment cannot
/// be created.
pub(crate) fn environment() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(create_environment) {
        Ok(python) => python,
        Err(reason) => panic!("cannot create a Python environment with llama.cpp: {reason}"),
    }
}

fn create_environment() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = target.canonicalize().map_err(|error| error.to_string())?;
    let work = target.join("embedded");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let folder = work.join("python");
    let python = folder.join("bin/python");
    let ready = folder.join("ready.txt");
    if std::fs::read_to_string(&ready).ok() != Some(PACKAGES.concat()) {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "",
        )?;
        let install = ["-m", "pip", "install", "--quiet"];
        download(Command::new(&python).args(install).args(PACKAGES))?;
        std::fs::write(&ready, PACKAGES.concat()).map_err(|error| error.to_string())?;
    }
    Ok(python)
}
