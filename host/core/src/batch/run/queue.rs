//! The jobs of one model and the results of their attempts. No I/O.

use std::collections::{BTreeMap, VecDeque};

use crate::job::FailureClass;

/// Attempts of a job on one instance before the instance is suspected.
const ATTEMPTS_PER_INSTANCE: u32 = 2;

/// The jobs of a model that are still to be done, by index.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<usize>,
    /// Attempts of each job in this run.
    attempts: BTreeMap<usize, u32>,
    /// Failed attempts of each job on the present instance.
    failures: BTreeMap<usize, u32>,
    /// The last failure of each job.
    last_failures: BTreeMap<usize, String>,
    /// Jobs done in this run.
    done: usize,
    /// Jobs done since the model was last reloaded.
    done_since_load: usize,
    /// True if the model was reloaded in this round.
    is_reloaded: bool,
    /// Jobs that were blamed for their own failure since the last success.
    blamed: usize,
}

/// The next step after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The job has failed for good.
    Fail,
    /// The job is in the queue again.
    Retry,
    /// The job is in the queue again; the server is busy.
    RetryWithFewer,
    /// The job is in the queue again; the instance hangs or breaks off.
    ReloadModel,
    /// The job is in the queue again; no server answers.
    WaitForServer,
}

impl Queue {
    pub(super) fn push(&mut self, job: usize) {
        self.waiting.push_back(job);
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        self.waiting.pop_front()
    }

    /// Puts a job back in front, without counting a failure.
    pub(super) fn put_back(&mut self, job: usize) {
        self.waiting.push_front(job);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins a round: failures on earlier instances no longer count.
    pub(super) fn begin_round(&mut self) {
        self.failures.clear();
        self.is_reloaded = false;
        self.done_since_load = 0;
        self.blamed = 0;
    }

    /// Takes note that the model is about to be reloaded; returns whether that was
    /// done before in this round.
    pub(super) fn reload(&mut self) -> bool {
        self.done_since_load = 0;
        self.failures.clear();
        std::mem::replace(&mut self.is_reloaded, true)
    }

    /// Counts an attempt and returns its number, starting at 1.
    pub(super) fn start(&mut self, job: usize) -> u32 {
        let attempts = self.attempts.entry(job).or_default();
        *attempts += 1;
        *attempts
    }

    /// Returns the number of attempts of a job in this run.
    pub(super) fn attempts(&self, job: usize) -> u32 {
        self.attempts.get(&job).copied().unwrap_or(0)
    }

    pub(super) fn last_failure(&self, job: usize) -> Option<&str> {
        self.last_failures.get(&job).map(String::as_str)
    }

    pub(super) fn done_since_load(&self) -> usize {
        self.done_since_load
    }

    /// Takes note of a job that was done.
    pub(super) fn succeed(&mut self) {
        self.done_since_load += 1;
        self.done += 1;
        self.blamed = 0;
    }

    /// Decides what follows from a failed attempt, and queues the job again where it
    /// is to be retried.
    pub(super) fn fail(&mut self, job: usize, class: FailureClass, message: &str) -> NextStep {
        self.last_failures.insert(job, message.to_owned());
        match class {
            FailureClass::Job | FailureClass::Disk => NextStep::Fail,
            FailureClass::Server => {
                self.waiting.push_front(job);
                NextStep::WaitForServer
            }
            FailureClass::Busy | FailureClass::Model => {
                let failures = self.failures.entry(job).or_default();
                *failures += 1;
                if *failures < ATTEMPTS_PER_INSTANCE {
                    self.waiting.push_front(job);
                    return if class == FailureClass::Busy {
                        NextStep::RetryWithFewer
                    } else {
                        NextStep::Retry
                    };
                }
                if self.is_to_blame() {
                    return NextStep::Fail;
                }
                // Behind the others, which show whether the instance works.
                self.waiting.push_back(job);
                NextStep::ReloadModel
            }
        }
    }

    /// Returns whether a job that failed repeatedly on a reloaded instance is itself the
    /// cause: other jobs work on that instance; or other jobs worked before and it is the
    /// first in a row, so that a broken model is not tried with every job.
    fn is_to_blame(&mut self) -> bool {
        let is_to_blame =
            self.is_reloaded && (self.done_since_load > 0 || (self.done > 0 && self.blamed == 0));
        self.blamed += usize::from(is_to_blame);
        is_to_blame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(jobs: usize) -> Queue {
        let mut queue = Queue::default();
        (0..jobs).for_each(|job| queue.push(job));
        queue
    }

    #[test]
    fn each_class_of_failure_has_its_step() {
        for (class, step, is_queued) in [
            (FailureClass::Job, NextStep::Fail, false),
            (FailureClass::Disk, NextStep::Fail, false),
            (FailureClass::Server, NextStep::WaitForServer, true),
            (FailureClass::Busy, NextStep::RetryWithFewer, true),
            (FailureClass::Model, NextStep::Retry, true),
        ] {
            let mut queue = queue(1);
            let job = queue.pop().unwrap();
            queue.start(job);
            assert_eq!(queue.fail(job, class, "no"), step, "{class:?}");
            assert_eq!(!queue.is_empty(), is_queued, "{class:?}");
            assert_eq!(queue.last_failure(job), Some("no"));
        }
    }

    #[test]
    fn a_second_failure_reloads_and_the_job_waits_behind_the_others() {
        let mut queue = queue(3);
        let job = queue.pop().unwrap();
        assert_eq!(
            queue.fail(job, FailureClass::Model, "hung"),
            NextStep::Retry
        );
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(
            queue.fail(job, FailureClass::Model, "hung"),
            NextStep::ReloadModel
        );
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop()],
            [Some(1), Some(2), Some(0)]
        );
    }

    #[test]
    fn a_job_is_to_blame_when_others_work_on_the_reloaded_instance() {
        let mut queue = queue(2);
        assert!(!queue.reload());
        queue.succeed();
        queue.fail(0, FailureClass::Model, "hung");
        assert_eq!(queue.fail(0, FailureClass::Model, "hung"), NextStep::Fail);
    }

    #[test]
    fn one_job_in_a_row_is_to_blame_when_others_worked_before() {
        let mut queue = queue(2);
        queue.succeed();
        assert!(!queue.reload());
        for (job, step) in [(0, NextStep::Fail), (1, NextStep::ReloadModel)] {
            queue.fail(job, FailureClass::Model, "hung");
            assert_eq!(queue.fail(job, FailureClass::Model, "hung"), step, "{job}");
        }
        assert!(queue.reload(), "it was reloaded before");
    }

    #[test]
    fn a_new_round_forgets_failures_on_earlier_instances() {
        let mut queue = queue(1);
        queue.reload();
        queue.fail(0, FailureClass::Model, "hung");
        queue.begin_round();
        assert_eq!(queue.fail(0, FailureClass::Model, "hung"), NextStep::Retry);
        assert!(!queue.reload());
    }
}
