//! Which settings a server honours, on which road: from the vendors'
//! documentation and sources, and where those say nothing, `Unknown`.

use super::Kind;
use super::dialect::Road;
use crate::inference::Support;

/// What OpenAI's protocol has for everybody.
const STANDARD: [&str; 7] = [
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "stop",
];

/// What becomes of a setting, by its name in snake case.
pub(super) fn support(kind: Kind, road: Road, setting: &str) -> Support {
    use Support::{Dropped, Honoured, Rejected, Unknown};
    match road {
        Road::StudioChat => match setting {
            "temperature" | "top_k" | "top_p" | "min_p" | "repeat_penalty" | "max_tokens"
            | "reasoning" => Honoured,
            _ => Rejected,
        },
        Road::OllamaChat | Road::OllamaGenerate => match setting {
            "top_k" | "min_p" | "repeat_penalty" | "json_schema" => Honoured,
            "reasoning" if road == Road::OllamaChat => Honoured,
            other if STANDARD.contains(&other) => Honoured,
            other if others(kind).contains(&other) => Honoured,
            _ => Dropped,
        },
        Road::Chat | Road::Completion => match (kind, setting) {
            (_, other) if STANDARD.contains(&other) => Honoured,
            (Kind::LmStudio, "min_p") => Unknown,
            (Kind::OpenAi, "top_k" | "min_p" | "repeat_penalty") => Dropped,
            (_, "top_k" | "min_p" | "repeat_penalty") => Honoured,
            (_, "reasoning") if road == Road::Completion => Dropped,
            (Kind::LmStudio | Kind::OpenAi, "json_schema") if road == Road::Completion => Unknown,
            (Kind::OpenAi, "json_schema" | "reasoning") | (Kind::Vllm, "reasoning") => Unknown,
            (_, "json_schema" | "reasoning") => Honoured,
            (_, other) if others(kind).contains(&other) => Honoured,
            _ => Dropped,
        },
    }
}

/// Sampling keys beyond ours that a pack may set. A list, so that no pack can
/// set anything but sampling.
pub(super) fn others(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::LlamaServer | Kind::LlamaRouter => &[
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
        Kind::Ollama => &[
            "typical_p",
            "repeat_last_n",
            "mirostat",
            "mirostat_tau",
            "mirostat_eta",
            "num_keep",
        ],
        Kind::Vllm => &["min_tokens", "ignore_eos", "length_penalty"],
        Kind::LmStudio | Kind::OpenAi => &[],
    }
}
