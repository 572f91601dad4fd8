//! The front matter of Prompty: settings, inputs and outputs.

use crate::braces::Language;
use crate::draft::{Draft, TEXT};
use crate::front_matter::{map_entries, note_left_out, note_unknown, one_line};
use crate::json_schema::{self, Property};
use crate::log::{Log, Skip};
use crate::settings::Scalar;
use crate::yaml::{Entry, Node, Value};

/// Keys without an effect on the messages, and keys that are converted.
const KNOWN_KEYS: [&str; 22] = [
    "name",
    "displayName",
    "description",
    "authors",
    "tags",
    "version",
    "metadata",
    "id",
    "kind",
    "model",
    "inputs",
    "inputSchema",
    "outputs",
    "outputSchema",
    "sample",
    "template",
    "tools",
    "base",
    "environment",
    "file",
    "instructions",
    "thread",
];

const LEFT_OUT: [(&str, &str); 7] = [
    ("model", "choose the model with `-m`"),
    (
        "sample",
        "sample values are not defaults; set them with `-p`",
    ),
    ("tools", "tools have no equivalent"),
    ("base", "the file that it names is not read"),
    ("environment", "there is no equivalent"),
    ("instructions", "the body of the file is the prompt"),
    ("thread", "a prompt has no earlier messages"),
];

/// The keys whose values have an effect here.
const RESOLVED_KEYS: [&str; 9] = [
    "name",
    "displayName",
    "description",
    "model",
    "inputs",
    "inputSchema",
    "outputs",
    "outputSchema",
    "template",
];

/// The parts of `model` that have an effect here.
const MODEL_KEYS: [&str; 4] = ["api", "apiType", "parameters", "options"];

/// The starts of references, which Prompty replaces by an environment variable or a file.
const REFERENCES: [&str; 2] = ["${env:", "${file:"];

/// The types of an input. As a value without a map, they are no text for the prompt.
const INPUT_TYPES: [&str; 7] = [
    "string", "number", "integer", "float", "boolean", "object", "array",
];

/// Replaces values with a reference to the environment or a file by null, with a note.
pub(super) fn resolve(mut head: Node, log: &mut Log) -> Node {
    let Value::Map(entries) = &mut head.value else {
        return head;
    };
    for entry in entries {
        match entry.key.as_str() {
            "model" => {
                if let Value::Map(parts) = &mut entry.node.value {
                    for part in parts {
                        if MODEL_KEYS.contains(&part.key.as_str()) {
                            remove_references(&part.key, &mut part.node, log);
                        }
                    }
                }
            }
            key if RESOLVED_KEYS.contains(&key) => remove_references(key, &mut entry.node, log),
            _ => {}
        }
    }
    head
}

fn remove_references(key: &str, node: &mut Node, log: &mut Log) {
    match &mut node.value {
        Value::Text(text) if REFERENCES.iter().any(|start| text.contains(start)) => {
            let message =
                format!("`{key}` is left out; `{text}` refers to a value outside the file");
            log.left_out(Some(node.line), message);
            node.value = Value::Null;
        }
        Value::List(items) => {
            for item in items {
                remove_references(key, item, log);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                remove_references(&entry.key, &mut entry.node, log);
            }
        }
        _ => {}
    }
}

/// Reads the front matter into the draft, and returns the inputs.
///
/// # Errors
/// Returns the reason to skip a prompt that is not for a chat.
pub(super) fn properties<'a>(
    head: &'a Node,
    draft: &mut Draft,
    log: &mut Log,
) -> Result<Vec<Property<'a>>, Skip> {
    note_unknown(head, |key| KNOWN_KEYS.contains(&key), log);
    note_left_out(head, &LEFT_OUT, log);
    check_api(head)?;
    let text = |key| head.get(key).and_then(Node::as_text).and_then(one_line);
    let names = ["description", "displayName", "name"];
    draft.description = names.into_iter().find_map(text);
    read_model(head, draft, log);
    let inputs = typed_properties(head, ["inputs", "inputSchema"], log);
    let inputs = inputs.map(|(_, inputs)| inputs).unwrap_or_default();
    draft.defaults = defaults(&inputs, log);
    read_outputs(head, draft, log);
    Ok(inputs)
}

/// Returns the first of two keys and its properties. Notes a value that has none.
fn typed_properties<'a>(
    head: &'a Node,
    keys: [&str; 2],
    log: &mut Log,
) -> Option<(&'a Node, Vec<Property<'a>>)> {
    let (key, node) = keys
        .into_iter()
        .find_map(|key| Some((key, head.get(key)?)))?;
    if !matches!(node.value, Value::Map(_) | Value::List(_)) {
        let kind = node.type_name();
        let message = format!("`{key}` is left out; it must be a map or a list, not {kind}");
        log.left_out(Some(node.line), message);
        return None;
    }
    Some((node, json_schema::properties(node, log)))
}

fn check_api(head: &Node) -> Result<(), Skip> {
    let model = head.get("model");
    let api = model.and_then(|model| model.get("api").or_else(|| model.get("apiType")));
    match api.and_then(|node| Some((node.line, node.as_text()?))) {
        None | Some((_, "chat" | "responses" | "completion")) => Ok(()),
        Some((line, api)) => {
            let reason = format!("the API `{api}` has no equivalent");
            Err(Skip::new(Some(line), reason))
        }
    }
}

/// Returns true for a file of version 1, by its keys. References in it are null.
pub(super) fn is_version_1(head: &Node) -> bool {
    let has_key = |node: &Node, key: &str| node.entries().iter().any(|entry| entry.key == key);
    let model = head.get("model");
    let in_model = |key| model.is_some_and(|model| has_key(model, key));
    has_key(head, "sample")
        || ["configuration", "parameters", "api"]
            .into_iter()
            .any(in_model)
}

/// Returns the template language; `None` is Jinja.
pub(super) fn language(head: &Node) -> Result<Option<Language>, Skip> {
    let Some(template) = head.get("template") else {
        return Ok(None);
    };
    let format = template.get("format").or_else(|| template.get("type"));
    let format = format.unwrap_or(template);
    let format = format.get("kind").unwrap_or(format);
    match format.as_text() {
        Some("jinja2" | "jinja" | "nunjucks" | "*") => Ok(None),
        Some("mustache") => Ok(Some(Language::Mustache)),
        None if matches!(format.value, Value::Map(_)) => Ok(None),
        _ => {
            let name = format.as_text().unwrap_or_else(|| format.type_name());
            let reason = format!("the template language `{name}` is not supported");
            Err(Skip::new(Some(format.line), reason))
        }
    }
}

fn read_model(head: &Node, draft: &mut Draft, log: &mut Log) {
    let Some(model) = head.get("model") else {
        return;
    };
    for key in ["parameters", "options"] {
        let options = model.get(key);
        for option in options.map_or(&[][..], |node| map_entries(node, key, log)) {
            read_option(option, draft, log);
        }
    }
}

fn read_option(option: &Entry, draft: &mut Draft, log: &mut Log) {
    match option.key.as_str() {
        "response_format" | "responseFormat" => response_format(option, draft, log),
        "additionalProperties" => {
            for option in map_entries(&option.node, &option.key, log) {
                read_option(option, draft, log);
            }
        }
        // One answer, and no change of its text.
        "n" if option.node.value == Value::Integer(1) => {}
        "stream" => {}
        _ => draft.settings.read(option, log),
    }
}

fn response_format(option: &Entry, draft: &mut Draft, log: &mut Log) {
    let kind = option.node.get("type").unwrap_or(&option.node).as_text();
    let schema = option.node.get("json_schema");
    let schema = schema.map(|node| {
        let mut entries = node.entries().iter();
        let nested = entries.find(|entry| entry.key == "schema");
        nested.map_or(node, |entry| &entry.node)
    });
    let schema = schema.filter(|node| matches!(node.value, Value::Map(_)));
    match (kind, schema) {
        (Some("json_schema"), Some(schema)) => draft.json_schema = Some(schema.to_json()),
        (Some("json_object"), _) => {
            draft.json_schema = Some(serde_json::json!({ "type": "object" }));
        }
        (Some("text"), _) => return,
        _ => {
            let message = format!(
                "the option `{}` is left out; its value has no equivalent",
                option.key
            );
            return log.left_out(Some(option.line), message);
        }
    }
    draft.extension = Some("json");
}

fn defaults(inputs: &[Property<'_>], log: &mut Log) -> Vec<(String, Scalar)> {
    let mut defaults = Vec::new();
    for input in inputs {
        let name = input.name.to_owned();
        match input.node.get("default") {
            Some(value) => match Scalar::from_python(value) {
                Some(value) => defaults.push((name, value)),
                None => {
                    let message = format!("the default of `{name}` is left out; it is not a text");
                    log.left_out(Some(value.line), message);
                }
            },
            None => {
                note_value(input, log);
                let required = input.node.get("required").map(|node| &node.value);
                let is_text = [TEXT, "input"].contains(&input.name);
                if required == Some(&Value::Boolean(false)) && !is_text {
                    defaults.push((name, Scalar::Text(String::new())));
                }
            }
        }
    }
    defaults
}

/// Notes an input that is a value, not a map with a type and a default.
fn note_value(input: &Property<'_>, log: &mut Log) {
    let node = input.node;
    let is_type = node
        .as_text()
        .is_some_and(|text| INPUT_TYPES.contains(&text));
    if !is_type && !matches!(node.value, Value::Map(_) | Value::Null) {
        let name = input.name;
        let message =
            format!("the value of the input `{name}` is left out; it must be a map with `default`");
        log.left_out(Some(node.line), message);
    }
}

fn read_outputs(head: &Node, draft: &mut Draft, log: &mut Log) {
    let Some((outputs, properties)) = typed_properties(head, ["outputs", "outputSchema"], log)
    else {
        return;
    };
    if is_version_1(head) || properties.is_empty() {
        // Version 1 does not send the outputs to the model.
        return log.left_out(
            Some(outputs.line),
            "`outputs` is left out; the model does not receive it",
        );
    }
    draft.json_schema = Some(json_schema::from_outputs(&properties, log));
    draft.extension = Some("json");
}
