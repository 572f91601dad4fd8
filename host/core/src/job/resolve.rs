//! Resolution: selects the pack of a prompt, calls it, and locates the processors.

use lmstrix_inference::{Message, Prompt, Role};
use lmstrix_sandbox::{
    ContractError, ModelFacts, Pack, PackContents, ResolveRequest, ResolvedPrompt, STANDARD_PACK,
};

use super::declared::{apply_defaults, unknown_values};
use super::placement::place_attachments;
use super::processor_steps::{ProcessorStep, files_of, locate_processors};
use super::resolve_error::{ResolveError, locate};
use super::{PackSet, PromptRequest, Warning};

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
            (
                resolving_pack(packs, &named, None, prompt)?,
                "inline".to_owned(),
            )
        }
        PromptAddress::Named {
            pack: None,
            prompt: name,
        } => {
            let pack = resolving_pack(packs, &named, Some(&name), prompt)?;
            (pack, name)
        }
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
        files: files_of(&resolver, prompt, &files),
        model: model.cloned(),
        extra,
    };
    let mut warnings = check_params(packs, &resolver, prompt, &mut request, stdin)?;
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
    check_schema(&resolved)?;
    let of_resolver = std::mem::take(&mut resolved.warnings).into_iter();
    warnings.extend(of_resolver.map(Warning::Resolver));
    warnings.extend(apply_system(prompt.system.as_deref(), &mut resolved.prompt));
    if prompt.raw {
        apply_raw(&mut resolved.prompt)?;
    }
    place_attachments(&mut resolved.prompt, &prompt.attachments)?;
    let oddities = resolved.prompt.oddities();
    warnings.extend(oddities.map(|odd| Warning::Resolver(format!("the prompt {odd}"))));
    let steps = locate_processors(packs, prompt, &resolver, &resolved, &request, &mut warnings)?;
    warnings.extend(packs.take_warnings());
    Ok(ResolvedJob {
        resolved,
        steps,
        resolver,
        warnings,
    })
}

/// Checks the parameters against what the pack declares, and applies its defaults. The
/// standard pack checks them itself: its prompts can be composed.
///
/// Returns warnings about unknown parameters.
fn check_params(
    packs: &mut PackSet,
    resolver: &Pack,
    prompt: &PromptRequest,
    request: &mut ResolveRequest,
    stdin: &mut dyn FnMut() -> Result<Option<String>, String>,
) -> Result<Vec<Warning>, ResolveError> {
    if resolver.is_standard() {
        return Ok(Vec::new());
    }
    // A pack without prompts, or one that fails, has its own error in `resolve`.
    let contents = packs.described(resolver, &request.files);
    if contents
        .as_ref()
        .is_some_and(|contents| contents.has_only_processors())
    {
        return Err(ResolveError::Pack(
            lmstrix_sandbox::Error::MissingInterface {
                pack: resolver.name().to_owned(),
                interface: "prompts",
            },
        ));
    }
    let declared = contents.as_ref().and_then(|contents| {
        let mut prompts = contents.prompts.iter();
        prompts.find(|declared| declared.name == request.prompt)
    });
    let Some(declared) = declared else {
        return Ok(Vec::new());
    };
    let of = format!("{}/{}", resolver.name(), declared.name);
    let warnings = unknown_values(
        declared,
        &request.params,
        &prompt.optional_params,
        "parameter",
        &of,
    );
    let mut missing = apply_defaults(declared, &mut request.params);
    if missing.iter().any(|name| name == TEXT)
        && let Some(text) = stdin().map_err(ResolveError::Stdin)?
    {
        request.params.push((TEXT.to_owned(), text));
        missing.retain(|name| name != TEXT);
    }
    if missing.is_empty() {
        return Ok(warnings);
    }
    Err(ResolveError::Pack(lmstrix_sandbox::Error::Contract {
        pack: resolver.name().into(),
        item: request.prompt.as_str().into(),
        error: ContractError::MissingParams(missing),
        written: "".into(),
    }))
}

/// Returns an error if the prompt's JSON schema is not JSON.
fn check_schema(resolved: &ResolvedPrompt) -> Result<(), ResolveError> {
    let schema = resolved.settings.json_schema.as_ref();
    let parsed = schema.map(|schema| serde_json::from_str::<serde_json::Value>(schema));
    match parsed {
        Some(Err(error)) => Err(ResolveError::Usage(format!(
            "the prompt's json_schema is not JSON: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Returns the pack that resolves a prompt without a pack in its name; `None` is a text. It is
/// the first of `--pack` that declares the prompt; else the standard pack, if it has it; else
/// the first that has prompts. A pack without prompts offers its processors only.
fn resolving_pack(
    packs: &mut PackSet,
    named: &[Pack],
    name: Option<&str>,
    prompt: &PromptRequest,
) -> Result<Pack, lmstrix_sandbox::Error> {
    let mut first = None;
    for pack in named.iter().filter(|pack| pack.has_prompts()) {
        let files = files_of(pack, prompt, &prompt.files);
        let Some(name) = name else {
            // A pack that fails has its own error in `resolve`.
            match packs.described(pack, &files) {
                Some(contents) if contents.has_only_processors() => continue,
                _ => return Ok(pack.clone()),
            }
        };
        let contents = packs.describe(pack, &files)?;
        if contents.has_only_processors() {
            continue;
        }
        if declares(&contents, name) {
            return Ok(pack.clone());
        }
        first.get_or_insert(pack);
    }
    let standard = packs.get(STANDARD_PACK)?;
    let (Some(first), Some(name)) = (first, name) else {
        return Ok(standard);
    };
    let stock = [packs.stock().clone()];
    let files = if prompt.files.is_empty() {
        &stock
    } else {
        &prompt.files[..]
    };
    if declares(&*packs.describe(&standard, files)?, name) {
        return Ok(standard);
    }
    Ok(first.clone())
}

/// Returns whether a pack declares a prompt, or the first task of a composed one.
fn declares(contents: &PackContents, prompt: &str) -> bool {
    let mut tasks = prompt.split(',').map(str::trim);
    let first_task = tasks.find(|task| !task.is_empty());
    let mut prompts = contents.prompts.iter();
    prompts.any(|known| known.name == prompt || Some(known.name.as_str()) == first_task)
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
