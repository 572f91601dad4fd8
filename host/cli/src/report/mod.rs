//! The report of `infer --json`, and the line of statistics on stderr.

use lmstrix::job::{Answer, JobFacts, Outcome, PackOutput, PackUsed, Timings};
use lmstrix_inference::{FinishReason, Settings, Usage};
use serde::Serialize;

/// The schema version of the report.
const SCHEMA: u32 = 1;

/// The report of one job.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    schema: u32,
    text: &'a str,
    raw: &'a str,
    reasoning: &'a str,
    usage: Option<Usage>,
    timings: Timings,
    finish: Option<&'a FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    settings: &'a Settings,
    engine: &'a str,
    model: &'a str,
    instance: InstanceInfo<'a>,
    packs: &'a [PackUsed],
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra: Vec<PackExtra<'a>>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "<[PackOutput]>::is_empty")]
    pack_output: &'a [PackOutput],
}

/// The model as it was loaded.
#[derive(Debug, Serialize)]
struct InstanceInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    context: Option<u32>,
    quantization: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PackExtra<'a> {
    from: &'a str,
    entries: &'a [(String, String)],
}

impl<'a> Report<'a> {
    /// Creates the report of a job, with the reason if it failed.
    #[must_use]
    pub(crate) fn new(outcome: &'a Outcome, error: Option<String>) -> Self {
        let JobFacts {
            settings,
            engine,
            model,
            quantization,
            instance,
            packs,
            extension,
            resolver_extra,
        } = &outcome.used;
        let answer = &outcome.answer;
        let extra = std::iter::once(resolver_extra)
            .chain(&answer.extra)
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(from, entries)| PackExtra { from, entries })
            .collect();
        Self {
            schema: SCHEMA,
            text: &answer.text,
            raw: &answer.raw,
            reasoning: &answer.reasoning,
            usage: answer.usage,
            timings: answer.timings,
            finish: answer.finish.as_ref(),
            error,
            settings,
            engine,
            model,
            instance: InstanceInfo {
                id: instance.as_ref().map(|instance| instance.id.as_str()),
                context: instance.as_ref().and_then(|instance| instance.context),
                quantization: quantization.as_deref(),
            },
            packs,
            extension: extension.as_deref(),
            extra,
            warnings: answer.warnings.iter().map(ToString::to_string).collect(),
            pack_output: &answer.pack_output,
        }
    }
}

/// Returns token counts, rates, times and the finish reason in one line.
#[must_use]
pub(crate) fn statistics_line(answer: &Answer) -> String {
    let mut parts = Vec::new();
    let timings = &answer.timings;
    if let Some(usage) = answer.usage {
        let generation_s = timings.total_s - timings.first_token_s.unwrap_or(timings.total_s);
        // Of n tokens, n - 1 come after the first one.
        let rate = f64::from(usage.completion_tokens.saturating_sub(1)) / generation_s;
        parts.push(format!("{} tokens", usage.completion_tokens));
        if rate.is_finite() && rate > 0.0 {
            parts.push(format!("{rate:.0} tokens/s"));
        }
        parts.push(format!("prompt {} tokens", usage.prompt_tokens));
    }
    if let Some(first) = timings.first_token_s {
        parts.push(format!("first token after {first:.2} s"));
    }
    parts.push(format!("{:.2} s total", timings.total_s));
    if let Some(finish) = &answer.finish {
        parts.push(finish_description(finish));
    }
    parts.join(" · ")
}

fn finish_description(finish: &FinishReason) -> String {
    let description = match finish {
        FinishReason::End => "ended by the model or a stop sequence",
        FinishReason::Length => "cut at the token limit",
        FinishReason::ContextFull => "cut because the context is full",
        FinishReason::Enough => "stopped by a processor",
        FinishReason::Repetition => "stopped because it repeated itself",
        FinishReason::ContentFilter => "cut by a content filter",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Unreported => "ended without a finish reason",
        FinishReason::Other(reason) => return format!("finish reason `{reason}`"),
    };
    description.to_owned()
}
