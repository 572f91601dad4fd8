//! What all jobs of a run share, and how they speak to the board.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::planning::Job;
use super::stuff::Stuff;
use crate::batch::{Committer, Journal, Results};
use crate::job::Timeouts;
use crate::registry::Store;
use crate::sink::{Board, JobName};

/// The board, for all jobs.
pub(super) type SharedBoard = Arc<Mutex<Board>>;

/// What all jobs of a run share.
pub(super) struct Shared<'a> {
    pub(super) stuff: &'a Stuff,
    pub(super) jobs: &'a [Job],
    pub(super) out: &'a Path,
    pub(super) results: Results,
    pub(super) limits: Timeouts,
    pub(super) store: Store,
    pub(super) board: SharedBoard,
    /// Pieces of all answers so far.
    pub(super) pieces: Arc<AtomicU64>,
    pub(super) journal: RefCell<Journal>,
    pub(super) committer: Committer,
    /// Whether running jobs are to end at once.
    pub(super) cancel: watch::Receiver<bool>,
    pub(super) said: RefCell<BTreeSet<String>>,
}

impl Shared<'_> {
    pub(super) fn on_board(&self, show: impl FnOnce(&mut Board)) {
        if let Ok(mut board) = self.board.lock() {
            show(&mut board);
        }
    }

    pub(super) fn tick(&self) {
        self.on_board(Board::tick);
    }

    pub(super) fn say(&self, text: &str) {
        self.on_board(|it| it.say(text, true));
    }

    /// What many jobs have to say is said once.
    pub(super) fn say_once(&self, text: &str) {
        if self.said.borrow_mut().insert(text.to_owned()) {
            self.say(text);
        }
    }

    /// The first of the jobs that have the same to say says it; `export` has it
    /// for each.
    pub(super) fn say_of(&self, job: &str, text: &str) {
        if self.said.borrow_mut().insert(text.to_owned()) {
            self.say(&format!("{job}: {text} (said once)"));
        }
    }

    pub(super) fn show_start(&self, index: usize) {
        self.with_name(index, |board, name| board.start(name));
    }

    pub(super) fn with_name(&self, index: usize, show: impl FnOnce(&mut Board, &JobName<'_>)) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let of = self.stuff.of(job.cell);
        let label = self
            .stuff
            .model(job.cell)
            .map_or("", |it| it.label.as_str());
        // What tells a job from its neighbours: the input, and the axes' values.
        let axes = of
            .params
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let parts: Vec<String> = of.input.iter().cloned().chain(axes).collect();
        let input = parts.join(", ");
        let name = JobName {
            number: index + 1,
            name: &job.name,
            prompt: &of.prompt,
            model: label,
            input: Some(input.as_str()).filter(|it| !it.is_empty()),
        };
        self.on_board(|board| show(board, &name));
    }
}
