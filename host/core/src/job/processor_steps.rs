//! The processors of a job: their packs, their options, and the files that they get.

use lmstrix_sandbox::{
    Pack, PackItemInfo, ProcessorContext, ProcessorRef, ResolveRequest, ResolvedPrompt,
    STANDARD_PACK, TextFile,
};

use super::declared::{apply_defaults, unknown_values};
use super::resolve_error::{ResolveError, locate};
use super::{PackSet, PromptRequest, Warning};
use crate::distinct_name::distinct_name;
use crate::suggest::similar_names;

/// The most processors of one job. Each has a memory of its own; more than a handful
/// is a mistake, or a pack that takes up the machine.
const PROCESSORS_MAX: usize = 32;

/// A processor of one of the packs, ready to be opened.
#[derive(Clone, Debug)]
pub struct ProcessorStep {
    /// The pack that has the processor.
    pub pack: Pack,
    /// The options, parameters and files that the processor is opened with.
    pub context: ProcessorContext,
}

/// The start of the name of a processor that is added to those of the prompt.
const ADDED: char = '+';

/// Returns the processors of the prompt, those that replace them, or both.
fn wanted_processors(
    prompt: &PromptRequest,
    resolved: &ResolvedPrompt,
) -> Result<Vec<ProcessorRef>, ResolveError> {
    let Some(given) = &prompt.processors else {
        return Ok(resolved.processors.clone());
    };
    let added: Vec<ProcessorRef> = given
        .iter()
        .filter_map(|wanted| {
            let name = wanted.name.strip_prefix(ADDED)?.to_owned();
            let options = wanted.options.clone();
            Some(ProcessorRef { name, options })
        })
        .collect();
    match added.len() {
        0 => Ok(given.clone()),
        all if all == given.len() => Ok([&resolved.processors[..], &added].concat()),
        _ => Err(ResolveError::Usage(
            "`--post +NAME` adds to the processors of the prompt, and `--post NAME` replaces \
             them: give all with `+`, or none"
                .to_owned(),
        )),
    }
}

/// Locates the processors of a prompt, and checks their options.
pub(super) fn locate_processors(
    packs: &mut PackSet,
    prompt: &PromptRequest,
    resolver: &Pack,
    resolved: &ResolvedPrompt,
    request: &ResolveRequest,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<ProcessorStep>, ResolveError> {
    let refs = wanted_processors(prompt, resolved)?;
    if refs.len() > PROCESSORS_MAX {
        return Err(ResolveError::Usage(format!(
            "the answer would pass {} processors; the maximum is {PROCESSORS_MAX}",
            refs.len()
        )));
    }
    let mut steps = Vec::new();
    for wanted in &refs {
        let (pack, processor) = match wanted.name.split_once('/') {
            Some((pack, processor)) => (packs.get(pack)?, processor),
            None => {
                let pack = unqualified_processor(packs, resolver, &wanted.name, request)?;
                (pack, wanted.name.as_str())
            }
        };
        let files = files_of(&pack, prompt, &prompt.files);
        let options = wanted.options.clone();
        let defaults = check_options(packs, &pack, processor, &options, &files, warnings)?;
        let context = ProcessorContext {
            processor: processor.to_owned(),
            options,
            defaults,
            prompt: prompt.address.clone(),
            params: request.params.clone(),
            files,
            model: request.model.clone(),
        };
        steps.push(ProcessorStep { pack, context });
    }
    Ok(steps)
}

/// Returns the pack of a processor that is named without one: the resolving pack, if it
/// declares it, else the standard pack.
fn unqualified_processor(
    packs: &mut PackSet,
    resolver: &Pack,
    name: &str,
    request: &ResolveRequest,
) -> Result<Pack, ResolveError> {
    let is_own = |processor: &PackItemInfo| processor.name == name;
    let mut known = Vec::new();
    if resolver.name() != STANDARD_PACK && resolver.has_processors() {
        let contents = packs
            .describe(resolver, &request.files)
            .map_err(|error| locate(error, &request.files))?;
        if contents.processors.iter().any(is_own) {
            return Ok(resolver.clone());
        }
        known.extend(contents.processors.iter().map(|own| own.name.clone()));
    }
    let standard = packs.processor_names(STANDARD_PACK);
    if standard.iter().any(|known| known == name) {
        return Ok(packs.get(STANDARD_PACK)?);
    }
    known.extend(standard);
    let in_pack = if packs.has(name) {
        packs.processor_names(name)
    } else {
        Vec::new()
    };
    let similar = if in_pack.is_empty() {
        similar_names(name, known.iter().map(String::as_str))
    } else {
        let of_pack = in_pack.into_iter();
        of_pack
            .map(|processor| format!("{name}/{processor}"))
            .collect()
    };
    Err(ResolveError::UnknownProcessor {
        name: name.to_owned(),
        pack: resolver.name().to_owned(),
        similar,
    })
}

/// Returns the declared defaults of the options that are not given. Warns about unknown options.
/// The standard pack checks its options itself.
///
/// # Errors
/// Returns an error if a required option is missing.
fn check_options(
    packs: &mut PackSet,
    pack: &Pack,
    processor: &str,
    options: &[(String, String)],
    files: &[TextFile],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(String, String)>, ResolveError> {
    if pack.is_standard() {
        return Ok(Vec::new());
    }
    let contents = packs.described(pack, files);
    let declared = contents.as_ref().and_then(|contents| {
        let mut processors = contents.processors.iter();
        processors.find(|declared| declared.name == processor)
    });
    let Some(declared) = declared else {
        return Ok(Vec::new());
    };
    let of = format!("{}/{processor}", pack.name());
    warnings.extend(unknown_values(declared, options, &[], "option", &of));
    let mut all = options.to_vec();
    match &apply_defaults(declared, &mut all)[..] {
        [] => Ok(all.split_off(options.len())),
        [first, ..] => Err(ResolveError::Usage(format!(
            "processor `{of}` needs the option `{first}`: --post {of}:{first}=VALUE"
        ))),
    }
}

/// Returns the files that are passed to a pack: those of `--file`, those beside it, and the
/// prompt files `files`. The standard pack would read the first as prompt files.
pub(super) fn files_of(pack: &Pack, prompt: &PromptRequest, files: &[TextFile]) -> Vec<TextFile> {
    let for_packs: &[TextFile] = if pack.is_standard() {
        &[]
    } else {
        &prompt.pack_files
    };
    with_unique_names(&[for_packs, pack.sidecar_files(), files])
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
