//! Arguments of the subcommands of `pack` that copy packs, compare the copies and import prompts.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use lmstrix_distribution::Source;
use lmstrix_import::Format;
use lmstrix_sandbox::Digest;

use super::which_pack::WhichPackArgs;
use super::{CommonArgs, complete};

/// Arguments of `pack add`.
#[derive(Debug, Args)]
pub(crate) struct PackAddArgs {
    /// A .wasm or .toml file with the files beside it, a folder of packs, a URL, or an artifact
    /// in a registry as `oci://HOST/REPOSITORY:TAG`
    #[arg(value_name = "FILE|DIR|URL|oci://REF")]
    pub source: Source,
    #[command(flatten)]
    pub add: PackCopyArgs,
}

/// Arguments of `pack pull`.
#[derive(Debug, Args)]
pub(crate) struct PackPullArgs {
    /// The artifact, as `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@sha256:HEX`
    #[arg(value_name = "REF")]
    pub reference: String,
    #[command(flatten)]
    pub add: PackCopyArgs,
}

/// Options of a pack that is added.
#[derive(Debug, Args)]
pub(crate) struct PackCopyArgs {
    /// Packs folder [default: the user's pack folder]
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Option<PathBuf>,
    /// Name of the pack [default: the name at the source]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Refuse a pack with another digest
    #[arg(long, value_name = "sha256:HEX")]
    pub digest: Option<Digest>,
    /// Replace another pack of the same name
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// How registries are reached.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Use HTTP for registries on other machines, too
    #[arg(long)]
    pub plain_http: bool,
}

/// Arguments of `pack push`.
#[derive(Debug, Args)]
pub(crate) struct PackPushArgs {
    #[command(flatten)]
    pub which: WhichPackArgs,
    /// The artifact, as `HOST/REPOSITORY:TAG`
    #[arg(value_name = "REF")]
    pub reference: String,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack update`.
#[derive(Debug, Args)]
pub(crate) struct PackUpdateArgs {
    /// Packs [default: all in packs.lock]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::packs))]
    pub packs: Vec<String>,
    /// Packs folder [default: the user's pack folder]
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Option<PathBuf>,
    /// Get only packs that are missing or differ, with the digests in packs.lock
    #[arg(long)]
    pub locked: bool,
    /// Also replace packs that were changed by hand
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack remove`.
#[derive(Debug, Args)]
pub(crate) struct PackRemoveArgs {
    /// Packs
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::packs))]
    pub packs: Vec<String>,
    /// Packs folder [default: the user's pack folder]
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Option<PathBuf>,
    /// Remove packs that were changed by hand or are not in packs.lock
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack verify`.
#[derive(Debug, Args)]
pub(crate) struct PackVerifyArgs {
    /// Packs [default: all]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::packs))]
    pub packs: Vec<String>,
    /// Packs folder; repeatable [default: all that are searched]
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack lock`.
#[derive(Debug, Args)]
pub(crate) struct PackLockArgs {
    /// Packs [default: all]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::packs))]
    pub packs: Vec<String>,
    /// Packs folder [default: the user's pack folder]
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack import`.
#[derive(Debug, Args)]
pub(crate) struct PackImportArgs {
    /// Format of the prompts
    #[arg(value_name = "fabric|llm|prompty|dotprompt")]
    pub format: Format,
    /// A prompt, or a folder of prompts
    #[arg(value_name = "FILE|DIR")]
    pub source: PathBuf,
    /// Write the prompt file here [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}
