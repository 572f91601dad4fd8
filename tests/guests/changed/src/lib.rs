//! A pack with an additional field in a record of the frozen contract. All names are right,
//! so only a trial instantiation detects it.

// The exports of a component link only for WebAssembly. A build for other targets is empty.
#![cfg(target_family = "wasm")]

wit_bindgen::generate!({
    inline: r#"
        package lmstrix:prompts@0.1.0;
        interface types {
            record entry { key: string, value: string }
            record file { name: string, text: string }
            record file-error { file: string, line: option<u32>, column: option<u32>, message: string }
            variant error {
                unknown-prompt(list<string>),
                unknown-processor(list<string>),
                missing-params(list<string>),
                invalid-param(tuple<string, string>),
                invalid-file(file-error),
                rejected(string),
                other(tuple<string, string>),
            }
        }
        interface catalog {
            use types.{entry, error, file};
            record param-info { name: string, summary: string, required: bool, default: option<string>, extra: list<entry> }
            record prompt-info { name: string, summary: string, params: list<param-info>, extra: list<entry> }
            record processor-info { name: string, summary: string, options: list<param-info>, extra: list<entry> }
            record contents {
                summary: string,
                prompts: list<prompt-info>,
                processors: list<processor-info>,
                extra: list<entry>,
                colour: string,
            }
            describe: func(files: list<file>) -> result<contents, error>;
        }
        world base { export catalog; }
    "#,
});

use exports::lmstrix::prompts::catalog::{Contents, Error, File, Guest};

struct Changed;

impl Guest for Changed {
    fn describe(_files: Vec<File>) -> Result<Contents, Error> {
        Ok(Contents {
            summary: String::new(),
            prompts: vec![],
            processors: vec![],
            extra: vec![],
            colour: "blue".into(),
        })
    }
}

export!(Changed);
