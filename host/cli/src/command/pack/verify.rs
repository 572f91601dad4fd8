//! `pack verify` and `pack lock`: packs compared with the lock file of their folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lmstrix::client::Links;
use lmstrix_distribution::{Error, LockedFolder, PackState, verify as states};
use lmstrix_sandbox::LockFile;
use serde::Serialize;

use super::Setup;
use super::transfer::{allows_links, packs_folder};
use crate::args::{PackLockArgs, PackVerifyArgs};
use crate::command::models::{print, print_json};
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Output of `pack verify --json`.
#[derive(Serialize)]
struct Verified {
    schema: u32,
    packs: Vec<VerifiedPack>,
}

#[derive(Serialize)]
struct VerifiedPack {
    name: String,
    /// The packs folder.
    folder: String,
    /// `same`, `changed`, `missing` or `not locked`.
    state: &'static str,
    /// The differences.
    changes: Vec<String>,
}

/// Runs `pack verify`.
///
/// # Errors
/// Returns an error if a pack differs from its lock file.
pub(super) fn verify(args: &PackVerifyArgs, env: &Env) -> Result<Exit, Failure> {
    let Setup {
        messages,
        source,
        limits,
    } = Setup::new(&args.common, env)?;
    let folders = match args.pack_dir.is_empty() {
        false => match args.pack_dir.iter().find(|folder| !folder.is_dir()) {
            Some(folder) => return Err(Error::NoFolder(folder.clone()).into()),
            None => args.pack_dir.clone(),
        },
        true => {
            let searched = source.folders_with(&[], Links::Allowed, &notices(messages));
            let searched = searched.0.into_iter().map(|folder| folder.path);
            searched.filter(|folder| folder.is_dir()).collect()
        }
    };
    let mut packs = Vec::new();
    for (folder, names) in names_by_folder(&folders, &args.packs)? {
        let allows_links = allows_links(&folder, &source.folders);
        for (name, state) in states(&folder, &names, allows_links, &limits)? {
            let (state, changes) = match state {
                PackState::Same => ("same", Vec::new()),
                PackState::NotLocked => ("not locked", Vec::new()),
                PackState::Missing => ("missing", Vec::new()),
                PackState::Changed(changes) => ("changed", changes),
            };
            packs.push(VerifiedPack {
                name,
                folder: folder.display().to_string(),
                state,
                changes,
            });
        }
    }
    let different = packs.iter().filter(|pack| pack.state != "same").count();
    let verified = Verified { schema: 1, packs };
    if args.json {
        print_json(&verified, env)?;
    } else {
        print(&text(&verified.packs))?;
    }
    if verified.packs.is_empty() {
        let folders: Vec<String> = folders
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        messages.status(&format!("no packs in {}", folders.join(", ")));
    }
    if different == 0 {
        return Ok(Exit::Done);
    }
    let all = verified.packs.len();
    Err(
        Failure::usage(format!("{different} of {all} packs differ from packs.lock")).hint(
            "to get the locked packs: lmstrix-host pack update --locked --pack-dir DIR; \
         to record the packs as they are: lmstrix-host pack lock --pack-dir DIR",
        ),
    )
}

/// Returns the packs to compare for each folder; none means all. A name belongs to the first
/// folder that has or locks it.
fn names_by_folder(
    folders: &[PathBuf],
    names: &[String],
) -> Result<BTreeMap<PathBuf, Vec<String>>, Failure> {
    if names.is_empty() {
        return Ok(folders
            .iter()
            .map(|path| (path.clone(), Vec::new()))
            .collect());
    }
    let mut found: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for name in names {
        let mut has_it = None;
        for folder in folders {
            let is_locked = LockFile::read(folder)?.is_some_and(|file| file.get(name).is_some());
            let exists = |extension| folder.join(format!("{name}.{extension}")).exists();
            if is_locked || exists("wasm") || exists("toml") {
                has_it = Some(folder);
                break;
            }
        }
        let Some(folder) = has_it else {
            return Err(Failure::usage(format!("no pack named `{name}`"))
                .hint("to list the packs: lmstrix-host pack list"));
        };
        found.entry(folder.clone()).or_default().push(name.clone());
    }
    Ok(found)
}

fn text(packs: &[VerifiedPack]) -> String {
    let lines = packs.iter().map(|pack| {
        let path = Path::new(&pack.folder).join(&pack.name);
        let mut line = format!("{}: {}", path.display(), pack.state);
        if !pack.changes.is_empty() {
            line.push_str(&format!(": {}", pack.changes.join("; ")));
        }
        line + "\n"
    });
    lines.collect()
}

/// Runs `pack lock`.
///
/// # Errors
/// Returns an error if a pack is unknown or cannot be read, or the file cannot be written.
pub(super) fn lock(args: PackLockArgs, env: &Env) -> Result<Exit, Failure> {
    let Setup {
        messages,
        source,
        limits,
    } = Setup::new(&args.common, env)?;
    let path = packs_folder(args.pack_dir, env);
    let mut folder = LockedFolder::open(&path, allows_links(&path, &source.folders), limits)?;
    let states = folder.lock(&args.packs)?;
    if states.values().all(|state| *state == PackState::Same) {
        let lock_file = LockFile::path(folder.path());
        messages.status(&format!("nothing to change in {}", lock_file.display()));
    }
    for (name, state) in states {
        let done = match state {
            PackState::Same => continue,
            PackState::NotLocked => "added to",
            PackState::Missing => "not in the folder, and kept in",
            PackState::Changed(_) => "updated in",
        };
        let lock_file = LockFile::path(folder.path());
        messages.status(&format!("{name} {done} {}", lock_file.display()));
    }
    Ok(Exit::Done)
}
