//! The processors of one job, in order, on a thread of their own: a slow one
//! holds up its own job and nothing else.

use std::sync::mpsc;

use tokio::sync::oneshot;

use super::Step;
use crate::inference::Finish;
use crate::pack::{Error, Processor, Pushed, Stop, THREAD_STACK_BYTES};

/// Processors that are open and wait for text.
#[derive(Debug)]
pub struct ProcessorChain {
    /// `None` is no processors at all: text passes through.
    worker: Option<mpsc::Sender<Work>>,
}

#[derive(Debug)]
enum Work {
    Push(String, oneshot::Sender<Result<Pushed, Error>>),
    Finish(Stop, oneshot::Sender<Result<Ended, Error>>),
}

/// What is left when an answer has ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Text that was held back.
    pub tail: String,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What processors say for the report, with their names.
    pub extra: Vec<(String, Vec<(String, String)>)>,
}

fn died() -> Error {
    Error::Sandbox("the thread of the processors died".to_owned())
}

impl ProcessorChain {
    /// Opens the processors, so that a wrong name or option shows before a
    /// model is loaded.
    ///
    /// # Errors
    /// A processor cannot be opened.
    pub async fn open(steps: Vec<Step>) -> Result<Self, Error> {
        if steps.is_empty() {
            return Ok(Self { worker: None });
        }
        let (worker, work) = mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        std::thread::Builder::new()
            .name("processors".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                let processors: Result<Vec<Processor>, Error> = steps
                    .iter()
                    .map(|step| step.pack.open(&step.context))
                    .collect();
                match processors {
                    Ok(processors) => {
                        let _nobody_waits = opened.send(Ok(()));
                        serve(
                            Line {
                                processors,
                                enough: None,
                            },
                            &work,
                        );
                    }
                    Err(error) => {
                        let _nobody_waits = opened.send(Err(error));
                    }
                }
            })
            .map_err(|e| Error::Sandbox(e.to_string()))?;
        is_open.await.map_err(|_| died())??;
        Ok(Self {
            worker: Some(worker),
        })
    }

    /// Sends a piece through all processors.
    ///
    /// # Errors
    /// A processor fails or rejects; the chain must not be used again.
    pub async fn push(&self, text: String) -> Result<Pushed, Error> {
        let Some(worker) = &self.worker else {
            return Ok(Pushed { text, done: false });
        };
        let (reply, answer) = oneshot::channel();
        worker.send(Work::Push(text, reply)).map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// A processor fails or rejects.
    pub async fn finish(self, stop: Stop) -> Result<Ended, Error> {
        let Some(worker) = self.worker else {
            return Ok(Ended::default());
        };
        let (reply, answer) = oneshot::channel();
        worker.send(Work::Finish(stop, reply)).map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }
}

fn serve(mut line: Line, work: &mpsc::Receiver<Work>) {
    while let Ok(work) = work.recv() {
        match work {
            Work::Push(text, reply) => {
                let pushed = line.push_through(text);
                let failed = pushed.is_err();
                let _nobody_waits = reply.send(pushed);
                if failed {
                    return;
                }
            }
            Work::Finish(stop, reply) => {
                let _nobody_waits = reply.send(line.finish(&stop));
                return;
            }
        }
    }
}

/// A processor that held all its text back gives it at once; the next one has
/// its time per push, so it gets it in pieces that size.
const PIECE_BYTES: usize = 64 << 10;

/// The text in pieces, cut between characters.
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

/// The processors themselves. What one gives goes into the next.
struct Line {
    processors: Vec<Processor>,
    /// The last processor that wants nothing further. Those before it have
    /// nothing more to give to anybody.
    enough: Option<usize>,
}

impl Line {
    fn push_through(&mut self, mut text: String) -> Result<Pushed, Error> {
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
        Ok(Pushed {
            text,
            done: self.enough.is_some(),
        })
    }

    fn finish(mut self, stop: &Stop) -> Result<Ended, Error> {
        let mut ended = Ended::default();
        // Each is taken off the front and finished, so that its tail still
        // passes those behind it.
        while !self.processors.is_empty() {
            let processor = self.processors.remove(0);
            let enough = self.enough;
            self.enough = enough.and_then(|at| at.checked_sub(1));
            let reason = if enough.is_some() {
                &Stop::Finished(Finish::Enough)
            } else {
                stop
            };
            let name = processor.shown();
            let is_heard = enough.is_none_or(|at| at == 0);
            let (outcome, dropped) = match processor.finish(reason) {
                Ok(finished) => finished,
                // Nobody hears it any more: what it thinks of an answer that
                // was cut on purpose does not count.
                Err(Error::Answer { .. }) if !is_heard => continue,
                Err(error) if !is_heard => {
                    ended.warnings.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let labelled = outcome
                .warnings
                .into_iter()
                .map(|it| format!("{name}: {it}"));
            ended.warnings.extend(labelled);
            ended.warnings.extend(dropped.map(|e| e.to_string()));
            if !outcome.extra.is_empty() {
                ended.extra.push((name, outcome.extra));
            }
            if is_heard {
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
    fn long_texts_are_cut_between_characters() {
        let text = "a漢".repeat(50_000);
        let all: Vec<&str> = pieces(&text).collect();
        assert!(all.len() > 2);
        assert!(
            all.iter()
                .all(|it| !it.is_empty() && it.len() <= PIECE_BYTES)
        );
        assert_eq!(all.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }
}
