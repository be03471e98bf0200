//! Verifies the clients and nodes that connect to a node.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::verify::{Slot, Usage, judged, presented};

/// Verifies the certificate of whoever connects.
#[derive(Debug)]
pub(super) struct OfClient {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) file: PathBuf,
    pub(super) is_mandatory: bool,
    pub(super) slot: Arc<Slot>,
}

impl ClientCertVerifier for OfClient {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    /// No hints: they would tell every stranger the CAs, and a client would then send no certificate of another CA, so that
    /// nobody would learn that it is the wrong one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match judged(leaf, &self.file, &self.roots, between, now, Usage::Client) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err((facts, error, words)) => {
                self.slot.put(presented(facts.as_ref(), &words));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
