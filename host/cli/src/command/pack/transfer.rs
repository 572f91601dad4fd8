//! Copies packs from a source into a packs folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix::job::on_pack_thread;
use lmstrix_distribution::{
    Change, Connection, Credentials, Error, Fetched, Fetcher, LockedFolder, Progress, Replace,
    Source, check_loads,
};
use lmstrix_sandbox::{PackFolders, PackLoader, SandboxLimits};

use crate::args::RegistryArgs;
use crate::environment::Env;
use crate::error::Failure;
use crate::ui::{DownloadProgress, Messages};

/// Progress is shown for transfers of at least this size in bytes.
const SHOWN_BYTES: u64 = 1 << 20;

/// The parts of the program that a transfer uses.
pub(super) struct Transfer {
    messages: Messages,
    loader: Arc<PackLoader>,
    folders: PackFolders,
    limits: SandboxLimits,
    connection: Connection,
}

/// Returns how registries are reached.
pub(super) fn connection(registry: RegistryArgs, env: &Env) -> Connection {
    let variable = |name| env.all_variables.get(name).map(|value| value.expose());
    let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let folder = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable(home).map(|home| Path::new(home).join(".docker")));
    Connection {
        plain_http: registry.plain_http,
        credentials: Credentials {
            docker_config: folder.map(|folder| folder.join("config.json")),
        },
    }
}

/// Returns the packs folder that a command changes.
pub(super) fn packs_folder(pack_dir: Option<PathBuf>, env: &Env) -> PathBuf {
    pack_dir.unwrap_or_else(|| env.paths.data.join("packs"))
}

/// Returns whether symbolic links in a folder may point outside of it, as for a run that searches
/// it: a folder that is not searched was named by the user.
pub(super) fn allows_links(folder: &Path, searched: &PackFolders) -> bool {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    let known = searched.0.iter().find(|known| {
        known.path == folder
            || canonical(folder).is_some_and(|path| canonical(&known.path) == Some(path))
    });
    known.is_none_or(|known| known.allows_links)
}

impl Transfer {
    pub(super) fn new(setup: super::Setup, registry: RegistryArgs, env: &Env) -> Self {
        Self {
            messages: setup.messages,
            loader: setup.source.loader,
            folders: setup.source.folders,
            limits: setup.limits,
            connection: connection(registry, env),
        }
    }

    pub(super) fn messages(&self) -> Messages {
        self.messages
    }

    /// Opens a packs folder to change it.
    pub(super) fn open(&self, folder: &Path) -> Result<LockedFolder, Failure> {
        let allows_links = allows_links(folder, &self.folders);
        Ok(LockedFolder::open(folder, allows_links, self.limits)?)
    }

    /// Opens a packs folder to change it, and creates it if it does not exist.
    pub(super) fn create(&self, folder: &Path) -> Result<LockedFolder, Failure> {
        let allows_links = allows_links(folder, &self.folders);
        Ok(LockedFolder::create(folder, allows_links, self.limits)?)
    }

    /// Reads the packs of a source, and shows the progress.
    pub(super) async fn fetch(
        &self,
        source: &Source,
        name: Option<&str>,
    ) -> Result<Vec<Result<Fetched, Error>>, Failure> {
        let mut display = DownloadProgress::new(self.messages);
        let mut is_started = false;
        let address = source.to_string();
        let mut on_progress = |progress: Progress| {
            let Some(total) = progress.total_bytes.filter(|total| *total >= SHOWN_BYTES) else {
                return;
            };
            if !std::mem::replace(&mut is_started, true) {
                display.start(&address, total, 0);
            }
            display.set_position(progress.received_bytes);
        };
        let fetched = Fetcher {
            limits: &self.limits,
            name,
            connection: &self.connection,
            on_progress: &mut on_progress,
        }
        .fetch(source)
        .await;
        display.finish();
        let fetched = fetched?;
        for warning in fetched.iter().flatten().flat_map(|pack| &pack.warnings) {
            self.messages.warning(warning);
        }
        Ok(fetched)
    }

    /// Checks that a pack can be used, and writes it into a packs folder.
    pub(super) async fn put(
        &self,
        folder: &mut LockedFolder,
        pack: Fetched,
        replace: Replace,
    ) -> Result<Change, Failure> {
        let (loader, files) = (Arc::clone(&self.loader), pack.files.clone());
        on_pack_thread(move || check_loads(&loader, &files)).await??;
        let change = folder.put(&pack, replace)?;
        let digest = pack.files.digests().of_pack();
        let verb = match change {
            Change::Added => "added",
            Change::Replaced => "updated",
            Change::Unchanged => "unchanged",
            Change::NewSource => "recorded the new source of",
        };
        self.messages.status(&format!(
            "{verb} {} ({digest}) in {}",
            pack.files.name,
            folder.path().display()
        ));
        Ok(change)
    }
}
