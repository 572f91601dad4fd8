//! `pack update`: gets packs from their sources again.

use lmstrix_distribution::{Error, Fetched, LockedFolder, PackState, Replace, Source};
use lmstrix_sandbox::LockedPack;

use super::Setup;
use super::transfer::{Transfer, packs_folder};
use crate::args::PackUpdateArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `pack update`.
///
/// # Errors
/// Returns the first error; the other packs are updated.
pub(super) async fn update(args: PackUpdateArgs, env: &Env) -> Result<Exit, Failure> {
    let setup = Setup::new(&args.common, env)?;
    let transfer = Transfer::new(setup, args.registry, env);
    let mut folder = transfer.open(&packs_folder(args.pack_dir.clone(), env))?;
    let packs = wanted(&folder, &args)?;
    let mut first_failure = None;
    for pack in packs {
        if let Err(failure) = update_one(&transfer, &mut folder, &pack, &args).await {
            transfer.messages().warning(&failure.message);
            first_failure.get_or_insert(failure);
        }
    }
    match first_failure {
        None => Ok(Exit::Done),
        Some(failure) => Err(failure),
    }
}

/// Returns the locked packs that were named, or all that have a source.
fn wanted(folder: &LockedFolder, args: &PackUpdateArgs) -> Result<Vec<LockedPack>, Failure> {
    let lock_file = folder.lock_file();
    if args.packs.is_empty() {
        let with_source = lock_file.packs().iter();
        let with_source = with_source.filter(|pack| pack.source.is_some());
        return Ok(with_source.cloned().collect());
    }
    let packs = args.packs.iter().map(|name| {
        let locked = lock_file.get(name).cloned();
        locked.ok_or_else(|| {
            Failure::from(Error::NotLocked {
                name: name.clone(),
                lock_file: lmstrix_sandbox::LockFile::path(folder.path()),
            })
        })
    });
    packs.collect()
}

async fn update_one(
    transfer: &Transfer,
    folder: &mut LockedFolder,
    locked: &LockedPack,
    args: &PackUpdateArgs,
) -> Result<(), Failure> {
    let name = &locked.name;
    let Some(source) = &locked.source else {
        return Err(Failure::usage(format!("pack `{name}` has no source"))
            .hint("it was put into the folder by hand; to record it as it is: pack lock"));
    };
    let states = folder.states(std::slice::from_ref(name))?;
    if args.locked && states.get(name) == Some(&PackState::Same) {
        return Ok(());
    }
    let source = Source::of_lock_file(source, folder.path())?;
    let address = match (&source, &locked.manifest) {
        (Source::Oci(reference), Some(manifest)) if args.locked => {
            Source::Oci(reference.with_digest(manifest))
        }
        (other, _) => other.clone(),
    };
    let mut fetched = transfer.fetch(&address).await?;
    let Some(pack) = fetched.pop() else {
        return Err(Error::EmptyFolder(address.to_string().into()).into());
    };
    let files = pack.files.renamed(name).map_err(Error::from)?;
    let actual = files.digests().of_pack();
    if args.locked && actual != locked.digest {
        return Err(Error::SourceChanged {
            name: name.clone(),
            address: address.to_string(),
            locked: locked.digest.clone(),
            actual,
        }
        .into());
    }
    let pack = Fetched {
        files,
        // The source stays as it was, without the digest.
        source,
        ..pack
    };
    let replace = match args.force {
        true => Replace::Always,
        false => Replace::Unchanged,
    };
    transfer.put(folder, pack, replace).await?;
    Ok(())
}
