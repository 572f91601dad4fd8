//! `reset`: deletes test results from the registry.

use lmstrix::client;

use super::{engine_filter, matching_models};
use crate::args::ResetArgs;
use crate::command::notices;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `reset`.
///
/// # Errors
/// Returns an error if a model is not found or the registry cannot be written.
pub(crate) fn reset(args: &ResetArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let config = resolve_args::config(&args.common, env)?;
    let selection = client::engine_selection(
        args.engines.engine.as_deref(),
        env,
        &config,
        &notices(messages),
    )?;
    let is_selected = engine_filter(&selection, args.engines.engine.is_some());
    let change = |registry: &mut lmstrix::registry::Registry| {
        let models = if args.all {
            registry
                .models()
                .filter(|(engine, ..)| is_selected(engine))
                .map(|(engine, id, _)| (engine.to_owned(), id.to_owned()))
                .collect()
        } else {
            matching_models(registry, &args.models, &is_selected)?
        };
        let mut count = 0;
        for (engine, id) in &models {
            let model = registry.model_mut(engine, id);
            if model.tested.is_some() || !model.trials.is_empty() {
                count += 1;
            }
            model.forget_tests();
            if args.everything {
                model.forget_runs();
            }
        }
        Ok::<_, Failure>(count)
    };
    let (count, warnings) = client::registry_store(env).update(change)?;
    for warning in &warnings {
        messages.warning(warning);
    }
    match count? {
        0 => messages.status("no test results to delete"),
        1 => messages.status("deleted the test results of 1 model"),
        count => messages.status(&format!("deleted the test results of {count} models")),
    }
    Ok(Exit::Done)
}
