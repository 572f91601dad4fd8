//! TOML files of the user: config and plans. Errors name the file, line and column and
//! show the line.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lmstrix_inference::{Scalar, SettingsLayer};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use toml::Spanned;

use crate::source_snippet::{Position, source_snippet};
use crate::suggest::similar_names;

/// An error of a TOML file.
#[derive(Debug, thiserror::Error)]
pub enum TomlFileError {
    /// The file cannot be read.
    #[error("cannot read {kind} `{}`", path.display())]
    Read {
        /// `config file` or `plan`.
        kind: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or an invalid value.
    #[error("{}:{line}:{column}: {message}\n{snippet}", path.display())]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// The line number, starting at 1.
        line: usize,
        /// The column in characters, starting at 1.
        column: usize,
        /// The cause.
        message: String,
        /// The line, and a caret below the column.
        snippet: String,
    },
}

/// A byte offset in the text, and what is wrong there.
pub type ErrorAt = (usize, String);

/// Parses the text of a file of schema `schema`; a file may leave out its `schema` key.
/// `convert` makes the result of the tables as they are written.
///
/// # Errors
/// Returns an error if the text is not TOML, has another schema or an unknown key, or
/// does not convert.
pub fn parse<T: DeserializeOwned, U>(
    text: &str,
    path: &Path,
    schema: i64,
    convert: impl FnOnce(T) -> Result<U, ErrorAt>,
) -> Result<U, TomlFileError> {
    let invalid = |(offset, message): ErrorAt| {
        let position = Position::from_offset(text, offset);
        TomlFileError::Invalid {
            path: path.to_owned(),
            line: position.line,
            column: position.column,
            message,
            snippet: source_snippet(text, position),
        }
    };
    let from_toml = |error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        invalid((offset, shortened(error.message())))
    };
    // Another schema may have other keys, so it is the first error.
    let file: SchemaToml = toml::from_str(text).map_err(from_toml)?;
    if let Some(other) = file.schema
        && *other.get_ref() != schema
    {
        let message = format!(
            "unsupported schema {}: this version reads schema {schema}",
            other.get_ref()
        );
        return Err(invalid((other.span().start, message)));
    }
    let file: T = toml::from_str(text).map_err(from_toml)?;
    convert(file).map_err(invalid)
}

/// A table with fewer keys shows them all.
const KEYS_SHOWN: usize = 8;

/// Returns the message of an unknown key with the most similar key, where there is one,
/// instead of a long list of keys; any other message as it is.
fn shortened(message: &str) -> String {
    let quoted = message.split('`').skip(1).step_by(2);
    let has_few_keys = quoted.clone().count() <= KEYS_SHOWN;
    let mut quoted = quoted.filter(|_| !has_few_keys);
    let name = quoted
        .next()
        .filter(|_| message.starts_with("unknown field"));
    let similar = name.and_then(|name| similar_names(name, quoted).into_iter().next());
    match (name, similar) {
        (Some(name), Some(similar)) => {
            format!("unknown key `{name}`; did you mean `{similar}`?")
        }
        _ => message.replacen("unknown field", "unknown key", 1),
    }
}

#[derive(Deserialize)]
struct SchemaToml {
    schema: Option<Spanned<i64>>,
}

/// A table. Without this, an array of the values in the right order would do.
#[derive(Default)]
pub(crate) struct Table<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }
        deserializer.deserialize_any(TableVisitor(PhantomData))
    }
}

/// A string or an array of strings.
#[derive(Default, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
pub enum OneOrMore {
    #[default]
    None,
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

/// Deserializes a type that is written as a number or as a string.
pub fn from_scalar<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let scalar = Scalar::deserialize(deserializer)?;
    let text = match &scalar {
        Scalar::Texts(_) => return Err(D::Error::custom("expected a number or a string")),
        Scalar::Float(number) => format!("{number:?}"),
        scalar => scalar.to_string(),
    };
    text.parse()
        .map_err(|expected| D::Error::custom(format!("invalid value `{text}`: {expected}")))
}

/// Defines a table of a TOML file that has a key for each setting besides its own keys:
/// `settings_table!(table_with_settings { Name { key: Type, … } })`. Unknown keys are
/// errors. Its method `settings` returns the settings.
macro_rules! table_with_settings {
    (
        { $table:ident { $($(#[$attribute:meta])* $key:ident: $type:ty,)* } }
        $(#[doc = $help:literal] $(#[$of_settings:meta])* $name:ident $row:tt)*
    ) => {
        #[derive(Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct $table {
            $($(#[$attribute])* $key: $type,)*
            $($name: Option<toml::Spanned<lmstrix_inference::Scalar>>,)*
        }

        impl $table {
            /// Takes the settings out of the table.
            fn settings(
                &mut self,
            ) -> Result<lmstrix_inference::SettingsLayer, $crate::toml_file::ErrorAt> {
                $crate::toml_file::settings_layer([$((stringify!($name), self.$name.take())),*])
            }
        }
    };
}
pub(crate) use table_with_settings;

/// Returns the settings of a table, given by their names.
pub fn settings_layer<const N: usize>(
    values: [(&str, Option<Spanned<Scalar>>); N],
) -> Result<SettingsLayer, ErrorAt> {
    let mut layer = SettingsLayer::default();
    for (name, value) in values {
        let Some(value) = value else { continue };
        let offset = value.span().start;
        layer
            .set(name, value.into_inner())
            .map_err(|error| (offset, error.to_string()))?;
        // Elsewhere a schema can be a file; here it is the schema itself.
        if name == "json_schema"
            && let Some(schema) = &layer.json_schema
            && let Err(error) = serde_json::from_str::<IgnoredAny>(schema)
        {
            return Err((offset, format!("the JSON schema is not JSON: {error}")));
        }
    }
    Ok(layer)
}
