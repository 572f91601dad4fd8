//! Translates between the contract's generated types and the host's words, and
//! holds what a pack returns to the limits on lists and names.

use super::bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use super::bindings::lmstrix::prompts::types;
use super::contract::{
    Contents, EXTENSIONS, ModelFacts, Offer, Outcome, ParamInfo, ProcessorContext, ProcessorRef,
    Pushed, Request, Resolved, Stop, TextFile,
};
use super::error::{Answer, Cause};
use super::limits::Limit;
use crate::inference::{Finish, Layer, MaxTokens, Message, Prompt, Role};

/// What a pack's own error means: an answer by the contract, or a failure.
pub(super) enum Refusal {
    Answer(Answer),
    Failure(Cause),
}

fn entries(pairs: &[(String, String)]) -> Vec<types::Entry> {
    pairs
        .iter()
        .map(|(key, value)| types::Entry {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

fn pairs(entries: Vec<types::Entry>) -> Vec<(String, String)> {
    entries
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect()
}

pub(super) fn files(files: &[TextFile]) -> Vec<types::File> {
    files
        .iter()
        .map(|f| types::File {
            name: f.name.clone(),
            text: f.text.clone(),
        })
        .collect()
}

fn model(facts: &ModelFacts) -> types::Model {
    types::Model {
        id: facts.id.clone(),
        architecture: facts.architecture.clone(),
        context_length: facts.context_length,
        extra: entries(&facts.extra),
    }
}

pub(super) fn request(request: &Request) -> resolver::Request {
    resolver::Request {
        prompt: request.prompt.clone(),
        params: entries(&request.params),
        files: files(&request.files),
        model: request.model.as_ref().map(model),
        extra: entries(&request.extra),
    }
}

pub(super) fn context(context: &ProcessorContext) -> post_processor::Context {
    post_processor::Context {
        processor: context.processor.clone(),
        options: entries(&context.options),
        prompt: context.prompt.clone(),
        params: entries(&context.params),
        files: files(&context.files),
        model: context.model.as_ref().map(model),
        extra: Vec::new(),
    }
}

pub(super) fn stop(stop: &Stop) -> post_processor::Stop {
    match stop {
        Stop::Finished(Finish::End) => post_processor::Stop::End,
        // The contract knows no loops; like a limit, they cut the answer.
        Stop::Finished(Finish::Length | Finish::Repetition) => post_processor::Stop::Length,
        Stop::Finished(Finish::ContextFull) => post_processor::Stop::ContextFull,
        Stop::Finished(Finish::Enough) => post_processor::Stop::Enough,
        Stop::Finished(Finish::Cancelled) => post_processor::Stop::Cancelled,
        Stop::Failed(why) => post_processor::Stop::Failed(why.clone()),
    }
}

pub(super) fn refusal(error: types::Error, most: Most) -> Refusal {
    if let types::Error::UnknownPrompt(list)
    | types::Error::UnknownProcessor(list)
    | types::Error::MissingParams(list) = &error
        && let Err(cause) = most.check("names", list)
    {
        return Refusal::Failure(cause);
    }
    let answer = match error {
        types::Error::UnknownPrompt(close) => Answer::UnknownPrompt(close),
        types::Error::UnknownProcessor(close) => Answer::UnknownProcessor(close),
        types::Error::MissingParams(names) => Answer::MissingParams(names),
        types::Error::InvalidParam((name, why)) => Answer::InvalidParam { name, why },
        types::Error::InvalidFile(f) => Answer::InvalidFile {
            file: f.file,
            line: f.line,
            column: f.column,
            message: f.message,
        },
        types::Error::Rejected(why) => Answer::Rejected(why),
        types::Error::Other((code, message)) => {
            return Refusal::Failure(Cause::Other { code, message });
        }
    };
    Refusal::Answer(answer)
}

/// The most entries a list may have.
#[derive(Clone, Copy)]
pub(super) struct Most(pub(super) usize);

impl Most {
    fn check<T>(self, what: &'static str, list: &[T]) -> Result<(), Cause> {
        if list.len() > self.0 {
            return Err(Limit::List {
                what,
                found: list.len(),
                most: self.0,
            }
            .into());
        }
        Ok(())
    }
}

pub(super) fn contents(found: catalog::Contents, most: Most) -> Result<Contents, Cause> {
    most.check("prompts", &found.prompts)?;
    most.check("processors", &found.processors)?;
    let params = |list: Vec<catalog::ParamInfo>| -> Result<Vec<ParamInfo>, Cause> {
        most.check("parameters", &list)?;
        Ok(list
            .into_iter()
            .map(|p| ParamInfo {
                name: p.name,
                summary: p.summary,
                required: p.required,
                default: p.default,
            })
            .collect())
    };
    let mut prompts = Vec::new();
    for p in found.prompts {
        prompts.push(Offer {
            name: p.name,
            summary: p.summary,
            params: params(p.params)?,
        });
    }
    let mut processors = Vec::new();
    for p in found.processors {
        processors.push(Offer {
            name: p.name,
            summary: p.summary,
            params: params(p.options)?,
        });
    }
    Ok(Contents {
        summary: found.summary,
        prompts,
        processors,
    })
}

pub(super) fn resolved(found: resolver::Resolved, most: Most) -> Result<Resolved, Cause> {
    most.check("settings", &found.settings)?;
    most.check("processors", &found.post)?;
    most.check("warnings", &found.warnings)?;
    most.check("extra entries", &found.extra)?;
    let mut warnings = found.warnings;
    let prompt = match found.input {
        resolver::Input::Raw(text) => Prompt::Raw(text),
        resolver::Input::Chat(messages) => {
            most.check("messages", &messages)?;
            if messages.is_empty() {
                return Err(Cause::Contract(
                    "it resolved to a chat without messages".to_owned(),
                ));
            }
            let attached = messages.iter().any(|m| !m.attachments.is_empty());
            if attached {
                warnings.push(
                    "the prompt's attachments are dropped: no engine here takes files".into(),
                );
            }
            Prompt::Chat(messages.into_iter().map(message).collect())
        }
    };
    let extension = found.extension.and_then(|wanted| {
        let known = EXTENSIONS.contains(&wanted.as_str());
        if !known {
            warnings.push(format!(
                "the extension `{wanted}` is not one of {}",
                EXTENSIONS.join(", ")
            ));
        }
        known.then_some(wanted)
    });
    for processor in &found.post {
        most.check("options", &processor.options)?;
    }
    let post = found
        .post
        .into_iter()
        .map(|p| ProcessorRef {
            name: p.name,
            options: pairs(p.options),
        })
        .collect();
    let settings = layer(found.settings, &mut warnings);
    Ok(Resolved {
        prompt,
        settings,
        post,
        extension,
        warnings,
        extra: pairs(found.extra),
    })
}

fn message(message: types::Message) -> Message {
    let role = match message.role {
        types::Role::System => Role::System,
        types::Role::User => Role::User,
        types::Role::Assistant => Role::Assistant,
    };
    Message {
        role,
        content: message.content,
    }
}

/// A later setting of the same kind wins; stop texts add up.
fn layer(settings: Vec<types::Setting>, warnings: &mut Vec<String>) -> Layer {
    let mut layer = Layer::default();
    let mut finite = |name: &str, value: f64| {
        if !value.is_finite() {
            warnings.push(format!(
                "the prompt's {name} is not a number and is dropped"
            ));
        }
        value.is_finite().then_some(value)
    };
    for setting in settings {
        match setting {
            types::Setting::Temperature(v) => layer.temperature = finite("temperature", v),
            types::Setting::TopK(v) => layer.top_k = Some(v),
            types::Setting::TopP(v) => layer.top_p = finite("top_p", v),
            types::Setting::MinP(v) => layer.min_p = finite("min_p", v),
            types::Setting::RepeatPenalty(v) => layer.repeat_penalty = finite("repeat_penalty", v),
            types::Setting::PresencePenalty(v) => {
                layer.presence_penalty = finite("presence_penalty", v);
            }
            types::Setting::FrequencyPenalty(v) => {
                layer.frequency_penalty = finite("frequency_penalty", v);
            }
            types::Setting::Seed(v) => layer.seed = Some(v),
            types::Setting::MaxTokens(v) => {
                layer.max_tokens = Some(v.map_or(MaxTokens::Unlimited, MaxTokens::Tokens));
            }
            types::Setting::Stop(v) => layer.stop.get_or_insert_default().push(v),
            types::Setting::JsonSchema(v) => layer.json_schema = Some(v),
            types::Setting::Reasoning(v) => layer.reasoning = Some(v),
            types::Setting::Other(entry) => {
                layer.other.insert(entry.key, entry.value);
            }
        }
    }
    layer
}

pub(super) fn pushed(found: post_processor::Pushed) -> Pushed {
    Pushed {
        text: found.text,
        done: found.done,
    }
}

pub(super) fn outcome(found: post_processor::Outcome, most: Most) -> Result<Outcome, Cause> {
    most.check("warnings", &found.warnings)?;
    most.check("extra entries", &found.extra)?;
    Ok(Outcome {
        tail: found.tail,
        warnings: found.warnings,
        extra: pairs(found.extra),
    })
}
