//! `save`: writes tested context lengths into LM Studio's per-model settings.

use lmstrix::client;
use lmstrix::error_chain::error_chain;
use lmstrix::studio_settings::{
    self, SkipReason, WriteOptions, apply_changes, preview_undo, undo_last,
};

use super::{escape_for_terminal, print};
use crate::args::SaveArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `save`.
///
/// # Errors
/// Returns an error if a flag is invalid, LM Studio's folder is not found, or its settings
/// cannot be written.
pub(crate) fn save(args: &SaveArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    client::warn_about_unknown_variables(env, &notices(messages));
    let to_failure = |error: studio_settings::Error| {
        let failure = Failure::new(Exit::Broken, error_chain(&error));
        match error {
            studio_settings::Error::NothingToUndo => Failure {
                exit: Exit::Usage,
                ..failure
            },
            _ => failure.hint("`save --undo` restores the files that were written"),
        }
    };
    if args.undo {
        let (undone, word) = if args.dry_run {
            (preview_undo(&env.paths.state, args.force), "would restore")
        } else {
            (undo_last(&env.paths.state, args.force), "restored")
        };
        let undone = undone.map_err(to_failure)?;
        for path in &undone.restored {
            messages.status(&format!("{word} {}", path.display()));
        }
        if undone.skipped.is_empty() {
            return Ok(Exit::Done);
        }
        let paths: Vec<String> = undone
            .skipped
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::new(
            Exit::Broken,
            format!(
                "not restored, because it was changed since: {}",
                paths.join(", ")
            ),
        )
        .hint("restore it anyway with `save --undo --force`"));
    }
    let options = WriteOptions {
        limit: args.limit,
        threshold: args.threshold,
        flash_attention: args.flash,
        force: args.force,
    };
    let home = args
        .studio_home
        .clone()
        .or_else(|| client::lm_studio_home(env))
        .ok_or_else(|| {
            Failure::usage("LM Studio's folder was not found").hint(
                "set it with `--studio-home DIR`; it contains the folders `models` and \
                 `.internal`",
            )
        })?;
    let loaded = client::registry_store(env).read()?;
    for warning in &loaded.warnings {
        messages.warning(warning);
    }
    let mut changes = Vec::new();
    let (mut unchanged, mut problems) = (0, 0);
    let (mut removed, mut without_file) = (Vec::new(), Vec::new());
    for (engine, id, model) in loaded.registry.models() {
        let is_studio = loaded
            .registry
            .engines
            .get(engine)
            .is_some_and(|engine| engine.kind == "lmstudio");
        let (true, Some(tested)) = (is_studio, &model.tested) else {
            continue;
        };
        if model.missing_since.is_some() {
            removed.push(id);
            continue;
        }
        let Some(path) = &model.path else {
            without_file.push(id);
            continue;
        };
        match studio_settings::plan_change(&home, path, tested.context, options) {
            Ok(change) => changes.push((id, change)),
            Err(SkipReason::AlreadySet) => unchanged += 1,
            Err(SkipReason::Problem(cause)) => {
                problems += 1;
                messages.warning(&format!("`{id}`: {cause}"));
            }
        }
    }
    if !removed.is_empty() {
        messages.status(&format!(
            "skipped models that the last `scan` did not find: {}",
            removed.join(", ")
        ));
    }
    if !without_file.is_empty() {
        messages.warning(&format!(
            "skipped models whose file is unknown: {}; `scan` searches for it",
            without_file.join(", ")
        ));
    }
    if args.dry_run {
        let diffs: String = changes
            .iter()
            .map(|(_, change)| escape_for_terminal(&change.diff(), env))
            .collect();
        print(&diffs)?;
        messages.status(&format!(
            "would write {} files, {unchanged} are up to date",
            changes.len()
        ));
    } else if changes.is_empty() {
        messages.status(&match unchanged {
            0 if problems == 0 => {
                "no LM Studio model has a tested context length; `test` finds it".to_owned()
            }
            unchanged => format!("nothing to write, {unchanged} files are up to date"),
        });
    } else {
        let file_changes: Vec<_> = changes.iter().map(|(_, change)| change.clone()).collect();
        let backup = apply_changes(&file_changes, &env.paths.state).map_err(to_failure)?;
        for (id, change) in &changes {
            messages.status(&format!("{id}: {} tokens", change.context));
        }
        messages.status(&format!(
            "wrote {} files; backup in {}, `save --undo` restores it",
            changes.len(),
            backup.display()
        ));
    }
    if problems > 0 {
        return Err(Failure::new(
            Exit::Broken,
            format!("skipped {problems} models because of the problems above"),
        ));
    }
    Ok(Exit::Done)
}
