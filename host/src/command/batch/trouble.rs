//! What a failure says of its job, of the model and of the server: the ladder
//! from there is the runner's.

use crate::engine::{self, FaultKind, embedded};
use crate::job::{Failed, Phase};

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The job's own: sent again, it would fail again.
    Job,
    /// The model hung, or broke off; sent again, it may work.
    Model,
    /// The server has too much to do.
    Busy,
    /// Nobody answers at the server's address.
    Server,
    /// Nothing can be written here: no job can come to its end.
    Disk,
    /// The user had enough.
    Interrupted,
}

/// Whose trouble a job's failure is.
pub(super) fn of_job(failed: &Failed) -> Trouble {
    match failed {
        Failed::Engine(error) => of_engine(error),
        // A limit of the whole would be reached again.
        Failed::Expired(expired) if expired.phase == Phase::Whole => Trouble::Job,
        Failed::Expired(_) => Trouble::Model,
        Failed::Sink(_) => Trouble::Disk,
        Failed::Pack(_) | Failed::Empty => Trouble::Job,
        Failed::Interrupted => Trouble::Interrupted,
    }
}

/// Whose trouble an engine's error is.
pub(super) fn of_engine(error: &engine::Error) -> Trouble {
    use engine::Error;
    match error {
        Error::Unreachable { .. } | Error::ConnectTimeout { .. } | Error::NoEngine { .. } => {
            Trouble::Server
        }
        Error::Lost { .. }
        | Error::Cut { .. }
        | Error::Garbage { .. }
        | Error::Stopped(_)
        | Error::StillLoading { .. }
        | Error::NotLoaded { .. }
        | Error::NotAServer { .. }
        | Error::WrongModel { .. } => Trouble::Model,
        Error::Server { fault, .. } => match fault.kind {
            FaultKind::Busy | FaultKind::Loading => Trouble::Busy,
            FaultKind::Unloaded | FaultKind::OutOfMemory => Trouble::Model,
            FaultKind::Other if fault.status.is_none_or(|it| it >= 500) => Trouble::Model,
            _ => Trouble::Job,
        },
        Error::Embedded(embedded::Error::Compute(_)) => Trouble::Model,
        Error::State { .. } => Trouble::Disk,
        Error::Unauthorised { .. }
        | Error::UnknownEngine(_)
        | Error::UnknownModel { .. }
        | Error::UnknownServerModel { .. }
        | Error::NoModel { .. }
        | Error::Context(_)
        | Error::Settings(_)
        | Error::Embedded(_)
        | Error::Memory { .. }
        | Error::TooLong { .. }
        | Error::Refused { .. } => Trouble::Job,
    }
}
