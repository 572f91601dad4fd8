//! What came of jobs: on the board, in the journal, beside the results; and what is
//! left of the time.

use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;

use super::loads::item;
use super::pool::Queue;
use super::run::{ROUNDS, Runner, Stop};
use crate::batch::{Failed as FailedRecord, LogItem, Record, remaining};
use crate::error::{Exit, Failure};
use crate::sink::{self, Ended, ResultFile, Tally};

/// Times of jobs that are kept for the median.
const TIMES_MAX: usize = 31;

/// What came of a model in this run.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) tokens: u64,
    /// Seconds of all its jobs.
    pub(super) seconds: f64,
    pub(super) loads: usize,
    pub(super) load_s: f64,
    pub(super) aside: Option<String>,
    pub(super) times: Vec<f64>,
    pub(super) left: usize,
    pub(super) prompt_tokens: u64,
    /// The longest answer that is allowed, where it is limited.
    pub(super) limit: Option<u32>,
    /// How many run at once.
    pub(super) at_once: usize,
    pub(super) is_loaded: bool,
}

impl Totals {
    /// Jobs that are not done and did not fail.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

impl Runner<'_> {
    pub(super) fn done(&mut self, index: usize, model: usize, tokens: Option<u32>, seconds: f64) {
        let tally = tally(tokens, seconds);
        self.shared
            .with_name(index, |board, name| board.end(name, Ended::Done, &tally));
        if let Some(totals) = self.totals.get_mut(model) {
            totals.done += 1;
            totals.left = totals.left.saturating_sub(1);
            totals.tokens += u64::from(tokens.unwrap_or(0));
            totals.seconds += seconds;
            if totals.times.len() >= TIMES_MAX {
                totals.times.remove(0);
            }
            totals.times.push(seconds);
        }
        self.show_left();
    }

    pub(super) fn stopped(&self, index: usize) {
        self.shared.with_name(index, |board, name| {
            board.end(name, Ended::Stopped, &tally(None, 0.0));
        });
    }

    /// It will be sent again.
    pub(super) fn again(&self, index: usize, why: &str) {
        self.stopped(index);
        let name = self
            .shared
            .jobs
            .get(index)
            .map(|it| it.name.clone())
            .unwrap_or_default();
        self.shared
            .on_board(|it| it.say(&format!("{name} is tried again: {why}"), true));
    }

    pub(super) fn failed(
        &mut self,
        index: usize,
        failure: Failure,
        file: ResultFile,
        attempts: u32,
        seconds: f64,
    ) {
        let Some(job) = self.shared.jobs.get(index) else {
            return;
        };
        let reason: Vec<&str> = std::iter::once(&failure.message)
            .chain(&failure.hints)
            .map(String::as_str)
            .collect();
        // A failure replaces nothing but an earlier failure.
        let there = fs::symlink_metadata(self.shared.out.join(&job.name));
        let is_free = there.map_or(true, |it| job.inline.contains(&it.len()));
        let inline = self.shared.results.errors_inline && is_free;
        let reason = reason.join("\n");
        let written = if inline {
            file.fail_inline(&reason).map(Some)
        } else {
            file.fail(&reason).map(|()| None)
        };
        let staged = match written {
            Ok(staged) => staged,
            Err(error) => return self.stop(of_sink(error)),
        };
        let record = FailedRecord {
            job: job.name.clone(),
            identity: job.identity.clone(),
            at: Timestamp::now(),
            of: self.shared.stuff.of(job.cell),
            exit: failure.exit as u8,
            error: failure.message.clone(),
            seconds,
            attempts,
            inline: staged.as_ref().map(|it| it.1),
        };
        self.note(&Record::Failed(Box::new(record)));
        // After the journal knows it, so that it is never taken for a result.
        if let Some((staged, _)) = staged
            && let Err(error) = staged.publish(&job.inline)
        {
            return self.stop(of_sink(error));
        }
        self.shared.with_name(index, |board, name| {
            board.end(name, Ended::Failed(&failure.message), &tally(None, seconds));
        });
        if let Some(totals) = self.totals.get_mut(job.cell.model) {
            totals.failed += 1;
            totals.left = totals.left.saturating_sub(1);
        }
        self.show_left();
        let failed: usize = self.totals.iter().map(|it| it.failed).sum();
        let all = self.shared.jobs.iter().filter(|it| it.runs()).count();
        if self
            .manner
            .most_failures
            .is_some_and(|it| it.is_passed(failed, all))
        {
            self.stop(Stop::Failures);
        }
    }

    /// No job of the queue can be run.
    pub(super) fn all_failed(&mut self, queue: &mut Queue, failure: &Failure) {
        while let Some(index) = queue.waiting.pop_front() {
            let Some(job) = self.shared.jobs.get(index) else {
                continue;
            };
            let file = ResultFile::new(&self.shared.out.join(&job.name));
            let sent = queue.sent.get(&index).copied().unwrap_or(0);
            let mut failure = Failure {
                exit: failure.exit,
                message: failure.message.clone(),
                hints: failure.hints.clone(),
            };
            // One that was sent says what became of it.
            if let Some(own) = queue.last.get(&index) {
                failure.message = format!("{own} ({})", failure.message);
            }
            self.failed(index, failure, file, sent, 0.0);
            if self.stop.is_some() {
                return;
            }
        }
    }

    pub(super) fn aside(&mut self, index: usize, why: &str, round: usize) {
        let Some(model) = self.shared.stuff.models.get(index) else {
            return;
        };
        let label = &model.label;
        let then = if round < ROUNDS {
            "it is tried once more at the end"
        } else {
            "its other jobs are not done"
        };
        self.shared
            .say(&format!("`{label}` is set aside ({why}); {then}"));
        let record = Record::Aside(LogItem {
            why: Some(why.to_owned()),
            ..item(model)
        });
        self.note(&record);
        if let Some(totals) = self.totals.get_mut(index) {
            totals.aside = Some(why.to_owned());
        }
    }

    /// What is left, by loads and medians.
    pub(super) fn show_left(&self) {
        let mut left = Some(Duration::ZERO);
        // A model that has not run yet is thought to be as fast as the others.
        let all: Vec<f64> = self.totals.iter().flat_map(|it| it.times.clone()).collect();
        let of_all = median(&all);
        for (index, totals) in self.totals.iter().enumerate() {
            let Some(model) = self.shared.stuff.models.get(index) else {
                continue;
            };
            let mut speed = model.speed;
            speed.job_s = median(&totals.times).or(of_all);
            let of_model = remaining(
                speed,
                totals.left,
                totals.prompt_tokens,
                totals.limit,
                totals.at_once,
                totals.is_loaded,
            );
            left = left.zip(of_model).and_then(|(a, b)| a.checked_add(b));
        }
        self.shared.on_board(|it| it.left(left));
    }
}

/// Nothing can be written here any more.
fn of_sink(error: sink::Error) -> Stop {
    Stop::Fatal(Failure {
        exit: Exit::Broken,
        ..Failure::from(error)
    })
}

fn tally(tokens: Option<u32>, seconds: f64) -> Tally {
    Tally {
        tokens: tokens.unwrap_or(0),
        tokens_per_s: tokens
            .map(|it| f64::from(it) / seconds)
            .filter(|it| it.is_finite()),
        seconds,
    }
}

fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
