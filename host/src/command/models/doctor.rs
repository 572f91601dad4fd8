//! `doctor`: what is found, what is wrong, and what to do about it.

use std::path::Path;

use fs_err as fs;
use serde::Serialize;

use super::{count, print, print_json, shown};
use crate::args::{Common, Doctor};
use crate::command::resolve_args;
use crate::config::Config;
use crate::engine::{EMBEDDED, Memory, Wanted, gigabytes, survey};
use crate::environment::Env;
use crate::error::{Exit, Failure, chain};
use crate::job::{Interrupt, on_pack_thread};
use crate::sink::Messages;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Note,
    Wrong,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    mark: Mark,
    about: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    schema: u32,
    version: &'static str,
    ok: bool,
    findings: Vec<Finding>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, mark: Mark, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding {
            mark,
            about,
            text: text.into(),
            hint: None,
        });
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    fn failure(&mut self, about: &'static str, failure: Failure) {
        self.add(Mark::Wrong, about, failure.message);
        if !failure.hints.is_empty() {
            self.hint(failure.hints.join("; "));
        }
    }
}

/// Runs `doctor`.
///
/// # Errors
/// Only Ctrl-C: what is wrong is a finding.
pub(crate) async fn doctor(
    args: Doctor,
    env: &Env,
    mut interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let mut findings = Findings::default();
    let config = config(&args.common, env, &mut findings);
    folders(env, &mut findings);
    let memory = Memory::here();
    if memory.total < u64::MAX {
        findings.add(
            Mark::Ok,
            "memory",
            format!(
                "{}, of which {} are free",
                gigabytes(memory.total),
                gigabytes(memory.available)
            ),
        );
    }
    tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        () = engines(&args, env, &config, &mut findings) => {}
    }
    registry(env, &mut findings);
    tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        () = packs(env, &config, &mut findings) => {}
    }
    match resolve_args::studio_home(env) {
        Some(home) => findings.add(
            Mark::Ok,
            "lm studio",
            format!("its folder is {}", home.display()),
        ),
        None => findings.add(
            Mark::Note,
            "lm studio",
            "its folder was not found; `save` needs it",
        ),
    };
    let ok = findings.0.iter().all(|it| it.mark != Mark::Wrong);
    if args.json {
        let report = Report {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            ok,
            findings: findings.0,
        };
        print_json(&report, env)?;
    } else {
        let mut text = format!("lmstrix-host {}\n", env!("CARGO_PKG_VERSION"));
        for it in &findings.0 {
            let mark = match it.mark {
                Mark::Ok => "ok   ",
                Mark::Note => "note ",
                Mark::Wrong => "WRONG",
            };
            text.push_str(&format!("{mark} {}: {}\n", it.about, shown(&it.text, env)));
            if let Some(hint) = &it.hint {
                text.push_str(&format!("      -> {}\n", shown(hint, env)));
            }
        }
        print(&text)?;
    }
    Ok(if ok { Exit::Done } else { Exit::Broken })
}

fn config(common: &Common, env: &Env, findings: &mut Findings) -> Config {
    let path = common.config.as_ref().unwrap_or(&env.paths.config);
    match resolve_args::config(common, env) {
        Ok(config) => {
            let what = if path.exists() {
                ""
            } else {
                " (not there; it need not be)"
            };
            findings.add(Mark::Ok, "config", format!("{}{what}", path.display()));
            config
        }
        Err(failure) => {
            findings.failure("config", failure);
            Config::default()
        }
    }
}

fn folders(env: &Env, findings: &mut Findings) {
    let all = [
        ("data", &env.paths.data),
        ("state", &env.paths.state),
        ("cache", &env.paths.cache),
    ];
    for (about, folder) in all {
        if let Err(e) = writable(folder) {
            findings.add(
                Mark::Wrong,
                about,
                format!("{} cannot be written: {e}", folder.display()),
            );
            findings.hint("mend its rights or free some space; LMSTRIX_HOST_HOME moves it");
        } else {
            findings.add(Mark::Ok, about, folder.display().to_string());
        }
    }
}

/// Whether files can be made there; a folder that is not there yet is made
/// where it can be, which is the nearest one above that is.
fn writable(folder: &Path) -> std::io::Result<()> {
    let there = folder.ancestors().find(|it| it.exists()).unwrap_or(folder);
    if !fs::metadata(there)?.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    tempfile::Builder::new()
        .prefix(".doctor-")
        .tempfile_in(there)?;
    Ok(())
}

async fn engines(args: &Doctor, env: &Env, config: &Config, findings: &mut Findings) {
    let quiet = Messages::new(true, false, false);
    let wanted = resolve_args::wanted(args.engines.engine.as_deref(), env, config, quiet);
    let reach = resolve_args::reach(env, config);
    let (wanted, reach) = match (wanted, reach) {
        (Ok(wanted), Ok((reach, _))) => (wanted, reach),
        (Err(failure), _) | (_, Err(failure)) => return findings.failure("engines", failure),
    };
    let state = resolve_args::claims(env);
    let models = env.paths.data.join("models");
    let asked = survey(&wanted, &models, &state, reach, &mut |_| {}).await;
    for place in &asked.places {
        let version = place.version.as_deref().unwrap_or("of an unknown version");
        match &place.models {
            Err(why) => {
                findings.add(Mark::Wrong, "engine", format!("{}: {why}", place.shown));
            }
            Ok(models) => {
                let loaded: usize = models.iter().map(|it| it.instances.len()).sum();
                let loaded = match place.kind {
                    EMBEDDED => String::new(),
                    _ => format!(", {loaded} loaded"),
                };
                findings.add(
                    Mark::Ok,
                    "engine",
                    format!(
                        "{}, {version}: {}{loaded}",
                        place.shown,
                        count(models.len(), "model")
                    ),
                );
                let ours: Vec<&str> = models
                    .iter()
                    .flat_map(|it| &it.instances)
                    .filter(|it| it.is_ours)
                    .map(|it| it.id.as_str())
                    .collect();
                if !ours.is_empty() {
                    findings.add(
                        Mark::Note,
                        "loaded",
                        format!("this program left loaded: {}", ours.join(", ")),
                    );
                    findings.hint("`unload --all` frees the memory");
                }
            }
        }
        for problem in &place.problems {
            findings.add(Mark::Wrong, "model", problem.clone());
            findings.hint("remove the file, or run it with llama-server, LM Studio or Ollama");
        }
    }
    if let Some(refused) = asked.refused {
        let failure = Failure::from(refused);
        // Nobody has to have a server; but one that was written down is missed.
        if matches!(wanted, Wanted::Auto(_)) && config.engines.is_empty() {
            findings.add(Mark::Note, "engine", failure.message);
            findings.hint(failure.hints.join("; "));
        } else {
            findings.failure("engine", failure);
        }
    } else if matches!(wanted, Wanted::Auto(_)) {
        for engine in &config.engines {
            let base = crate::engine::Endpoint::parse(&engine.url);
            let base = base.as_ref().map_or("", |it| it.base());
            if !asked.places.iter().any(|it| it.place == base) {
                findings.add(
                    Mark::Wrong,
                    "engine",
                    format!(
                        "the config's [engines.{}] at {} does not answer",
                        engine.name, engine.url
                    ),
                );
                findings.hint(format!("--engine {} says why", engine.name));
            }
        }
    }
}

fn registry(env: &Env, findings: &mut Findings) {
    let store = resolve_args::store(env);
    match store.read() {
        Err(error) => findings.failure("registry", error.into()),
        Ok(known) => {
            for warning in &known.warnings {
                findings.add(Mark::Wrong, "registry", warning.clone());
                findings.hint("`scan` mends it");
            }
            let registry = &known.registry;
            let models = registry.models().count();
            if known.warnings.is_empty() {
                findings.add(
                    Mark::Ok,
                    "registry",
                    format!("{} in {}", count(models, "model"), store.path().display()),
                );
            }
            if models == 0 {
                findings.hint("`scan` asks the engines for their models");
            }
            for (_, id, model) in registry.models() {
                for (level, trial) in &model.trials {
                    if trial.pending.is_some() {
                        findings.add(
                            Mark::Note,
                            "registry",
                            format!(
                                "a test of `{id}` ({}) is running, or was killed",
                                level.as_str()
                            ),
                        );
                        findings.hint(format!("`test {id}` goes on with it"));
                    }
                }
            }
        }
    }
}

async fn packs(env: &Env, config: &Config, findings: &mut Findings) {
    let quiet = Messages::new(true, false, false);
    let (packs, folders) = match resolve_args::packs(env, config, quiet) {
        Ok(it) => it,
        Err(failure) => return findings.failure("packs", failure),
    };
    let work = move || {
        let mut loaded = vec![("standard".to_owned(), packs.standard().err())];
        for found in folders.list() {
            loaded.push((found.path.display().to_string(), packs.load(&found).err()));
        }
        loaded
    };
    match on_pack_thread(work).await {
        Err(error) => findings.failure("packs", error.into()),
        Ok(loaded) => {
            for (name, error) in loaded {
                match error {
                    None => {
                        findings.add(Mark::Ok, "pack", name);
                    }
                    Some(error) => {
                        findings.add(Mark::Wrong, "pack", format!("{name}: {}", chain(&error)));
                        findings.hint("build it anew against wit/prompts.wit, or remove it");
                    }
                }
            }
        }
    }
}
