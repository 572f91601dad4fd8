//! Arguments of the commands that manage models. Spellings of the Python
//! program are accepted as hidden aliases.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use lmstrix::duration::TimeLimit;
use lmstrix::registry::TestLevel;
use lmstrix_inference::ContextSize;

use super::choices::{ListShow, SortOrder, sort_order, test_level};
use super::{CommonArgs, complete};

/// Parses a number of tokens, at least 1.
fn positive_tokens() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// The engine to use.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EngineArgs {
    /// Engine: auto (all servers found, llama.cpp and the embedded engine),
    /// llama.cpp, embedded, a server URL, lmstudio, ollama, llama-server, vllm, or a
    /// name from the config [default: auto]
    #[arg(long, value_name = "auto|llama.cpp|embedded|URL|NAME")]
    pub engine: Option<String>,
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Import the Python program's `lmstrix.json`
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Skip LM Studio's model folder
    #[arg(long)]
    pub no_files: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Delete all test results, as the Python program did
    #[arg(long, hide = true, conflicts_with = "failed")]
    pub reset: bool,
    /// Delete the failures of models, as the Python program did
    #[arg(long, hide = true)]
    pub failed: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Sort by id, size, context, tested, speed, ttft, arch, smart (loaded models,
    /// then those that fit into memory, then by speed), smart-v1 or smart-v2
    #[arg(long, value_name = "ORDER", default_value = "id", value_parser = sort_order)]
    pub sort: SortOrder,
    /// Reverse the order; unknown values stay last
    #[arg(long)]
    pub reverse: bool,
    /// List only models whose name, architecture or quantization contains TEXT
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// List only models that were loaded when their engine was last queried
    #[arg(long)]
    pub loaded: bool,
    /// List only models with image input
    #[arg(long)]
    pub vision: bool,
    /// List only models trained for tool use
    #[arg(long)]
    pub tools: bool,
    /// List only models that failed in a run
    #[arg(long)]
    pub failed: bool,
    /// Include removed models and embedding models
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "ids")]
    pub json: bool,
    /// Print only the names, one per line
    #[arg(long)]
    pub ids: bool,
    /// The Python program's spelling of --ids and --json
    #[arg(long, hide = true, value_name = "id|path|json|md", conflicts_with_all = ["ids", "json"])]
    pub show: Option<ListShow>,
    /// List only models with these keywords, assigned by the Python program
    #[arg(long, hide = true, value_name = "WORDS")]
    pub key: Option<String>,
    #[command(flatten)]
    pub engines: EngineArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Model name
    #[arg(add = ArgValueCandidates::new(complete::models))]
    pub model: String,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Minimum context length [tokens, or percent of the tested or else the
    /// declared context]
    #[arg(long, value_name = "N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<ContextSize>,
    /// Reload the model even if it is already loaded, also by another program
    #[arg(long)]
    pub reload: bool,
    /// Keep the model loaded for this time after the last request [default: the
    /// server's setting]
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<TimeLimit>,
    /// Skip memory and context checks
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `unload`.
#[derive(Debug, Args)]
pub(crate) struct UnloadArgs {
    /// Names of models or instances
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub models: Vec<String>,
    /// Unload all models that this program loaded
    #[arg(long, conflicts_with = "models")]
    pub all: bool,
    /// Also unload models loaded by other programs
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub engines: EngineArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Model name
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub model: Option<String>,
    /// Test all models of the engine in the order of --sort, unloading each before
    /// the next
    #[arg(long, conflicts_with = "model")]
    pub all: bool,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Required level: the model loads, accepts a prompt that fills the context,
    /// or recalls a key hidden in such a prompt
    #[arg(long, value_name = "loads|accepts|recalls", default_value = "recalls", value_parser = test_level)]
    pub level: TestLevel,
    /// Test only this context length [tokens]
    #[arg(short = 'c', long, value_name = "N", alias = "ctx", value_parser = positive_tokens())]
    pub context: Option<u32>,
    /// Largest context length to test [tokens; default: the declared context]
    #[arg(long, value_name = "N", alias = "threshold", value_parser = positive_tokens())]
    pub max_context: Option<u32>,
    /// Limit for one probe including loading [seconds, 90s, 5m; 0 disables;
    /// default: 15m]
    #[arg(long, value_name = "TIME")]
    pub probe_timeout: Option<TimeLimit>,
    /// Delete earlier results of this model first
    #[arg(long)]
    pub reset: bool,
    /// Print what would be tested without loading anything
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Also test contexts that failed before or exceed the memory estimate
    #[arg(long)]
    pub force: bool,
    /// Print the results as one JSON object
    #[arg(long)]
    pub json: bool,
    /// No effect, as in the Python program
    #[arg(long, hide = true)]
    pub fast: bool,
    /// The Python program's test question; `test` asks for a hidden key instead
    #[arg(long, hide = true)]
    pub prompt: Option<String>,
    /// The Python program's test question, from a file
    #[arg(long, hide = true, alias = "file_prompt")]
    pub file_prompt: Option<PathBuf>,
    /// With --all: test only models with these keywords, assigned by the Python
    /// program
    #[arg(long, hide = true)]
    pub key: Option<String>,
    /// Order of --all, as for `list`
    #[arg(long, value_name = "ORDER", default_value = "size", value_parser = sort_order)]
    pub sort: SortOrder,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Model names
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub models: Vec<String>,
    /// Delete the test results of all models
    #[arg(long, conflicts_with = "models")]
    pub all: bool,
    /// Also delete speeds, counts and failures
    #[arg(long)]
    pub everything: bool,
    #[command(flatten)]
    pub engines: EngineArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Largest context length to write [tokens, or percent of the tested context]
    #[arg(long, value_name = "N|P%", default_value = "100%")]
    pub limit: ContextSize,
    /// Apply a percentage only to models tested with more than N tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threshold: u32,
    /// Also enable flash attention for GGUF files
    #[arg(long)]
    pub flash: bool,
    /// Print the changes without writing them
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Undo the last `save`
    #[arg(long, conflicts_with_all = ["limit", "threshold", "flash"])]
    pub undo: bool,
    /// Also write contexts below 512 tokens, or undo despite later changes
    #[arg(long)]
    pub force: bool,
    /// LM Studio's folder [default: the folder that LM Studio reports]
    #[arg(long, value_name = "DIR")]
    pub studio_home: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Hugging Face repository, and a quantization or file name [default: Q4_K_M]
    #[arg(value_name = "OWNER/REPO[:QUANT]")]
    pub reference: String,
    /// Branch, tag or commit
    #[arg(long, value_name = "REV", default_value = "main")]
    pub revision: String,
    /// Replace an existing file of the same name
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `about`.
#[derive(Debug, Args)]
pub(crate) struct AboutArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell: bash, zsh, fish, powershell or elvish
    pub shell: String,
}
