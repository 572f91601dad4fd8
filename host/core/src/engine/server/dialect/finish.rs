//! The finish reasons of servers.

use lmstrix_inference::FinishReason;

/// The end of an answer as the server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::server) enum ReportedEnd {
    Finished(FinishReason),
    /// The server could not complete the answer; its reason.
    Failed(String),
}

/// Reasons that mean a failure. The last three are LM Studio's and Ollama's.
const FAILURES: [&str; 10] = [
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "failed",
    "insufficient_system_resource",
    "userstopped",
    "modelunloaded",
    "unload",
];

/// Reasons outside OpenAI's list that need no warning: the model ended the answer.
const KNOWN_ENDS: [&str; 5] = ["complete", "end_turn", "eos", "eos_token", "stop_sequence"];

/// Parses a finish reason. Returns `None` for an empty string and the word `null`, which
/// some servers send while the answer goes on.
pub(super) fn parse_finish_reason(reason: &str) -> Option<ReportedEnd> {
    let lower = reason.to_ascii_lowercase();
    if FAILURES.contains(&lower.as_str()) {
        return Some(ReportedEnd::Failed(reason.to_owned()));
    }
    // OpenAI's names: <https://platform.openai.com/docs/api-reference/chat/object>, and
    // those of LM Studio's statistics.
    Some(ReportedEnd::Finished(match lower.as_str() {
        "" | "null" | "none" => return None,
        "stop" | "tool_calls" | "function_call" => FinishReason::End,
        "eosfound" | "stopstringfound" | "toolcalls" => FinishReason::End,
        "length" | "maxpredictedtokensreached" => FinishReason::Length,
        "contextlengthreached" => FinishReason::ContextFull,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other(reason.to_owned()),
    }))
}

/// Returns a warning for a reason whose meaning is not known.
pub(in crate::engine::server) fn unknown_reason_warning(finish: &FinishReason) -> Option<String> {
    let FinishReason::Other(reason) = finish else {
        return None;
    };
    let is_known = finish.is_cut() || KNOWN_ENDS.contains(&reason.to_ascii_lowercase().as_str());
    (!is_known)
        .then(|| format!("unknown finish reason `{reason}`; treating the answer as complete"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_a_closed_list_and_others_are_kept_as_they_came() {
        use FinishReason::{ContentFilter, End, Length, Other};
        let other = |reason: &str| Other(reason.to_owned());
        for (reason, finish) in [
            ("stop", End),
            ("STOP", End),
            ("tool_calls", End),
            ("eosFound", End),
            ("contextLengthReached", FinishReason::ContextFull),
            ("length", Length),
            ("content_filter", ContentFilter),
            ("eos_token", other("eos_token")),
            ("model_length", other("model_length")),
            ("Repetition_Truncation", other("Repetition_Truncation")),
        ] {
            let parsed = parse_finish_reason(reason);
            assert_eq!(parsed, Some(ReportedEnd::Finished(finish)), "{reason}");
        }
        for reason in ["", "null", "NULL", "None"] {
            assert_eq!(parse_finish_reason(reason), None, "{reason:?}");
        }
        for reason in ["error", "abort", "Aborted", "modelUnloaded", "unload"] {
            let failed = ReportedEnd::Failed(reason.to_owned());
            assert_eq!(parse_finish_reason(reason), Some(failed));
        }
    }

    #[test]
    fn only_reasons_of_unknown_meaning_are_warned_about() {
        for (reason, is_warned) in [
            ("eos_token", false),
            ("MAX_TOKENS", false),
            ("COMPLETE", false),
            ("repetition_truncation", true),
        ] {
            let finish = FinishReason::Other(reason.to_owned());
            assert_eq!(
                unknown_reason_warning(&finish).is_some(),
                is_warned,
                "{reason}"
            );
        }
        assert_eq!(unknown_reason_warning(&FinishReason::End), None);
    }
}
