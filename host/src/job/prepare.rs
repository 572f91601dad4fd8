//! Prepare: which pack is asked, with what, and what it resolves to.

use crate::inference::{Message, Prompt, Role};
use crate::pack::{
    self, Answer, ModelFacts, Pack, ProcessorContext, ProcessorRef, Request, Resolved, STANDARD,
    TextFile,
};
use crate::source_snippet::{Place, excerpt};

use super::PackSet;

/// The pack name that means: the standard pack, with the stock prompts.
const STOCK: &str = "stock";
/// The parameter that stdin can fill.
const TEXT: &str = "text";
/// The entry of a request's `extra` that holds a prompt typed on the command
/// line, which has no name in any file.
const TEMPLATE: &str = "template";

/// Processors of one job. Each has a memory of its own; more than a handful is
/// a mistake, or a pack that wants the machine for itself.
const PROCESSORS_MAX: usize = 32;

/// What the user typed as the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The prompt itself.
    Inline(String),
    /// A prompt's name.
    Named {
        /// The pack in front of the slash.
        pack: Option<String>,
        /// The name inside the pack.
        prompt: String,
    },
}

impl Address {
    /// A text with blanks or placeholders is the prompt itself.
    #[must_use]
    pub fn parse(typed: &str) -> Self {
        if typed.contains(char::is_whitespace) || typed.contains("{{") {
            return Self::Inline(typed.to_owned());
        }
        match typed.split_once('/') {
            Some((pack, prompt)) if pack::check_name(pack).is_ok() && !prompt.is_empty() => {
                Self::Named {
                    pack: Some(pack.to_owned()),
                    prompt: prompt.to_owned(),
                }
            }
            _ => Self::Named {
                pack: None,
                prompt: typed.to_owned(),
            },
        }
    }
}

/// What is asked, before any pack has seen it.
#[derive(Clone, Debug)]
pub struct PromptRequest {
    /// The prompt as it was typed.
    pub typed: String,
    /// Packs of `--pack`; the first one resolves.
    pub packs: Vec<String>,
    /// Files of `--prompts`, or those of the config.
    pub files: Vec<TextFile>,
    /// The prompts of this program.
    pub stock: TextFile,
    /// Parameters in the order given.
    pub params: Vec<(String, String)>,
    /// `--post`; `None` leaves it to the prompt.
    pub post: Option<Vec<ProcessorRef>>,
    /// `--system`.
    pub system: Option<String>,
    /// `--raw`.
    pub raw: bool,
}

/// A processor of one of the packs, ready to be opened.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whose it is.
    pub pack: Pack,
    /// What it is opened with.
    pub context: ProcessorContext,
}

/// A job that is ready to be performed.
#[derive(Clone, Debug)]
pub struct ResolvedJob {
    /// What the resolver made of it; `--system` and `--raw` are applied.
    pub resolved: Resolved,
    /// The processors, in order.
    pub steps: Vec<Step>,
    /// The pack that resolved it.
    pub resolver: Pack,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What can go wrong while a job is prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pack.
    #[error(transparent)]
    Pack(#[from] pack::Error),
    /// A prompt file is wrong, and where.
    #[error("{at}: {message}{}", Excerpt(excerpt))]
    File {
        /// `file:line:column`, as far as is known.
        at: String,
        /// What is wrong.
        message: String,
        /// The line and a caret, or nothing.
        excerpt: String,
    },
    /// What was asked does not go together.
    #[error("{0}")]
    Usage(String),
    /// Stdin cannot be read.
    #[error("cannot read the text from stdin: {0}")]
    Stdin(String),
}

struct Excerpt<'a>(&'a str);

impl std::fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.0)
        }
    }
}

/// Resolves the prompt and finds its processors. Blocks, and calls packs.
///
/// `stdin` is asked for the parameter `text` only when the prompt lacks it; it
/// answers `None` when there is nothing to be read.
///
/// # Errors
/// A pack is missing, does not load, fails or answers that it cannot; a file
/// is wrong; or what was asked does not go together.
pub fn prepare(
    shelf: &mut PackSet,
    ask: &PromptRequest,
    model: Option<&ModelFacts>,
    stdin: &mut dyn FnMut() -> Result<Option<String>, String>,
) -> Result<ResolvedJob, Error> {
    let mut at_hand = Vec::new();
    for name in &ask.packs {
        at_hand.push(shelf.take(name)?);
    }
    let mut files = ask.files.clone();
    let (resolver, prompt, mut extra) = match Address::parse(&ask.typed) {
        Address::Inline(text) => {
            let resolver = first_or_standard(shelf, &at_hand)?;
            (
                resolver,
                "inline".to_owned(),
                vec![(TEMPLATE.to_owned(), text)],
            )
        }
        Address::Named { pack: None, prompt } => {
            (first_or_standard(shelf, &at_hand)?, prompt, Vec::new())
        }
        Address::Named {
            pack: Some(pack),
            prompt,
        } if pack == STOCK => {
            files = vec![ask.stock.clone()];
            (shelf.get(STANDARD)?, prompt, Vec::new())
        }
        Address::Named {
            pack: Some(pack),
            prompt,
        } => (shelf.get(&pack)?, prompt, Vec::new()),
    };
    let is_standard = resolver.name() == STANDARD;
    if is_standard && files.is_empty() {
        files.push(ask.stock.clone());
    }
    let mut request = Request {
        prompt,
        params: ask.params.clone(),
        files: unique(&[resolver.beside(), &files]),
        model: model.cloned(),
        extra: std::mem::take(&mut extra),
    };
    let resolved = match resolver.resolve(&request) {
        Err(pack::Error::Answer {
            answer: Answer::MissingParams(names),
            ..
        }) if names.iter().any(|name| name == TEXT) => {
            if let Some(text) = stdin().map_err(Error::Stdin)? {
                request.params.push((TEXT.to_owned(), text));
            }
            resolver.resolve(&request)
        }
        other => other,
    };
    if let Err(pack::Error::Answer {
        answer: Answer::UnknownPrompt(_),
        ..
    }) = &resolved
        && shelf.has(&ask.typed)
    {
        let name = &ask.typed;
        let warning = format!("`{name}` is a pack; its prompts are called `{name}/PROMPT`");
        shelf.warnings.push(warning);
    }
    let mut resolved = resolved.map_err(|e| placed(e, &request.files))?;
    let mut warnings = std::mem::take(&mut resolved.warnings);
    apply_flags(ask, &mut resolved, &mut warnings)?;
    let steps = steps(shelf, ask, &resolver, &resolved, &request)?;
    warnings.append(&mut shelf.warnings);
    Ok(ResolvedJob {
        resolved,
        steps,
        resolver,
        warnings,
    })
}

fn first_or_standard(shelf: &mut PackSet, at_hand: &[Pack]) -> Result<Pack, pack::Error> {
    match at_hand.first() {
        Some(pack) => Ok(pack.clone()),
        None => shelf.get(STANDARD),
    }
}

/// All files, under names that tell them apart: a pack knows bare names only,
/// and what it says of `p.toml` must not be taken for another file's fault.
fn unique(lists: &[&[TextFile]]) -> Vec<TextFile> {
    let mut all: Vec<TextFile> = Vec::new();
    for file in lists.iter().copied().flatten() {
        let mut file = file.clone();
        let given = file.name.clone();
        let mut number = 2;
        while all.iter().any(|known| known.name == file.name) {
            file.name = match given.rsplit_once('.') {
                Some((stem, extension)) => format!("{stem}-{number}.{extension}"),
                None => format!("{given}-{number}"),
            };
            number += 1;
        }
        all.push(file);
    }
    all
}

/// A pack knows bare file names; the user wants the path, and the line.
fn placed(error: pack::Error, files: &[TextFile]) -> Error {
    let pack::Error::Answer {
        answer:
            Answer::InvalidFile {
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
    let known = files.iter().find(|it| it.name == *file);
    let mut at = known.map_or(file, |it| &it.shown).clone();
    let mut shown = String::new();
    if let Some(line) = line {
        at += &format!(":{line}");
        if let Some(column) = column {
            at += &format!(":{column}");
        }
        if let Some(known) = known {
            let column = column.unwrap_or(1) as usize;
            shown = excerpt(
                &known.text,
                Place {
                    line: *line as usize,
                    column,
                },
            );
        }
    }
    Error::File {
        at,
        message: message.clone(),
        excerpt: shown,
    }
}

fn apply_flags(
    ask: &PromptRequest,
    resolved: &mut Resolved,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(system) = &ask.system {
        match &mut resolved.prompt {
            Prompt::Raw(_) => warnings.push(
                "the prompt is raw and has no system message; --system is dropped".to_owned(),
            ),
            Prompt::Chat(messages) => {
                messages.retain(|message| message.role != Role::System);
                if !system.is_empty() {
                    let content = system.clone();
                    messages.insert(
                        0,
                        Message {
                            role: Role::System,
                            content,
                        },
                    );
                }
            }
        }
    }
    if ask.raw
        && let Prompt::Chat(messages) = &mut resolved.prompt
    {
        match &mut messages[..] {
            [message] if message.role == Role::User => {
                resolved.prompt = Prompt::Raw(std::mem::take(&mut message.content));
            }
            messages => {
                let roles: Vec<&str> = messages.iter().map(|it| it.role.as_str()).collect();
                return Err(Error::Usage(format!(
                    "--raw takes one user message only; this prompt has {}",
                    roles.join(", ")
                )));
            }
        }
    }
    Ok(())
}

fn steps(
    shelf: &mut PackSet,
    ask: &PromptRequest,
    resolver: &Pack,
    resolved: &Resolved,
    request: &Request,
) -> Result<Vec<Step>, Error> {
    let refs = ask.post.as_ref().unwrap_or(&resolved.post);
    if refs.len() > PROCESSORS_MAX {
        return Err(Error::Usage(format!(
            "the answer would run through {} processors; the most is {PROCESSORS_MAX}",
            refs.len()
        )));
    }
    let mut own: Option<Vec<String>> = None;
    let mut steps = Vec::new();
    for wanted in refs {
        let (pack, processor) = match wanted.name.split_once('/') {
            Some((pack, processor)) => (shelf.get(pack)?, processor),
            None => {
                let own = match &mut own {
                    Some(own) => own,
                    None => own.insert(own_processors(resolver, &request.files)?),
                };
                let is_own = own.contains(&wanted.name);
                let pack = if is_own {
                    resolver.clone()
                } else {
                    shelf.get(STANDARD)?
                };
                (pack, wanted.name.as_str())
            }
        };
        let files = unique(&[pack.beside(), &ask.files]);
        let context = ProcessorContext {
            processor: processor.to_owned(),
            options: wanted.options.clone(),
            prompt: ask.typed.clone(),
            params: request.params.clone(),
            files,
            model: request.model.clone(),
        };
        steps.push(Step { pack, context });
    }
    Ok(steps)
}

/// Names of the processors that a bare name means the resolving pack's own by.
fn own_processors(resolver: &Pack, files: &[TextFile]) -> Result<Vec<String>, Error> {
    if resolver.name() == STANDARD || !resolver.processes() {
        return Ok(Vec::new());
    }
    let contents = resolver.describe(files).map_err(|e| placed(e, files))?;
    Ok(contents.processors.into_iter().map(|it| it.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_a_name_or_itself() {
        let named = |pack: Option<&str>, prompt: &str| Address::Named {
            pack: pack.map(str::to_owned),
            prompt: prompt.to_owned(),
        };
        for (typed, address) in [
            ("tldr", named(None, "tldr")),
            ("think,aps", named(None, "think,aps")),
            ("a.b.c", named(None, "a.b.c")),
            ("hello/greet", named(Some("hello"), "greet")),
            ("Hello/greet", named(None, "Hello/greet")),
            ("hello/", named(None, "hello/")),
            ("Say hello", Address::Inline("Say hello".to_owned())),
            ("a/b c", Address::Inline("a/b c".to_owned())),
            ("{{text}}", Address::Inline("{{text}}".to_owned())),
        ] {
            assert_eq!(Address::parse(typed), address, "{typed}");
        }
    }
}
