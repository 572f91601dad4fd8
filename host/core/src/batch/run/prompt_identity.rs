//! The identity of a prompt: the digest of its files and of the packs that it may use.

use super::plan_packs::PackIdentity;
use crate::batch::IdentityHasher;
use crate::job::PromptRequest;

/// Returns the digest of a prompt's files and of every pack that it may use.
pub(super) fn prompt_identity(request: &PromptRequest, packs: &PackIdentity) -> IdentityHasher {
    // Files count by name and text: another spelling of a path makes no other job.
    let without_files = PromptRequest {
        files: Vec::new(),
        pack_files: Vec::new(),
        ..request.clone()
    };
    let mut identity = IdentityHasher::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("prompt", &json(&without_files))
        .with("stock", packs.stock());
    for file in request.files.iter().chain(&request.pack_files) {
        identity.add(&file.name, &file.text);
    }
    packs.add_to(&mut identity);
    identity
}

/// Returns a value as JSON, which is its text inside identities.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
