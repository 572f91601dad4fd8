//! `doctor`: checks configuration, folders, engines, registry and packs.

mod engines;
mod findings;

use std::path::Path;

use fs_err as fs;
use lmstrix::client::{self, PackSource};
use lmstrix::config::Config;
use lmstrix::engine::{Memory, format_bytes};
use lmstrix::error_chain::error_chain;
use lmstrix::job::{Cancel, on_pack_thread};
use lmstrix::quantity::count;
use lmstrix::store::folder_bytes;
use serde::Serialize;

use super::{escape_for_terminal, print, print_json};
use crate::args::{CommonArgs, DoctorArgs};
use crate::command::notices;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;
use engines::check_engines;
use findings::{Finding, Findings, Severity};

/// Output of `doctor --json`.
#[derive(Serialize)]
struct DoctorReport {
    schema: u32,
    version: &'static str,
    ok: bool,
    findings: Vec<Finding>,
}

/// Runs `doctor`.
///
/// # Errors
/// Returns an error only if it is interrupted: problems are findings.
pub(crate) async fn doctor(
    args: DoctorArgs,
    env: &Env,
    mut interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let mut findings = Findings::default();
    let config = config(&args.common, env, &mut findings);
    folders(env, &mut findings);
    let memory = Memory::detect();
    if memory.total < u64::MAX {
        findings.add(
            Severity::Ok,
            "memory",
            format!(
                "{} total, {} available",
                format_bytes(memory.total),
                format_bytes(memory.available)
            ),
        );
    }
    tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        () = check_engines(&args, env, &config, &mut findings) => {}
    }
    registry(env, &mut findings);
    tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        () = packs(&args, env, &config, &mut findings) => {}
    }
    match client::lm_studio_home(env) {
        Some(home) => findings.add(
            Severity::Ok,
            "lm studio",
            format!("folder {}", home.display()),
        ),
        None => findings.add(
            Severity::Note,
            "lm studio",
            "folder not found; `save` requires it",
        ),
    };
    let ok = findings
        .0
        .iter()
        .all(|finding| finding.severity != Severity::Wrong);
    if args.json {
        let report = DoctorReport {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            ok,
            findings: findings.0,
        };
        print_json(&report, env)?;
    } else {
        let mut text = format!("lmstrix-host {}\n", env!("CARGO_PKG_VERSION"));
        for finding in &findings.0 {
            let severity = match finding.severity {
                Severity::Ok => "ok   ",
                Severity::Note => "note ",
                Severity::Wrong => "WRONG",
            };
            text.push_str(&format!(
                "{severity} {}: {}\n",
                finding.about,
                escape_for_terminal(&finding.text, env)
            ));
            if let Some(hint) = &finding.hint {
                text.push_str(&format!("      -> {}\n", escape_for_terminal(hint, env)));
            }
        }
        print(&text)?;
    }
    Ok(if ok { Exit::Done } else { Exit::Broken })
}

fn config(common: &CommonArgs, env: &Env, findings: &mut Findings) -> Config {
    let path = common.config.as_ref().unwrap_or(&env.paths.config);
    match resolve_args::config(common, env) {
        Ok(config) => {
            let suffix = if path.exists() {
                ""
            } else {
                " (does not exist; optional)"
            };
            findings.add(
                Severity::Ok,
                "config",
                format!("{}{suffix}", path.display()),
            );
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
        if let Err(e) = check_writable(folder) {
            findings.add(
                Severity::Wrong,
                about,
                format!("{} is not writable: {e}", folder.display()),
            );
            findings.hint(
                "check permissions and free space, or set LMSTRIX_HOST_HOME to another folder",
            );
        } else {
            let size = format_bytes(folder_bytes(folder));
            findings.add(
                Severity::Ok,
                about,
                format!("{} ({size})", folder.display()),
            );
        }
    }
}

/// Checks that a temporary file can be created in `folder`. If the folder does not exist
/// yet, checks its nearest existing ancestor.
fn check_writable(folder: &Path) -> std::io::Result<()> {
    let existing = folder
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(folder);
    if !fs::metadata(existing)?.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    tempfile::Builder::new()
        .prefix(".doctor-")
        .tempfile_in(existing)?;
    Ok(())
}

fn registry(env: &Env, findings: &mut Findings) {
    let store = client::registry_store(env);
    match store.read() {
        Err(error) => findings.failure("registry", error),
        Ok(loaded) => {
            for warning in &loaded.warnings {
                findings.add(Severity::Wrong, "registry", warning.clone());
                findings.hint("`scan` repairs it");
            }
            let registry = &loaded.registry;
            let models = registry.models().count();
            if loaded.warnings.is_empty() {
                findings.add(
                    Severity::Ok,
                    "registry",
                    format!("{} in {}", count(models, "model"), store.path().display()),
                );
            }
            if models == 0 {
                findings.hint("`scan` queries the engines for models");
            }
            for (_, id, model) in registry.models() {
                for (level, trial) in &model.trials {
                    if trial.pending.is_some() {
                        findings.add(
                            Severity::Note,
                            "registry",
                            format!(
                                "a test of `{id}` ({}) is running or was killed",
                                level.as_str()
                            ),
                        );
                        findings.hint(format!("`test {id}` resumes it"));
                    }
                }
            }
        }
    }
}

async fn packs(args: &DoctorArgs, env: &Env, config: &Config, findings: &mut Findings) {
    let shown = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let PackSource { loader, folders } = match client::pack_source(env, config, &notices(shown)) {
        Ok(source) => source,
        Err(failure) => return findings.failure("packs", failure),
    };
    let load_all = move || {
        let mut results = vec![("standard".to_owned(), loader.load_standard().err())];
        for pack in folders.list() {
            results.push((pack.path.display().to_string(), loader.load(&pack).err()));
        }
        results
    };
    match on_pack_thread(load_all).await {
        Err(error) => findings.failure("packs", error),
        Ok(results) => {
            for (name, error) in results {
                match error {
                    None => {
                        findings.add(Severity::Ok, "pack", name);
                    }
                    Some(error) => {
                        findings.add(
                            Severity::Wrong,
                            "pack",
                            format!("{name}: {}", error_chain(&error)),
                        );
                        findings.hint("rebuild it against wit/prompts.wit, or remove it");
                    }
                }
            }
        }
    }
}
