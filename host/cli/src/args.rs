//! The command line as clap parses it. Values are interpreted elsewhere.
//!
//! The spellings of the Python program `lmstrix` work as hidden aliases, so
//! that old command lines keep working.

mod batch;
mod choices;
mod complete;
mod models;
mod pack;
mod pack_copies;
mod sampling;
mod which_pack;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use lmstrix::duration::TimeLimit;
use lmstrix_inference::ContextSize;

pub(crate) use batch::{
    BatchArgs, BatchCommand, BatchRunArgs, ExportArgs, JobArgs, MergeArgs, ResultArgs, RetryArgs,
    RunArgs, StatusArgs,
};
pub(crate) use choices::{
    Changed, ErrorPlace, JobCount, ListShow, Progress, ReasoningTags, RowFormat,
};
pub(crate) use complete::{
    CompletionKind, answer_completion_request, completion_script, supported_shells,
};
pub(crate) use models::{
    AboutArgs, CompletionsArgs, DoctorArgs, EngineArgs, ListArgs, LoadArgs, PsArgs, PullArgs,
    ResetArgs, SaveArgs, ScanArgs, TestArgs, UnloadArgs,
};
pub(crate) use pack::{
    PackArgs, PackCheckArgs, PackCommand, PackKind, PackLanguage, PackListArgs, PackNewArgs,
    PackShowArgs, PackTestArgs,
};
pub(crate) use pack_copies::{
    PackAddArgs, PackCopyArgs, PackImportArgs, PackLockArgs, PackPullArgs, PackPushArgs,
    PackRemoveArgs, PackUpdateArgs, PackVerifyArgs, RegistryArgs,
};
pub(crate) use sampling::SamplingArgs;

/// Run prompts on local language models, with prompt packs (WebAssembly
/// components) that build the messages and process the answers
#[derive(Debug, Parser)]
#[command(
    name = "lmstrix-host",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one prompt and stream the answer
    Infer(Box<InferArgs>),
    /// Print the request for a prompt without running a model
    Render(Box<RenderArgs>),
    /// Run prompts over models and inputs; run the same command to resume
    Batch(Box<BatchArgs>),
    /// Create, check, test, add and share prompt packs
    #[command(alias = "packs")]
    Pack(PackArgs),
    /// Update the registry with the models of all engines
    Scan(ScanArgs),
    /// List the models in the registry; contacts no server
    #[command(alias = "ls")]
    List(ListArgs),
    /// Load a model and leave it loaded
    Load(LoadArgs),
    /// Unload models that this program loaded
    Unload(UnloadArgs),
    /// List loaded models and who loaded them
    Ps(PsArgs),
    /// Find the largest context length that works
    Test(TestArgs),
    /// Delete test results
    Reset(ResetArgs),
    /// Write tested context lengths to LM Studio's model settings
    Save(SaveArgs),
    /// Download a model file
    Pull(PullArgs),
    /// Check the installation and suggest fixes
    #[command(alias = "health")]
    Doctor(DoctorArgs),
    /// Show counts, sizes, folders and the last used model
    About(AboutArgs),
    /// Print a shell completion script for commands, models, prompts and packs
    Completions(CompletionsArgs),
    /// Compile a pack from stdin to stdout; started only by this program
    #[command(name = lmstrix_sandbox::CHILD_COMMAND, hide = true)]
    CompilePack {
        /// Limit on the address space [bytes]
        memory_bytes: u64,
        /// Limit on the wall-clock time [seconds]
        seconds: u64,
    },
    /// Run a llama-server until its last user has ended; started only by this program
    #[command(name = lmstrix::engine::SUPERVISOR_COMMAND, hide = true)]
    SuperviseServer {
        /// The process has no inherited files
        #[arg(long)]
        detached: bool,
    },
    /// Run a program that ends with its parent process; started only by this program
    #[command(name = lmstrix::engine::TIED_COMMAND, hide = true)]
    RunTied {
        /// The ID of the parent process
        parent: u32,
        /// The program
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

impl Command {
    /// Returns the common flags, or `None` for `completions` and the hidden
    /// commands, which have none.
    #[must_use]
    pub(crate) fn common(&self) -> Option<&CommonArgs> {
        Some(match self {
            Self::Infer(args) => &args.common,
            Self::Render(args) => &args.common,
            Self::Batch(batch) => match &batch.command {
                None => &batch.run.common,
                Some(BatchCommand::Status(args)) => &args.common,
                Some(BatchCommand::Retry(args)) => &args.common,
                Some(BatchCommand::Export(args)) => &args.common,
                Some(BatchCommand::Merge(args)) => &args.common,
            },
            Self::Pack(args) => args.command.common(),
            Self::Scan(args) => &args.common,
            Self::List(args) => &args.common,
            Self::Load(args) => &args.common,
            Self::Unload(args) => &args.common,
            Self::Ps(args) => &args.common,
            Self::Test(args) => &args.common,
            Self::Reset(args) => &args.common,
            Self::Save(args) => &args.common,
            Self::Pull(args) => &args.common,
            Self::Doctor(args) => &args.common,
            Self::About(args) => &args.common,
            Self::Completions(_)
            | Self::CompilePack { .. }
            | Self::SuperviseServer { .. }
            | Self::RunTied { .. } => return None,
        })
    }
}

/// Arguments of `infer`.
#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub timeouts: TimeoutArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Context length of the model that is passed to packs [tokens]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Fact about the model that is passed to packs: `id`, `architecture`, or another key;
    /// repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub model_fact: Vec<String>,
    /// Print one JSON object with messages, settings and their origins, and
    /// processors
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The prompt, its files and parameters, and packs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Prompt and packs")]
pub(crate) struct PromptArgs {
    /// Prompt name (`tldr`, `think,aps`), `pack/prompt`, or literal prompt text
    /// if it contains a space or `{{`
    #[arg(add = ArgValueCandidates::new(complete::prompts))]
    pub prompt: String,
    /// TOML file with prompts; repeatable [default: the stock prompts]
    #[arg(
        long,
        value_name = "FILE",
        alias = "file_prompt",
        alias = "file-prompt"
    )]
    pub prompts: Vec<PathBuf>,
    /// Pack that resolves the prompt, by name or .wasm file; repeat to add packs
    /// for --post
    #[arg(long, value_name = "NAME|FILE", add = ArgValueCandidates::new(complete::packs))]
    pub pack: Vec<String>,
    /// Folder to search for packs after ./packs and the user's pack folder;
    /// repeatable
    #[arg(long, value_name = "DIR")]
    pub pack_dir: Vec<PathBuf>,
    /// Refuse packs that are not in the packs.lock of their folder with the same digest
    #[arg(long)]
    pub locked: bool,
    /// Show on stderr what packs write to stdout and stderr, also after success
    #[arg(long)]
    pub show_pack_output: bool,
    /// Processor for the answer, replacing those of the prompt, or with `+NAME` added to
    /// them; repeatable. `\,` `\:` `\=` are literal
    #[arg(long, value_name = "NAME[:KEY=VALUE,…]", add = ArgValueCandidates::new(complete::processors))]
    pub post: Vec<String>,
    /// Do not process the answer
    #[arg(long, conflicts_with = "post")]
    pub no_post: bool,
    /// Input text, the prompt's parameter `text`
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "text_file",
        allow_hyphen_values = true
    )]
    pub text: Option<String>,
    /// Read the input text from a file, or from stdin with `-`
    #[arg(long, value_name = "FILE|-", alias = "text_file")]
    pub text_file: Option<PathBuf>,
    /// Prompt parameter; `@FILE` reads the value from a file, `@@` is a literal
    /// `@`; repeatable
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE", add = ArgValueCandidates::new(complete::params))]
    pub param: Vec<String>,
    /// Text file for packs, as if it were beside them; repeatable
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Send an image with the last user message, or where the pack places it: PNG,
    /// JPEG or WebP [at most 20 MiB]; repeatable
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Parameters in the Python program's syntax, `k=v,k2=v2`
    #[arg(long, hide = true, value_name = "K=V,…")]
    pub dict: Vec<String>,
    /// System message, replacing that of the prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Send the text without the model's chat template; requires a single user
    /// message
    #[arg(long)]
    pub raw: bool,
}

/// The engine, the model, and how to load it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Model name, or path of a GGUF file
    #[arg(
        short,
        long,
        value_name = "MODEL",
        alias = "model_id",
        alias = "model-id",
        add = ArgValueCandidates::new(complete::models)
    )]
    pub model: Option<String>,
    /// Engine: auto (a server on its default port), llama.cpp (GGUF files with a
    /// llama-server that is started for them), embedded (GGUF files in this
    /// process; the demo model without --model), a server URL, lmstudio, ollama,
    /// llama-server, vllm, or a name from the config [default: auto]
    #[arg(long, value_name = "auto|llama.cpp|embedded|URL|NAME")]
    pub engine: Option<String>,
    /// Minimum context length [tokens, or percent of the tested or else the
    /// declared context]
    #[arg(long, value_name = "N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<ContextSize>,
    /// Reload the model even if it is already loaded, also by another program
    #[arg(long)]
    pub reload: bool,
    /// Unload the model when done, if this program loaded it
    #[arg(long)]
    pub unload: bool,
    /// Keep the model loaded for this time after the last request [default: the
    /// server's setting]
    #[arg(long, value_name = "TIME", conflicts_with = "unload")]
    pub ttl: Option<TimeLimit>,
    /// Skip memory and context checks
    #[arg(long)]
    pub force: bool,
}

/// Timeouts and the repetition limit.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Timeouts (seconds, 90s, 5m; 0 disables)")]
pub(crate) struct TimeoutArgs {
    /// Limit for connecting to a server [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub connect_timeout: Option<TimeLimit>,
    /// Limit for loading the model [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub load_timeout: Option<TimeLimit>,
    /// Limit for the first token; restarts whenever the server reports prompt
    /// progress [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub first_token_timeout: Option<TimeLimit>,
    /// Limit between two tokens [default: 2m]
    #[arg(long, value_name = "TIME", alias = "stream_timeout")]
    pub stream_timeout: Option<TimeLimit>,
    /// Limit for the whole run [default: off]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<TimeLimit>,
    /// Stop an answer that ends with N repeats of the same text, at least 1 KiB
    /// in total; 0 disables [default: 200]
    #[arg(long, value_name = "N")]
    pub max_repeat: Option<usize>,
}

/// Where the answer goes, and what else is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write the answer to a file; the file is created only once it is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON object at the end: text, raw text, reasoning, usage,
    /// timings, settings with origins, packs
    #[arg(long, conflicts_with = "events")]
    pub json: bool,
    /// Stream events as JSON lines
    #[arg(long)]
    pub events: bool,
    /// Show progress on stderr: model loading, prompt processing, tokens/s
    #[arg(long, alias = "show_progress")]
    pub show_progress: bool,
    /// Print the request on stderr: exact prompt, settings with origin and engine
    /// support, stop sequences, context length
    #[arg(long)]
    pub show_request: bool,
    /// Also print the model's reasoning on stdout, before the answer
    #[arg(long)]
    pub show_reasoning: bool,
    /// Fail if a setting is ignored or the answer is truncated
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
    /// No effect, since answers always stream; accepted for the Python program's
    /// command lines
    #[arg(long, hide = true)]
    pub stream: bool,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Common")]
pub(crate) struct CommonArgs {
    /// Config file [default: config.toml in the user's config folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log more on stderr; repeat for more detail
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print only errors on stderr
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn command_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
