//! The HTTP client, independent of any API. There is one client for each
//! server, so that its connections are reused.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use serde_json::Value;

use super::server_address::ServerAddress;
use crate::engine::Error;
use crate::secret::Secret;

/// Maximum size in bytes of a body that is read whole: a model list, an error,
/// or an answer that is not streamed.
const MAX_BODY_BYTES: usize = 64 << 20;

/// UTF-8's byte order mark, with which some servers start their JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The path of OpenAI's API in the paths of this crate.
const OPENAI_PREFIX: &str = "/v1";

/// An HTTP client for one server.
#[derive(Debug)]
pub(super) struct HttpClient {
    http: reqwest::Client,
    base_url: String,
    /// The base URL of OpenAI's API, usually `/v1` below `base_url`.
    api_base: String,
    connect_timeout: Option<Duration>,
    is_loopback: bool,
    /// The values of the configured headers.
    header_values: Vec<Secret>,
    /// Sent with every request; set once the kind of server has been detected.
    key: Option<Secret>,
}

/// A response with its whole body.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Response {
    /// Parses the body as JSON; `None` if it is not JSON.
    pub(super) fn json(&self) -> Option<Value> {
        let body = self.body.strip_prefix(BYTE_ORDER_MARK);
        serde_json::from_slice(body.unwrap_or(&self.body)).ok()
    }
}

/// An error at the HTTP level.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The connection was refused or could not be made otherwise.
    ConnectFailed(String),
    /// The connection was not made within this limit.
    ConnectTimeout(Duration),
    /// The server accepted the connection but sent no response within this
    /// limit.
    ResponseTimeout(Duration),
    /// The connection was lost.
    ConnectionLost(String),
    /// The server redirects to this URL. Redirects are not followed, so that
    /// keys stay with their server.
    Redirect(String),
    /// The body exceeds `MAX_BODY_BYTES`.
    BodyTooLarge,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectFailed(cause) | Self::ConnectionLost(cause) => f.write_str(cause),
            Self::ConnectTimeout(limit) => {
                write!(f, "no connection within {} s", limit.as_secs_f64())
            }
            Self::ResponseTimeout(limit) => write!(
                f,
                "connected, but no response within {} s",
                limit.as_secs_f64()
            ),
            Self::Redirect(to) => write!(f, "redirect to {to} not followed"),
            Self::BodyTooLarge => write!(f, "response larger than {} MiB", MAX_BODY_BYTES >> 20),
        }
    }
}

impl HttpClient {
    /// Creates a client that sends no key yet.
    ///
    /// # Errors
    /// Returns an error if the TLS setup fails.
    pub(super) fn new(
        address: &ServerAddress,
        connect_timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        // Fails harmlessly if an embedding program has installed a provider
        // already.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        // Compression delays a stream. Some servers compress all the same.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &address.headers {
            if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .default_headers(headers)
            .user_agent(concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")));
        if let Some(connect_timeout) = connect_timeout {
            builder = builder.connect_timeout(connect_timeout);
        }
        if address.is_loopback {
            // Loopback traffic must not go through a proxy.
            builder = builder.no_proxy();
        }
        if address.is_insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else {
            let config = address.trusted.client_config();
            let config = config.map_err(|error| Error::Unreachable {
                engine: address.base_url.clone(),
                reason: error.to_string(),
            })?;
            builder = builder.tls_backend_preconfigured(config);
        }
        let http = builder.build().map_err(|error| Error::Unreachable {
            engine: address.base_url.clone(),
            reason: root_cause(&error),
        })?;
        Ok(Self {
            http,
            base_url: address.base_url.clone(),
            api_base: format!("{}{OPENAI_PREFIX}", address.base_url),
            connect_timeout,
            is_loopback: address.is_loopback,
            header_values: address
                .headers
                .iter()
                .map(|(_, value)| value.clone())
                .collect(),
            key: None,
        })
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Returns `true` if the server has a loopback address, so is on this
    /// machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Sets the base URL of OpenAI's API.
    pub(super) fn set_api_base(&mut self, api_base: String) {
        self.api_base = api_base;
    }

    /// Returns whether OpenAI's API is elsewhere than at `/v1` below the base URL.
    pub(super) fn has_given_api(&self) -> bool {
        self.api_base.strip_prefix(&self.base_url) != Some(OPENAI_PREFIX)
    }

    /// Returns the URL of a path.
    fn url(&self, path: &str) -> String {
        match path.strip_prefix(OPENAI_PREFIX) {
            Some(rest) if rest.starts_with('/') => format!("{}{rest}", self.api_base),
            _ => format!("{}{path}", self.base_url),
        }
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Sends `key` with all further requests; `None` keeps the present key.
    pub(super) fn set_key(&mut self, key: Option<Secret>) {
        if key.is_some() {
            self.key = key;
        }
    }

    /// Returns the server's `text` with the key replaced, in case the server
    /// repeats it.
    pub(super) fn redact(&self, text: &str) -> String {
        self.key
            .iter()
            .chain(&self.header_values)
            .fold(text.to_owned(), |text, secret| secret.redact(&text))
    }

    /// Requests `path` and reads the whole response within `limit`.
    pub(super) async fn get(&self, path: &str, limit: Duration) -> Result<Response, ClientError> {
        self.get_url(&self.url(path), limit).await
    }

    /// Requests a URL of this server and reads the whole response within `limit`.
    pub(super) async fn get_url(
        &self,
        url: &str,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let request = self.http.get(url);
        let response = async { self.read_body(self.send(request).await?).await };
        match tokio::time::timeout(limit, response).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::ResponseTimeout(limit)),
        }
    }

    /// Posts a JSON body. Returns once the response headers have arrived; the
    /// body is still to be read.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<reqwest::Response, ClientError> {
        let request = self
            .http
            .post(self.url(path))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.to_string());
        self.send(request).await
    }

    /// Requests `path`. Returns once the response headers have arrived; the
    /// body is still to be read.
    pub(super) async fn get_streaming(&self, path: &str) -> Result<reqwest::Response, ClientError> {
        self.send(self.http.get(self.url(path))).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let mut request = request;
        if let Some(key) = &self.key {
            // A key that is no valid header value is rejected where it is read.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose())) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.classify_error(&error))?;
        if response.status().is_redirection() {
            let to = response
                .headers()
                .get(reqwest::header::LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("an unspecified location");
            return Err(ClientError::Redirect(self.redact(to)));
        }
        Ok(response)
    }

    /// Reads a body to its end, at most `MAX_BODY_BYTES` bytes.
    pub(super) async fn read_body(
        &self,
        response: reqwest::Response,
    ) -> Result<Response, ClientError> {
        let status = response.status().as_u16();
        let mut response = response;
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(ClientError::BodyTooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status,
            body: self.redact_body(body).into(),
        })
    }

    /// Returns a body with the key replaced: the server may repeat it in the names of models,
    /// and names reach registries and journals.
    fn redact_body(&self, body: Vec<u8>) -> Vec<u8> {
        if self.key.is_none() && self.header_values.is_empty() {
            return body;
        }
        let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body);
        match serde_json::from_slice::<Value>(json) {
            Ok(mut value) => {
                for secret in self.key.iter().chain(&self.header_values) {
                    secret.redact_json(&mut value);
                }
                value.to_string().into_bytes()
            }
            Err(_) => self.redact(&String::from_utf8_lossy(&body)).into_bytes(),
        }
    }

    /// Reads the next chunk of a body; `None` at its end.
    pub(super) async fn chunk(
        &self,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, ClientError> {
        response
            .chunk()
            .await
            .map_err(|error| self.classify_error(&error))
    }

    fn classify_error(&self, error: &reqwest::Error) -> ClientError {
        match self.connect_timeout {
            Some(limit) if error.is_connect() && error.is_timeout() => {
                ClientError::ConnectTimeout(limit)
            }
            _ if error.is_connect() => ClientError::ConnectFailed(root_cause(error)),
            _ => ClientError::ConnectionLost(root_cause(error)),
        }
    }
}

/// Returns the `Retry-After` header of a response.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<String> {
    let value = response.headers().get(RETRY_AFTER)?;
    value.to_str().ok().map(str::to_owned)
}

/// Returns the innermost cause; the layers around it only say that a request
/// failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut message = None;
    while let Some(inner) = cause.source() {
        cause = inner;
        message = Some(cause.to_string());
    }
    message.unwrap_or_else(|| "request failed".to_owned())
}
