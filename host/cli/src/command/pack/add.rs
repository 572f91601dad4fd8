//! `pack add` and `pack pull`: add packs to a packs folder.

use std::path::Path;

use lmstrix_distribution::{Error, Fetched, LockedFolder, OciReference, Replace, Source};
use lmstrix_sandbox::{Digest, PackFolders};

use super::Setup;
use super::failures::Failures;
use super::transfer::{Transfer, packs_folder};
use crate::args::{PackAddArgs, PackCopyArgs, PackPullArgs};
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `pack pull`.
///
/// # Errors
/// Returns an error as [`add`] does.
pub(super) async fn pull(args: PackPullArgs, env: &Env) -> Result<Exit, Failure> {
    let reference = args.reference.strip_prefix("oci://");
    let reference = reference.unwrap_or(&args.reference);
    let source = Source::Oci(reference.parse()?);
    add_from(&source, args.add, env).await
}

/// Runs `pack add`.
///
/// # Errors
/// Returns an error if a pack cannot be read, verified or loaded, if another pack has its name,
/// or if it cannot be written. Nothing of that pack is written then.
pub(super) async fn add(args: PackAddArgs, env: &Env) -> Result<Exit, Failure> {
    add_from(&args.source, args.add, env).await
}

async fn add_from(source: &Source, args: PackCopyArgs, env: &Env) -> Result<Exit, Failure> {
    let setup = Setup::new(&args.common, env)?;
    let searched = setup.source.folders.clone();
    let transfer = Transfer::new(setup, args.registry, env);
    let is_folder = matches!(source, Source::Path(path) if path.is_dir());
    if is_folder && (args.name.is_some() || args.digest.is_some()) {
        return Err(Failure::usage(format!(
            "`{source}` is a folder, and --name and --digest are for one pack"
        ))
        .hint("add one of its files"));
    }
    let packs = transfer.fetch(source, args.name.as_deref()).await;
    let packs = packs.map_err(|failure| with_source_hint(failure, source))?;
    let replace = match args.force {
        true => Replace::Always,
        false => Replace::Never,
    };
    let mut folder = transfer.create(&packs_folder(args.pack_dir.clone(), env))?;
    let mut failures = Failures::default();
    for pack in packs {
        let added = async {
            let pack = pack?;
            check_digest(&pack, args.digest.as_ref())?;
            let name = pack.files.name.clone();
            transfer.put(&mut folder, pack, replace).await?;
            Ok::<_, Failure>(name)
        };
        match added.await {
            Ok(name) => {
                print(&format!("{name}\n"))?;
                warn_if_hidden(&name, &folder, &searched, transfer.messages());
            }
            // One pack that cannot be added does not keep the others from it.
            Err(failure) => failures.push(failure),
        }
    }
    failures.into_result()
}

/// Adds a hint to the failure of a source that looks like a reference.
fn with_source_hint(failure: Failure, source: &Source) -> Failure {
    match source {
        Source::Path(path) if !path.exists() && is_reference(path) => failure.hint(format!(
            "an artifact in a registry is oci://{}",
            path.display()
        )),
        _ => failure,
    }
}

fn is_reference(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| text.parse::<OciReference>().is_ok())
}

/// Warns if another pack of the same name is used, whose folder comes first.
fn warn_if_hidden(name: &str, folder: &LockedFolder, searched: &PackFolders, messages: Messages) {
    if let Ok(found) = searched.find(name)
        && found
            .shadowed
            .iter()
            .any(|path| path.starts_with(folder.path()))
    {
        messages.warning(&format!(
            "`{name}` is not used: {} has the same name and comes first",
            found.path.display()
        ));
    }
}

/// Checks the digest of a pack.
fn check_digest(pack: &Fetched, expected: Option<&Digest>) -> Result<(), Error> {
    let actual = pack.files.digests().of_pack();
    match expected.filter(|expected| actual != **expected) {
        None => Ok(()),
        Some(expected) => Err(Error::WrongDigest {
            address: format!("`{}`", pack.source),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }),
    }
}
