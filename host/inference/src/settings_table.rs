//! The table that names each sampling setting once.

use crate::Scalar;

/// The values of `reasoning`.
pub const REASONING_LEVELS: [&str; 5] = ["off", "on", "low", "medium", "high"];

/// Passes the table of settings to a macro: `settings_table!(callback { … })` becomes
/// `callback! { { … } rows… }`. The defaults are those of LM Studio.
///
/// A row is a help text, attributes of the field in [`Settings`](crate::Settings), the
/// name in snake case, and in braces the type, the default if there is one, the allowed
/// values ([`Allowed`](crate::Allowed)), the name of the flag's value, and the flag's
/// further spellings.
///
/// From these rows come the fields of [`SettingsLayer`](crate::SettingsLayer) and
/// [`Settings`](crate::Settings), the flags with their help, the environment variables,
/// the keys of config and plan files, and what `--show-request` prints. What an engine
/// does with a setting is decided by the engine.
#[macro_export]
macro_rules! settings_table {
    ($callback:ident $extra:tt) => {
        $callback! {
            $extra
            /// Sampling temperature; 0 always picks the most likely token
            temperature { f64 = 0.8, Range(0.0, 100.0), "T", ["param_temp", "param-temp"] }
            /// Sample from the K most likely tokens; 0 disables
            top_k { u32 = 40, Range(0.0, 1_000_000.0), "K", ["param_top_k", "param-top-k"] }
            /// Sample from the most likely tokens with total probability P; 1 disables
            top_p { f64 = 0.95, Range(0.0, 1.0), "P", ["param_top_p", "param-top-p"] }
            /// Drop tokens less likely than P times the most likely one; 0 disables
            min_p { f64 = 0.05, Range(0.0, 1.0), "P", ["param_min_p", "param-min-p"] }
            /// Penalize tokens among the last 64; 1 disables
            repeat_penalty { f64 = 1.1, Range(0.01, 100.0), "X", ["param_repeat", "param-repeat"] }
            /// Penalize tokens that already occurred
            presence_penalty { f64, Range(-2.0, 2.0), "X", [] }
            /// Penalize tokens by how often they occurred
            frequency_penalty { f64, Range(-2.0, 2.0), "X", [] }
            /// Random seed, for reproducible answers; random if not set
            seed { u64, Any, "N", [] }
            /// Maximum length of the answer: tokens, percent of the context, or -1 for no limit
            max_tokens { MaxTokens = MaxTokens::Unlimited, Any, "N|P%|-1", ["out_ctx", "out-ctx"] }
            /// Stop sequence, replacing those of the prompt; repeatable
            stop { Vec<String> = Vec::new(), Any, "TEXT", [] }
            /// JSON Schema, or @FILE, that the answer must match
            #[serde(skip_serializing_if = "Option::is_none")]
            json_schema { String, Any, "SCHEMA|@FILE", [] }
            /// Reasoning effort
            #[serde(skip_serializing_if = "Option::is_none")]
            reasoning { String, OneOf(&REASONING_LEVELS), "LEVEL", [] }
        }
    };
}

/// The values that a setting accepts, within those of its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// All.
    Any,
    /// Numbers from a minimum to a maximum.
    Range(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

impl Allowed {
    pub(crate) fn allows(self, value: &Scalar) -> bool {
        match (self, value) {
            (Self::Range(min, max), Scalar::Float(value)) => (min..=max).contains(value),
            #[expect(clippy::cast_precision_loss, reason = "limits are small numbers")]
            (Self::Range(min, max), Scalar::Integer(value)) => {
                (min..=max).contains(&(*value as f64))
            }
            (Self::OneOf(texts), Scalar::Text(text)) => texts.contains(&text.as_str()),
            _ => true,
        }
    }

    /// Returns the description of the values, for messages: `expected …`.
    pub(crate) fn expected(self, of_type: &str) -> String {
        match self {
            Self::Any => of_type.to_owned(),
            Self::Range(min, max) => {
                let (noun, _) = of_type.split_once(" from ").unwrap_or((of_type, ""));
                format!("{noun} from {min} to {max}")
            }
            Self::OneOf(texts) => format!("one of {}", texts.join(", ")),
        }
    }
}

/// A row of the table of settings.
#[derive(Clone, Copy, Debug)]
pub struct SettingInfo {
    /// The name in snake case.
    pub name: &'static str,
    /// The help text, without the default.
    pub help: &'static str,
    /// The name of the flag's value.
    pub value_name: &'static str,
    /// Further spellings of the flag, without dashes.
    pub aliases: &'static [&'static str],
    /// The values that are accepted.
    pub allowed: Allowed,
    /// True if the setting can have several values.
    pub is_list: bool,
    pub(crate) default: fn() -> Option<Scalar>,
}

impl SettingInfo {
    /// Returns the default of this program, or `None` if the setting is off.
    #[must_use]
    pub fn default(&self) -> Option<Scalar> {
        (self.default)()
    }
}
