//! Who answers at an address: told by the bodies of several probes, never by a
//! status alone. LM Studio says 200 to every path there is.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Trouble, Whole};
use super::{Endpoint, Reach, Server, fault};
use crate::engine::Error;

/// How long one probe may take. A server that computes on its only thread says
/// nothing meanwhile, and waiting longer would not tell us more.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long LM Studio may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(1);

/// How often a server that is still loading is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// The kinds of server, each with its own protocol or its own names in a
/// shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LM Studio.
    LmStudio,
    /// Ollama, by its own protocol.
    Ollama,
    /// llama.cpp's server with one model.
    LlamaServer,
    /// llama.cpp's server that loads models as they are asked for.
    LlamaRouter,
    /// vLLM.
    Vllm,
    /// Anything else that speaks OpenAI's protocol.
    OpenAi,
}

impl Kind {
    /// Its name in the config, in `--engine` and in reports.
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

    /// The names that the config and `--engine` take.
    pub const NAMES: [&'static str; 5] = ["lmstudio", "ollama", "llama-server", "vllm", "openai"];

    /// The kind of that name.
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

    /// The ports that it listens on when nobody says otherwise. llama-server
    /// is on its way from 8080 to 9931.
    #[must_use]
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::LmStudio => &[1234],
            Self::Ollama => &[11434],
            Self::LlamaServer | Self::LlamaRouter => &[8080, 9931],
            Self::Vllm => &[8000],
            Self::OpenAi => &[],
        }
    }

    /// Whether a configured `self` is what a probe found.
    fn admits(self, found: Self) -> bool {
        self == found || (self == Self::LlamaServer && found == Self::LlamaRouter)
    }
}

impl fmt::Display for Kind {
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

/// Asks all addresses at once and gives who answered, in their order.
///
/// # Errors
/// Nobody did; for a `named` address, why.
pub(super) async fn all(
    endpoints: &[Endpoint],
    named: bool,
    reach: Reach,
) -> Result<Vec<Server>, Error> {
    let mut asking = tokio::task::JoinSet::new();
    for (at, endpoint) in endpoints.iter().cloned().enumerate() {
        asking.spawn(async move { (at, detect(&endpoint, named, reach).await) });
    }
    let mut answers = Vec::new();
    while let Some(joined) = asking.join_next().await {
        if let Ok(answer) = joined {
            answers.push(answer);
        }
    }
    answers.sort_by_key(|(at, _)| *at);
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for (at, answer) in answers {
        match answer {
            Ok(server) => {
                tracing::info!(
                    kind = server.kind.name(),
                    version = server.version,
                    url = server.client.base(),
                    "found a server"
                );
                found.push(server);
            }
            Err(error) => {
                let url = endpoints.get(at).map_or("", Endpoint::base);
                tracing::info!(url, %error, "no server");
                refused.push(error);
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    // One that is there and refuses us is worth more words than five that are
    // not there.
    let worst = refused
        .iter()
        .position(|it| named || matches!(it, Error::Unauthorised { .. }));
    match worst {
        Some(at) => Err(refused.swap_remove(at)),
        None => Err(Error::NoEngine {
            tried: endpoints.iter().map(|it| it.base.clone()).collect(),
        }),
    }
}

/// Everything that was asked.
struct Probes {
    greeting: Result<Whole, Trouble>,
    version: Result<Whole, Trouble>,
    root: Result<Whole, Trouble>,
    props: Result<Whole, Trouble>,
    health: Result<Whole, Trouble>,
    plain_version: Result<Whole, Trouble>,
    models: Result<Whole, Trouble>,
}

async fn detect(endpoint: &Endpoint, named: bool, reach: Reach) -> Result<Server, Error> {
    let mut client = Client::new(endpoint, reach.connect)?;
    let start = Instant::now();
    loop {
        let probes = probe(&client, endpoint.is_loopback, reach.connect).await;
        if let Some((kind, version)) = judge(&probes) {
            if endpoint.dialect.is_some_and(|it| !it.admits(kind)) {
                return Err(Error::NotAServer {
                    url: endpoint.base.clone(),
                    what: format!("it is {kind}, and the config says otherwise"),
                });
            }
            let studio_key = endpoint
                .studio_key
                .clone()
                .filter(|_| kind == Kind::LmStudio);
            client.trust(endpoint.key.clone().or(studio_key));
            let version = match kind {
                Kind::LmStudio => studio_version(&client).await,
                _ => version,
            };
            return Ok(Server {
                kind,
                version,
                client,
            });
        }
        let is_loading = [&probes.health, &probes.models].into_iter().any(|it| {
            it.as_ref().is_ok_and(|it| {
                it.status == 503
                    && fault::of_response(it.status, None, &it.body).kind
                        == fault::FaultKind::Loading
            })
        });
        if is_loading && named {
            if reach.load.is_some_and(|limit| start.elapsed() >= limit) {
                return Err(Error::StillLoading {
                    engine: endpoint.base.clone(),
                    limit: start.elapsed(),
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
            continue;
        }
        // The key of this very address may go where the user said it belongs,
        // once something there asks for one.
        if !client.has_key() && endpoint.key.is_some() && asks_for_key(&probes) {
            client.trust(endpoint.key.clone());
            continue;
        }
        return Err(refusal(endpoint, &client, &probes));
    }
}

/// LM Studio tells its version to its own programs. It is for show only: who
/// does not answer in no time is not waited for.
async fn studio_version(client: &Client) -> Option<String> {
    let status = client.get("/lms-status", VERSION_LIMIT).await.ok()?;
    let status = status.json().filter(|_| status.status == 200)?;
    status.get("version")?.as_str().map(str::to_owned)
}

async fn probe(client: &Client, is_loopback: bool, connect: Option<Duration>) -> Probes {
    // The probe's own limit holds for a server that says nothing; a connection
    // that takes its time has its own. On this machine there is none to wait for.
    let limit = match connect {
        Some(connect) if !is_loopback => connect.saturating_add(PROBE_LIMIT),
        _ => PROBE_LIMIT,
    };
    let quick = |path: &'static str| async move {
        match client.get(path, limit).await {
            Err(Trouble::Silent(_)) => Err(Trouble::Silent(limit)),
            other => other,
        }
    };
    // One alone first: where nobody listens, six more say nothing new.
    let greeting = quick("/lmstudio-greeting").await;
    if matches!(
        greeting,
        Err(Trouble::Refused(_) | Trouble::ConnectTimeout(_) | Trouble::Silent(_))
    ) {
        let nothing = || Err(Trouble::Broken("not asked".to_owned()));
        return Probes {
            greeting,
            version: nothing(),
            root: nothing(),
            props: nothing(),
            health: nothing(),
            plain_version: nothing(),
            models: nothing(),
        };
    }
    let (version, root, props, health, plain_version, models) = tokio::join!(
        quick("/api/version"),
        quick("/"),
        quick("/props"),
        quick("/health"),
        quick("/version"),
        quick("/v1/models"),
    );
    Probes {
        greeting,
        version,
        root,
        props,
        health,
        plain_version,
        models,
    }
}

/// The order matters: what LM Studio says to unknown paths must not be taken
/// for somebody else's word.
fn judge(probes: &Probes) -> Option<(Kind, Option<String>)> {
    let good = |probe: &Result<Whole, Trouble>| {
        let whole = probe.as_ref().ok().filter(|it| it.status == 200)?;
        let value = whole.json()?;
        value.get("error").is_none().then_some(value)
    };
    let word = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    if good(&probes.greeting).is_some_and(|it| it.get("lmstudio") == Some(&Value::Bool(true))) {
        return Some((Kind::LmStudio, None));
    }
    let root = probes.root.as_ref().ok();
    let is_ollama = root.is_some_and(|it| it.body.starts_with(b"Ollama is running"));
    if is_ollama && let Some(version) = good(&probes.version).and_then(|it| word(&it, "version")) {
        return Some((Kind::Ollama, Some(version)));
    }
    let models = good(&probes.models).filter(|it| it.get("data").is_some_and(Value::is_array));
    if let Some(props) = good(&probes.props) {
        let build = word(&props, "build_info");
        if props.get("role").and_then(Value::as_str) == Some("router") {
            return Some((Kind::LlamaRouter, build));
        }
        if props.get("default_generation_settings").is_some() {
            return Some((Kind::LlamaServer, build));
        }
    }
    let models = models?;
    let owner = models
        .pointer("/data/0/owned_by")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match owner {
        "llamacpp" => Some((Kind::LlamaServer, None)),
        "vllm" => Some((
            Kind::Vllm,
            good(&probes.plain_version).and_then(|it| word(&it, "version")),
        )),
        _ if models.get("object").and_then(Value::as_str) == Some("list") => {
            Some((Kind::OpenAi, None))
        }
        _ => None,
    }
}

fn asks_for_key(probes: &Probes) -> bool {
    [&probes.models, &probes.props]
        .into_iter()
        .any(|it| it.as_ref().is_ok_and(|it| matches!(it.status, 401 | 403)))
}

/// Why nobody was recognised.
fn refusal(endpoint: &Endpoint, client: &Client, probes: &Probes) -> Error {
    let url = endpoint.base.clone();
    match &probes.greeting {
        Err(Trouble::ConnectTimeout(limit)) => {
            return Error::ConnectTimeout {
                engine: url,
                limit: *limit,
            };
        }
        Err(trouble @ (Trouble::Refused(_) | Trouble::Silent(_) | Trouble::Redirect(_))) => {
            return Error::Unreachable {
                engine: url,
                why: trouble.to_string(),
            };
        }
        _ => {}
    }
    if asks_for_key(probes) {
        let answer = probes.models.as_ref().ok().or(probes.props.as_ref().ok());
        let words = answer.map_or_else(String::new, |it| {
            fault::of_response(it.status, None, &it.body).message
        });
        return Error::Unauthorised {
            engine: url,
            had_key: client.has_key(),
            message: client.redact(&words),
        };
    }
    match &probes.models {
        Ok(whole) => Error::NotAServer {
            url,
            what: format!(
                "GET /v1/models gives HTTP {}: {}",
                whole.status,
                client.redact(&fault::of_text(&String::from_utf8_lossy(&whole.body)).message)
            ),
        },
        Err(trouble) => Error::Unreachable {
            engine: url,
            why: trouble.to_string(),
        },
    }
}
