//! OCI registries: pulls and pushes packs in the layout for WebAssembly artifacts, so that tools
//! such as `wkg` and `oras` can be used with them, too.
//!
//! - `reference`: `HOST/REPOSITORY[:TAG][@DIGEST]`
//! - `credentials`: those that Docker keeps
//! - `layout`: the manifest of a pack, and the files of a manifest
//! - `client`: the requests

mod client;
mod credentials;
mod layout;
mod reference;

pub(crate) use client::Pulled;
pub use client::{Connection, Registry};
pub use credentials::Credentials;
pub use reference::OciReference;
