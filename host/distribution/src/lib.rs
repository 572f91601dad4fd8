//! Copies prompt packs: from files, folders, URLs and OCI registries into a packs folder, and
//! from there to an OCI registry. A folder's `packs.lock` records the digests and sources.
//!
//! In the order of an added pack: `source` (its address), `fetch` (its files), `download` and
//! `registry` (from a server), `check` (it can be loaded), `locked_folder` (it is written), `state`
//! (it is compared with the lock file).

mod busy_file;
mod check;
mod download;
mod error;
mod fetch;
mod locked_folder;
mod registry;
mod source;
mod state;

pub use check::check_loads;
pub use error::Error;
pub use fetch::{Fetched, Fetcher, Progress};
pub use locked_folder::{Change, LockedFolder, Replace};
pub use registry::{Connection, Credentials, OciReference, Registry};
pub use source::Source;
pub use state::{PackState, verify};
