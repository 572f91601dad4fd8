//! A pack of a command, and where it is searched.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::complete;

/// A pack, and the folders to search for it.
#[derive(Debug, Args)]
pub(crate) struct WhichPackArgs {
    /// Name of a pack, or a .wasm or .toml file
    #[arg(value_name = "NAME|FILE", add = ArgValueCandidates::new(complete::packs))]
    pub pack: String,
    /// Folder to search for packs after ./packs and the user's pack folder; repeatable
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Vec<PathBuf>,
}
