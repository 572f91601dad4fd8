//! The engine `llama.cpp`: llama-servers that the program starts, shares and ends.

/// Errors of programs that are missing, too old, slow, or that crash.
mod failures;
/// Processes by their command lines.
#[cfg(target_os = "linux")]
mod processes;
/// A real llama-server and real models. Linux only: so is the package.
#[cfg(target_os = "linux")]
mod program;
/// Answers and batches with a real llama-server.
#[cfg(target_os = "linux")]
mod real_models;
/// Who uses a server, who may, and when it ends.
#[cfg(target_os = "linux")]
mod sharing;

use std::path::{Path, PathBuf};

use crate::support::Machine;

#[cfg(target_os = "linux")]
pub(crate) use program::llama_cpp;

/// A text whose first sentence is the answer of the demo model.
const TEXT: &str = "The library opens at nine on weekdays. On Saturdays it opens at ten, \
                    and on Sundays it is closed.";

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf")
}

/// Writes the config of a machine, with a section `[llama_server]`.
fn configure(machine: &Machine, section: &str) {
    let text = format!("[defaults]\ndiscover = false\n[llama_server]\n{section}\n");
    std::fs::write(machine.home().join("config.toml"), text).unwrap();
}

/// Returns the arguments of `infer` with a model that gives the first sentence.
fn infer_args<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "infer",
        "tldr",
        "--text",
        TEXT,
        "--temperature",
        "0",
        "-q",
        "-m",
        model,
    ];
    args.extend(more);
    args
}
