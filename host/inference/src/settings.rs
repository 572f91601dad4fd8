//! Sampling settings: the layers that set them, and the effective settings of an
//! inference. Their fields come from the table of settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings_table;
use crate::settings_table::{Allowed, REASONING_LEVELS, SettingInfo};
use crate::{MaxTokens, Scalar, SettingValue};

/// The number of recent tokens that the repeat penalty applies to; the default of
/// LM Studio and llama.cpp.
pub const REPEAT_LAST_TOKENS: usize = 64;

/// The source of a setting, in order of precedence: the first one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A command-line flag.
    Flag,
    /// The plan of a batch.
    Plan,
    /// A `LMSTRIX_HOST_*` environment variable.
    Environment,
    /// The prompt, or the pack that resolved it.
    Prompt,
    /// The config file.
    Config,
    /// The recommendation in the model file.
    ModelFile,
    /// The default of this program.
    Default,
}

impl Origin {
    /// Returns whether the user or the prompt chose the value.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        !matches!(self, Self::ModelFile | Self::Default)
    }
}

/// A value and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WithOrigin<T> {
    /// The value.
    pub value: T,
    /// The origin.
    pub origin: Origin,
}

/// An invalid value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The setting's name in snake case.
    pub name: String,
    /// The value.
    pub value: String,
    /// The values that would be valid.
    pub expected: String,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            value,
            expected,
        } = self;
        write!(
            f,
            "invalid value `{value}` for `{name}`: expected {expected}"
        )
    }
}

impl std::error::Error for InvalidSetting {}

/// The type of a field of [`Settings`]: a setting without a default can be absent.
macro_rules! effective {
    ($type:ty = $default:expr) => { WithOrigin<$type> };
    ($type:ty) => { Option<WithOrigin<$type>> };
}

/// Returns the effective value of a setting.
macro_rules! resolve {
    ($layers:ident, $name:ident = $default:expr) => {
        first($layers, |layer| layer.$name.clone()).unwrap_or(WithOrigin {
            value: $default,
            origin: Origin::Default,
        })
    };
    ($layers:ident, $name:ident) => {
        first($layers, |layer| layer.$name.clone())
    };
}

/// Returns the name, value and origin of an effective setting, if it has a value.
macro_rules! entry {
    ($settings:ident, $name:ident = $default:expr) => {
        Some(entry(stringify!($name), &$settings.$name))
    };
    ($settings:ident, $name:ident) => {
        $settings
            .$name
            .as_ref()
            .map(|setting| entry(stringify!($name), setting))
    };
}

macro_rules! define_settings {
    ({} $(
        #[doc = $help:literal]
        $(#[$attribute:meta])*
        $name:ident { $type:ty $(= $default:expr)?, $allowed:ident $(($($limit:expr),*))?, $value_name:literal, [$($alias:literal),*] }
    )*) => {
        /// All settings, in the order in which they are shown.
        pub const SETTINGS: &[SettingInfo] = &[$(SettingInfo {
            name: stringify!($name),
            help: $help,
            value_name: $value_name,
            aliases: &[$($alias),*],
            allowed: Allowed::$allowed $(($($limit),*))?,
            is_list: <$type as SettingValue>::IS_LIST,
            default: || {
                let default: Option<$type> = None $(.or(Some($default)))?;
                default.map(|value| value.to_scalar())
            },
        }),*];

        /// The settings of one source; `None` means not set.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct SettingsLayer {
            $(#[doc = $help] pub $name: Option<$type>,)*
            /// Settings of individual engines that have no field here.
            pub other: BTreeMap<String, String>,
        }

        impl SettingsLayer {
            /// Sets a setting by its name, from a value in a file.
            ///
            /// # Errors
            /// Returns an error if no setting has this name, or the value is invalid.
            pub fn set(&mut self, name: &str, value: Scalar) -> Result<(), InvalidSetting> {
                match name {
                    $(stringify!($name) => {
                        let shown = value.as_written();
                        let allowed = Allowed::$allowed $(($($limit),*))?;
                        self.$name = Some(checked(name, shown, allowed, SettingValue::from_scalar(value))?);
                        Ok(())
                    })*
                    _ => Err(unknown(name, value.to_string())),
                }
            }

            /// Sets a setting by its name, from the text of a flag or a variable.
            ///
            /// # Errors
            /// Returns an error if no setting has this name, or the text is invalid.
            pub fn parse(&mut self, name: &str, text: &str) -> Result<(), InvalidSetting> {
                match name {
                    $(stringify!($name) => {
                        let allowed = Allowed::$allowed $(($($limit),*))?;
                        self.$name = Some(checked(name, text.to_owned(), allowed, SettingValue::parse(text))?);
                        Ok(())
                    })*
                    _ => Err(unknown(name, text.to_owned())),
                }
            }

            /// Removes a setting by its name.
            pub fn clear(&mut self, name: &str) {
                match name {
                    $(stringify!($name) => self.$name = None,)*
                    _ => {}
                }
            }

            /// Returns the settings that are set, in the order of the table, without
            /// `other`.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static str, Scalar)> {
                let all = [$((stringify!($name), self.$name.as_ref().map(SettingValue::to_scalar))),*];
                all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
            }

            /// Merges two layers; the values of `self` take precedence.
            #[must_use]
            pub fn over(self, weaker: Self) -> Self {
                let mut other = weaker.other;
                other.extend(self.other);
                Self {
                    $($name: self.$name.or(weaker.$name),)*
                    other,
                }
            }

            /// Checks that all values are in the ranges that engines accept.
            ///
            /// # Errors
            /// Returns the first invalid setting.
            pub fn check(&self) -> Result<(), InvalidSetting> {
                $(if let Some(value) = &self.$name {
                    let allowed = Allowed::$allowed $(($($limit),*))?;
                    let shown = value.to_scalar().to_string();
                    checked(stringify!($name), shown, allowed, Some(value.clone()))?;
                })*
                Ok(())
            }
        }

        /// The effective settings of one inference, each with its origin.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct Settings {
            $(#[doc = $help] $(#[$attribute])* pub $name: effective!($type $(= $default)?),)*
            /// Settings of individual engines that have no field here.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub other: BTreeMap<String, WithOrigin<String>>,
        }

        impl Settings {
            /// Merges layers into effective settings. For each setting the first layer
            /// that sets it wins; the defaults come last.
            ///
            /// `layers` must be in the order of [`Origin`].
            #[must_use]
            pub fn resolve(layers: &[(Origin, &SettingsLayer)]) -> Self {
                Self {
                    $($name: resolve!(layers, $name $(= $default)?),)*
                    other: other(layers),
                }
            }

            /// Returns the name, value and origin of each setting that has a value, in
            /// the order of the table; those of `other` come last.
            #[must_use]
            pub fn values(&self) -> Vec<(&str, Scalar, Origin)> {
                let all = [$(entry!(self, $name $(= $default)?)),*];
                let other = self.other.iter().map(|(name, setting)| entry(name, setting));
                all.into_iter().flatten().chain(other).collect()
            }
        }
    };
}

settings_table!(define_settings {});

impl SettingsLayer {
    /// Returns the names of the settings that are set.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let known = self.values().into_iter().map(|(name, _)| name);
        known.chain(self.other.keys().map(String::as_str)).collect()
    }
}

impl Settings {
    /// Returns the names of the settings that the user or the prompt chose.
    #[must_use]
    pub fn explicit_names(&self) -> Vec<&str> {
        self.values()
            .into_iter()
            .filter(|(_, _, origin)| origin.is_explicit())
            .map(|(name, _, _)| name)
            .collect()
    }
}

/// Returns a value that is valid and allowed.
fn checked<T: SettingValue>(
    name: &str,
    shown: String,
    allowed: Allowed,
    value: Option<T>,
) -> Result<T, InvalidSetting> {
    value
        .filter(|value| value.is_valid() && allowed.allows(&value.to_scalar()))
        .ok_or_else(|| InvalidSetting {
            name: name.to_owned(),
            value: shown,
            expected: allowed.expected(T::EXPECTED),
        })
}

fn unknown(name: &str, value: String) -> InvalidSetting {
    InvalidSetting {
        name: name.to_owned(),
        value,
        expected: "the name of a setting".to_owned(),
    }
}

fn first<T>(
    layers: &[(Origin, &SettingsLayer)],
    get: impl Fn(&SettingsLayer) -> Option<T>,
) -> Option<WithOrigin<T>> {
    layers.iter().find_map(|(origin, layer)| {
        Some(WithOrigin {
            value: get(layer)?,
            origin: *origin,
        })
    })
}

fn entry<'a, T: SettingValue>(name: &'a str, setting: &WithOrigin<T>) -> (&'a str, Scalar, Origin) {
    (name, setting.value.to_scalar(), setting.origin)
}

fn other(layers: &[(Origin, &SettingsLayer)]) -> BTreeMap<String, WithOrigin<String>> {
    let mut all = BTreeMap::new();
    for (origin, layer) in layers.iter().rev() {
        for (key, value) in &layer.other {
            let setting = WithOrigin {
                value: value.clone(),
                origin: *origin,
            };
            all.insert(key.clone(), setting);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_parsed_read_and_shown_by_its_name() {
        for (name, text, scalar, shown) in [
            ("temperature", "0.5", Scalar::Float(0.5), "0.5"),
            ("top_k", " 20 ", Scalar::Integer(20), "20"),
            ("top_p", "1", Scalar::Integer(1), "1"),
            ("min_p", "0", Scalar::Float(0.0), "0"),
            ("repeat_penalty", "1.5", Scalar::Float(1.5), "1.5"),
            ("presence_penalty", "-2", Scalar::Integer(-2), "-2"),
            ("frequency_penalty", "2", Scalar::Float(2.0), "2"),
            (
                "seed",
                "18446744073709551615",
                Scalar::Integer(u64::MAX.into()),
                "18446744073709551615",
            ),
            ("max_tokens", "50%", Scalar::Text("50%".to_owned()), "50%"),
            ("max_tokens", "-1", Scalar::Integer(-1), "-1"),
            ("stop", "END", Scalar::Text("END".to_owned()), "END"),
            ("json_schema", "{}", Scalar::Text("{}".to_owned()), "{}"),
            ("reasoning", "low", Scalar::Text("low".to_owned()), "low"),
        ] {
            let (mut parsed, mut read) = (SettingsLayer::default(), SettingsLayer::default());
            parsed.parse(name, text).unwrap();
            read.set(name, scalar).unwrap();
            assert_eq!(parsed, read, "{name}");
            let [(known, value)] = &parsed.values()[..] else {
                panic!("{parsed:?}")
            };
            assert_eq!((*known, value.to_string()), (name, shown.to_owned()));
            assert_eq!(parsed.clone().over(SettingsLayer::default()), parsed);
            parsed.clear(name);
            assert_eq!(parsed, SettingsLayer::default());
        }
    }

    #[test]
    fn every_row_has_a_help_text_and_a_valid_default() {
        for setting in SETTINGS {
            assert!(!setting.help.trim().is_empty(), "{}", setting.name);
            if let Some(default) = setting.default() {
                SettingsLayer::default().set(setting.name, default).unwrap();
            }
        }
    }

    #[test]
    fn invalid_values_are_errors() {
        for (name, text, expected) in [
            ("temperature", "101", "a number from 0 to 100"),
            ("temperature", "NaN", "a number from 0 to 100"),
            ("top_k", "-1", "an integer"),
            ("top_p", "1.1", "a number from 0 to 1"),
            ("presence_penalty", "-3", "a number from -2 to 2"),
            ("max_tokens", "0", "a number from 1"),
            ("max_tokens", "101%", "`1%` to `100%`"),
            ("stop", "", "a string that is not empty"),
            ("reasoning", "much", "one of off, on, low"),
            ("temprature", "1", "the name of a setting"),
        ] {
            let error = SettingsLayer::default().parse(name, text).unwrap_err();
            assert!(error.expected.contains(expected), "{error}");
            let start = format!("invalid value `{text}` for `{name}`: expected ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        for (name, value) in [
            ("temperature", Scalar::Text("1".to_owned())),
            ("top_k", Scalar::Float(1.5)),
            ("seed", Scalar::Integer(-1)),
            ("stop", Scalar::Integer(1)),
            ("max_tokens", Scalar::Float(0.5)),
        ] {
            SettingsLayer::default().set(name, value).unwrap_err();
        }
        let layer = SettingsLayer {
            max_tokens: Some(MaxTokens::Tokens(0)),
            ..SettingsLayer::default()
        };
        assert_eq!(layer.check().unwrap_err().name, "max_tokens");
    }

    #[test]
    fn the_first_layer_that_sets_a_value_wins() {
        let layer = |temperature, seed| SettingsLayer {
            temperature,
            seed,
            other: BTreeMap::from([("typical_p".to_owned(), format!("{temperature:?}"))]),
            ..SettingsLayer::default()
        };
        let (flags, config) = (layer(None, Some(1)), layer(Some(0.5), Some(2)));
        let settings = Settings::resolve(&[(Origin::Flag, &flags), (Origin::Config, &config)]);
        let setting = |name: &str| {
            let values = settings.values();
            let value = values.into_iter().find(|(known, _, _)| *known == name);
            value.map(|(_, value, origin)| (value.to_string(), origin))
        };
        assert_eq!(setting("seed"), Some(("1".to_owned(), Origin::Flag)));
        assert_eq!(
            setting("temperature"),
            Some(("0.5".to_owned(), Origin::Config))
        );
        assert_eq!(setting("top_k"), Some(("40".to_owned(), Origin::Default)));
        assert_eq!(setting("reasoning"), None);
        assert_eq!(
            setting("typical_p"),
            Some(("None".to_owned(), Origin::Flag))
        );
        assert_eq!(
            settings.explicit_names(),
            ["temperature", "seed", "typical_p"]
        );
    }

    #[test]
    fn settings_are_written_as_before() {
        let layer = SettingsLayer {
            max_tokens: Some(MaxTokens::Percent(50)),
            ..SettingsLayer::default()
        };
        let json = serde_json::to_value(Settings::resolve(&[(Origin::Plan, &layer)])).unwrap();
        assert_eq!(
            json["max_tokens"],
            serde_json::json!({ "value": { "percent": 50 }, "origin": "plan" })
        );
        assert_eq!(json["seed"], serde_json::Value::Null);
        assert!(json.get("reasoning").is_none() && json.get("other").is_none());
        assert_eq!(
            serde_json::to_value(&layer).unwrap()["max_tokens"],
            serde_json::json!({ "percent": 50 })
        );
    }
}
