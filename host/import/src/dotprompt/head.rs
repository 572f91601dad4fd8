//! The front matter of Dotprompt: settings, defaults and the output.

use std::collections::BTreeSet;

use crate::draft::{Draft, TEXT};
use crate::front_matter::{map_entries, note_left_out, note_unknown, one_line};
use crate::json_schema;
use crate::log::Log;
use crate::settings::Scalar;
use crate::yaml::Node;

/// The keys of Dotprompt. Keys with a dot are extensions.
const KNOWN_KEYS: [&str; 12] = [
    "name",
    "variant",
    "version",
    "description",
    "model",
    "config",
    "input",
    "output",
    "tools",
    "toolDefs",
    "metadata",
    "ext",
];

const LEFT_OUT: [(&str, &str); 5] = [
    ("model", "choose the model with `-m`"),
    ("tools", "tools have no equivalent"),
    ("toolDefs", "tools have no equivalent"),
    ("metadata", "there is no equivalent"),
    ("ext", "there is no equivalent"),
];

/// Reads the front matter into the draft.
pub(super) fn properties(head: &Node, draft: &mut Draft, log: &mut Log) {
    note_left_out(head, &LEFT_OUT, log);
    note_unknown(
        head,
        |key| key.contains('.') || KNOWN_KEYS.contains(&key),
        log,
    );
    for entry in head.entries() {
        if entry.key.contains('.') {
            let message = format!("`{}` is left out; extensions have no equivalent", entry.key);
            log.left_out(Some(entry.line), message);
        }
    }
    let description = head.get("description").and_then(Node::as_text);
    draft.description = description.and_then(one_line);
    let config = head.get("config");
    for option in config.map_or(&[][..], |node| map_entries(node, "config", log)) {
        draft.settings.read(option, log);
    }
    if let Some(input) = head.get("input") {
        map_entries(input, "input", log);
        draft.defaults = defaults(input, log);
    }
    if let Some(output) = head.get("output") {
        map_entries(output, "output", log);
        read_output(output, draft, log);
    }
}

/// Returns the defaults of the parameters. An optional one is empty, as in Handlebars.
fn defaults(input: &Node, log: &mut Log) -> Vec<(String, Scalar)> {
    let mut defaults = Vec::new();
    let values = input.get("default");
    for entry in values.map_or(&[][..], |node| map_entries(node, "default", log)) {
        match Scalar::from_yaml(&entry.node) {
            Some(value) => defaults.push((entry.key.clone(), value)),
            None => {
                let message = format!(
                    "the default of `{}` is left out; it is not a text",
                    entry.key
                );
                log.left_out(Some(entry.line), message);
            }
        }
    }
    let mut names: BTreeSet<String> = defaults.iter().map(|(name, _)| name.clone()).collect();
    let optional = input.get("schema").map(json_schema::optional_names);
    for name in optional.unwrap_or_default() {
        let is_text = [TEXT, "input"].contains(&name.as_str());
        if !is_text && names.insert(name.clone()) {
            defaults.push((name, Scalar::Text(String::new())));
        }
    }
    defaults
}

fn read_output(output: &Node, draft: &mut Draft, log: &mut Log) {
    let format = output.get("format");
    let is_json = match format.and_then(Node::as_text) {
        Some("json") => true,
        Some("text") => false,
        None => {
            if let Some(node) = format {
                let kind = node.type_name();
                let message = format!("`format` is left out; it must be a string, not {kind}");
                log.left_out(Some(node.line), message);
            }
            false
        }
        Some(other) => {
            let message = format!("the output format `{other}` is left out; it has no equivalent");
            log.left_out(format.map(|node| node.line), message);
            false
        }
    };
    if let Some(schema) = output.get("schema") {
        match json_schema::from_picoschema(schema) {
            Ok(schema) => draft.json_schema = Some(schema),
            Err((line, reason)) => {
                log.left_out(Some(line), format!("the schema is left out; {reason}"));
            }
        }
    }
    if is_json && draft.json_schema.is_none() {
        draft.post.push("json");
    }
    if is_json || draft.json_schema.is_some() {
        draft.extension = Some("json");
    }
}
