//! A reference to an artifact in an OCI registry.

use std::fmt;
use std::str::FromStr;

use lmstrix_sandbox::Digest;
use oci_client::Reference;

use crate::error::Error;

/// A reference to an artifact: `HOST/REPOSITORY[:TAG][@DIGEST]`. The tag is `latest` by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference(Reference);

impl FromStr for OciReference {
    type Err = Error;

    /// Parses a reference. Unlike those of Docker, it must name the registry.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::InvalidReference {
            reference: text.to_owned(),
            reason: reason.to_owned(),
        };
        let host = text.split_once('/').map_or("", |(host, _)| host);
        if !(host.contains(['.', ':']) || host == "localhost") {
            return Err(invalid(
                "it has no registry, as in `ghcr.io/OWNER/NAME:TAG`",
            ));
        }
        let reference = Reference::try_from(text).map_err(|error| invalid(&error.to_string()))?;
        match reference.digest().map(str::parse::<Digest>) {
            Some(Err(_)) => Err(invalid("its digest is not `sha256:` and 64 hex digits")),
            _ => Ok(Self(reference)),
        }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl OciReference {
    /// Returns the reference for the client.
    pub(super) fn inner(&self) -> &Reference {
        &self.0
    }

    /// Returns the registry as the user wrote it: a host, and a port if there is one.
    pub(super) fn registry(&self) -> &str {
        self.0.registry()
    }

    /// Returns true if the registry is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let registry = self.registry();
        let host = registry.split_once(':').map_or(registry, |(host, _)| host);
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Returns the last part of the repository, the default name of the pack.
    #[must_use]
    pub fn name(&self) -> &str {
        let repository = self.0.repository();
        repository.rsplit('/').next().unwrap_or(repository)
    }

    /// Returns true if the reference has a digest, and so can mean one artifact only.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        self.0.digest().is_some()
    }

    /// Returns the reference to the manifest with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self(self.0.clone_with_digest(digest.to_string()))
    }
}
