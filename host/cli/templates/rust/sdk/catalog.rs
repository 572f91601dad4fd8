//! A pack with a fixed list of prompts and processors.

use crate::{
    Contents, Context, Error, File, Pack, Processor, ProcessorInfo, PromptInfo, Request, Resolved,
    similar_names,
};

type Resolve = Box<dyn Fn(&Request) -> Result<Resolved, Error>>;
type Open = Box<dyn Fn(&Context) -> Result<Box<dyn Processor>, Error>>;

/// A pack with a fixed list of prompts and processors.
#[derive(Default)]
pub struct Catalog {
    summary: String,
    prompts: Vec<(PromptInfo, Resolve)>,
    processors: Vec<(ProcessorInfo, Open)>,
}

impl Catalog {
    /// Creates a pack without prompts and processors. `summary` is one line.
    pub fn new(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// Adds a prompt and the function that returns its messages.
    #[must_use]
    pub fn prompt(
        mut self,
        info: PromptInfo,
        resolve: impl Fn(&Request) -> Result<Resolved, Error> + 'static,
    ) -> Self {
        self.prompts.push((info, Box::new(resolve)));
        self
    }

    /// Adds a processor and the function that opens it for one answer.
    #[must_use]
    pub fn processor<P: Processor + 'static>(
        mut self,
        info: ProcessorInfo,
        open: impl Fn(&Context) -> Result<P, Error> + 'static,
    ) -> Self {
        let open: Open = Box::new(move |context| Ok(Box::new(open(context)?)));
        self.processors.push((info, open));
        self
    }
}

impl Pack for Catalog {
    fn describe(&self, _: &[File]) -> Result<Contents, Error> {
        Ok(Contents {
            summary: self.summary.clone(),
            prompts: self.prompts.iter().map(|(info, _)| info.clone()).collect(),
            processors: self
                .processors
                .iter()
                .map(|(info, _)| info.clone())
                .collect(),
            extra: Vec::new(),
        })
    }

    fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        let mut prompts = self.prompts.iter();
        match prompts.find(|(info, _)| info.name == request.prompt) {
            Some((_, resolve)) => resolve(request),
            None => {
                let names = self.prompts.iter().map(|(info, _)| info.name.as_str());
                Err(Error::UnknownPrompt(similar_names(&request.prompt, names)))
            }
        }
    }

    fn open(&self, context: &Context) -> Result<Box<dyn Processor>, Error> {
        let mut processors = self.processors.iter();
        match processors.find(|(info, _)| info.name == context.processor) {
            Some((_, open)) => open(context),
            None => {
                let names = self.processors.iter().map(|(info, _)| info.name.as_str());
                let similar = similar_names(&context.processor, names);
                Err(Error::UnknownProcessor(similar))
            }
        }
    }
}
