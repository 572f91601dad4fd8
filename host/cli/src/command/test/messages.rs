//! Converts the events of a context probe to messages.

use lmstrix::context_probe::{LoweredLevel, ProbeEvent, ProbeObserver, ProbePlan, ProbeWarning};
use lmstrix::error_chain::error_chain;

use crate::command::models::format_duration;
use crate::ui::Messages;

/// Prints the events as messages.
pub(super) struct MessageObserver(pub(super) Messages);

impl ProbeObserver for MessageObserver {
    fn event(&self, event: ProbeEvent<'_>) {
        let Self(messages) = self;
        match event {
            ProbeEvent::Planned {
                engine,
                model,
                level,
                can_set_context,
                plan,
            } => {
                let suffix = match can_set_context {
                    true => "",
                    false => ", with the context length that the server has loaded",
                };
                messages.status(&format!(
                    "{model} at {engine}: would probe {} ({}){suffix}",
                    plan_text(plan),
                    level.as_str()
                ));
            }
            ProbeEvent::LevelLowered { model, lowered } => {
                messages.warning(&lowered_text(model, lowered));
            }
            ProbeEvent::LimitedByEarlierFailure {
                model,
                context,
                cause,
            } => messages.status(&format!(
                "{model}: {context} tokens failed in an earlier test ({}); --force probes them \
                 again",
                cause.unwrap_or("unknown cause")
            )),
            ProbeEvent::Started {
                model,
                context,
                level,
                remaining: Some(remaining),
            } => {
                let time = remaining.time.map_or_else(String::new, |time| {
                    format!(", about {}", format_duration(time))
                });
                messages.status(&format!(
                    "{model}: probing {context} tokens ({}), at most {} probes left{time}",
                    level.as_str(),
                    remaining.max_probes
                ));
            }
            // A probe outside of a search has no progress to report.
            ProbeEvent::Started {
                remaining: None, ..
            } => {}
            ProbeEvent::Finished { model, probe } => messages.status(&format!(
                "{model}: {} tokens ({}): {}, {:.1} s",
                probe.context,
                probe.level.as_str(),
                probe.outcome,
                probe.elapsed.as_secs_f64()
            )),
            ProbeEvent::Warning(warning) => messages.warning(&warning_text(warning)),
        }
    }
}

fn plan_text(plan: ProbePlan) -> String {
    match plan {
        ProbePlan::Only(context) => format!("only {context} tokens"),
        ProbePlan::Search {
            first,
            second,
            max_context,
            max_probes,
        } => {
            let second = second.map_or_else(
                || "up to".to_owned(),
                |second| format!("{second} and up to"),
            );
            format!(
                "{first} tokens first, then {second} {max_context}, in at most {max_probes} probes"
            )
        }
        ProbePlan::FailedEarlier(failed) => {
            format!("nothing: {failed} tokens failed in an earlier test; --force probes them again")
        }
        ProbePlan::Known => "nothing: the result is known; --reset starts over".to_owned(),
    }
}

/// Returns the text of a lowered level, for a warning and for `--json`.
pub(super) fn lowered_text(model: &str, lowered: &LoweredLevel) -> String {
    let LoweredLevel {
        level,
        context,
        refusal,
    } = lowered;
    let problem = match refusal {
        None => format!("cannot recall a key from {context} tokens"),
        Some(refusal) => format!("gave no answer to a prompt of {context} tokens ({refusal})"),
    };
    format!(
        "`{model}` {problem}; testing the `{}` level instead",
        level.as_str()
    )
}

fn warning_text(warning: ProbeWarning<'_>) -> String {
    match warning {
        ProbeWarning::ReplacesForeignInstance {
            model,
            context,
            engine,
        } => {
            let context = context.map_or_else(String::new, |tokens| {
                format!(" with {tokens} tokens of context")
            });
            format!(
                "another program has loaded `{model}`{context}; {engine} keeps one instance of \
                 each model, so the test replaces it"
            )
        }
        ProbeWarning::EarlierCrash {
            model,
            context,
            level,
        } => format!(
            "an earlier test of `{model}` with {context} tokens ({}) did not finish; this context \
             length counts as failed until --force or `reset` clears it",
            level.as_str()
        ),
        ProbeWarning::Registry(text) => text.to_owned(),
        ProbeWarning::NotUnloaded(error) => error_chain(error),
        ProbeWarning::UnloadTimedOut => {
            "the server did not unload the model in time; `ps` shows it, `unload` retries"
                .to_owned()
        }
    }
}
