//! Arguments of `batch` and its subcommands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use lmstrix::batch::{FailureLimit, PlanContext, Shard};
use lmstrix::duration::TimeLimit;

use super::choices::{Changed, ErrorPlace, JobCount, Progress, ReasoningTags, RowFormat};
use super::{CommonArgs, SamplingArgs, TimeoutArgs, complete};

/// Arguments of `batch`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BatchArgs {
    #[command(subcommand)]
    pub command: Option<BatchCommand>,
    #[command(flatten)]
    pub run: BatchRunArgs,
}

impl BatchArgs {
    /// Returns true if the command runs jobs.
    #[must_use]
    pub(crate) fn is_run(&self) -> bool {
        matches!(self.command, None | Some(BatchCommand::Retry(_)))
    }
}

/// Commands for the output folder of a batch.
#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Show the state of a batch
    Status(StatusArgs),
    /// Run failed and unfinished jobs with the plan stored in the folder
    Retry(RetryArgs),
    /// Print finished jobs and their results as rows
    Export(ExportArgs),
    /// Merge several output folders into one
    Merge(MergeArgs),
}

/// Arguments of `batch` without a subcommand.
#[derive(Debug, Args)]
pub(crate) struct BatchRunArgs {
    /// TOML plan file; flags override it
    #[arg(value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub jobs: JobArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub timeouts: TimeoutArgs,
    #[command(flatten)]
    pub results: ResultArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The prompts, models and inputs of the jobs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Prompts, models and inputs")]
pub(crate) struct JobArgs {
    /// Prompt, as for `infer`; repeatable
    #[arg(short = 'P', long = "prompt", value_name = "NAME", add = ArgValueCandidates::new(complete::prompts))]
    pub prompt: Vec<String>,
    /// TOML file with prompts; repeatable [default: the stock prompts]
    #[arg(
        long,
        value_name = "FILE",
        alias = "file_prompt",
        alias = "file-prompt"
    )]
    pub prompts: Vec<PathBuf>,
    /// Pack that resolves the prompts, by name or .wasm file; repeat to add
    /// packs for --post
    #[arg(long, value_name = "NAME|FILE", add = ArgValueCandidates::new(complete::packs))]
    pub pack: Vec<String>,
    /// Folder to search for packs after ./packs and the user's pack folder;
    /// repeatable
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Vec<PathBuf>,
    /// Refuse packs that are neither pinned by the plan nor in the packs.lock of their folder
    /// with the same digest
    #[arg(long)]
    pub locked: bool,
    /// Processor for the answers, replacing those of the prompts, or with `+NAME` added to
    /// them; repeatable
    #[arg(long, value_name = "NAME[:KEY=VALUE,…]", add = ArgValueCandidates::new(complete::processors))]
    pub post: Vec<String>,
    /// Do not process the answers
    #[arg(long, conflicts_with = "post")]
    pub no_post: bool,
    /// System message, replacing those of the prompts
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Send the text without the models' chat templates
    #[arg(long)]
    pub raw: bool,
    /// Model name, pattern such as `gemma*`, or `all`; repeatable [default: as for
    /// `infer`]
    #[arg(short, long, value_name = "MODEL|GLOB|all", alias = "model_id", alias = "model-id",
        add = ArgValueCandidates::new(complete::models))]
    pub model: Vec<String>,
    /// Engine: auto (all servers on their default ports), llama.cpp (GGUF files with
    /// a llama-server that is started for them), embedded (GGUF files in this
    /// process), a server URL, lmstudio, ollama, llama-server, vllm, or a
    /// name from the config [default: auto]
    #[arg(long, value_name = "auto|llama.cpp|embedded|URL|NAME")]
    pub engine: Option<String>,
    /// Input text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Input text files or patterns
    #[arg(long, value_name = "FILE|GLOB", alias = "text_file", num_args = 1..)]
    pub text_file: Vec<PathBuf>,
    /// Patterns of input text files, of .png, .jpg or .webp images, or .jsonl,
    /// .csv or .tsv files whose rows set the parameters
    #[arg(long, value_name = "GLOB|ROWS", num_args = 1..)]
    pub inputs: Vec<PathBuf>,
    /// Prompt parameter; `@FILE` reads the value from a file. Repeat a key to run
    /// one job per value
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE", add = ArgValueCandidates::new(complete::params))]
    pub param: Vec<String>,
    /// Text file for packs, as if it were beside them; repeatable
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Send an image with all prompts: PNG, JPEG or WebP [at most 20 MiB];
    /// repeatable
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Context length of loaded models: what the largest job needs (fit), tokens,
    /// or percent of the tested or else the declared context [default: fit]
    #[arg(long, value_name = "fit|N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<PlanContext>,
    /// Skip memory and context checks
    #[arg(long)]
    pub force: bool,
    /// Run part I of N of the plan [I: 0 to N-1]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Print the plan as TOML and exit
    #[arg(long)]
    pub print_plan: bool,
}

/// Which results are written, and where.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultArgs {
    /// Output folder; run the same command again to resume
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Template for result names, with {prompt}, {model}, {input} and {params}
    /// [default: {prompt}--{model}, plus what makes names unique]
    #[arg(long, value_name = "TEMPLATE")]
    pub name: Option<String>,
    /// Write failures to NAME.error.txt (file), or in place of the result as the
    /// Python script did (inline)
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "file|inline",
        default_value_t
    )]
    pub errors: ErrorPlace,
    /// Save the unprocessed answers in NAME.raw.txt
    #[arg(long)]
    pub keep_raw: bool,
    /// Save the models' reasoning in NAME.reasoning.txt
    #[arg(long)]
    pub keep_reasoning: bool,
    /// Keep results whose prompt, pack, settings or input changed, with a warning
    /// (keep), or run their jobs again (rerun)
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "keep|rerun",
        default_value_t
    )]
    pub changed: Changed,
    /// Verify finished results by digest instead of length
    #[arg(long)]
    pub verify: bool,
    /// Fail a job if a setting is ignored or the answer is truncated
    #[arg(long)]
    pub strict: bool,
    /// Move a leading <think> block out of the answer (auto), or keep it (none)
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|none",
        default_value_t
    )]
    pub reasoning_tags: ReasoningTags,
}

/// How the jobs run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Execution")]
pub(crate) struct RunArgs {
    /// Concurrent jobs per model; auto uses the server's slots, or fewer if that
    /// is faster [default: auto]
    #[arg(short, long, value_name = "N|auto")]
    pub jobs: Option<JobCount>,
    /// Stop the run when more than N jobs, or P percent of them, have failed
    #[arg(long, value_name = "N|P%")]
    pub max_failures: Option<FailureLimit>,
    /// Stop the run at the first failure
    #[arg(long, conflicts_with = "max_failures")]
    pub fail_fast: bool,
    /// Limit for waiting for an unreachable server [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub server_timeout: Option<TimeLimit>,
    /// Print what would be done without loading or writing anything
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Progress output: bars on a terminal and lines elsewhere (auto), lines
    /// (plain), JSON lines on stdout (json), or none
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|plain|json|none",
        default_value_t
    )]
    pub progress: Progress,
}

/// Arguments of `batch status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Output folder of a batch
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `batch retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Output folder of a batch
    pub dir: PathBuf,
    #[command(flatten)]
    pub timeouts: TimeoutArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Skip memory and context checks
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `batch export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Output folder of a batch
    pub dir: PathBuf,
    /// Row format
    #[arg(long = "as", value_enum, hide_possible_values = true, value_name = "jsonl|csv", default_value_t = RowFormat::Jsonl)]
    pub format: RowFormat,
    /// Write to a file instead of stdout; the file is created only once it is
    /// complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `batch merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Output folders to merge
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// Folder for the merged results
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: CommonArgs,
}
