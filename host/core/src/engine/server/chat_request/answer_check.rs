//! Checks of a response: whether the requested model answered, why the answer ended,
//! and whether an empty answer is an overflow of the context. Pure.

use lmstrix_inference::{FinishReason, Usage};

use super::prepared_request::PreparedRequest;
use crate::engine::Error;
use crate::engine::server::dialect::Endpoint;
use crate::engine::server::fault::{FaultKind, ServerFault};
use crate::engine::server::server_kind::ServerKind;
use crate::token_estimate::TokenEstimate;

/// Compares the model in the response with the requested one. With LM Studio and
/// Ollama another model is an error; with other servers the name may be an alias, so
/// it is a warning, which is returned.
///
/// # Errors
/// Returns an error if another model answered.
pub(super) fn check_model(
    prepared: &PreparedRequest<'_>,
    answered: &str,
) -> Result<Option<String>, Error> {
    let requested = &prepared.instance.id;
    let listed = &prepared.target.listed;
    let is_requested = [requested, &listed.id]
        .into_iter()
        .chain(&listed.aliases)
        .any(|name| {
            answered == name
                || answered
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with([':', '@']))
        });
    if is_requested {
        return Ok(None);
    }
    match prepared.target.server.kind {
        ServerKind::LmStudio | ServerKind::Ollama => Err(Error::WrongModel {
            engine: prepared.target.server.display_name(),
            requested: requested.clone(),
            actual: answered.to_owned(),
        }),
        ServerKind::LlamaServer
        | ServerKind::LlamaRouter
        | ServerKind::Vllm
        | ServerKind::OpenAi => Ok(Some(format!(
            "requested model `{requested}`, but the server reports model `{answered}`"
        ))),
    }
}

/// Refines the finish reason by the token counts. LM Studio's native chat
/// never reports that a limit cut the answer, and no server distinguishes
/// the limit of the context from that of the request.
pub(super) fn refine_finish(
    prepared: &PreparedRequest<'_>,
    finish: FinishReason,
    usage: Option<Usage>,
) -> FinishReason {
    let Some(usage) = usage else {
        return finish;
    };
    // If LM Studio reports a cut answer, it counts one token too few.
    let uncounted = u32::from(finish == FinishReason::Length);
    let at_limit = |limit: u32| usage.completion_tokens.saturating_add(uncounted) >= limit;
    let is_cut = match finish {
        FinishReason::Length => true,
        FinishReason::End => prepared.endpoint == Endpoint::LmStudioChat,
        _ => false,
    };
    if !is_cut {
        return finish;
    }
    if prepared.max_tokens.is_some_and(at_limit) {
        return FinishReason::Length;
    }
    let is_context_full = prepared.instance.context.is_some_and(|context| {
        usage
            .prompt_tokens
            .saturating_add(usage.completion_tokens)
            .saturating_add(uncounted)
            >= context
    });
    if is_context_full {
        FinishReason::ContextFull
    } else {
        finish
    }
}

/// Detects a prompt that exceeds the context, for an empty answer. LM Studio answers
/// it with an empty success; the size of the prompt distinguishes that from a model
/// that generates nothing.
pub(super) fn detect_silent_overflow(
    prepared: &PreparedRequest<'_>,
    finish: &FinishReason,
    usage: Option<Usage>,
) -> Option<ServerFault> {
    let context = prepared.instance.context?;
    let counted = usage
        .map(|usage| usage.prompt_tokens)
        .filter(|tokens| *tokens > 0);
    let is_studio =
        prepared.target.server.kind == ServerKind::LmStudio && *finish == FinishReason::End;
    let tokens = match counted {
        Some(counted) => counted,
        None if is_studio => TokenEstimate::of_prompt(&prepared.request.prompt, None).likely,
        None => return None,
    };
    (tokens >= context).then(|| ServerFault {
        kind: FaultKind::Overflow {
            prompt_tokens: Some(tokens.into()),
            output_tokens: None,
            context_tokens: Some(context.into()),
        },
        message:
            "the answer is empty, which is how some servers report that a prompt exceeds the context"
                .to_owned(),
        status: None,
        retry_after: None,
    })
}
