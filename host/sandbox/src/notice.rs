//! Notices while packs are loaded.

use std::path::Path;

/// An event that is reported while packs are loaded.
#[derive(Debug)]
pub enum PackNotice<'a> {
    /// Compilation of a pack starts; it can take many seconds.
    Compiling {
        /// Name of the pack.
        name: &'a str,
        /// Size of the component in bytes.
        bytes: u64,
    },
    /// The component holds other files of the pack, which are not used unless
    /// [`unbundle`](crate::unbundle) writes them beside it.
    Bundle {
        /// Path of the component.
        path: &'a Path,
    },
    /// A compiled pack could not be written to the cache.
    NotCached {
        /// The cache folder.
        folder: &'a Path,
        /// The I/O error.
        reason: String,
    },
}
