//! Settings from flags.

use crate::args::SamplingArgs;
use crate::client::parse_json_schema;
use crate::error::Failure;
use crate::inference::{MaxTokens, SettingsLayer};

/// Returns the settings of the command line.
///
/// # Errors
/// Returns an error if a value is out of range or a schema cannot be read.
pub(crate) fn flag_layer(sampling: &SamplingArgs) -> Result<SettingsLayer, Failure> {
    let SamplingArgs {
        temperature,
        top_k,
        top_p,
        min_p,
        repeat_penalty,
        presence_penalty,
        frequency_penalty,
        seed,
        max_tokens,
        stop,
        no_stop,
        reasoning,
        json_schema,
    } = sampling;
    let max_tokens = max_tokens.as_deref().map(MaxTokens::parse).transpose();
    let stop = match (no_stop, stop.is_empty()) {
        (true, _) => Some(Vec::new()),
        (false, false) => Some(stop.clone()),
        (false, true) => None,
    };
    let json_schema = json_schema.as_deref().map(parse_json_schema).transpose()?;
    let layer = SettingsLayer {
        temperature: *temperature,
        top_k: *top_k,
        top_p: *top_p,
        min_p: *min_p,
        repeat_penalty: *repeat_penalty,
        presence_penalty: *presence_penalty,
        frequency_penalty: *frequency_penalty,
        seed: *seed,
        max_tokens: max_tokens.map_err(|cause| Failure::usage(format!("--max-tokens: {cause}")))?,
        stop,
        json_schema,
        reasoning: reasoning.clone(),
        ..SettingsLayer::default()
    };
    layer
        .check()
        .map_err(|(name, cause)| Failure::usage(format!("--{} {cause}", name.replace('_', "-"))))?;
    Ok(layer)
}
