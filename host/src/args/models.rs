//! What is typed around the life of models. Spellings of the Python program
//! that have a better name here work hidden.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Common, complete};

/// A context without a token is none.
fn tokens() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// Which engine is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Where {
    /// auto: every server that is found and the embedded engine; embedded; a
    /// server's URL; or a name: lmstudio, ollama, llama-server, vllm, or one of
    /// the config
    #[arg(long, value_name = "auto|embedded|URL|NAME")]
    pub engine: Option<String>,
}

/// `scan`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Scan {
    #[command(flatten)]
    pub engines: Where,
    /// Take over what the Python program knows: its `lmstrix.json`
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Do not look into LM Studio's folder of models
    #[arg(long, alias = "no_files")]
    pub no_files: bool,
    /// Print what was found as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Forget all test results, as the Python program did
    #[arg(long, hide = true, conflicts_with = "failed")]
    pub reset: bool,
    /// Forget the failures of models, as the Python program did
    #[arg(long, hide = true)]
    pub failed: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `list`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct List {
    /// id, size, context, tested, speed, ttft, arch, smart (loaded first, then
    /// what fits into memory, then the fastest), smart-v1, smart-v2
    #[arg(long, value_name = "ORDER", default_value = "id")]
    pub sort: String,
    /// The other way round; what is unknown stays last
    #[arg(long)]
    pub reverse: bool,
    /// Only models whose name, architecture or quantization holds this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only models that were loaded when last asked after
    #[arg(long)]
    pub loaded: bool,
    /// Only models that see pictures
    #[arg(long)]
    pub vision: bool,
    /// Only models that were trained to call tools
    #[arg(long)]
    pub tools: bool,
    /// Only models that failed in a run
    #[arg(long)]
    pub failed: bool,
    /// Also models that are gone, and those that only make embeddings
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "ids")]
    pub json: bool,
    /// Print the names, one per line, and nothing else
    #[arg(long)]
    pub ids: bool,
    /// The Python program's way to say --ids and --json
    #[arg(long, hide = true, value_name = "id|path|json|md", conflicts_with_all = ["ids", "json"])]
    pub show: Option<String>,
    /// Only models with these keywords, which the Python program gave
    #[arg(long, hide = true, value_name = "WORDS")]
    pub key: Option<String>,
    #[command(flatten)]
    pub engines: Where,
    #[command(flatten)]
    pub common: Common,
}

/// `ps`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Ps {
    #[command(flatten)]
    pub engines: Where,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `load`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Load {
    /// The model's name
    #[arg(add = ArgValueCandidates::new(complete::models))]
    pub model: String,
    #[command(flatten)]
    pub engines: Where,
    /// Context that it must have: tokens, or percent of what was tested or else
    /// of what it was made for
    #[arg(long, value_name = "N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<String>,
    /// Load it anew, also when it is loaded; whoever loaded it
    #[arg(long)]
    pub reload: bool,
    /// Load it even if it does not seem to fit into memory
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `unload`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Unload {
    /// Names of models or of their instances
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub models: Vec<String>,
    /// Everything that this program loaded
    #[arg(long, conflicts_with = "models")]
    pub all: bool,
    /// Also what somebody else loaded
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub engines: Where,
    #[command(flatten)]
    pub common: Common,
}

/// `test`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Test {
    /// The model's name
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub model: Option<String>,
    /// All models of the engine, in the order of their size; each is unloaded
    /// before the next
    #[arg(long, conflicts_with = "model")]
    pub all: bool,
    #[command(flatten)]
    pub engines: Where,
    /// What counts: it `loads`, it `accepts` a prompt that fills the context,
    /// or it `recalls` a key hidden in one
    #[arg(long, value_name = "loads|accepts|recalls", default_value = "recalls")]
    pub level: String,
    /// Try this context alone
    #[arg(short = 'c', long, value_name = "N", alias = "ctx", value_parser = tokens())]
    pub context: Option<u32>,
    /// Go no further than this
    #[arg(long, value_name = "N", alias = "threshold", alias = "max_context", value_parser = tokens())]
    pub max_context: Option<u32>,
    /// Limit for one probe, loading included: seconds, 90s, 5m; 0 is off
    /// [default: 15m]
    #[arg(long, value_name = "TIME", alias = "probe_timeout")]
    pub probe_timeout: Option<String>,
    /// Forget earlier results of this model first
    #[arg(long)]
    pub reset: bool,
    /// Say what would be tried; nothing is loaded
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Try also what failed before, and what does not seem to fit into memory
    #[arg(long)]
    pub force: bool,
    /// Print the results as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Of no effect, as in the Python program
    #[arg(long, hide = true)]
    pub fast: bool,
    /// The Python program's own question; this one asks for a hidden key
    #[arg(long, hide = true)]
    pub prompt: Option<String>,
    /// The same, in a file
    #[arg(long, hide = true, alias = "file_prompt")]
    pub file_prompt: Option<PathBuf>,
    /// With --all: only models with these keywords, which the Python program gave
    #[arg(long, hide = true)]
    pub key: Option<String>,
    /// The order of --all: as for `list`
    #[arg(long, value_name = "ORDER", default_value = "size")]
    pub sort: String,
    #[command(flatten)]
    pub common: Common,
}

/// `reset`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Reset {
    /// Names of models
    #[arg(required_unless_present = "all", add = ArgValueCandidates::new(complete::models))]
    pub models: Vec<String>,
    /// The test results of all models
    #[arg(long, conflicts_with = "models")]
    pub all: bool,
    /// Also speeds, counts and failures
    #[arg(long)]
    pub everything: bool,
    #[command(flatten)]
    pub engines: Where,
    #[command(flatten)]
    pub common: Common,
}

/// `save`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Save {
    /// The most context to write: tokens, or percent of what was tested
    #[arg(long, value_name = "N|P%", default_value = "100%")]
    pub limit: String,
    /// Apply a percentage only to models that were tested with more than this
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threshold: u32,
    /// Also switch flash attention on, for GGUF files
    #[arg(long)]
    pub flash: bool,
    /// Show what would change; nothing is written
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Take back what the last `save` wrote
    #[arg(long, conflicts_with_all = ["limit", "threshold", "flash"])]
    pub undo: bool,
    /// Write also contexts below 512, or undo over later changes
    #[arg(long)]
    pub force: bool,
    /// LM Studio's folder [default: where LM Studio says it is]
    #[arg(long, value_name = "DIR", alias = "studio_home")]
    pub studio_home: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

/// `pull`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Pull {
    /// The repository at the hub, and which of its files: a quantization like
    /// Q4_K_M, which is also the default, or a file's name
    #[arg(value_name = "OWNER/REPO[:QUANT]")]
    pub reference: String,
    /// A branch, tag or commit
    #[arg(long, value_name = "REV", default_value = "main")]
    pub revision: String,
    /// Replace another file of the same name
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `doctor`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Doctor {
    #[command(flatten)]
    pub engines: Where,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `about`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct About {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// bash, zsh, fish, powershell or elvish
    pub shell: String,
}
