//! The certificates that a server of the config is checked with.

use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Certificates that are trusted in addition to those of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedCertificates(Vec<CertificateDer<'static>>);

impl TrustedCertificates {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    /// Returns the reason if the file cannot be read or has no certificate.
    pub fn from_pem_file(path: &Path) -> Result<Self, String> {
        let pem = fs::read(path).map_err(|error| error.to_string())?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(format!("{} has no certificate in PEM form", path.display()))
            }
            Ok(certificates) => Ok(Self(certificates)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a TLS configuration that trusts these certificates, too.
    ///
    /// # Errors
    /// Returns an error if the certificates of the system cannot be used.
    pub(super) fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = PinnedVerifier {
            chains: self.chain_verifier(&provider)?,
            pinned: self.0.clone(),
        };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    fn chain_verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier, rustls::Error> {
        // A certificate that cannot sign others is no root, but may be the server's own.
        Verifier::new_with_extra_roots(self.0.iter().cloned(), Arc::clone(provider))
            .or_else(|_| Verifier::new(Arc::clone(provider)))
    }
}

/// Accepts the pinned certificates themselves, and the chains that lead to a trusted root. A
/// self-signed certificate is usually marked as an authority, which no server may present
/// otherwise.
#[derive(Debug)]
struct PinnedVerifier {
    chains: Verifier,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.chains
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
