//! Checks whether a model fits into the memory of this machine, by an estimate of LM
//! Studio's program or by the size of the weights.

use std::path::Path;

use super::lms_cli;
use super::server_kind::ServerKind;
use super::server_target::ServerTarget;
use crate::engine::Error;
use crate::engine::memory::{Memory, MemoryNeed};
use crate::quantity::format_bytes;

/// The context length in tokens assumed for a load that does not set one.
const SERVER_DEFAULT_CONTEXT: u32 = 4096;

/// Checks whether the model fits into the memory of this machine. Returns a
/// warning if it exceeds the free memory.
///
/// # Errors
/// Returns an error with the numbers if it exceeds the total memory.
pub(super) async fn check_memory(target: &ServerTarget) -> Result<Vec<String>, Error> {
    let server = &target.server;
    if target.lifecycle.force || !server.client.is_loopback() {
        return Ok(Vec::new());
    }
    let context = target.context_to_load().unwrap_or(SERVER_DEFAULT_CONTEXT);
    let model = &target.listed.id;
    let memory = Memory::detect();
    let declared = target.listed.declared.unwrap_or(context);
    if server.kind == ServerKind::LmStudio
        && let Some(lms) = &target.lifecycle.lms_path
    {
        check_lms_estimate(target, lms, context, declared, memory.total).await?;
    }
    let facts = target.facts();
    let Some(weights) = target.listed.size_bytes.or(facts.size_bytes) else {
        return Ok(Vec::new());
    };
    let need = MemoryNeed {
        weight_bytes: weights,
        bytes_per_token: facts.context_bytes_per_token,
    };
    need.check(model, context, declared, memory.total)?;
    let bytes = need.bytes(context);
    Ok((bytes > memory.available)
        .then(|| {
            format!(
                "`{model}` with a context of {context} tokens needs about {}, but only {} of memory \
                 are free; video memory is not counted",
                format_bytes(bytes),
                format_bytes(memory.available)
            )
        })
        .into_iter()
        .collect())
}

/// Compares the estimate of LM Studio's program `lms` with the memory of this
/// machine, `total` bytes. Without an estimate, there is no error.
///
/// # Errors
/// Returns an error with the numbers if the model exceeds the memory.
async fn check_lms_estimate(
    target: &ServerTarget,
    lms: &Path,
    context: u32,
    declared: u32,
    total: u64,
) -> Result<(), Error> {
    let base_url = target.base_url();
    let model = &target.listed.id;
    let need = match lms_cli::estimate_memory(lms, base_url, model, context).await {
        Some(need) if need > total => need,
        _ => return Ok(()),
    };
    // A second estimate yields the memory per token, and so the largest context that
    // fits.
    let smaller_context = (context / 4).max(1);
    let smaller_need = lms_cli::estimate_memory(lms, base_url, model, smaller_context).await;
    let largest = smaller_need.and_then(|smaller_need| {
        let estimate =
            MemoryNeed::from_two_estimates((smaller_context, smaller_need), (context, need))?;
        estimate.largest_context(total, declared.min(context))
    });
    Err(Error::InsufficientMemory {
        model: model.clone(),
        context,
        required_bytes: need,
        available_bytes: total,
        largest_context: largest,
    })
}
