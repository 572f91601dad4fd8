//! Fields of JSON objects.

use serde_json::Value;

/// Returns a token count of a JSON object; 0 if it is missing.
pub(super) fn u32_field(value: &Value, key: &str) -> u32 {
    let number = value.get(key).and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Returns a string of a JSON object unless it is missing or empty.
pub(super) fn non_empty_string(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
