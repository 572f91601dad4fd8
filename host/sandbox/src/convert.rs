//! Converts between the generated types of the contract and the host's types, and
//! enforces the limits on lists that a pack returns.

use lmstrix_inference::{FinishReason, MaxTokens, Message, Prompt, Role, SettingsLayer};

use super::bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use super::bindings::lmstrix::prompts::types;
use super::contract::{
    ALLOWED_EXTENSIONS, FinishedText, ModelFacts, PackContents, PackItemInfo, ParamInfo,
    ProcessorContext, ProcessorRef, PushOutput, ResolveRequest, ResolvedPrompt, StopReason,
    TextFile,
};
use super::error::{ContractError, GuestFailure};
use super::limits::LimitExceeded;

/// The `extra` key of a prompt or processor that uses parameters which are not declared.
const ANY_PARAMS: &str = "any-params";

/// The error of a call: one that the contract defines, or a failure.
pub(super) enum CallError {
    Contract(ContractError),
    Failure(GuestFailure),
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
        .map(|file| types::File {
            name: file.name.clone(),
            text: file.text.to_string(),
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

pub(super) fn request(request: &ResolveRequest) -> resolver::Request {
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
        options: entries(&[&context.options[..], &context.defaults].concat()),
        prompt: context.prompt.clone(),
        params: entries(&context.params),
        files: files(&context.files),
        model: context.model.as_ref().map(model),
        extra: Vec::new(),
    }
}

pub(super) fn stop_reason(stop: &StopReason) -> post_processor::Stop {
    match stop {
        StopReason::Finished(FinishReason::End) => post_processor::Stop::End,
        // The contract has no case for repetition; like a token limit, it truncates the
        // answer.
        StopReason::Finished(FinishReason::Length | FinishReason::Repetition) => {
            post_processor::Stop::Length
        }
        StopReason::Finished(FinishReason::ContextFull) => post_processor::Stop::ContextFull,
        StopReason::Finished(FinishReason::Enough) => post_processor::Stop::Enough,
        StopReason::Finished(FinishReason::Cancelled) => post_processor::Stop::Cancelled,
        StopReason::Finished(FinishReason::ContentFilter) => {
            post_processor::Stop::Other("content-filter".to_owned())
        }
        StopReason::Finished(FinishReason::Unreported) => {
            post_processor::Stop::Other("unreported".to_owned())
        }
        StopReason::Finished(FinishReason::Other(reason)) => {
            post_processor::Stop::Other(reason.clone())
        }
        StopReason::Failed(reason) => post_processor::Stop::Failed(reason.clone()),
    }
}

/// Returns the name of an error's case in the contract.
fn error_kind(error: &types::Error) -> &'static str {
    match error {
        types::Error::UnknownPrompt(_) => "unknown-prompt",
        types::Error::UnknownProcessor(_) => "unknown-processor",
        types::Error::MissingParams(_) => "missing-params",
        types::Error::InvalidParam(_) => "invalid-param",
        types::Error::InvalidFile(_) => "invalid-file",
        types::Error::Rejected(_) => "rejected",
        types::Error::Other(_) => "other",
    }
}

/// Returns whether a function may return an error. The contract has one type for all
/// functions; an error about a prompt from `push` would be shown as one of the user.
fn may_return(function: &str, error: &types::Error) -> bool {
    match error {
        types::Error::UnknownPrompt(_) => function == "resolve",
        types::Error::UnknownProcessor(_) => function == "open",
        types::Error::MissingParams(_) => ["resolve", "open"].contains(&function),
        types::Error::Rejected(_) => ["push", "finish"].contains(&function),
        types::Error::InvalidParam(_) | types::Error::InvalidFile(_) | types::Error::Other(_) => {
            true
        }
    }
}

/// Converts an error that a pack returned from a function.
pub(super) fn call_error(error: types::Error, function: &str, limit: ListLimit) -> CallError {
    if let types::Error::UnknownPrompt(list)
    | types::Error::UnknownProcessor(list)
    | types::Error::MissingParams(list) = &error
        && let Err(cause) = limit.check("names", list)
    {
        return CallError::Failure(cause);
    }
    if !may_return(function, &error) {
        let kind = error_kind(&error);
        let text = format!("returned the error `{kind}`, which {function} must not return");
        return CallError::Failure(GuestFailure::Contract(text));
    }
    let contract_error = match error {
        types::Error::UnknownPrompt(similar) => ContractError::UnknownPrompt(similar),
        types::Error::UnknownProcessor(similar) => ContractError::UnknownProcessor(similar),
        types::Error::MissingParams(names) => ContractError::MissingParams(names),
        types::Error::InvalidParam((name, reason)) => ContractError::InvalidParam { name, reason },
        types::Error::InvalidFile(error) => ContractError::InvalidFile {
            file: error.file,
            line: error.line,
            column: error.column,
            message: error.message,
        },
        types::Error::Rejected(reason) => ContractError::Rejected(reason),
        types::Error::Other((code, message)) => {
            return CallError::Failure(GuestFailure::Other { code, message });
        }
    };
    CallError::Contract(contract_error)
}

/// Maximum number of entries of a list.
#[derive(Clone, Copy)]
pub(super) struct ListLimit(pub(super) usize);

impl ListLimit {
    /// Returns an error if the list is too long. `kind` is the plural name of its entries.
    fn check<T>(self, kind: &'static str, list: &[T]) -> Result<(), GuestFailure> {
        if list.len() > self.0 {
            return Err(LimitExceeded::List {
                kind,
                len: list.len(),
                max: self.0,
            }
            .into());
        }
        Ok(())
    }
}

pub(super) fn contents(
    contents: catalog::Contents,
    limit: ListLimit,
) -> Result<PackContents, GuestFailure> {
    limit.check("prompts", &contents.prompts)?;
    limit.check("processors", &contents.processors)?;
    let params = |list: Vec<catalog::ParamInfo>| -> Result<Vec<ParamInfo>, GuestFailure> {
        limit.check("parameters", &list)?;
        Ok(list
            .into_iter()
            .map(|param| ParamInfo {
                name: param.name,
                summary: param.summary,
                required: param.required,
                default: param.default,
            })
            .collect())
    };
    let any_params = |extra: &[types::Entry]| {
        extra
            .iter()
            .any(|entry| entry.key == ANY_PARAMS && entry.value == "true")
    };
    let mut prompts = Vec::new();
    for prompt in contents.prompts {
        prompts.push(PackItemInfo {
            name: prompt.name,
            summary: prompt.summary,
            params: params(prompt.params)?,
            any_params: any_params(&prompt.extra),
        });
    }
    let mut processors = Vec::new();
    for processor in contents.processors {
        processors.push(PackItemInfo {
            name: processor.name,
            summary: processor.summary,
            params: params(processor.options)?,
            any_params: any_params(&processor.extra),
        });
    }
    Ok(PackContents {
        summary: contents.summary,
        prompts,
        processors,
    })
}

pub(super) fn resolved_prompt(
    resolved: resolver::Resolved,
    limit: ListLimit,
) -> Result<ResolvedPrompt, GuestFailure> {
    limit.check("settings", &resolved.settings)?;
    limit.check("processors", &resolved.post)?;
    limit.check("warnings", &resolved.warnings)?;
    limit.check("extra entries", &resolved.extra)?;
    let mut warnings = resolved.warnings;
    let prompt = match resolved.input {
        resolver::Input::Raw(text) => Prompt::Raw(text),
        resolver::Input::Chat(messages) => {
            limit.check("messages", &messages)?;
            if messages.is_empty() {
                return Err(GuestFailure::Contract(
                    "the resolved chat has no messages".to_owned(),
                ));
            }
            for message in &messages {
                limit.check("attachments", &message.attachments)?;
            }
            Prompt::Chat(messages.into_iter().map(message).collect())
        }
    };
    let extension = resolved.extension.and_then(|extension| {
        let allowed = ALLOWED_EXTENSIONS.contains(&extension.as_str());
        if !allowed {
            warnings.push(format!(
                "ignored the extension `{extension}`: it is not one of {}",
                ALLOWED_EXTENSIONS.join(", ")
            ));
        }
        allowed.then_some(extension)
    });
    for processor in &resolved.post {
        limit.check("options", &processor.options)?;
    }
    let processors = resolved
        .post
        .into_iter()
        .map(|processor| ProcessorRef {
            name: processor.name,
            options: pairs(processor.options),
        })
        .collect();
    let settings = settings_layer(resolved.settings, &mut warnings);
    Ok(ResolvedPrompt {
        prompt,
        settings,
        processors,
        extension,
        warnings,
        extra: pairs(resolved.extra),
        written: String::new(),
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
        attachments: message.attachments,
    }
}

/// Converts a pack's settings. If a setting occurs more than once, the last value applies;
/// stop sequences are collected.
fn settings_layer(settings: Vec<types::Setting>, warnings: &mut Vec<String>) -> SettingsLayer {
    let mut layer = SettingsLayer::default();
    let mut finite = |name: &str, value: f64| {
        if !value.is_finite() {
            warnings.push(format!(
                "ignored the prompt's {name}: the value is not a finite number"
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

pub(super) fn push_output(pushed: post_processor::Pushed) -> PushOutput {
    PushOutput {
        text: pushed.text,
        done: pushed.done,
    }
}

pub(super) fn finished_text(
    outcome: post_processor::Outcome,
    limit: ListLimit,
) -> Result<FinishedText, GuestFailure> {
    limit.check("warnings", &outcome.warnings)?;
    limit.check("extra entries", &outcome.extra)?;
    Ok(FinishedText {
        tail: outcome.tail,
        warnings: outcome.warnings,
        extra: pairs(outcome.extra),
        written: String::new(),
    })
}
