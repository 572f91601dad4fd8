//! The exports of the component.

use std::cell::RefCell;

use crate::bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use crate::{
    Contents, Context, Error, File, Outcome, Pack, Processor, Pushed, Request, Resolved, Stop,
};

/// A type that stands for a pack; [`export!`](crate::export) defines it.
pub trait Exported: 'static {
    /// Returns the pack.
    fn pack() -> impl Pack;
}

impl<T: Exported> catalog::Guest for T {
    fn describe(files: Vec<File>) -> Result<Contents, Error> {
        T::pack().describe(&files)
    }
}

impl<T: Exported> resolver::Guest for T {
    fn resolve(request: Request) -> Result<Resolved, Error> {
        T::pack().resolve(&request)
    }
}

impl<T: Exported> post_processor::Guest for T {
    type Processor = OpenProcessor<T>;
}

/// An open processor. The `RefCell` is needed because the methods of a resource take a
/// shared reference.
pub struct OpenProcessor<T> {
    processor: RefCell<Box<dyn Processor>>,
    exported: std::marker::PhantomData<T>,
}

impl<T: Exported> post_processor::GuestProcessor for OpenProcessor<T> {
    fn open(context: Context) -> Result<post_processor::Processor, Error> {
        let processor = RefCell::new(T::pack().open(&context)?);
        Ok(post_processor::Processor::new(Self {
            processor,
            exported: std::marker::PhantomData,
        }))
    }

    fn push(&self, chunk: String) -> Result<Pushed, Error> {
        self.processor.borrow_mut().push(&chunk)
    }

    fn finish(&self, reason: Stop) -> Result<Outcome, Error> {
        self.processor.borrow_mut().finish(reason)
    }
}
