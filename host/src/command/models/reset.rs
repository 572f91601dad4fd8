//! `reset`: forgets what tests found.

use super::{known_models, places};
use crate::args::Reset;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::sink::Messages;

/// Runs `reset`.
///
/// # Errors
/// No such model, or the registry cannot be written.
pub(crate) fn reset(args: &Reset, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let config = resolve_args::config(&args.common, env)?;
    let wanted = resolve_args::wanted(args.engines.engine.as_deref(), env, &config, messages)?;
    let is_meant = places(&wanted, args.engines.engine.is_some());
    let change = |registry: &mut crate::registry::Registry| {
        let meant = if args.all {
            registry
                .models()
                .filter(|(place, ..)| is_meant(place))
                .map(|(place, id, _)| (place.to_owned(), id.to_owned()))
                .collect()
        } else {
            known_models(registry, &args.models, &is_meant)?
        };
        let mut count = 0;
        for (place, id) in &meant {
            let model = registry.model_mut(place, id);
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
    let (count, warnings) = resolve_args::store(env).update(change)?;
    for warning in &warnings {
        messages.warning(warning);
    }
    match count? {
        0 => messages.status("there were no test results"),
        1 => messages.status("the test results of 1 model are forgotten"),
        count => messages.status(&format!("the test results of {count} models are forgotten")),
    }
    Ok(Exit::Done)
}
