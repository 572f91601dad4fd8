//! The processors of one job, in order, on a thread of their own, so that a slow
//! processor delays its own job only.

use std::sync::mpsc;

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{Error, Processor, PushOutput, StopReason, THREAD_STACK_BYTES};
use tokio::sync::oneshot;

use super::{PackOutput, ProcessorStep};

/// The open processors of one job.
#[derive(Debug)]
pub struct ProcessorChain {
    /// `None` for no processors: text passes through.
    worker: Option<mpsc::Sender<Work>>,
}

#[derive(Debug)]
enum Work {
    Push(String, oneshot::Sender<Result<PushOutput, Error>>),
    Restart(oneshot::Sender<Result<(), Error>>),
    Finish(StopReason, oneshot::Sender<Result<ChainEnd, Error>>),
}

/// The output of the processors at the end of an answer.
#[derive(Debug, Default)]
pub struct ChainEnd {
    /// Text that was held back.
    pub tail: String,
    /// Their warnings.
    pub warnings: Vec<String>,
    /// Report entries, by processor.
    pub extra: Vec<(String, Vec<(String, String)>)>,
    /// Their output on stdout and stderr.
    pub pack_output: Vec<PackOutput>,
}

fn died() -> Error {
    Error::Sandbox("the thread of the processors died".to_owned())
}

impl ProcessorChain {
    /// Opens the processors, so that a wrong name or option is an error before a model
    /// is loaded.
    ///
    /// # Errors
    /// Returns an error if a processor cannot be opened.
    pub async fn open(steps: Vec<ProcessorStep>) -> Result<Self, Error> {
        if steps.is_empty() {
            return Ok(Self { worker: None });
        }
        let (worker, work) = mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        std::thread::Builder::new()
            .name("processors".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || match Pipeline::open(&steps) {
                Ok(pipeline) => {
                    let _receiver_gone = opened.send(Ok(()));
                    serve(&steps, pipeline, &work);
                }
                Err(error) => {
                    let _receiver_gone = opened.send(Err(error));
                }
            })
            .map_err(|error| Error::Sandbox(error.to_string()))?;
        is_open.await.map_err(|_| died())??;
        Ok(Self {
            worker: Some(worker),
        })
    }

    /// Passes a piece through all processors.
    ///
    /// # Errors
    /// Returns an error if a processor fails or rejects; the chain must not be used
    /// again.
    pub async fn push(&self, text: String) -> Result<PushOutput, Error> {
        let Some(worker) = &self.worker else {
            return Ok(PushOutput { text, done: false });
        };
        let (reply, answer) = oneshot::channel();
        worker.send(Work::Push(text, reply)).map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }

    /// Opens the processors again, for an answer that begins now.
    ///
    /// # Errors
    /// Returns an error if a processor cannot be opened; the chain must not be used again.
    pub async fn restart(&self) -> Result<(), Error> {
        let Some(worker) = &self.worker else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        worker.send(Work::Restart(reply)).map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// Returns an error if a processor fails or rejects.
    pub async fn finish(self, stop: StopReason) -> Result<ChainEnd, Error> {
        let Some(worker) = self.worker else {
            return Ok(ChainEnd::default());
        };
        let (reply, answer) = oneshot::channel();
        worker.send(Work::Finish(stop, reply)).map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }
}

fn serve(steps: &[ProcessorStep], mut pipeline: Pipeline, work: &mpsc::Receiver<Work>) {
    while let Ok(work) = work.recv() {
        match work {
            Work::Push(text, reply) => {
                let pushed = pipeline.push_through(text);
                let failed = pushed.is_err();
                let _receiver_gone = reply.send(pushed);
                if failed {
                    return;
                }
            }
            Work::Restart(reply) => match Pipeline::open(steps) {
                Ok(opened) => {
                    pipeline = opened;
                    let _receiver_gone = reply.send(Ok(()));
                }
                Err(error) => {
                    let _receiver_gone = reply.send(Err(error));
                    return;
                }
            },
            Work::Finish(stop, reply) => {
                let _receiver_gone = reply.send(pipeline.finish(&stop));
                return;
            }
        }
    }
}

/// The most bytes per push. A processor that held all its text back releases it at
/// once, and the next one has a time limit per push.
const PIECE_BYTES: usize = 64 << 10;

/// Splits a text into pieces of at most `PIECE_BYTES`, between characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = left;
        Some(piece)
    })
}

/// The processors on their thread. The output of one is the input of the next.
struct Pipeline {
    processors: Vec<Processor>,
    /// The last processor that wants no further text. The output of those before it
    /// is no longer needed.
    enough: Option<usize>,
}

impl Pipeline {
    fn open(steps: &[ProcessorStep]) -> Result<Self, Error> {
        let processors = steps.iter().map(|step| step.pack.open(&step.context));
        Ok(Self {
            processors: processors.collect::<Result<_, Error>>()?,
            enough: None,
        })
    }

    fn push_through(&mut self, mut text: String) -> Result<PushOutput, Error> {
        for (at, processor) in self.processors.iter_mut().enumerate() {
            if text.is_empty() {
                break;
            }
            let mut given = String::new();
            for piece in pieces(&text) {
                let pushed = processor.push(piece)?;
                given.push_str(&pushed.text);
                if pushed.done {
                    self.enough = self.enough.max(Some(at));
                    break;
                }
            }
            text = given;
        }
        Ok(PushOutput {
            text,
            done: self.enough.is_some(),
        })
    }

    fn finish(mut self, stop: &StopReason) -> Result<ChainEnd, Error> {
        let mut ended = ChainEnd::default();
        // Each is removed from the front and finished, so that its tail still passes
        // those behind it.
        while !self.processors.is_empty() {
            let processor = self.processors.remove(0);
            let enough = self.enough;
            self.enough = enough.and_then(|at| at.checked_sub(1));
            let reason = if enough.is_some() {
                &StopReason::Finished(FinishReason::Enough)
            } else {
                stop
            };
            let name = processor.label();
            let is_needed = enough.is_none_or(|at| at == 0);
            let (outcome, dropped) = match processor.finish(reason) {
                Ok(finished) => finished,
                // Its output is no longer needed: a later processor ended the answer on
                // purpose, so its rejection is ignored.
                Err(Error::Contract { .. }) if !is_needed => continue,
                Err(error) if !is_needed => {
                    ended.warnings.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let labelled = outcome
                .warnings
                .into_iter()
                .map(|warning| format!("{name}: {warning}"));
            ended.warnings.extend(labelled);
            ended
                .warnings
                .extend(dropped.map(|error| error.to_string()));
            let written = PackOutput::new(&name, &outcome.written);
            ended.pack_output.extend(written);
            if !outcome.extra.is_empty() {
                ended.extra.push((name, outcome.extra));
            }
            if is_needed {
                let rest = self.push_through(outcome.tail)?;
                ended.tail.push_str(&rest.text);
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_split_between_characters() {
        let text = "a漢".repeat(50_000);
        let all: Vec<&str> = pieces(&text).collect();
        assert!(all.len() > 2);
        assert!(
            all.iter()
                .all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES)
        );
        assert_eq!(all.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }
}
