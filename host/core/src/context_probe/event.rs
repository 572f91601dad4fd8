//! The events of a context probe. Progress displays are observers of this stream.

use std::time::Duration;

use super::outcome::{LoweredLevel, ProbeReport};
use super::plan::ProbePlan;
use crate::engine;
use crate::registry::TestLevel;

/// An event of probing a model, in the order in which they happen.
#[derive(Clone, Copy, Debug)]
pub enum ProbeEvent<'a> {
    /// A dry run ended with this plan.
    Planned {
        /// A server's address, or `embedded`.
        engine: &'a str,
        /// The model's name.
        model: &'a str,
        /// The requested level.
        level: TestLevel,
        /// True if the engine loads the model with a requested context length; otherwise
        /// the context length of the loaded instance is probed.
        can_set_context: bool,
        /// The plan.
        plan: ProbePlan,
    },
    /// The level was lowered, since the model does not reach it with a small context.
    LevelLowered {
        /// The model's name.
        model: &'a str,
        /// The reason, and the new level.
        lowered: &'a LoweredLevel,
    },
    /// A failure in an earlier run limits this search.
    LimitedByEarlierFailure {
        /// The model's name.
        model: &'a str,
        /// The context length that failed, in tokens.
        context: u32,
        /// The reason, if known.
        cause: Option<&'a str>,
    },
    /// A probe begins.
    Started {
        /// The model's name.
        model: &'a str,
        /// The context length, in tokens.
        context: u32,
        /// The level of the probe.
        level: TestLevel,
        /// The estimated rest of the search; `None` for a probe outside of a search.
        remaining: Option<Remaining>,
    },
    /// A probe ended.
    Finished {
        /// The model's name.
        model: &'a str,
        /// The probe.
        probe: &'a ProbeReport,
    },
    /// A warning. It does not stop the search.
    Warning(ProbeWarning<'a>),
}

/// The estimated rest of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The largest number of probes that are left.
    pub max_probes: u32,
    /// The time that they take, if it can be estimated.
    pub time: Option<Duration>,
}

/// A problem that does not stop the search.
#[derive(Clone, Copy, Debug)]
pub enum ProbeWarning<'a> {
    /// The probes replace an instance that another program loaded.
    ReplacesForeignInstance {
        /// The model's name.
        model: &'a str,
        /// The context length of that instance, in tokens, if known.
        context: Option<u32>,
        /// The engine's name for messages.
        engine: &'a str,
    },
    /// An earlier run crashed during a probe. Its context length counts as failed.
    EarlierCrash {
        /// The model's name.
        model: &'a str,
        /// The context length, in tokens.
        context: u32,
        /// The level of the probe.
        level: TestLevel,
    },
    /// The registry's file was repaired.
    Registry(&'a str),
    /// The engine could not unload the instance.
    NotUnloaded(&'a engine::Error),
    /// The engine did not unload the instance in time.
    UnloadTimedOut,
}

/// Receives the events of a context probe.
pub trait ProbeObserver {
    /// Takes an event. It must not block for long: the probe waits until it returns.
    fn event(&self, event: ProbeEvent<'_>);
}
