//! A fake engine for tests.

use std::cell::Cell;
use std::time::Duration;

use lmstrix_inference::Prompt;
use tokio::time::sleep;

use super::probe_engine::{FoundModel, ProbeAnswer, ProbeEngine};
use crate::engine::{Error, FaultKind, ServerFault};

/// An engine with one model.
#[derive(Clone)]
pub(super) struct FakeEngine {
    pub(super) can_set_context: bool,
    /// Returns the effective context length for a requested one.
    pub(super) load: fn(u32) -> Result<u32, Error>,
    pub(super) load_time: fn(u32) -> Duration,
    /// Returns the answer to a prompt of so many tokens; `{}` stands for the key.
    pub(super) answer: fn(u32) -> Result<&'static str, Error>,
    pub(super) counts_tokens: bool,
    pub(super) unload_time: Duration,
    pub(super) is_loaded: Cell<bool>,
    pub(super) load_count: Cell<u32>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            can_set_context: true,
            load: Ok,
            load_time: |_| Duration::from_secs(10),
            answer: |_| Ok("It is {}."),
            counts_tokens: true,
            unload_time: Duration::from_secs(1),
            is_loaded: Cell::new(false),
            load_count: Cell::new(0),
        }
    }
}

impl ProbeEngine for FakeEngine {
    type Selected = u32;
    type Instance = u32;

    async fn find(&self) -> Result<FoundModel, Error> {
        Ok(FoundModel {
            engine: "http://e".to_owned(),
            engine_kind: "lmstudio",
            model: "m".to_owned(),
            declared_context: Some(32_768),
            expected_context: Some(8192),
            can_set_context: self.can_set_context,
            ..FoundModel::default()
        })
    }

    async fn select(&self, context: Option<u32>) -> Result<u32, Error> {
        assert_eq!(context.is_some(), self.can_set_context);
        Ok(context.unwrap_or(8192))
    }

    async fn load(&self, context: u32) -> Result<u32, Error> {
        self.is_loaded.set(true);
        self.load_count.set(self.load_count.get() + 1);
        sleep((self.load_time)(context)).await;
        (self.load)(context)
    }

    fn context(&self, instance: &u32) -> Option<u32> {
        Some(*instance)
    }

    async fn infer(
        &self,
        _instance: u32,
        prompt: &Prompt,
        _answer_tokens: u32,
    ) -> Result<ProbeAnswer, Error> {
        let Prompt::Chat(messages) = prompt else {
            panic!("not a chat prompt")
        };
        let text = &messages[0].content;
        let tokens = u32::try_from(text.len() / 4 + 40).unwrap();
        let (_, key) = text.split_once("The secret code is ").unwrap();
        Ok(ProbeAnswer {
            text: (self.answer)(tokens)?.replace("{}", &key[..5]),
            prompt_tokens: self.counts_tokens.then_some(tokens),
        })
    }

    async fn unload(&self) -> Result<(), Error> {
        sleep(self.unload_time).await;
        self.is_loaded.set(false);
        Ok(())
    }
}

/// Returns the error of a failed load.
pub(super) fn fault(kind: FaultKind) -> Error {
    Error::LoadFailed {
        engine: "e".to_owned(),
        model: "m".to_owned(),
        fault: Box::new(ServerFault {
            kind,
            message: "failed".to_owned(),
            status: None,
            retry_after: None,
        }),
    }
}
