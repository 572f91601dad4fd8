//! The Hugging Face hub: lists the files of a repository and downloads a model
//! file, with resume and checksum.
//!
//! The modules, in the order in which a download uses them:
//!
//! - `reference`: `OWNER/REPO[:QUANT]`
//! - `client`: requests to the hub
//! - `remote_file`: the model files of a repository, and the choice of one
//! - `pull`: from the reference to the file in its folder
//! - `download`: the data of a file, in several attempts
//! - `partial_file`: the data so far, which a later run resumes from
//! - `error`: the errors of all of them

mod client;
mod download;
mod error;
mod partial_file;
mod pull;
mod reference;
mod remote_file;

pub use client::{DEFAULT_HUB_URL, Hub};
pub use download::PullProgress;
pub use error::HubError;
pub use pull::PullResult;
pub use reference::HubReference;
