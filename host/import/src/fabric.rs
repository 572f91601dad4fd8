//! Patterns of Fabric: `system.md`, with `{{name}}` for variables and `{{input}}` for the
//! user's text, and `user.md`, which only the first versions of Fabric used.
//!
//! Fabric sends a pattern and the input in one system message. Here the pattern becomes the
//! system message and the input the user message, unless the pattern says where the input
//! belongs: then the whole pattern is the user message, as with `fabric --raw`.

use crate::draft::{Conversion, Draft};
use crate::format::Source;
use crate::log::{Log, Skip};
use crate::names::input_becomes_text;
use crate::template::{Template, placeholder};

/// The file with the start of the user message.
pub(crate) const USER_FILE: &str = "user.md";

/// Converts patterns. A `user.md` belongs to the other source with its name.
pub(crate) fn convert(sources: &[Source]) -> Vec<Conversion> {
    let (users, systems): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| is_user_file(source));
    systems
        .into_iter()
        .map(|system| {
            let user = users.iter().find(|user| user.name == system.name);
            Conversion::run(&system.path, &system.name, |log| {
                pattern(system, user.copied(), log)
            })
        })
        .collect()
}

fn is_user_file(source: &Source) -> bool {
    let file_name = source.path.rsplit(['/', '\\']).next();
    file_name == Some(USER_FILE)
}

fn pattern(system: &Source, user: Option<&Source>, log: &mut Log) -> Result<Draft, Skip> {
    let mut instructions = template(&system.text, log)?;
    instructions.trim_matches(char::is_whitespace);
    if instructions.is_blank() {
        return Err(Skip::new(None, "the pattern is empty"));
    }
    let user = user.filter(|user| !user.text.trim().is_empty());
    let mut draft = Draft::default();
    match user {
        Some(user) => {
            let message = format!(
                "`{USER_FILE}` is part of the user message; current versions of fabric ignore it"
            );
            log.changed(None, message);
            draft.user = user_message(user, uses_input(&instructions))?;
            draft.system = Some(instructions);
        }
        None if uses_input(&instructions) => {
            let message = "the pattern contains `{{input}}`; all of it is the user message";
            log.changed(None, message);
            draft.user = instructions;
        }
        None => {
            draft.user = Template::param("input");
            draft.system = Some(instructions);
        }
    }
    input_becomes_text(&mut draft, log);
    Ok(draft)
}

fn uses_input(template: &Template) -> bool {
    template.params().any(|name| name == "input")
}

fn user_message(user: &Source, has_input: bool) -> Result<Template, Skip> {
    let mut message = template(&user.text, &mut Log::default()).map_err(|skip| {
        let reason = format!("in `{USER_FILE}`: {}", skip.reason);
        Skip::new(None, reason)
    })?;
    message.trim_matches(char::is_whitespace);
    if !has_input && !uses_input(&message) {
        message.push_text("\n\n");
        message.push_param("input");
    }
    Ok(message)
}

/// Splits a text at its variables.
fn template(text: &str, log: &mut Log) -> Result<Template, Skip> {
    let mut template = Template::default();
    let mut without_variables = String::new();
    let mut at = 0;
    let mut line = 1;
    while let Some(found) = placeholder(text.get(at..).unwrap_or_default()) {
        let (start, end) = (at + found.start, at + found.end);
        let token = text.get(start..end).unwrap_or_default();
        let inner = token.get(2..token.len() - 2).unwrap_or_default();
        let before = text.get(at..start).unwrap_or_default();
        line += before.matches('\n').count();
        template.push_text(before);
        without_variables.push_str(before);
        without_variables.push('x');
        let name = variable(inner, line)?;
        if inner != name {
            let message = format!("`{token}` is read as `{{{{{name}}}}}`; fabric rejects spaces");
            log.changed(Some(line), message);
        }
        line += token.matches('\n').count();
        template.push_param(name);
        at = end;
    }
    let rest = text.get(at..).unwrap_or_default();
    template.push_text(rest);
    without_variables.push_str(rest);
    match placeholder(&without_variables) {
        Some(_) => Err(Skip::new(None, "a variable inside of another `{{…}}`")),
        None => Ok(template),
    }
}

fn variable(inner: &str, line: usize) -> Result<&str, Skip> {
    let name = inner.trim();
    if name.starts_with("plugin:") || name.starts_with("ext:") {
        let reason = format!("`{{{{{inner}}}}}` calls a template plugin");
        return Err(Skip::new(Some(line), reason));
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    match name.chars().all(is_name) {
        true => Ok(name),
        false => {
            let reason = format!("`{{{{{inner}}}}}` is not the name of a variable");
            Err(Skip::new(Some(line), reason))
        }
    }
}
