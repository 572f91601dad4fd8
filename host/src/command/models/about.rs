//! `about`: what is known, in numbers.

use serde::Serialize;

use super::{ago, count, print, print_json};
use crate::args::About;
use crate::command::resolve_args;
use crate::engine::gigabytes;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::registry::Seen;
use crate::sink::Messages;

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    schema: u32,
    version: &'static str,
    engines: usize,
    models: usize,
    tested: usize,
    runs: u64,
    failures: u64,
    size_bytes: u64,
    last_used: Option<Seen>,
    config: String,
    registry: String,
    data: String,
    state: String,
    cache: String,
}

/// Runs `about`.
///
/// # Errors
/// The registry cannot be read.
pub(crate) fn about(args: &About, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let store = resolve_args::store(env);
    let known = store.read()?;
    for warning in &known.warnings {
        messages.warning(warning);
    }
    let registry = &known.registry;
    let there = || registry.models().filter(|it| it.2.missing_since.is_none());
    let summary = Summary {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        engines: registry.engines.len(),
        models: there().count(),
        tested: there().filter(|it| it.2.tested.is_some()).count(),
        runs: registry.models().map(|it| it.2.runs).sum(),
        failures: registry.models().map(|it| it.2.failures).sum(),
        size_bytes: there().filter_map(|it| it.2.size_bytes).sum(),
        last_used: registry.last_used.clone(),
        config: env.paths.config.display().to_string(),
        registry: store.path().display().to_string(),
        data: env.paths.data.display().to_string(),
        state: env.paths.state.display().to_string(),
        cache: env.paths.cache.display().to_string(),
    };
    if args.json {
        print_json(&summary, env)?;
        return Ok(Exit::Done);
    }
    let last = summary.last_used.as_ref().map_or_else(
        || "none".to_owned(),
        |it| format!("{} at {}, {}", it.model, it.engine, ago(it.at)),
    );
    print(&format!(
        "lmstrix-host {}\n\
         models    {} at {}, {}; {} tested\n\
         runs      {}, and {} that failed\n\
         last used {last}\n\
         config    {}\n\
         registry  {}\n\
         data      {}\n\
         state     {}\n\
         cache     {}\n",
        summary.version,
        summary.models,
        count(summary.engines, "engine"),
        gigabytes(summary.size_bytes),
        summary.tested,
        summary.runs,
        summary.failures,
        summary.config,
        summary.registry,
        summary.data,
        summary.state,
        summary.cache,
    ))?;
    Ok(Exit::Done)
}
