//! Arguments of `pack` and its subcommands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::pack_copies::{
    PackAddArgs, PackImportArgs, PackLockArgs, PackPullArgs, PackPushArgs, PackRemoveArgs,
    PackUpdateArgs, PackVerifyArgs,
};
use super::which_pack::WhichPackArgs;
use super::{CommonArgs, complete};

/// Arguments of `pack`.
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    #[command(subcommand)]
    pub command: PackCommand,
}

/// The subcommands of `pack`.
#[derive(Debug, Subcommand)]
pub(crate) enum PackCommand {
    /// Write the project of a new pack into a new folder
    New(PackNewArgs),
    /// List the packs in the pack folders, without loading them
    List(PackListArgs),
    /// Show the prompts, processors and files of a pack
    Show(PackShowArgs),
    /// Check a pack without a model: every prompt and every processor
    Check(PackCheckArgs),
    /// Run the cases of test files on a pack, without a model unless one is given
    Test(PackTestArgs),
    /// Print the contract that packs implement, in WIT
    Wit(PackWitArgs),
    /// Add a pack from a file, a folder, a URL or an OCI registry to a packs folder
    Add(PackAddArgs),
    /// Add a pack from an OCI registry to a packs folder
    Pull(PackPullArgs),
    /// Copy a pack to an OCI registry
    Push(PackPushArgs),
    /// Get packs from their sources again
    Update(PackUpdateArgs),
    /// Remove packs from a packs folder
    Remove(PackRemoveArgs),
    /// Compare packs with the packs.lock of their folder
    Verify(PackVerifyArgs),
    /// Record packs in the packs.lock of their folder as they are
    Lock(PackLockArgs),
    /// Make a prompt file of the prompts of another program
    Import(PackImportArgs),
}

impl PackCommand {
    /// Returns the common flags.
    pub(super) fn common(&self) -> &CommonArgs {
        match self {
            Self::New(args) => &args.common,
            Self::List(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Check(args) => &args.common,
            Self::Test(args) => &args.common,
            Self::Wit(args) => &args.common,
            Self::Add(args) => &args.add.common,
            Self::Pull(args) => &args.add.common,
            Self::Push(args) => &args.common,
            Self::Update(args) => &args.common,
            Self::Remove(args) => &args.common,
            Self::Verify(args) => &args.common,
            Self::Lock(args) => &args.common,
            Self::Import(args) => &args.common,
        }
    }
}

/// Arguments of `pack new`.
#[derive(Debug, Args)]
pub(crate) struct PackNewArgs {
    /// Name of the pack, and of the folder
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Language of the project
    #[arg(
        long,
        value_enum,
        value_name = "rust|js|python|c",
        hide_possible_values = true
    )]
    pub lang: PackLanguage,
    /// What the pack has: prompts (resolver), processors, or both
    #[arg(long, value_enum, value_name = "resolver|processor|both", hide_possible_values = true, default_value_t = PackKind::Both)]
    pub kind: PackKind,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Languages of `pack new`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PackLanguage {
    Rust,
    Js,
    Python,
    C,
}

/// Contents of a new pack.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PackKind {
    Resolver,
    Processor,
    Both,
}

/// Arguments of `pack list`.
#[derive(Debug, Args)]
pub(crate) struct PackListArgs {
    /// Folder to search for packs after ./packs and the user's pack folder; repeatable
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack show`.
#[derive(Debug, Args)]
pub(crate) struct PackShowArgs {
    #[command(flatten)]
    pub which: WhichPackArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack check`.
#[derive(Debug, Args)]
pub(crate) struct PackCheckArgs {
    #[command(flatten)]
    pub which: WhichPackArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack test`.
#[derive(Debug, Args)]
pub(crate) struct PackTestArgs {
    /// Test files, or folders with files whose names end with `.test.toml`
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Write the results into the files as the expected values
    #[arg(long)]
    pub update: bool,
    /// Also send the prompts to a model on this engine, and print the answers
    #[arg(long, value_name = "auto|llama.cpp|embedded|URL|NAME")]
    pub engine: Option<String>,
    /// Also send the prompts to this model, and print the answers
    #[arg(short, long, value_name = "MODEL", add = ArgValueCandidates::new(complete::models))]
    pub model: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pack wit`.
#[derive(Debug, Args)]
pub(crate) struct PackWitArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}
