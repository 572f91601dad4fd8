//! What was typed, and nothing else: clap's derive, with no meaning attached.
//!
//! The spellings of the Python program that this one follows work as hidden
//! aliases, so that old command lines keep working.

mod batch;
mod complete;
mod models;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;

pub use batch::{After, Batch, BatchRun, Export, Jobs, Merge, Results, Retry, Status, Way};
pub use complete::{What, answer_shell, script, shells};
pub use models::{
    About, Completions, Doctor, List, Load, Ps, Pull, Reset, Save, Scan, Test, Unload, Where,
};

/// Runs prompts on local language models; what a model is asked, and what is
/// made of its answer, is decided by prompt packs (WebAssembly components).
#[derive(Debug, Parser)]
#[command(
    name = "lmstrix-host",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Typed {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One per command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one prompt and stream the answer.
    Infer(Box<Infer>),
    /// Print what would be sent; no model, no server.
    Render(Box<Render>),
    /// Run prompts over models and inputs; the same command again resumes.
    Batch(Box<Batch>),
    /// Ask the engines for their models, and remember what they say.
    Scan(Scan),
    /// Show the models that are known; asks nobody and writes nothing.
    #[command(alias = "ls")]
    List(List),
    /// Load a model, and leave it loaded.
    Load(Load),
    /// Unload models that this program loaded.
    Unload(Unload),
    /// Show what is loaded, and who loaded it.
    Ps(Ps),
    /// Find the largest context that really works.
    Test(Test),
    /// Forget test results.
    Reset(Reset),
    /// Write tested contexts into LM Studio's settings of each model.
    Save(Save),
    /// Download a model's file for the embedded engine.
    Pull(Pull),
    /// Look for what is wrong, and say what to do about it.
    #[command(alias = "health")]
    Doctor(Doctor),
    /// Show what is known: counts, sizes, folders, the model used last.
    About(About),
    /// Print a script that completes commands, models, prompts and packs.
    Completions(Completions),
    /// Compile a pack from stdin to stdout (this program starts itself so).
    #[command(name = crate::pack::CHILD_COMMAND, hide = true)]
    CompilePack {
        /// Address space in bytes.
        memory_bytes: u64,
        /// Wall time in seconds.
        seconds: u64,
    },
}

impl Command {
    /// What every command has; the one that the program calls itself has not.
    #[must_use]
    pub fn common(&self) -> Option<&Common> {
        Some(match self {
            Self::Infer(it) => &it.common,
            Self::Render(it) => &it.common,
            Self::Batch(it) => match &it.after {
                None => &it.run.common,
                Some(After::Status(it)) => &it.common,
                Some(After::Retry(it)) => &it.common,
                Some(After::Export(it)) => &it.common,
                Some(After::Merge(it)) => &it.common,
            },
            Self::Scan(it) => &it.common,
            Self::List(it) => &it.common,
            Self::Load(it) => &it.common,
            Self::Unload(it) => &it.common,
            Self::Ps(it) => &it.common,
            Self::Test(it) => &it.common,
            Self::Reset(it) => &it.common,
            Self::Save(it) => &it.common,
            Self::Pull(it) => &it.common,
            Self::Doctor(it) => &it.common,
            Self::About(it) => &it.common,
            Self::Completions(_) | Self::CompilePack { .. } => return None,
        })
    }
}

/// `infer`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Infer {
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub sampling: Sampling,
    #[command(flatten)]
    pub patience: Patience,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub common: Common,
}

/// `render`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each group documents itself")]
pub struct Render {
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Print one JSON object: messages, settings with their origin, processors
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// What is asked: prompt, files, parameters, packs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Prompt and packs")]
pub struct Asked {
    /// A prompt's name (`tldr`, `think,aps`), `pack/prompt`, or the prompt
    /// itself when it holds a space or `{{`
    #[arg(add = ArgValueCandidates::new(complete::prompts))]
    pub prompt: String,
    /// A TOML file with prompts; may be given several times [default: the
    /// stock prompts]
    #[arg(
        long,
        value_name = "FILE",
        alias = "file_prompt",
        alias = "file-prompt"
    )]
    pub prompts: Vec<PathBuf>,
    /// The pack that resolves the prompt, by name or as a .wasm file; further
    /// ones are at hand for --post
    #[arg(long, value_name = "NAME|FILE", add = ArgValueCandidates::new(complete::packs))]
    pub pack: Vec<String>,
    /// A folder with packs, looked into after ./packs and the user's own
    #[arg(long, value_name = "DIR", alias = "pack_dir")]
    pub pack_dir: Vec<PathBuf>,
    /// A processor for the answer, instead of those that the prompt names; may
    /// be given several times. `\,` `\:` `\=` are literal
    #[arg(long, value_name = "NAME[:KEY=VALUE,…]")]
    pub post: Vec<String>,
    /// Leave the answer as the model gave it
    #[arg(long, conflicts_with = "post", alias = "no_post")]
    pub no_post: bool,
    /// The text that the prompt works on: its parameter `text`
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "text_file",
        allow_hyphen_values = true
    )]
    pub text: Option<String>,
    /// Read the text from a file, or from stdin with `-`
    #[arg(long, value_name = "FILE|-", alias = "text_file")]
    pub text_file: Option<PathBuf>,
    /// A parameter; `@FILE` as the value reads a file, `@@` is a literal `@`
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    pub param: Vec<String>,
    /// Parameters in the Python program's way: `k=v,k2=v2`
    #[arg(long, hide = true, value_name = "K=V,…")]
    pub dict: Vec<String>,
    /// The system message, instead of the prompt's own
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Send the text as it stands, without the model's chat template; one user
    /// message only
    #[arg(long)]
    pub raw: bool,
}

/// Which engine and which model.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct Model {
    /// A model's name, or the path of a GGUF file
    #[arg(
        short,
        long,
        value_name = "MODEL",
        alias = "model_id",
        alias = "model-id",
        add = ArgValueCandidates::new(complete::models)
    )]
    pub model: Option<String>,
    /// auto: a server that answers at its usual port; embedded: GGUF files in
    /// this process, and without a model the small demo model; a server's URL;
    /// or a name: lmstudio, ollama, llama-server, vllm, or one of the config
    #[arg(long, value_name = "auto|embedded|URL|NAME")]
    pub engine: Option<String>,
    /// Context that the model must have: tokens, or percent of what was tested
    /// or else of what it was made for
    #[arg(long, value_name = "N|P%", alias = "in_ctx", alias = "in-ctx")]
    pub context: Option<String>,
    /// Load the model anew, also when it is loaded; whoever loaded it
    #[arg(long)]
    pub reload: bool,
    /// Unload the model at the end, if this program loaded it
    #[arg(long)]
    pub unload: bool,
    /// Load it even if it does not seem to fit into memory
    #[arg(long)]
    pub force: bool,
}

/// How long things may take: plain numbers are seconds, `90s` and `5m` work,
/// 0 is off.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits of time (seconds, 90s, 5m; 0 is off)")]
pub struct Patience {
    /// For the connection to a server [default: 10s]
    #[arg(long, value_name = "TIME", alias = "connect_timeout")]
    pub connect_timeout: Option<String>,
    /// For loading the model [default: 10m]
    #[arg(long, value_name = "TIME", alias = "load_timeout")]
    pub load_timeout: Option<String>,
    /// Until the first token; a prompt that is seen to be read on starts it
    /// anew [default: 10m]
    #[arg(long, value_name = "TIME", alias = "first_token_timeout")]
    pub first_token_timeout: Option<String>,
    /// Between two tokens [default: 2m]
    #[arg(long, value_name = "TIME", alias = "stream_timeout")]
    pub stream_timeout: Option<String>,
    /// For the whole [default: off]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// End an answer that ends with the same piece N times in a row, 1 KiB of
    /// it at least; 0 is off [default: 200]
    #[arg(long, value_name = "N", alias = "max_repeat")]
    pub max_repeat: Option<usize>,
}

/// How the model chooses its words.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Randomness; 0 always takes the likeliest token [default: 0.8]
    #[arg(
        long,
        value_name = "T",
        allow_negative_numbers = true,
        alias = "param_temp",
        alias = "param-temp"
    )]
    pub temperature: Option<f64>,
    /// Draw from the K likeliest tokens; 0 is off [default: 40]
    #[arg(
        long,
        value_name = "K",
        allow_negative_numbers = true,
        alias = "param_top_k",
        alias = "param-top-k",
        alias = "top_k"
    )]
    pub top_k: Option<u32>,
    /// Draw from the likeliest tokens that make up P; 1 is off [default: 0.95]
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        alias = "param_top_p",
        alias = "param-top-p",
        alias = "top_p"
    )]
    pub top_p: Option<f64>,
    /// Leave out tokens less likely than P times the likeliest; 0 is off
    /// [default: 0.05]
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        alias = "param_min_p",
        alias = "param-min-p",
        alias = "min_p"
    )]
    pub min_p: Option<f64>,
    /// Make the last 64 tokens less likely; 1 is off [default: 1.1]
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        alias = "param_repeat",
        alias = "param-repeat",
        alias = "repeat_penalty"
    )]
    pub repeat_penalty: Option<f64>,
    /// Make tokens that occurred less likely, -2 to 2
    #[arg(
        long,
        value_name = "X",
        alias = "presence_penalty",
        allow_negative_numbers = true
    )]
    pub presence_penalty: Option<f64>,
    /// Make tokens less likely by how often they occurred, -2 to 2
    #[arg(
        long,
        value_name = "X",
        alias = "frequency_penalty",
        allow_negative_numbers = true
    )]
    pub frequency_penalty: Option<f64>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// The most tokens of the answer: a number, percent of the context, or -1
    /// for no limit [default: -1]
    #[arg(
        long,
        value_name = "N|P%|-1",
        alias = "out_ctx",
        alias = "out-ctx",
        alias = "max_tokens",
        allow_hyphen_values = true
    )]
    pub max_tokens: Option<String>,
    /// A text that ends the answer, instead of the prompt's; may be given
    /// several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// No stop texts, not even the prompt's
    #[arg(long, conflicts_with = "stop", alias = "no_stop")]
    pub no_stop: bool,
    /// How much a reasoning model thinks: off, on, low, medium, high
    #[arg(long, value_name = "LEVEL")]
    pub reasoning: Option<String>,
    /// A JSON Schema (or @FILE) that the answer must satisfy
    #[arg(long, value_name = "SCHEMA|@FILE", alias = "json_schema")]
    pub json_schema: Option<String>,
}

/// Where the answer goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Write the answer into a file; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON object at the end: text, raw text, reasoning, usage,
    /// timings, settings with their origin, packs
    #[arg(long, conflicts_with = "events")]
    pub json: bool,
    /// Print every event as a line of JSON, as it happens
    #[arg(long)]
    pub events: bool,
    /// Show on stderr how it is going: loading, reading the prompt, tokens/s
    #[arg(long, alias = "show_progress")]
    pub show_progress: bool,
    /// Print on stderr what is sent: the exact prompt, every setting with its
    /// origin and whether the engine honours it, stop texts, context
    #[arg(long, alias = "show_request")]
    pub show_request: bool,
    /// Print the model's thinking on stdout, too, before the answer
    #[arg(long, alias = "show_reasoning")]
    pub show_reasoning: bool,
    /// Turn warnings about lost settings and cut answers into errors
    #[arg(long)]
    pub strict: bool,
    /// `none` leaves a <think> span at the start of the answer in its text
    #[arg(
        long,
        value_name = "auto|none",
        default_value = "auto",
        alias = "reasoning_tags"
    )]
    pub reasoning_tags: String,
    /// Answers always stream; the Python program had to be asked
    #[arg(long, hide = true)]
    pub stream: bool,
}

/// What every command has.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Common")]
pub struct Common {
    /// The config file [default: config.toml in the user's config folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more on stderr; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Typed;

    #[test]
    fn the_definitions_hold_together() {
        Typed::command().debug_assert();
    }
}
