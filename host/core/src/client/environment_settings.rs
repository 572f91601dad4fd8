//! Settings from `LMSTRIX_HOST_*` variables.

use lmstrix_inference::{SETTINGS, SettingsLayer};

use super::notices::Notices;
use super::text_files::parse_json_schema;
use crate::environment::Environment;
use crate::error::Error;

/// The variables that this program reads besides those of settings, without their
/// prefix.
const VARIABLES: [&str; 10] = [
    "CONNECT_TIMEOUT",
    "CONTEXT",
    "ENGINE",
    "FIRST_TOKEN_TIMEOUT",
    "HOME",
    "LOAD_TIMEOUT",
    "MODEL",
    "PROMPTS",
    "STREAM_TIMEOUT",
    "TIMEOUT",
];

/// Warns about unknown `LMSTRIX_HOST_*` variables, which are usually misspelt.
pub fn warn_about_unknown_variables(env: &Environment, notices: &Notices) {
    let of_settings: Vec<String> = SETTINGS
        .iter()
        .map(|setting| variable(setting.name))
        .collect();
    let known = || {
        VARIABLES
            .into_iter()
            .chain(of_settings.iter().map(String::as_str))
    };
    for name in env.own_variables.keys() {
        if known().any(|known| known == name) {
            continue;
        }
        let close = crate::suggest::similar_names(name, known());
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
pub(super) fn environment_layer(env: &Environment) -> Result<SettingsLayer, Error> {
    let mut layer = SettingsLayer::default();
    for setting in SETTINGS {
        let variable = variable(setting.name);
        let Some(text) = env.own_variables.get(&variable) else {
            continue;
        };
        layer.parse(setting.name, text).map_err(|error| {
            Error::usage(format!(
                "LMSTRIX_HOST_{variable}: invalid value `{text}`: expected {}",
                error.expected
            ))
        })?;
    }
    if let Some(schema) = &layer.json_schema {
        layer.json_schema = Some(parse_json_schema(schema)?);
    }
    Ok(layer)
}

/// Returns the variable of a setting, without its prefix.
fn variable(setting: &str) -> String {
    setting.to_uppercase()
}
