//! `pack remove`: removes packs from a packs folder.

use lmstrix_distribution::LockedFolder;

use super::Setup;
use super::transfer::{allows_links, packs_folder};
use crate::args::PackRemoveArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `pack remove`.
///
/// # Errors
/// Returns an error for the first pack that cannot be removed.
pub(super) fn remove(args: PackRemoveArgs, env: &Env) -> Result<Exit, Failure> {
    let Setup {
        messages,
        source,
        limits,
    } = Setup::new(&args.common, env)?;
    let path = packs_folder(args.pack_dir, env);
    let mut folder = LockedFolder::open(&path, allows_links(&path, &source.folders), limits)?;
    for name in &args.packs {
        folder.remove(name, args.force)?;
        messages.status(&format!("removed {name} from {}", folder.path().display()));
    }
    Ok(Exit::Done)
}
