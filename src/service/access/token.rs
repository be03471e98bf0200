//! Tokens: their text, and the record that says what one allows.
//!
//! Contract: the text is `qrt_ID_SECRET`. The secret has 256 random bits, and is shown once. The record has its SHA-256: of a
//! random secret that is as good as the secret itself, and costs no time that an attacker could make a node spend. Neither
//! `Debug` nor an error shows a secret.
//!
//! The record is an ordinary one in [`TableId::TOKENS`], and linearizable. Its value is text, in lines: the form, then `hash`,
//! `label` and each `role`. That of a certificate has no hash.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::types::{Grant, Key, TableId};

const PREFIX: &str = "qrt_";
const FORM: &str = "quorate token 1";
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 8;
/// The longest label.
pub(crate) const LABEL_BYTES_MAX: usize = 128;
/// The most roles of one token.
pub(crate) const GRANTS_MAX: usize = 64;
/// The id of the token that a node makes for its own machine.
pub(crate) const LOCAL_ID: &str = "local";

/// The hash of a secret.
#[derive(Clone, Copy)]
pub(crate) struct SecretHash([u8; 32]);

/// A token that somebody has presented.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) id: String,
    hash: SecretHash,
}

/// What an identity is allowed.
#[derive(Clone, Debug)]
pub(crate) struct TokenRecord {
    /// `None` for a certificate, which proves itself.
    pub(crate) hash: Option<SecretHash>,
    pub(crate) label: String,
    pub(crate) grants: Vec<Grant>,
}

impl SecretHash {
    fn of(secret: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether two hashes are equal, in a time that does not depend on where they differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0, |difference, (one, other)| difference | (one ^ other));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl Token {
    /// A new token and its text, which is shown once.
    ///
    /// # Errors
    /// When the system gives no random bits.
    pub(crate) fn generate(id: Option<&str>) -> Result<(Self, String), ring::error::Unspecified> {
        let mut random = [0; SECRET_BYTES + ID_BYTES];
        SystemRandom::new().fill(&mut random)?;
        let (secret, for_id) = random.split_at(SECRET_BYTES);
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let id = id.map_or_else(|| for_id.iter().map(|byte| format!("{byte:02x}")).collect(), str::to_owned);
        let text = format!("{PREFIX}{id}_{secret}");
        Ok((Self { hash: SecretHash::of(&secret), id }, text))
    }

    /// The token of a text; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(PREFIX)?.split_once('_')?;
        let is_id = id == LOCAL_ID || (id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        // 43 digits of base64url.
        (is_id && secret.len() == 43).then(|| Self { id: id.to_owned(), hash: SecretHash::of(secret) })
    }

    pub(crate) fn hash(&self) -> SecretHash {
        self.hash
    }

    /// Whether its secret is the one of `record`.
    pub(crate) fn is_that_of(&self, record: &TokenRecord) -> bool {
        record.hash.is_some_and(|hash| hash.is(&self.hash))
    }
}

/// The key of an identity's record.
pub(crate) fn key_of(identity: &str) -> Option<Key> {
    Key::in_table(TableId::TOKENS, identity.as_bytes()).ok()
}

/// The identity of a client's certificate in the table of tokens. No id of a token has a slash.
pub(crate) fn of_certificate(name: &str) -> String {
    format!("cert/{name}")
}

impl TokenRecord {
    pub(crate) fn encode(&self) -> String {
        let mut lines = vec![FORM.to_owned()];
        if let Some(SecretHash(hash)) = self.hash {
            lines.push(format!("hash {}", URL_SAFE_NO_PAD.encode(hash)));
        }
        lines.push(format!("label {}", self.label));
        lines.extend(self.grants.iter().map(|grant| format!("role {grant}")));
        lines.join("\n")
    }

    /// The record of a text; `None` if it is none. A line that is not known makes it none: it might take something back.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        if lines.next() != Some(FORM) {
            return None;
        }
        let mut record = Self { hash: None, label: String::new(), grants: Vec::new() };
        for line in lines {
            match line.split_once(' ')? {
                ("hash", hash) => {
                    record.hash = Some(SecretHash(URL_SAFE_NO_PAD.decode(hash).ok()?.try_into().ok()?));
                }
                ("label", label) => label.clone_into(&mut record.label),
                ("role", grant) if record.grants.len() < GRANTS_MAX => record.grants.push(grant.parse().ok()?),
                _ => return None,
            }
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_that_of_its_record_and_of_no_other() {
        let (token, text) = Token::generate(None).unwrap();
        let (other, other_text) = Token::generate(None).unwrap();
        assert_ne!(text, other_text);
        let grants = vec!["read:carts/a b".parse().unwrap(), "operator".parse().unwrap()];
        let record = TokenRecord { hash: Some(token.hash()), label: "of ada".into(), grants: grants.clone() };
        let read = TokenRecord::decode(&record.encode()).unwrap();
        assert_eq!((read.label.as_str(), &read.grants), ("of ada", &grants));
        let presented = Token::parse(&format!("{text}\n")).unwrap();
        assert_eq!(presented.id, token.id);
        assert!(presented.is_that_of(&read) && !other.is_that_of(&read));
        let secret = text.rsplit('_').next().unwrap();
        assert!(!record.encode().contains(secret) && !format!("{token:?}{record:?}").contains(secret));
        // A certificate's record lets no token in.
        let of_certificate = TokenRecord { hash: None, ..read };
        assert!(!presented.is_that_of(&TokenRecord::decode(&of_certificate.encode()).unwrap()));
    }

    #[test]
    fn other_texts_are_no_tokens_and_no_records() {
        let secret = "A".repeat(43);
        for text in ["", "qrt_", "qrt_1_2", &format!("qrt_zz_{secret}"), &format!("qrx_0011223344556677_{secret}")] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert!(Token::parse(&format!("qrt_0011223344556677_{secret}")).is_some());
        assert!(Token::parse(&format!("qrt_local_{secret}")).is_some());
        for text in ["", "quorate token 2", "quorate token 1\nrole reader", "quorate token 1\nhash AA", "quorate token 1\nnew x"] {
            assert!(TokenRecord::decode(text).is_none(), "{text}");
        }
    }
}
