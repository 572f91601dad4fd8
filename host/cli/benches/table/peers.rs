//! Other programs that do a similar task, and their configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::{Call, Machine};
use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::timing::Failure;

/// Another program that is measured if it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Curl,
    Aichat,
    Llm,
    Promptfoo,
    LlamaServer,
}

impl Peer {
    const ALL: [Self; 5] = [
        Self::Curl,
        Self::Aichat,
        Self::Llm,
        Self::Promptfoo,
        Self::LlamaServer,
    ];

    /// Returns the name of the program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Aichat => "aichat",
            Self::Llm => "llm",
            Self::Promptfoo => "promptfoo",
            Self::LlamaServer => "llama-server",
        }
    }

    /// Returns a command that installs the program.
    pub(crate) fn install_command(self) -> &'static str {
        match self {
            Self::Curl => "apt install curl",
            Self::Aichat => "cargo install aichat",
            Self::Llm => "pip install llm",
            Self::Promptfoo => "npm install -g promptfoo",
            Self::LlamaServer => "brew install llama.cpp",
        }
    }
}

/// An installed program.
struct Installed {
    peer: Peer,
    path: PathBuf,
    version: String,
}

/// The programs that were found in `PATH`.
pub(crate) struct Peers {
    installed: Vec<Installed>,
}

impl Peers {
    /// Searches `PATH` and runs each program once for its version.
    pub(crate) fn find() -> Self {
        let path = variable("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let find = |peer: Peer| {
            let name = format!("{}{}", peer.name(), std::env::consts::EXE_SUFFIX);
            let mut paths = folders.iter().map(|folder| folder.join(&name));
            let path = paths.find(|path| path.is_file())?;
            let version = version(&path)?;
            Some(Installed {
                peer,
                path,
                version,
            })
        };
        let installed = Peer::ALL.into_iter().filter_map(find).collect();
        Self { installed }
    }

    /// Returns the path of a program.
    pub(crate) fn path(&self, peer: Peer) -> Option<&Path> {
        let mut installed = self.installed.iter();
        let found = installed.find(|installed| installed.peer == peer)?;
        Some(&found.path)
    }

    /// Returns a call of a program, or its name if it is not installed.
    pub(crate) fn call(&self, peer: Peer, args: &[&str], shown: &str) -> (Peer, Option<Call>) {
        let path = self.path(peer);
        (peer, path.map(|path| Call::new(path, args, shown)))
    }

    /// Returns the names of the installed programs with their versions.
    pub(crate) fn versions(&self) -> Vec<String> {
        let installed = self.installed.iter();
        installed
            .map(|found| format!("{} {}", found.peer.name(), found.version))
            .collect()
    }

    /// Returns the programs that are not installed.
    pub(crate) fn missing(&self) -> Vec<Peer> {
        let peers = Peer::ALL.into_iter();
        peers.filter(|peer| self.path(*peer).is_none()).collect()
    }
}

/// Returns the version of a program; `None` if the program does not start or prints none.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let bytes = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&bytes);
    // llama-server prints other lines before `version: N`.
    let from_label = text.split_once("version:").map_or(&*text, |(_, rest)| rest);
    let mut words = from_label.split_whitespace();
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.to_owned())
}

/// Returns an environment variable of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs get a part of the environment of the benchmark"
)]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Starts the double of LM Studio with the loaded model `m`, which gives one answer.
pub(crate) fn start_studio(answer: Answer) -> FakeStudio {
    FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![("m".to_owned(), 32_768)],
            ..Model::llm("m", 32_768)
        }],
        answer,
        ..Setup::default()
    })
}

/// Writes the configurations of aichat and llm for the model `m` of an OpenAI-compatible server.
pub(crate) fn configure(machine: &Machine, url: &str) -> Result<(), Failure> {
    let aichat = format!(
        "model: fake:m\nclients:\n- type: openai-compatible\n  name: fake\n  \
         api_base: {url}/v1\n  api_key: none\n  models:\n  - name: m\n"
    );
    machine.write("home/config.yaml", aichat)?;
    let llm = format!("- model_id: m\n  model_name: m\n  api_base: {url}/v1\n");
    machine.write("home/extra-openai-models.yaml", llm)
}

/// Returns the body of a streamed chat request, for curl.
pub(crate) fn chat_body(prompt: &str) -> String {
    let messages = [serde_json::json!({"role": "user", "content": prompt})];
    serde_json::json!({"model": "m", "messages": messages, "stream": true}).to_string()
}
