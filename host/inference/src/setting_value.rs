//! The types of settings, and their form in files, flags and variables.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A type of setting values.
pub trait SettingValue: Clone + Sized {
    /// The values of this type, for messages: `expected …`.
    const EXPECTED: &'static str;
    /// True if a setting can have several values.
    const IS_LIST: bool = false;

    /// Parses the text of a flag or an environment variable.
    fn parse(text: &str) -> Option<Self>;

    /// Converts a value of a file.
    fn from_scalar(value: Scalar) -> Option<Self>;

    /// Returns the value as it is written in files.
    fn to_scalar(&self) -> Scalar;

    /// Returns whether the value is one that [`Self::EXPECTED`] describes.
    fn is_valid(&self) -> bool {
        true
    }
}

/// A value of a setting in a TOML or JSON file: a number, a text, or a list of texts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A whole number.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A boolean, which no setting takes.
    Boolean(bool),
}

impl Scalar {
    /// Returns the value as a file has it, for messages: texts in quotes, and numbers with
    /// a fraction always with one.
    pub(crate) fn as_written(&self) -> String {
        match self {
            Self::Float(number) => format!("{number:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Integer(_) | Self::Boolean(_) => self.to_string(),
        }
    }
}

/// Writes the value without quotes, for people.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Texts(texts) => f.write_str(&texts.join(", ")),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a string or an array of strings")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value.into()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value.into()))
            }

            fn visit_i128<E: de::Error>(self, value: i128) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Scalar::Texts(texts))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl SettingValue for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn from_scalar(value: Scalar) -> Option<Self> {
        match value {
            Scalar::Float(number) => Some(number),
            #[expect(clippy::cast_precision_loss, reason = "settings are small numbers")]
            Scalar::Integer(number) => Some(number as Self),
            Scalar::Text(_) | Scalar::Texts(_) | Scalar::Boolean(_) => None,
        }
    }

    fn to_scalar(&self) -> Scalar {
        Scalar::Float(*self)
    }

    fn is_valid(&self) -> bool {
        self.is_finite()
    }
}

macro_rules! integer_setting {
    ($type:ty, $expected:literal) => {
        impl SettingValue for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }

            fn from_scalar(value: Scalar) -> Option<Self> {
                match value {
                    Scalar::Integer(number) => number.try_into().ok(),
                    Scalar::Float(_) | Scalar::Text(_) | Scalar::Texts(_) | Scalar::Boolean(_) => {
                        None
                    }
                }
            }

            fn to_scalar(&self) -> Scalar {
                Scalar::Integer((*self).into())
            }
        }
    };
}

integer_setting!(u32, "an integer from 0 to 4294967295");
integer_setting!(u64, "an integer from 0 to 18446744073709551615");

impl SettingValue for String {
    const EXPECTED: &'static str = "a string";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn from_scalar(value: Scalar) -> Option<Self> {
        match value {
            Scalar::Text(text) => Some(text),
            Scalar::Integer(_) | Scalar::Float(_) | Scalar::Texts(_) | Scalar::Boolean(_) => None,
        }
    }

    fn to_scalar(&self) -> Scalar {
        Scalar::Text(self.clone())
    }
}

impl SettingValue for Vec<String> {
    const EXPECTED: &'static str = "a string that is not empty";
    const IS_LIST: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(vec![text.to_owned()])
    }

    fn from_scalar(value: Scalar) -> Option<Self> {
        match value {
            Scalar::Text(text) => Some(vec![text]),
            Scalar::Texts(texts) => Some(texts),
            Scalar::Integer(_) | Scalar::Float(_) | Scalar::Boolean(_) => None,
        }
    }

    fn to_scalar(&self) -> Scalar {
        Scalar::Texts(self.clone())
    }

    fn is_valid(&self) -> bool {
        !self.iter().any(String::is_empty)
    }
}

/// A requested context length: `8192`, or `50%` of the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextSize {
    /// A number of tokens, at least 1.
    Tokens(u32),
    /// A percentage (1 to 100) of the tested context, or of the declared context if
    /// the model is not tested.
    Percent(u8),
}

impl std::str::FromStr for ContextSize {
    type Err = String;

    /// Parses `8192` or `50%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let size = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok();
                percent
                    .filter(|percent| (1..=100).contains(percent))
                    .map(Self::Percent)
            }
            None => {
                let tokens = text.parse().ok();
                tokens.filter(|tokens| *tokens > 0).map(Self::Tokens)
            }
        };
        size.ok_or_else(|| "expected a number of tokens, or `1%` to `100%`".to_owned())
    }
}

impl fmt::Display for ContextSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The maximum length of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxTokens {
    /// The space left in the context.
    Unlimited,
    /// A number of tokens.
    Tokens(u32),
    /// A percentage of the effective context, 1 to 100.
    Percent(u8),
}

impl MaxTokens {
    /// Returns the number of tokens for an effective context of `context` tokens, or
    /// `None` for no limit.
    #[must_use]
    pub fn tokens(self, context: u32) -> Option<u32> {
        match self {
            Self::Unlimited => None,
            Self::Tokens(tokens) => Some(tokens),
            Self::Percent(percent) => {
                let share = u64::from(context) * u64::from(percent) / 100;
                Some(u32::try_from(share).unwrap_or(u32::MAX).max(1))
            }
        }
    }
}

impl SettingValue for MaxTokens {
    const EXPECTED: &'static str = "a number from 1, `1%` to `100%`, or -1";

    /// Parses `4096`, `50%` or `-1`.
    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "-1" {
            return Some(Self::Unlimited);
        }
        Some(match text.parse().ok()? {
            ContextSize::Tokens(tokens) => Self::Tokens(tokens),
            ContextSize::Percent(percent) => Self::Percent(percent),
        })
    }

    fn from_scalar(value: Scalar) -> Option<Self> {
        match value {
            Scalar::Integer(number) => Self::parse(&number.to_string()),
            Scalar::Text(text) => Self::parse(&text),
            Scalar::Float(_) | Scalar::Texts(_) | Scalar::Boolean(_) => None,
        }
    }

    fn to_scalar(&self) -> Scalar {
        match self {
            Self::Unlimited => Scalar::Integer(-1),
            Self::Tokens(tokens) => Scalar::Integer((*tokens).into()),
            Self::Percent(percent) => Scalar::Text(format!("{percent}%")),
        }
    }

    fn is_valid(&self) -> bool {
        *self != Self::Tokens(0)
    }
}
