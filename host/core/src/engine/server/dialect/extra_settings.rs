//! The sampling keys that packs may set by `other`, beyond the settings of the table.

use serde_json::Value;

use super::wire::WireRequest;
use crate::engine::server::server_kind::ServerKind;

/// Returns the further sampling keys that a pack may set. The list keeps packs
/// from setting anything other than sampling.
pub(super) fn extra_setting_names(kind: ServerKind) -> &'static [&'static str] {
    match kind {
        ServerKind::LlamaServer | ServerKind::LlamaRouter => &[
            "typical_p",
            "repeat_last_n",
            "dynatemp_range",
            "dynatemp_exponent",
            "dry_multiplier",
            "dry_base",
            "dry_allowed_length",
            "dry_penalty_last_n",
            "xtc_probability",
            "xtc_threshold",
            "mirostat",
            "mirostat_tau",
            "mirostat_eta",
            "ignore_eos",
            "top_n_sigma",
            "min_keep",
        ],
        ServerKind::Ollama => &[
            "typical_p",
            "repeat_last_n",
            "mirostat",
            "mirostat_tau",
            "mirostat_eta",
            "num_keep",
        ],
        ServerKind::Vllm => &["min_tokens", "ignore_eos", "length_penalty"],
        ServerKind::LmStudio | ServerKind::OpenAi => &[],
    }
}

/// Returns the settings of `other` that this kind of server accepts.
pub(super) fn extra_settings<'a>(
    request: &WireRequest<'a>,
) -> impl Iterator<Item = (&'a String, Value)> {
    let known = extra_setting_names(request.kind);
    request
        .settings
        .other
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .filter_map(|(key, setting)| Some((key, number_or_bool(&setting.value)?)))
}

/// Parses a pack's setting as a JSON number or boolean. Other values are
/// rejected, so that a pack cannot put text into a request.
fn number_or_bool(value: &str) -> Option<Value> {
    match serde_json::from_str(value.trim()) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => Some(value),
        _ => None,
    }
}
