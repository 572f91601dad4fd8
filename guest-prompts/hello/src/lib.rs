//! A minimal pack: one prompt, `greet`, with one parameter, `name`.

// The exports of a component link only for WebAssembly. A build for other targets is empty.
#![cfg(target_family = "wasm")]

wit_bindgen::generate!({ world: "resolver-pack" });

use exports::lmstrix::prompts::catalog::{self, Contents, ParamInfo, PromptInfo};
use exports::lmstrix::prompts::resolver::{self, Input, Request, Resolved};
use lmstrix::prompts::types::{Error, File, Message, Role};

struct Hello;

impl catalog::Guest for Hello {
    fn describe(_files: Vec<File>) -> Result<Contents, Error> {
        let name = ParamInfo {
            name: "name".into(),
            summary: "the person to greet".into(),
            required: true,
            default: None,
            extra: vec![],
        };
        let greet = PromptInfo {
            name: "greet".into(),
            summary: "Greets a person by name".into(),
            params: vec![name],
            extra: vec![],
        };
        let summary = "A minimal pack with one prompt".into();
        Ok(Contents {
            summary,
            prompts: vec![greet],
            processors: vec![],
            extra: vec![],
        })
    }
}

impl resolver::Guest for Hello {
    fn resolve(request: Request) -> Result<Resolved, Error> {
        if request.prompt != "greet" {
            return Err(Error::UnknownPrompt(vec!["greet".into()]));
        }
        let Some(name) = request.params.iter().find(|param| param.key == "name") else {
            return Err(Error::MissingParams(vec!["name".into()]));
        };
        let content = format!(
            "Repeat the greeting.\n\nHello, {}, and welcome to the pack! It was written in an hour.",
            name.value
        );
        let message = Message {
            role: Role::User,
            content,
            attachments: vec![],
            extra: vec![],
        };
        let input = Input::Chat(vec![message]);
        Ok(Resolved {
            input,
            settings: vec![],
            post: vec![],
            extension: None,
            warnings: vec![],
            extra: vec![],
        })
    }
}

export!(Hello);
