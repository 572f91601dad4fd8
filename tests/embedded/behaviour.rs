use std::cell::Cell;

use lmstrix_gguf::{Error, InferenceSummary, Model, ModelFile};
use lmstrix_inference::{
    Event, FinishReason, MaxTokens, Message, Origin, Prompt, Role, Settings, SettingsLayer,
};

use super::tiny_model::{Entry, TinyModel};

fn open(tiny: &TinyModel) -> Result<ModelFile, Error> {
    ModelFile::from_bytes("tiny", tiny.bytes().leak())
}

fn load(tiny: &TinyModel, context: u32) -> Model {
    open(tiny).unwrap().load(context).unwrap()
}

fn greedy(max_tokens: MaxTokens) -> SettingsLayer {
    SettingsLayer {
        temperature: Some(0.0),
        repeat_penalty: Some(1.0),
        max_tokens: Some(max_tokens),
        ..SettingsLayer::default()
    }
}

fn settings(layer: SettingsLayer) -> Settings {
    Settings::resolve(&[(Origin::Flag, &layer)])
}

fn raw(text: impl Into<String>) -> Prompt {
    Prompt::Raw(text.into())
}

fn run(
    model: &mut Model,
    prompt: &Prompt,
    layer: SettingsLayer,
) -> (Vec<Event>, Result<InferenceSummary, Error>) {
    let mut events = Vec::new();
    let mut emit = |event| events.push(event);
    let outcome = model.infer(prompt, &settings(layer), &|| false, &mut emit);
    (events, outcome)
}

fn answer(model: &mut Model, prompt: &Prompt, layer: SettingsLayer) -> String {
    let (events, outcome) = run(model, prompt, layer);
    outcome.unwrap();
    text(&events)
}

fn text(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn prefill_progress_advances_in_batches_to_the_prompt_length() {
    let mut model = load(&TinyModel::new(), 1024);
    for length in [1, 254, 255, 256, 257, 511, 512, 700] {
        // One token per byte, and the BOS token.
        let prompt = raw("x".repeat(length));
        assert_eq!(
            model.count_tokens(&prompt, None).unwrap(),
            length as u32 + 1
        );
        let (events, outcome) = run(&mut model, &prompt, greedy(MaxTokens::Tokens(3)));
        let mut before = 0;
        for event in &events {
            if let Event::Prefill { progress, tokens } = event {
                assert_eq!(*tokens, Some(length as u32 + 1));
                let done = (progress * (length + 1) as f32).round() as u32;
                assert!(done >= before && done - before <= 256);
                before = done;
            }
        }
        assert_eq!(before, length as u32 + 1);
        let outcome = outcome.unwrap();
        assert_eq!(outcome.usage.prompt_tokens, length as u32 + 1);
        assert_eq!(outcome.usage.completion_tokens, 3);
        assert_eq!(outcome.finish, FinishReason::Length);
        assert_eq!(events.last(), Some(&Event::Finished(FinishReason::Length)));
        let ends = events
            .iter()
            .filter(|event| matches!(event, Event::Finished(_)));
        assert_eq!(ends.count(), 1);
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_an_error_before_inference() {
    let mut model = load(&TinyModel::new(), 64);
    let (events, outcome) = run(
        &mut model,
        &raw("x".repeat(63)),
        greedy(MaxTokens::Unlimited),
    );
    assert!(events.is_empty());
    let error = outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the prompt has 64 tokens, the context length is 64"
    );

    let (_, outcome) = run(
        &mut model,
        &raw("x".repeat(62)),
        greedy(MaxTokens::Unlimited),
    );
    let outcome = outcome.unwrap();
    assert_eq!(outcome.finish, FinishReason::ContextFull);
    assert_eq!(outcome.usage.completion_tokens, 1);
}

#[test]
fn answers_end_at_max_tokens_or_at_the_end_of_the_context() {
    let mut model = load(&TinyModel::new(), 50);
    for (limit, tokens, finish) in [
        (MaxTokens::Unlimited, 45, FinishReason::ContextFull),
        (MaxTokens::Tokens(45), 45, FinishReason::Length),
        (MaxTokens::Tokens(99), 45, FinishReason::ContextFull),
        (MaxTokens::Tokens(0), 0, FinishReason::Length),
        (MaxTokens::Percent(10), 5, FinishReason::Length),
        (MaxTokens::Percent(100), 45, FinishReason::ContextFull),
    ] {
        let (_, outcome) = run(&mut model, &raw("four"), greedy(limit));
        let outcome = outcome.unwrap();
        assert_eq!(
            (outcome.usage.completion_tokens, outcome.finish),
            (tokens, finish)
        );
    }
    let file = open(&TinyModel::new()).unwrap();
    assert_eq!(file.load(u32::MAX).unwrap().context_length(), 1024);
}

#[test]
fn inferences_do_not_affect_each_other() {
    let tiny = TinyModel::new();
    let mut model = load(&tiny, 1024);
    let long = raw("a long prompt, longer than one batch of tokens. ".repeat(9));
    let short = raw("short");
    let first = answer(&mut model, &short, greedy(MaxTokens::Tokens(40)));
    answer(&mut model, &long, greedy(MaxTokens::Tokens(300)));
    assert_eq!(
        answer(&mut model, &short, greedy(MaxTokens::Tokens(40))),
        first
    );
    let mut fresh = load(&tiny, 1024);
    assert_eq!(
        answer(&mut fresh, &long, greedy(MaxTokens::Tokens(40))),
        answer(&mut model, &long, greedy(MaxTokens::Tokens(40)))
    );
}

#[test]
fn a_reported_seed_reproduces_the_answer() {
    let mut model = load(&TinyModel::new(), 256);
    let hot = |seed| SettingsLayer {
        temperature: Some(1.5),
        seed,
        max_tokens: Some(MaxTokens::Tokens(40)),
        ..SettingsLayer::default()
    };
    let (events, outcome) = run(&mut model, &raw("x"), hot(None));
    let seed = outcome.unwrap().seed;
    assert_eq!(
        answer(&mut model, &raw("x"), hot(Some(seed))),
        text(&events)
    );
    assert_ne!(
        answer(&mut model, &raw("x"), hot(Some(seed + 1))),
        text(&events)
    );
}

#[test]
fn inference_can_be_cancelled_between_batches_and_tokens() {
    let mut model = load(&TinyModel::new(), 1024);
    let prompt = raw("x".repeat(600));
    let all = settings(greedy(MaxTokens::Tokens(20)));
    let whole = answer(&mut model, &prompt, greedy(MaxTokens::Tokens(20)));
    // The flag is checked before each of three batches, and before each token except the
    // first one, which the last batch gives.
    for checks in 0..22 {
        let (checks_left, mut events) = (Cell::new(checks), Vec::new());
        let is_cancelled = || checks_left.replace(checks_left.get() - 1) == 0;
        let outcome = model.infer(&prompt, &all, &is_cancelled, &mut |event| {
            events.push(event)
        });
        let outcome = outcome.unwrap();
        assert_eq!(outcome.finish, FinishReason::Cancelled);
        assert_eq!(outcome.usage.completion_tokens as i32, (checks - 2).max(0));
        assert_eq!(
            events.last(),
            Some(&Event::Finished(FinishReason::Cancelled))
        );
        let part = text(&events);
        assert!(whole.starts_with(part.trim_end_matches('\u{fffd}')));
    }
}

#[test]
fn stop_strings_end_the_answer() {
    let mut model = load(&TinyModel::new(), 256);
    let prompt = raw("stop here");
    let whole = answer(&mut model, &prompt, greedy(MaxTokens::Tokens(40)));
    let chars: Vec<char> = whole.chars().collect();
    let stop: String = chars[10..13].iter().collect();
    let layer = SettingsLayer {
        stop: Some(vec!["never".to_owned(), stop.clone()]),
        ..greedy(MaxTokens::Tokens(40))
    };
    let (events, outcome) = run(&mut model, &prompt, layer);
    assert_eq!(outcome.unwrap().finish, FinishReason::End);
    assert_eq!(text(&events), whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn chats_are_rendered_with_the_chat_template() {
    let mut model = load(&TinyModel::new(), 256);
    let prompt = Prompt::Chat(vec![
        Message::new(Role::System, "s"),
        Message::new(Role::User, "u"),
    ]);
    assert_eq!(model.render(&prompt, None).unwrap(), "<system>s<user>u");
    // A reasoning tag that the template opens is part of the answer.
    let thinking = SettingsLayer {
        reasoning: Some("on".into()),
        ..greedy(MaxTokens::Tokens(2))
    };
    assert!(answer(&mut model, &prompt, thinking).starts_with("<think>\n"));

    let mut plain = load(&TinyModel::new().unset("tokenizer.chat_template"), 256);
    assert!(matches!(
        plain.render(&prompt, None),
        Err(Error::NoChatTemplate)
    ));
    assert!(!answer(&mut plain, &raw("u"), greedy(MaxTokens::Tokens(2))).is_empty());
}

#[test]
fn unsupported_settings_are_warnings() {
    let mut model = load(&TinyModel::new(), 256);
    let layer = SettingsLayer {
        json_schema: Some("{}".into()),
        other: [("typical_p".to_owned(), "0.5".to_owned())].into(),
        ..greedy(MaxTokens::Tokens(1))
    };
    let (events, _) = run(&mut model, &raw("x"), layer);
    let warnings = events
        .iter()
        .filter(|event| matches!(event, Event::Warning(_)));
    assert_eq!(warnings.count(), 2);
}

#[test]
fn a_model_file_has_metadata_and_recommended_settings() {
    let tiny = TinyModel::new()
        .set("general.sampling.temp", Entry::F32(0.7))
        .set("general.sampling.top_k", Entry::U32(20))
        .set("general.sampling.penalty_repeat", Entry::F32(1.05));
    let file = open(&tiny).unwrap();
    assert_eq!(file.architecture(), "llama");
    assert_eq!(file.name(), Some("Tiny"));
    assert_eq!(file.tokenizer_name(), "gpt2/qwen2");
    assert_eq!(file.quantization(), "F32");
    assert_eq!(file.context_length(), 1024);
    assert_eq!(
        file.parameter_count(),
        32 * (258 * 2 + 1) + 2 * (2 * 32 + 32 * (32 * 3 + 48 * 3))
    );
    assert_eq!(file.kv_cache_bytes_per_token(), 2 * 2 * 16 * 4);
    let recommended = file.recommended_settings();
    assert_eq!(recommended.temperature, Some(0.7));
    assert_eq!(recommended.top_k, Some(20));
    assert_eq!(recommended.repeat_penalty, Some(1.05));
    assert_eq!(recommended.top_p, None);
}

#[test]
fn unsupported_models_are_rejected_with_the_unsupported_feature() {
    for (key, value, message) in [
        (
            "general.architecture",
            Entry::Text("gemma9".into()),
            "architecture `gemma9`",
        ),
        (
            "tokenizer.ggml.pre",
            Entry::Text("klingon".into()),
            "tokenizer `gpt2/klingon`",
        ),
        (
            "tokenizer.ggml.model",
            Entry::Text("t5".into()),
            "tokenizer `t5`",
        ),
        (
            "llama.rope.scaling.type",
            Entry::Text("yarn".into()),
            "RoPE scaling `yarn`",
        ),
        (
            "llama.expert_count",
            Entry::U32(8),
            "mixtures of experts (8)",
        ),
        ("split.count", Entry::U32(2), "several files"),
        (
            "llama.attention.head_count_kv",
            Entry::I32s(vec![2, 1]),
            "layers of different sizes",
        ),
        (
            "tokenizer.ggml.add_eos_token",
            Entry::Bool(true),
            "EOS token after the prompt",
        ),
    ] {
        let file = open(&TinyModel::new().set(key, value)).unwrap();
        let error = file.load(64).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let mut unsupported_type = TinyModel::new();
    unsupported_type.tensors[1].2 = 23;
    let error = open(&unsupported_type).unwrap().load(64).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("tensor type IQ4_XS (of `blk.0.attn_norm.weight`)"),
        "{error}"
    );
    let mut unknown_tensor = TinyModel::new();
    unknown_tensor
        .tensors
        .push(("blk.0.attn_q_norm.weight".into(), vec![8], 0));
    let error = open(&unknown_tensor).unwrap().load(64).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the tensor `blk.0.attn_q_norm.weight`"),
        "{error}"
    );
}
