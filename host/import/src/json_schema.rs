//! JSON schemas from the short forms of Dotprompt (Picoschema) and Prompty (properties).

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::log::Log;
use crate::yaml::{Entry, Node, Value};

const SCALAR_TYPES: [&str; 6] = ["any", "boolean", "integer", "null", "number", "string"];

/// Converts a schema of Dotprompt. A JSON schema is returned as it is.
///
/// # Errors
/// Returns the line and the reason if the schema is invalid or names a schema of the program.
pub(crate) fn from_picoschema(node: &Node) -> Result<Json, (usize, String)> {
    if let Value::Text(text) = &node.value {
        return pico_scalar(text, node.line);
    }
    if has_json_schema_type(node) {
        return Ok(node.to_json());
    }
    if has_properties(node) {
        let mut schema = node.to_json();
        if let Json::Object(members) = &mut schema {
            members.insert("type".to_owned(), Json::from("object"));
        }
        return Ok(schema);
    }
    pico(node)
}

fn has_json_schema_type(node: &Node) -> bool {
    let declared = node.get("type").and_then(Node::as_text).unwrap_or_default();
    SCALAR_TYPES.contains(&declared) || ["object", "array"].contains(&declared)
}

fn has_properties(node: &Node) -> bool {
    let properties = node.get("properties").map(|node| &node.value);
    matches!(properties, Some(Value::Map(_)))
}

/// Returns the names of the optional properties of an input schema of Dotprompt: in a JSON
/// schema those that are not `required`, otherwise those with a `?`.
pub(crate) fn optional_names(node: &Node) -> Vec<String> {
    if has_json_schema_type(node) || has_properties(node) {
        let required = node.get("required").map(Node::items).unwrap_or_default();
        let required: BTreeSet<&str> = required.iter().filter_map(Node::as_text).collect();
        let properties = node.get("properties").map(Node::entries);
        let keys = properties.unwrap_or_default().iter();
        return keys
            .map(|entry| entry.key.clone())
            .filter(|key| !required.contains(key.as_str()))
            .collect();
    }
    let keys = node.entries().iter().map(|entry| entry.key.as_str());
    keys.filter_map(|key| {
        let name = key.split_once('(').map_or(key, |(name, _)| name);
        name.strip_suffix('?').map(str::to_owned)
    })
    .collect()
}

fn pico(node: &Node) -> Result<Json, (usize, String)> {
    match &node.value {
        Value::Text(text) => pico_scalar(text, node.line),
        Value::Map(entries) => pico_object(entries),
        _ => {
            let reason = format!("a schema cannot be {}", node.type_name());
            Err((node.line, reason))
        }
    }
}

fn pico_scalar(text: &str, line: usize) -> Result<Json, (usize, String)> {
    let (name, description) = split_description(text);
    if !SCALAR_TYPES.contains(&name) {
        return Err((line, format!("unknown type `{name}` in the schema")));
    }
    let mut schema = Map::new();
    if name != "any" {
        schema.insert("type".to_owned(), Json::from(name));
    }
    describe(&mut schema, description);
    Ok(schema.into())
}

fn pico_object(entries: &[Entry]) -> Result<Json, (usize, String)> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut additional = Json::from(false);
    for entry in entries {
        if entry.key == "(*)" {
            additional = pico(&entry.node)?;
            continue;
        }
        let (name, kind) = match entry.key.split_once('(') {
            Some((name, kind)) => (name, Some(kind.strip_suffix(')').unwrap_or(kind))),
            None => (entry.key.as_str(), None),
        };
        let (name, is_optional) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if !is_optional {
            required.push(name.to_owned());
        }
        let mut property = pico_property(entry, kind)?;
        if is_optional {
            make_nullable(&mut property);
        }
        properties.insert(name.to_owned(), property);
    }
    Ok(object(properties, required, additional))
}

fn pico_property(entry: &Entry, kind: Option<&str>) -> Result<Json, (usize, String)> {
    let Some(kind) = kind else {
        return pico(&entry.node);
    };
    let (kind, description) = split_description(kind);
    let mut property = match kind {
        "array" => json!({ "type": "array", "items": pico(&entry.node)? }),
        "object" => pico(&entry.node)?,
        "enum" => json!({ "enum": entry.node.to_json() }),
        _ => {
            let reason = format!("unknown type `({kind})` in the schema");
            return Err((entry.line, reason));
        }
    };
    if let Json::Object(members) = &mut property {
        describe(members, description);
    }
    Ok(property)
}

/// Splits `type, description`.
fn split_description(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((name, description)) => (name.trim(), Some(description.trim())),
        None => (text.trim(), None),
    }
}

fn describe(schema: &mut Map<String, Json>, description: Option<&str>) {
    if let Some(description) = description.filter(|text| !text.is_empty()) {
        schema.insert("description".to_owned(), Json::from(description));
    }
}

/// Allows null, by which optional values are left out.
fn make_nullable(schema: &mut Json) {
    let Json::Object(members) = schema else {
        return;
    };
    if let Some(name) = members.get("type").and_then(Json::as_str) {
        let types = json!([name, "null"]);
        members.insert("type".to_owned(), types);
    }
    if let Some(Json::Array(values)) = members.get_mut("enum")
        && !values.contains(&Json::Null)
    {
        values.push(Json::Null);
    }
}

fn object(properties: Map<String, Json>, required: Vec<String>, additional: Json) -> Json {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), Json::from("object"));
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), additional);
    schema.into()
}

/// A property of Prompty with its name.
pub(crate) struct Property<'a> {
    pub(crate) name: &'a str,
    pub(crate) node: &'a Node,
}

/// Returns the properties of `inputs` or `outputs`: a map by name, a list with `name` keys, or
/// either of them below `properties`. Notes a repeated name, and keeps the first.
pub(crate) fn properties<'a>(node: &'a Node, log: &mut Log) -> Vec<Property<'a>> {
    let node = node.get("properties").unwrap_or(node);
    let from_map = node.entries().iter().map(|entry| Property {
        name: &entry.key,
        node: &entry.node,
    });
    let from_list = node.items().iter().filter_map(|node| {
        let name = node.get("name")?.as_text()?;
        Some(Property { name, node })
    });
    let mut names = BTreeSet::new();
    let is_first = |property: &Property<'a>| {
        let is_new = names.insert(property.name);
        if !is_new {
            let message = format!("a second `{}` is left out", property.name);
            log.left_out(Some(property.node.line), message);
        }
        is_new
    };
    let mut found: Vec<Property<'a>> = from_map.chain(from_list).collect();
    found.retain(is_first);
    found
}

impl Property<'_> {
    /// Returns the type, which is called `kind` or `type`.
    pub(crate) fn kind(&self) -> &str {
        kind(self.node)
    }
}

fn kind(node: &Node) -> &str {
    let kind = node.get("kind").or_else(|| node.get("type"));
    kind.and_then(Node::as_text).unwrap_or_default()
}

/// Converts the outputs of Prompty. As Prompty does, requires all properties, and allows null
/// for the optional ones.
pub(crate) fn from_outputs(outputs: &[Property<'_>], log: &mut Log) -> Json {
    let names = outputs.iter().map(|property| property.name.to_owned());
    let mut property = |property: &Property<'_>| {
        let mut schema = output(property.node, log);
        let is_required = property.node.get("required").map(|node| &node.value);
        if is_required != Some(&Value::Boolean(true)) {
            make_nullable(&mut schema);
        }
        (property.name.to_owned(), schema)
    };
    let properties = outputs.iter().map(&mut property).collect();
    object(properties, names.collect(), Json::from(false))
}

fn output(node: &Node, log: &mut Log) -> Json {
    let mut schema = match kind(node) {
        "object" => match node.get("properties") {
            Some(nested) => {
                let nested = properties(nested, log);
                from_outputs(&nested, log)
            }
            None => json!({ "type": "object" }),
        },
        "array" => match node.get("items") {
            Some(items) => json!({ "type": "array", "items": output(items, log) }),
            None => json!({ "type": "array", "items": { "type": "string" } }),
        },
        "float" | "number" => json!({ "type": "number" }),
        name @ ("string" | "integer" | "boolean") => json!({ "type": name }),
        _ => json!({}),
    };
    if let Json::Object(members) = &mut schema {
        let description = node.get("description").and_then(Node::as_text);
        describe(members, description);
        if let Some(values) = node.get("enumValues").or_else(|| node.get("enum")) {
            members.insert("enum".to_owned(), values.to_json());
        }
    }
    schema
}
