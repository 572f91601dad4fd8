//! `pack import`: makes a prompt file of the prompts of another program.

use std::path::Path;

use lmstrix::store::AtomicFile;
use lmstrix_import::{Imported, import as convert};

use crate::args::PackImportArgs;
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `pack import`. Changes and losses are reported on stderr.
///
/// # Errors
/// Returns an error if the source cannot be read, if no prompt can be converted, if the file
/// exists, or if it cannot be written.
pub(super) fn import(args: &PackImportArgs, env: &Env) -> Result<Exit, Failure> {
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let output = args.output.as_deref();
    if let Some(path) = output.filter(|path| !args.force && path.exists()) {
        return Err(Failure::usage(format!("`{}` exists", path.display()))
            .hint("use --force to replace it"));
    }
    if let Some(folder) = output.and_then(Path::parent)
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        let folder = folder.display();
        return Err(Failure::usage(format!("`{folder}` is not a folder"))
            .hint(format!("to create it: mkdir -p {folder}")));
    }
    let imported = convert(args.format, &args.source);
    let Imported {
        toml,
        prompts,
        notes,
    } = imported.map_err(|error| Failure::usage(error.to_string()))?;
    for note in &notes {
        messages.warning(&note.to_string());
    }
    let skipped = notes.iter().filter(|note| note.is_skipped()).count();
    let Some(first) = prompts.first() else {
        return Err(Failure::usage(format!(
            "no prompt of `{}` can be converted",
            args.source.display()
        )));
    };
    match output {
        None => print(&toml)?,
        Some(path) => AtomicFile::replace(path, toml.as_bytes())
            .map_err(|error| Failure::new(Exit::Broken, error.to_string()))?,
    }
    messages.status(&format!(
        "{} of {} prompts converted",
        prompts.len(),
        prompts.len() + skipped
    ));
    if let Some(path) = output {
        messages.hint(&command(path, first));
    }
    Ok(Exit::Done)
}

/// Returns a command that uses a prompt of the file.
fn command(path: &Path, prompt: &str) -> String {
    format!(
        "lmstrix-host infer {prompt} --prompts '{}' --text-file FILE",
        path.display()
    )
}
