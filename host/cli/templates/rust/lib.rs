//! The prompt pack `{{name}}`.

use lmstrix_pack::{Catalog, Error};
{{#resolver}}
use lmstrix_pack::{ParamInfo, PromptInfo, Request, Resolved};
{{/resolver}}
{{#processor}}
use lmstrix_pack::{Processor, ProcessorInfo, Pushed};
{{/processor}}

lmstrix_pack::export!(pack());

fn pack() -> Catalog {
{{#resolver}}
    let greet_info = PromptInfo::new("greet", "Greets a person")
        .param(ParamInfo::required("name", "the person to greet"))
        .param(ParamInfo::with_default(
            "style",
            "the style of the greeting",
            "friendly",
        ));
{{/resolver}}
{{#processor}}
    let upper_info = ProcessorInfo::new("upper", "Converts the answer to upper case");
{{/processor}}
    Catalog::new("{{summary}}")
{{#resolver}}
        .prompt(greet_info, greet)
{{/resolver}}
{{#processor}}
        .processor(upper_info, |_| Ok(Upper))
{{/processor}}
}
{{#resolver}}

/// Returns the messages of the prompt `greet`.
fn greet(request: &Request) -> Result<Resolved, Error> {
    let (name, style) = (request.param("name")?, request.param("style")?);
    Ok(Resolved::user(format!(
        "Write a {style} greeting for {name}."
    )))
}
{{/resolver}}
{{#processor}}

/// The processor `upper`.
struct Upper;

impl Processor for Upper {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        Ok(chunk.to_uppercase().into())
    }
}

#[cfg(test)]
mod tests {
    use lmstrix_pack::testing::{context, process};

    #[test]
    fn upper_converts_all_letters() {
        let output = process(&super::pack(), &context("upper", &[]), "Grüße").unwrap();
        assert_eq!(output.text, "GRÜSSE");
    }
}
{{/processor}}
