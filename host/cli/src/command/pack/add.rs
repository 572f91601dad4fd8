//! `pack add` and `pack pull`: add packs to a packs folder.

use lmstrix_distribution::{Error, Fetched, Replace, Source};

use super::Setup;
use super::transfer::{Transfer, packs_folder};
use crate::args::{PackAddArgs, PackCopyArgs, PackPullArgs};
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};

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
    let packs = transfer.fetch(source).await?;
    if let [_, _, ..] = packs.as_slice()
        && (args.name.is_some() || args.digest.is_some())
    {
        return Err(Failure::usage(format!(
            "`{source}` has {} packs, and --name and --digest are for one",
            packs.len()
        ))
        .hint("add one of its files"));
    }
    let replace = match args.force {
        true => Replace::Always,
        false => Replace::Never,
    };
    let folder = packs_folder(args.pack_dir.clone(), env);
    let mut folder = transfer.open(&folder)?;
    let mut failures = Vec::new();
    for pack in packs {
        let added = async {
            let pack = prepare(pack, &args)?;
            let name = pack.files.name.clone();
            transfer.put(&mut folder, pack, replace).await?;
            Ok::<_, Failure>(name)
        };
        match added.await {
            Ok(name) => {
                print(&format!("{name}\n"))?;
                // A pack of the same name may come first.
                if let Ok(found) = searched.find(&name)
                    && found
                        .shadowed
                        .iter()
                        .any(|path| path.starts_with(folder.path()))
                {
                    transfer.messages().warning(&format!(
                        "`{name}` still means {}, whose folder comes first",
                        found.path.display()
                    ));
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    // One pack that cannot be added does not keep the others from it.
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return Ok(Exit::Done);
    };
    Err(failures.fold(first, |mut all, failure| {
        all.message = format!("{}\n{}", all.message, failure.message);
        all
    }))
}

/// Gives a pack the name of the flag, and checks its digest.
fn prepare(pack: Fetched, args: &PackCopyArgs) -> Result<Fetched, Failure> {
    let actual = pack.files.digests().of_pack();
    if let Some(expected) = &args.digest
        && actual != *expected
    {
        return Err(Error::WrongDigest {
            address: format!("`{}`", pack.source),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
        .into());
    }
    let files = match &args.name {
        Some(name) => pack.files.renamed(name).map_err(Error::from)?,
        None => pack.files,
    };
    Ok(Fetched { files, ..pack })
}
