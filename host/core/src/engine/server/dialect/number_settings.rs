//! The settings that are plain numbers, which most APIs take under their own names.

use lmstrix_inference::{Origin, Scalar, SettingSupport};
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::setting_support::setting_support;
use super::wire::WireRequest;
use crate::engine::server::server_kind::ServerKind;

/// The limit of the answer, which each API writes in its own way.
const MAX_TOKENS: &str = "max_tokens";

/// Inserts the numbers among the settings that the server honours, or that it is not known
/// to ignore. Defaults are sent, too, since each server has its own; except to a generic
/// server, which may reject a key that the user did not set.
pub(super) fn insert_number_settings(
    request: &WireRequest<'_>,
    endpoint: Endpoint,
    body: &mut Map<String, Value>,
) {
    for (name, value, origin) in request.settings.values() {
        if request.kind == ServerKind::OpenAi && origin == Origin::Default {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use lmstrix_inference::{Prompt, Settings, SettingsLayer};

    use super::*;

    /// Returns the keys of a request with every number of the table, sorted.
    fn sent(kind: ServerKind, endpoint: Endpoint) -> Vec<String> {
        let layer = SettingsLayer {
            presence_penalty: Some(0.5),
            frequency_penalty: Some(0.5),
            seed: Some(u64::MAX),
            max_tokens: Some(lmstrix_inference::MaxTokens::Tokens(5)),
            // A pack's own key does not hide a setting.
            other: [("temperature".to_owned(), "1".to_owned())].into(),
            ..SettingsLayer::default()
        };
        let request = WireRequest {
            kind,
            model: "m",
            prompt: &Prompt::Raw(String::new()),
            images: &[],
            settings: &Settings::resolve(&[(Origin::Flag, &layer)]),
            max_tokens: None,
            context: None,
            ttl: None,
            stream: false,
        };
        let mut body = Map::new();
        insert_number_settings(&request, endpoint, &mut body);
        assert!(body.get("seed").is_none_or(|seed| *seed == u64::MAX));
        let mut keys: Vec<String> = body.keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn each_server_gets_the_numbers_that_it_honours_under_its_names() {
        let given = ["frequency_penalty", "presence_penalty", "seed"];
        let openai = [
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "temperature",
            "top_p",
        ];
        let all = [&openai[..], &["min_p", "repeat_penalty", "top_k"]].concat();
        let vllm = [&openai[..], &["min_p", "repetition_penalty", "top_k"]].concat();
        let studio = ["min_p", "repeat_penalty", "temperature", "top_k", "top_p"];
        for (kind, endpoint, mut expected) in [
            (ServerKind::OpenAi, Endpoint::OpenAiChat, given.to_vec()),
            (
                ServerKind::OpenAi,
                Endpoint::OpenAiCompletion,
                given.to_vec(),
            ),
            (ServerKind::LmStudio, Endpoint::OpenAiChat, all.clone()),
            (
                ServerKind::LmStudio,
                Endpoint::LmStudioChat,
                studio.to_vec(),
            ),
            (
                ServerKind::LlamaServer,
                Endpoint::OpenAiCompletion,
                all.clone(),
            ),
            (ServerKind::Vllm, Endpoint::OpenAiChat, vllm),
            (ServerKind::Ollama, Endpoint::OllamaChat, all.clone()),
            (ServerKind::Ollama, Endpoint::OllamaGenerate, all),
        ] {
            expected.sort_unstable();
            assert_eq!(sent(kind, endpoint), expected, "{kind:?} {endpoint:?}");
        }
    }
}
