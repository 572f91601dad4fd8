//! The jobs of a plan, each with its prompt resolved once, its name, and what is
//! to be done about it: everything that can be wrong before a model is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;

use super::intent::Manner;
use super::stuff::Stuff;
use crate::batch::{
    self, Cell, Decision, InputEntry, InputFrom, JOURNAL, Need, Of, OnDisk, Parts, Past, Plan,
    Planned, State, Template,
};
use crate::error::{Exit, Failure};
use crate::inference::{Layer, Prompt};
use crate::job::{ProcessorChain, ResolvedJob};
use crate::sink::Messages;
use crate::token_estimate::Estimate;

/// How many prompts wait for the packs at once: each holds the files that it is
/// made from.
const AHEAD: usize = 32;
/// How many of several failures are shown.
const SHOWN: usize = 5;
/// The extension of a result that asks for none.
const EXTENSION: &str = "txt";

/// A job, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) cell: Cell,
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) key: String,
    pub(super) prompt_bytes: u64,
    pub(super) need: Need,
    pub(super) decision: Decision,
    /// Lengths of files in its place that an earlier run wrote.
    pub(super) ours: Vec<u64>,
    /// Lengths of earlier failures that may stand in the result's place.
    pub(super) inline: Vec<u64>,
}

impl Job {
    pub(super) fn runs(&self) -> bool {
        matches!(self.decision, Decision::Run { .. })
    }
}

/// What came of looking at all jobs.
pub(super) struct Planning {
    pub(super) jobs: Vec<Job>,
    pub(super) template: Template,
    /// Told once each.
    pub(super) warnings: Vec<String>,
    /// Jobs that are another part's.
    pub(super) elsewhere: usize,
}

/// Looks at all jobs. Prompts of jobs that the journal knows as they are need no
/// pack; all others are resolved.
pub(super) async fn plan_jobs(
    stuff: &Stuff,
    plan: &Plan,
    manner: &Manner,
    past: &Past,
    out: &Path,
    messages: Messages,
) -> Result<Planning, Failure> {
    let counts: Vec<usize> = stuff
        .entries
        .iter()
        .map(|it| it.combinations.len())
        .collect();
    let takes = |prompt: usize, model: usize| {
        let (Some(entry), Some(model)) = (stuff.entries.get(prompt), stuff.models.get(model))
        else {
            return false;
        };
        entry.models.is_empty() || entry.models.iter().any(|it| model.is_meant(it))
    };
    let mut cells = batch::cells(&counts, stuff.inputs.len(), stuff.models.len(), takes);
    let all = cells.len();
    if let Some(shard) = manner.shard {
        cells = of_shard(stuff, &cells, shard);
    }
    let template = template(stuff, plan, past)?;
    let mut warnings = Vec::new();
    let mut made: Vec<Option<Made>> = Vec::new();
    let mut unknown = Vec::new();
    for cell in &cells {
        let key = stuff.key(*cell);
        let known = past.by_key.get(&key).and_then(|name| {
            let known = past.jobs.get(name)?;
            let is_done = |_: &&batch::Kept| known.state == State::Done;
            let kept = known.kept.as_ref().filter(is_done)?;
            // An older result of that name may have been made of this; the one
            // that lies there was not.
            if kept.key != key {
                return None;
            }
            Some(Made {
                name: name.clone(),
                identity: kept.identity.clone(),
                key: key.clone(),
                prompt_bytes: known.size.0,
                need: Need {
                    context: known.size.1,
                    ..Need::default()
                },
            })
        });
        if known.is_none() {
            unknown.push((made.len(), *cell, key));
        }
        made.push(known);
    }
    if unknown.len() > 200 {
        messages.status(&format!("resolving {} prompts", unknown.len()));
    }
    let mut failures = Vec::new();
    let mut opened = vec![false; stuff.entries.len()];
    for some in unknown.chunks(AHEAD) {
        let mut waiting = Vec::new();
        for (at, cell, key) in some {
            let preparing = stuff.question(*cell).map(|it| stuff.packs.prepare(it));
            waiting.push((*at, *cell, key, preparing));
        }
        for (at, cell, key, preparing) in waiting {
            let prepared = match preparing {
                Ok(preparing) => preparing.wait().await,
                Err(failure) => Err(failure),
            };
            let prepared = match prepared {
                Ok(prepared) => {
                    // Wrong options show when a processor is opened.
                    let first = opened
                        .get_mut(cell.prompt)
                        .map(|it| std::mem::replace(it, true));
                    match first {
                        Some(false) => ProcessorChain::open(prepared.steps.clone())
                            .await
                            .map(|_| prepared)
                            .map_err(Failure::from),
                        _ => Ok(prepared),
                    }
                }
                failed => failed,
            };
            let it = match prepared {
                Ok(prepared) => {
                    for warning in &prepared.warnings {
                        if is_of_column(stuff, cell, warning) {
                            continue;
                        }
                        let warning = format!("{}: {warning}", stuff.of(cell).prompt);
                        if !warnings.contains(&warning) {
                            warnings.push(warning);
                        }
                    }
                    of_prepared(stuff, cell, &prepared, key, &template)
                }
                // What the user can mend ends the run before anything is paid.
                Err(failure) if failure.exit == Exit::Usage => {
                    failures.push((cell, failure));
                    continue;
                }
                // A pack that fails costs its jobs, and they say so when it is
                // their turn.
                Err(_) => Made {
                    name: name(stuff, cell, &template, EXTENSION),
                    identity: "unresolved".to_owned(),
                    key: key.clone(),
                    prompt_bytes: 0,
                    need: Need::default(),
                },
            };
            if let Some(place) = made.get_mut(at) {
                *place = Some(it);
            }
        }
        if failures.len() >= SHOWN {
            break;
        }
    }
    if let Some(failure) = unmade(stuff, failures) {
        return Err(failure);
    }
    let mut jobs = Vec::with_capacity(cells.len());
    for (cell, made) in cells.iter().zip(made) {
        let Some(made) = made else { continue };
        other_input(stuff, *cell, &made, past, &template)?;
        jobs.push(decided(*cell, made, manner, past, out));
    }
    check_names(stuff, &jobs, &template)?;
    Ok(Planning {
        elsewhere: all - cells.len(),
        jobs,
        template,
        warnings,
    })
}

/// A name that an earlier run gave to another input's result is no name for this
/// one: the answer would never be asked for.
fn other_input(
    stuff: &Stuff,
    cell: Cell,
    made: &Made,
    past: &Past,
    template: &Template,
) -> Result<(), Failure> {
    let before = past.jobs.get(&made.name).and_then(|it| it.of.as_ref());
    let now = stuff.of(cell);
    match before {
        Some(before) if before.input != now.input || before.params != now.params => {
            let shown = |of: &Of| {
                let input = of.input.as_deref().unwrap_or("no input");
                let axes = of
                    .params
                    .iter()
                    .map(|(name, value)| format!(", {name}={value}"));
                format!("`{input}`{}", axes.collect::<String>())
            };
            Err(Failure::usage(format!(
                "{} is the result for {}; the names in this folder, made by `{}`, do not tell {} \
                 apart from it",
                made.name,
                shown(before),
                template.as_str(),
                shown(&now)
            ))
            .hint("another folder (-o) gets names that do, by itself or by --name"))
        }
        _ => Ok(()),
    }
}

/// Whether the standard pack says of a column that a prompt has no use for it: a
/// table may have as many as it likes. (A test holds the pack to these words.)
fn is_of_column(stuff: &Stuff, cell: Cell, warning: &str) -> bool {
    let Some(InputFrom::Row { params }) = stuff.input(cell).map(|it| &it.from) else {
        return false;
    };
    params
        .iter()
        .any(|(name, _)| warning == format!("the parameter `{name}` is not used by the prompt"))
}

struct Made {
    name: String,
    identity: String,
    key: String,
    prompt_bytes: u64,
    need: Need,
}

fn of_prepared(
    stuff: &Stuff,
    cell: Cell,
    prepared: &ResolvedJob,
    key: &str,
    template: &Template,
) -> Made {
    let resolved = &prepared.resolved;
    let settings = stuff.settings(cell, resolved.settings.clone(), Layer::default());
    let per_byte = stuff.model(cell).and_then(|it| it.tokens_per_byte);
    let texts: Vec<&str> = match &resolved.prompt {
        Prompt::Raw(text) => vec![text],
        Prompt::Chat(messages) => messages.iter().map(|it| it.content.as_str()).collect(),
    };
    let bytes: usize = texts.iter().map(|it| it.len()).sum();
    let estimate = Estimate::new(texts, per_byte);
    let extension = resolved.extension.as_deref().unwrap_or(EXTENSION);
    Made {
        name: name(stuff, cell, template, extension),
        identity: stuff.identity(cell, prepared, &settings),
        key: key.to_owned(),
        prompt_bytes: bytes as u64,
        need: batch::need(estimate, settings.max_tokens.value),
    }
}

fn decided(cell: Cell, made: Made, manner: &Manner, past: &Past, out: &Path) -> Job {
    let known = past.jobs.get(&made.name);
    let path = out.join(&made.name);
    let on_disk = match fs::symlink_metadata(&path) {
        Err(_) => OnDisk::Absent,
        Ok(it) => {
            let kept = known.and_then(|it| it.kept.as_ref());
            let is_right = || {
                let kept = kept.filter(|kept| manner.verify && kept.length == it.len());
                kept.is_none_or(|kept| {
                    fs::read(&path).is_ok_and(|it| batch::file_digest(&it) == kept.sha256)
                })
            };
            if is_right() {
                OnDisk::There(it.len())
            } else {
                OnDisk::Altered(it.len())
            }
        }
    };
    let planned = Planned {
        identity: &made.identity,
        known,
        on_disk,
    };
    let decision = batch::decide(planned, manner.policy);
    let mut ours = Vec::new();
    let mut inline = Vec::new();
    if let Some(known) = known {
        ours.extend(known.results().iter().map(|it| it.length));
        inline.clone_from(&known.inline);
        ours.extend(&inline);
    }
    // One whose digest is wrong is nobody's to replace.
    if matches!(on_disk, OnDisk::Altered(_)) {
        ours.clear();
    }
    Job {
        cell,
        name: made.name,
        identity: made.identity,
        key: made.key,
        prompt_bytes: made.prompt_bytes,
        need: made.need,
        decision,
        ours,
        inline,
    }
}

fn name(stuff: &Stuff, cell: Cell, template: &Template, extension: &str) -> String {
    let axes = stuff.combination(cell).map(|it| it.axes.as_slice());
    let parts = Parts {
        prompt: stuff.entry(cell).map_or("", |it| &it.label),
        model: stuff.model(cell).map_or("", |it| &it.label),
        input: stuff.input(cell).map(|it| it.name.as_str()),
        params: axes.unwrap_or_default(),
    };
    template.name(&parts, extension)
}

/// The template is fixed by the folder's first run.
fn template(stuff: &Stuff, plan: &Plan, past: &Past) -> Result<Template, Failure> {
    let parse = |text: &str| {
        Template::parse(text)
            .map_err(|why| Failure::usage(format!("the template of names `{text}`: {why}")))
    };
    match (&past.head, &plan.name) {
        (Some(head), Some(name)) if head.name != *name => Err(Failure::usage(format!(
            "the names in this folder are made by `{}`, and not by `{name}`",
            head.name
        ))
        .hint("another folder (-o) takes other names")),
        (Some(head), _) => parse(&head.name),
        (None, Some(name)) => parse(name),
        (None, None) => {
            let many = |it: &InputEntry| matches!(it, InputEntry::Any(_));
            let has_inputs = stuff.inputs.len() > 1 || plan.inputs.iter().any(many);
            let has_axes = stuff.entries.iter().any(|it| it.combinations.len() > 1);
            Ok(Template::usual(has_inputs, has_axes))
        }
    }
}

/// No two jobs share a name, and none has one of ours.
fn check_names(stuff: &Stuff, jobs: &[Job], template: &Template) -> Result<(), Failure> {
    let shown = |cell: Cell| {
        let of = stuff.of(cell);
        let mut text = format!("`{}` on `{}`", of.prompt, of.model);
        if let Some(input) = &of.input {
            text += &format!(", input `{input}`");
        }
        for (name, value) in &of.params {
            text += &format!(", {name}={value}");
        }
        text
    };
    let mut seen: BTreeMap<String, Cell> = BTreeMap::new();
    for job in jobs {
        if job.name == JOURNAL {
            return Err(Failure::usage(format!(
                "the result of {} would be called {JOURNAL}, which is the journal's name",
                shown(job.cell)
            )));
        }
        if let Some(other) = seen.insert(batch::key(&job.name), job.cell) {
            return Err(Failure::usage(format!(
                "the names made by `{}` do not tell apart {} and {}: both are {}",
                template.as_str(),
                shown(other),
                shown(job.cell),
                job.name
            ))
            .hint("--name takes {prompt}, {model}, {input} and {params}; a folder keeps its template, so another one (-o) may be needed"));
        }
    }
    Ok(())
}

/// What cannot be made, of all that can be seen at once.
fn unmade(stuff: &Stuff, failures: Vec<(Cell, Failure)>) -> Option<Failure> {
    let mut failures = failures.into_iter();
    let (cell, first) = failures.next()?;
    let with = |cell: Cell, message: &str| match stuff.input(cell) {
        Some(input) => format!("input `{}`: {message}", input.name),
        None => message.to_owned(),
    };
    let mut messages = vec![first.message.clone()];
    let mut texts = vec![with(cell, &first.message)];
    for (cell, other) in failures {
        // A prompt that is wrong is so for every input.
        if !messages.contains(&other.message) {
            texts.push(with(cell, &other.message));
            messages.push(other.message);
        }
    }
    let mut failure = Failure {
        message: texts.join("\n"),
        ..first
    };
    // A batch reads no stdin.
    let is_of_text = |it: &String| it.contains("stdin");
    if failure.hints.iter().any(is_of_text) {
        failure.hints.retain(|it| !is_of_text(it));
        failure = failure.hint("--text, --text-file, or a column of --inputs gives `text`");
    }
    Some(failure.hint("nothing was loaded, and no job was run"))
}

/// The jobs of one part of the plan, by model first.
fn of_shard(stuff: &Stuff, cells: &[Cell], shard: batch::Shard) -> Vec<Cell> {
    let names: Vec<String> = cells
        .iter()
        .map(|cell| {
            let of = stuff.of(*cell);
            format!("{:?} {:?} {:?}", of.prompt, of.input, of.params)
        })
        .collect();
    let mut by_model: Vec<(&str, f64, Vec<&str>)> = Vec::new();
    let mut places: Vec<Vec<Cell>> = Vec::new();
    for (index, model) in stuff.models.iter().enumerate() {
        let mut own = Vec::new();
        let mut own_cells = Vec::new();
        for (cell, name) in cells.iter().zip(&names) {
            if cell.model == index {
                own.push(name.as_str());
                own_cells.push(*cell);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = own.len() as f64;
        by_model.push((&model.label, weight, own));
        places.push(own_cells);
    }
    let taken = batch::split(&by_model, shard);
    places
        .into_iter()
        .zip(taken)
        .flat_map(|(cells, taken)| {
            let both = cells.into_iter().zip(taken);
            both.filter_map(|(cell, is_ours)| is_ours.then_some(cell))
        })
        .collect()
}
