//! Reuses or starts a server for a model file, and waits until it has loaded the model.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lmstrix_inference::Event;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::arguments::{ServedModel, arguments};
use super::failure::LlamaServerFault;
use super::managed_model::ManagedModel;
use super::run_files::{Control, ServerRecord};
use super::server_log::OLD_LOGS;
use super::supervisor::{READY, SUPERVISOR_COMMAND, SupervisorReport, SupervisorRequest};
use super::usage::{NOTICE_LIMIT, STOP_LIMIT, stop};
use crate::engine::lease::Lease;
use crate::engine::server::{
    ListedInstance, LoadDecision, LoadMethod, LoadedCopy, ModelNames, ServerAddress,
    ServerInstance, ServerTarget, WantedInstance, decide_load, select_target,
};
use crate::engine::{Error, LLAMA_CPP};
use crate::secret::Secret;
use crate::store::{Sweep, TEMPORARY_PREFIX};

/// Variables of llama-server that would keep this program from reaching the server or choose
/// another model, and keys that are not for it.
const REMOVED_VARIABLES: [&str; 14] = [
    "LLAMA_ARG_API_KEY_FILE",
    "LLAMA_ARG_API_PREFIX",
    "LLAMA_ARG_HF_REPO",
    "LLAMA_ARG_HOST",
    "LLAMA_ARG_LOG_DISABLE",
    "LLAMA_ARG_LOG_FILE",
    "LLAMA_ARG_LOG_VERBOSITY",
    "LLAMA_ARG_MODEL",
    "LLAMA_ARG_MODEL_URL",
    "LLAMA_ARG_PORT",
    "LLAMA_ARG_SSL_CERT_FILE",
    "LLAMA_ARG_SSL_KEY_FILE",
    "LMSTRIX_HOST_API_KEY",
    "LM_API_TOKEN",
];

/// A server that has loaded its model.
#[derive(Debug)]
pub(in crate::engine) struct RunningServer {
    pub(in crate::engine) target: ServerTarget,
    pub(in crate::engine) instance: ServerInstance,
}

/// A server that is used, and whether this process started it.
struct UsedServer {
    record: ServerRecord,
    target: ServerTarget,
    /// The pipe that tells its supervisor of this process, if this process started it.
    supervisor: Option<ChildStdin>,
}

/// The attempts to start a server: another process may take its port before it listens.
const ATTEMPTS: u32 = 3;
/// A part of the line of a server whose port is taken.
const PORT_TAKEN: &str = "couldn't bind";

impl ManagedModel {
    /// Reuses a running server, or starts one, and keeps it running until the use ends. The
    /// caller sets the time limit: dropping the future ends a server that is being started.
    ///
    /// # Errors
    /// Returns an error if the server cannot be started or cannot load the model.
    pub(in crate::engine) async fn start(
        &self,
        emit: &mut (dyn FnMut(Event) + Send),
    ) -> Result<RunningServer, Error> {
        let start = Instant::now();
        let files = &self.usage.files;
        files.create()?;
        for sweep in [OLD_LOGS, Sweep::of_temporary_files(TEMPORARY_PREFIX)] {
            sweep.run(files.folder());
        }
        // Before anything is looked for, so that no supervisor ends its server in between.
        let lease = self.usage.lease()?;
        emit(Event::Loading(None));
        let start_lock = files.lock_start(&self.path).await?;
        let mut idle_ms = self.lifecycle.idle_limit().map(milliseconds);
        let server = match self.reuse(&lease, &mut idle_ms).await? {
            Some(server) => server,
            None => self.start_new(idle_ms).await?,
        };
        drop(start_lock);
        let UsedServer {
            record,
            target,
            supervisor,
        } = server;
        let is_new = supervisor.is_some();
        self.usage.hold(&record.id, lease, supervisor);
        let listed = target.instance();
        let instance = ServerInstance {
            is_owned: is_new,
            load_s: is_new.then(|| start.elapsed().as_secs_f64()),
            warnings: self.context_warning(listed.context).into_iter().collect(),
            ..listed
        };
        Ok(RunningServer { target, instance })
    }

    /// Uses a running server with the same settings and enough context. Ends servers of the
    /// file that are to be replaced; the one in their place stays at least as long as they
    /// would, by `idle_ms`. Must be called under the start lock.
    ///
    /// # Errors
    /// Returns an error if a server that another process uses would have to be replaced.
    async fn reuse(
        &self,
        lease: &Lease,
        idle_ms: &mut Option<u64>,
    ) -> Result<Option<UsedServer>, Error> {
        let files = &self.usage.files;
        let is_shared = self.usage.is_shared(Some(lease));
        for record in self.unsuitable_records() {
            if record.url.is_empty() {
                // Its starter has ended, and its supervisor ends it.
                files.wait_until_ended(&record.id, STOP_LIMIT).await;
            } else if !is_shared {
                *idle_ms = longer(*idle_ms, files.idle_ms(&record));
                stop(files, &record.id, &self.name).await?;
            }
        }
        let mut records = self.suitable_records();
        let copies: Vec<LoadedCopy> = records
            .iter()
            .map(|record| LoadedCopy {
                instance: ListedInstance {
                    id: record.id.clone(),
                    context: record.context,
                },
                is_owned: !is_shared,
                requested_context: record.requested_context,
            })
            .collect();
        let wanted = WantedInstance {
            context: self.requested_context,
            is_exact: self.lifecycle.exact_context,
            name: None,
            reload: self.lifecycle.reload,
        };
        match decide_load(wanted, &copies, LoadMethod::AddsInstance) {
            LoadDecision::Reuse(instance) => {
                records.retain(|record| record.id == instance.id);
                match records.pop() {
                    Some(record) => self.use_running(record).await,
                    None => Ok(None),
                }
            }
            LoadDecision::Reload(_) if is_shared => Err(Error::Refused {
                engine: LLAMA_CPP.to_owned(),
                model: self.name.clone(),
                reason: "another process uses it, so it is not reloaded".to_owned(),
            }),
            LoadDecision::Reload(ids) => {
                for record in records.iter().filter(|record| ids.contains(&record.id)) {
                    *idle_ms = longer(*idle_ms, files.idle_ms(record));
                    stop(files, &record.id, &self.name).await?;
                }
                Ok(None)
            }
            LoadDecision::Load | LoadDecision::Refuse(_) => Ok(None),
        }
    }

    /// Uses a running server. Returns `None` if it has just ended.
    async fn use_running(&self, record: ServerRecord) -> Result<Option<UsedServer>, Error> {
        self.usage.starts(&record.id);
        match self.connect(&record).await {
            Ok(target) => {
                self.extend_idle_time(&record)?;
                Ok(Some(UsedServer {
                    record,
                    target,
                    supervisor: None,
                }))
            }
            Err(error) if error.is_unreachable() => {
                let files = &self.usage.files;
                match files.wait_until_ended(&record.id, NOTICE_LIMIT).await {
                    true => Ok(None),
                    false => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Extends the time without users of a running server to that of this run. It is never
    /// shortened: another command has asked for it.
    fn extend_idle_time(&self, record: &ServerRecord) -> Result<(), Error> {
        let files = &self.usage.files;
        let (Some(current), idle) = (files.idle_ms(record), self.lifecycle.idle_limit()) else {
            return Ok(());
        };
        let idle_ms = idle.map_or(u64::MAX, milliseconds);
        if idle_ms <= current {
            return Ok(());
        }
        let control = Control {
            idle_ms: Some(idle_ms),
            stop: false,
        };
        files.write_control(&record.id, control)
    }

    /// Starts a server and waits until it has loaded the model. It ends after `idle_ms` without
    /// users.
    ///
    /// # Errors
    /// Returns an error if it ends before that.
    async fn start_new(&self, idle_ms: Option<u64>) -> Result<UsedServer, Error> {
        let mut attempt = 1;
        loop {
            match self.try_start(idle_ms).await {
                Err(Error::LlamaServer(failure))
                    if attempt < ATTEMPTS && failure.log_contains(&[PORT_TAKEN]) =>
                {
                    attempt += 1;
                }
                Err(error) => {
                    // The flags may be those of another executable behind the same script.
                    self.program.forget(&self.lifecycle.llama_server.cache_dir);
                    return Err(error);
                }
                server => return server,
            }
        }
    }

    async fn try_start(&self, idle_ms: Option<u64>) -> Result<UsedServer, Error> {
        let files = &self.usage.files;
        let settings = self.settings_digest();
        let mut record = ServerRecord::new(&self.name, &self.path, &self.alias, settings)
            .map_err(|source| files.write_error(files.folder(), source))?;
        record.requested_context = self.context;
        record.idle_ms = idle_ms;
        self.usage.starts(&record.id);
        let options = &self.lifecycle.llama_server;
        let served = ServedModel {
            path: &self.path,
            name: &self.alias,
            context: self.context,
        };
        let request = SupervisorRequest {
            state_dir: self.lifecycle.state_dir.clone(),
            program: self.program.path.clone(),
            args: arguments(&self.program, &options.settings, served),
            has_key_file: !self.program.has_key_variable,
            helper: options.supervisor.clone().unwrap_or_default(),
            record: record.clone(),
        };
        tracing::info!(program = %request.program.display(), "starting a server");
        let started = spawn_supervisor(&request, files.folder()).await;
        let (mut supervisor, mut reports) = started.map_err(|error| {
            let helper = request.helper.display();
            self.not_started(format!("its supervisor `{helper}`: {error}"))
        })?;
        record.url = match next_report(&mut reports).await {
            SupervisorReport::Listening(url) => url,
            report => return Err(self.ended(&record.id, report)),
        };
        // Older versions listen before they have loaded the model.
        let target = tokio::select! {
            biased;
            report = next_report(&mut reports) => return Err(self.ended(&record.id, report)),
            target = self.connect(&record) => target?,
        };
        record.context = target.instance().context;
        let context = record.context.map(|tokens| tokens.to_string());
        let ready = format!("{READY} {}\n", context.unwrap_or_default());
        let written = supervisor.write_all(ready.as_bytes()).await;
        written.map_err(|error| self.not_started(error.to_string()))?;
        // Still under the start lock, so that the next command finds the server.
        match next_report(&mut reports).await {
            SupervisorReport::Shared => {}
            report => return Err(self.ended(&record.id, report)),
        }
        Ok(UsedServer {
            record,
            target,
            supervisor: Some(supervisor),
        })
    }

    /// Returns the error for a report that is not the expected one.
    fn ended(&self, id: &str, report: SupervisorReport) -> Error {
        let fault = match report {
            SupervisorReport::Exited(status) => LlamaServerFault::ExitedEarly(status),
            SupervisorReport::NotStarted(cause) => LlamaServerFault::NotStarted(cause),
            SupervisorReport::Listening(_) | SupervisorReport::Shared => LlamaServerFault::Crashed,
        };
        self.usage.failure(id, fault)
    }

    fn not_started(&self, cause: String) -> Error {
        self.usage.failure("", LlamaServerFault::NotStarted(cause))
    }

    /// Waits until a server has loaded its model.
    ///
    /// # Errors
    /// Returns an error if it cannot be reached.
    async fn connect(&self, record: &ServerRecord) -> Result<ServerTarget, Error> {
        let address = ServerAddress::parse(&record.url).map_err(|error| Error::NotAServer {
            url: record.url.clone(),
            response: error.to_string(),
        })?;
        let address = address.with_own_key(Secret::new(record.key.expose()));
        let mut lifecycle = (*self.lifecycle).clone();
        // The registry knows the model by the engine, not by this address.
        let known = BTreeMap::from([(record.alias.clone(), self.known())]);
        lifecycle.known_models = BTreeMap::from([(record.url.clone(), known)]);
        select_target(
            &[address],
            true,
            ModelNames::default(),
            None,
            self.timeouts,
            Arc::new(lifecycle),
        )
        .await
    }
}

/// Starts the supervisor of a server in a folder. Returns its stdin, which it watches, and
/// its reports.
async fn spawn_supervisor(
    request: &SupervisorRequest,
    folder: &Path,
) -> std::io::Result<(ChildStdin, Lines<BufReader<ChildStdout>>)> {
    let mut command = Command::new(&request.helper);
    command
        .arg(SUPERVISOR_COMMAND)
        // The folder of the user may be removed while a server stays.
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for variable in REMOVED_VARIABLES {
        command.env_remove(variable);
    }
    #[cfg(windows)]
    {
        /// `CREATE_NO_WINDOW` and `CREATE_NEW_PROCESS_GROUP`: no console, no Ctrl-C.
        const FLAGS: u32 = 0x0800_0000 | 0x0000_0200;
        command.creation_flags(FLAGS);
    }
    let mut child = command.spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("the supervisor has no pipes"));
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stdin.write_all(&line).await?;
    stdin.flush().await?;
    Ok((stdin, BufReader::new(stdout).lines()))
}

/// Returns the next report of a supervisor. One that is gone was killed, and its server with
/// it.
async fn next_report(reports: &mut Lines<BufReader<ChildStdout>>) -> SupervisorReport {
    match reports.next_line().await {
        Ok(Some(line)) => serde_json::from_str(&line)
            .unwrap_or_else(|error| SupervisorReport::NotStarted(error.to_string())),
        Ok(None) => SupervisorReport::Exited("its supervisor was killed".to_owned()),
        Err(error) => SupervisorReport::NotStarted(error.to_string()),
    }
}

/// Returns the longer of two times in milliseconds; `None` has no end.
fn longer(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.max(other?))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
