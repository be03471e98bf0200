//! A CA of one's own, for those who have none: a folder with its certificate and key, and the certificates that it issues.
//!
//! Contract: each file is new, keys have mode 0600 from their first byte, and no key is ever printed. The name of the cluster is
//! in the CA's certificate, so that it need not be given again. A folder of another CA is refused: its certificates are issued
//! with its own tools.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::certificate::{Facts, Name};
use super::files::{self, FileError};

/// The file of a CA's certificate in its folder.
pub const CA_FILE: &str = "ca.crt";
/// The file of its key.
pub const CA_KEY_FILE: &str = "ca.key";
/// The longest life of an issued certificate.
pub const LIFE_MAX: Duration = Duration::from_hours(24 * 825);
/// A certificate is valid from an hour ago, so that clocks may differ.
const BEGINS_BEFORE: Duration = Duration::from_hours(1);

/// Why a CA cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be written.
    #[error("{}: cannot be written: {error}{}", file.display(), advice(error))]
    Unwritable {
        /// The file or folder.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The folder is not that of a CA that `quorate ca init` made.
    #[error("{}: this CA was not made by `quorate ca init`: issue its certificates with its own tools", file.display())]
    Foreign {
        /// The file of its certificate.
        file: PathBuf,
    },
    /// The certificate to renew is that of somebody else, whose name leads to the same file.
    #[error("{}: it is no certificate of {holder}: issue another one elsewhere, with --out", file.display())]
    OfAnother {
        /// The file of the certificate.
        file: PathBuf,
        /// Whose it should be.
        holder: String,
    },
    /// The CA has expired.
    #[error("{}: this CA is not valid now: {problem}", file.display())]
    OutOfTime {
        /// The file of its certificate.
        file: PathBuf,
        /// Since when.
        problem: String,
    },
    /// A name is not accepted.
    #[error("{given:?} is not accepted as {what}")]
    BadName {
        /// As it was given.
        given: String,
        /// What it should be.
        what: &'static str,
    },
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AlreadyExists {
        " (it is there already, and is not replaced: remove it, or write elsewhere; `quorate ca issue --renew` replaces the certificate of a node or client)"
    } else {
        ""
    }
}

/// The two files of an issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What it says.
    pub facts: Facts,
}

/// Makes a CA for the cluster `cluster`, valid for `life`, in a folder that has none. The folder is made where it is missing.
///
/// # Errors
/// When the folder has a CA already, or cannot be written.
pub fn init(folder: &Path, cluster: &str, life: Duration) -> Result<Issued, AuthorityError> {
    make_folder(folder)?;
    // Two CAs of one cluster, as while one follows the other, have two names.
    let subject = format!("{cluster} CA {:08x}", rand::random::<u32>());
    let mut params = params(&subject, life);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = ca_usages();
    params.subject_alt_names = vec![uri(&Name::Authority { cluster: cluster.to_owned() })?];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write(folder.join(CA_FILE), folder.join(CA_KEY_FILE), &certificate, &key)
}

/// Issues a certificate of the CA in `folder` for `who` into the folder `out`, which is made where it is missing. It is valid for
/// `life`, for [`LIFE_MAX`] at most, and never beyond the CA. `hosts` are DNS names and IP addresses.
///
/// # Errors
/// When the folder has no CA that was made here, a file is there already, or a host is not accepted.
pub fn issue(
    folder: &Path,
    out: &Path,
    who: Holder<'_>,
    hosts: &[String],
    life: Duration,
) -> Result<Issued, AuthorityError> {
    let file = folder.join(CA_FILE);
    let found = files::facts(&file)?;
    let (Some(authority), Some(Name::Authority { cluster })) =
        (found.first(), found.first().and_then(|it| it.names.first()))
    else {
        return Err(AuthorityError::Foreign { file });
    };
    if let Some(problem) = authority.out_of_time(super::date::now()) {
        return Err(AuthorityError::OutOfTime { file, problem });
    }
    let key_file = folder.join(CA_KEY_FILE);
    let key =
        std::fs::read_to_string(&key_file).map_err(|error| FileError::Unreadable { file: key_file.clone(), error })?;
    let key = KeyPair::from_pem(&key).map_err(|_| FileError::Key {
        file: key_file,
        problem: "it is not that of a CA that `quorate ca init` made".to_owned(),
    })?;
    let mut of_ca = CertificateParams::default();
    of_ca.distinguished_name = named(&authority.common_name);
    of_ca.key_usages = ca_usages();
    let issuer = Issuer::new(of_ca, key);

    let cluster = cluster.clone();
    let (subject, name) = match who {
        Holder::Node(id) => (format!("node {id}"), Name::Node { cluster, id: id.clone() }),
        Holder::Client(client) => (client.to_owned(), Name::Client { cluster, name: client.to_owned() }),
    };
    // No certificate outlives its CA.
    let left = u64::try_from(authority.not_after.saturating_sub(super::date::now())).unwrap_or(0);
    let mut params = params(&subject, life.min(LIFE_MAX).min(Duration::from_secs(left)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match who {
        // Nodes open connections to each other and accept them.
        Holder::Node(_) => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Holder::Client(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![uri(&name)?];
    for host in hosts {
        params.subject_alt_names.push(self::host(host)?);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    make_folder(out)?;
    let (certificate_file, key_file) = who.files(out);
    write(certificate_file, key_file, &certificate, &key)
}

/// Issues a certificate with a new key in place of the one for `who` in the folder `out`. Without `hosts` it is for those of the
/// certificate before.
///
/// # Errors
/// As [`issue`], but that the files must be there, and of `who`. Then those before are still there.
pub fn renew(
    folder: &Path,
    out: &Path,
    who: Holder<'_>,
    hosts: &[String],
    life: Duration,
) -> Result<Issued, AuthorityError> {
    let (certificate, key) = who.files(out);
    let before = files::facts(&certificate)?;
    let before_of_holder = before.first().filter(|facts| facts.names.iter().any(|name| who.is_named(name)));
    let Some(before) = before_of_holder else {
        return Err(AuthorityError::OfAnother { file: certificate, holder: who.to_string() });
    };
    let hosts = if hosts.is_empty() { before.hosts.clone() } else { hosts.to_vec() };
    let fresh = out.join(format!(".renewed-{}", std::process::id()));
    let issued = issue(folder, &fresh, who, &hosts, life).and_then(|issued| {
        let unwritable = |error| AuthorityError::Unwritable { file: key.clone(), error };
        let replace = |from: &Path, to: &Path| {
            std::fs::rename(from, to).map_err(|error| AuthorityError::Unwritable { file: to.to_owned(), error })
        };
        // A node that looks between the two goes on with the files before, and looks again. There is a key at any time.
        let key_before = fresh.join("key-before");
        std::fs::hard_link(&key, &key_before).map_err(unwritable)?;
        replace(&issued.key, &key)?;
        if let Err(error) = replace(&issued.certificate, &certificate) {
            replace(&key_before, &key)?;
            return Err(error);
        }
        Ok(issued)
    });
    let _ = std::fs::remove_dir_all(&fresh);
    Ok(Issued { certificate, key, ..issued? })
}

/// Whose certificate is issued.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'a> {
    /// A node's.
    Node(&'a crate::types::NodeId),
    /// A client's.
    Client(&'a str),
}

impl std::fmt::Display for Holder<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(id) => write!(formatter, "node {id}"),
            Self::Client(name) => write!(formatter, "client {name}"),
        }
    }
}

impl Holder<'_> {
    fn is_named(self, name: &Name) -> bool {
        match (self, name) {
            (Self::Node(id), Name::Node { id: named, .. }) => id == named,
            (Self::Client(client), Name::Client { name: named, .. }) => client == named,
            _ => false,
        }
    }

    /// The files of its certificate and key in a folder.
    fn files(self, folder: &Path) -> (PathBuf, PathBuf) {
        let stem = match self {
            Self::Node(id) => format!("node-{}", file_name(id.as_str())),
            Self::Client(client) => format!("client-{}", file_name(client)),
        };
        (folder.join(format!("{stem}.crt")), folder.join(format!("{stem}.key")))
    }
}

fn ca_usages() -> Vec<KeyUsagePurpose> {
    vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]
}

fn params(subject: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(subject);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(super::date::now().unsigned_abs());
    params.not_before = now - BEGINS_BEFORE;
    params.not_after = now + life;
    // 127 random bits, as a positive number.
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn uri(name: &Name) -> Result<SanType, AuthorityError> {
    let uri = name.uri();
    let text = uri.as_str().try_into();
    text.map(SanType::URI).map_err(|_| AuthorityError::BadName { given: uri, what: "a name" })
}

fn host(text: &str) -> Result<SanType, AuthorityError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let bad = || AuthorityError::BadName {
        given: text.to_owned(),
        what: "a host: give a DNS name such as n1.example or *.example, or an IP address",
    };
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(bad());
    }
    text.to_ascii_lowercase().try_into().map(SanType::DnsName).map_err(|_| bad())
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let plain: String = name.chars().map(|character| if is_plain(character) { character } else { '_' }).collect();
    plain.trim_start_matches('.').to_owned()
}

fn make_folder(folder: &Path) -> Result<(), AuthorityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| AuthorityError::Unwritable { file: folder.to_owned(), error })
}

/// Writes the key before the certificate, so that no certificate is there without its key.
fn write(
    certificate_file: PathBuf,
    key_file: PathBuf,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
) -> Result<Issued, AuthorityError> {
    if certificate_file.exists() {
        return Err(AuthorityError::Unwritable { file: certificate_file, error: io::ErrorKind::AlreadyExists.into() });
    }
    write_new(&key_file, &key.serialize_pem(), 0o600)?;
    write_new(&certificate_file, &certificate.pem(), 0o644)?;
    let facts = Facts::parse(certificate.der()).ok_or(AuthorityError::Foreign { file: certificate_file.clone() })?;
    Ok(Issued { certificate: certificate_file, key: key_file, facts })
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let written = || {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()
    };
    written().map_err(|error| AuthorityError::Unwritable { file: file.to_owned(), error })
}
