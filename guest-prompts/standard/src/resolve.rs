//! From a prompt's name and parameters to what the model is sent.

use crate::closest::closest;
use crate::document::Document;
use crate::expand::Expander;
use crate::prompt::Prompt;
use crate::setting;
use crate::types::{Error, Request, Resolved, Setting};

/// The key in `extra` whose value is the text of an inline prompt.
pub const INLINE_KEY: &str = "template";

/// Resolves a request.
pub fn resolve(request: &Request) -> Result<Resolved, Error> {
    let documents = Document::parse_all(&request.files)?;
    let inline = request.extra.iter().find(|entry| entry.key == INLINE_KEY);
    let (prompts, warnings) = match inline {
        Some(_) => (Vec::new(), Vec::new()),
        None => find_all(&documents, &request.prompt)?,
    };
    let mut expander = Expander::new(&request.params);
    let mut resolved = join(&prompts, &mut expander, warnings)?;
    if let Some(template) = inline {
        let (label, text) = (&request.prompt, &template.value);
        resolved.user = expander.expand_inline(label, text, &documents)?;
    }
    if !expander.missing.is_empty() {
        return Err(Error::MissingParams(expander.missing));
    }
    resolved.warnings.append(&mut expander.warnings);
    resolved.warnings.extend(expander.unused_params());
    Ok(resolved)
}

/// The prompts of a comma list, and warnings about names found twice. Blanks
/// around a name and empty items do not count.
fn find_all<'a>(
    documents: &'a [Document],
    wanted: &'a str,
) -> Result<(Vec<Prompt<'a>>, Vec<String>), Error> {
    let mut prompts = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    let mut names = wanted.split(',').map(str::trim);
    for name in names.by_ref().filter(|name| !name.is_empty()) {
        let mut hits = Vec::new();
        for document in documents {
            hits.extend(Prompt::find(document, name)?);
        }
        let mut hits = hits.into_iter();
        let Some(prompt) = hits.next() else {
            return Err(Error::UnknownPrompt(suggestions(documents, wanted, name)));
        };
        if let Some(other) = hits.next() {
            let (first, other) = (prompt.document.name(), other.document.name());
            let warning = format!("`{name}` is taken from {first}; {other} has it too");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        prompts.push(prompt);
    }
    if prompts.is_empty() {
        return Err(Error::UnknownPrompt(suggestions(documents, wanted, "")));
    }
    Ok((prompts, warnings))
}

/// Close names; in a comma list each suggestion is the whole list with the one
/// item mended, so that it can be used as it is.
fn suggestions(documents: &[Document], wanted: &str, name: &str) -> Vec<String> {
    let prompts = documents.iter().flat_map(|document| {
        // A property of the wrong type elsewhere must not hide the real error.
        Prompt::all(document).unwrap_or_default()
    });
    let mut names: Vec<String> = Vec::new();
    for prompt in prompts {
        if !names.contains(&prompt.name) {
            names.push(prompt.name);
        }
    }
    let mended = |close: String| {
        let items = wanted
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let items: Vec<&str> = items
            .map(|item| if item == name { close.as_str() } else { item })
            .collect();
        if items.is_empty() {
            close
        } else {
            items.join(",")
        }
    };
    closest(name, names.iter().map(String::as_str))
        .into_iter()
        .map(mended)
        .collect()
}

/// What stands between the texts of several prompts.
const JOINT: &str = "\n\n";

fn join<'a>(
    prompts: &'a [Prompt<'a>],
    expander: &mut Expander<'a>,
    warnings: Vec<String>,
) -> Result<Resolved, Error> {
    let mut resolved = Resolved {
        warnings,
        ..Resolved::default()
    };
    let mut texts = Vec::new();
    let mut systems = Vec::new();
    let mut settings = Settings::default();
    let mut extension_from = "";
    for prompt in prompts {
        texts.push(expander.expand(prompt.document, &prompt.name, prompt.source)?);
        if let Some(system) = prompt.system {
            systems.push(expander.expand(prompt.document, &prompt.name, system)?);
        }
        for warning in &prompt.warnings {
            if !resolved.warnings.contains(warning) {
                resolved.warnings.push(warning.clone());
            }
        }
        settings.add(prompt, &mut resolved.warnings);
        for processor in &prompt.post {
            if !resolved.post.contains(processor) {
                resolved.post.push(processor.clone());
            }
        }
        if let Some(extension) = prompt.extension {
            if let Some(before) = resolved.extension.as_deref().filter(|it| *it != extension) {
                resolved.warnings.push(format!(
                    "`{}` sets the extension `{extension}` and replaces `{before}` of `{extension_from}`",
                    prompt.name
                ));
            }
            resolved.extension = Some(extension.to_owned());
            extension_from = &prompt.name;
        }
    }
    // To the byte what the Python program sent: a text that ends in a line end,
    // as TOML's multi-line strings do, keeps it.
    resolved.user = texts.join(JOINT);
    systems.retain(|system| !system.trim().is_empty());
    resolved.system = (!systems.is_empty()).then(|| systems.join(JOINT));
    resolved.settings = settings.into_settings();
    Ok(resolved)
}

/// The settings of several prompts: of one given twice the later wins.
#[derive(Default)]
struct Settings<'a> {
    /// Setting name, the prompt that gave it, and what it gave.
    groups: Vec<(String, &'a str, Vec<&'a Setting>)>,
}

impl<'a> Settings<'a> {
    fn add(&mut self, prompt: &'a Prompt<'a>, warnings: &mut Vec<String>) {
        let mut own: Vec<(String, &'a str, Vec<&'a Setting>)> = Vec::new();
        for given in &prompt.settings {
            let name = setting::name(given);
            match own.iter_mut().find(|(other, _, _)| *other == name) {
                Some((_, _, values)) => values.push(given),
                None => own.push((name, &prompt.name, vec![given])),
            }
        }
        for group in own {
            let same = self.groups.iter().position(|(name, _, _)| *name == group.0);
            let Some(index) = same else {
                self.groups.push(group);
                continue;
            };
            let (name, before, values) = self.groups.remove(index);
            if values != group.2 {
                let later = group.1;
                warnings.push(format!(
                    "`{later}` sets `{name}` and replaces that of `{before}`"
                ));
            }
            self.groups.push(group);
        }
    }

    fn into_settings(self) -> Vec<Setting> {
        let values = self.groups.into_iter().flat_map(|(_, _, values)| values);
        values.cloned().collect()
    }
}
