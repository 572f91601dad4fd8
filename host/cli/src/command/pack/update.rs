//! `pack update`: gets packs from their sources again.

use lmstrix_distribution::{Error, Fetched, LockedFolder, PackState, Replace, Source};
use lmstrix_sandbox::{LockFile, LockedPack};

use super::Setup;
use super::failures::Failures;
use super::transfer::{Transfer, packs_folder};
use crate::args::PackUpdateArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `pack update`.
///
/// # Errors
/// Returns the failures of packs; the other packs are updated.
pub(super) async fn update(args: PackUpdateArgs, env: &Env) -> Result<Exit, Failure> {
    let setup = Setup::new(&args.common, env)?;
    let transfer = Transfer::new(setup, args.registry, env);
    let mut folder = transfer.open(&packs_folder(args.pack_dir.clone(), env))?;
    let packs = wanted(&folder, &args)?;
    if packs.is_empty() {
        transfer.messages().status(&format!(
            "no packs with a source in {}",
            LockFile::path(folder.path()).display()
        ));
    }
    let mut failures = Failures::default();
    for pack in packs {
        if let Err(failure) = update_one(&transfer, &mut folder, &pack, &args).await {
            failures.push(failure);
        }
    }
    failures.into_result()
}

/// Returns the locked packs that were named, or all that have a source; with `--locked`, all.
fn wanted(folder: &LockedFolder, args: &PackUpdateArgs) -> Result<Vec<LockedPack>, Failure> {
    let lock_file = folder.lock_file();
    if args.packs.is_empty() {
        let with_source = lock_file.packs().iter();
        let with_source = with_source.filter(|pack| pack.source.is_some() || args.locked);
        return Ok(with_source.cloned().collect());
    }
    let packs = args.packs.iter().map(|name| {
        let locked = lock_file.get(name).cloned();
        locked.ok_or_else(|| {
            Failure::from(Error::NotLocked {
                name: name.clone(),
                lock_file: LockFile::path(folder.path()),
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
    let states = folder.states(std::slice::from_ref(name))?;
    if args.locked && states.get(name) == Some(&PackState::Same) {
        transfer.messages().status(&format!("{name} is as locked"));
        return Ok(());
    }
    let Some(source) = &locked.source else {
        return Err(
            Failure::usage(format!("pack `{name}` has no source in packs.lock")).hint(format!(
                "to record a source: lmstrix-host pack add SOURCE --name {name} --force --pack-dir {}",
                folder.path().display()
            )),
        );
    };
    let source = Source::of_lock_file(source, folder.path())?;
    let address = match (&source, &locked.manifest) {
        (Source::Oci(reference), Some(manifest)) if args.locked => {
            Source::Oci(reference.with_digest(manifest))
        }
        (other, _) => other.clone(),
    };
    if let Source::Path(path) = &address
        && path.is_dir()
    {
        return Err(Failure::usage(format!(
            "the source of pack `{name}`, `{}`, is a folder now",
            path.display()
        )));
    }
    let fetched = transfer.fetch(&address, Some(name)).await?;
    let Some(pack) = fetched.into_iter().next() else {
        return Ok(());
    };
    let pack = pack?;
    let actual = pack.files.digests().of_pack();
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
