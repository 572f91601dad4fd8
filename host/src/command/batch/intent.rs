//! From what was typed to the plan: the plan file, and the flags on top of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::resolve_args;
use crate::args::{BatchRun, Jobs, Results, Sampling, Way};
use crate::batch::{
    self, Ask, InputEntry, Plan, Policy, Post, PromptEntry, Shard, Template, Values, Wish,
};
use crate::duration;
use crate::environment::Env;
use crate::error::Failure;
use crate::sink::Style;

/// How long a server that went away is waited for when nobody says otherwise.
const SERVER_BACK: Duration = Duration::from_secs(60);

/// How a run goes, beside its plan.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// What becomes of results that are not what they were.
    pub(super) policy: Policy,
    /// Whether digests are compared.
    pub(super) verify: bool,
    /// The most jobs at once, where it was typed for this run.
    pub(super) jobs: Option<usize>,
    /// More failures than this end the run.
    pub(super) most_failures: Option<Most>,
    /// How long a server that went away is waited for.
    pub(super) server_back: Duration,
    /// The part of the plan.
    pub(super) shard: Option<Shard>,
    /// Nothing is loaded and nothing written.
    pub(super) dry_run: bool,
    /// How progress is shown.
    pub(super) style: Style,
    /// Models are loaded even if they do not seem to fit.
    pub(super) force: bool,
    /// The plan is the folder's own, its last one.
    pub(super) only_own_plan: bool,
}

/// A number of jobs, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Most {
    /// So many.
    Count(usize),
    /// So many of a hundred.
    Percent(u8),
}

impl Most {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "--max-failures is `{text}`; it takes a number, or `0%` to `100%`"
            ))
        };
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.trim().parse().map(Self::Count).map_err(|_| wrong()),
        }
    }

    /// Whether so many failures are too many of so many jobs.
    pub(super) fn is_passed(self, failures: usize, jobs: usize) -> bool {
        match self {
            Self::Count(most) => failures > most,
            Self::Percent(percent) => failures * 100 > jobs * usize::from(percent),
        }
    }
}

/// How the run goes.
pub(super) fn manner(
    way: &Way,
    results: &Results,
    shard: Option<&str>,
    env: &Env,
) -> Result<Manner, Failure> {
    let Way {
        jobs,
        max_failures,
        fail_fast,
        server_timeout,
        dry_run,
        progress,
    } = way;
    let policy = match results.changed.as_str() {
        "" | "keep" => Policy::Keep,
        "rerun" => Policy::Rerun,
        other => {
            return Err(Failure::usage(format!(
                "--changed is `{other}`; it takes keep or rerun"
            )));
        }
    };
    let server_back = match server_timeout {
        None => Some(SERVER_BACK),
        Some(text) => duration::parse(text)
            .map_err(|why| Failure::usage(format!("--server-timeout: {why}")))?,
    };
    let style = match progress.as_str() {
        "auto" if env.stderr_is_terminal => Style::Terminal,
        "auto" | "plain" => Style::Plain,
        "json" => Style::Json,
        "none" => Style::None,
        other => {
            return Err(Failure::usage(format!(
                "--progress is `{other}`; it takes auto, plain, json or none"
            )));
        }
    };
    let most_failures = match max_failures {
        _ if *fail_fast => Some(Most::Count(0)),
        Some(text) => Some(Most::parse(text)?),
        None => None,
    };
    Ok(Manner {
        policy,
        verify: results.verify,
        jobs: jobs.as_deref().map(at_once).transpose()?.flatten(),
        most_failures,
        server_back: server_back.unwrap_or(Duration::ZERO),
        shard: shard
            .map(|it| Shard::parse(it).map_err(|why| Failure::usage(format!("--shard: {why}"))))
            .transpose()?,
        dry_run: *dry_run,
        style,
        force: false,
        only_own_plan: false,
    })
}

/// `None` is as many as the server can.
fn at_once(text: &str) -> Result<Option<usize>, Failure> {
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

/// The plan: the file's, and the flags' on top of it.
pub(super) fn plan(run: &BatchRun) -> Result<Plan, Failure> {
    let mut plan = match &run.plan {
        Some(path) => batch::load(path)?,
        None => Plan::default(),
    };
    let Jobs {
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
    let flags = Ask {
        files: prompts.clone(),
        packs: pack.clone(),
        pack_dirs: pack_dir.clone(),
        post: if *no_post {
            Some(Vec::new())
        } else if post.is_empty() {
            None
        } else {
            Some(post.iter().cloned().map(Post::Typed).collect())
        },
        system: system.clone(),
        raw: raw.then_some(true),
        params: axes(param)?,
    };
    let typed = PromptEntry {
        ask: flags,
        ..PromptEntry::default()
    };
    plan.usual = typed.asked(&plan.usual);
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
        .any(|it| it == Path::new("-"))
    {
        return Err(
            Failure::usage("a batch reads no stdin, so that it can be run again")
                .hint("a file holds the text: --text-file FILE"),
        );
    }
    for it in text_file {
        plan.inputs.push(InputEntry::Files(it.clone()));
    }
    for it in inputs {
        plan.inputs.push(InputEntry::Any(it.clone()));
    }
    if let Some(context) = context {
        let wish =
            Wish::parse(context).map_err(|why| Failure::usage(format!("--context: {why}")))?;
        plan.context = Some(wish);
    }
    let Results {
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
        Template::parse(name)
            .map_err(|why| Failure::usage(format!("the template of names: {why}")))?;
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
    plan.results.tags_stay |= match reasoning_tags.as_str() {
        "auto" => false,
        "none" => true,
        other => {
            return Err(Failure::usage(format!(
                "--reasoning-tags is `{other}`; it takes auto or none"
            )));
        }
    };
    plan.results.keep_raw |= keep_raw;
    plan.results.keep_reasoning |= keep_reasoning;
    plan.results.strict |= strict;
    if let Some(jobs) = run.way.jobs.as_deref().map(at_once).transpose()? {
        plan.jobs = jobs;
    }
    Ok(plan)
}

/// The plan as it is printed and kept: with the flags of sampling in it, which
/// otherwise stay flags so that they win.
pub(super) fn with_sampling(plan: &Plan, sampling: &Sampling) -> Result<Plan, Failure> {
    let flags = resolve_args::flag_layer(sampling)?;
    let mut plan = plan.clone();
    plan.settings = flags.clone().over(plan.settings);
    // A flag goes before what the plan says of some prompts or models, too.
    let prompts = plan.prompts.iter_mut().map(|it| &mut it.settings);
    let models = plan.overrides.iter_mut().map(|it| &mut it.settings);
    for settings in prompts.chain(models) {
        if settings.names().iter().any(|it| flags.names().contains(it)) {
            *settings = flags.clone().over(std::mem::take(settings));
        }
    }
    Ok(plan)
}

/// Parameters of flags; a key that is given again is an axis.
fn axes(param: &[String]) -> Result<Vec<(String, Values)>, Failure> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| {
                Failure::usage(format!("-p takes KEY=VALUE, and `{item}` is not that"))
            })?;
        let value = resolve_args::at_file(value)?;
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => all.push((name.to_owned(), vec![value])),
        }
    }
    Ok(all
        .into_iter()
        .map(|(name, mut values)| match (values.len(), values.pop()) {
            (1, Some(one)) => (name, Values::One(one)),
            (_, last) => {
                values.extend(last);
                (name, Values::Axis(values))
            }
        })
        .collect())
}

/// The plan with paths that mean the same everywhere, for the journal: a later
/// command may start in another folder.
pub(super) fn absolute(plan: &Plan) -> Plan {
    fn at(path: &mut PathBuf) {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
    fn ask(ask: &mut Ask) {
        ask.files.iter_mut().for_each(at);
        ask.pack_dirs.iter_mut().for_each(at);
        for pack in &mut ask.packs {
            let is_file = pack.ends_with(".wasm") || pack.contains(std::path::is_separator);
            if is_file && let Ok(path) = std::path::absolute(Path::new(pack)) {
                *pack = path.to_string_lossy().into_owned();
            }
        }
    }
    let mut plan = plan.clone();
    plan.out.iter_mut().for_each(at);
    ask(&mut plan.usual);
    plan.prompts.iter_mut().for_each(|it| ask(&mut it.ask));
    for model in &mut plan.models {
        if model.ends_with(".gguf")
            && let Ok(path) = std::path::absolute(Path::new(model))
        {
            *model = path.to_string_lossy().into_owned();
        }
    }
    for it in &mut plan.inputs {
        match it {
            InputEntry::Files(path) | InputEntry::Any(path) => {
                if path.is_relative()
                    && let Ok(here) = std::path::absolute(".")
                {
                    *path = batch::below(&here, &path.to_string_lossy());
                }
            }
            InputEntry::Text { .. } => {}
        }
    }
    // `./packs` is looked into from where the first run started.
    let mut here = PathBuf::from("packs");
    at(&mut here);
    if here.is_dir() && !plan.usual.pack_dirs.contains(&here) {
        plan.usual.pack_dirs.insert(0, here);
    }
    plan
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
                ("a".to_owned(), Values::Axis(own(&["1", "@2"]))),
                ("b".to_owned(), Values::One("x=y".to_owned()))
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
            let most = Most::parse(text).unwrap();
            assert_eq!(most.is_passed(failures, jobs), passed, "{text} {failures}");
        }
        for text in ["-1", "101%", "x", ""] {
            assert!(Most::parse(text).is_err(), "{text}");
        }
    }
}
