//! A pack that translates with a list of terms. The file `glossary.csv` has the columns `term`
//! and `translation`.

use lmstrix_pack::{
    Catalog, Context, Error, File, Outcome, ParamInfo, Processor, ProcessorInfo, PromptInfo,
    Pushed, Request, Resolved, Setting, Stop,
};
use serde::Deserialize;

lmstrix_pack::export!(pack());

/// The name of the file with the terms.
pub const FILE: &str = "glossary.csv";

/// Returns the prompt and the processor of the pack.
pub fn pack() -> Catalog {
    let translate_info = PromptInfo::new("translate", "Translates a text with a list of terms")
        .param(ParamInfo::required("text", "the text to translate"))
        .param(ParamInfo::with_default("to", "the language", "German"));
    let terms_info = ProcessorInfo::new(
        "terms",
        "Rejects a translation in which a term of the list is missing",
    );
    Catalog::new("Translations that keep to a list of terms")
        .prompt(translate_info, translate)
        .processor(terms_info, Terms::open)
}

/// A row of the file.
#[derive(Debug, Deserialize)]
struct Term {
    term: String,
    translation: String,
}

/// Returns the terms of the file that occur in a text.
fn terms_in(text: &str, file: &File) -> Result<Vec<Term>, Error> {
    let text = text.to_lowercase();
    let mut terms: Vec<Term> = file.csv()?;
    terms.retain(|term| text.contains(&term.term.to_lowercase()));
    Ok(terms)
}

/// Returns the messages of the prompt `translate`.
fn translate(request: &Request) -> Result<Resolved, Error> {
    let (text, to) = (request.param("text")?, request.param("to")?);
    let terms = terms_in(text, request.file(FILE)?)?;
    let mut system = format!("Translate the text into {to}. Answer with the translation only.");
    if !terms.is_empty() {
        system.push_str("\n\nUse these translations:");
    }
    for Term { term, translation } in &terms {
        system.push_str(&format!("\n- {term}: {translation}"));
    }
    let resolved = Resolved::user(text).system(system);
    Ok(resolved
        .setting(Setting::Temperature(0.2))
        .post("terms", &[]))
}

/// The processor `terms`. It passes the answer on and checks it at its end.
struct Terms {
    expected: Vec<Term>,
    answer: String,
}

impl Terms {
    fn open(context: &Context) -> Result<Self, Error> {
        let text = context.optional_param("text").unwrap_or_default();
        Ok(Self {
            expected: terms_in(text, context.file(FILE)?)?,
            answer: String::new(),
        })
    }
}

impl Processor for Terms {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        self.answer.push_str(chunk);
        Ok(chunk.to_owned().into())
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let answer = self.answer.to_lowercase();
        let is_missing = |term: &&Term| !answer.contains(&term.translation.to_lowercase());
        match self.expected.iter().find(is_missing) {
            None => Ok(Outcome::default()),
            Some(Term { term, translation }) => Err(Error::rejected(format!(
                "the translation of `{term}` must be `{translation}`, which the answer does not have"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use lmstrix_pack::testing::{context, process};
    use lmstrix_pack::{Entry, FileError};

    use super::*;

    fn context_of(table: &str) -> Context {
        Context {
            params: vec![Entry::new("text", "The Kernel reads a glyph.")],
            files: vec![File {
                name: FILE.into(),
                text: table.into(),
            }],
            ..context("terms", &[])
        }
    }

    const TABLE: &str = "term,translation\nkernel,Kern\nglyph,Glyphe\nfont,Schrift\n";

    #[test]
    fn an_answer_must_have_the_terms_of_the_text() {
        let answer = "Der Kern liest eine Glyphe.";
        let output = process(&pack(), &context_of(TABLE), answer).unwrap();
        assert_eq!(output.text, answer);
        let rejected = process(&pack(), &context_of(TABLE), "Der Kern liest ein Zeichen.");
        let Err(Error::Rejected(reason)) = rejected else {
            panic!("{rejected:?}");
        };
        assert!(reason.contains("`glyph` must be `Glyphe`"), "{reason}");
    }

    #[test]
    fn a_wrong_row_is_reported_with_its_line() {
        let opened = Terms::open(&context_of("term,translation\nkernel\n"));
        let Err(Error::InvalidFile(FileError { line, .. })) = opened.map(|_| ()) else {
            panic!("accepted");
        };
        assert_eq!(line, Some(2));
    }
}
