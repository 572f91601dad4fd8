//! Which servers may answer, with which keys, and how long they may take.

use std::path::PathBuf;
use std::time::Duration;

use fs_err as fs;

use super::{known, life};
use crate::args::{Model, Patience};
use crate::config::{Config, Engine};
use crate::duration;
use crate::engine::{AUTO, Choice, Context, EMBEDDED, Endpoint, Error, Kind, Reach, Wanted};
use crate::environment::Env;
use crate::error::Failure;
use crate::job::Timeouts;
use crate::secret::Secret;
use crate::sink::Messages;
use crate::studio_settings;
use crate::suggest::closest;

/// The variable that LM Studio's own programs read their token from.
const STUDIO_TOKEN: &str = "LM_API_TOKEN";
/// The variable for the key of the server that `--engine` names.
const API_KEY: &str = "LMSTRIX_HOST_API_KEY";
/// The variable by which Ollama's programs know where it listens.
const OLLAMA_HOST: &str = "OLLAMA_HOST";
/// How long a connection may take when nobody says otherwise.
const CONNECT: Duration = Duration::from_secs(10);

/// The limits of time that hold for this run.
pub(in super::super) fn limits(
    patience: &Patience,
    env: &Env,
    config: &Config,
) -> Result<(Timeouts, Option<Duration>), Failure> {
    let default = Timeouts::default();
    let pick = |flag: &Option<String>,
                name: &str,
                written: Option<Option<Duration>>,
                default: Option<Duration>| {
        let variable = name.to_uppercase().replace('-', "_");
        let (text, source) = match (flag, env.own.get(&variable)) {
            (Some(text), _) => (text, format!("--{name}")),
            (None, Some(text)) => (text, format!("LMSTRIX_HOST_{variable}")),
            (None, None) => return Ok(written.unwrap_or(default)),
        };
        duration::parse(text).map_err(|why| Failure::usage(format!("{source}: {why}")))
    };
    let written = config.timeouts;
    let Patience {
        connect_timeout,
        load_timeout,
        first_token_timeout,
        stream_timeout,
        timeout,
        max_repeat,
    } = patience;
    let limits = Timeouts {
        load: pick(load_timeout, "load-timeout", written.load, default.load)?,
        first_token: pick(
            first_token_timeout,
            "first-token-timeout",
            written.first_token,
            default.first_token,
        )?,
        stream: pick(
            stream_timeout,
            "stream-timeout",
            written.stream,
            default.stream,
        )?,
        total: pick(timeout, "timeout", written.total, default.total)?,
        max_repeat: max_repeat.unwrap_or(default.max_repeat),
    };
    let connect = pick(
        connect_timeout,
        "connect-timeout",
        written.connect,
        Some(CONNECT),
    )?;
    Ok((limits, connect))
}

/// How long servers may take, for commands that only ask and load.
pub(in super::super) fn reach(env: &Env, config: &Config) -> Result<(Reach, Timeouts), Failure> {
    let (limits, connect) = limits(&Patience::default(), env, config)?;
    let load = limits.load;
    Ok((Reach { connect, load }, limits))
}

/// What to choose an engine and a model by.
pub(in super::super) fn choice(
    model: &Model,
    env: &Env,
    config: &Config,
    reach: Reach,
    messages: Messages,
) -> Result<Choice, Failure> {
    let wanted = wanted(model.engine.as_deref(), env, config, messages)?;
    let known = known(env, messages);
    let context = model
        .context
        .as_ref()
        .map(|it| (it, "--context"))
        .or_else(|| Some((env.own.get("CONTEXT")?, "LMSTRIX_HOST_CONTEXT")));
    let context = context
        .map(|(text, source)| {
            Context::parse(text).map_err(|why| Failure::usage(format!("{source}: {why}")))
        })
        .transpose()?;
    Ok(Choice {
        wanted,
        model: model
            .model
            .clone()
            .or_else(|| env.own.get("MODEL").cloned()),
        fallback: config.model.clone(),
        context,
        models: env.paths.data.join("models"),
        reach,
        last: known.last_used.as_ref().map(|it| it.model.clone()),
        life: life(model, env, &known),
    })
}

/// The engines that are meant by a flag, the environment or the config.
pub(in super::super) fn wanted(
    flag: Option<&str>,
    env: &Env,
    config: &Config,
    messages: Messages,
) -> Result<Wanted, Failure> {
    let engine = flag
        .or_else(|| env.own.get("ENGINE").map(String::as_str))
        .or(config.engine.as_deref())
        .unwrap_or(AUTO);
    let studio_token = env.others.get(STUDIO_TOKEN).cloned();
    let configured = |it: &Engine| configured(it, env, messages);
    match engine {
        EMBEDDED => return Ok(Wanted::Embedded),
        AUTO => {
            let mut endpoints = config
                .engines
                .iter()
                .map(configured)
                .collect::<Result<Vec<_>, _>>()?;
            let kinds = [Kind::LmStudio, Kind::Ollama, Kind::LlamaServer, Kind::Vllm];
            for kind in kinds.into_iter().filter(|_| config.discover) {
                for usual in usual(kind, env, messages) {
                    if endpoints.iter().all(|it| it.base() != usual.base()) {
                        endpoints.push(usual);
                    }
                }
            }
            return Ok(Wanted::Auto(endpoints));
        }
        _ => {}
    }
    let key = env
        .others
        .get(API_KEY)
        .map(checked_key(API_KEY))
        .transpose()?;
    if let Some(it) = config.engines.iter().find(|it| it.name == engine) {
        let endpoint = configured(it)?;
        return Ok(Wanted::Servers(vec![match key {
            Some(key) => endpoint.with_key(Some(key)),
            None => endpoint,
        }]));
    }
    if let Some(kind) = Kind::from_name(engine)
        && kind != Kind::OpenAi
    {
        let usual = usual(kind, env, messages).into_iter();
        return Ok(Wanted::Servers(
            usual
                .map(|it| it.with_dialect(Some(kind)).with_key(key.clone()))
                .collect(),
        ));
    }
    // A name holds none of these, an address at least one.
    if engine.contains([':', '.', '/']) || engine == "localhost" {
        let endpoint = Endpoint::parse(engine)
            .map_err(|e| Failure::usage(format!("--engine {}: {e}", without_password(engine))))?;
        return Ok(Wanted::Servers(vec![
            endpoint.with_key(key).with_studio_key(studio_token),
        ]));
    }
    let names: Vec<&str> = config
        .engines
        .iter()
        .map(|it| it.name.as_str())
        .chain(Kind::NAMES)
        .chain([AUTO, EMBEDDED])
        .filter(|it| *it != "openai")
        .collect();
    let failure = Failure::from(Error::UnknownEngine(engine.to_owned()));
    let close = closest(engine, names.iter().copied());
    let failure = match close.first() {
        Some(close) => failure.hint(format!("did you mean {close}?")),
        None => failure,
    };
    Err(failure.hint(format!(
        "--engine takes a server's URL, or one of {}",
        names.join(", ")
    )))
}

/// What a message may repeat of an address that was typed.
fn without_password(engine: &str) -> String {
    match engine.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => engine.to_owned(),
    }
}

/// Whether a header can carry the key. What is wrong with it is said without it.
fn checked_key(from: &str) -> impl Fn(&Secret) -> Result<Secret, Failure> {
    move |key| {
        if key.expose().bytes().all(|it| it.is_ascii_graphic()) {
            Ok(key.clone())
        } else {
            Err(Failure::usage(format!(
                "the key in {from} has blanks or characters that no key has"
            )))
        }
    }
}

fn configured(engine: &Engine, env: &Env, messages: Messages) -> Result<Endpoint, Failure> {
    let at = |key: &str| format!("the config's [engines.{}] {key}", engine.name);
    let endpoint =
        Endpoint::parse(&engine.url).map_err(|e| Failure::usage(format!("{}: {e}", at("url"))))?;
    let dialect = engine
        .dialect
        .as_deref()
        .map(|name| {
            Kind::from_name(name).ok_or_else(|| {
                Failure::usage(format!(
                    "{}: `{name}` is none of {}",
                    at("dialect"),
                    Kind::NAMES.join(", ")
                ))
            })
        })
        .transpose()?;
    let key = match &engine.key_env {
        None => None,
        Some(name) => {
            let key = env.others.get(name);
            if key.is_none() {
                messages.warning(&format!("{} is {name}, which is not set", at("key_env")));
            }
            key.map(checked_key(name)).transpose()?
        }
    };
    Ok(endpoint
        .with_dialect(dialect)
        .with_key(key)
        .with_studio_key(env.others.get(STUDIO_TOKEN).cloned()))
}

/// Where a kind of server listens when nobody says otherwise.
fn usual(kind: Kind, env: &Env, messages: Messages) -> Vec<Endpoint> {
    let told = match kind {
        Kind::LmStudio => studio_port(env).map(|port| format!("127.0.0.1:{port}")),
        Kind::Ollama => env.others.get(OLLAMA_HOST).map(|it| with_port(it.expose())),
        _ => None,
    };
    let addresses = match told {
        Some(told) => vec![told],
        None => kind
            .ports()
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect(),
    };
    let token = env.others.get(STUDIO_TOKEN);
    addresses
        .iter()
        .filter_map(|address| match Endpoint::parse(address) {
            Ok(endpoint) => Some(endpoint.with_studio_key(token.cloned())),
            Err(e) => {
                messages.warning(&format!("{OLLAMA_HOST}: {e}"));
                None
            }
        })
        .collect()
}

/// Where LM Studio's server is when it does not run and so cannot be asked.
pub(in super::super) fn usual_studio(env: &Env, messages: Messages) -> Option<String> {
    let usual = usual(Kind::LmStudio, env, messages);
    usual.first().map(|it| it.base().to_owned())
}

/// `OLLAMA_HOST` may leave out the port.
fn with_port(host: &str) -> String {
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    let has_port = bare
        .trim_end_matches('/')
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port || host.starts_with("https:") {
        host.to_owned()
    } else {
        format!("{}:11434", host.trim_end_matches('/'))
    }
}

/// LM Studio's folder, where there is one.
pub(in super::super) fn studio_home(env: &Env) -> Option<PathBuf> {
    let home = PathBuf::from(
        env.others
            .get("HOME")
            .or(env.others.get("USERPROFILE"))?
            .expose(),
    );
    studio_settings::home(&home)
}

/// The port that LM Studio's server was last started with, from its own file.
fn studio_port(env: &Env) -> Option<u16> {
    let path = studio_home(env)?.join(".internal/http-server-config.json");
    let text = fs::read_to_string(path).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    u16::try_from(value.get("port")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(own: &[(&str, &str)], others: &[(&str, &str)]) -> Env {
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let others = others
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Secret::new(v)));
        Env {
            own: own.collect(),
            others: others.collect(),
            ..Env::default()
        }
    }

    fn quiet() -> Messages {
        Messages::new(true, false, false)
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_config() {
        let seconds = |n| Some(Duration::from_secs(n));
        let mut config = Config::default();
        config.timeouts.stream = Some(None);
        config.timeouts.load = Some(seconds(7));
        let flags = Patience {
            load_timeout: Some("5m".to_owned()),
            ..Patience::default()
        };
        let env = env(&[("LOAD_TIMEOUT", "3"), ("TIMEOUT", "9")], &[]);
        let (limits, connect) = limits(&flags, &env, &config).unwrap();
        assert_eq!(
            (
                limits.load,
                limits.stream,
                limits.total,
                limits.first_token,
                connect
            ),
            (seconds(300), None, seconds(9), seconds(600), seconds(10))
        );
    }

    #[test]
    fn addresses_come_from_the_config_then_from_the_usual_places() {
        let mut config = Config::default();
        config.engines.push(Engine {
            name: "mine".to_owned(),
            url: "http://127.0.0.1:1234/v1".to_owned(),
            dialect: None,
            key_env: None,
        });
        let env = env(&[], &[("OLLAMA_HOST", "0.0.0.0")]);
        let Wanted::Auto(found) = wanted(Some(AUTO), &env, &config, quiet()).unwrap() else {
            panic!("not auto")
        };
        let found: Vec<&str> = found.iter().map(Endpoint::base).collect();
        assert_eq!(
            found,
            [
                "http://127.0.0.1:1234",
                "http://127.0.0.1:11434",
                "http://127.0.0.1:8080",
                "http://127.0.0.1:9931",
                "http://127.0.0.1:8000",
            ]
        );
        for (engine, is_one) in [
            ("mine", true),
            ("lmstudio", true),
            ("http://h:1", true),
            ("localhost:1", true),
            ("localhost", true),
        ] {
            let wanted = wanted(Some(engine), &env, &config, quiet()).unwrap();
            assert_eq!(
                matches!(wanted, Wanted::Servers(it) if it.len() == 1),
                is_one,
                "{engine}"
            );
        }
        for (engine, says) in [
            ("lmstudoi", "did you mean lmstudio?"),
            ("http://a:b@c", "…@c"),
        ] {
            let failure = wanted(Some(engine), &env, &config, quiet()).unwrap_err();
            let all = format!("{} {}", failure.message, failure.hints.join(" "));
            assert!(all.contains(says), "{all}");
            assert!(!all.contains("a:b"), "{all}");
        }
    }

    #[test]
    fn lm_studio_says_itself_where_it_listens() {
        let home = tempfile::tempdir().unwrap();
        let internal = home.path().join(".lmstudio/.internal");
        fs::create_dir_all(&internal).unwrap();
        fs::write(
            internal.join("http-server-config.json"),
            r#"{"port": 4321}"#,
        )
        .unwrap();
        let env = env(&[], &[("HOME", home.path().to_str().unwrap())]);
        assert_eq!(studio_port(&env), Some(4321));
    }
}
