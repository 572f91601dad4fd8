//! Keeps the resolved prompts of jobs that wait, in a temporary file that has no name:
//! each prompt is resolved once, and a large batch needs little memory.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::inference::{Prompt, SettingsLayer};
use crate::job::{ProcessorStep, ResolvedJob, Warning};
use crate::pack::{ModelFacts, Pack, ProcessorContext, ResolvedPrompt, TextFile};

/// Resolved prompts by their place in the file.
#[derive(Debug)]
pub(super) struct Spool {
    file: RefCell<File>,
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
}

#[derive(Serialize, Deserialize)]
struct SpooledStep {
    pack: usize,
    files: usize,
    processor: String,
    options: Vec<(String, String)>,
    prompt: String,
    params: Vec<(String, String)>,
    model: Option<ModelFacts>,
}

impl Spool {
    /// Creates an empty spool on the disk of `folder`.
    ///
    /// # Errors
    /// Returns an error if no file can be created there.
    pub(super) fn create(folder: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: RefCell::new(tempfile::tempfile_in(folder)?),
            end: 0,
            packs: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Keeps a resolved job.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(super) fn put(&mut self, job: ResolvedJob) -> std::io::Result<SpoolEntry> {
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
        } = resolved;
        let spooled = SpooledJob {
            prompt,
            settings,
            extension,
            extra,
            warnings,
            resolver: self.pack(resolver),
            steps: steps.into_iter().map(|step| self.step(step)).collect(),
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

    /// Returns a job that was kept.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub(super) fn get(&self, entry: SpoolEntry) -> std::io::Result<ResolvedJob> {
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
                        prompt: step.prompt,
                        params: step.params,
                        files: self.files.get(step.files)?.clone(),
                        model: step.model,
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
            prompt,
            params,
            files,
            model,
        } = step.context;
        SpooledStep {
            pack: self.pack(step.pack),
            files: position_or_push(&mut self.files, files, |a, b| a == b),
            processor,
            options,
            prompt,
            params,
            model,
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
