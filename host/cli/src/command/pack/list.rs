//! `pack list`: the packs in the pack folders.

use lmstrix::client::Links;
use lmstrix_sandbox::{ByteSize, FoundPack, STANDARD_PACK, STANDARD_WASM};
use serde::Serialize;

use super::Setup;
use crate::args::PackListArgs;
use crate::command::models::{format_table, print, print_json};
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Output of `pack list --json`.
#[derive(Serialize)]
struct PackList {
    schema: u32,
    packs: Vec<ListedPack>,
    unused: Vec<ListedFile>,
}

#[derive(Serialize)]
struct ListedPack {
    name: String,
    /// Absent for the built-in pack.
    path: Option<String>,
    size_bytes: Option<u64>,
    compiled: bool,
    /// Files of the same name in later folders, which are not used.
    hides: Vec<String>,
}

#[derive(Serialize)]
struct ListedFile {
    path: String,
    reason: &'static str,
}

/// Runs `pack list`.
///
/// # Errors
/// Returns an error if the config cannot be read or stdout cannot be written.
pub(super) fn list(args: &PackListArgs, env: &Env) -> Result<Exit, Failure> {
    let Setup {
        messages, source, ..
    } = Setup::new(&args.common, env)?;
    let folders = source.folders_with(&args.pack_dir, Links::Allowed, &notices(messages));
    let (found, unused) = folders.scan();
    let listed = |pack: FoundPack| ListedPack {
        size_bytes: std::fs::metadata(&pack.path).map(|file| file.len()).ok(),
        compiled: source.loader.is_compiled(&pack.path),
        path: Some(pack.path.display().to_string()),
        hides: pack
            .shadowed
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        name: pack.name,
    };
    let standard = ListedPack {
        name: STANDARD_PACK.to_owned(),
        path: None,
        size_bytes: Some(STANDARD_WASM.len() as u64),
        compiled: source.loader.is_standard_compiled(),
        hides: Vec::new(),
    };
    let list = PackList {
        schema: 1,
        packs: std::iter::once(standard)
            .chain(found.into_iter().map(listed))
            .collect(),
        unused: unused
            .into_iter()
            .map(|file| ListedFile {
                path: file.path.display().to_string(),
                reason: file.reason,
            })
            .collect(),
    };
    if args.json {
        print_json(&list, env)?;
        return Ok(Exit::Done);
    }
    let rows = list.packs.iter().map(row).collect();
    print(&format_table(&["pack", "size", "compiled", "file"], rows))?;
    for pack in &list.packs {
        for path in &pack.hides {
            messages.warning(&format!(
                "{path} is not used: {} has the same name and comes first",
                pack.path.as_deref().unwrap_or_default()
            ));
        }
    }
    for ListedFile { path, reason } in &list.unused {
        messages.warning(&format!("{path} is not used: {reason}"));
    }
    Ok(Exit::Done)
}

fn row(pack: &ListedPack) -> Vec<String> {
    vec![
        pack.name.clone(),
        pack.size_bytes
            .map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).to_string()),
        if pack.compiled { "yes" } else { "no" }.to_owned(),
        pack.path.clone().unwrap_or_else(|| "built in".to_owned()),
    ]
}
