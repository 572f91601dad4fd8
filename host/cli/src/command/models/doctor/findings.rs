//! The findings of `doctor`.

use serde::Serialize;

use crate::error::Failure;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Ok,
    Note,
    Wrong,
}

/// One finding.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    #[serde(rename = "mark")]
    pub(super) severity: Severity,
    pub(super) about: &'static str,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

/// All findings, in their order.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, severity: Severity, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding {
            severity,
            about,
            text: text.into(),
            hint: None,
        });
    }

    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    pub(super) fn failure(&mut self, about: &'static str, failure: impl Into<Failure>) {
        let failure = failure.into();
        self.add(Severity::Wrong, about, failure.message);
        if !failure.hints.is_empty() {
            self.hint(failure.hints.join("; "));
        }
    }
}
