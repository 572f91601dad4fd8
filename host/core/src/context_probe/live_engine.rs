//! Probes with a real engine.

use std::sync::{Mutex, PoisonError};

use lmstrix_inference::{
    ContextSize, Event, MaxTokens, Origin, Prompt, SettingSupport, Settings, SettingsLayer,
};

use super::probe_engine::{ForeignInstance, FoundModel, ProbeAnswer, ProbeEngine};
use crate::engine::{
    Error, InferenceRequest, Instance, ModelQuery, SelectedModel, Unloader, select_model,
};

/// An engine with a model.
pub(super) struct LiveEngine {
    query: ModelQuery,
    /// The unloader of the last instance; kept outside of `load`, so that a load that is
    /// cancelled can be undone.
    unloader: Mutex<Option<Unloader>>,
}

impl LiveEngine {
    pub(super) fn new(query: ModelQuery) -> Self {
        Self {
            query,
            unloader: Mutex::default(),
        }
    }

    fn replace_unloader(&self, unloader: Option<Unloader>) -> Option<Unloader> {
        let mut slot = self.unloader.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut slot, unloader)
    }
}

impl ProbeEngine for LiveEngine {
    type Selected = SelectedModel;
    type Instance = Instance;

    async fn find(&self) -> Result<FoundModel, Error> {
        let selected = select_model(ModelQuery {
            context: None,
            ..self.query.clone()
        })
        .await?;
        Ok(FoundModel {
            engine: selected.address().to_owned(),
            engine_kind: selected.engine(),
            engine_name: selected.display_name(),
            architecture: selected.architecture().map(str::to_owned),
            quantization: selected.quantization(),
            declared_context: selected.declared_context(),
            expected_context: selected.expected_context(),
            can_set_context: selected.can_set_context(),
            foreign_instance: selected
                .replaced_foreign_context()
                .map(|context| ForeignInstance { context }),
            model: selected.model,
        })
    }

    async fn select(&self, context: Option<u32>) -> Result<SelectedModel, Error> {
        let mut query = self.query.clone();
        if let Some(context) = context {
            query.context = Some(ContextSize::Tokens(context));
            query.lifecycle.exact_context = true;
        }
        select_model(query).await
    }

    async fn load(&self, selected: SelectedModel) -> Result<Instance, Error> {
        self.replace_unloader(Some(selected.unloader()));
        let instance = selected.load(&mut |_| {}).await?;
        self.replace_unloader(Some(instance.unloader()));
        Ok(instance)
    }

    fn context(&self, instance: &Instance) -> Option<u32> {
        instance.context()
    }

    async fn infer(
        &self,
        instance: Instance,
        prompt: &Prompt,
        answer_tokens: u32,
    ) -> Result<ProbeAnswer, Error> {
        let mut stream = instance.infer(InferenceRequest {
            images: Vec::new(),
            prompt: prompt.clone(),
            settings: probe_settings(&instance, prompt, answer_tokens),
            split_reasoning: true,
            required_settings: Vec::new(),
        })?;
        let mut answer = ProbeAnswer::default();
        loop {
            match stream.next().await? {
                Event::Text(text) | Event::Reasoning(text) => answer.text.push_str(&text),
                Event::Usage(usage) => answer.prompt_tokens = Some(usage.prompt_tokens),
                Event::Finished(_) => return Ok(answer),
                _ => {}
            }
        }
    }

    async fn unload(&self) -> Result<(), Error> {
        match self.replace_unloader(None) {
            Some(unloader) => unloader.unload().await.map(drop),
            None => Ok(()),
        }
    }
}

/// Returns the settings of a probe. They disable reasoning where the engine supports that:
/// it takes minutes and does not affect the result.
fn probe_settings(instance: &Instance, prompt: &Prompt, answer_tokens: u32) -> Settings {
    let settings = |disables_reasoning: bool| {
        let flags = SettingsLayer {
            temperature: Some(0.0),
            seed: Some(1),
            max_tokens: Some(MaxTokens::Tokens(answer_tokens)),
            reasoning: disables_reasoning.then(|| "off".to_owned()),
            ..SettingsLayer::default()
        };
        Settings::resolve(&[(Origin::Flag, &flags)])
    };
    let without_reasoning = settings(true);
    let support = instance
        .selected
        .support(prompt, &without_reasoning, "reasoning");
    match support {
        SettingSupport::Honoured => without_reasoning,
        _ => settings(false),
    }
}
