//! What a run teaches of its model: one line for the registry.

use jiff::Timestamp;

use crate::engine::Chosen;
use crate::error::chain;
use crate::inference::Prompt;
use crate::job::{Account, Failed};
use crate::registry::{Error, Observation, Store};

/// A run that is being watched.
#[derive(Debug)]
pub(in crate::command) struct Learning {
    observation: Observation,
    /// Models in this process are loaded in the time until the first token.
    is_embedded: bool,
}

impl Learning {
    pub(in crate::command) fn new(chosen: &Chosen, prompt: &Prompt) -> Self {
        let bytes = match prompt {
            Prompt::Raw(text) => text.len(),
            Prompt::Chat(messages) => messages.iter().map(|it| it.content.len()).sum(),
        };
        Self {
            is_embedded: chosen.engine() == crate::engine::EMBEDDED,
            observation: Observation {
                at: Timestamp::UNIX_EPOCH,
                engine: chosen.place().to_owned(),
                kind: chosen.engine().to_owned(),
                model: chosen.model.clone(),
                prompt_bytes: Some(bytes as u64),
                prompt_tokens: None,
                completion_tokens: None,
                load_s: None,
                first_token_s: None,
                prefill: None,
                decode: None,
                failure: None,
            },
        }
    }

    pub(in crate::command) fn loaded(&mut self, seconds: Option<f64>) {
        self.observation.load_s = seconds;
    }

    /// Appends the line. A run that failed by the user's or a pack's doing
    /// says nothing of the model.
    pub(in crate::command) fn keep<T>(
        mut self,
        store: &Store,
        account: &Account,
        result: &Result<T, Failed>,
    ) -> Result<(), Error> {
        let it = &mut self.observation;
        it.at = Timestamp::now();
        match result {
            Ok(_) => {}
            Err(Failed::Engine(error)) if error.is_askers() => return Ok(()),
            Err(Failed::Engine(error)) => it.failure = Some(chain(error)),
            Err(Failed::Expired(_)) => it.failure = Some("it took too long".to_owned()),
            Err(Failed::Empty) => it.failure = Some("an answer without text".to_owned()),
            Err(Failed::Pack(_) | Failed::Sink(_) | Failed::Interrupted) => return Ok(()),
        }
        let timings = account.timings;
        let first = timings
            .first_token_s
            .map(|it| it - timings.load_s.unwrap_or(0.0));
        if let Some(usage) = account.usage {
            it.prompt_tokens = Some(usage.prompt_tokens);
            it.completion_tokens = Some(usage.completion_tokens);
            it.prefill = first
                .filter(|it| *it > 0.0 && !self.is_embedded)
                .map(|it| f64::from(usage.prompt_tokens) / it);
            let after_first = timings.first_token_s.map(|it| timings.total_s - it);
            it.decode = after_first
                .filter(|it| *it > 0.0)
                .map(|it| f64::from(usage.completion_tokens.saturating_sub(1)) / it);
        }
        it.first_token_s = first;
        store.observe(it)
    }
}
