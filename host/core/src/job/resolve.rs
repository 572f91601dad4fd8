//! Resolution: selects the pack of a prompt, calls it, and locates the processors.

use lmstrix_inference::{InvalidSetting, Message, Prompt, Role};
use lmstrix_sandbox::{
    ContractError, ModelFacts, Pack, ProcessorContext, ProcessorRef, ResolveRequest,
    ResolvedPrompt, STANDARD_PACK, TextFile,
};

use super::placement::{PlacementError, place_attachments};
use super::{PackSet, PromptRequest, Warning};
use crate::distinct_name::distinct_name;
use crate::source_snippet::{Position, source_snippet};

/// The pack name that stands for the standard pack with the built-in prompts.
const STOCK: &str = "stock";
/// The parameter that stdin can fill.
const TEXT: &str = "text";
/// The `extra` key of a request that holds a prompt typed on the command line,
/// which has no name in any file.
const TEMPLATE: &str = "template";
/// The `extra` key of a request that lists, one per line, parameters which a
/// prompt may leave unused without a warning.
const OPTIONAL_PARAMS: &str = "optional-params";
/// The `extra` key of a request for the name of an attachment, once for each.
const ATTACHMENT: &str = "attachment";

/// The most processors of one job. Each has a memory of its own; more than a handful
/// is a mistake, or a pack that takes up the machine.
const PROCESSORS_MAX: usize = 32;

/// A prompt's address, as the user typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PromptAddress {
    /// The prompt itself.
    Inline(String),
    /// A prompt's name.
    Named {
        /// The pack before the slash.
        pack: Option<String>,
        /// The name inside the pack.
        prompt: String,
    },
}

impl PromptAddress {
    /// Parses an address. A text with white space or placeholders is the prompt
    /// itself.
    #[must_use]
    pub(super) fn parse(text: &str) -> Self {
        if text.contains(char::is_whitespace) || text.contains("{{") {
            return Self::Inline(text.to_owned());
        }
        match text.split_once('/') {
            Some((pack, prompt))
                if lmstrix_sandbox::check_name(pack).is_ok() && !prompt.is_empty() =>
            {
                Self::Named {
                    pack: Some(pack.to_owned()),
                    prompt: prompt.to_owned(),
                }
            }
            _ => Self::Named {
                pack: None,
                prompt: text.to_owned(),
            },
        }
    }
}

/// A processor of one of the packs, ready to be opened.
#[derive(Clone, Debug)]
pub struct ProcessorStep {
    /// The pack that has the processor.
    pub pack: Pack,
    /// The options, parameters and files that the processor is opened with.
    pub context: ProcessorContext,
}

/// A job whose prompt is resolved and whose processors are located.
#[derive(Clone, Debug)]
pub struct ResolvedJob {
    /// The result of the resolver, with `system` and `raw` applied.
    pub resolved: ResolvedPrompt,
    /// The processors, in order.
    pub steps: Vec<ProcessorStep>,
    /// The pack that resolved the prompt.
    pub resolver: Pack,
    /// Warnings of the resolver and of the search for packs.
    pub warnings: Vec<Warning>,
}

/// An error while a prompt is resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A pack is missing or failed.
    #[error(transparent)]
    Pack(#[from] lmstrix_sandbox::Error),
    /// A prompt file is invalid.
    #[error("{at}: {message}{}", Snippet(snippet))]
    File {
        /// `file:line:column`, as far as known.
        at: String,
        /// The problem.
        message: String,
        /// The line and a caret, or nothing.
        snippet: String,
    },
    /// Options that exclude each other, or too many processors.
    #[error("{0}")]
    Usage(String),
    /// The attachments cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A setting of the prompt is out of range.
    #[error("the prompt's settings: {0}")]
    Setting(InvalidSetting),
    /// Stdin cannot be read.
    #[error("cannot read the text from stdin: {0}")]
    Stdin(String),
}

struct Snippet<'a>(&'a str);

impl std::fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.0)
        }
    }
}

/// Resolves the prompt and locates its processors. Blocks, and calls packs.
///
/// `stdin` is called for the parameter `text` only when the prompt lacks it; it
/// returns `None` when there is nothing to read.
///
/// # Errors
/// Returns an error if a pack is missing, does not load or fails, if a file or a
/// setting is invalid, or if options exclude each other.
pub fn resolve(
    packs: &mut PackSet,
    prompt: &PromptRequest,
    model: Option<&ModelFacts>,
    stdin: &mut dyn FnMut() -> Result<Option<String>, String>,
) -> Result<ResolvedJob, ResolveError> {
    let mut named = Vec::new();
    for name in &prompt.packs {
        named.push(packs.take(name)?);
    }
    let mut files = prompt.files.clone();
    let mut extra = Vec::new();
    let (resolver, name) = match PromptAddress::parse(&prompt.address) {
        PromptAddress::Inline(text) => {
            extra.push((TEMPLATE.to_owned(), text));
            (first_or_standard(packs, &named)?, "inline".to_owned())
        }
        PromptAddress::Named { pack: None, prompt } => (first_or_standard(packs, &named)?, prompt),
        PromptAddress::Named {
            pack: Some(pack),
            prompt,
        } if pack == STOCK => {
            files = vec![packs.stock().clone()];
            (packs.get(STANDARD_PACK)?, prompt)
        }
        PromptAddress::Named {
            pack: Some(pack),
            prompt,
        } => (packs.get(&pack)?, prompt),
    };
    if resolver.name() == STANDARD_PACK && files.is_empty() {
        files.push(packs.stock().clone());
    }
    if !prompt.optional_params.is_empty() {
        extra.push((
            OPTIONAL_PARAMS.to_owned(),
            prompt.optional_params.join("\n"),
        ));
    }
    for attachment in &prompt.attachments {
        extra.push((ATTACHMENT.to_owned(), attachment.name.clone()));
    }
    let mut request = ResolveRequest {
        prompt: name,
        params: prompt.params.clone(),
        files: with_unique_names(&[resolver.sidecar_files(), &files]),
        model: model.cloned(),
        extra,
    };
    let resolved = match resolver.resolve(&request) {
        Err(lmstrix_sandbox::Error::Contract {
            error: ContractError::MissingParams(names),
            ..
        }) if names.iter().any(|name| name == TEXT) => {
            if let Some(text) = stdin().map_err(ResolveError::Stdin)? {
                request.params.push((TEXT.to_owned(), text));
            }
            resolver.resolve(&request)
        }
        other => other,
    };
    if let Err(lmstrix_sandbox::Error::Contract {
        error: ContractError::UnknownPrompt(_),
        ..
    }) = &resolved
        && packs.has(&prompt.address)
    {
        let name = &prompt.address;
        packs.warn(format!(
            "`{name}` is a pack; its prompts are called `{name}/PROMPT`"
        ));
    }
    let mut resolved = resolved.map_err(|error| locate(error, &request.files))?;
    resolved.settings.check().map_err(ResolveError::Setting)?;
    let mut warnings: Vec<Warning> = std::mem::take(&mut resolved.warnings)
        .into_iter()
        .map(Warning::Resolver)
        .collect();
    warnings.extend(apply_system(prompt.system.as_deref(), &mut resolved.prompt));
    if prompt.raw {
        apply_raw(&mut resolved.prompt)?;
    }
    place_attachments(&mut resolved.prompt, &prompt.attachments)?;
    let steps = locate_processors(packs, prompt, &resolver, &resolved, &request)?;
    warnings.extend(packs.take_warnings());
    Ok(ResolvedJob {
        resolved,
        steps,
        resolver,
        warnings,
    })
}

fn first_or_standard(packs: &mut PackSet, named: &[Pack]) -> Result<Pack, lmstrix_sandbox::Error> {
    match named.first() {
        Some(pack) => Ok(pack.clone()),
        None => packs.get(STANDARD_PACK),
    }
}

/// Returns all files under distinct names: a pack knows bare names only, and an error
/// that it reports for one `p.toml` must not be shown for another.
fn with_unique_names(lists: &[&[TextFile]]) -> Vec<TextFile> {
    let mut all: Vec<TextFile> = Vec::new();
    for file in lists.iter().copied().flatten() {
        let name = distinct_name(&file.name, |name| {
            all.iter().any(|known| known.name == name)
        });
        all.push(TextFile {
            name,
            ..file.clone()
        });
    }
    all
}

/// Adds path and line to a pack's error about a file: a pack knows bare names only.
fn locate(error: lmstrix_sandbox::Error, files: &[TextFile]) -> ResolveError {
    let lmstrix_sandbox::Error::Contract {
        error:
            ContractError::InvalidFile {
                file,
                line,
                column,
                message,
            },
        ..
    } = &error
    else {
        return error.into();
    };
    let known = files.iter().find(|known| known.name == *file);
    let mut at = known.map_or(file, |known| &known.display_path).clone();
    let mut snippet = String::new();
    if let Some(line) = line {
        at += &format!(":{line}");
        if let Some(column) = column {
            at += &format!(":{column}");
        }
        if let Some(known) = known {
            let position = Position {
                line: *line as usize,
                column: column.unwrap_or(1) as usize,
            };
            snippet = source_snippet(&known.text, position);
        }
    }
    ResolveError::File {
        at,
        message: message.clone(),
        snippet,
    }
}

fn apply_system(system: Option<&str>, prompt: &mut Prompt) -> Option<Warning> {
    let system = system?;
    match prompt {
        Prompt::Raw(_) => Some(Warning::SystemDropped),
        Prompt::Chat(messages) => {
            messages.retain(|message| message.role != Role::System);
            if !system.is_empty() {
                messages.insert(0, Message::new(Role::System, system));
            }
            None
        }
    }
}

fn apply_raw(prompt: &mut Prompt) -> Result<(), ResolveError> {
    let Prompt::Chat(messages) = prompt else {
        return Ok(());
    };
    match &mut messages[..] {
        [message] if message.role == Role::User => {
            *prompt = Prompt::Raw(std::mem::take(&mut message.content));
            Ok(())
        }
        messages => {
            let roles: Vec<&str> = messages
                .iter()
                .map(|message| message.role.as_str())
                .collect();
            Err(ResolveError::Usage(format!(
                "--raw takes one user message only; this prompt has {}",
                roles.join(", ")
            )))
        }
    }
}

fn locate_processors(
    packs: &mut PackSet,
    prompt: &PromptRequest,
    resolver: &Pack,
    resolved: &ResolvedPrompt,
    request: &ResolveRequest,
) -> Result<Vec<ProcessorStep>, ResolveError> {
    let refs: &[ProcessorRef] = prompt.processors.as_ref().unwrap_or(&resolved.processors);
    if refs.len() > PROCESSORS_MAX {
        return Err(ResolveError::Usage(format!(
            "the answer would pass {} processors; the maximum is {PROCESSORS_MAX}",
            refs.len()
        )));
    }
    let mut own: Option<Vec<String>> = None;
    let mut steps = Vec::new();
    for wanted in refs {
        let (pack, processor) = match wanted.name.split_once('/') {
            Some((pack, processor)) => (packs.get(pack)?, processor),
            None => {
                let own = match &mut own {
                    Some(own) => own,
                    None => own.insert(own_processors(resolver, &request.files)?),
                };
                let pack = if own.contains(&wanted.name) {
                    resolver.clone()
                } else {
                    packs.get(STANDARD_PACK)?
                };
                (pack, wanted.name.as_str())
            }
        };
        let files = with_unique_names(&[pack.sidecar_files(), &prompt.files]);
        let context = ProcessorContext {
            processor: processor.to_owned(),
            options: wanted.options.clone(),
            prompt: prompt.address.clone(),
            params: request.params.clone(),
            files,
            model: request.model.clone(),
        };
        steps.push(ProcessorStep { pack, context });
    }
    Ok(steps)
}

/// Returns the names of the resolving pack's processors, which come before those of the
/// standard pack.
fn own_processors(resolver: &Pack, files: &[TextFile]) -> Result<Vec<String>, ResolveError> {
    if resolver.name() == STANDARD_PACK || !resolver.has_processors() {
        return Ok(Vec::new());
    }
    let contents = resolver
        .describe(files)
        .map_err(|error| locate(error, files))?;
    Ok(contents
        .processors
        .into_iter()
        .map(|processor| processor.name)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_or_the_prompt_itself() {
        let named = |pack: Option<&str>, prompt: &str| PromptAddress::Named {
            pack: pack.map(str::to_owned),
            prompt: prompt.to_owned(),
        };
        for (text, address) in [
            ("tldr", named(None, "tldr")),
            ("think,aps", named(None, "think,aps")),
            ("a.b.c", named(None, "a.b.c")),
            ("hello/greet", named(Some("hello"), "greet")),
            ("Hello/greet", named(None, "Hello/greet")),
            ("hello/", named(None, "hello/")),
            ("Say hello", PromptAddress::Inline("Say hello".to_owned())),
            ("a/b c", PromptAddress::Inline("a/b c".to_owned())),
            ("{{text}}", PromptAddress::Inline("{{text}}".to_owned())),
        ] {
            assert_eq!(PromptAddress::parse(text), address, "{text}");
        }
    }
}
