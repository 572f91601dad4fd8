//! Converts arguments to the plan and the options of a run. The plan is the plan file
//! with the flags applied.

use std::path::Path;
use std::time::Duration;

use lmstrix::batch::{
    self, BatchOptions, ChangedPolicy, FailureLimit, InputEntrySource, NameTemplate, ParamValues,
    Plan, ProcessorEntry, PromptEntry, PromptOptions, Shard,
};
use lmstrix::client::at_file;

use crate::args::{
    BatchRunArgs, Changed, ErrorPlace, JobArgs, JobCount, Progress, ReasoningTags, ResultArgs,
    RunArgs,
};
use crate::environment::Env;
use crate::error::Failure;
use crate::ui::ProgressMode;

/// The time that a server which went away is waited for by default.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the options of a run.
pub(super) fn options(run: &RunArgs, results: &ResultArgs, shard: Option<Shard>) -> BatchOptions {
    let RunArgs {
        jobs,
        max_failures,
        fail_fast,
        server_timeout,
        dry_run,
        progress: _,
    } = run;
    let changed = match results.changed {
        Changed::Keep => ChangedPolicy::Keep,
        Changed::Rerun => ChangedPolicy::Rerun,
    };
    let reconnect_timeout = server_timeout.map_or(Some(RECONNECT_TIMEOUT), |limit| limit.0);
    BatchOptions {
        changed,
        verify: results.verify,
        jobs: jobs.and_then(limit),
        failure_limit: if *fail_fast {
            Some(FailureLimit::Count(0))
        } else {
            *max_failures
        },
        reconnect_timeout: reconnect_timeout.unwrap_or(Duration::ZERO),
        shard,
        shard_text: shard.map(|shard| shard.to_string()),
        dry_run: *dry_run,
        force: false,
        is_own_plan: false,
    }
}

/// Returns how progress is shown.
pub(super) fn progress_mode(progress: Progress, env: &Env) -> ProgressMode {
    match progress {
        Progress::Auto if env.stderr_is_terminal => ProgressMode::Terminal,
        Progress::Auto | Progress::Plain => ProgressMode::Plain,
        Progress::Json => ProgressMode::Json,
        Progress::None => ProgressMode::None,
    }
}

/// Returns the limit of jobs at once; `None` leaves it to the server.
fn limit(jobs: JobCount) -> Option<usize> {
    match jobs {
        JobCount::Auto => None,
        JobCount::Jobs(jobs) => Some(jobs),
    }
}

/// Returns the plan: the plan file, with the flags applied.
///
/// # Errors
/// Returns an error if the file cannot be read or a value is invalid.
pub(super) fn plan(run: &BatchRunArgs) -> Result<Plan, Failure> {
    let mut plan = match &run.plan {
        Some(path) => batch::load_plan(path)?,
        None => Plan::default(),
    };
    let JobArgs {
        prompt,
        prompts,
        pack,
        pack_dir,
        locked,
        post,
        no_post,
        system,
        raw,
        model,
        engine,
        text,
        text_file,
        inputs,
        param,
        file,
        attach,
        context,
        force: _,
        shard: _,
        print_plan: _,
    } = &run.jobs;
    let flags = PromptOptions {
        prompt_files: prompts.clone(),
        pack_files: file.clone(),
        packs: pack.clone(),
        pack_dirs: pack_dir.clone(),
        processors: if *no_post {
            Some(Vec::new())
        } else if post.is_empty() {
            None
        } else {
            Some(post.iter().cloned().map(ProcessorEntry::Text).collect())
        },
        system: system.clone(),
        raw: raw.then_some(true),
        params: axes(param)?,
        attach: Vec::new(),
    };
    let typed = PromptEntry {
        options: flags,
        ..PromptEntry::default()
    };
    plan.defaults = typed.options_with_defaults(&plan.defaults);
    // Those of a prompt replace those of the plan, and the flag adds to both.
    plan.defaults.attach.extend(attach.iter().cloned());
    for prompt in &mut plan.prompts {
        if !prompt.options.attach.is_empty() {
            prompt.options.attach.extend(attach.iter().cloned());
        }
    }
    plan.locked |= locked;
    for name in prompt {
        plan.prompts.push(PromptEntry {
            name: name.clone(),
            ..PromptEntry::default()
        });
    }
    if !model.is_empty() {
        plan.models.clone_from(model);
    }
    if engine.is_some() {
        plan.engine.clone_from(engine);
    }
    if let Some(text) = text {
        let source = InputEntrySource::Text {
            name: "text".to_owned(),
            text: text.clone(),
        };
        plan.inputs.push(source.into());
    }
    if text_file
        .iter()
        .chain(inputs)
        .any(|path| path == Path::new("-"))
    {
        return Err(
            Failure::usage("a batch does not read stdin, so that it can be run again")
                .hint("put the text into a file: --text-file FILE"),
        );
    }
    for path in text_file {
        plan.inputs
            .push(InputEntrySource::Files(path.clone()).into());
    }
    for path in inputs {
        plan.inputs
            .push(InputEntrySource::RowsOrFiles(path.clone()).into());
    }
    if context.is_some() {
        plan.context = *context;
    }
    let ResultArgs {
        output,
        name,
        errors,
        keep_raw,
        keep_reasoning,
        changed: _,
        verify: _,
        strict,
        reasoning_tags,
    } = &run.results;
    if output.is_some() {
        plan.out.clone_from(output);
    }
    if name.is_some() {
        plan.name.clone_from(name);
    }
    if let Some(name) = &plan.name {
        NameTemplate::parse(name)
            .map_err(|cause| Failure::usage(format!("name template `{name}`: {cause}")))?;
    }
    plan.results.errors_inline |= *errors == ErrorPlace::Inline;
    plan.results.keep_reasoning_tags |= *reasoning_tags == ReasoningTags::None;
    plan.results.keep_raw |= keep_raw;
    plan.results.keep_reasoning |= keep_reasoning;
    plan.results.strict |= strict;
    if let Some(jobs) = run.run.jobs {
        plan.jobs = limit(jobs);
    }
    Ok(plan)
}

/// Returns the parameters of flags; a name that is given again is an axis.
fn axes(param: &[String]) -> Result<Vec<(String, ParamValues)>, Failure> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("-p `{item}`: expected KEY=VALUE")))?;
        let value = at_file(value)?;
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => all.push((name.to_owned(), vec![value])),
        }
    }
    Ok(all
        .into_iter()
        .map(|(name, mut values)| match (values.len(), values.pop()) {
            (1, Some(one)) => (name, ParamValues::One(one)),
            (_, last) => {
                values.extend(last);
                (name, ParamValues::Axis(values))
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_given_again_is_an_axis() {
        let own = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let found = axes(&own(&["a=1", "b=x=y", "a=@@2"])).unwrap();
        assert_eq!(
            found,
            [
                ("a".to_owned(), ParamValues::Axis(own(&["1", "@2"]))),
                ("b".to_owned(), ParamValues::One("x=y".to_owned()))
            ]
        );
        assert!(axes(&own(&["x"])).is_err());
    }
}
