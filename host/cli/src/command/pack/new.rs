//! `pack new`: writes the project of a new pack.

mod template;

use std::path::Path;

use fs_err as fs;
use lmstrix_sandbox::{CONTRACT, RESERVED_NAMES, check_name};

use crate::args::PackNewArgs;
use crate::command::models::print;
use crate::error::{Exit, Failure};
use template::Template;

/// Runs `pack new`.
///
/// # Errors
/// Returns an error if the name is invalid, if the folder exists, or if it cannot be written.
pub(super) fn new(args: &PackNewArgs) -> Result<Exit, Failure> {
    let name = args.name.as_str();
    check_name(name)?;
    if RESERVED_NAMES.contains(&name) {
        return Err(Failure::usage(format!("the name `{name}` is reserved")));
    }
    let folder = Path::new(name);
    let failed = |error: std::io::Error| {
        let failure = Failure::usage(error.to_string());
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                failure.hint("choose another name, or run the command in another folder")
            }
            _ => failure,
        }
    };
    fs::create_dir(folder).map_err(failed)?;
    let template = Template::new(name, args.kind);
    let (templates, sdk) = template::files(args.lang);
    let cases = format!("{name}.test.toml");
    let expanded = templates
        .iter()
        .chain([&(cases.as_str(), template::CASES)])
        .map(|(path, text)| (*path, template.expand(text)))
        .collect::<Vec<_>>();
    let copied = sdk.iter().chain([&("wit/prompts.wit", CONTRACT)]);
    let expanded = expanded.iter().map(|(path, text)| (*path, text.as_str()));
    for (path, text) in expanded.chain(copied.copied()) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(path, text).map_err(failed)?;
    }
    print(&format!(
        "created {name}: {name}/README.md has the commands to build, test and use it\n"
    ))?;
    Ok(Exit::Done)
}
