//! The settings that are plain numbers, which most APIs take under their own names.

use lmstrix_inference::{Scalar, SettingSupport};
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::setting_support::setting_support;
use super::wire::WireRequest;
use crate::engine::server::server_kind::ServerKind;

/// The limit of the answer, which each API writes in its own way.
const MAX_TOKENS: &str = "max_tokens";

/// Inserts the numbers among the settings that the server honours, or that it is not known
/// to ignore. All are sent, since each server has its own defaults.
pub(super) fn insert_number_settings(
    request: &WireRequest<'_>,
    endpoint: Endpoint,
    body: &mut Map<String, Value>,
) {
    for (name, value, _) in request.settings.values() {
        let number = match value {
            Scalar::Float(number) => Value::from(number),
            Scalar::Integer(number) => match u64::try_from(number) {
                Ok(number) => Value::from(number),
                Err(_) => continue,
            },
            Scalar::Text(_) | Scalar::Texts(_) | Scalar::Boolean(_) => continue,
        };
        let is_sent = matches!(
            setting_support(request.kind, endpoint, name),
            SettingSupport::Honoured | SettingSupport::Unknown
        );
        if is_sent && name != MAX_TOKENS {
            body.insert(wire_name(request.kind, name).to_owned(), number);
        }
    }
}

/// Returns the key of a setting in requests.
fn wire_name(kind: ServerKind, name: &str) -> &str {
    match (kind, name) {
        (ServerKind::Vllm, "repeat_penalty") => "repetition_penalty",
        (_, name) => name,
    }
}

/// Inserts 0 for each penalty that is not set: a server may have another default.
pub(super) fn insert_penalties_off(body: &mut Map<String, Value>) {
    for name in ["presence_penalty", "frequency_penalty"] {
        body.entry(name).or_insert_with(|| 0.0.into());
    }
}
