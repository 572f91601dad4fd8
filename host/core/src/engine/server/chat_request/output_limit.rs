//! The limit of output tokens: at most what the prompt leaves of the context.

use lmstrix_inference::{MaxTokens, Prompt, Settings};

use crate::engine::Error;
use crate::engine::server::server_instance::ServerInstance;
use crate::engine::server::server_kind::ServerKind;
use crate::engine::server::server_target::ServerTarget;
use crate::token_estimate::TokenEstimate;

/// Returns the limit of output tokens to send: at most what the prompt
/// leaves of the context. LM Studio and Ollama let a model generate beyond
/// the context and drop the beginning, so with them an unlimited request
/// gets this limit.
///
/// # Errors
/// Returns an error if a percentage cannot be resolved or the prompt is
/// certainly longer than the context.
pub(super) fn effective_max_tokens(
    target: &ServerTarget,
    instance: &ServerInstance,
    prompt: &Prompt,
    settings: &Settings,
) -> Result<Option<u32>, Error> {
    let limit = settings.max_tokens.value;
    let Some(context) = instance.context else {
        return limit_without_context(target, limit);
    };
    let prompt = TokenEstimate::of_prompt(prompt, target.facts().tokens_per_byte);
    // The other servers count the tokens of the prompt and report an
    // overflow.
    let truncates_silently = matches!(
        target.server.kind,
        ServerKind::LmStudio | ServerKind::Ollama
    );
    if truncates_silently && prompt.low > context {
        return Err(Error::PromptTooLong {
            engine: target.server.display_name(),
            model: target.listed.id.clone(),
            min_tokens: prompt.low,
            context,
        });
    }
    // If the estimate leaves nothing, let the server's count decide.
    let available = match context.saturating_sub(prompt.likely) {
        0 => context.saturating_sub(prompt.low),
        available => available,
    }
    .max(1);
    Ok(match limit.tokens(context) {
        Some(limit) => Some(limit.min(available)),
        None if truncates_silently => Some(available),
        None => None,
    })
}

/// Returns the limit for a server that does not report the effective context length,
/// so that a percentage refers to the tested or the declared one.
///
/// # Errors
/// Returns an error if a percentage cannot be resolved.
fn limit_without_context(target: &ServerTarget, limit: MaxTokens) -> Result<Option<u32>, Error> {
    let known = target.facts().tested.or(target.declared_context());
    match (limit, known) {
        (MaxTokens::Percent(_), None) => Err(Error::InvalidContext(format!(
            "{} does not report the context length of the model, so a percentage cannot \
             be resolved; give `--max-tokens` as a number",
            target.server.display_name()
        ))),
        (limit @ MaxTokens::Percent(_), Some(known)) => Ok(limit.tokens(known)),
        (limit, _) => Ok(limit.tokens(u32::MAX)),
    }
}
