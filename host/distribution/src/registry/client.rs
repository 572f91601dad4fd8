//! The requests to a registry.

use std::time::Duration;

use futures_util::StreamExt;
use lmstrix_sandbox::{Digest, Pack, PackFiles};
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::manifest::OciManifest;
use oci_client::secrets::RegistryAuth;
use reqwest::header::HeaderValue;

use super::credentials::Credentials;
use super::layout::{self, Artifact, FileLayer, Interfaces, MANIFEST_TYPE};
use super::reference::OciReference;
use crate::download::{CONNECT_TIMEOUT, STALL_TIMEOUT, SizeLimits};
use crate::error::{Error, root_cause};

/// Limit on the time of a request for a manifest, or of the login before it.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// The files, under the name that they have in the artifact.
    pub(crate) files: PackFiles,
    /// The digest of the manifest.
    pub(crate) manifest: Digest,
}

/// The registry of one reference.
pub struct Registry {
    client: Client,
    reference: OciReference,
    auth: RegistryAuth,
    /// A reason why the access is anonymous.
    warning: Option<String>,
}

impl Registry {
    /// Prepares the access to the registry of a reference. Connects to nothing yet.
    pub async fn new(reference: &OciReference, connection: &Connection) -> Self {
        // Fails harmlessly if a provider was installed before.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let (auth, warning) = connection.credentials.get(reference).await;
        let is_plain = connection.plain_http || reference.is_loopback();
        let config = ClientConfig {
            protocol: match is_plain {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            platform_resolver: None,
            read_timeout: Some(STALL_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::new(config);
        client
            .store_auth_if_needed(reference.inner().resolve_registry(), &auth)
            .await;
        Self {
            client,
            reference: reference.clone(),
            auth,
            warning,
        }
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
        limits: &SizeLimits,
        on_progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Pulled, Error> {
        let (manifest, digest) = self.pull_manifest().await?;
        let address = self.address();
        let layers = layout::file_layers(&manifest, &address)?;
        let total = layers.iter().map(|layer| layer.bytes).sum();
        let mut sidecar_bytes = 0;
        for layer in &layers {
            let (bytes, limit) = match layer.is_component {
                // A component may have the other files in it.
                true => (layer.bytes, limits.bundle()),
                false => {
                    sidecar_bytes += layer.bytes;
                    (sidecar_bytes, limits.sidecar())
                }
            };
            limit.check(bytes, &address)?;
        }
        let mut contents = Vec::new();
        let mut received = 0;
        for layer in layers {
            let content = self
                .pull_layer(&layer, &mut |bytes| {
                    received += bytes;
                    on_progress(total, received);
                })
                .await?;
            contents.push((layer, content));
        }
        Ok(Pulled {
            files: layout::pack_files(contents, self.reference.name())?,
            manifest: digest,
        })
    }

    async fn pull_manifest(
        &self,
    ) -> Result<(oci_client::manifest::OciImageManifest, Digest), Error> {
        let request = self.client.pull_manifest_raw(
            self.reference.inner(),
            &self.auth,
            &[MANIFEST_TYPE, "application/vnd.oci.image.index.v1+json"],
        );
        let (bytes, digest) = tokio::time::timeout(MANIFEST_TIMEOUT, request)
            .await
            .map_err(|_| Error::Unreachable {
                server: self.reference.registry().to_owned(),
                reason: format!("no response within {} s", MANIFEST_TIMEOUT.as_secs()),
            })?
            .map_err(|error| self.error(error, 0))?;
        let address = self.address();
        let not_a_pack = |reason: String| Error::NotAPack {
            address: address.clone(),
            reason,
        };
        let digest = digest.parse().map_err(not_a_pack)?;
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
        on_received: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<u8>, Error> {
        let digest = layer.digest.to_string();
        // Only the digest, since a descriptor can name URLs on other servers.
        let stream = self
            .client
            .pull_blob_stream(self.reference.inner(), digest.as_str());
        let mut stream = stream.await.map_err(|error| self.error(error, 0))?;
        let mut content = Vec::new();
        while let Some(chunk) = stream.next().await {
            let received = content.len() as u64;
            let chunk = chunk.map_err(|error| self.stream_error(error, &digest, received))?;
            content.extend_from_slice(&chunk);
            if content.len() as u64 > layer.bytes {
                return Err(self.wrong_size(layer, content.len()));
            }
            on_received(chunk.len() as u64);
        }
        match content.len() as u64 == layer.bytes {
            true => Ok(content),
            false => Err(self.wrong_size(layer, content.len())),
        }
    }

    fn wrong_size(&self, layer: &FileLayer, received: usize) -> Error {
        Error::NotAPack {
            address: self.address(),
            reason: format!(
                "a layer has {} bytes, and {received} bytes were received",
                layer.bytes
            ),
        }
    }

    /// Pushes a pack, and returns the digest of the manifest. `loaded` is the same pack.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be reached or refuses the request, and if the
    /// reference has a digest.
    pub async fn push(&self, pack: &PackFiles, loaded: &Pack) -> Result<Digest, Error> {
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
        let image = self.reference.inner();
        for (digest, content) in blobs {
            let pushed = self.client.push_blob(image, content, &digest);
            pushed.await.map_err(|error| self.error(error, 0))?;
        }
        let digest = Digest::of(&manifest);
        let content_type = HeaderValue::from_static(MANIFEST_TYPE);
        let pushed = self.client.push_manifest_raw(image, manifest, content_type);
        pushed.await.map_err(|error| self.error(error, 0))?;
        Ok(digest)
    }

    /// Returns the error of a request. `received` is the size of the content so far.
    fn error(&self, error: OciDistributionError, received: u64) -> Error {
        let status = |status, reason: String| Error::Status {
            address: self.address(),
            status,
            reason,
        };
        match error {
            OciDistributionError::RequestError(error) if received == 0 && !error.is_body() => {
                Error::Unreachable {
                    server: self.reference.registry().to_owned(),
                    reason: root_cause(&error),
                }
            }
            OciDistributionError::DigestError(DigestError::VerificationError {
                expected,
                actual,
            }) => Error::WrongDigest {
                address: self.address(),
                expected,
                actual,
            },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401, .. } => {
                status(401, "the registry requires a login".to_owned())
            }
            OciDistributionError::ImageManifestNotFoundError(_) => {
                status(404, "no such artifact".to_owned())
            }
            OciDistributionError::ServerError { code, message, .. } => status(
                code,
                match (code, message.as_str()) {
                    (404, _) => "no such artifact".to_owned(),
                    (_, "") => format!("the registry returned HTTP {code}"),
                    (_, message) => format!("the registry returned HTTP {code}: {message}"),
                },
            ),
            OciDistributionError::RegistryError { envelope, .. } => {
                let mut errors = envelope.errors.iter();
                let unknown = errors.clone().any(|error| {
                    let code = format!("{:?}", error.code);
                    code.contains("Unknown")
                });
                let messages: Vec<&str> = errors
                    .by_ref()
                    .map(|error| error.message.as_str())
                    .collect();
                status(
                    if unknown { 404 } else { 400 },
                    format!("the registry refused the request: {}", messages.join("; ")),
                )
            }
            other => Error::CutOff {
                address: self.address(),
                received,
                reason: root_cause(&other),
            },
        }
    }

    /// Returns the error of a stream, which hides its cause in an I/O error.
    fn stream_error(&self, error: std::io::Error, digest: &str, received: u64) -> Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(DigestError::VerificationError { actual, .. }) => Error::WrongDigest {
                address: self.address(),
                expected: digest.to_owned(),
                actual: actual.clone(),
            },
            _ => Error::CutOff {
                address: self.address(),
                received,
                reason: root_cause(&error),
            },
        }
    }
}
