//! Tokens: `qrt_ID_SECRET`, with 256 random bits of secret in base64url.
//!
//! The secret is random, so one SHA-256 is enough: a slow hash protects what people think up, and would let anybody keep a
//! node busy. Hashes are compared in constant time.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// How each token begins, so that tools find one that was published by mistake.
const MARK: &str = "qrt";
const SECRET_BYTES: usize = 32;
/// The longest id of a token.
const ID_BYTES_MAX: usize = 16;
/// The random bytes of an id, which are written in hexadecimal digits.
const ID_DRAWN_BYTES: usize = ID_BYTES_MAX / 2;

/// The public part of a token: 1 to 16 small letters and digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

/// A token. Whoever has it is who it was made for.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

/// What is kept of a token's secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; SECRET_BYTES]);

/// Why a text is no token. It does not repeat the text, which may have a secret in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is none.
    #[error("it is no token: a token begins with qrt_ and has three parts, such as qrt_5f0c…_…")]
    Form,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

impl TokenId {
    /// The id that a text is; `None` if it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        ((1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)).then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Token {
    /// A new token, with a random id.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> Result<Self, TokenError> {
        let mut id = [0; ID_DRAWN_BYTES];
        fill(&mut id)?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        Self::named(TokenId(id.into()))
    }

    /// A new token with this id.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn named(id: TokenId) -> Result<Self, TokenError> {
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret)?;
        Ok(Self { id, secret })
    }

    /// The token that a text is.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.splitn(3, '_');
        let (Some(MARK), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Form);
        };
        let id = TokenId::new(id).ok_or(TokenError::Form)?;
        let mut bytes = [0; SECRET_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes) {
            Ok(SECRET_BYTES) => Ok(Self { id, secret: bytes }),
            _ => Err(TokenError::Form),
        }
    }

    /// Its public part.
    #[must_use]
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// What is kept of its secret.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.secret);
        SecretHash::from_bytes(digest.as_ref()).expect("SHA-256 has 32 bytes")
    }

    /// The whole token, secret included: to give it to its owner, and to send it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{MARK}_{}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret))
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), TokenError> {
    SystemRandom::new().fill(bytes).map_err(|_| TokenError::NoRandom)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl SecretHash {
    /// A hash that no secret is known to have: who is compared with it is refused.
    pub const OF_NOBODY: Self = Self([0; SECRET_BYTES]);

    /// The hash with these bytes; `None` if they are not as many as it has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// In constant time.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |differences, (one, other)| differences | (one ^ other));
        std::hint::black_box(differences) == 0
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_reads_back_and_shows_no_secret() {
        let token = Token::new().unwrap();
        let text = token.reveal();
        assert_eq!(text.len(), "qrt_".len() + 16 + 1 + 43, "{text}");
        assert_eq!(Token::parse(&text), Ok(token.clone()));
        assert_eq!(format!("{token:?} {:?}", token.hash()), format!("Token({}) SecretHash", token.id()));
        let other = Token::named(token.id().clone()).unwrap();
        assert!(token.hash() == token.hash() && token.hash() != other.hash());
        assert!(token.hash() != SecretHash::OF_NOBODY);
        assert_eq!(SecretHash::from_bytes(token.hash().as_bytes()), Some(token.hash()));
    }

    #[test]
    fn text_that_is_no_token_is_refused_without_being_repeated() {
        let good = Token::new().unwrap().reveal();
        let (id, secret) = good.strip_prefix("qrt_").unwrap().split_once('_').unwrap();
        let longer = format!("{good}A");
        let upper = format!("qrt_{}_{secret}", id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"));
        let short = &good[..good.len() - 1];
        for text in ["", "qrt", "qrt_", "qrt__", "qrt_a_", "qrt_a_b", short, &longer, &upper, &good[1..], " qrt_a_b"] {
            let error = Token::parse(text).unwrap_err().to_string();
            assert!(!error.contains(secret), "{error}");
        }
        let long_id = format!("qrt_{}_{secret}", "a".repeat(17));
        assert_eq!(Token::parse(&long_id), Err(TokenError::Form));
        assert!(Token::parse(&format!("qrt_bootstrap_{secret}")).is_ok());
    }

    #[cfg(feature = "server")]
    #[test]
    fn fuzz_tokens() {
        let good = "qrt_5f0c5f0c5f0c5f0c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        bolero::check!().with_max_len(crate::fuzz::DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let text = crate::fuzz::mutated_text(&[good, "qrt_a_b", "qrt___"], bytes);
            if let Ok(token) = Token::parse(&text) {
                assert_eq!(token.reveal(), text, "one token has one text");
            }
        });
    }
}
