//! The functions of the pack.

use lmstrix_pack::{Contents, Context, Error, File, Pack, Processor, Request, Resolved};

use crate::processor::ProcessorKind;
use crate::{describe, processor, resolve};

/// The standard pack.
#[derive(Debug)]
pub struct StandardPack;

impl Pack for StandardPack {
    fn describe(&self, files: &[File]) -> Result<Contents, Error> {
        let (prompts, processors) = describe::describe(files)?;
        Ok(Contents {
            summary: describe::SUMMARY.to_owned(),
            prompts,
            processors: processors.iter().map(ProcessorKind::info).collect(),
            extra: Vec::new(),
        })
    }

    fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        resolve::resolve(request).map(Resolved::from)
    }

    fn open(&self, context: &Context) -> Result<Box<dyn Processor>, Error> {
        processor::open(&context.processor, &context.options)
    }
}
