//! A minimal pack: one prompt, `greet`, with one parameter, `name`.

use lmstrix_pack::{Catalog, Error, ParamInfo, PromptInfo, Request, Resolved};

lmstrix_pack::export!(pack());

/// Returns the prompts of the pack.
pub fn pack() -> Catalog {
    let greet_info = PromptInfo::new("greet", "Greets a person by name")
        .param(ParamInfo::required("name", "the person to greet"));
    Catalog::new("A minimal pack with one prompt").prompt(greet_info, greet)
}

fn greet(request: &Request) -> Result<Resolved, Error> {
    let name = request.param("name")?;
    Ok(Resolved::user(format!(
        "Repeat the greeting.\n\nHello, {name}, and welcome to the pack! It was written in an hour."
    )))
}
