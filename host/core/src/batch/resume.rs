//! Decides for each planned job whether it runs, from the journal and the result
//! file. No I/O.

use super::history::{JobHistory, JobState, KeptResult};

/// What is known of a planned job when its run is decided.
#[derive(Clone, Copy, Debug)]
pub struct ResumeFacts<'a> {
    /// Identity of the planned job.
    pub identity: &'a str,
    /// The journal's history for the file name of the result.
    pub history: Option<&'a JobHistory>,
    /// The result file.
    pub on_disk: ResultOnDisk,
}

/// The state of a result file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOnDisk {
    /// The file does not exist.
    Absent,
    /// The file exists. Holds its size in bytes.
    Present(u64),
    /// The file has the recorded size but another digest. Holds its size in bytes.
    Modified(u64),
}

/// The handling of jobs that have changed since their result was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedPolicy {
    /// Keep the old result.
    Keep,
    /// Run the job again.
    Rerun,
}

/// The reason to run a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunReason {
    /// The job never ran.
    New,
    /// The job was sent, but its answer was never completed.
    Unfinished,
    /// The job failed.
    Failed,
    /// The result file is missing.
    Missing,
    /// The result file is empty or was modified.
    Modified,
    /// The prompt, pack, settings or input have changed.
    Changed,
}

/// What to do with a planned job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeDecision {
    /// Run the job. A file in its place that no run wrote is moved aside.
    Run(RunReason),
    /// The job is done.
    Skip,
    /// An earlier run was killed after the answer was complete. The result may exist
    /// under its final name or under this temporary file name.
    Adopt(KeptResult, String),
    /// The job was done but has changed since. Keep the result.
    KeepChanged,
    /// The job was done but its file was modified by hand. Keep the file.
    KeepModified,
    /// The result file exists but no run wrote it. Keep the file.
    Foreign,
}

/// Decides what to do with a planned job.
#[must_use]
pub fn decide(facts: ResumeFacts<'_>, policy: ChangedPolicy) -> ResumeDecision {
    let ResumeFacts {
        identity,
        history,
        on_disk,
    } = facts;
    let Some(history) = history else {
        return match on_disk {
            ResultOnDisk::Absent => ResumeDecision::Run(RunReason::New),
            _ => ResumeDecision::Foreign,
        };
    };
    let results = history.results();
    // The result that is in the file, recognized by its size, else the last one.
    let kept = match on_disk {
        ResultOnDisk::Present(length) => results.iter().find(|result| result.length == length),
        _ => None,
    };
    let kept = kept.or(results.last()).copied();
    let is_own = match on_disk {
        ResultOnDisk::Absent | ResultOnDisk::Present(0) => true,
        ResultOnDisk::Present(length) => kept.is_some_and(|result| result.length == length),
        ResultOnDisk::Modified(_) => false,
    };
    let run = ResumeDecision::Run;
    match &history.state {
        JobState::Answered(kept, file) if kept.identity == identity => {
            ResumeDecision::Adopt(kept.clone(), file.clone())
        }
        JobState::Done => match on_disk {
            ResultOnDisk::Absent => run(RunReason::Missing),
            ResultOnDisk::Present(0) if kept.is_some_and(|result| result.length > 0) => {
                run(RunReason::Modified)
            }
            _ if !is_own => match policy {
                ChangedPolicy::Keep => ResumeDecision::KeepModified,
                ChangedPolicy::Rerun => run(RunReason::Modified),
            },
            _ if kept.is_some_and(|result| result.identity == identity) => ResumeDecision::Skip,
            _ => match policy {
                ChangedPolicy::Keep => ResumeDecision::KeepChanged,
                ChangedPolicy::Rerun => run(RunReason::Changed),
            },
        },
        // No run recorded this result, so it belongs to the user.
        _ if !is_own && kept.is_none() => ResumeDecision::Foreign,
        // The run was killed after the answer was complete, and the job has changed.
        JobState::Answered(..) if is_own && on_disk != ResultOnDisk::Absent => match policy {
            ChangedPolicy::Keep => ResumeDecision::KeepChanged,
            ChangedPolicy::Rerun => run(RunReason::Changed),
        },
        JobState::Failed => run(RunReason::Failed),
        JobState::Started | JobState::Answered(..) => run(RunReason::Unfinished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decide_covers_every_case() {
        use ChangedPolicy::{Keep, Rerun};
        use ResultOnDisk::{Absent, Modified, Present};
        let kept = KeptResult {
            identity: "i".to_owned(),
            key: "k".to_owned(),
            length: 5,
            sha256: "s".to_owned(),
        };
        let job = |state: JobState, has_result: bool| JobHistory {
            state,
            kept: has_result.then(|| kept.clone()),
            labels: None,
            size: (0, 0),
        };
        let answered = || JobState::Answered(kept.clone(), "f".to_owned());
        let run = ResumeDecision::Run;
        let adopt = || ResumeDecision::Adopt(kept.clone(), "f".to_owned());
        for (history, on_disk, identity, policy, expected) in [
            (None, Absent, "i", Keep, run(RunReason::New)),
            (None, Present(3), "i", Rerun, ResumeDecision::Foreign),
            (None, Present(0), "i", Keep, ResumeDecision::Foreign),
            (
                Some(job(JobState::Done, true)),
                Present(5),
                "i",
                Keep,
                ResumeDecision::Skip,
            ),
            (
                Some(job(JobState::Done, true)),
                Present(5),
                "j",
                Keep,
                ResumeDecision::KeepChanged,
            ),
            (
                Some(job(JobState::Done, true)),
                Present(5),
                "j",
                Rerun,
                run(RunReason::Changed),
            ),
            (
                Some(job(JobState::Done, true)),
                Absent,
                "i",
                Keep,
                run(RunReason::Missing),
            ),
            (
                Some(job(JobState::Done, true)),
                Present(0),
                "i",
                Keep,
                run(RunReason::Modified),
            ),
            (
                Some(job(JobState::Done, true)),
                Present(6),
                "i",
                Keep,
                ResumeDecision::KeepModified,
            ),
            (
                Some(job(JobState::Done, true)),
                Present(6),
                "i",
                Rerun,
                run(RunReason::Modified),
            ),
            (
                Some(job(JobState::Done, true)),
                Modified(5),
                "i",
                Keep,
                ResumeDecision::KeepModified,
            ),
            (
                Some(job(JobState::Started, false)),
                Absent,
                "i",
                Keep,
                run(RunReason::Unfinished),
            ),
            (
                Some(job(JobState::Started, true)),
                Present(5),
                "j",
                Keep,
                run(RunReason::Unfinished),
            ),
            (
                Some(job(JobState::Started, false)),
                Present(7),
                "i",
                Keep,
                ResumeDecision::Foreign,
            ),
            (Some(job(answered(), false)), Present(5), "i", Keep, adopt()),
            (Some(job(answered(), false)), Absent, "i", Keep, adopt()),
            (
                Some(job(answered(), false)),
                Absent,
                "j",
                Keep,
                run(RunReason::Unfinished),
            ),
            (
                Some(job(answered(), false)),
                Present(5),
                "j",
                Keep,
                ResumeDecision::KeepChanged,
            ),
            (
                Some(job(answered(), false)),
                Present(5),
                "j",
                Rerun,
                run(RunReason::Changed),
            ),
            (
                Some(job(answered(), false)),
                Present(6),
                "j",
                Rerun,
                run(RunReason::Unfinished),
            ),
            (
                Some(job(JobState::Failed, false)),
                Absent,
                "i",
                Keep,
                run(RunReason::Failed),
            ),
            (
                Some(job(JobState::Failed, false)),
                Present(8),
                "i",
                Keep,
                ResumeDecision::Foreign,
            ),
        ] {
            let facts = ResumeFacts {
                identity,
                history: history.as_ref(),
                on_disk,
            };
            let shown = format!("{history:?} {on_disk:?} {identity} {policy:?}");
            assert_eq!(decide(facts, policy), expected, "{shown}");
        }
    }
}
