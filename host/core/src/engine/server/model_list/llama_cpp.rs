//! The lists of llama.cpp's server and of its router.

use serde_json::{Map, Value};

use super::json_fields::{array_items, size_field, string_array, string_field, u32_field};
use crate::engine::Error;
use crate::engine::reasoning::tag_opened_by_template;
use crate::engine::server::detected_server::Server;
use crate::engine::server::json_request::get_json;
use crate::engine::server::listed_model::{ListedInstance, ListedModel, Listing};
use crate::store::sha256_hex;

/// The key of the server's list of its only model.
const MODELS: &str = "models";

/// Lists the only model. Its properties tell whether it is the one whose list was kept.
pub(super) async fn list_llama_server(
    server: &Server,
    mut kept: Map<String, Value>,
) -> Result<Listing, Error> {
    let (models, props) = match kept.remove(MODELS) {
        Some(models) => (models, get_json(server, "/props").await?),
        None => {
            let models = get_json(server, "/v1/models").await?;
            // Old builds and proxies may not provide `/props`.
            (models, get_json(server, "/props").await.unwrap_or_default())
        }
    };
    Ok(Listing {
        models: parse_llama_server(&models, &props),
        fingerprint: props_fingerprint(&props),
        kept: Map::from_iter([(MODELS.to_owned(), models)]),
    })
}

fn props_fingerprint(props: &Value) -> Option<String> {
    let build = string_field(props, "build_info")?;
    let path = string_field(props, "model_path")?;
    let alias = string_field(props, "model_alias").unwrap_or_default();
    // A file may be replaced by another model under the same path.
    let template = string_field(props, "chat_template").unwrap_or_default();
    let digest = sha256_hex(template.as_bytes());
    Some(format!("{build} {alias} {path} {digest}"))
}

pub(super) async fn list_llama_router(server: &Server) -> Result<Listing, Error> {
    let models = get_json(server, "/models").await?;
    Ok(Listing {
        // No other server has this list with a status of each model.
        fingerprint: array_items(&models, "data")
            .any(|model| model.pointer("/status/value").is_some())
            .then(|| "/models".to_owned()),
        models: parse_llama_router(&models),
        ..Listing::default()
    })
}

fn parse_llama_server(models: &Value, props: &Value) -> Vec<ListedModel> {
    let context = props
        .get("default_generation_settings")
        .and_then(|settings| u32_field(settings, "n_ctx"));
    // A server that separates reasoning sends it in a field of its own, which ends the
    // assumption that the answer begins inside a span.
    let reasoning_format = props
        .pointer("/default_generation_settings/params/reasoning_format")
        .and_then(Value::as_str);
    let opened_tag = string_field(props, "chat_template")
        .filter(|_| matches!(reasoning_format, None | Some("none")))
        .and_then(|template| tag_opened_by_template(&template));
    let supports_vision = props.pointer("/modalities/vision").and_then(Value::as_bool);
    array_items(models, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let mut aliases = string_array(model, "aliases");
            let path = string_field(props, "model_path");
            for name in [Some(id.clone()), path, string_field(props, "model_alias")]
                .into_iter()
                .flatten()
            {
                // The server uses the path as the model's name; users use the
                // file name.
                let file_name = name.rsplit(['/', '\\']).next().unwrap_or_default();
                aliases.extend([file_name, file_name.trim_end_matches(".gguf")].map(str::to_owned));
                aliases.push(name);
            }
            aliases.retain(|alias| !alias.is_empty() && *alias != id);
            Some(ListedModel {
                instances: vec![ListedInstance {
                    id: id.clone(),
                    context,
                }],
                declared: model
                    .get("meta")
                    .and_then(|meta| u32_field(meta, "n_ctx_train")),
                size_bytes: model.get("meta").and_then(|meta| size_field(meta, "size")),
                aliases,
                id,
                opened_tag,
                supports_vision,
                ..ListedModel::default()
            })
        })
        .collect()
}

fn parse_llama_router(models: &Value) -> Vec<ListedModel> {
    array_items(models, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let status = model.pointer("/status/value").and_then(Value::as_str);
            // Loading models count, as with LM Studio; the caller waits for
            // them.
            let is_loaded = matches!(status, Some("loaded" | "sleeping" | "loading"));
            Some(ListedModel {
                instances: is_loaded
                    .then(|| ListedInstance {
                        id: id.clone(),
                        context: None,
                    })
                    .into_iter()
                    .collect(),
                generates_no_text: ListedModel::generates_no_text_by_name(&id),
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn llama_server_model_has_file_name_aliases() {
        let models = json!({"data": [{"id": "/m/demo.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048}}]});
        let props = json!({"default_generation_settings": {"n_ctx": 1024}, "model_path": "/m/demo.gguf", "modalities": {"vision": true}});
        let listed = parse_llama_server(&models, &props);
        assert_eq!(listed[0].supports_vision, Some(true));
        let without = parse_llama_server(&models, &json!({}));
        assert_eq!(without[0].supports_vision, None);
        assert!(listed[0].aliases.iter().any(|alias| alias == "demo"));
        assert_eq!(
            (listed[0].declared, listed[0].instances[0].context),
            (Some(2048), Some(1024))
        );
    }

    #[test]
    fn reasoning_opened_by_the_template_is_split_unless_the_server_does_it() {
        let models = json!({"data": [{"id": "m"}]});
        let template = "{% if add_generation_prompt %}<think>\n{% endif %}";
        for (format, opened) in [
            (json!(null), Some("<think>")),
            (json!("none"), Some("<think>")),
            (json!("deepseek"), None),
        ] {
            let props = json!({
                "chat_template": template,
                "default_generation_settings": {"params": {"reasoning_format": format}},
            });
            assert_eq!(
                parse_llama_server(&models, &props)[0].opened_tag,
                opened,
                "{format}"
            );
        }
    }
}
