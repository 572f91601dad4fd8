//! Checks a pack against its own description and the rules of the contract, without a model.
//!
//! Determinism needs no check: each call gets a new instance, and clocks and random numbers
//! are the same in each.

use lmstrix_inference::FinishReason;

use super::contract::{
    PackContents, PackItemInfo, ParamInfo, ProcessorContext, ResolveRequest, ResolvedPrompt,
    StopReason, TextFile,
};
use super::error::{ContractError, Error};
use super::loaded::Pack;

/// A result of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the pack must be changed.
    pub severity: Severity,
    /// The prompt or processor, and what is the case.
    pub text: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Not checked, or unusual.
    Warning,
    /// Against the contract or the pack's own description.
    Wrong,
}

/// Names that no pack has.
const UNKNOWN: &str = "no-such-name";
/// The value of a parameter without a default.
const SAMPLE: &str = "The shop is closed on Mondays.\nIt opens on Tuesday.";
/// Answers for processors: reasoning, Markdown with a code block, a JSON object, several
/// scripts, and nothing.
const ANSWERS: [&str; 5] = [
    "<think>\nA short text.\n</think>\n\nThe shop opens on Tuesday.\n",
    "# Title\n\nHere is the code:\n\n```json\n{\"a\": [1, 2]}\n```\n\nDone. ",
    "{\"name\": \"Zoë\", \"tags\": [\"x\", \"y\"]}",
    "Grüße, 漢字, \u{1f389}\r\n\r\n  indented\ttext",
    "",
];
/// The characters of a piece.
const PIECES: [usize; 3] = [1, 2, 7];

/// Checks a pack: `describe`, every prompt with and without parameters, and every processor
/// with answers that are cut in several ways. `files` are passed to the pack.
/// `standard_processors` are the processors that a pack can use without declaring them.
///
/// Calls the pack, and blocks; see [`Pack`].
#[must_use]
pub fn check(pack: &Pack, files: &[TextFile], standard_processors: &[String]) -> Vec<Finding> {
    let mut check = Check {
        pack,
        files,
        standard_processors,
        findings: Vec::new(),
    };
    check.all();
    check.findings
}

struct Check<'a> {
    pack: &'a Pack,
    files: &'a [TextFile],
    standard_processors: &'a [String],
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn all(&mut self) {
        let contents = match self.pack.describe(self.files) {
            Ok(contents) => contents,
            Err(error) => return self.wrong("describe", &error.to_string()),
        };
        self.interfaces(&contents);
        if self.pack.has_prompts() {
            for prompt in &contents.prompts {
                self.prompt(prompt, &contents);
            }
            if !contents.prompts.is_empty() {
                let error = self.resolve(UNKNOWN, Vec::new()).err();
                self.unknown_name("prompt", error);
            }
        }
        if self.pack.has_processors() {
            for processor in &contents.processors {
                self.processor(processor);
            }
            if !contents.processors.is_empty() {
                let error = self.pack.open(&self.context(UNKNOWN, Vec::new())).err();
                self.unknown_name("processor", error);
            }
        }
    }

    /// Adds a finding, unless the last one is the same.
    fn add(&mut self, severity: Severity, of: &str, text: &str) {
        let text = format!("{of}: {text}");
        let finding = Finding { severity, text };
        if self.findings.last() != Some(&finding) {
            self.findings.push(finding);
        }
    }

    fn wrong(&mut self, of: &str, text: &str) {
        self.add(Severity::Wrong, of, text);
    }

    fn warning(&mut self, of: &str, text: &str) {
        self.add(Severity::Warning, of, text);
    }

    fn interfaces(&mut self, contents: &PackContents) {
        let prompts = (&contents.prompts, self.pack.has_prompts());
        let processors = (&contents.processors, self.pack.has_processors());
        for (kind, interface, (items, is_exported)) in [
            ("prompts", "resolver", prompts),
            ("processors", "post-processor", processors),
        ] {
            if !items.is_empty() && !is_exported {
                self.wrong(
                    "describe",
                    &format!("declares {kind}, but the pack does not export `{interface}`"),
                );
            }
        }
    }

    /// Checks the error for a name that the pack does not have.
    fn unknown_name(&mut self, kind: &str, error: Option<Error>) {
        let error = match error {
            Some(Error::Contract {
                error: ContractError::UnknownPrompt(_) | ContractError::UnknownProcessor(_),
                ..
            }) => return,
            Some(error) => error.to_string(),
            None => "no error".to_owned(),
        };
        self.wrong(
            &format!("a {kind} that does not exist"),
            &format!("the error must be `unknown-{kind}`, but is: {error}"),
        );
    }

    fn resolve(
        &self,
        prompt: &str,
        params: Vec<(String, String)>,
    ) -> Result<ResolvedPrompt, Error> {
        self.pack.resolve(&ResolveRequest {
            prompt: prompt.to_owned(),
            params,
            files: self.files.to_vec(),
            ..ResolveRequest::default()
        })
    }

    fn prompt(&mut self, prompt: &PackItemInfo, contents: &PackContents) {
        let of = format!("prompt `{}`", prompt.name);
        let before = self.findings.len();
        if prompt.name.contains(char::is_whitespace) || prompt.name.contains("{{") {
            self.wrong(&of, "the name is taken for the text of a prompt");
        }
        // The host adds the defaults, and calls no pack without the required parameters.
        let (needed, optional): (Vec<_>, Vec<_>) = prompt.params.iter().partition(is_needed);
        let has_default = |param: &&ParamInfo| param.default.is_some();
        let defaults = optional.iter().copied().filter(has_default);
        let least = sample_values(needed.iter().copied().chain(defaults));
        for params in [least, sample_values(&prompt.params)] {
            match self.resolve(&prompt.name, params) {
                Ok(resolved) => self.resolved(&resolved, contents, &of),
                Err(Error::Contract {
                    error: error @ ContractError::InvalidParam { .. },
                    ..
                }) => self.warning(&of, &format!("not checked: {error}")),
                Err(error) => self.missing_params(&error, prompt, &of),
            }
        }
        if self.findings.len() == before {
            self.add(Severity::Ok, &of, "resolves");
        }
    }

    /// Checks the error of a prompt that has its required parameters.
    fn missing_params(&mut self, error: &Error, prompt: &PackItemInfo, of: &str) {
        let Error::Contract {
            error: ContractError::MissingParams(missing),
            ..
        } = error
        else {
            return self.wrong(of, &error.to_string());
        };
        for name in missing {
            let is_declared = prompt.params.iter().any(|param| param.name == *name);
            let reason = if is_declared {
                "does not declare as required"
            } else {
                "does not have"
            };
            self.wrong(of, &format!("needs `{name}`, which `describe` {reason}"));
        }
    }

    fn resolved(&mut self, resolved: &ResolvedPrompt, contents: &PackContents, of: &str) {
        for processor in &resolved.processors {
            let name = &processor.name;
            let is_own = contents.processors.iter().any(|own| own.name == *name);
            // A processor of another pack may be installed elsewhere.
            if !is_own && !name.contains('/') && !self.standard_processors.contains(name) {
                let text = format!(
                    "uses the processor `{name}`, which neither this pack declares nor the \
                     standard pack has"
                );
                self.wrong(of, &text);
            }
        }
        if let Err(error) = resolved.settings.check() {
            self.wrong(of, &error.to_string());
        }
        for oddity in resolved.prompt.oddities() {
            self.warning(of, oddity);
        }
    }

    fn context(&self, processor: &str, options: Vec<(String, String)>) -> ProcessorContext {
        ProcessorContext {
            processor: processor.to_owned(),
            options,
            files: self.files.to_vec(),
            ..ProcessorContext::default()
        }
    }

    fn processor(&mut self, processor: &PackItemInfo) {
        let of = format!("processor `{}`", processor.name);
        let before = self.findings.len();
        let is_set = |option: &&ParamInfo| option.required || option.default.is_some();
        let options = sample_values(processor.params.iter().filter(is_set));
        let context = self.context(&processor.name, options);
        match self.pack.open(&context) {
            Ok(_) => {}
            Err(Error::Contract {
                error:
                    error @ (ContractError::InvalidParam { .. } | ContractError::MissingParams(_)),
                ..
            }) => return self.warning(&of, &format!("not checked: {error}")),
            Err(error) => return self.wrong(&of, &error.to_string()),
        }
        // Further faults of a processor mostly have the same reason.
        for answer in ANSWERS {
            self.answer(&context, answer, &of);
            if self.findings.len() > before {
                return;
            }
        }
        for reason in [
            StopReason::Finished(FinishReason::Length),
            StopReason::Finished(FinishReason::Cancelled),
            StopReason::Failed("the engine failed".to_owned()),
        ] {
            let processed = process(self.pack, &context, "Half an ans", 0, &reason);
            if let Err(error @ Error::Guest(_)) = processed {
                return self.wrong(&of, &error.to_string());
            }
        }
        self.add(Severity::Ok, &of, "processes answers, however they are cut");
    }

    /// Checks that an answer has the same result however it is cut.
    fn answer(&mut self, context: &ProcessorContext, answer: &str, of: &str) {
        let end = StopReason::Finished(FinishReason::End);
        // The reason of a rejection may name a position in a piece.
        let result = |pieces: usize| match process(self.pack, context, answer, pieces, &end) {
            Ok(text) => Ok(Some(text)),
            Err(Error::Contract { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let whole = match result(0) {
            Ok(whole) => whole,
            Err(error) => return self.wrong(of, &format!("the answer {answer:?}: {error}")),
        };
        let shown = |result: &Result<Option<String>, String>| match result {
            Ok(Some(text)) => format!("{text:?}"),
            Ok(None) => "a rejection".to_owned(),
            Err(error) => error.clone(),
        };
        for pieces in PIECES {
            let cut = result(pieces);
            if cut.as_ref() != Ok(&whole) {
                let text = format!(
                    "the output depends on how the answer is cut: {answer:?} as a whole becomes \
                     {}, in pieces of {pieces} characters {}",
                    shown(&Ok(whole)),
                    shown(&cut)
                );
                return self.wrong(of, &text);
            }
        }
    }
}

/// Returns whether a parameter must be set.
fn is_needed(param: &&ParamInfo) -> bool {
    param.required && param.default.is_none()
}

/// Returns the defaults of parameters, and a text for those that have none.
fn sample_values<'a>(params: impl IntoIterator<Item = &'a ParamInfo>) -> Vec<(String, String)> {
    let value = |param: &ParamInfo| param.default.clone().unwrap_or_else(|| SAMPLE.to_owned());
    params
        .into_iter()
        .map(|param| (param.name.clone(), value(param)))
        .collect()
}

/// Processes an answer in pieces of a number of characters; 0 is one piece.
fn process(
    pack: &Pack,
    context: &ProcessorContext,
    answer: &str,
    pieces: usize,
    reason: &StopReason,
) -> Result<String, Error> {
    let mut processor = pack.open(context)?;
    let mut text = String::new();
    let characters: Vec<char> = answer.chars().collect();
    let length = if pieces == 0 {
        characters.len()
    } else {
        pieces
    };
    for piece in characters.chunks(length.max(1)) {
        let pushed = processor.push(&piece.iter().collect::<String>())?;
        text.push_str(&pushed.text);
        if pushed.done {
            break;
        }
    }
    let (finished, _) = processor.finish(reason)?;
    Ok(text + &finished.tail)
}
