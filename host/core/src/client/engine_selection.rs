//! Which servers may answer, at which addresses and with which keys.

use std::path::PathBuf;

use fs_err as fs;

use super::notices::Notices;
use crate::config::{Config, EngineConfig, HeaderConfig};
use crate::engine::{
    AUTO, EMBEDDED, EngineSelection, LLAMA_CPP, ServerAddress, ServerKind, TrustedCertificates,
};
use crate::environment::Environment;
use crate::error::Error;
use crate::secret::Secret;
use crate::studio_settings;
use crate::suggest::similar_names;

/// The variable that LM Studio's own programs read their token from.
const STUDIO_TOKEN: &str = "LM_API_TOKEN";
/// The variable for the key of the server that `--engine` names.
const API_KEY: &str = "LMSTRIX_HOST_API_KEY";
/// The variable that holds Ollama's address.
const OLLAMA_HOST: &str = "OLLAMA_HOST";

/// Returns the engines that a flag, the environment or the config selects.
///
/// # Errors
/// Returns an error if the name is no engine, the address is invalid, or a key cannot
/// be sent in a header.
pub fn engine_selection(
    flag: Option<&str>,
    env: &Environment,
    config: &Config,
    notices: &Notices,
) -> Result<EngineSelection, Error> {
    let engine = flag
        .or_else(|| env.own_variables.get("ENGINE").map(String::as_str))
        .or(config.engine.as_deref())
        .unwrap_or(AUTO);
    let studio_token = env.all_variables.get(STUDIO_TOKEN).cloned();
    let configured = |engine: &EngineConfig| configured(engine, env, notices);
    match engine {
        EMBEDDED => return Ok(EngineSelection::Embedded),
        LLAMA_CPP => return Ok(EngineSelection::LlamaCpp),
        AUTO => {
            let mut addresses = config
                .engines
                .iter()
                .map(configured)
                .collect::<Result<Vec<_>, _>>()?;
            let kinds = [
                ServerKind::LmStudio,
                ServerKind::Ollama,
                ServerKind::LlamaServer,
                ServerKind::Vllm,
            ];
            for kind in kinds.into_iter().filter(|_| config.discover) {
                for address in default_addresses(kind, env, notices) {
                    if addresses
                        .iter()
                        .all(|known| known.base_url() != address.base_url())
                    {
                        addresses.push(address);
                    }
                }
            }
            return Ok(EngineSelection::Auto(addresses));
        }
        _ => {}
    }
    let key = env
        .all_variables
        .get(API_KEY)
        .map(checked_key(API_KEY))
        .transpose()?;
    if let Some(engine) = config.engines.iter().find(|known| known.name == engine) {
        let address = configured(engine)?;
        return Ok(EngineSelection::Servers(vec![match key {
            Some(key) => address.with_key(Some(key)),
            None => address,
        }]));
    }
    if let Some(kind) = ServerKind::from_name(engine)
        && kind != ServerKind::OpenAi
    {
        let addresses = default_addresses(kind, env, notices).into_iter();
        return Ok(EngineSelection::Servers(
            addresses
                .map(|address| address.with_kind(Some(kind)).with_key(key.clone()))
                .collect(),
        ));
    }
    // A name has none of these characters, an address at least one.
    if engine.contains([':', '.', '/']) || engine == "localhost" {
        let address = ServerAddress::parse(engine).map_err(|error| {
            Error::usage(format!("--engine {}: {error}", without_password(engine)))
        })?;
        return Ok(EngineSelection::Servers(vec![
            address.with_key(key).with_lmstudio_key(studio_token),
        ]));
    }
    let names: Vec<&str> = config
        .engines
        .iter()
        .map(|engine| engine.name.as_str())
        .chain(ServerKind::NAMES)
        .chain([AUTO, LLAMA_CPP, EMBEDDED])
        .filter(|name| *name != "openai")
        .collect();
    let failure = Error::from(crate::engine::Error::UnknownEngine(engine.to_owned()));
    let close = similar_names(engine, names.iter().copied());
    let failure = match close.first() {
        Some(close) => failure.hint(format!("did you mean {close}?")),
        None => failure,
    };
    Err(failure.hint(format!(
        "--engine takes a server's URL, or one of {}",
        names.join(", ")
    )))
}

/// Returns a typed address without user name and password, for messages.
fn without_password(engine: &str) -> String {
    match engine.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => engine.to_owned(),
    }
}

/// Returns the key if a header can carry it. The error does not show the key.
fn checked_key(from: &str) -> impl Fn(&Secret) -> Result<Secret, Error> {
    move |key| {
        if key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(key.clone())
        } else {
            Err(Error::usage(format!(
                "the key in {from} contains blanks or non-ASCII characters"
            )))
        }
    }
}

fn configured(
    engine: &EngineConfig,
    env: &Environment,
    notices: &Notices,
) -> Result<ServerAddress, Error> {
    let at = |key: &str| format!("the config's [engines.{}] {key}", engine.name);
    let address = ServerAddress::parse(&engine.url)
        .map_err(|error| Error::usage(format!("{}: {error}", at("url"))))?;
    let dialect = engine
        .dialect
        .as_deref()
        .map(|name| {
            ServerKind::from_name(name).ok_or_else(|| {
                Error::usage(format!(
                    "{}: `{name}` is not one of {}",
                    at("dialect"),
                    ServerKind::NAMES.join(", ")
                ))
            })
        })
        .transpose()?;
    let key = match &engine.key_env {
        None => None,
        Some(name) => {
            let key = env.all_variables.get(name);
            if key.is_none() {
                notices.warning(&format!("{} is {name}, which is not set", at("key_env")));
            }
            key.map(checked_key(name)).transpose()?
        }
    };
    let trusted = match &engine.ca_file {
        None => TrustedCertificates::default(),
        Some(path) => TrustedCertificates::from_pem_file(path)
            .map_err(|error| Error::usage(format!("{}: {error}", at("ca_file"))))?,
    };
    if engine.insecure {
        notices.warning(&format!(
            "{}: the certificate of the server is not checked",
            at("insecure")
        ));
    }
    let mut address = address.with_certificates(trusted, engine.insecure);
    for (name, value) in &engine.headers {
        let value = match value {
            HeaderConfig::Value(value) => Secret::new(value),
            HeaderConfig::Env { env: variable } => {
                let Some(value) = env.all_variables.get(variable) else {
                    notices.warning(&format!(
                        "{} is {variable}, which is not set",
                        at("headers")
                    ));
                    continue;
                };
                value.clone()
            }
        };
        address
            .add_header(name, value)
            .map_err(|error| Error::usage(format!("{}: {error}", at("headers"))))?;
    }
    Ok(address
        .with_dialect(dialect)
        .with_key(key)
        .with_lmstudio_key(env.all_variables.get(STUDIO_TOKEN).cloned()))
}

/// Returns the addresses at which a kind of server listens by default.
fn default_addresses(kind: ServerKind, env: &Environment, notices: &Notices) -> Vec<ServerAddress> {
    let configured = match kind {
        ServerKind::LmStudio => studio_port(env).map(|port| format!("127.0.0.1:{port}")),
        ServerKind::Ollama => env
            .all_variables
            .get(OLLAMA_HOST)
            .map(|host| with_port(host.expose())),
        _ => None,
    };
    let addresses = match configured {
        Some(address) => vec![address],
        None => kind
            .default_ports()
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect(),
    };
    let token = env.all_variables.get(STUDIO_TOKEN);
    addresses
        .iter()
        .filter_map(|address| match ServerAddress::parse(address) {
            Ok(address) => Some(address.with_lmstudio_key(token.cloned())),
            Err(error) => {
                notices.warning(&format!("{OLLAMA_HOST}: {error}"));
                None
            }
        })
        .collect()
}

/// Returns the address at which LM Studio's server would listen.
pub fn default_lm_studio_address(env: &Environment, notices: &Notices) -> Option<String> {
    let addresses = default_addresses(ServerKind::LmStudio, env, notices);
    let first = addresses.first()?;
    Some(first.base_url().to_owned())
}

/// Adds Ollama's default port, which `OLLAMA_HOST` may leave out.
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

/// Returns LM Studio's folder, if it exists.
pub fn lm_studio_home(env: &Environment) -> Option<PathBuf> {
    let home = PathBuf::from(
        env.all_variables
            .get("HOME")
            .or(env.all_variables.get("USERPROFILE"))?
            .expose(),
    );
    studio_settings::find_lm_studio_dir(&home)
}

/// Returns the port that LM Studio's server was last started with, from LM Studio's
/// own file.
fn studio_port(env: &Environment) -> Option<u16> {
    let path = lm_studio_home(env)?.join(".internal/http-server-config.json");
    let text = fs::read_to_string(path).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    u16::try_from(value.get("port")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(own: &[(&str, &str)], others: &[(&str, &str)]) -> Environment {
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let others = others
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Secret::new(v)));
        Environment {
            own_variables: own.collect(),
            all_variables: others.collect(),
            ..Environment::default()
        }
    }

    #[test]
    fn addresses_come_from_the_config_then_from_default_ports() {
        let mut config = Config::default();
        config.engines.push(EngineConfig {
            name: "mine".to_owned(),
            url: "http://127.0.0.1:1234/v1".to_owned(),
            dialect: None,
            key_env: None,
            ..EngineConfig::default()
        });
        let env = env(&[], &[("OLLAMA_HOST", "0.0.0.0")]);
        let EngineSelection::Auto(found) =
            engine_selection(Some(AUTO), &env, &config, &Notices::ignore()).unwrap()
        else {
            panic!("not auto")
        };
        let found: Vec<&str> = found.iter().map(ServerAddress::base_url).collect();
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
            let wanted = engine_selection(Some(engine), &env, &config, &Notices::ignore()).unwrap();
            assert_eq!(
                matches!(wanted, EngineSelection::Servers(it) if it.len() == 1),
                is_one,
                "{engine}"
            );
        }
        for (engine, says) in [
            ("lmstudoi", "did you mean lmstudio?"),
            ("http://a:b@c", "…@c"),
        ] {
            let failure =
                engine_selection(Some(engine), &env, &config, &Notices::ignore()).unwrap_err();
            let all = format!("{} {}", failure.message, failure.hints.join(" "));
            assert!(all.contains(says), "{all}");
            assert!(!all.contains("a:b"), "{all}");
        }
    }

    #[test]
    fn lm_studios_port_comes_from_its_own_file() {
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
