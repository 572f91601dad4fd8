//! A loaded model, which runs inferences and emits events.

use lmstrix_inference::{Event, FinishReason, MaxTokens, Prompt, SettingSupport, Settings, Usage};

use super::Error;
use super::decoder::{BATCH_TOKENS_MAX, Decoder};
use super::sampler::Sampler;
use super::stop::StopSequences;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::utf8::Utf8Decoder;

/// The tag with which reasoning models begin their reasoning.
const THINK: &str = "<think>";

/// A loaded model. No state is kept between inferences.
#[derive(Debug)]
pub struct Model {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    decoder: Decoder,
    context_length: u32,
}

/// The result of a finished inference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceSummary {
    /// The seed that was set or generated. It reproduces the same answer.
    pub seed: u64,
    /// The finish reason, the same as in the last event.
    pub finish: FinishReason,
    /// The token counts, the same as in the last usage event.
    pub usage: Usage,
}

impl Model {
    pub(super) fn new(
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        decoder: Decoder,
        context: u32,
    ) -> Self {
        Self {
            tokenizer,
            template,
            decoder,
            context_length: context,
        }
    }

    /// Returns the context length: the maximum number of tokens of prompt and answer.
    #[must_use]
    pub fn context_length(&self) -> u32 {
        self.context_length
    }

    /// Returns whether a setting is supported. `setting` is its name in snake case.
    #[must_use]
    pub fn setting_support(&self, setting: &str) -> SettingSupport {
        let has_thinking_switch = self
            .template
            .as_ref()
            .is_some_and(ChatTemplate::supports_thinking);
        setting_support(setting, has_thinking_switch)
    }

    /// Returns the exact text of the prompt. `reasoning` is the setting of that name: `off`
    /// disables thinking if the template supports that, any other value enables it, and
    /// `None` leaves the choice to the template.
    ///
    /// # Errors
    /// Returns an error if the chat template is missing, cannot be rendered, or rejects the
    /// messages.
    pub fn render(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<String, Error> {
        render(self.template.as_ref(), prompt, reasoning)
    }

    /// Returns the exact number of tokens of a prompt.
    ///
    /// # Errors
    /// Returns an error if the prompt cannot be rendered or tokenized.
    pub fn count_tokens(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<u32, Error> {
        Ok(token_count(
            &self.tokenize(&self.render(prompt, reasoning)?)?,
        ))
    }

    /// Returns the tokens of a rendered prompt.
    ///
    /// # Errors
    /// Returns an error if a pattern of the pre-tokenizer fails.
    pub fn tokenize(&self, rendered: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(rendered).map_err(Error::Compute)
    }

    /// Appends the text of a token as bytes, which may be a part of a character. Special
    /// tokens have no text.
    pub fn detokenize_token(&self, token: u32, bytes: &mut Vec<u8>) {
        self.tokenizer.detokenize_token(token, bytes);
    }

    /// Returns the logits of the token that follows `tokens`, one for each token of the
    /// vocabulary. The tokens are at the positions from `start` on and follow those of earlier
    /// calls; the results for all later positions are discarded.
    ///
    /// # Errors
    /// Returns an error if there are no tokens, if they exceed the context, or if the computation
    /// fails.
    pub fn logits(&mut self, tokens: &[u32], start: usize) -> Result<Vec<f32>, Error> {
        if tokens.is_empty() {
            return Err(Error::Compute("there are no tokens".into()));
        }
        let end = u32::try_from(start.saturating_add(tokens.len())).unwrap_or(u32::MAX);
        if end > self.context_length {
            return Err(Error::PromptTooLong {
                prompt_tokens: end,
                context_tokens: self.context_length,
                exact: true,
            });
        }
        Ok(self.decoder.logits(tokens, start)?)
    }

    /// Runs one inference and passes its events to `emit`: `Prefill`, `Text`, `Usage` and
    /// `Warning`, and `Finished` as the last one. Calls `cancelled` before every batch of the
    /// prompt and before every token.
    ///
    /// # Errors
    /// Returns an error, before any event, if the prompt cannot be rendered, is empty, or
    /// exceeds the context. Returns an error if the computation fails.
    pub fn infer(
        &mut self,
        prompt: &Prompt,
        settings: &Settings,
        cancelled: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<InferenceSummary, Error> {
        let reasoning = settings.reasoning.as_ref();
        let reasoning = reasoning.map(|setting| setting.value.as_str());
        let rendered = self.render(prompt, reasoning)?;
        // Tokenizing a long text takes much time and memory. A prompt that would not fit
        // even if all its tokens had the maximum length is rejected without tokenizing it.
        let token_bytes_max = self.tokenizer.vocabulary.token_bytes_max();
        let tokens_min = u32::try_from(rendered.len() / token_bytes_max).unwrap_or(u32::MAX);
        self.check_fits(tokens_min, false)?;
        let mut tokens = self.tokenize(&rendered)?;
        let prompt_tokens = token_count(&tokens);
        self.check_fits(prompt_tokens, true)?;
        if tokens.is_empty() {
            // There is no token to continue from; llama.cpp's server rejects this, too.
            return Err(Error::Compute("the prompt is empty".into()));
        }
        self.warn_about_ignored_settings(settings, emit);

        let mut sampler = Sampler::new(settings);
        let mut detokenizer = Detokenizer::new(settings);
        let mut usage = Usage {
            prompt_tokens,
            completion_tokens: 0,
        };
        let mut logits = self.prefill(&tokens, cancelled, emit)?;
        if logits.is_some() {
            emit(Event::Usage(usage));
            if matches!(prompt, Prompt::Chat(_)) && rendered.trim_end().ends_with(THINK) {
                // The template has already opened the reasoning block. Emit the tag as
                // well, so that the output contains the complete block.
                emit(Event::Text(format!("{THINK}\n")));
            }
        }
        let budget = TokenBudget::new(
            self.context_length,
            prompt_tokens,
            settings.max_tokens.value,
        );
        let finish = loop {
            let Some(mut current_logits) = logits else {
                break FinishReason::Cancelled;
            };
            if let Some(finish) = budget.exhausted(usage.completion_tokens) {
                break finish;
            }
            let Some(token) = sampler.sample(&mut current_logits, &tokens) else {
                return Err(Error::Compute("the model's logits are not numbers".into()));
            };
            if self.tokenizer.vocabulary.eog_tokens.contains(&token) {
                break FinishReason::End;
            }
            tokens.push(token);
            usage.completion_tokens += 1;
            if detokenizer.push(&self.tokenizer, token, emit) {
                break FinishReason::End;
            }
            if let Some(finish) = budget.exhausted(usage.completion_tokens) {
                break finish;
            }
            let last = tokens.len() - 1;
            logits = match cancelled() {
                true => None,
                false => Some(self.decoder.logits(&tokens[last..], last)?),
            };
        };
        detokenizer.finish(emit);
        emit(Event::Usage(usage));
        emit(Event::Finished(finish.clone()));
        Ok(InferenceSummary {
            seed: sampler.seed(),
            finish,
            usage,
        })
    }

    /// Returns an error if the prompt leaves no room for an answer.
    fn check_fits(&self, prompt_tokens: u32, exact: bool) -> Result<(), Error> {
        if prompt_tokens < self.context_length {
            return Ok(());
        }
        Err(Error::PromptTooLong {
            prompt_tokens,
            context_tokens: self.context_length,
            exact,
        })
    }

    /// Processes the prompt in batches and returns the logits of the next token, or `None` if
    /// the inference was cancelled.
    fn prefill(
        &mut self,
        tokens: &[u32],
        cancelled: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Option<Vec<f32>>, Error> {
        let total = token_count(tokens);
        let mut logits = None;
        let mut done = 0;
        emit(prefill_event(done, total));
        for batch in tokens.chunks(BATCH_TOKENS_MAX) {
            if cancelled() {
                return Ok(None);
            }
            let start = done as usize;
            done += token_count(batch);
            match done == total {
                true => logits = Some(self.decoder.logits(batch, start)?),
                false => self.decoder.prefill(batch, start)?,
            }
            emit(prefill_event(done, total));
        }
        Ok(logits)
    }

    fn warn_about_ignored_settings(&self, settings: &Settings, emit: &mut dyn FnMut(Event)) {
        let ignored = settings
            .explicit_names()
            .into_iter()
            .filter(|name| self.setting_support(name) == SettingSupport::Dropped);
        for setting in ignored {
            emit(Event::Warning(format!(
                "the embedded engine does not support the setting `{setting}`"
            )));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a fraction for display")]
fn prefill_event(done: u32, total: u32) -> Event {
    Event::Prefill {
        progress: done as f32 / total.max(1) as f32,
        tokens: Some(total),
    }
}

/// Returns whether a setting is supported. `has_thinking_switch` is true if the chat template
/// can enable and disable thinking.
pub(super) fn setting_support(setting: &str, has_thinking_switch: bool) -> SettingSupport {
    match setting {
        "temperature" | "top_k" | "top_p" | "min_p" | "repeat_penalty" | "presence_penalty"
        | "frequency_penalty" | "seed" | "max_tokens" | "stop" => SettingSupport::Honoured,
        "reasoning" if has_thinking_switch => SettingSupport::Honoured,
        _ => SettingSupport::Dropped,
    }
}

/// Returns the exact text of a prompt: a raw prompt as it is, a chat through the template.
pub(super) fn render(
    template: Option<&ChatTemplate>,
    prompt: &Prompt,
    reasoning: Option<&str>,
) -> Result<String, Error> {
    match prompt {
        Prompt::Raw(text) => Ok(text.clone()),
        Prompt::Chat(messages) => {
            let template = template.ok_or(Error::NoChatTemplate)?;
            template.render(messages, reasoning.map(|reasoning| reasoning != "off"))
        }
    }
}

/// The maximum length of the answer.
struct TokenBudget {
    /// From the setting `max_tokens`; `None` is unlimited.
    max_tokens: Option<u32>,
    /// The part of the context that the prompt leaves free.
    context_tokens: u32,
}

impl TokenBudget {
    fn new(context: u32, prompt_tokens: u32, max_tokens: MaxTokens) -> Self {
        Self {
            max_tokens: max_tokens.tokens(context),
            context_tokens: context - prompt_tokens,
        }
    }

    /// Returns the finish reason if an answer with this number of tokens cannot be continued.
    fn exhausted(&self, tokens: u32) -> Option<FinishReason> {
        if self.max_tokens.is_some_and(|limit| tokens >= limit) {
            Some(FinishReason::Length)
        } else if tokens >= self.context_tokens {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }
}

/// Converts tokens to output text: complete characters, up to a stop sequence.
struct Detokenizer {
    utf8: Utf8Decoder,
    stop_sequences: StopSequences,
    bytes: Vec<u8>,
}

impl Detokenizer {
    fn new(settings: &Settings) -> Self {
        Self {
            utf8: Utf8Decoder::default(),
            stop_sequences: StopSequences::new(&settings.stop.value),
            bytes: Vec::new(),
        }
    }

    /// Emits the text of a token. Returns true if the answer contains a stop sequence.
    fn push(&mut self, tokenizer: &Tokenizer, token: u32, emit: &mut dyn FnMut(Event)) -> bool {
        self.bytes.clear();
        tokenizer.detokenize_token(token, &mut self.bytes);
        let (mut decoded, mut output) = (String::new(), String::new());
        self.utf8.push(&self.bytes, &mut decoded);
        let stopped = self.stop_sequences.push(&decoded, &mut output);
        if stopped {
            // Text after the stop sequence is not part of the answer.
            self.utf8 = Utf8Decoder::default();
        }
        emit_text(output, emit);
        stopped
    }

    /// Emits the text that is still buffered.
    fn finish(mut self, emit: &mut dyn FnMut(Event)) {
        let (mut decoded, mut output) = (String::new(), String::new());
        self.utf8.finish(&mut decoded);
        if !self.stop_sequences.push(&decoded, &mut output) {
            self.stop_sequences.finish(&mut output);
        }
        emit_text(output, emit);
    }
}

fn emit_text(text: String, emit: &mut dyn FnMut(Event)) {
    if !text.is_empty() {
        emit(Event::Text(text));
    }
}

fn token_count(tokens: &[u32]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
