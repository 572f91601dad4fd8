//! The requests to a registry. `oci-client` logs in and pushes. Contents are read here, since it
//! reads manifests and errors of any size.

use std::time::Duration;

use lmstrix_sandbox::{Digest, Pack, PackFiles};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};

use super::credentials::Credentials;
use super::layout::{self, Artifact, FileLayer, INDEX_TYPE, Interfaces, MANIFEST_TYPE};
use super::reference::OciReference;
use crate::download::{
    self, CONNECT_TIMEOUT, Download, Downloaded, STALL_TIMEOUT, SizeLimit, SizeLimits, USER_AGENT,
};
use crate::error::{Error, root_cause};

/// Limit on the time of a login, and of a request for a manifest.
const SHORT_TIMEOUT: Duration = Duration::from_secs(60);

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Use HTTP instead of HTTPS. A registry on this machine is always reached by HTTP.
    pub plain_http: bool,
    /// The credentials.
    pub credentials: Credentials,
}

/// A pulled pack.
#[derive(Clone, Debug)]
pub(crate) struct Pulled {
    /// The files.
    pub(crate) files: PackFiles,
    /// The digest of the manifest.
    pub(crate) manifest: Digest,
}

/// The registry of one reference.
pub struct Registry {
    client: Client,
    http: reqwest::Client,
    scheme: &'static str,
    reference: OciReference,
    auth: RegistryAuth,
    /// A reason why the access is anonymous.
    warning: Option<String>,
}

impl Registry {
    /// Prepares the access to the registry of a reference. Connects to nothing yet.
    ///
    /// # Errors
    /// Returns an error if the HTTP client cannot be created.
    pub async fn new(reference: &OciReference, connection: &Connection) -> Result<Self, Error> {
        let http = download::client()?;
        let (auth, warning) = connection.credentials.get(reference).await;
        let is_plain = connection.plain_http || reference.is_loopback();
        let (scheme, protocol) = match is_plain {
            true => ("http", ClientProtocol::Http),
            false => ("https", ClientProtocol::Https),
        };
        let config = ClientConfig {
            protocol,
            platform_resolver: None,
            read_timeout: Some(STALL_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config);
        Ok(Self {
            client: client.map_err(|error| Error::Client(root_cause(&error)))?,
            http,
            scheme,
            reference: reference.clone(),
            auth,
            warning,
        })
    }

    /// Returns the reason why configured credentials are not used.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn address(&self) -> String {
        format!("oci://{}", self.reference)
    }

    /// Pulls a pack. Each content is verified by its digest. `on_progress` receives the total
    /// size of the files and the received bytes.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be reached or refuses the request, and if the
    /// artifact is not a pack, exceeds a limit or has other contents than its digests say.
    pub(crate) async fn pull(
        &self,
        name: Option<&str>,
        limits: &SizeLimits,
        on_progress: &mut (dyn FnMut(Option<u64>, u64) + Send),
    ) -> Result<Pulled, Error> {
        let token = self.login(RegistryOperation::Pull).await?;
        let (manifest, digest) = self.pull_manifest(token.as_deref()).await?;
        let address = self.address();
        let layers = layout::file_layers(&manifest, &address)?;
        let total = check_sizes(&layers, limits, &address)?;
        let mut contents = Vec::new();
        let mut finished = 0;
        for layer in layers {
            let content = self
                .pull_layer(&layer, limits, token.as_deref(), &mut |bytes| {
                    on_progress(Some(total), finished + bytes);
                })
                .await?;
            finished += content.len() as u64;
            contents.push((layer, content));
        }
        let files = layout::pack_files(contents, name.unwrap_or(self.reference.name()))?;
        Ok(Pulled {
            files: match name {
                Some(name) => files.renamed(name)?,
                None => files,
            },
            manifest: digest,
        })
    }

    /// Logs in, and returns the token for requests if the registry uses tokens.
    async fn login(&self, operation: RegistryOperation) -> Result<Option<String>, Error> {
        let image = self.reference.inner();
        let login = self.client.auth(image, &self.auth, operation);
        let token = tokio::time::timeout(SHORT_TIMEOUT, login)
            .await
            .map_err(|_| self.no_response())?
            .map_err(|error| self.error(error))?;
        match token {
            // The client would panic for such a token.
            Some(token) if HeaderValue::from_str(&token).is_err() => {
                Err(self.invalid_response("the token of the login is invalid".to_owned()))
            }
            token => Ok(token),
        }
    }

    fn request(&self, kind: &str, identifier: &str, token: Option<&str>) -> RequestBuilder {
        let image = self.reference.inner();
        let url = format!(
            "{}://{}/v2/{}/{kind}/{identifier}",
            self.scheme,
            image.resolve_registry(),
            image.repository(),
        );
        let request = self.http.get(url);
        match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        }
    }

    async fn pull_manifest(
        &self,
        token: Option<&str>,
    ) -> Result<(OciImageManifest, Digest), Error> {
        let image = self.reference.inner();
        let identifier = image.digest().or(image.tag()).unwrap_or("latest");
        let address = self.address();
        let request = self.request("manifests", identifier, token);
        let download = Download {
            address: &address,
            request: request.header(ACCEPT, format!("{MANIFEST_TYPE}, {INDEX_TYPE}")),
            limit: SizeLimits::manifest(),
            on_progress: &mut |_, _| (),
        };
        let bytes = tokio::time::timeout(SHORT_TIMEOUT, download.run())
            .await
            .map_err(|_| self.no_response())?;
        let bytes = self.content(bytes?)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = image.digest() {
            self.check_digest(expected, &digest)?;
        }
        let not_a_pack = |reason: String| Error::NotAPack {
            address: address.clone(),
            reason,
        };
        match serde_json::from_slice(&bytes) {
            Ok(OciManifest::Image(manifest)) => Ok((manifest, digest)),
            Ok(OciManifest::ImageIndex(_)) => Err(not_a_pack(
                "it is an index of several artifacts; add the digest of one of them".to_owned(),
            )),
            Err(error) => Err(not_a_pack(format!("its manifest is invalid: {error}"))),
        }
    }

    async fn pull_layer(
        &self,
        layer: &FileLayer,
        limits: &SizeLimits,
        token: Option<&str>,
        on_received: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<u8>, Error> {
        let digest = layer.digest.to_string();
        // A descriptor can also name URLs on other servers, which are not used.
        let download = Download {
            address: &self.address(),
            request: self.request("blobs", &digest, token),
            limit: limit_of(layer, limits),
            on_progress: &mut |_, received| on_received(received),
        };
        let content = self.content(download.run().await?)?;
        self.check_digest(&digest, &Digest::of(&content))?;
        match content.len() as u64 == layer.bytes {
            true => Ok(content),
            false => Err(Error::NotAPack {
                address: self.address(),
                reason: format!(
                    "a layer has {} bytes, and {} bytes were received",
                    layer.bytes,
                    content.len()
                ),
            }),
        }
    }

    fn check_digest(&self, expected: &str, actual: &Digest) -> Result<(), Error> {
        match actual.to_string() == expected {
            true => Ok(()),
            false => Err(Error::WrongDigest {
                address: self.address(),
                expected: expected.to_owned(),
                actual: actual.to_string(),
            }),
        }
    }

    /// Returns the content of an answer.
    ///
    /// # Errors
    /// Returns an error unless the status is a success.
    fn content(&self, answer: Downloaded) -> Result<Vec<u8>, Error> {
        let Downloaded { status, content } = answer;
        match status {
            status if status.is_success() => Ok(content),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.login_error()),
            StatusCode::NOT_FOUND => Err(self.not_found()),
            status => {
                let text = String::from_utf8_lossy(&content);
                let text = text.trim();
                Err(self.status_error(match text.is_empty() {
                    true => format!("the registry returned HTTP {status}"),
                    false => format!("the registry returned HTTP {status}: {text}"),
                }))
            }
        }
    }

    /// Pushes a pack, and returns the digest of the manifest. `loaded` is the same pack.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be reached or refuses the request, if the
    /// reference has a digest, and if the pack exceeds a limit.
    pub async fn push(
        &self,
        pack: &PackFiles,
        loaded: &Pack,
        limits: &lmstrix_sandbox::SandboxLimits,
    ) -> Result<Digest, Error> {
        if self.reference.has_digest() {
            return Err(Error::InvalidReference {
                reference: self.reference.to_string(),
                reason: "a pack is pushed to a tag, not to a digest".to_owned(),
            });
        }
        let Artifact { blobs, manifest } = layout::artifact(
            pack,
            Interfaces {
                imports: loaded.imports(),
                exports: loaded.exports(),
            },
        );
        let bytes = blobs.iter().map(|(_, content)| content.len() as u64).max();
        let limit = SizeLimits::from(limits).bundle();
        limit.check(bytes.unwrap_or_default(), &format!("pack `{}`", pack.name))?;
        self.login(RegistryOperation::Push).await?;
        let image = self.reference.inner();
        for (digest, content) in blobs {
            let pushed = self.client.push_blob(image, content, &digest);
            pushed.await.map_err(|error| self.error(error))?;
        }
        let digest = Digest::of(&manifest);
        let content_type = HeaderValue::from_static(MANIFEST_TYPE);
        let pushed = self.client.push_manifest_raw(image, manifest, content_type);
        pushed.await.map_err(|error| self.error(error))?;
        Ok(digest)
    }

    fn no_response(&self) -> Error {
        Error::Unreachable {
            server: self.reference.registry().to_owned(),
            reason: format!("no response within {} s", SHORT_TIMEOUT.as_secs()),
        }
    }

    fn login_error(&self) -> Error {
        Error::Login {
            address: self.address(),
            registry: self.reference.registry().to_owned(),
            reason: match self.auth {
                RegistryAuth::Anonymous => "the registry requires a login",
                _ => "the registry refuses the credentials",
            }
            .to_owned(),
        }
    }

    fn not_found(&self) -> Error {
        self.status_error("no such artifact".to_owned())
    }

    fn status_error(&self, reason: String) -> Error {
        Error::Status {
            address: self.address(),
            reason,
        }
    }

    fn invalid_response(&self, reason: String) -> Error {
        self.status_error(format!("invalid response of the registry: {reason}"))
    }

    /// Returns the error of a login or a push.
    fn error(&self, error: OciDistributionError) -> Error {
        match error {
            OciDistributionError::RequestError(error) => Error::Unreachable {
                server: self.reference.registry().to_owned(),
                reason: root_cause(&error),
            },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => self.login_error(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let is_denied = |code: &OciErrorCode| {
                    matches!(code, OciErrorCode::Denied | OciErrorCode::Unauthorized)
                };
                if envelope.errors.iter().any(|error| is_denied(&error.code)) {
                    return self.login_error();
                }
                let messages = envelope.errors.iter().map(|error| error.message.as_str());
                let messages: Vec<&str> = messages.collect();
                self.status_error(format!(
                    "the registry refused the request: {}",
                    messages.join("; ")
                ))
            }
            OciDistributionError::ServerError { code, message, .. } => self.status_error(format!(
                "the registry returned HTTP {code}: {}",
                message.trim()
            )),
            other => self.invalid_response(root_cause(&other)),
        }
    }
}

/// Checks the announced sizes of layers, and returns their sum.
fn check_sizes(layers: &[FileLayer], limits: &SizeLimits, address: &str) -> Result<u64, Error> {
    let mut sidecar_bytes = 0_u64;
    let mut total = 0_u64;
    for layer in layers {
        let bytes = match layer.is_component {
            true => layer.bytes,
            false => {
                sidecar_bytes = sidecar_bytes.saturating_add(layer.bytes);
                sidecar_bytes
            }
        };
        limit_of(layer, limits).check(bytes, address)?;
        total = total.saturating_add(layer.bytes);
    }
    Ok(total)
}

/// Returns the limit on a layer. A component may have the other files in it.
fn limit_of(layer: &FileLayer, limits: &SizeLimits) -> SizeLimit {
    match layer.is_component {
        true => limits.bundle(),
        false => SizeLimits::sidecar(),
    }
}
