//! Reads fields of JSON objects; a field that is absent or of another type is `None`
//! or empty.

use serde_json::Value;

use crate::engine::server::dialect::whole_number;

pub(super) fn string_field(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

pub(super) fn u32_field(value: &Value, key: &str) -> Option<u32> {
    whole_number(value.get(key)?.as_number()?)
}

pub(super) fn size_field(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64().filter(|size| *size > 0)
}

pub(super) fn is_true_at(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

pub(super) fn array_items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(super) fn string_array(value: &Value, key: &str) -> Vec<String> {
    array_items(value, key)
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
