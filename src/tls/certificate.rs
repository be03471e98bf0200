//! What a certificate says: whose it is, who issued it, for how long, and for which names.
//!
//! Contract: any bytes give facts or `None`. Facts decide nothing by themselves: a certificate counts only once its chain and
//! its signature are verified ([`super::verify`]). Texts come from others: they are escaped and bounded here, once.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::der::{Reader, tag};
use super::{date, names};

pub use super::names::Name;

/// The longest text that is taken from a certificate.
const TEXT_CHARACTERS_MAX: usize = 120;
/// The most names that are taken from a certificate.
const NAMES_MAX: usize = 100;

const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
const OID_ORGANIZATION: &[u8] = &[0x55, 4, 10];
const OID_UNIT: &[u8] = &[0x55, 4, 11];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is, such as `CN=node 1, O=quorate`.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The `CN` of the subject; empty if it has none.
    pub common_name: String,
    /// The first second in which it is valid, since 1970 began, UTC.
    pub not_before: i64,
    /// The last second in which it is valid, since 1970 began, UTC.
    pub not_after: i64,
    /// The DNS names and IP addresses that it is for.
    pub hosts: Vec<String>,
    /// The names of nodes and clients that it is for.
    pub names: Vec<Name>,
    /// The kind of its key.
    pub key: Key,
    /// Whether it is that of a CA.
    pub is_ca: bool,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA, with so many bits.
    Rsa(usize),
    /// An elliptic curve of X9.62.
    Ec,
    /// Ed25519.
    Ed25519,
    /// Another kind, which is not accepted.
    Other,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA, {bits} bits"),
            Self::Ec => f.write_str("elliptic curve"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("of another kind"),
        }
    }
}

impl Facts {
    /// The facts of a certificate in DER.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut signed = Reader::new(der).sequence()?.sequence()?;
        signed.take_if(tag::VERSION);
        signed.take(tag::INTEGER)?;
        signed.sequence()?;
        let (issuer, _) = distinguished(signed.sequence()?)?;
        let mut validity = signed.sequence()?;
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let (subject, common_name) = distinguished(signed.sequence()?)?;
        let key = key(signed.sequence()?)?;
        let mut facts = Self {
            subject,
            issuer,
            common_name,
            not_before,
            not_after,
            hosts: Vec::new(),
            names: Vec::new(),
            key,
            is_ca: false,
        };
        while !signed.is_empty() {
            let (found, content) = signed.next()?;
            if found == tag::EXTENSIONS {
                facts.read_extensions(Reader::new(content).sequence()?)?;
            }
        }
        Some(facts)
    }

    fn read_extensions(&mut self, mut extensions: Reader<'_>) -> Option<()> {
        while !extensions.is_empty() {
            let mut extension = extensions.sequence()?;
            let oid = extension.take(tag::OID)?;
            extension.take_if(tag::BOOLEAN);
            let content = extension.take(tag::OCTET_STRING)?;
            match oid {
                OID_SUBJECT_ALT_NAME => self.read_names(Reader::new(content).sequence()?)?,
                OID_BASIC_CONSTRAINTS => {
                    let mut constraints = Reader::new(content).sequence()?;
                    self.is_ca = constraints.take_if(tag::BOOLEAN).is_some_and(|flag| flag != [0]);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn read_names(&mut self, mut alternatives: Reader<'_>) -> Option<()> {
        while !alternatives.is_empty() {
            let (kind, content) = alternatives.next()?;
            if self.hosts.len() + self.names.len() == NAMES_MAX {
                return None;
            }
            match (kind, content.len()) {
                // A DNS name, a URI, an IP address.
                (0x82, _) => self.hosts.push(shown(content)),
                (0x86, _) => self.names.extend(std::str::from_utf8(content).ok().and_then(names::Name::parse)),
                (0x87, 4) => self.hosts.push(IpAddr::from(<[u8; 4]>::try_from(content).ok()?).to_string()),
                (0x87, 16) => self.hosts.push(IpAddr::from(<[u8; 16]>::try_from(content).ok()?).to_string()),
                _ => {}
            }
        }
        Some(())
    }

    /// Why the key is not accepted, if it is not. Smaller keys of RSA can be computed from the certificate.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        match self.key {
            Key::Rsa(bits) if bits < 2_048 => {
                Some(format!("its RSA key has {bits} bits, and at least 2048 are accepted"))
            }
            Key::Other => Some("its key is neither of RSA, of an elliptic curve nor of Ed25519".to_owned()),
            Key::Rsa(_) | Key::Ec | Key::Ed25519 => None,
        }
    }

    /// Why the certificate is not valid at `seconds` since 1970 began; `None` where it is.
    #[must_use]
    pub fn out_of_time(&self, seconds: i64) -> Option<String> {
        if seconds < self.not_before {
            let (from, now) = (date::text(self.not_before), date::text(seconds));
            return Some(format!("it is valid from {from} on, and the clock of this machine says {now}"));
        }
        let expired = seconds > self.not_after;
        expired.then(|| format!("it has expired at {}", date::text(self.not_after)))
    }

    /// The subject and the names of nodes and clients, for a line of the log.
    #[must_use]
    pub fn described(&self) -> String {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        if names.is_empty() { self.subject.clone() } else { format!("{} ({})", self.subject, names.join(", ")) }
    }
}

fn time((found, content): (u8, &[u8])) -> Option<i64> {
    match found {
        tag::UTC_TIME => date::parse(content, true),
        tag::GENERALIZED_TIME => date::parse(content, false),
        _ => None,
    }
}

/// A distinguished name as text, and its `CN`.
fn distinguished(mut parts: Reader<'_>) -> Option<(String, String)> {
    let (mut text, mut common_name) = (String::new(), String::new());
    while !parts.is_empty() {
        let mut part = Reader::new(parts.take(tag::SET)?);
        while !part.is_empty() {
            let mut attribute = part.sequence()?;
            let oid = attribute.take(tag::OID)?;
            let (_, content) = attribute.next()?;
            let short = match oid {
                OID_COMMON_NAME => "CN",
                OID_ORGANIZATION => "O",
                OID_UNIT => "OU",
                _ => continue,
            };
            if text.len() > 4 * TEXT_CHARACTERS_MAX {
                continue;
            }
            if short == "CN" {
                common_name = shown(content);
            }
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{short}={}", shown(content));
        }
    }
    if text.is_empty() {
        "a subject without a name".clone_into(&mut text);
    }
    Some((text, common_name))
}

fn key(mut info: Reader<'_>) -> Option<Key> {
    let mut algorithm = info.sequence()?;
    let oid = algorithm.take(tag::OID)?;
    // The first byte of a bit string is the number of its unused bits.
    let bits = info.take(tag::BIT_STRING)?.split_first()?.1;
    Some(match oid {
        OID_RSA => {
            let modulus = Reader::new(bits).sequence()?.take(tag::INTEGER)?;
            let significant = modulus.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &modulus[first..]);
            let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
            Key::Rsa(significant.len() * 8 - unused)
        }
        OID_EC => Key::Ec,
        OID_ED25519 => Key::Ed25519,
        _ => Key::Other,
    })
}

/// A text of a certificate, escaped and bounded.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_shown = |character: &char| !character.is_control() && *character != '\u{202e}' && *character != '\u{2028}';
    text.chars().take(TEXT_CHARACTERS_MAX).map(|character| if is_shown(&character) { character } else { '?' }).collect()
}
