//! Converts arguments to the plan and the options of a run. The plan is the plan file
//! with the flags applied.

use std::path::Path;
use std::time::Duration;

use super::super::resolve_args::keeps_reasoning_tags;
use crate::args::{BatchRunArgs, JobArgs, ResultArgs, RunArgs};
use crate::batch::{
    self, BatchOptions, ChangedPolicy, FailureLimit, InputEntry, NameTemplate, ParamValues, Plan,
    PlanContext, ProcessorEntry, PromptEntry, PromptOptions, Shard,
};
use crate::client::at_file;
use crate::duration;
use crate::environment::Env;
use crate::error::Failure;
use crate::ui::ProgressMode;

/// The time that a server which went away is waited for by default.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the options of a run.
///
/// # Errors
/// Returns an error if a value is invalid.
pub(super) fn options(
    run: &RunArgs,
    results: &ResultArgs,
    shard: Option<&str>,
) -> Result<BatchOptions, Failure> {
    let RunArgs {
        jobs,
        max_failures,
        fail_fast,
        server_timeout,
        dry_run,
        progress: _,
    } = run;
    let changed = match results.changed.as_str() {
        "" | "keep" => ChangedPolicy::Keep,
        "rerun" => ChangedPolicy::Rerun,
        other => {
            return Err(Failure::usage(format!(
                "--changed is `{other}`; it takes keep or rerun"
            )));
        }
    };
    let reconnect_timeout = match server_timeout {
        None => Some(RECONNECT_TIMEOUT),
        Some(text) => duration::parse(text)
            .map_err(|cause| Failure::usage(format!("--server-timeout: {cause}")))?,
    };
    let failure_limit = match max_failures {
        _ if *fail_fast => Some(FailureLimit::Count(0)),
        Some(text) => Some(parse_failure_limit(text)?),
        None => None,
    };
    Ok(BatchOptions {
        changed,
        verify: results.verify,
        jobs: jobs.as_deref().map(parse_jobs).transpose()?.flatten(),
        failure_limit,
        reconnect_timeout: reconnect_timeout.unwrap_or(Duration::ZERO),
        shard: shard
            .map(|text| {
                Shard::parse(text).map_err(|cause| Failure::usage(format!("--shard: {cause}")))
            })
            .transpose()?,
        shard_text: shard.map(str::to_owned),
        dry_run: *dry_run,
        force: false,
        is_own_plan: false,
    })
}

/// Returns how progress is shown.
///
/// # Errors
/// Returns an error unless the value is `auto`, `plain`, `json` or `none`.
pub(super) fn progress_mode(progress: &str, env: &Env) -> Result<ProgressMode, Failure> {
    match progress {
        "auto" if env.stderr_is_terminal => Ok(ProgressMode::Terminal),
        "auto" | "plain" => Ok(ProgressMode::Plain),
        "json" => Ok(ProgressMode::Json),
        "none" => Ok(ProgressMode::None),
        other => Err(Failure::usage(format!(
            "--progress is `{other}`; it takes auto, plain, json or none"
        ))),
    }
}

fn parse_failure_limit(text: &str) -> Result<FailureLimit, Failure> {
    let invalid = || {
        Failure::usage(format!(
            "--max-failures is `{text}`; it takes a number, or `0%` to `100%`"
        ))
    };
    match text.trim().strip_suffix('%') {
        Some(percent) => match percent.trim().parse() {
            Ok(percent @ 0..=100) => Ok(FailureLimit::Percent(percent)),
            _ => Err(invalid()),
        },
        None => text
            .trim()
            .parse()
            .map(FailureLimit::Count)
            .map_err(|_| invalid()),
    }
}

/// Parses `--jobs`; `None` is `auto`, as many as the server has slots.
fn parse_jobs(text: &str) -> Result<Option<usize>, Failure> {
    match text.trim() {
        "auto" => Ok(None),
        text => match text.parse() {
            Ok(jobs @ 1..=batch::JOBS_MAX) => Ok(Some(jobs)),
            _ => Err(Failure::usage(format!(
                "--jobs is `{text}`; it takes a number from 1 to {}, or auto",
                batch::JOBS_MAX
            ))),
        },
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
        context,
        force: _,
        shard: _,
        print_plan: _,
    } = &run.jobs;
    let flags = PromptOptions {
        prompt_files: prompts.clone(),
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
    };
    let typed = PromptEntry {
        options: flags,
        ..PromptEntry::default()
    };
    plan.defaults = typed.options_with_defaults(&plan.defaults);
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
        plan.inputs.push(InputEntry::Text {
            name: "text".to_owned(),
            text: text.clone(),
        });
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
        plan.inputs.push(InputEntry::Files(path.clone()));
    }
    for path in inputs {
        plan.inputs.push(InputEntry::RowsOrFiles(path.clone()));
    }
    if let Some(context) = context {
        let context = PlanContext::parse(context)
            .map_err(|cause| Failure::usage(format!("--context: {cause}")))?;
        plan.context = Some(context);
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
    plan.results.errors_inline |= match errors.as_str() {
        "file" => false,
        "inline" => true,
        other => {
            return Err(Failure::usage(format!(
                "--errors is `{other}`; it takes file or inline"
            )));
        }
    };
    plan.results.keep_reasoning_tags |= keeps_reasoning_tags(reasoning_tags)?;
    plan.results.keep_raw |= keep_raw;
    plan.results.keep_reasoning |= keep_reasoning;
    plan.results.strict |= strict;
    if let Some(jobs) = run.run.jobs.as_deref().map(parse_jobs).transpose()? {
        plan.jobs = jobs;
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
            .ok_or_else(|| Failure::usage(format!("-p takes KEY=VALUE, not `{item}`")))?;
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

    #[test]
    fn a_limit_of_failures_is_a_number_or_a_share() {
        for (text, failures, jobs, passed) in [
            ("0", 1, 10, true),
            ("0", 0, 10, false),
            ("3", 3, 10, false),
            ("20%", 2, 10, false),
            ("20%", 3, 10, true),
            ("100%", 10, 10, false),
        ] {
            let limit = parse_failure_limit(text).unwrap();
            assert_eq!(
                limit.is_exceeded(failures, jobs),
                passed,
                "{text} {failures}"
            );
        }
        for text in ["-1", "101%", "x", ""] {
            assert!(parse_failure_limit(text).is_err(), "{text}");
        }
    }
}
