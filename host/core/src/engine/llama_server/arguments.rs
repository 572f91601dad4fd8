//! The command line of a llama-server.

use std::path::Path;

use super::options::LlamaServerSettings;
use super::program::Program;

/// The model of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServedModel<'a> {
    pub(super) path: &'a Path,
    /// The name by which requests select the model.
    pub(super) name: &'a str,
    /// The context length of one slot in tokens; `None` leaves it to llama-server.
    pub(super) context: Option<u32>,
}

/// Returns the arguments of a server, without its port. Its API key is not among them: other users of the
/// machine can read the command lines of processes.
pub(super) fn arguments(
    program: &Program,
    settings: &LlamaServerSettings,
    model: ServedModel<'_>,
) -> Vec<String> {
    let slots = slots(settings);
    let mut args: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    add("--model", model.path.to_string_lossy().into_owned());
    add("--host", "127.0.0.1".to_owned());
    add("--parallel", slots.to_string());
    if let Some(context) = model.context {
        // llama-server divides its context among the slots.
        add("--ctx-size", context.saturating_mul(slots).to_string());
    }
    if let Some(threads) = settings.threads {
        add("--threads", threads.to_string());
    }
    if let Some(layers) = settings.gpu_layers {
        add("--n-gpu-layers", layers.to_string());
    }
    if program.knows("--alias") {
        // Without an alias the server reports the path of the file to all clients.
        add("--alias", model.name.to_owned());
    }
    // Chat templates, no requests to other hosts, no pages.
    let wanted = ["--jinja", "--offline", "--no-webui"];
    let known = wanted.into_iter().filter(|flag| program.knows(flag));
    args.extend(known.map(str::to_owned));
    args.extend(settings.args.iter().cloned());
    args
}

/// Returns the number of inferences that a server runs at once.
pub(super) fn slots(settings: &LlamaServerSettings) -> u32 {
    settings.slots.unwrap_or(1)
}
