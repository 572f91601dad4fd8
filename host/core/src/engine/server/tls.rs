//! The certificates that a server is checked with.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use fs_err as fs;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
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

    /// Returns a TLS configuration that trusts the certificates of the system and these. Those of
    /// the system, hundreds of files, are read for the first connection that needs them: most
    /// servers are on this machine and have none.
    ///
    /// # Errors
    /// Returns an error if the TLS library supports no protocol version.
    pub(super) fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = ServerVerifier {
            chains: OnceLock::new(),
            trusted: self.0.clone(),
            provider: Arc::clone(&provider),
        };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}

/// Accepts the trusted certificates themselves, and the chains that lead to a trusted root. A
/// self-signed certificate is usually marked as an authority, which no server may present
/// otherwise.
#[derive(Debug)]
struct ServerVerifier {
    chains: OnceLock<Result<Verifier, rustls::Error>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// Reads the certificates of the system.
    fn chain_verifier(&self) -> Result<Verifier, rustls::Error> {
        let provider = || Arc::clone(&self.provider);
        // A certificate that cannot sign others is no root, but may be the server's own.
        Verifier::new_with_extra_roots(self.trusted.iter().cloned(), provider())
            .or_else(|_| Verifier::new(provider()))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let chains = self.chains.get_or_init(|| self.chain_verifier());
        let chains = chains.as_ref().map_err(Clone::clone)?;
        chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
