//! HTTP, and nothing of any protocol: one client for each server, so that its
//! connections are used again.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::Value;

use super::Endpoint;
use crate::engine::Error;
use crate::secret::Secret;

/// The most that is read of a body that comes in one piece: a list of models,
/// an error, an answer that was not streamed.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Talks to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    connect: Option<Duration>,
    is_loopback: bool,
    /// Sent with every request from when detection knows who answers.
    key: Option<Secret>,
}

/// A response that came whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Whole {
    /// The body as JSON, or nothing.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody listens there.
    Refused(String),
    /// The connection could not be made in time.
    ConnectTimeout(Duration),
    /// The connection is there, and nothing was said in time.
    Silent(Duration),
    /// The connection broke.
    Broken(String),
    /// It sends us elsewhere, and keys do not follow.
    Redirect(String),
    /// A body without end.
    TooLarge,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) | Self::Broken(why) => f.write_str(why),
            Self::ConnectTimeout(limit) => {
                write!(f, "no connection within {} s", limit.as_secs_f64())
            }
            Self::Silent(limit) => write!(
                f,
                "it takes the connection and says nothing within {} s",
                limit.as_secs_f64()
            ),
            Self::Redirect(to) => write!(f, "it redirects to {to}, which is not followed"),
            Self::TooLarge => write!(f, "it sends more than {} MiB", BODY_BYTES_MAX >> 20),
        }
    }
}

impl Client {
    /// A client that sends no key yet.
    pub(super) fn new(endpoint: &Endpoint, connect: Option<Duration>) -> Result<Self, Error> {
        // Another one may have been chosen by the program that embeds us.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")));
        if let Some(connect) = connect {
            builder = builder.connect_timeout(connect);
        }
        if endpoint.is_loopback {
            // What stays on the machine has no business with a proxy.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| Error::Unreachable {
            engine: endpoint.base.clone(),
            why: reason(&e),
        })?;
        Ok(Self {
            http,
            base: endpoint.base.clone(),
            connect,
            is_loopback: endpoint.is_loopback,
            key: None,
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Whether the server is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// From now on the key goes along.
    pub(super) fn trust(&mut self, key: Option<Secret>) {
        if key.is_some() {
            self.key = key;
        }
    }

    /// A text of the server's, without our key in it.
    pub(super) fn redact(&self, text: &str) -> String {
        match &self.key {
            Some(key) => key.redact(text),
            None => text.to_owned(),
        }
    }

    pub(super) async fn get(&self, path: &str, limit: Duration) -> Result<Whole, Trouble> {
        let request = self.http.get(format!("{}{path}", self.base));
        let whole = async { self.whole(self.send(request).await?).await };
        match tokio::time::timeout(limit, whole).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::Silent(limit)),
        }
    }

    /// Sends a JSON body; the response has begun, its body is still to come.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<reqwest::Response, Trouble> {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.to_string());
        self.send(request).await
    }

    /// Asks for a body that comes piece by piece.
    pub(super) async fn open(&self, path: &str) -> Result<reqwest::Response, Trouble> {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Trouble> {
        let mut request = request;
        if let Some(key) = &self.key {
            // A key that no header can carry is refused where it is read.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose())) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        let response = request.send().await.map_err(|e| self.trouble(&e))?;
        if response.status().is_redirection() {
            let to = response
                .headers()
                .get(reqwest::header::LOCATION)
                .and_then(|it| it.to_str().ok())
                .unwrap_or("nowhere");
            return Err(Trouble::Redirect(to.to_owned()));
        }
        Ok(response)
    }

    /// Reads a body to its end.
    pub(super) async fn whole(&self, response: reqwest::Response) -> Result<Whole, Trouble> {
        let status = response.status().as_u16();
        let mut response = response;
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Trouble::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Whole {
            status,
            body: body.into(),
        })
    }

    /// The next piece of a body, `None` at its end.
    pub(super) async fn chunk(
        &self,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, Trouble> {
        response.chunk().await.map_err(|e| self.trouble(&e))
    }

    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        match self.connect {
            Some(limit) if error.is_connect() && error.is_timeout() => {
                Trouble::ConnectTimeout(limit)
            }
            _ if error.is_connect() => Trouble::Refused(reason(error)),
            _ => Trouble::Broken(reason(error)),
        }
    }
}

/// The `Retry-After` header of a response.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<String> {
    let value = response.headers().get(RETRY_AFTER)?;
    value.to_str().ok().map(str::to_owned)
}

/// The innermost reason; the layers around it only say that something failed.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut words = None;
    while let Some(inner) = cause.source() {
        cause = inner;
        words = Some(cause.to_string());
    }
    words.unwrap_or_else(|| "the request failed".to_owned())
}
