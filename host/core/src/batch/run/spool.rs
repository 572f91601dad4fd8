//! Keeps the resolved prompts of jobs that wait: each prompt is resolved once, and a
//! large batch needs little memory, since long lists go to a temporary file without a
//! name.

use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom, Write};

use lmstrix_inference::{Prompt, SettingsLayer};
use lmstrix_sandbox::{ModelFacts, Pack, ProcessorContext, ResolvedPrompt, TextFile};
use serde::{Deserialize, Serialize};
use tempfile::SpooledTempFile;

use crate::error::{Error, ErrorKind};
use crate::job::{ProcessorStep, ResolvedJob, Warning};

/// Bytes that are kept in memory. What is longer moves to the system's temporary folder,
/// and not to the folder of the results, whose disk the results may need.
const MEMORY_MAX: usize = 16 << 20;

/// Resolved prompts by their place in the file.
#[derive(Debug)]
pub(super) struct Spool {
    file: RefCell<SpooledTempFile>,
    end: u64,
    /// Packs and lists of files, which many jobs share.
    packs: Vec<Pack>,
    files: Vec<Vec<TextFile>>,
}

/// The position of a resolved prompt in the spool.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpoolEntry {
    offset: u64,
    bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct SpooledJob {
    prompt: Prompt,
    settings: SettingsLayer,
    extension: Option<String>,
    extra: Vec<(String, String)>,
    warnings: Vec<Warning>,
    resolver: usize,
    steps: Vec<SpooledStep>,
    /// The prompt, the parameters and the model, which are the same in all steps.
    step_prompt: String,
    step_params: Vec<(String, String)>,
    step_model: Option<ModelFacts>,
}

#[derive(Serialize, Deserialize)]
struct SpooledStep {
    pack: usize,
    files: usize,
    processor: String,
    options: Vec<(String, String)>,
    defaults: Vec<(String, String)>,
}

impl Spool {
    /// Creates an empty spool.
    pub(super) fn new() -> Self {
        Self {
            file: RefCell::new(SpooledTempFile::new(MEMORY_MAX)),
            end: 0,
            packs: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Keeps a resolved job. Returns `None` if the temporary folder is full or cannot be
    /// written: such a job is resolved again when it is its turn.
    pub(super) fn put(&mut self, job: ResolvedJob) -> Option<SpoolEntry> {
        self.write(job).ok()
    }

    /// Returns a job that was kept.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub(super) fn get(&self, entry: SpoolEntry) -> Result<ResolvedJob, Error> {
        self.read(entry).map_err(|error| {
            Error::new(
                ErrorKind::Broken,
                format!("cannot read a resolved prompt from a temporary file: {error}"),
            )
        })
    }

    fn write(&mut self, job: ResolvedJob) -> std::io::Result<SpoolEntry> {
        let ResolvedJob {
            resolved,
            steps,
            resolver,
            warnings,
        } = job;
        let ResolvedPrompt {
            prompt,
            settings,
            processors: _,
            extension,
            warnings: _,
            extra,
            written: _,
        } = resolved;
        let (step_prompt, step_params, step_model) = steps
            .first()
            .map(|step| step.context.clone())
            .map(|context| (context.prompt, context.params, context.model))
            .unwrap_or_default();
        let spooled = SpooledJob {
            prompt,
            settings,
            extension,
            extra,
            warnings,
            resolver: self.pack(resolver),
            steps: steps.into_iter().map(|step| self.step(step)).collect(),
            step_prompt,
            step_params,
            step_model,
        };
        let bytes = serde_json::to_vec(&spooled)?;
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&bytes)?;
        let entry = SpoolEntry {
            offset: self.end,
            bytes: bytes.len(),
        };
        self.end += bytes.len() as u64;
        Ok(entry)
    }

    fn read(&self, entry: SpoolEntry) -> std::io::Result<ResolvedJob> {
        let mut bytes = vec![0; entry.bytes];
        {
            let mut file = self.file.borrow_mut();
            file.seek(SeekFrom::Start(entry.offset))?;
            file.read_exact(&mut bytes)?;
        }
        let SpooledJob {
            prompt,
            settings,
            extension,
            extra,
            warnings,
            resolver,
            steps,
            step_prompt,
            step_params,
            step_model,
        } = serde_json::from_slice(&bytes)?;
        let missing = || std::io::Error::other("the spool lacks a pack");
        let steps = steps
            .into_iter()
            .map(|step| {
                Some(ProcessorStep {
                    pack: self.packs.get(step.pack)?.clone(),
                    context: ProcessorContext {
                        processor: step.processor,
                        options: step.options,
                        defaults: step.defaults,
                        prompt: step_prompt.clone(),
                        params: step_params.clone(),
                        files: self.files.get(step.files)?.clone(),
                        model: step_model.clone(),
                    },
                })
            })
            .collect::<Option<_>>();
        Ok(ResolvedJob {
            resolved: ResolvedPrompt {
                prompt,
                settings,
                processors: Vec::new(),
                extension,
                warnings: Vec::new(),
                extra,
                written: String::new(),
            },
            steps: steps.ok_or_else(missing)?,
            resolver: self.packs.get(resolver).ok_or_else(missing)?.clone(),
            warnings,
        })
    }

    fn step(&mut self, step: ProcessorStep) -> SpooledStep {
        let ProcessorContext {
            processor,
            options,
            defaults,
            files,
            prompt: _,
            params: _,
            model: _,
        } = step.context;
        SpooledStep {
            pack: self.pack(step.pack),
            files: position_or_push(&mut self.files, files, |a, b| a == b),
            processor,
            options,
            defaults,
        }
    }

    fn pack(&mut self, pack: Pack) -> usize {
        let is_same = |a: &Pack, b: &Pack| a.digest() == b.digest() && a.name() == b.name();
        position_or_push(&mut self.packs, pack, is_same)
    }
}

fn position_or_push<T>(list: &mut Vec<T>, item: T, is_same: impl Fn(&T, &T) -> bool) -> usize {
    match list.iter().position(|known| is_same(known, &item)) {
        Some(position) => position,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}
