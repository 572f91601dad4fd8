//! Fields of JSON objects. Servers send a field in several types, or twice; a value of another
//! type than expected counts as missing.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::wire::WireEvent;

/// A type that the first character of its JSON identifies.
pub(super) trait Shape {
    /// The characters with which values of this type begin. Objects are the default.
    const BEGINNINGS: &'static [u8] = b"{";
}

impl<T> Shape for Vec<T> {
    const BEGINNINGS: &'static [u8] = b"[";
}

impl Shape for bool {
    const BEGINNINGS: &'static [u8] = b"tf";
}

impl Shape for f32 {
    const BEGINNINGS: &'static [u8] = b"-0123456789";
}

impl Shape for Number {
    const BEGINNINGS: &'static [u8] = f32::BEGINNINGS;
}

impl Shape for Text<'_> {
    const BEGINNINGS: &'static [u8] = b"\"";
}

/// A field that may be missing or have a value of another type.
#[derive(Debug)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de> + Shape> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let is_of_type = json
            .bytes()
            .next()
            .is_some_and(|first| T::BEGINNINGS.contains(&first));
        let value = is_of_type.then(|| serde_json::from_str(json));
        value.transpose().map(Self).map_err(D::Error::custom)
    }
}

/// A string, borrowed if it has no escapes.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Lenient<Text<'_>> {
    pub(super) fn as_str(&self) -> Option<&str> {
        self.0.as_ref().map(|text| &*text.0)
    }

    /// Returns the string unless it is missing or empty.
    pub(super) fn non_empty(self) -> Option<String> {
        let text = self.0.filter(|text| !text.0.is_empty());
        text.map(|text| text.0.into_owned())
    }
}

impl Lenient<Number> {
    /// Returns a token count; 0 if it is missing.
    pub(super) fn count(&self) -> u32 {
        self.0.as_ref().and_then(whole_number).unwrap_or(0)
    }
}

/// Returns a number that is not negative. Some servers write counts as `10.0`.
pub(in crate::engine::server) fn whole_number(number: &Number) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates"
    )]
    let from_float = |number: f64| (number >= 0.0).then_some(number as u32);
    match number.as_u64() {
        Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        None => number.as_f64().and_then(from_float),
    }
}

/// Reads the fields of a JSON object and appends its events.
///
/// # Errors
/// Returns an error, before any event, if the text is not JSON or does not fit the fields.
pub(super) type ReadFields = fn(&str, &mut Vec<WireEvent>) -> Result<(), serde_json::Error>;

/// Reads a JSON value of any shape with `read`: of repeated keys the last one counts, and a
/// value of another type than an object has no events.
///
/// # Errors
/// Returns an error if the text is not JSON.
pub(super) fn read_json(
    text: &str,
    events: &mut Vec<WireEvent>,
    read: ReadFields,
) -> Result<(), serde_json::Error> {
    if text.trim_start().starts_with('{') {
        match read(text, events) {
            Err(error) if error.is_data() => {}
            result => return result,
        }
    }
    match serde_json::from_str(text)? {
        object @ Value::Object(_) => read(&object.to_string(), events),
        _ => Ok(()),
    }
}
