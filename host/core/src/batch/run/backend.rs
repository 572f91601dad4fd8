//! The scheduler's interface to engines and files: models to load, jobs to run, records
//! to keep. Tests have a scripted backend.

use crate::batch::Record;
use crate::engine::UnloadResult;
use crate::error::Error;
use crate::job::FailureClass;

/// Runs jobs for the scheduler. Models and jobs are named by their index in the plan.
pub(super) trait Backend {
    /// A model that is selected and not yet loaded.
    type Selected;
    /// A loaded instance.
    type Instance;
    /// The partial text of a failed job.
    type Partial;

    /// Finds the model at its engine. Loads nothing.
    async fn select(&self, model: usize) -> Result<Self::Selected, LoadError>;

    /// Loads a selected model, or reuses a suitable instance.
    async fn load(
        &self,
        model: usize,
        selected: Self::Selected,
    ) -> Result<Loaded<Self::Instance>, LoadError>;

    /// Returns the number of jobs that the instance runs at once, where known.
    async fn slots(&self, instance: &Self::Instance) -> Option<usize>;

    /// Runs a job once. `attempt` starts at 1.
    async fn run(
        &self,
        instance: &Self::Instance,
        job: usize,
        attempt: u32,
    ) -> FinishedJob<Self::Partial>;

    /// Unloads the instance if this program loaded it and no other process uses it.
    async fn unload(&self, instance: &Self::Instance) -> Result<UnloadResult, String>;

    /// Unloads an instance of another process if that process left it to its last user, or
    /// if this process loaded another one in its place.
    async fn release(&self, instance: &Self::Instance) -> Result<UnloadResult, String>;

    /// Returns whether the model's server answers.
    async fn is_reachable(&self, model: usize) -> bool;

    /// Returns whether the machine that runs the model is this one and has little
    /// memory left.
    fn is_short_of_memory(&self, model: usize) -> bool;

    /// Returns the number of tokens that the instance has produced so far.
    fn tokens(&self, instance: &Self::Instance) -> u64;

    /// Appends a record to the journal.
    fn record(&self, record: &Record) -> Result<(), Error>;

    /// Writes the failure of a job beside its result and into the journal.
    fn record_failure(
        &self,
        job: usize,
        failure: &Error,
        partial: Option<Self::Partial>,
        attempts: u32,
        seconds: f64,
    ) -> Result<(), Error>;
}

/// A loaded instance, and the facts that the scheduler needs.
#[derive(Clone, Debug)]
pub(super) struct Loaded<I> {
    pub instance: I,
    /// The instance's name at its server.
    pub id: String,
    /// Context length in tokens, where known.
    pub context: Option<u32>,
    /// Seconds of loading; `None` if it was loaded before.
    pub load_s: Option<f64>,
    /// True if this process loaded it.
    pub is_ours: bool,
    pub warnings: Vec<String>,
}

/// The error of a failed load.
#[derive(Debug)]
pub(super) struct LoadError {
    pub kind: LoadErrorKind,
    /// The state that the attempt may have left at the server.
    pub left: LeftBehind,
}

/// The consequence of a failed load for the model's jobs.
#[derive(Debug)]
pub(super) enum LoadErrorKind {
    /// No server answers.
    Server(String),
    /// The model cannot be loaded now; a later attempt may work.
    Model(String),
    /// The model cannot be run at all.
    Impossible(Error),
    /// The run is cancelled.
    Cancelled,
}

/// The state that a failed load may have left at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBehind {
    /// Nothing: the server refused, or was not asked.
    Nothing,
    /// Possibly a load that continues; the journal keeps it as loading.
    Unknown,
    /// A load by this process that continues, and is unloaded when it appears.
    Ours,
}

/// A job that has ended.
#[derive(Debug)]
pub(super) struct FinishedJob<P> {
    pub result: JobResult<P>,
    pub seconds: f64,
}

/// The end of one attempt of a job.
#[derive(Debug)]
pub(super) enum JobResult<P> {
    /// The result has its name, and will be safe on the disk soon.
    Done {
        /// Tokens of the answer, where known.
        tokens: Option<u32>,
    },
    /// It failed.
    Failed {
        failure: Error,
        class: FailureClass,
        partial: P,
    },
    /// Nothing can be written: the run must end.
    Fatal(Error),
    /// The run was cancelled.
    Cancelled,
}
