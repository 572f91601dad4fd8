//! The settings that each server honours on each endpoint, according to the
//! vendors' documentation and sources; `Unknown` where those do not say.

use lmstrix_inference::{Prompt, SettingSupport, Settings};

use super::endpoint::Endpoint;
use super::extra_settings::extra_setting_names;
use crate::engine::server::server_kind::ServerKind;

/// The settings of OpenAI's API that all servers honour.
const OPENAI_SETTINGS: [&str; 7] = [
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "stop",
];

/// Returns whether llama.cpp's server honours a setting of a request, given by its name in
/// snake case.
pub(in crate::engine) fn llama_server_support(
    prompt: &Prompt,
    settings: &Settings,
    name: &str,
) -> SettingSupport {
    let kind = ServerKind::LlamaServer;
    setting_support(kind, Endpoint::select(kind, false, prompt, settings), name)
}

/// Returns whether a server honours a setting, given by its name in snake case.
pub(in crate::engine::server) fn setting_support(
    kind: ServerKind,
    endpoint: Endpoint,
    setting: &str,
) -> SettingSupport {
    use SettingSupport::{Dropped, Honoured, Rejected, Unknown};
    match endpoint {
        Endpoint::LmStudioChat => match setting {
            "temperature" | "top_k" | "top_p" | "min_p" | "repeat_penalty" | "max_tokens"
            | "reasoning" => Honoured,
            _ => Rejected,
        },
        Endpoint::OllamaChat | Endpoint::OllamaGenerate => match setting {
            "top_k" | "min_p" | "repeat_penalty" | "json_schema" => Honoured,
            "reasoning" if endpoint == Endpoint::OllamaChat => Honoured,
            other if OPENAI_SETTINGS.contains(&other) => Honoured,
            other if extra_setting_names(kind).contains(&other) => Honoured,
            _ => Dropped,
        },
        Endpoint::OpenAiChat | Endpoint::OpenAiCompletion => match (kind, setting) {
            (_, other) if OPENAI_SETTINGS.contains(&other) => Honoured,
            (ServerKind::LmStudio, "min_p") => Unknown,
            (ServerKind::OpenAi, "top_k" | "min_p" | "repeat_penalty") => Dropped,
            (_, "top_k" | "min_p" | "repeat_penalty") => Honoured,
            (_, "reasoning") if endpoint == Endpoint::OpenAiCompletion => Dropped,
            (ServerKind::LmStudio | ServerKind::OpenAi, "json_schema")
                if endpoint == Endpoint::OpenAiCompletion =>
            {
                Unknown
            }
            (ServerKind::OpenAi, "json_schema" | "reasoning") | (ServerKind::Vllm, "reasoning") => {
                Unknown
            }
            (_, "json_schema" | "reasoning") => Honoured,
            (_, other) if extra_setting_names(kind).contains(&other) => Honoured,
            _ => Dropped,
        },
    }
}
