//! Whether an answer counts, and in which words it does not.

use crate::error::{Exit, Failure};
use crate::inference::Finish;
use crate::job::{Account, Failed};
use crate::sink;

/// An answer that counts, with what is to be said of it.
pub(in crate::command) struct Judged {
    pub(in crate::command) warning: Option<&'static str>,
}

/// A cut answer is an answer, with a warning; under `--strict` it is none.
pub(in crate::command) fn judge(
    result: Result<Finish, Failed>,
    account: &Account,
    strict: bool,
) -> Result<Judged, Failure> {
    let finish = match result {
        Ok(finish) => finish,
        Err(Failed::Sink(sink::Error::BrokenPipe)) => return Ok(Judged { warning: None }),
        Err(failed) => {
            let has_text = !account.raw.is_empty() || !account.reasoning.is_empty();
            // Lost before the first byte is another thing than broken after it.
            let is_broken = match &failed {
                Failed::Engine(error) => has_text && (error.is_loss() || error.is_unreachable()),
                _ => false,
            };
            let failure = Failure::from(failed);
            return Err(if is_broken {
                Failure {
                    exit: Exit::Broken,
                    ..failure
                }
            } else {
                failure
            });
        }
    };
    let cut = match finish {
        Finish::Length => "the answer was cut at the limit of tokens (--max-tokens)",
        Finish::ContextFull => "the answer was cut because the model's context is full (--context)",
        Finish::Repetition => {
            "the answer was ended because it repeated itself (--max-repeat 0 lets it)"
        }
        Finish::End | Finish::Enough | Finish::Cancelled => return Ok(Judged { warning: None }),
    };
    if strict {
        return Err(Failure::new(Exit::Empty, cut));
    }
    Ok(Judged { warning: Some(cut) })
}
