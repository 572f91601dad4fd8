//! Fields of JSON objects.

use serde_json::Value;

/// Returns a token count of a JSON object; 0 if it is missing.
pub(super) fn u32_field(value: &Value, key: &str) -> u32 {
    value.get(key).and_then(whole_number).unwrap_or(0)
}

/// Returns a number that is not negative. Some servers write counts as `10.0`.
pub(in crate::engine::server) fn whole_number(value: &Value) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates"
    )]
    let from_float = |number: f64| (number >= 0.0).then_some(number as u32);
    match value.as_u64() {
        Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        None => value.as_f64().and_then(from_float),
    }
}

/// Returns a string of a JSON object unless it is missing or empty.
pub(super) fn non_empty_string(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
