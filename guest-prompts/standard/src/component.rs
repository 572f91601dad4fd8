//! The exports of the component. Converts between the generated types of the contract and
//! those of [`types`], and contains no other logic.

use std::cell::RefCell;

use bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use bindings::lmstrix::prompts::types as wit;

use crate::describe::{self, PromptInfo};
use crate::processor::{self, OptionInfo, ProcessorKind};
use crate::{resolve, types};

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; wit/prompts.wit documents it"
)]
mod bindings {
    wit_bindgen::generate!({ world: "pack" });

    export!(Pack with_types_in self);

    use super::Pack;
}

struct Pack;

impl catalog::Guest for Pack {
    fn describe(files: Vec<wit::File>) -> Result<catalog::Contents, wit::Error> {
        let (prompts, processors) = describe::describe(&map(files)).map_err(error)?;
        Ok(catalog::Contents {
            summary: describe::SUMMARY.to_owned(),
            prompts: map(prompts),
            processors: processors.iter().map(processor_info).collect(),
            extra: Vec::new(),
        })
    }
}

impl resolver::Guest for Pack {
    fn resolve(request: resolver::Request) -> Result<resolver::Resolved, wit::Error> {
        let resolved = resolve::resolve(&types::ResolveRequest {
            prompt: request.prompt,
            params: map(request.params),
            files: map(request.files),
            extra: map(request.extra),
        })
        .map_err(error)?;
        let system = resolved.system.map(|text| message(wit::Role::System, text));
        let user = message(wit::Role::User, resolved.user);
        Ok(resolver::Resolved {
            input: resolver::Input::Chat(system.into_iter().chain([user]).collect()),
            settings: resolved.settings.into_iter().map(setting).collect(),
            post: map(resolved.processors),
            extension: resolved.extension,
            warnings: resolved.warnings,
            extra: Vec::new(),
        })
    }
}

impl post_processor::Guest for Pack {
    type Processor = OpenProcessor;
}

/// An open processor. The `RefCell` is needed because the methods of a resource take a
/// shared reference.
struct OpenProcessor(RefCell<Box<dyn processor::Processor>>);

impl post_processor::GuestProcessor for OpenProcessor {
    fn open(context: post_processor::Context) -> Result<post_processor::Processor, wit::Error> {
        let options: Vec<types::Entry> = map(context.options);
        let processor = processor::open(&context.processor, &options).map_err(error)?;
        Ok(post_processor::Processor::new(Self(RefCell::new(
            processor,
        ))))
    }

    fn push(&self, chunk: String) -> Result<post_processor::Pushed, wit::Error> {
        let pushed = self.0.borrow_mut().push(&chunk).map_err(error)?;
        Ok(post_processor::Pushed {
            text: pushed.text,
            done: pushed.done,
        })
    }

    fn finish(&self, reason: post_processor::Stop) -> Result<post_processor::Outcome, wit::Error> {
        let stop = match reason {
            post_processor::Stop::End | post_processor::Stop::Enough => types::StopReason::Complete,
            _ => types::StopReason::Truncated,
        };
        let finished = self.0.borrow_mut().finish(stop).map_err(error)?;
        Ok(post_processor::Outcome {
            tail: finished.tail,
            warnings: finished.warnings,
            extra: Vec::new(),
        })
    }
}

fn map<A, B: From<A>>(values: Vec<A>) -> Vec<B> {
    values.into_iter().map(B::from).collect()
}

impl From<wit::Entry> for types::Entry {
    fn from(entry: wit::Entry) -> Self {
        Self::new(entry.key, entry.value)
    }
}

impl From<types::Entry> for wit::Entry {
    fn from(entry: types::Entry) -> Self {
        Self {
            key: entry.key,
            value: entry.value,
        }
    }
}

impl From<wit::File> for types::File {
    fn from(file: wit::File) -> Self {
        Self {
            name: file.name,
            text: file.text,
        }
    }
}

impl From<types::ProcessorRef> for wit::ProcessorRef {
    fn from(processor: types::ProcessorRef) -> Self {
        Self {
            name: processor.name,
            options: map(processor.options),
        }
    }
}

impl From<PromptInfo> for catalog::PromptInfo {
    fn from(prompt: PromptInfo) -> Self {
        let params = prompt.params.into_iter().map(|param| catalog::ParamInfo {
            name: param.name,
            summary: String::new(),
            required: param.default.is_none(),
            default: param.default,
            extra: Vec::new(),
        });
        Self {
            name: prompt.name,
            summary: prompt.summary,
            params: params.collect(),
            extra: map(prompt.extra),
        }
    }
}

fn processor_info(kind: &ProcessorKind) -> catalog::ProcessorInfo {
    let option = |option: &OptionInfo| catalog::ParamInfo {
        name: option.name.to_owned(),
        summary: option.summary.to_owned(),
        required: option.required,
        default: option.default.map(str::to_owned),
        extra: Vec::new(),
    };
    catalog::ProcessorInfo {
        name: kind.name.to_owned(),
        summary: kind.summary.to_owned(),
        options: kind.options.iter().map(option).collect(),
        extra: Vec::new(),
    }
}

fn message(role: wit::Role, content: String) -> wit::Message {
    wit::Message {
        role,
        content,
        attachments: Vec::new(),
        extra: Vec::new(),
    }
}

fn setting(setting: types::Setting) -> wit::Setting {
    match setting {
        types::Setting::Temperature(value) => wit::Setting::Temperature(value),
        types::Setting::TopK(value) => wit::Setting::TopK(value),
        types::Setting::TopP(value) => wit::Setting::TopP(value),
        types::Setting::MinP(value) => wit::Setting::MinP(value),
        types::Setting::RepeatPenalty(value) => wit::Setting::RepeatPenalty(value),
        types::Setting::PresencePenalty(value) => wit::Setting::PresencePenalty(value),
        types::Setting::FrequencyPenalty(value) => wit::Setting::FrequencyPenalty(value),
        types::Setting::Seed(value) => wit::Setting::Seed(value),
        types::Setting::MaxTokens(value) => wit::Setting::MaxTokens(value),
        types::Setting::Stop(text) => wit::Setting::Stop(text),
        types::Setting::JsonSchema(text) => wit::Setting::JsonSchema(text),
        types::Setting::Reasoning(text) => wit::Setting::Reasoning(text),
        types::Setting::Other(entry) => wit::Setting::Other(entry.into()),
    }
}

fn error(error: types::Error) -> wit::Error {
    match error {
        types::Error::UnknownPrompt(similar) => wit::Error::UnknownPrompt(similar),
        types::Error::UnknownProcessor(similar) => wit::Error::UnknownProcessor(similar),
        types::Error::MissingParams(names) => wit::Error::MissingParams(names),
        types::Error::InvalidParam(name, message) => wit::Error::InvalidParam((name, message)),
        types::Error::InvalidFile(error) => wit::Error::InvalidFile(wit::FileError {
            file: error.file,
            line: error.line,
            column: error.column,
            message: error.message,
        }),
        types::Error::Rejected(reason) => wit::Error::Rejected(reason),
    }
}
