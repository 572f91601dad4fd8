//! A loaded model: prompts in, events out.

use super::Error;
use super::decoder::{BATCH_TOKENS_MAX, Decoder};
use super::sampler::Sampler;
use super::stop::StopTexts;
use super::template::Template;
use super::tokenizer::Tokenizer;
use super::utf8::Utf8;
use crate::inference::{Event, Finish, MaxTokens, Prompt, Settings, Support, Usage};

/// What reasoning models begin their thinking with.
const THINK: &str = "<think>";

/// A model that is loaded. It remembers nothing between inferences.
#[derive(Debug)]
pub struct Model {
    tokenizer: Tokenizer,
    template: Option<Template>,
    decoder: Decoder,
    context: u32,
}

/// What only the engine knows about an inference that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed that was given, or drawn: it gives the same answer again.
    pub seed: u64,
    /// Why it ended; the same as in the last event.
    pub finish: Finish,
    /// The counts of the last usage event.
    pub usage: Usage,
}

impl Model {
    pub(super) fn new(
        tokenizer: Tokenizer,
        template: Option<Template>,
        decoder: Decoder,
        context: u32,
    ) -> Self {
        Self {
            tokenizer,
            template,
            decoder,
            context,
        }
    }

    /// How many tokens prompt and answer may have together.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.context
    }

    /// What becomes of a setting, by its name in snake case.
    #[must_use]
    pub fn support(&self, setting: &str) -> Support {
        let thinks = self.template.as_ref().is_some_and(Template::knows_thinking);
        support(setting, thinks)
    }

    /// The exact text that the model is sent. `reasoning` is the setting of
    /// that name: `off` switches thinking off where the template can, any
    /// other value switches it on, none leaves it to the template.
    pub fn render(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<String, Error> {
        render(self.template.as_ref(), prompt, reasoning)
    }

    /// How many tokens a prompt has; exact.
    pub fn count_tokens(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<u32, Error> {
        Ok(count(&self.tokens(&self.render(prompt, reasoning)?)?))
    }

    /// The tokens of a rendered prompt.
    pub fn tokens(&self, rendered: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(rendered).map_err(Error::Compute)
    }

    /// Appends the bytes that a token prints; not always whole characters,
    /// and nothing for special tokens.
    pub fn print(&self, token: u32, bytes: &mut Vec<u8>) {
        self.tokenizer.print(token, bytes);
    }

    /// Runs one inference and says through `emit` what happens: `Prefill`,
    /// `Text`, `Usage`, `Warning`, and `Finished` as the last. Asks
    /// `cancelled` before every batch of the prompt and every token.
    ///
    /// A prompt that does not fit is an error before any event and any work.
    pub fn infer(
        &mut self,
        prompt: &Prompt,
        settings: &Settings,
        cancelled: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Outcome, Error> {
        let reasoning = settings.reasoning.as_ref();
        let reasoning = reasoning.map(|given| given.value.as_str());
        let rendered = self.render(prompt, reasoning)?;
        // Splitting takes time and memory by the megabyte; what cannot fit,
        // even if all its tokens were the longest, is not split at all.
        let bytes_max = self.tokenizer.vocabulary.token_bytes_max();
        let least = u32::try_from(rendered.len() / bytes_max).unwrap_or(u32::MAX);
        self.check_fits(least, false)?;
        let mut tokens = self.tokens(&rendered)?;
        let prompt_tokens = count(&tokens);
        self.check_fits(prompt_tokens, true)?;
        if tokens.is_empty() {
            // Nothing to continue; llama.cpp's server refuses this, too.
            return Err(Error::Compute("the prompt is empty".into()));
        }
        self.warn(settings, emit);

        let mut sampler = Sampler::new(settings);
        let mut answer = Answer::new(settings);
        let mut usage = Usage {
            prompt_tokens,
            completion_tokens: 0,
        };
        let mut scores = self.prefill(&tokens, cancelled, emit)?;
        if scores.is_some() {
            emit(Event::Usage(usage));
            if matches!(prompt, Prompt::Chat(_)) && rendered.trim_end().ends_with(THINK) {
                // The template has begun the thinking; whoever reads the answer
                // would see only its end.
                emit(Event::Text(format!("{THINK}\n")));
            }
        }
        let room = Room::new(self.context, prompt_tokens, settings.max_tokens.value);
        let finish = loop {
            let Some(mut these) = scores else {
                break Finish::Cancelled;
            };
            if let Some(finish) = room.full(usage.completion_tokens) {
                break finish;
            }
            let Some(token) = sampler.choose(&mut these, &tokens) else {
                return Err(Error::Compute("the model's scores are not numbers".into()));
            };
            if self.tokenizer.vocabulary.ends.contains(&token) {
                break Finish::End;
            }
            tokens.push(token);
            usage.completion_tokens += 1;
            if answer.push(&self.tokenizer, token, emit) {
                break Finish::End;
            }
            if let Some(finish) = room.full(usage.completion_tokens) {
                break finish;
            }
            let newest = tokens.len() - 1;
            scores = match cancelled() {
                true => None,
                false => Some(self.decoder.scores(&tokens[newest..], newest)?),
            };
        };
        answer.finish(emit);
        emit(Event::Usage(usage));
        emit(Event::Finished(finish));
        Ok(Outcome {
            seed: sampler.seed(),
            finish,
            usage,
        })
    }

    fn check_fits(&self, prompt_tokens: u32, exact: bool) -> Result<(), Error> {
        if prompt_tokens < self.context {
            return Ok(());
        }
        Err(Error::TooLong {
            prompt_tokens,
            context_tokens: self.context,
            exact,
        })
    }

    /// Reads the prompt in batches and gives the scores of what comes next;
    /// None when it was cancelled.
    fn prefill(
        &mut self,
        tokens: &[u32],
        cancelled: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Option<Vec<f32>>, Error> {
        let total = count(tokens);
        let mut scores = None;
        let mut done = 0;
        emit(prefill(done, total));
        for batch in tokens.chunks(BATCH_TOKENS_MAX) {
            if cancelled() {
                return Ok(None);
            }
            let start = done as usize;
            done += count(batch);
            match done == total {
                true => scores = Some(self.decoder.scores(batch, start)?),
                false => self.decoder.read_on(batch, start)?,
            }
            emit(prefill(done, total));
        }
        Ok(scores)
    }

    fn warn(&self, settings: &Settings, emit: &mut dyn FnMut(Event)) {
        let mut dropped = Vec::new();
        if settings.json_schema.is_some() {
            dropped.push("json_schema");
        }
        if settings.reasoning.is_some() && self.support("reasoning") == Support::Dropped {
            dropped.push("reasoning");
        }
        dropped.extend(settings.other.keys().map(String::as_str));
        for setting in dropped {
            emit(Event::Warning(format!(
                "the embedded engine does not honour the setting `{setting}`"
            )));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share that is shown to people"
)]
fn prefill(done: u32, total: u32) -> Event {
    Event::Prefill {
        progress: done as f32 / total.max(1) as f32,
        tokens: Some(total),
    }
}

/// What becomes of a setting; `thinks` is whether the template can be told to.
pub(super) fn support(setting: &str, thinks: bool) -> Support {
    match setting {
        "temperature" | "top_k" | "top_p" | "min_p" | "repeat_penalty" | "presence_penalty"
        | "frequency_penalty" | "seed" | "max_tokens" | "stop" => Support::Honoured,
        "reasoning" if thinks => Support::Honoured,
        _ => Support::Dropped,
    }
}

pub(super) fn render(
    template: Option<&Template>,
    prompt: &Prompt,
    reasoning: Option<&str>,
) -> Result<String, Error> {
    match prompt {
        Prompt::Raw(text) => Ok(text.clone()),
        Prompt::Chat(messages) => {
            let template = template.ok_or(Error::NoTemplate)?;
            template.render(messages, reasoning.map(|reasoning| reasoning != "off"))
        }
    }
}

/// How long the answer may become.
struct Room {
    limit: Option<u32>,
    context: u32,
}

impl Room {
    fn new(context: u32, prompt_tokens: u32, most: MaxTokens) -> Self {
        Self {
            limit: most.tokens(context),
            context: context - prompt_tokens,
        }
    }

    /// Why an answer of so many tokens cannot have another.
    fn full(&self, tokens: u32) -> Option<Finish> {
        if self.limit.is_some_and(|limit| tokens >= limit) {
            Some(Finish::Length)
        } else if tokens >= self.context {
            Some(Finish::ContextFull)
        } else {
            None
        }
    }
}

/// The way from tokens to text that may be shown.
struct Answer {
    utf8: Utf8,
    stop: StopTexts,
    bytes: Vec<u8>,
}

impl Answer {
    fn new(settings: &Settings) -> Self {
        Self {
            utf8: Utf8::default(),
            stop: StopTexts::new(&settings.stop.value),
            bytes: Vec::new(),
        }
    }

    /// Whether a stop text has come.
    fn push(&mut self, tokenizer: &Tokenizer, token: u32, emit: &mut dyn FnMut(Event)) -> bool {
        self.bytes.clear();
        tokenizer.print(token, &mut self.bytes);
        let (mut whole, mut shown) = (String::new(), String::new());
        self.utf8.push(&self.bytes, &mut whole);
        let stopped = self.stop.push(&whole, &mut shown);
        if stopped {
            // Nothing after the stop text is part of the answer.
            self.utf8 = Utf8::default();
        }
        show(shown, emit);
        stopped
    }

    /// Gives what was held back.
    fn finish(mut self, emit: &mut dyn FnMut(Event)) {
        let (mut whole, mut shown) = (String::new(), String::new());
        self.utf8.finish(&mut whole);
        if !self.stop.push(&whole, &mut shown) {
            self.stop.finish(&mut shown);
        }
        show(shown, emit);
    }
}

fn show(text: String, emit: &mut dyn FnMut(Event)) {
    if !text.is_empty() {
        emit(Event::Text(text));
    }
}

fn count(tokens: &[u32]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
