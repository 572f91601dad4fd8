//! The parts of a plan file that TOML's own types do not cover.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use lmstrix_inference::Scalar;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::value::Datetime;

use super::plan::JOBS_MAX;
use crate::toml_file::{ErrorAt, Table};

/// The keys and values of a table, whose order matters.
pub(super) type Entries<T> = BTreeMap<Spanned<String>, Spanned<T>>;

/// Returns a table's entries in file order. The map has them by name.
pub(super) fn in_file_order<T>(entries: Entries<T>) -> impl Iterator<Item = (String, Spanned<T>)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| (key.into_inner(), value))
}

/// A string, or another value that counts as it is written in the file.
pub(super) enum PlainValue {
    Text(String),
    /// A number, a boolean or a date.
    AsWritten,
}

impl PlainValue {
    /// Returns the text, which for numbers, booleans and dates is in TOML notation.
    /// `span` is the place of the value in the file.
    pub(super) fn into_text(self, span: Range<usize>, file: &str) -> String {
        match self {
            Self::Text(text) => text,
            // TOML allows underscores between digits.
            Self::AsWritten => file.get(span).unwrap_or_default().replace('_', ""),
        }
    }
}

/// The value of a parameter, or its values.
pub(super) enum ParamToml {
    One(PlainValue),
    Axis(Vec<Spanned<PlainValue>>),
}

/// Deserializes a [`PlainValue`], and an array of them where `T` allows it.
struct ValueVisitor<T>(PhantomData<T>);

/// A type that a plain value makes, and perhaps an array.
trait FromPlain: Sized {
    const EXPECTED: &'static str;
    fn plain(value: PlainValue) -> Self;
    fn array(items: Vec<Spanned<PlainValue>>) -> Option<Self>;
}

impl FromPlain for PlainValue {
    const EXPECTED: &'static str = "a string, a number or a boolean";

    fn plain(value: PlainValue) -> Self {
        value
    }

    fn array(_items: Vec<Spanned<PlainValue>>) -> Option<Self> {
        None
    }
}

impl FromPlain for ParamToml {
    const EXPECTED: &'static str = "strings, numbers or booleans";

    fn plain(value: PlainValue) -> Self {
        Self::One(value)
    }

    fn array(items: Vec<Spanned<PlainValue>>) -> Option<Self> {
        Some(Self::Axis(items))
    }
}

impl<'de, T: FromPlain> Visitor<'de> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok(T::plain(PlainValue::Text(text.to_owned())))
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    fn visit_i128<E: de::Error>(self, _value: i128) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    fn visit_u128<E: de::Error>(self, _value: u128) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<T, E> {
        Ok(T::plain(PlainValue::AsWritten))
    }

    /// A date is a map to serde.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        match Datetime::deserialize(MapAccessDeserializer::new(map)) {
            Ok(_) => Ok(T::plain(PlainValue::AsWritten)),
            Err(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element()? {
            values.push(value);
        }
        T::array(values).ok_or_else(|| de::Error::invalid_type(de::Unexpected::Seq, &self))
    }
}

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ParamToml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData))
    }
}

/// A processor: `"fence:lang=rust"`, or a table with `name` and `options`.
pub(super) enum ProcessorToml {
    Text(String),
    Table(ProcessorTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProcessorTable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) options: Entries<PlainValue>,
}

impl<'de> Deserialize<'de> for ProcessorToml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProcessorVisitor;
        impl<'de> Visitor<'de> for ProcessorVisitor {
            type Value = ProcessorToml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string such as \"fence:lang=rust\", or a table with `name` and `options`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ProcessorToml, E> {
                Ok(ProcessorToml::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProcessorToml, A::Error> {
                let table = MapAccessDeserializer::new(map);
                ProcessorTable::deserialize(table).map(ProcessorToml::Table)
            }
        }
        deserializer.deserialize_any(ProcessorVisitor)
    }
}

/// The number of jobs at once, from 1 to [`JOBS_MAX`].
pub(super) struct JobCount(pub(super) usize);

impl<'de> Deserialize<'de> for JobCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Integer(count) => usize::try_from(count)
                .ok()
                .filter(|count| (1..=JOBS_MAX).contains(count))
                .map(Self),
            _ => None,
        }
        .ok_or_else(|| de::Error::custom(format!("`jobs`: expected a number from 1 to {JOBS_MAX}")))
    }
}

/// An array of tables, `[[name]]`, each with its offset.
pub(super) struct Tables<T>(Vec<Spanned<Table<T>>>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Tables<T> {
    /// Converts each table; the function gets the table and its offset.
    pub(super) fn convert<U>(
        self,
        convert: impl Fn(T, usize) -> Result<U, ErrorAt>,
    ) -> Result<Vec<U>, ErrorAt> {
        let tables = self.0.into_iter();
        tables
            .map(|table| {
                let offset = table.span().start;
                convert(table.into_inner().0, offset)
            })
            .collect()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TablesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TablesVisitor<T> {
            type Value = Tables<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of tables, written with double brackets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tables<T>, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = items.next_element()? {
                    tables.push(table);
                }
                Ok(Tables(tables))
            }
        }
        deserializer.deserialize_any(TablesVisitor(PhantomData))
    }
}
