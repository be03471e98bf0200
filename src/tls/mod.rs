//! TLS: who is at the other end of a connection, and that nobody in between reads or changes it.
//!
//! Contract: nodes believe each other by certificate: the URI `quorate://CLUSTER/node/ID` in it must be that of the node that was
//! dialed, and that of the node that says hello. Addresses prove nothing. A client believes a node by its host name. Each
//! connection is verified anew: sessions are never resumed, because a resumed one would outlive the CA that it was verified with.
//!
//! | file | holds |
//! |---|---|
//! | `der`, `date`, `certificate`, `names` | what a certificate says |
//! | `files` | certificates, keys and CAs on disk |
//! | `verify`, `verify_client` | whether a certificate is believed |
//! | `words` | errors that name the file and say what to do |
//! | `dial` | connections that this process opens |
//! | `client` | the files of a client, read again when they change |
//! | `node` | the files of a node, read again when they change, and what it asks of its peers |
//! | `accept` | connections that a node accepts |
//! | `authority` | a CA of one's own |
//!
//! One provider of cryptography, ring, is named at each place: rustls panics where two are compiled in and none is named.

#[cfg(feature = "server")]
mod accept;
#[cfg(feature = "server")]
pub mod authority;
mod certificate;
mod client;
pub mod date;
mod der;
mod dial;
mod files;
mod names;
#[cfg(feature = "server")]
mod node;
#[cfg(all(test, feature = "server"))]
mod tests;
mod verify;
#[cfg(feature = "server")]
mod verify_client;
mod words;

use std::sync::{Arc, LazyLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

#[cfg(feature = "server")]
pub use accept::{Accepted, Caller, Channel, Door};
pub use certificate::{Facts, Key, Name};
pub use client::ClientTls;
pub use dial::{Connector, Dialed, Dialer};
pub use files::{Authorities, FileError, Own, facts, is_open_to_others};
#[cfg(feature = "server")]
pub use node::{NodeFiles, NodeTls, Trust};
pub use verify::Usage;

/// What a node with TLS tells a client without it, in HTTP/2's words for the end of a connection.
pub const TLS_ALONE: &str = "this node takes TLS alone: give --ca";

/// The provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// One certificate for every connection.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
