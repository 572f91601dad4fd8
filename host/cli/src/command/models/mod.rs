//! The commands that manage models: `scan`, `list`, `load`, `unload`, `ps`, `reset`,
//! `save`, `doctor` and `about`. Shared output helpers are here.

mod about;
mod doctor;
mod list;
mod load;
mod reset;
mod save;
mod scan;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

pub(crate) use about::about;
pub(crate) use doctor::doctor;
pub(crate) use list::list;
pub(crate) use load::{load, ps, unload};
pub(crate) use reset::reset;
pub(crate) use save::save;
pub(crate) use scan::scan;

use lmstrix::client::{self, TimeoutOptions};
use lmstrix::config::Config;
use lmstrix::engine::{
    self, Catalog, ConnectTimeouts, EMBEDDED, EngineSelection, LLAMA_CPP, ModelFolders,
    query_catalog,
};
use lmstrix::job::Cancel;
use lmstrix::registry::Registry;
use lmstrix::sink::{self, escape_controls, escape_controls_json};
use lmstrix::suggest::similar_names;

use crate::args::{CommonArgs, EngineArgs};
use crate::command::notices;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Values that most of these commands need, from flags, environment and config.
pub(in crate::command) struct CommandSetup {
    pub(in crate::command) messages: Messages,
    pub(in crate::command) config: Config,
    pub(in crate::command) selection: EngineSelection,
    pub(in crate::command) connect_timeouts: ConnectTimeouts,
}

/// Loads the config and resolves the engines and timeouts of a command.
pub(in crate::command) fn command_setup(
    common: &CommonArgs,
    engines: &EngineArgs,
    env: &Env,
) -> Result<CommandSetup, Failure> {
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    client::warn_about_unknown_variables(env, &notices(messages));
    let config = resolve_args::config(common, env)?;
    let selection =
        client::engine_selection(engines.engine.as_deref(), env, &config, &notices(messages))?;
    let (_, connect_timeouts) = client::timeouts(&TimeoutOptions::default(), env, &config)?;
    Ok(CommandSetup {
        messages,
        config,
        selection,
        connect_timeouts,
    })
}

impl CommandSetup {
    /// Queries the engines of a selection for their models. `on_file` is called with each
    /// model file before it is read.
    pub(in crate::command) async fn catalog(
        &self,
        selection: &EngineSelection,
        folders: &ModelFolders,
        env: &Env,
        on_file: &mut (dyn FnMut(&Path) + Send),
    ) -> Catalog {
        let lifecycle = client::listing_options(env, &self.config);
        query_catalog(
            selection,
            folders,
            &lifecycle,
            self.connect_timeouts,
            on_file,
        )
        .await
    }

    /// Queries the engines for their loaded instances: the servers of the selection, and the
    /// servers that this program started.
    ///
    /// # Errors
    /// Returns an error if no engine answers, or if the command is interrupted.
    async fn loaded(&self, env: &Env, interrupt: Cancel<'_>) -> Result<Catalog, Failure> {
        let servers = EngineSelection::Servers(self.selection.servers().to_vec());
        let no_folders = ModelFolders::default();
        let mut ignore_file = |_: &Path| {};
        let querying = self.catalog(&servers, &no_folders, env, &mut ignore_file);
        let mut catalog = tokio::select! {
            biased;
            () = interrupt => return Err(Failure::interrupted()),
            catalog = querying => catalog,
        };
        let is_automatic = matches!(self.selection, EngineSelection::Auto(_));
        if is_automatic || matches!(self.selection, EngineSelection::LlamaCpp) {
            let state_dir = client::ownership_folder(env);
            catalog.engines.extend(engine::running_servers(&state_dir));
        }
        let has_llama_server =
            client::llama_server_options(env, &self.config).is_available() && is_automatic;
        match catalog.server_error.take() {
            Some(error) if catalog.engines.is_empty() && !has_llama_server => Err(error.into()),
            _ => Ok(catalog),
        }
    }
}

/// Prints `text` to stdout, on a terminal with visible control characters. A closed pipe is
/// not an error.
pub(in crate::command) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let text = if stdout.is_terminal() {
        escape_controls(text)
    } else {
        text.to_owned()
    };
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(sink::Error::Stdout(e).into()),
    }
}

/// Prints `value` as one JSON object; escapes control characters on a terminal.
pub(in crate::command) fn print_json(
    value: &impl serde::Serialize,
    env: &Env,
) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(Exit::Broken, format!("cannot serialize the output: {e}")))?;
    let text = if env.stdout_is_terminal {
        escape_controls_json(&text)
    } else {
        text
    };
    print(&format!("{text}\n"))
}

/// Escapes control characters if stdout is a terminal. For text from servers and files.
pub(in crate::command) fn escape_for_terminal(text: &str, env: &Env) -> String {
    if env.stdout_is_terminal {
        escape_controls(text)
    } else {
        text.to_owned()
    }
}

/// Formats a table with aligned columns and without borders.
pub(in crate::command) fn format_table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets};
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head.iter().map(|name| name.to_uppercase()))
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

/// Prints a warning for each engine that failed, and for each unusable model file.
fn warn_about_problems(catalog: &Catalog, messages: Messages) {
    for engine in &catalog.engines {
        if let Err(cause) = &engine.models {
            messages.warning(&format!("{}: {cause}", engine.display_name));
        }
        for problem in &engine.problems {
            messages.warning(problem);
        }
    }
}

/// Returns the engine address and id of all models in the registry with one of `names`,
/// by exact match, at the engines that `is_selected` accepts.
///
/// # Errors
/// Returns an error if a name matches no model.
fn matching_models(
    registry: &Registry,
    names: &[String],
    is_selected: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, Failure> {
    let mut matches = Vec::new();
    for name in names {
        let previous = matches.len();
        for (engine, id, model) in registry.models() {
            if model.is_named(id, name) && is_selected(engine) {
                matches.push((engine.to_owned(), id.to_owned()));
            }
        }
        if matches.len() == previous {
            let failure = Failure::new(
                Exit::Model,
                format!("no model named `{name}` in the registry"),
            );
            let selected = registry.models().filter(|(engine, ..)| is_selected(engine));
            let similar = similar_names(name, selected.map(|(_, id, _)| id));
            let failure = match similar.first() {
                Some(similar) => failure.hint(format!("did you mean `{similar}`?")),
                None => failure,
            };
            return Err(failure.hint("`scan` queries the engines for models, `list` prints them"));
        }
    }
    Ok(matches)
}

/// Returns a function that tests whether `--engine` selects an engine address of the
/// registry. Without `--engine` (`is_explicit` is false) it accepts all.
fn engine_filter(selection: &EngineSelection, is_explicit: bool) -> impl Fn(&str) -> bool {
    let addresses: Option<Vec<String>> = match selection {
        _ if !is_explicit => None,
        EngineSelection::Embedded => Some(vec![EMBEDDED.to_owned()]),
        EngineSelection::LlamaCpp => Some(vec![LLAMA_CPP.to_owned()]),
        EngineSelection::Servers(servers) => Some(
            servers
                .iter()
                .map(|server| server.base_url().to_owned())
                .collect(),
        ),
        EngineSelection::Auto(_) => None,
    };
    move |engine| {
        addresses
            .as_ref()
            .is_none_or(|addresses| addresses.iter().any(|address| address == engine))
    }
}

/// Formats how long ago a time was: `5 min ago`.
fn format_ago(at: jiff::Timestamp) -> String {
    let seconds = u64::try_from(jiff::Timestamp::now().as_second() - at.as_second()).unwrap_or(0);
    format_duration(Duration::from_secs(seconds)) + " ago"
}

/// Formats a duration in its largest suitable unit: `90 s`, `5 min`, `3 h`, `4 days`.
pub(in crate::command) fn format_duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds @ 100..6000 => format!("{} min", seconds / 60),
        seconds @ 6000..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
