//! The sampling keys that packs may set by `other`, beyond the settings of the table.

use crate::engine::server::server_kind::ServerKind;

/// Returns the further sampling keys that a pack may set. The list keeps packs
/// from setting anything other than sampling.
pub(in crate::engine::server) fn extra_setting_names(kind: ServerKind) -> &'static [&'static str] {
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
