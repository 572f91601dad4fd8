//! The kinds of server, with their names and default ports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of server. Each has its own API, or its own variant of OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerKind {
    /// LM Studio.
    LmStudio,
    /// Ollama, used by its native API.
    Ollama,
    /// llama.cpp's server, started with one model.
    LlamaServer,
    /// llama.cpp's server in router mode, which loads models on request.
    LlamaRouter,
    /// vLLM.
    Vllm,
    /// Any other server with an OpenAI-compatible API.
    OpenAi,
}

impl ServerKind {
    /// Returns the name in the config, in `--engine` and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LmStudio => "lmstudio",
            Self::Ollama => "ollama",
            Self::LlamaServer | Self::LlamaRouter => "llama-server",
            Self::Vllm => "vllm",
            Self::OpenAi => "openai",
        }
    }

    /// The names that the config and `--engine` accept.
    pub const NAMES: [&'static str; 5] = ["lmstudio", "ollama", "llama-server", "vllm", "openai"];

    /// Returns the kind of this name; `None` unless it is one of `NAMES`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "lmstudio" => Self::LmStudio,
            "ollama" => Self::Ollama,
            "llama-server" => Self::LlamaServer,
            "vllm" => Self::Vllm,
            "openai" => Self::OpenAi,
            _ => return None,
        })
    }

    /// Returns the default ports. llama-server is changing its default from
    /// 8080 to 9931.
    #[must_use]
    pub fn default_ports(self) -> &'static [u16] {
        match self {
            Self::LmStudio => &[1234],
            Self::Ollama => &[11434],
            Self::LlamaServer | Self::LlamaRouter => &[8080, 9931],
            Self::Vllm => &[8000],
            Self::OpenAi => &[],
        }
    }

    /// Returns `true` if the detected kind satisfies the configured kind
    /// `self`.
    pub(super) fn accepts(self, detected: Self) -> bool {
        self == detected || (self == Self::LlamaServer && detected == Self::LlamaRouter)
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LmStudio => "LM Studio",
            Self::Ollama => "Ollama",
            Self::LlamaServer => "llama-server",
            Self::LlamaRouter => "llama-server (router)",
            Self::Vllm => "vLLM",
            Self::OpenAi => "OpenAI-compatible server",
        })
    }
}
