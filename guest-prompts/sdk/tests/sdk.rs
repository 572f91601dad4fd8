//! The SDK as a pack uses it.

use lmstrix_pack::testing::{context, process};
use lmstrix_pack::{
    Catalog, Context, Error, File, FileError, LineBuffer, Outcome, Pack, ParamInfo, Processor,
    ProcessorInfo, PromptInfo, Pushed, Request, Resolved, Stop,
};

fn pack() -> Catalog {
    Catalog::new("Tests")
        .prompt(
            PromptInfo::new("greet", "Greets")
                .param(ParamInfo::required("name", "the person"))
                .param(ParamInfo::with_default("style", "the style", "kind")),
            |request| Ok(Resolved::user(request.param("name")?).system("Be kind.")),
        )
        .processor(ProcessorInfo::new("number", "Numbers lines"), |_| {
            Ok(Number::default())
        })
        .processor(ProcessorInfo::new("chunks", "Depends on chunks"), |_| {
            Ok(Chunks)
        })
        .processor(
            ProcessorInfo::new("short", "Rejects"),
            |context: &Context| {
                let limit = context.option("limit")?;
                let invalid = |_| Error::invalid_param("limit", "must be a number");
                Ok(Short(limit.parse().map_err(invalid)?))
            },
        )
}

#[derive(Default)]
struct Number {
    lines: LineBuffer,
    count: usize,
}

impl Number {
    fn numbered(&mut self, line: &str) -> String {
        self.count += 1;
        format!("{}: {line}", self.count)
    }
}

impl Processor for Number {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let lines = self.lines.push(chunk);
        let text: String = lines.iter().map(|line| self.numbered(line)).collect();
        Ok(text.into())
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let last = self.lines.finish();
        Ok(match last.is_empty() {
            true => Outcome::default().warning("no last line"),
            false => Outcome::tail(self.numbered(&last)),
        })
    }
}

struct Chunks;

impl Processor for Chunks {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        Ok(format!("{chunk}|").into())
    }
}

struct Short(usize);

impl Processor for Short {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        self.0 = self
            .0
            .checked_sub(chunk.len())
            .ok_or_else(|| Error::rejected("too long"))?;
        Ok(chunk.to_owned().into())
    }
}

#[test]
fn a_catalog_calls_the_function_of_a_prompt() {
    let request = |prompt: &str, params: &[(&str, &str)]| Request {
        prompt: prompt.to_owned(),
        params: context("", params).options,
        ..Request::default()
    };
    let resolved = pack().resolve(&request("greet", &[("name", "Ada")]));
    assert_eq!(resolved, Ok(Resolved::user("Ada").system("Be kind.")));
    assert_eq!(
        pack().resolve(&request("gret", &[])),
        Err(Error::UnknownPrompt(vec!["greet".into()]))
    );
    assert_eq!(
        pack().resolve(&request("greet", &[])),
        Err(Error::MissingParams(vec!["name".into()]))
    );
    let contents = pack().describe(&[]).unwrap();
    assert_eq!(
        contents.prompts[0].params[1].default.as_deref(),
        Some("kind")
    );
    assert_eq!(contents.processors.len(), 3);
}

#[test]
fn a_processor_runs_natively() {
    let output = process(&pack(), &context("number", &[]), "a\nbé").unwrap();
    assert_eq!(
        (output.text.as_str(), output.warnings.len()),
        ("1: a\n2: bé", 0)
    );
    let output = process(&pack(), &context("number", &[]), "a\n").unwrap();
    assert_eq!((output.text.as_str(), output.warnings.len()), ("1: a\n", 1));

    for (processor, options, expected) in [
        ("short", &[("limit", "1")][..], Error::rejected("too long")),
        (
            "short",
            &[],
            Error::invalid_param("limit", "this option is required"),
        ),
        ("shrt", &[], Error::UnknownProcessor(vec!["short".into()])),
    ] {
        let result = process(&pack(), &context(processor, options), "ab");
        assert_eq!(result, Err(expected), "{processor} {options:?}");
    }
}

#[test]
#[should_panic(expected = "the output depends on the chunks")]
fn a_processor_that_depends_on_the_chunks_is_found() {
    let _ = process(&pack(), &context("chunks", &[]), "ab");
}

#[cfg(all(feature = "csv", feature = "toml"))]
#[test]
fn side_files_are_read_with_the_place_of_an_error() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        term: String,
        count: u32,
    }
    let file = |text: &str| File {
        name: "f".into(),
        text: text.into(),
    };
    let row = Row {
        term: "a, b".into(),
        count: 1,
    };
    assert_eq!(
        file("\u{feff}term,count\n\"a, b\",1\n").csv::<Row>(),
        Ok(vec![row])
    );
    let place = |error: Error| match error {
        Error::InvalidFile(FileError { line, column, .. }) => (line, column),
        other => panic!("{other:?}"),
    };
    for (text, expected) in [
        ("term,count\na,1\nb,x\n", (Some(3), None)),
        ("term,count\na\n", (Some(2), None)),
        ("term\na\n", (Some(2), None)),
    ] {
        let error = file(text).csv::<Row>().unwrap_err();
        assert_eq!(place(error), expected, "{text:?}");
    }
    for (text, expected) in [
        ("term = 'é' x", (Some(1), Some(12))),
        ("term = 'a'\ncount = 'x'", (Some(2), Some(9))),
    ] {
        let error = file(text).toml::<Row>().unwrap_err();
        assert_eq!(place(error), expected, "{text:?}");
    }

    let request = Request {
        files: vec![file("")],
        ..Request::default()
    };
    assert!(request.file("f").is_ok());
    assert_eq!(place(request.file("g").unwrap_err()), (None, None));
}
