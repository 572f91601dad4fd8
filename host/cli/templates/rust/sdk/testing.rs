//! Runs processors natively, for the tests of a pack.

use crate::{Context, Entry, Error, Pack, Stop};

/// The output of a processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// All text that was pushed, and the tail.
    pub text: String,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Returns the context of a processor with options.
pub fn context(processor: &str, options: &[(&str, &str)]) -> Context {
    let option = |(key, value): &(&str, &str)| Entry::new(*key, *value);
    Context {
        processor: processor.to_owned(),
        options: options.iter().map(option).collect(),
        ..Context::default()
    }
}

/// Processes a complete answer, as a whole and cut at every place.
///
/// # Errors
/// Returns the error of the processor.
///
/// # Panics
/// Panics if the output depends on where the answer is cut.
#[expect(clippy::panic, reason = "only tests call it")]
pub fn process(pack: &impl Pack, context: &Context, answer: &str) -> Result<Output, Error> {
    let whole = process_chunks(pack, context, &[answer], Stop::End);
    for (at, _) in answer.char_indices() {
        let (before, after) = answer.split_at(at);
        let cut = process_chunks(pack, context, &[before, after], Stop::End);
        if cut != whole {
            panic!("the output depends on the chunks: {cut:?} after {before:?}, or {whole:?}");
        }
    }
    whole
}

/// Processes an answer in the given chunks, which ends for the given reason.
///
/// # Errors
/// Returns the error of the processor.
pub fn process_chunks(
    pack: &impl Pack,
    context: &Context,
    chunks: &[&str],
    stop: Stop,
) -> Result<Output, Error> {
    let mut processor = pack.open(context)?;
    let mut output = Output::default();
    let mut stop = stop;
    for chunk in chunks {
        let pushed = processor.push(chunk)?;
        output.text.push_str(&pushed.text);
        if pushed.done {
            stop = Stop::Enough;
            break;
        }
    }
    let outcome = processor.finish(stop)?;
    output.text.push_str(&outcome.tail);
    output.warnings = outcome.warnings;
    Ok(output)
}
