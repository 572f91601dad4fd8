//! Where a server may be, and which key it may be shown.

use std::net::IpAddr;

use reqwest::Url;

use super::Kind;
use crate::secret::Secret;

/// An address at which a server may answer.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://127.0.0.1:1234`, without a slash at its end.
    pub(super) base: String,
    /// Which protocol it speaks, when somebody wrote that down.
    pub(super) dialect: Option<Kind>,
    /// A key that belongs to this address and to no other.
    pub(super) key: Option<Secret>,
    /// A key for LM Studio, sent only to who says that it is one.
    pub(super) studio_key: Option<Secret>,
    /// Whether it is on this machine.
    pub(super) is_loopback: bool,
}

/// What was given as a URL is none that can be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

/// Ends of paths that people copy along with the address.
const PATHS_CUT: [&str; 5] = ["/chat/completions", "/completions", "/v1", "/v0", "/api"];

impl Endpoint {
    /// Reads `http://127.0.0.1:1234`, `localhost:8080`, also with `/v1` behind.
    ///
    /// # Errors
    /// It is no URL, not http or https, or holds a password.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = |why: &str| BadUrl(why.to_owned());
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let mut url =
            Url::parse(&with_scheme).map_err(|e| BadUrl(format!("it is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "a URL with a password in it would show up in logs; give the key by `key_env` in \
                 the config or by LMSTRIX_HOST_API_KEY",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must be an address, without `?` or `#`"));
        }
        let Some(host) = url.host_str().map(str::to_owned) else {
            return Err(bad("it names no host"));
        };
        // One server by two names would be loaded twice and known twice. A
        // certificate is for one name alone, so that one stays.
        if host == "localhost" && url.scheme() == "http" {
            url.set_host(Some("127.0.0.1"))
                .map_err(|_| bad("it names no host"))?;
        }
        // A server that listens everywhere is reached here.
        if host == "0.0.0.0" || host == "[::]" {
            let here = if host == "0.0.0.0" {
                "127.0.0.1"
            } else {
                "[::1]"
            };
            url.set_host(Some(here))
                .map_err(|_| bad("it names no host"))?;
        }
        let is_loopback = is_loopback(url.host_str().unwrap_or_default());
        let mut base = url.as_str().trim_end_matches('/').to_owned();
        for cut in PATHS_CUT {
            if let Some(shorter) = base.strip_suffix(cut) {
                base.truncate(shorter.len());
            }
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            dialect: None,
            key: None,
            studio_key: None,
            is_loopback,
        })
    }

    /// With a protocol that needs no guessing.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Option<Kind>) -> Self {
        self.dialect = dialect;
        self
    }

    /// With the key of this very address.
    #[must_use]
    pub fn with_key(mut self, key: Option<Secret>) -> Self {
        self.key = key;
        self
    }

    /// With a key for LM Studio, should one answer here.
    #[must_use]
    pub fn with_studio_key(mut self, key: Option<Secret>) -> Self {
        self.studio_key = key;
        self
    }

    /// The address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_paste_them() {
        for (text, base, loopback) in [
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
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                (endpoint.base(), endpoint.is_loopback),
                (base, loopback),
                "{text}"
            );
        }
        for (text, says) in [
            ("ftp://x", "http"),
            ("http://me:secret@x", "key_env"),
            ("http://x?key=1", "address"),
            ("http://", "URL"),
            ("", "URL"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
