//! Settings as flags, environment and config give them.

use super::texts::at_file;
use crate::args::Sampling;
use crate::config::Config;
use crate::environment::Env;
use crate::error::Failure;
use crate::inference::{Layer, MaxTokens, Origin};
use crate::sink::Messages;

/// Variables that mean something, without their prefix.
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

/// Says which of our variables mean nothing; a misspelt one would otherwise be
/// lost without a word.
pub(in super::super) fn warn_of_unknown_variables(env: &Env, messages: Messages) {
    for name in env
        .own
        .keys()
        .filter(|it| !VARIABLES.contains(&it.as_str()))
    {
        let close = crate::suggest::closest(name, VARIABLES);
        let hint = close
            .first()
            .map(|it| format!("; did you mean LMSTRIX_HOST_{it}?"));
        let hint = hint.unwrap_or_default();
        messages.warning(&format!(
            "LMSTRIX_HOST_{name} means nothing to this program{hint}"
        ));
    }
}

/// The settings of each source but the prompt and the model's file, the
/// strongest first.
pub(in super::super) fn layers(
    sampling: &Sampling,
    env: &Env,
    config: &Config,
) -> Result<[(Origin, Layer); 3], Failure> {
    let flags = flag_layer(sampling)?;
    let environment = environment_layer(env)?;
    let checked = [(Origin::Flag, flags), (Origin::Environment, environment)];
    for (origin, layer) in &checked {
        layer.check().map_err(|(name, why)| {
            Failure::usage(match origin {
                Origin::Flag => format!("--{} {why}", name.replace('_', "-")),
                _ => format!("LMSTRIX_HOST_{} {why}", name.to_uppercase()),
            })
        })?;
    }
    let [flags, environment] = checked;
    Ok([flags, environment, (Origin::Config, config.layer.clone())])
}

pub(in super::super) fn flag_layer(sampling: &Sampling) -> Result<Layer, Failure> {
    let Sampling {
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
    let json_schema = json_schema.as_deref().map(self::json_schema).transpose()?;
    Ok(Layer {
        temperature: *temperature,
        top_k: *top_k,
        top_p: *top_p,
        min_p: *min_p,
        repeat_penalty: *repeat_penalty,
        presence_penalty: *presence_penalty,
        frequency_penalty: *frequency_penalty,
        seed: *seed,
        max_tokens: max_tokens.map_err(|why| Failure::usage(format!("--max-tokens: {why}")))?,
        stop,
        json_schema,
        reasoning: reasoning.clone(),
        ..Layer::default()
    })
}

fn environment_layer(env: &Env) -> Result<Layer, Failure> {
    fn number<T: std::str::FromStr>(env: &Env, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = env.own.get(name) else {
            return Ok(None);
        };
        text.trim().parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "LMSTRIX_HOST_{name} is `{text}`, which is not a number it takes"
            ))
        })
    }
    let max_tokens = env
        .own
        .get("MAX_TOKENS")
        .map(|it| MaxTokens::parse(it))
        .transpose();
    Ok(Layer {
        temperature: number(env, "TEMPERATURE")?,
        top_k: number(env, "TOP_K")?,
        top_p: number(env, "TOP_P")?,
        min_p: number(env, "MIN_P")?,
        repeat_penalty: number(env, "REPEAT_PENALTY")?,
        presence_penalty: number(env, "PRESENCE_PENALTY")?,
        frequency_penalty: number(env, "FREQUENCY_PENALTY")?,
        seed: number(env, "SEED")?,
        max_tokens: max_tokens
            .map_err(|why| Failure::usage(format!("LMSTRIX_HOST_MAX_TOKENS: {why}")))?,
        stop: env.own.get("STOP").map(|it| vec![it.clone()]),
        reasoning: env.own.get("REASONING").cloned(),
        json_schema: env
            .own
            .get("JSON_SCHEMA")
            .map(|it| json_schema(it))
            .transpose()?,
        ..Layer::default()
    })
}

/// The schema itself, or the file of `@FILE`.
fn json_schema(given: &str) -> Result<String, Failure> {
    let schema = at_file(given)?;
    match serde_json::from_str::<serde_json::Value>(&schema) {
        Ok(_) => Ok(schema),
        Err(e) => Err(Failure::usage(format!("the JSON schema is not JSON: {e}"))),
    }
}
