//! `pack push`: copies a pack to an OCI registry.

use lmstrix_distribution::{OciReference, Registry};
use lmstrix_sandbox::PackFiles;

use super::Setup;
use super::transfer::connection;
use crate::args::PackPushArgs;
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `pack push`. Prints the reference with the digest of the manifest.
///
/// # Errors
/// Returns an error if the pack cannot be loaded, or if the registry cannot be reached or refuses
/// it.
pub(super) async fn push(args: PackPushArgs, env: &Env) -> Result<Exit, Failure> {
    let reference = args.reference.strip_prefix("oci://");
    let reference: OciReference = reference.unwrap_or(&args.reference).parse()?;
    let setup = Setup::new(&args.common, env)?;
    let (messages, limits) = (setup.messages, setup.limits);
    let name = args.which.pack;
    let load = move |packs: &mut lmstrix::job::PackSet| {
        let (pack, files) = super::load(packs, &name)?;
        pack.describe(&files)?;
        Ok(pack)
    };
    let pack = setup.with_packs(&args.which.pack_dir, load).await?;
    let Some(path) = pack.path() else {
        return Err(Failure::usage(
            "the built-in pack is a part of the program and cannot be pushed",
        ));
    };
    let (files, skipped) = PackFiles::read_file(path, &limits)?;
    if files.digests() != pack.digests() {
        let reason = skipped.first().map_or("its files changed", String::as_str);
        return Err(Failure::usage(format!(
            "pack `{}` cannot be pushed: {reason}",
            pack.name()
        )));
    }
    let registry = Registry::new(&reference, &connection(args.registry, env)).await?;
    if let Some(warning) = registry.warning() {
        messages.warning(warning);
    }
    let digest = registry.push(&files, &pack, &limits).await?;
    messages.status(&format!("pushed {} to oci://{reference}", pack.name()));
    print(&format!("{}\n", reference.with_digest(&digest)))?;
    Ok(Exit::Done)
}
