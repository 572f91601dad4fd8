//! The life of models: what is there, what is loaded, what is known.

mod about;
mod doctor;
mod list;
mod loading;
mod reset;
mod save;
mod scan;

use std::io::Write;
use std::time::Duration;

pub(crate) use about::about;
pub(crate) use doctor::doctor;
pub(crate) use list::list;
pub(crate) use loading::{load, ps, unload};
pub(crate) use reset::reset;
pub(crate) use save::save;
pub(in crate::command) use scan::record;
pub(crate) use scan::scan;

use crate::args::{Common, Where};
use crate::command::resolve_args;
use crate::config::Config;
use crate::engine::{EMBEDDED, Memory, Reach, Survey, Wanted};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::registry::{ModelRecord, Registry};
use crate::sink::{self, Messages, visible, visible_json};
use crate::suggest::closest;

/// What every one of these commands starts with.
pub(in crate::command) struct Start {
    pub(in crate::command) messages: Messages,
    pub(in crate::command) config: Config,
    pub(in crate::command) wanted: Wanted,
    pub(in crate::command) reach: Reach,
}

pub(in crate::command) fn start(
    common: &Common,
    engines: &Where,
    env: &Env,
) -> Result<Start, Failure> {
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    resolve_args::warn_of_unknown_variables(env, messages);
    let config = resolve_args::config(common, env)?;
    let wanted = resolve_args::wanted(engines.engine.as_deref(), env, &config, messages)?;
    let (reach, _) = resolve_args::reach(env, &config)?;
    Ok(Start {
        messages,
        config,
        wanted,
        reach,
    })
}

/// Prints data; a reader that has had enough is success.
pub(in crate::command) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(sink::Error::Stdout(e).into()),
    }
}

/// Prints one JSON object.
pub(in crate::command) fn print_json(
    value: &impl serde::Serialize,
    env: &Env,
) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(Exit::Broken, format!("the answer cannot be written: {e}")))?;
    let text = if env.stdout_is_terminal {
        visible_json(&text)
    } else {
        text
    };
    print(&format!("{text}\n"))
}

/// A text of a server's or a file's, for people.
pub(in crate::command) fn shown(text: &str, env: &Env) -> String {
    if env.stdout_is_terminal {
        visible(text)
    } else {
        text.to_owned()
    }
}

/// A table without lines, which other programs can cut up, too.
pub(in crate::command) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets};
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head.iter().map(|it| it.to_uppercase()))
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// What is wrong with some engines is said; that none answers is an error.
fn problems(survey: &Survey, messages: Messages) {
    for place in &survey.places {
        if let Err(why) = &place.models {
            messages.warning(&format!("{}: {why}", place.shown));
        }
        for problem in &place.problems {
            messages.warning(problem);
        }
    }
}

/// Whether a model fits into the memory of its machine, as far as one can see.
pub(in crate::command) fn fits(place: &str, model: &ModelRecord, memory: Memory) -> bool {
    let is_here = place == EMBEDDED || place.contains("127.0.0.1") || place.contains("localhost");
    !is_here || model.size_bytes.is_none_or(|it| it <= memory.total)
}

/// The models of the registry that a name means, by exact identity.
fn known_models(
    registry: &Registry,
    names: &[String],
    is_meant: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        for (place, id, model) in registry.models() {
            if model.is_named(id, name) && is_meant(place) {
                found.push((place.to_owned(), id.to_owned()));
            }
        }
        if found.len() == before {
            let failure = Failure::new(
                Exit::Model,
                format!("nothing is known of a model named `{name}`"),
            );
            let meant = registry.models().filter(|(place, ..)| is_meant(place));
            let close = closest(name, meant.map(|(_, id, _)| id));
            let failure = match close.first() {
                Some(close) => failure.hint(format!("did you mean `{close}`?")),
                None => failure,
            };
            return Err(failure.hint("`scan` asks the engines for their models, `list` shows them"));
        }
    }
    Ok(found)
}

/// Which places of the registry an `--engine` means.
fn places(wanted: &Wanted, is_given: bool) -> impl Fn(&str) -> bool {
    let bases: Option<Vec<String>> = match wanted {
        _ if !is_given => None,
        Wanted::Embedded => Some(vec![EMBEDDED.to_owned()]),
        Wanted::Servers(endpoints) => {
            Some(endpoints.iter().map(|it| it.base().to_owned()).collect())
        }
        Wanted::Auto(_) => None,
    };
    move |place| {
        bases
            .as_ref()
            .is_none_or(|it| it.iter().any(|it| it == place))
    }
}

/// A number of things, for people.
pub(in crate::command) fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

/// How long ago something was, for people.
fn ago(at: jiff::Timestamp) -> String {
    let seconds = u64::try_from(jiff::Timestamp::now().as_second() - at.as_second()).unwrap_or(0);
    span(Duration::from_secs(seconds)) + " ago"
}

/// A span of time, for people.
pub(in crate::command) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds @ 100..6000 => format!("{} min", seconds / 60),
        seconds @ 6000..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
