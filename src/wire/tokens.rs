//! Conversions of the requests about tokens, and of tokens as they are listed.

use super::public::WireError;
use crate::api;
use crate::auth::{CERTIFICATE_NAME_BYTES_MAX, Grant, Holder, Proof, SecretHash, TokenId};

/// A Tokens/Create, as its caller asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCreateCall {
    /// The id.
    pub id: TokenId,
    /// The name, for people.
    pub name: String,
    /// By what the holder is known.
    pub proof: Proof,
    /// What it may do.
    pub grants: Vec<Grant>,
}

impl TryFrom<api::TokenCreateRequest> for TokenCreateCall {
    type Error = WireError;

    fn try_from(request: api::TokenCreateRequest) -> Result<Self, WireError> {
        let api::TokenCreateRequest { token, secret_sha256 } = request;
        let accepted = "{\"id\": \"...\", \"name\": \"...\", \"rights\": [\"read:carts\"]}";
        let token = token.ok_or(WireError::Missing { field: "token", accepted })?;
        let api::Token { id, name, certificate, rights, created: _ } = token;
        let proof = match (certificate, SecretHash::from_bytes(&secret_sha256)) {
            (name, None) if secret_sha256.is_empty() && (1..=CERTIFICATE_NAME_BYTES_MAX).contains(&name.len()) => {
                Proof::Certificate(name)
            }
            (name, Some(hash)) if name.is_empty() => Proof::Secret(hash),
            _ => {
                let accepted = "the SHA-256 of a secret in secret_sha256, or the name of a client in token.certificate";
                return Err(WireError::Missing { field: "secret_sha256", accepted });
            }
        };
        let grant = |text: String| text.parse().map_err(|source| WireError::Grant { field: "token.rights", source });
        let grants = rights.into_iter().map(grant).collect::<Result<_, _>>()?;
        Ok(Self { id: token_id("token.id", &id)?, name, proof, grants })
    }
}

/// The id of a token in `field`.
///
/// # Errors
/// When it is none.
pub fn token_id(field: &'static str, text: &str) -> Result<TokenId, WireError> {
    TokenId::new(text).ok_or(WireError::TokenId { field })
}

impl From<&Holder> for api::Token {
    fn from(holder: &Holder) -> Self {
        let certificate = match &holder.proof {
            Proof::Certificate(name) => name.clone(),
            Proof::Secret(_) => String::new(),
        };
        Self {
            id: holder.id.as_str().to_owned(),
            name: holder.name.clone(),
            certificate,
            rights: holder.grants.iter().map(Grant::to_string).collect(),
            created: holder.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_field_is_named() {
        let good = || {
            let rights = vec!["read:carts".to_owned()];
            let token = api::Token { id: "a1".into(), name: "n".into(), rights, ..Default::default() };
            api::TokenCreateRequest { token: Some(token), secret_sha256: vec![1; 32].into() }
        };
        let read = |change: fn(&mut api::TokenCreateRequest, &mut api::Token)| {
            let (mut request, mut token) = (good(), good().token.unwrap());
            change(&mut request, &mut token);
            request.token = request.token.map(|_| token);
            TokenCreateCall::try_from(request).map_err(|error| error.to_string())
        };
        let call = read(|_, _| {}).unwrap();
        assert_eq!((call.grants.len(), call.proof), (1, Proof::Secret(SecretHash::from_bytes(&[1; 32]).unwrap())));
        let certificate = read(|request, token| {
            request.secret_sha256 = bytes::Bytes::new();
            token.certificate = "ada".into();
        });
        assert_eq!(certificate.unwrap().proof, Proof::Certificate("ada".into()));
        for (bad, part) in [
            (read(|request, _| request.token = None), "token is missing"),
            (read(|request, _| request.secret_sha256 = vec![1; 31].into()), "secret_sha256"),
            (read(|request, _| request.secret_sha256 = bytes::Bytes::new()), "secret_sha256"),
            (read(|_, token| token.certificate = "ada".into()), "secret_sha256"),
            (read(|_, token| token.id = "A".into()), "token.id"),
            (read(|_, token| token.rights = vec!["reed".into()]), "token.rights"),
        ] {
            let error = bad.unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
