//! The files of a client: the CAs that it believes, and its own certificate if it has one.
//!
//! Contract: the files are looked at before each new connection, and read again once they have changed. Files that cannot be
//! used change nothing: connections go on with those before them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::dial::{Attempt, Dial, Dialer};
use super::files::{Authorities, FileError, Own, Stamps};
use super::verify::Expected;

/// How a client speaks TLS. Clones share the files that were read.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use quorate::client::ClientTls;
///
/// let tls = ClientTls::load("ca.crt")?.with_certificate("client-ada.crt", "client-ada.key")?;
/// let client = quorate::Client::builder().address("n1.example:8001").tls(&tls).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientTls {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    authorities: PathBuf,
    /// A certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
    loaded: Mutex<(Stamps, Arc<Loaded>)>,
}

#[derive(Debug)]
struct Loaded {
    authorities: Authorities,
    own: Option<Arc<Own>>,
}

impl ClientTls {
    /// Believes nodes whose certificates the CAs in the file `authorities` have issued.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load(authorities: impl AsRef<Path>) -> Result<Self, FileError> {
        Self::of(authorities.as_ref().to_owned(), None)
    }

    /// The same client with a certificate of its own, for nodes that ask for one.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn with_certificate(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, FileError> {
        let own = (certificate.as_ref().to_owned(), key.as_ref().to_owned());
        Self::of(self.files.authorities.clone(), Some(own))
    }

    fn of(authorities: PathBuf, own: Option<(PathBuf, PathBuf)>) -> Result<Self, FileError> {
        let stamps = stamps(&authorities, own.as_ref());
        let loaded = Arc::new(load(&authorities, own.as_ref())?);
        Ok(Self { files: Arc::new(Files { authorities, own, loaded: Mutex::new((stamps, loaded)) }) })
    }

    /// How to connect by it.
    pub(crate) fn dialer(&self) -> Dialer {
        Dialer::new(Some(Arc::clone(&self.files) as Arc<dyn Dial>))
    }
}

fn stamps(authorities: &Path, own: Option<&(PathBuf, PathBuf)>) -> Stamps {
    let own = own.into_iter().flat_map(|(certificate, key)| [certificate.as_path(), key.as_path()]);
    Stamps::of(std::iter::once(authorities).chain(own))
}

fn load(authorities: &Path, own: Option<&(PathBuf, PathBuf)>) -> Result<Loaded, FileError> {
    let own = own.map(|(certificate, key)| Own::load(certificate, key)).transpose()?.map(Arc::new);
    Ok(Loaded { authorities: Authorities::load(authorities)?, own })
}

impl Files {
    fn current(&self) -> Arc<Loaded> {
        let stamps = stamps(&self.authorities, self.own.as_ref());
        // A panic half-way leaves what was loaded before.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.0 != stamps {
            match load(&self.authorities, self.own.as_ref()) {
                Ok(new) => *loaded = (stamps, Arc::new(new)),
                Err(error) => {
                    // Tried again once they change again.
                    loaded.0 = stamps;
                    warn!(%error, "the files of TLS have changed and cannot be used; this client goes on with those before");
                }
            }
        }
        Arc::clone(&loaded.1)
    }
}

impl Dial for Files {
    fn attempt(&self, host: &str) -> io::Result<Attempt> {
        let loaded = self.current();
        Attempt::new(&loaded.authorities, Expected::Host(host.to_owned()), loaded.own.clone(), false)
            .map_err(io::Error::other)
    }
}
