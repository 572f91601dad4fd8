//! Resolves prompt names and parameters to messages, settings and processors.

use crate::document::Document;
use crate::expand::Expander;
use crate::prompt::Prompt;
use crate::setting;
use lmstrix_pack::{Error, ProcessorRef, Request, Resolved, Setting, similar_names};

/// The key in `extra` for the text of an inline prompt.
pub const INLINE_KEY: &str = "template";

/// The key in `extra` for the names of parameters, one per line, that a prompt may leave
/// unused without a warning. The host sets it for the columns of a table.
pub const OPTIONAL_PARAMS_KEY: &str = "optional-params";

/// The result of `resolve`: the messages, the settings and the processors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolvedPrompt {
    /// The system message, if any.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
    /// The settings. Only stop strings may occur more than once.
    pub settings: Vec<Setting>,
    /// The processors of the answer, in order.
    pub processors: Vec<ProcessorRef>,
    /// Extension of the output file.
    pub extension: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl From<ResolvedPrompt> for Resolved {
    fn from(prompt: ResolvedPrompt) -> Self {
        let mut resolved = Self::user(prompt.user);
        if let Some(system) = prompt.system {
            resolved = resolved.system(system);
        }
        Self {
            settings: prompt.settings,
            post: prompt.processors,
            extension: prompt.extension,
            warnings: prompt.warnings,
            ..resolved
        }
    }
}

/// Resolves a request.
///
/// # Errors
/// Returns an error if a file is invalid, a prompt is unknown, parameters are missing, or
/// the expansion fails.
pub fn resolve(request: &Request) -> Result<ResolvedPrompt, Error> {
    let documents = Document::parse_all(&request.files)?;
    let inline = request.extra.iter().find(|entry| entry.key == INLINE_KEY);
    let (prompts, warnings) = match inline {
        Some(_) => (Vec::new(), Vec::new()),
        None => find_prompts(&documents, &request.prompt)?,
    };
    let mut expander = Expander::new(&request.params);
    let mut resolved = join(&prompts, &mut expander, warnings)?;
    if let Some(template) = inline {
        let (label, text) = (&request.prompt, &template.value);
        resolved.user = expander.expand_inline(label, text, &documents)?;
    }
    if !expander.missing_params.is_empty() {
        return Err(Error::MissingParams(expander.missing_params));
    }
    resolved.warnings.append(&mut expander.warnings);
    let optional: Vec<&str> = request
        .extra
        .iter()
        .filter(|entry| entry.key == OPTIONAL_PARAMS_KEY)
        .flat_map(|entry| entry.value.lines())
        .collect();
    resolved.warnings.extend(expander.unused_params(&optional));
    Ok(resolved)
}

/// Finds the prompts of a comma-separated list. Also returns a warning for each name that
/// several files define. Whitespace around names and empty items are ignored.
fn find_prompts<'a>(
    documents: &'a [Document],
    list: &'a str,
) -> Result<(Vec<Prompt<'a>>, Vec<String>), Error> {
    let mut prompts = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    let mut names = list.split(',').map(str::trim);
    for name in names.by_ref().filter(|name| !name.is_empty()) {
        let mut definitions = Vec::new();
        for document in documents {
            definitions.extend(Prompt::find(document, name)?);
        }
        let mut definitions = definitions.into_iter();
        let Some(prompt) = definitions.next() else {
            return Err(Error::UnknownPrompt(suggestions(documents, list, name)));
        };
        if let Some(other) = definitions.next() {
            let (first, other) = (prompt.document.name(), other.document.name());
            let warning = format!("`{name}` is defined in {first} and in {other}; using the first");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        prompts.push(prompt);
    }
    if prompts.is_empty() {
        return Err(Error::UnknownPrompt(suggestions(documents, list, "")));
    }
    Ok((prompts, warnings))
}

/// Suggests names similar to `name`. Each suggestion is the complete comma-separated list
/// with `name` replaced, so that it can be used as is.
fn suggestions(documents: &[Document], list: &str, name: &str) -> Vec<String> {
    let prompts = documents.iter().flat_map(|document| {
        // An invalid prompt elsewhere in the file must not hide the unknown name.
        Prompt::read_all(document).unwrap_or_default()
    });
    let mut names: Vec<String> = Vec::new();
    for prompt in prompts {
        if !names.contains(&prompt.name) {
            names.push(prompt.name);
        }
    }
    let corrected_list = |similar: String| {
        let items = list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let items: Vec<&str> = items
            .map(|item| if item == name { similar.as_str() } else { item })
            .collect();
        if items.is_empty() {
            similar
        } else {
            items.join(",")
        }
    };
    similar_names(name, names.iter().map(String::as_str))
        .into_iter()
        .map(corrected_list)
        .collect()
}

/// Separator between the texts of several prompts.
const SEPARATOR: &str = "\n\n";

fn join<'a>(
    prompts: &'a [Prompt<'a>],
    expander: &mut Expander<'a>,
    warnings: Vec<String>,
) -> Result<ResolvedPrompt, Error> {
    let mut resolved = ResolvedPrompt {
        warnings,
        ..ResolvedPrompt::default()
    };
    let mut texts = Vec::new();
    let mut systems = Vec::new();
    let mut settings = MergedSettings::default();
    let mut extension_from = "";
    for prompt in prompts {
        texts.push(expander.expand(prompt.document, &prompt.name, prompt.template)?);
        if let Some(system) = prompt.system {
            systems.push(expander.expand(prompt.document, &prompt.name, system)?);
        }
        for warning in &prompt.warnings {
            if !resolved.warnings.contains(warning) {
                resolved.warnings.push(warning.clone());
            }
        }
        settings.add(prompt, &mut resolved.warnings);
        for processor in &prompt.processors {
            if !resolved.processors.contains(processor) {
                resolved.processors.push(processor.clone());
            }
        }
        if let Some(extension) = prompt.extension {
            if let Some(previous) = &resolved.extension
                && previous != extension
            {
                resolved.warnings.push(format!(
                    "`{}` replaces the extension `{previous}` of `{extension_from}` with `{extension}`",
                    prompt.name
                ));
            }
            resolved.extension = Some(extension.to_owned());
            extension_from = &prompt.name;
        }
    }
    // A text that ends in a newline, as multi-line strings in TOML do, keeps it. The result
    // is byte-identical to that of the Python program.
    resolved.user = texts.join(SEPARATOR);
    systems.retain(|system| !system.trim().is_empty());
    resolved.system = (!systems.is_empty()).then(|| systems.join(SEPARATOR));
    resolved.settings = settings.into_settings();
    Ok(resolved)
}

/// The settings of several prompts. If prompts set the same setting, the last one applies.
#[derive(Default)]
struct MergedSettings<'a> {
    /// The name of the setting, the name of the prompt that sets it, and the values.
    entries: Vec<(String, &'a str, Vec<&'a Setting>)>,
}

impl<'a> MergedSettings<'a> {
    fn add(&mut self, prompt: &'a Prompt<'a>, warnings: &mut Vec<String>) {
        let mut own: Vec<(String, &'a str, Vec<&'a Setting>)> = Vec::new();
        for setting in &prompt.settings {
            let name = setting::name(setting);
            match own.iter_mut().find(|(other, _, _)| *other == name) {
                Some((_, _, values)) => values.push(setting),
                None => own.push((name, &prompt.name, vec![setting])),
            }
        }
        for entry in own {
            let same_name = self
                .entries
                .iter()
                .position(|(name, _, _)| *name == entry.0);
            let Some(index) = same_name else {
                self.entries.push(entry);
                continue;
            };
            let (name, previous_prompt, previous_values) = self.entries.remove(index);
            if previous_values != entry.2 {
                warnings.push(format!(
                    "`{}` replaces the setting `{name}` of `{previous_prompt}`",
                    entry.1
                ));
            }
            self.entries.push(entry);
        }
    }

    fn into_settings(self) -> Vec<Setting> {
        let values = self.entries.into_iter().flat_map(|(_, _, values)| values);
        values.cloned().collect()
    }
}
