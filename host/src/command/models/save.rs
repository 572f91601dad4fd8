//! `save`: writes tested contexts into LM Studio's settings of each model.

use super::{escape_for_terminal, print};
use crate::args::SaveArgs;
use crate::client;
use crate::environment::Env;
use crate::error::{Exit, Failure, error_chain};
use crate::sink::Messages;
use crate::studio_settings::{
    self, MaxContext, SkipReason, WriteOptions, apply_changes, preview_undo, undo_last,
};

/// Runs `save`.
///
/// # Errors
/// A wrong flag, no LM Studio, or its settings cannot be written.
pub(crate) fn save(args: &SaveArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    client::warn_about_unknown_variables(env, messages);
    let failed = |error: studio_settings::Error| {
        let failure = Failure::new(Exit::Broken, error_chain(&error));
        match error {
            studio_settings::Error::NothingToUndo => Failure {
                exit: Exit::Usage,
                ..failure
            },
            _ => failure.hint("`save --undo` takes back what was written"),
        }
    };
    if args.undo {
        let (undone, word) = if args.dry_run {
            (preview_undo(&env.paths.state, args.force), "would restore")
        } else {
            (undo_last(&env.paths.state, args.force), "restored")
        };
        let undone = undone.map_err(failed)?;
        for path in &undone.restored {
            messages.status(&format!("{word} {}", path.display()));
        }
        if undone.skipped.is_empty() {
            return Ok(Exit::Done);
        }
        let paths: Vec<String> = undone
            .skipped
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        return Err(Failure::new(
            Exit::Broken,
            format!("changed since, and left as it is: {}", paths.join(", ")),
        )
        .hint("--undo --force restores it all the same"));
    }
    let options = WriteOptions {
        limit: MaxContext::parse(&args.limit)
            .map_err(|why| Failure::usage(format!("--limit {why}")))?,
        threshold: args.threshold,
        flash_attention: args.flash,
        force: args.force,
    };
    let home = args
        .studio_home
        .clone()
        .or_else(|| client::lm_studio_home(env))
        .ok_or_else(|| {
            Failure::usage("LM Studio's folder was not found")
                .hint("--studio-home DIR names it; it holds the folders `models` and `.internal`")
        })?;
    let known = client::registry_store(env).read()?;
    for warning in &known.warnings {
        messages.warning(warning);
    }
    let mut changes = Vec::new();
    let (mut same, mut gone, mut without_file, mut problems) = (0, Vec::new(), Vec::new(), 0);
    for (place, id, model) in known.registry.models() {
        let is_studio = known
            .registry
            .engines
            .get(place)
            .is_some_and(|it| it.kind == "lmstudio");
        let (true, Some(tested)) = (is_studio, &model.tested) else {
            continue;
        };
        if model.missing_since.is_some() {
            gone.push(id);
            continue;
        }
        let Some(path) = &model.path else {
            without_file.push(id);
            continue;
        };
        match studio_settings::plan_change(&home, path, tested.context, options) {
            Ok(change) => changes.push((id, change)),
            Err(SkipReason::AlreadySet) => same += 1,
            Err(SkipReason::Problem(why)) => {
                problems += 1;
                messages.warning(&format!("`{id}`: {why}"));
            }
        }
    }
    if !gone.is_empty() {
        messages.status(&format!(
            "the last `scan` did not find these models, so that they are left out: {}",
            gone.join(", ")
        ));
    }
    if !without_file.is_empty() {
        messages.warning(&format!(
            "it is not known which file these models are, so that they are left out: {}; `scan` \
             looks for it",
            without_file.join(", ")
        ));
    }
    if args.dry_run {
        let diffs: String = changes
            .iter()
            .map(|(_, it)| escape_for_terminal(&it.diff(), env))
            .collect();
        print(&diffs)?;
        messages.status(&format!(
            "{} files would be written, {same} are so already",
            changes.len()
        ));
    } else if changes.is_empty() {
        messages.status(&match same {
            0 if problems == 0 => {
                "no model of LM Studio has a tested context; `test` finds it".to_owned()
            }
            same => format!("nothing to write; {same} files are so already"),
        });
    } else {
        let only: Vec<_> = changes.iter().map(|(_, it)| it.clone()).collect();
        let backup = apply_changes(&only, &env.paths.state).map_err(failed)?;
        for (id, change) in &changes {
            messages.status(&format!("{id}: {} tokens", change.context));
        }
        messages.status(&format!(
            "{} files written; what they held is in {}, and `save --undo` restores it",
            changes.len(),
            backup.display()
        ));
    }
    if problems > 0 {
        return Err(Failure::new(
            Exit::Broken,
            format!("{problems} models were left as they are"),
        ));
    }
    Ok(Exit::Done)
}
