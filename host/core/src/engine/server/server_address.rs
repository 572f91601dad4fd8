//! The address of a server and the API keys that may be sent to it.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::server_kind::ServerKind;
use super::tls::TrustedCertificates;
use crate::secret::Secret;

/// The base URL of a server, with its kind and its keys.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    /// The base URL without a trailing slash, such as `http://127.0.0.1:1234`.
    pub(super) base_url: String,
    /// The base URL of OpenAI's API as it was given, such as `http://h/api/v1`, if that is
    /// not `/v1` below `base_url`.
    pub(super) given_api: Option<String>,
    /// The kind of server that must be detected; `None` accepts any.
    pub(super) kind: Option<ServerKind>,
    /// The kind of server to use if none of that kind is detected.
    pub(super) dialect: Option<ServerKind>,
    /// The key for this address only.
    pub(super) key: Option<Secret>,
    /// This program started the server, so the key is sent at once.
    pub(super) is_own: bool,
    /// The LM Studio key, sent only if the server is detected as LM Studio.
    pub(super) lmstudio_key: Option<Secret>,
    /// Certificates that are trusted for this address.
    pub(super) trusted: TrustedCertificates,
    /// Do not check the server's certificate.
    pub(super) is_insecure: bool,
    /// Headers of every request, with values that are not shown.
    pub(super) headers: Vec<(HeaderName, Secret)>,
    /// `true` if the host is a loopback address.
    pub(super) is_loopback: bool,
    /// The host was given as `localhost`, which stands for two addresses.
    is_localhost: bool,
}

/// A server URL that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

/// Endpoints that are removed, since users often copy them with the address.
const ENDPOINT_PATHS: [&str; 3] = ["/chat/completions", "/completions", "/models"];
/// Paths of APIs that are removed. The address is first tried with them.
const API_PATHS: [&str; 3] = ["/v1", "/v0", "/api"];

fn strip_suffixes(url: &mut String, suffixes: &[&str]) {
    for suffix in suffixes {
        if let Some(stripped) = url.strip_suffix(suffix) {
            url.truncate(stripped.trim_end_matches('/').len());
        }
    }
}

impl ServerAddress {
    /// Returns whether there is a key for a server of this kind at this address.
    pub(super) fn has_key_for(&self, kind: ServerKind) -> bool {
        self.key.is_some() || (kind == ServerKind::LmStudio && self.lmstudio_key.is_some())
    }

    /// Parses an address such as `http://127.0.0.1:1234`, `localhost:8080` or
    /// `http://127.0.0.1:1234/v1`.
    ///
    /// # Errors
    /// Returns an error unless `text` is an http or https URL without user
    /// name, password, query and fragment.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason: &str| InvalidUrl(reason.to_owned());
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let mut url =
            Url::parse(&with_scheme).map_err(|e| InvalidUrl(format!("not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("must start with `http://` or `https://`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "must not contain a user name or password, which would show up in logs; set \
                 `key_env` in the config or LMSTRIX_HOST_API_KEY instead",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("must be an address without `?` and `#`"));
        }
        let Some(host) = url.host_str().map(str::to_owned) else {
            return Err(invalid("has no host"));
        };
        // A server with two names would be recorded twice. With https the name
        // stays, because the certificate is issued for it.
        let is_localhost = host == "localhost" && url.scheme() == "http";
        if is_localhost {
            url.set_host(Some("127.0.0.1"))
                .map_err(|_| invalid("has no host"))?;
        }
        // A server that listens on all interfaces is reached by loopback.
        if host == "0.0.0.0" || host == "[::]" {
            let loopback = if host == "0.0.0.0" {
                "127.0.0.1"
            } else {
                "[::1]"
            };
            url.set_host(Some(loopback))
                .map_err(|_| invalid("has no host"))?;
        }
        let is_loopback = is_loopback(url.host_str().unwrap_or_default());
        let mut base = url.as_str().trim_end_matches('/').to_owned();
        strip_suffixes(&mut base, &ENDPOINT_PATHS);
        let given_api = base.clone();
        strip_suffixes(&mut base, &API_PATHS);
        let has_path = url.path() != "/" && given_api != format!("{base}/v1");
        Ok(Self {
            base_url: base,
            given_api: has_path.then_some(given_api),
            is_own: false,
            kind: None,
            dialect: None,
            key: None,
            lmstudio_key: None,
            trusted: TrustedCertificates::default(),
            is_insecure: false,
            headers: Vec::new(),
            is_loopback,
            is_localhost,
        })
    }

    /// Returns the other address of `localhost`, for a server that listens on IPv6 only.
    pub(super) fn on_ipv6(&self) -> Option<Self> {
        let replace = |url: &str| url.replacen("//127.0.0.1", "//[::1]", 1);
        self.is_localhost.then(|| Self {
            base_url: replace(&self.base_url),
            given_api: self.given_api.as_deref().map(replace),
            ..self.clone()
        })
    }

    /// Sets the kind of server, which detection then requires.
    #[must_use]
    pub fn with_kind(mut self, kind: Option<ServerKind>) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the kind of server to use, even if it is not detected as such.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Option<ServerKind>) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the key for this address.
    #[must_use]
    pub fn with_key(mut self, key: Option<Secret>) -> Self {
        self.key = key;
        self
    }

    /// Sets the key of a server that this program started. It is sent with every request.
    #[must_use]
    pub(in crate::engine) fn with_own_key(mut self, key: Secret) -> Self {
        self.key = Some(key);
        self.is_own = true;
        self
    }

    /// Sets the key to send if the server is LM Studio.
    #[must_use]
    pub fn with_lmstudio_key(mut self, key: Option<Secret>) -> Self {
        self.lmstudio_key = key;
        self
    }

    /// Sets the certificates that are trusted for this address, or that none is checked.
    #[must_use]
    pub fn with_certificates(mut self, trusted: TrustedCertificates, is_insecure: bool) -> Self {
        self.trusted = trusted;
        self.is_insecure = is_insecure;
        self
    }

    /// Adds a header to every request.
    ///
    /// # Errors
    /// Returns an error if the name or the value cannot be sent. It does not show the value.
    pub fn add_header(&mut self, name: &str, value: Secret) -> Result<(), String> {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("`{name}` is not the name of a header"))?;
        if HeaderValue::from_str(value.expose()).is_err() {
            return Err(format!("the value of `{name}` cannot be sent in a header"));
        }
        self.headers.push((header, value));
        Ok(())
    }

    /// Returns the base URL without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Returns whether the server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_pasted_addresses() {
        for (text, base_url, is_loopback) in [
            ("http://127.0.0.1:1234", "http://127.0.0.1:1234", true),
            ("http://127.0.0.1:1234/v1/", "http://127.0.0.1:1234", true),
            ("localhost:8080", "http://127.0.0.1:8080", true),
            ("LOCALHOST:8080/v1", "http://127.0.0.1:8080", true),
            ("https://localhost:1", "https://localhost:1", true),
            ("http://0.0.0.0:11434", "http://127.0.0.1:11434", true),
            ("http://[::1]:1/api/v1", "http://[::1]:1", true),
            (
                "https://llm.example.com/pre/v1",
                "https://llm.example.com/pre",
                false,
            ),
            ("http://h:1/v1/chat/completions", "http://h:1", false),
            ("192.168.1.5:1234", "http://192.168.1.5:1234", false),
        ] {
            let address = ServerAddress::parse(text).unwrap();
            assert_eq!(
                (address.base_url(), address.is_loopback),
                (base_url, is_loopback),
                "{text}"
            );
        }
        for (text, given_api) in [
            ("http://h:1", None),
            ("http://h:1/v1", None),
            ("http://h:1/pre/v1/chat/completions", None),
            ("http://h:1/api/v1", Some("http://h:1/api/v1")),
            (
                "http://h:1/api/v1/chat/completions/",
                Some("http://h:1/api/v1"),
            ),
            ("http://h:1/v3", Some("http://h:1/v3")),
            ("http://h:1/openai/v1", None),
        ] {
            let address = ServerAddress::parse(text).unwrap();
            assert_eq!(address.given_api.as_deref(), given_api, "{text}");
        }
        for (text, expected) in [
            ("ftp://x", "http"),
            ("http://me:secret@x", "key_env"),
            ("http://x?key=1", "address"),
            ("http://", "URL"),
            ("", "URL"),
        ] {
            let error = ServerAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
