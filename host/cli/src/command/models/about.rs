//! `about`: prints totals of the registry and the paths in use.

use lmstrix::client;
use lmstrix::engine::format_bytes;
use lmstrix::quantity::count;
use lmstrix::registry::LastUsedModel;
use serde::Serialize;

use super::{format_ago, print, print_json};
use crate::args::AboutArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Output of `about --json`.
#[derive(Serialize)]
struct AboutReport {
    schema: u32,
    version: &'static str,
    engines: usize,
    models: usize,
    tested: usize,
    runs: u64,
    failures: u64,
    size_bytes: u64,
    last_used: Option<LastUsedModel>,
    config: String,
    registry: String,
    data: String,
    state: String,
    cache: String,
}

/// Runs `about`.
///
/// # Errors
/// Returns an error if the registry cannot be read.
pub(crate) fn about(args: &AboutArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let store = client::registry_store(env);
    let loaded = store.read()?;
    for warning in &loaded.warnings {
        messages.warning(warning);
    }
    let registry = &loaded.registry;
    let records = || registry.models().map(|(_, _, model)| model);
    let present = || records().filter(|model| model.missing_since.is_none());
    let report = AboutReport {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        engines: registry.engines.len(),
        models: present().count(),
        tested: present().filter(|model| model.tested.is_some()).count(),
        runs: records().map(|model| model.runs).sum(),
        failures: records().map(|model| model.failures).sum(),
        size_bytes: present().filter_map(|model| model.size_bytes).sum(),
        last_used: registry.last_used.clone(),
        config: env.paths.config.display().to_string(),
        registry: store.path().display().to_string(),
        data: env.paths.data.display().to_string(),
        state: env.paths.state.display().to_string(),
        cache: env.paths.cache.display().to_string(),
    };
    if args.json {
        print_json(&report, env)?;
        return Ok(Exit::Done);
    }
    let last_used = report.last_used.as_ref().map_or_else(
        || "none".to_owned(),
        |last| {
            let ago = format_ago(last.at);
            format!("{} at {}, {ago}", last.model, last.engine)
        },
    );
    print(&format!(
        "lmstrix-host {}\n\
         models    {} at {}, {}; {} tested\n\
         runs      {}, and {} failed\n\
         last used {last_used}\n\
         config    {}\n\
         registry  {}\n\
         data      {}\n\
         state     {}\n\
         cache     {}\n",
        report.version,
        report.models,
        count(report.engines, "engine"),
        format_bytes(report.size_bytes),
        report.tested,
        report.runs,
        report.failures,
        report.config,
        report.registry,
        report.data,
        report.state,
        report.cache,
    ))?;
    Ok(Exit::Done)
}
