//! Settings from `LMSTRIX_HOST_*` variables.

use crate::environment::Env;
use crate::error::Failure;
use crate::inference::{MaxTokens, SettingsLayer};

use super::notices::Notices;
use super::text_files::parse_json_schema;

/// The variables that this program reads, without their prefix.
const VARIABLES: [&str; 22] = [
    "CONNECT_TIMEOUT",
    "CONTEXT",
    "ENGINE",
    "FIRST_TOKEN_TIMEOUT",
    "FREQUENCY_PENALTY",
    "HOME",
    "JSON_SCHEMA",
    "LOAD_TIMEOUT",
    "MAX_TOKENS",
    "MIN_P",
    "MODEL",
    "PRESENCE_PENALTY",
    "PROMPTS",
    "REASONING",
    "REPEAT_PENALTY",
    "SEED",
    "STOP",
    "STREAM_TIMEOUT",
    "TEMPERATURE",
    "TIMEOUT",
    "TOP_K",
    "TOP_P",
];

/// Warns about unknown `LMSTRIX_HOST_*` variables, which are usually misspelt.
pub(crate) fn warn_about_unknown_variables(env: &Env, notices: &Notices) {
    for name in env
        .own_variables
        .keys()
        .filter(|name| !VARIABLES.contains(&name.as_str()))
    {
        let close = crate::suggest::similar_names(name, VARIABLES);
        let hint = close
            .first()
            .map(|name| format!("; did you mean LMSTRIX_HOST_{name}?"));
        let hint = hint.unwrap_or_default();
        notices.warning(&format!(
            "unknown environment variable LMSTRIX_HOST_{name}{hint}"
        ));
    }
}

/// Returns the settings of the environment.
///
/// # Errors
/// Returns an error if a value is not of its type or out of range.
pub(super) fn environment_layer(env: &Env) -> Result<SettingsLayer, Failure> {
    fn number<T: std::str::FromStr>(env: &Env, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = env.own_variables.get(name) else {
            return Ok(None);
        };
        text.trim().parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "LMSTRIX_HOST_{name}: `{text}` is not a valid number"
            ))
        })
    }
    let max_tokens = env
        .own_variables
        .get("MAX_TOKENS")
        .map(|text| MaxTokens::parse(text))
        .transpose();
    let layer = SettingsLayer {
        temperature: number(env, "TEMPERATURE")?,
        top_k: number(env, "TOP_K")?,
        top_p: number(env, "TOP_P")?,
        min_p: number(env, "MIN_P")?,
        repeat_penalty: number(env, "REPEAT_PENALTY")?,
        presence_penalty: number(env, "PRESENCE_PENALTY")?,
        frequency_penalty: number(env, "FREQUENCY_PENALTY")?,
        seed: number(env, "SEED")?,
        max_tokens: max_tokens
            .map_err(|cause| Failure::usage(format!("LMSTRIX_HOST_MAX_TOKENS: {cause}")))?,
        stop: env.own_variables.get("STOP").map(|text| vec![text.clone()]),
        reasoning: env.own_variables.get("REASONING").cloned(),
        json_schema: env
            .own_variables
            .get("JSON_SCHEMA")
            .map(|given| parse_json_schema(given))
            .transpose()?,
        ..SettingsLayer::default()
    };
    layer.check().map_err(|(name, cause)| {
        Failure::usage(format!("LMSTRIX_HOST_{} {cause}", name.to_uppercase()))
    })?;
    Ok(layer)
}
