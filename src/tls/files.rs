//! The files of TLS: a certificate with its key, and the certificates of CAs.
//!
//! Contract: what is loaded can be used. The key belongs to the certificate, which is valid now, is not weak, and is in the
//! right order. An error names the file, the subject where there is one, and what to do. A key is never part of a text.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::certificate::Facts;
use super::verify::{self, Usage};
use super::{date, provider};

/// No file of certificates is larger: it bounds what a mistaken path costs.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file has not what it should have.
    #[error("{}: has no {wanted} in PEM: give the file that begins with {begins}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What it should have.
        wanted: &'static str,
        /// How such a file begins.
        begins: &'static str,
    },
    /// A certificate cannot be used.
    #[error("{}: certificate {subject:?} is not accepted: {problem}; {cure}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// The subject.
        subject: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        cure: String,
    },
    /// A key cannot be used.
    #[error("{}: the key is not accepted: {problem}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

impl FileError {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. }
            | Self::NotPem { file, .. }
            | Self::Certificate { file, .. }
            | Self::Key { file, .. } => file,
        }
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Own {
    /// The certificate and those between it and its CA, with the key.
    pub(super) certified: Arc<CertifiedKey>,
    /// What the certificate says.
    pub facts: Facts,
    /// The file of the certificate.
    pub file: PathBuf,
}

/// The CAs whose certificates are believed.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// The CAs.
    pub(super) roots: Arc<RootCertStore>,
    /// What their certificates say.
    pub facts: Vec<Facts>,
    /// Their file.
    pub file: PathBuf,
}

impl Own {
    /// Reads a certificate with its key.
    ///
    /// # Errors
    /// When one of the two cannot be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let chain = certificates(certificate)?;
        let facts = facts_of(&chain[0], certificate)?;
        let refused = |problem: String, cure: &str| FileError::Certificate {
            file: certificate.to_owned(),
            subject: facts.subject.clone(),
            problem,
            cure: cure.to_owned(),
        };
        if let Some(problem) = facts.out_of_time(date::now()) {
            return Err(refused(problem, "issue a new one, or correct the clock"));
        }
        if let Some(problem) = facts.weakness() {
            return Err(refused(problem, "issue it with another key"));
        }
        if facts.is_ca {
            let problem = "it is the certificate of a CA".to_owned();
            return Err(refused(problem, "give the one that the CA has issued (`quorate ca issue`)"));
        }
        let pem = read(key)?;
        let wanted = FileError::NotPem {
            file: key.to_owned(),
            wanted: "private key",
            begins: "-----BEGIN PRIVATE KEY----- (one without a password)",
        };
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wanted)?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => FileError::Key {
                file: key.to_owned(),
                problem: format!(
                    "it is not that of certificate {:?} in {}: give both files of one `quorate ca issue`",
                    facts.subject,
                    certificate.display()
                ),
            },
            error => {
                FileError::Key { file: key.to_owned(), problem: format!("{error}: RSA, ECDSA or Ed25519 is accepted") }
            }
        })?;
        Ok(Self { certified: Arc::new(certified), facts, file: certificate.to_owned() })
    }

    /// Refuses a certificate that `authorities` have not issued for this purpose: nobody who believes the same CAs would
    /// accept it.
    ///
    /// # Errors
    /// With the reason.
    pub fn check_issued_by(&self, authorities: &Authorities, usage: Usage) -> Result<(), FileError> {
        let Some((leaf, between)) = self.certified.cert.split_first() else { return Ok(()) };
        verify::chain(leaf, between, &authorities.roots, UnixTime::now(), usage).map_err(|error| {
            FileError::Certificate {
                file: self.file.clone(),
                subject: self.facts.subject.clone(),
                problem: super::words::of_certificate(&error, Some(&self.facts), &authorities.file),
                cure: "others who believe the same CAs would refuse it".to_owned(),
            }
        })
    }
}

impl Authorities {
    /// Reads the certificates of one CA or several.
    ///
    /// # Errors
    /// When the file has none, or one of them is not that of a CA.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        let mut roots = RootCertStore::empty();
        let mut facts = Vec::new();
        for certificate in certificates(file)? {
            let said = facts_of(&certificate, file)?;
            let refused = |problem: &str, cure: &str| FileError::Certificate {
                file: file.to_owned(),
                subject: said.subject.clone(),
                problem: problem.to_owned(),
                cure: cure.to_owned(),
            };
            if !said.is_ca {
                return Err(refused("it is not that of a CA", "give the CA's, such as ca.crt of `quorate ca init`"));
            }
            roots
                .add(certificate)
                .map_err(|error| refused(&error.to_string(), "give a CA with an X.509 v3 certificate"))?;
            facts.push(said);
        }
        Ok(Self { roots: Arc::new(roots), facts, file: file.to_owned() })
    }
}

/// Whether others than its owner may read a file of a key.
#[must_use]
pub fn is_open_to_others(key: &Path) -> bool {
    fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0)
}

/// The facts of all certificates of a file.
///
/// # Errors
/// When it has none.
pub fn facts(file: &Path) -> Result<Vec<Facts>, FileError> {
    certificates(file)?.iter().map(|certificate| facts_of(certificate, file)).collect()
}

fn facts_of(certificate: &CertificateDer<'_>, file: &Path) -> Result<Facts, FileError> {
    Facts::parse(certificate).ok_or_else(|| FileError::Certificate {
        file: file.to_owned(),
        subject: String::new(),
        problem: "it is damaged".to_owned(),
        cure: "issue it again".to_owned(),
    })
}

/// The certificates of a file: one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let missing =
        || FileError::NotPem { file: file.to_owned(), wanted: "certificate", begins: "-----BEGIN CERTIFICATE-----" };
    let found = found.map_err(|_| missing())?;
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::Unreadable { file: file.to_owned(), error };
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other("it is no file of certificates or keys")));
    }
    fs::read(file).map_err(unreadable)
}

/// The state of some files on disk: it differs once one of them is replaced or written, also where a link on the way to it is
/// changed, as Kubernetes does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamps {
    pub(super) fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let stamp = |file: &Path| {
            let path = fs::canonicalize(file).ok()?;
            let metadata = fs::metadata(&path).ok()?;
            Some(Stamp {
                path,
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
            })
        };
        Self(files.into_iter().map(stamp).collect())
    }
}
