//! What is to be done about a job of which something is known, or of which a file
//! is there. Pure.

use super::journal::{Kept, Known, State};

/// A job that is planned, and what is at its place.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// What the job is.
    pub identity: &'a str,
    /// What the journal says of its name.
    pub known: Option<&'a Known>,
    /// The file of its name.
    pub on_disk: OnDisk,
}

/// A file as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// There is none.
    Absent,
    /// There is one, with so many bytes.
    There(u64),
    /// There is one of the right length, but not with the right digest.
    Altered(u64),
}

/// What is done about jobs that are not what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The old result stays.
    Keep,
    /// They run again.
    Rerun,
}

/// Why a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It never ran.
    New,
    /// It was sent, and no answer came to its end.
    Unfinished,
    /// It failed.
    Failed,
    /// Its file has gone.
    Gone,
    /// Its file is empty or was changed.
    Altered,
    /// Prompt, pack, setting or input is another now.
    Changed,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it. `ours` is whether the file in its place, if any, is one that an
    /// earlier run wrote and that may be replaced.
    Run {
        /// Why.
        why: Reason,
        /// Whether the file in its place is ours.
        ours: bool,
    },
    /// It is done.
    Skip,
    /// A kill came after its answer was complete: perhaps its result is there,
    /// under its own name or this one.
    Adopt(Kept, String),
    /// Done, but as another job than it is now; the result stays.
    KeepChanged,
    /// Done, but somebody changed its file; it stays.
    KeepAltered,
    /// A file of its name is there that no run wrote.
    Foreign,
}

/// What to do about a planned job.
#[must_use]
pub fn decide(planned: Planned<'_>, policy: Policy) -> Decision {
    let Planned {
        identity,
        known,
        on_disk,
    } = planned;
    let Some(known) = known else {
        return match on_disk {
            OnDisk::Absent => Decision::Run {
                why: Reason::New,
                ours: true,
            },
            _ => Decision::Foreign,
        };
    };
    let results = known.results();
    // The one that lies there, as far as its length tells, else the last one.
    let kept = match on_disk {
        OnDisk::There(length) => results.iter().find(|it| it.length == length),
        _ => None,
    };
    let kept = kept.or(results.last()).copied();
    // What lies there is ours when it is as some run wrote it.
    let ours = match on_disk {
        OnDisk::Absent | OnDisk::There(0) => true,
        OnDisk::There(length) => {
            kept.is_some_and(|it| it.length == length) || known.inline.contains(&length)
        }
        OnDisk::Altered(_) => false,
    };
    let run = |why| Decision::Run { why, ours };
    match &known.state {
        State::Answered(kept, file) if kept.identity == identity => {
            Decision::Adopt(kept.clone(), file.clone())
        }
        State::Done => match on_disk {
            OnDisk::Absent => run(Reason::Gone),
            OnDisk::There(0) if kept.is_some_and(|it| it.length > 0) => run(Reason::Altered),
            _ if !ours => match policy {
                Policy::Keep => Decision::KeepAltered,
                Policy::Rerun => run(Reason::Altered),
            },
            _ if kept.is_some_and(|it| it.identity == identity) => Decision::Skip,
            _ => match policy {
                Policy::Keep => Decision::KeepChanged,
                Policy::Rerun => run(Reason::Changed),
            },
        },
        // A result that no run remembers is somebody's.
        _ if !ours && kept.is_none() => Decision::Foreign,
        // A kill came after its answer was complete, and it is another job now.
        State::Answered(..) if ours && on_disk != OnDisk::Absent => match policy {
            Policy::Keep => Decision::KeepChanged,
            Policy::Rerun => run(Reason::Changed),
        },
        State::Failed => run(Reason::Failed),
        State::Started | State::Answered(..) => run(Reason::Unfinished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        use OnDisk::{Absent, Altered, There};
        use Policy::{Keep, Rerun};
        let kept = Kept {
            identity: "i".to_owned(),
            key: "k".to_owned(),
            length: 5,
            sha256: "s".to_owned(),
        };
        let known = |state: State, has: bool| Known {
            state,
            kept: has.then(|| kept.clone()),
            inline: vec![9],
            of: None,
            size: (0, 0),
        };
        let answered = || State::Answered(kept.clone(), "f".to_owned());
        let run = |why, ours| Decision::Run { why, ours };
        let adopt = || Decision::Adopt(kept.clone(), "f".to_owned());
        for (known, on_disk, identity, policy, expected) in [
            (None, Absent, "i", Keep, run(Reason::New, true)),
            (None, There(3), "i", Rerun, Decision::Foreign),
            (None, There(0), "i", Keep, Decision::Foreign),
            (
                Some(known(State::Done, true)),
                There(5),
                "i",
                Keep,
                Decision::Skip,
            ),
            (
                Some(known(State::Done, true)),
                There(5),
                "j",
                Keep,
                Decision::KeepChanged,
            ),
            (
                Some(known(State::Done, true)),
                There(5),
                "j",
                Rerun,
                run(Reason::Changed, true),
            ),
            (
                Some(known(State::Done, true)),
                Absent,
                "i",
                Keep,
                run(Reason::Gone, true),
            ),
            (
                Some(known(State::Done, true)),
                There(0),
                "i",
                Keep,
                run(Reason::Altered, true),
            ),
            (
                Some(known(State::Done, true)),
                There(6),
                "i",
                Keep,
                Decision::KeepAltered,
            ),
            (
                Some(known(State::Done, true)),
                There(6),
                "i",
                Rerun,
                run(Reason::Altered, false),
            ),
            (
                Some(known(State::Done, true)),
                Altered(5),
                "i",
                Keep,
                Decision::KeepAltered,
            ),
            (
                Some(known(State::Started, false)),
                Absent,
                "i",
                Keep,
                run(Reason::Unfinished, true),
            ),
            (
                Some(known(State::Started, true)),
                There(5),
                "j",
                Keep,
                run(Reason::Unfinished, true),
            ),
            (
                Some(known(State::Started, false)),
                There(7),
                "i",
                Keep,
                Decision::Foreign,
            ),
            (Some(known(answered(), false)), There(5), "i", Keep, adopt()),
            (Some(known(answered(), false)), Absent, "i", Keep, adopt()),
            (
                Some(known(State::Started, false)),
                There(9),
                "i",
                Keep,
                run(Reason::Unfinished, true),
            ),
            (
                Some(known(answered(), false)),
                Absent,
                "j",
                Keep,
                run(Reason::Unfinished, true),
            ),
            (
                Some(known(answered(), false)),
                There(5),
                "j",
                Keep,
                Decision::KeepChanged,
            ),
            (
                Some(known(answered(), false)),
                There(5),
                "j",
                Rerun,
                run(Reason::Changed, true),
            ),
            (
                Some(known(answered(), false)),
                There(6),
                "j",
                Rerun,
                run(Reason::Unfinished, false),
            ),
            (
                Some(known(State::Failed, false)),
                Absent,
                "i",
                Keep,
                run(Reason::Failed, true),
            ),
            (
                Some(known(State::Failed, false)),
                There(9),
                "i",
                Keep,
                run(Reason::Failed, true),
            ),
            (
                Some(known(State::Failed, false)),
                There(8),
                "i",
                Keep,
                Decision::Foreign,
            ),
        ] {
            let planned = Planned {
                identity,
                known: known.as_ref(),
                on_disk,
            };
            let shown = format!("{known:?} {on_disk:?} {identity} {policy:?}");
            assert_eq!(decide(planned, policy), expected, "{shown}");
        }
    }
}
