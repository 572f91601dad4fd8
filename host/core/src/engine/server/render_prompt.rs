//! Renders a prompt with the server's chat template, to be displayed.

use std::time::Duration;

use lmstrix_inference::Prompt;
use serde_json::{Value, json};

use super::server_instance::ServerInstance;
use super::server_kind::ServerKind;
use super::server_target::ServerTarget;

/// Time limit for rendering a prompt. The result is only displayed.
const RENDER_TIMEOUT: Duration = Duration::from_secs(5);

impl ServerTarget {
    /// Returns the prompt with the chat template applied, or `None` if the server
    /// cannot render it.
    pub(in crate::engine) async fn render_prompt(
        &self,
        prompt: &Prompt,
        instance: &ServerInstance,
    ) -> Option<String> {
        let messages = match prompt {
            Prompt::Raw(text) => return Some(text.clone()),
            Prompt::Chat(messages) => messages,
        };
        if !matches!(
            self.server.kind,
            ServerKind::LlamaServer | ServerKind::LlamaRouter
        ) {
            return None;
        }
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| json!({ "role": message.role.as_str(), "content": message.content }))
            .collect();
        let body = json!({ "model": instance.id, "messages": messages });
        let client = &self.server.client;
        let response = async {
            let response = client.post("/apply-template", &body).await.ok()?;
            client.read_body(response).await.ok()?.json()
        };
        let rendered = tokio::time::timeout(RENDER_TIMEOUT, response)
            .await
            .ok()??;
        rendered.get("prompt")?.as_str().map(str::to_owned)
    }
}
