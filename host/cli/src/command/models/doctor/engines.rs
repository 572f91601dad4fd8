//! The findings about engines.

use lmstrix::client::{self, TimeoutOptions};
use lmstrix::config::Config;
use lmstrix::engine::{
    EMBEDDED, EngineSelection, LLAMA_CPP, LlamaCppStatus, LlamaServerOptions, llama_cpp_status,
    query_catalog,
};
use lmstrix::quantity::count;

use super::findings::{Findings, Severity};
use crate::args::DoctorArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::Failure;
use crate::ui::Messages;

/// Checks the engines, and shows which of them runs GGUF files.
pub(super) async fn check_engines(
    args: &DoctorArgs,
    env: &Env,
    config: &Config,
    findings: &mut Findings,
) {
    let quiet = Messages::new(true, false, false);
    let selection =
        client::engine_selection(args.engines.engine.as_deref(), env, config, &notices(quiet));
    let timeouts = client::timeouts(&TimeoutOptions::default(), env, config);
    let (selection, timeouts) = match (selection, timeouts) {
        (Ok(selection), Ok((_, timeouts))) => (selection, timeouts),
        (Err(failure), _) | (_, Err(failure)) => return findings.failure("engines", failure),
    };
    let lifecycle = client::listing_options(env, config);
    llama_cpp(&lifecycle.llama_server, &selection, findings).await;
    let folders = client::selected_folders(env, &selection);
    let catalog = query_catalog(&selection, &folders, &lifecycle, timeouts, &mut |_| {}).await;
    for engine in &catalog.engines {
        let version = engine.version.as_deref().unwrap_or("unknown version");
        match &engine.models {
            // Shown above.
            Err(_) if engine.kind == LLAMA_CPP => {}
            Err(cause) => {
                findings.add(
                    Severity::Wrong,
                    "engine",
                    format!("{}: {cause}", engine.display_name),
                );
            }
            Ok(models) => {
                let loaded: usize = models.iter().map(|model| model.instances.len()).sum();
                let loaded = match engine.kind {
                    EMBEDDED => String::new(),
                    _ => format!(", {loaded} loaded"),
                };
                findings.add(
                    Severity::Ok,
                    "engine",
                    format!(
                        "{}, {version}: {}{loaded}",
                        engine.display_name,
                        count(models.len(), "model")
                    ),
                );
                let owned: Vec<&str> = models
                    .iter()
                    .flat_map(|model| &model.instances)
                    .filter(|instance| instance.is_owned)
                    .map(|instance| instance.id.as_str())
                    .collect();
                if !owned.is_empty() {
                    findings.add(
                        Severity::Note,
                        "loaded",
                        format!("still loaded by this program: {}", owned.join(", ")),
                    );
                    findings.hint("free the memory with `unload --all`");
                }
            }
        }
        for problem in &engine.problems {
            findings.add(Severity::Wrong, "model", problem.clone());
            findings.hint(match engine.kind {
                LLAMA_CPP => "remove the file, or download it again",
                _ => "remove the file, or run it with llama-server, LM Studio or Ollama",
            });
        }
    }
    if let Some(error) = catalog.server_error {
        let failure = Failure::from(error);
        // Servers are optional, unless the config names one.
        if matches!(selection, EngineSelection::Auto(_)) && config.engines.is_empty() {
            let message = failure.message.trim_start_matches("no engine found; ");
            findings.add(Severity::Note, "servers", message);
            findings.hint(failure.hints.join("; "));
        } else {
            findings.failure("engine", failure);
        }
    } else if matches!(selection, EngineSelection::Auto(_)) {
        for engine in &config.engines {
            let address = lmstrix::engine::ServerAddress::parse(&engine.url);
            let base_url = address.as_ref().map_or("", |address| address.base_url());
            if !catalog
                .engines
                .iter()
                .any(|engine| engine.address == base_url)
            {
                findings.add(
                    Severity::Wrong,
                    "engine",
                    format!(
                        "[engines.{}] of the config: no answer from {}",
                        engine.name, engine.url
                    ),
                );
                findings.hint(format!(
                    "`doctor --engine {}` prints the cause",
                    engine.name
                ));
            }
        }
    }
}

/// Shows which engine runs GGUF files.
async fn llama_cpp(
    options: &LlamaServerOptions,
    selection: &EngineSelection,
    findings: &mut Findings,
) {
    if matches!(selection, EngineSelection::Servers(_)) {
        return;
    }
    let about = "gguf files";
    match llama_cpp_status(options).await {
        LlamaCppStatus::Available { program, version } => {
            let version = version.map_or_else(String::new, |version| format!(", {version}"));
            let program = program.display();
            let text = match selection {
                EngineSelection::Embedded => {
                    format!("run in the embedded engine (--engine); {program} is not used")
                }
                _ => format!("run with llama.cpp: {program}{version}"),
            };
            findings.add(Severity::Ok, about, text);
        }
        LlamaCppStatus::NotFound => {
            findings.add(
                Severity::Note,
                about,
                "run in the embedded engine, which is slower and knows fewer models: \
                 llama-server not found",
            );
            let failure = lmstrix::engine::Error::NoLlamaServer { unsupported: None };
            findings.hint(Failure::from(failure).hints.join("; "));
        }
        LlamaCppStatus::Unusable(failure) => {
            findings.failure(about, lmstrix::engine::Error::from(failure));
        }
    }
}
