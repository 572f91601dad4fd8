//! What is typed around batches.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{Common, Patience, Sampling, complete};

/// `batch`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Batch {
    #[command(subcommand)]
    pub after: Option<After>,
    #[command(flatten)]
    pub run: BatchRun,
}

impl Batch {
    /// Whether jobs are run.
    #[must_use]
    pub fn is_run(&self) -> bool {
        matches!(self.after, None | Some(After::Retry(_)))
    }
}

/// What is done with a folder in which a batch ran.
#[derive(Debug, Subcommand)]
pub enum After {
    /// Show how far a batch has come.
    Status(Status),
    /// Run again what failed, by the folder's own plan.
    Retry(Retry),
    /// Print the finished jobs with their results as rows.
    Export(Export),
    /// Join the folders of several machines into one.
    Merge(Merge),
}

/// A run.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct BatchRun {
    /// A TOML file with the plan; flags come on top of it
    #[arg(value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub jobs: Jobs,
    #[command(flatten)]
    pub sampling: Sampling,
    #[command(flatten)]
    pub patience: Patience,
    #[command(flatten)]
    pub results: Results,
    #[command(flatten)]
    pub way: Way,
    #[command(flatten)]
    pub common: Common,
}

/// Prompts, models and inputs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Prompts, models and inputs")]
pub struct Jobs {
    /// A prompt, as `infer` takes it; may be given several times
    #[arg(short = 'P', long = "prompt", value_name = "NAME", add = ArgValueCandidates::new(complete::prompts))]
    pub prompt: Vec<String>,
    /// A TOML file with prompts; may be given several times [default: the
    /// stock prompts]
    #[arg(
        long,
        value_name = "FILE",
        alias = "file_prompt",
        alias = "file-prompt"
    )]
    pub prompts: Vec<PathBuf>,
    /// The pack that resolves the prompts, by name or as a .wasm file; further
    /// ones are at hand for --post
    #[arg(long, value_name = "NAME|FILE", add = ArgValueCandidates::new(complete::packs))]
    pub pack: Vec<String>,
    /// A folder with packs, looked into after ./packs and the user's own
    #[arg(long, value_name = "DIR", alias = "pack_dir")]
    pub pack_dir: Vec<PathBuf>,
    /// A processor for the answers, instead of those that the prompts name; may
    /// be given several times
    #[arg(long, value_name = "NAME[:KEY=VALUE,…]")]
    pub post: Vec<String>,
    /// Leave the answers as the models gave them
    #[arg(long, conflicts_with = "post", alias = "no_post")]
    pub no_post: bool,
    /// The system message, instead of the prompts' own
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Send the text as it stands, without the models' chat templates
    #[arg(long)]
    pub raw: bool,
    /// A model's name, a pattern such as `gemma*`, or `all`; may be given
    /// several times [default: as for `infer`]
    #[arg(short, long, value_name = "MODEL|GLOB|all", alias = "model_id", alias = "model-id",
        add = ArgValueCandidates::new(complete::models))]
    pub model: Vec<String>,
    /// auto: every server that answers at its usual port; embedded: GGUF files
    /// in this process; a server's URL; or a name: lmstudio, ollama,
    /// llama-server, vllm, or one of the config
    #[arg(long, value_name = "auto|embedded|URL|NAME")]
    pub engine: Option<String>,
    /// The text that the prompts work on
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// A file with a text, or a pattern; may be given several times
    #[arg(long, value_name = "FILE|GLOB", alias = "text_file")]
    pub text_file: Vec<PathBuf>,
    /// A pattern of files, or a .jsonl, .csv or .tsv file whose rows give the
    /// parameters; may be given several times
    #[arg(long, value_name = "GLOB|ROWS")]
    pub inputs: Vec<PathBuf>,
    /// A parameter; `@FILE` as the value reads a file. Given again for the same
    /// key it is an axis: a job for each value
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    pub param: Vec<String>,
    /// Context that models are loaded with: what their largest job needs
    /// (`fit`), tokens, or percent of what was tested or else of what they were
    /// made for [default: fit]
    #[arg(long, value_name = "fit|N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<String>,
    /// Load models even if they do not seem to fit into memory
    #[arg(long)]
    pub force: bool,
    /// Run one part of the plan: I from 0 to N-1
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Print the plan as a TOML file
    #[arg(long, alias = "print_plan")]
    pub print_plan: bool,
}

/// What is written, and where.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub struct Results {
    /// The folder for the results; the same command again goes on where it
    /// stopped
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// The results' names, of {prompt}, {model}, {input} and {params} [default:
    /// {prompt}--{model}, and what else is needed]
    #[arg(long, value_name = "TEMPLATE")]
    pub name: Option<String>,
    /// Where a failure is written: into NAME.error.txt (file), or in the
    /// result's place, as the Python script did (inline)
    #[arg(long, value_name = "file|inline", default_value = "file")]
    pub errors: String,
    /// Keep the models' own words, before processors, in NAME.raw.txt
    #[arg(long, alias = "keep_raw")]
    pub keep_raw: bool,
    /// Keep the models' thinking in NAME.reasoning.txt
    #[arg(long, alias = "keep_reasoning")]
    pub keep_reasoning: bool,
    /// What becomes of results whose prompt, pack, setting or input is another
    /// now: they stay, with a warning (keep), or run again (rerun)
    #[arg(long, value_name = "keep|rerun", default_value = "keep")]
    pub changed: String,
    /// Compare the digests of finished results, not only their lengths
    #[arg(long)]
    pub verify: bool,
    /// Turn warnings about lost settings and cut answers into errors
    #[arg(long)]
    pub strict: bool,
    /// `none` leaves a <think> span at the start of an answer in its text
    #[arg(
        long,
        value_name = "auto|none",
        default_value = "auto",
        alias = "reasoning_tags"
    )]
    pub reasoning_tags: String,
}

/// How it runs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The run")]
pub struct Way {
    /// Jobs at once on one model; `auto` is as many as the server has slots,
    /// fewer when that is faster [default: auto]
    #[arg(short, long, value_name = "N|auto")]
    pub jobs: Option<String>,
    /// End the run when more than so many jobs have failed
    #[arg(long, value_name = "N|P%", alias = "max_failures")]
    pub max_failures: Option<String>,
    /// End the run at the first failure
    #[arg(long, conflicts_with = "max_failures", alias = "fail_fast")]
    pub fail_fast: bool,
    /// How long a server that went away is waited for [default: 60s]
    #[arg(long, value_name = "TIME", alias = "server_timeout")]
    pub server_timeout: Option<String>,
    /// Say what would be done; nothing is loaded and nothing written
    #[arg(long, alias = "dry_run")]
    pub dry_run: bool,
    /// Bars on a terminal and lines elsewhere (auto), lines, JSON on stdout, or
    /// nothing
    #[arg(long, value_name = "auto|plain|json|none", default_value = "auto")]
    pub progress: String,
}

/// `batch status`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Status {
    /// The folder of the results
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `batch retry`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Retry {
    /// The folder of the results
    pub dir: PathBuf,
    #[command(flatten)]
    pub patience: Patience,
    #[command(flatten)]
    pub way: Way,
    /// Load models even if they do not seem to fit into memory
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `batch export`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Export {
    /// The folder of the results
    pub dir: PathBuf,
    /// jsonl or csv
    #[arg(long = "as", value_name = "jsonl|csv", default_value = "jsonl")]
    pub form: String,
    /// A file instead of stdout; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

/// `batch merge`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Merge {
    /// The folders to join
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// The folder for all of them
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: Common,
}
