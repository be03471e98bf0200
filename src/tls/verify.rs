//! Whether a certificate of the other side is believed.
//!
//! Contract: the chain ends at one of the CAs, is valid now and for the purpose, no key is weak, and the other side has shown
//! that it has the key. A node is believed by the URI in its certificate, not by its address. A client of a node believes the
//! host name. A refusal leaves its words in a [`Slot`]: rustls' error alone does not name the certificate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::Facts;
#[cfg(feature = "server")]
use super::certificate::Name;
use super::{provider, words};

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To answer connections.
    Server,
    /// To open connections.
    Client,
}

/// Verifies a chain, without the names of its certificate.
pub(super) fn chain(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &Arc<RootCertStore>,
    now: UnixTime,
    usage: Usage,
) -> Result<(), Error> {
    match usage {
        Usage::Server => {
            let algorithms = provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                roots,
                between,
                now,
                algorithms,
            )
        }
        Usage::Client => client_verifier(roots)?.verify_client_cert(leaf, between, now).map(|_| ()),
    }
}

pub(super) fn client_verifier(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Takes the words of a refusal.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<String>>);

impl Slot {
    pub(super) fn put(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Who must be at the other end of a connection that is dialed.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// The node of this name, at whatever address.
    #[cfg(feature = "server")]
    Node(Name),
    /// A node that is reached by this host.
    Host(String),
}

/// Verifies the node that was dialed.
#[derive(Debug)]
pub(super) struct OfServer {
    pub(super) roots: Arc<RootCertStore>,
    /// The file of the CAs, for words.
    pub(super) file: PathBuf,
    pub(super) expected: Expected,
    pub(super) slot: Arc<Slot>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl OfServer {
    fn refuse(&self, facts: Option<&Facts>, error: Error, words: &str) -> Error {
        self.slot.put(presented(facts, words));
        error
    }
}

/// `certificate "CN=x" of the other side is not accepted: …`.
pub(super) fn presented(facts: Option<&Facts>, words: &str) -> String {
    let whose = facts.map_or_else(|| "that cannot be read".to_owned(), |facts| format!("{:?}", facts.described()));
    format!("certificate {whose} of the other side is not accepted: {words}")
}

impl ServerCertVerifier for OfServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let facts = judged(leaf, &self.file, &self.roots, between, now, Usage::Server)
            .map_err(|(facts, error, words)| self.refuse(facts.as_ref(), error, &words))?;
        match &self.expected {
            #[cfg(feature = "server")]
            Expected::Node(name) if facts.names.contains(name) => {}
            #[cfg(feature = "server")]
            Expected::Node(name) => {
                let error = Error::InvalidCertificate(CertificateError::NotValidForName);
                return Err(self.refuse(Some(&facts), error, &words::of_other_node(&facts, name)));
            }
            Expected::Host(host) => {
                let verified =
                    ParsedCertificate::try_from(leaf).and_then(|leaf| verify_server_name(&leaf, server_name));
                verified.map_err(|error| self.refuse(Some(&facts), error, &words::of_other_host(&facts, host)))?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms: WebPkiSupportedAlgorithms = self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms: WebPkiSupportedAlgorithms = self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The facts of a certificate whose chain is believed, or why it is not.
pub(super) fn judged(
    leaf: &CertificateDer<'_>,
    file: &Path,
    roots: &Arc<RootCertStore>,
    between: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<Facts, (Option<Facts>, Error, String)> {
    let Some(facts) = Facts::parse(leaf) else {
        let error = Error::InvalidCertificate(CertificateError::BadEncoding);
        return Err((None, error, "it is damaged: issue it again".to_owned()));
    };
    if let Err(error) = chain(leaf, between, roots, now, usage) {
        let words = words::of_certificate(&error, Some(&facts), file);
        return Err((Some(facts), error, words));
    }
    // After the chain: what a stranger's certificate says is of no interest.
    if let Some(weakness) = facts.weakness() {
        let error = Error::InvalidCertificate(CertificateError::BadSignature);
        return Err((Some(facts), error, format!("{weakness}: issue it with another key")));
    }
    Ok(facts)
}
