//! The properties of a model that llama.cpp's router has loaded.

use serde_json::Value;

use super::detected_server::Server;
use super::json_request::get_json;

/// Returns the properties of a loaded model, if the router reports them.
pub(super) async fn props(server: &Server, id: &str) -> Option<Value> {
    // Escape only the characters that a query cannot contain. IDs contain
    // slashes and colons, which are valid in a query.
    let query = id
        .replace('%', "%25")
        .replace('&', "%26")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23");
    get_json(server, &format!("/props?model={query}"))
        .await
        .ok()
}

/// Returns the context length in tokens of a loaded model, if the router
/// reports it.
pub(super) async fn context(server: &Server, id: &str) -> Option<u32> {
    let props = props(server, id).await?;
    let context = props
        .pointer("/default_generation_settings/n_ctx")?
        .as_u64()?;
    u32::try_from(context).ok()
}
