//! What happened, as data. `--json` prints it; the numbers on stderr are taken
//! from it.

use serde::Serialize;

use crate::inference::{Finish, Settings, Usage};
use crate::job::{Account, Timings};
use crate::pack::Pack;

/// The schema of the report.
const SCHEMA: u32 = 1;

/// One answer.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: u32,
    text: &'a str,
    raw: &'a str,
    reasoning: &'a str,
    usage: Option<Usage>,
    timings: Timings,
    finish: Option<Finish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    settings: &'a Settings,
    engine: &'a str,
    model: &'a str,
    instance: Instance,
    packs: Vec<PackUsed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra: Vec<Extra<'a>>,
    warnings: &'a [String],
}

/// The model as it was loaded.
#[derive(Debug, Serialize)]
pub struct Instance {
    /// Its name at the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its context in tokens, where known.
    pub context: Option<u32>,
    /// How its weights are stored, where known.
    pub quantization: Option<String>,
}

/// A pack that took part.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PackUsed<'a> {
    name: &'a str,
    digest: &'a str,
}

impl PackUsed<'_> {
    /// Name and digest.
    #[must_use]
    pub fn pair(&self) -> (String, String) {
        (self.name.to_owned(), self.digest.to_owned())
    }
}

#[derive(Debug, Serialize)]
struct Extra<'a> {
    from: &'a str,
    entries: &'a [(String, String)],
}

/// Names and digests of the packs that took part, each once, in order.
pub fn packs_used<'a>(packs: impl IntoIterator<Item = &'a Pack>) -> Vec<PackUsed<'a>> {
    let mut used: Vec<PackUsed<'a>> = Vec::new();
    for pack in packs {
        let it = PackUsed {
            name: pack.name(),
            digest: pack.digest(),
        };
        if !used.contains(&it) {
            used.push(it);
        }
    }
    used
}

/// What a report is made of besides the account.
#[derive(Debug)]
pub struct About<'a> {
    /// The settings that held.
    pub settings: &'a Settings,
    /// The engine's name.
    pub engine: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// The model as it was loaded.
    pub instance: Instance,
    /// The packs that took part.
    pub packs: Vec<PackUsed<'a>>,
    /// The extension that the prompt asks for.
    pub extension: Option<&'a str>,
    /// What the resolver says for the report, with the pack's name.
    pub resolver_extra: (&'a str, &'a [(String, String)]),
    /// All warnings, in order.
    pub warnings: &'a [String],
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl<'a> Report<'a> {
    /// Puts the two together.
    #[must_use]
    pub fn new(account: &'a Account, about: About<'a>) -> Self {
        let About {
            settings,
            engine,
            model,
            instance,
            packs,
            extension,
            resolver_extra,
            warnings,
            error,
        } = about;
        let (from, entries) = resolver_extra;
        let extra = std::iter::once(Extra { from, entries })
            .chain(
                account
                    .extra
                    .iter()
                    .map(|(from, entries)| Extra { from, entries }),
            )
            .filter(|extra| !extra.entries.is_empty())
            .collect();
        Self {
            schema: SCHEMA,
            text: &account.text,
            raw: &account.raw,
            reasoning: &account.reasoning,
            usage: account.usage,
            timings: account.timings,
            finish: account.finish,
            error,
            settings,
            engine,
            model,
            instance,
            packs,
            extension,
            extra,
            warnings,
        }
    }
}

/// The numbers that a person wants, in a line.
#[must_use]
pub fn statistics(account: &Account) -> String {
    let mut parts = Vec::new();
    let timings = &account.timings;
    if let Some(usage) = account.usage {
        let generating = timings.total_s - timings.first_token_s.unwrap_or(timings.total_s);
        // Of n tokens, n - 1 come after the first one.
        let rate = f64::from(usage.completion_tokens.saturating_sub(1)) / generating;
        parts.push(format!("{} tokens", usage.completion_tokens));
        if rate.is_finite() && rate > 0.0 {
            parts.push(format!("{rate:.0} tokens/s"));
        }
        parts.push(format!("prompt {} tokens", usage.prompt_tokens));
    }
    if let Some(first) = timings.first_token_s {
        parts.push(format!("first token after {first:.2} s"));
    }
    parts.push(format!("{:.2} s in all", timings.total_s));
    if let Some(finish) = account.finish {
        parts.push(ended(finish).to_owned());
    }
    parts.join(" · ")
}

fn ended(finish: Finish) -> &'static str {
    match finish {
        Finish::End => "ended by the model or a stop text",
        Finish::Length => "cut at the limit of tokens",
        Finish::ContextFull => "cut because the context is full",
        Finish::Enough => "ended by a processor that had enough",
        Finish::Repetition => "ended because it repeated itself",
        Finish::Cancelled => "cancelled",
    }
}
