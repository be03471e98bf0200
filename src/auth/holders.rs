//! Everybody who has rights, as one record of a system table.
//!
//! Contract: one linearizable read tells all of them as they are at one moment, and one conditional write changes them. So
//! whoever is revoked is revoked for every read that begins afterwards, as with any other record.
//!
//! The record is JSON. It has the hashes of tokens, and the secret by which nodes ask each other for their health:
//! whoever reads a node's disk reads more than that.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::rights::{GRANTS_MAX, Grant};
use super::token::{SecretHash, Token, TokenId};
use crate::types::{Content, Key, TableId, Value};

/// The most bytes of the record. A node reads it once a second.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// The longest name of a holder.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest name of a client in a certificate.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 64;

/// The form of the record.
const FORM: u64 = 1;
/// The id of the token by which nodes know each other.
const NODES: &str = "nodes";

/// By what a holder is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token with this secret.
    Secret(SecretHash),
    /// The certificate of the client with this name, of the cluster's own CA.
    Certificate(String),
}

/// Somebody who has rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What names it in commands.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// By what it is known.
    pub proof: Proof,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// All holders.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    by_id: HashMap<TokenId, Arc<Holder>>,
    by_certificate: HashMap<String, Arc<Holder>>,
    /// The token of the nodes; `None` before the first holder is made.
    nodes: Option<Token>,
}

/// Why holders cannot be changed so, or are not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldersError {
    /// Another holder has the id.
    #[error("there is a token with id {0} already, with another secret or other rights: make one with another id")]
    IdTaken(TokenId),
    /// Another holder has the certificate.
    #[error("client certificate {0:?} has rights already, as token {1}: revoke that first")]
    CertificateTaken(String, TokenId),
    /// There is none with this id.
    #[error("there is no token with id {0}: `quorate token list` shows them")]
    Missing(TokenId),
    /// The id is that of a token of the cluster itself.
    #[error("{0} is no id for a token: the cluster has one of that name itself")]
    Reserved(TokenId),
    /// A holder has no grants, or too many.
    #[error("{0} rights were given: 1 to {GRANTS_MAX} are accepted")]
    Grants(usize),
    /// The name is empty, too long, or has control characters.
    #[error("the name is not accepted: give 1 to {NAME_BYTES_MAX} bytes without control characters")]
    Name,
    /// The record would be too large.
    #[error(
        "all tokens together would take {0} bytes, and {RECORD_BYTES_MAX} are accepted: revoke some, or shorten prefixes"
    )]
    TooLarge(usize),
    /// The record is damaged, or from a later version of the program.
    #[error("the record of all tokens cannot be read: {0}")]
    Unreadable(String),
}

impl Holders {
    /// The key of the record.
    #[must_use]
    pub fn key() -> Key {
        Key::in_table(TableId::HOLDERS, b"all").expect("it is a key")
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is damaged, or of a later form.
    pub fn of(content: &Content) -> Result<Self, HoldersError> {
        let Content::Value(Value::Text(bytes) | Value::Binary(bytes)) = content else { return Ok(Self::default()) };
        let bad = |what: String| HoldersError::Unreadable(what);
        let json: Json = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if json["form"].as_u64() != Some(FORM) {
            return Err(bad(format!("its form is {}, and this program knows {FORM}", json["form"])));
        }
        let nodes = json["nodes"].as_str().map(Token::parse).transpose().map_err(|error| bad(error.to_string()))?;
        let mut holders = Self::default();
        let listed = json["holders"].as_array().ok_or_else(|| bad("it has no list".to_owned()))?;
        for entry in listed {
            let holder = Holder::of(entry).ok_or_else(|| bad(format!("entry {} is damaged", entry["id"])))?;
            holders.add(holder);
        }
        if let Some(token) = nodes {
            holders.know_nodes(token);
        }
        Ok(holders)
    }

    /// The content of the record.
    ///
    /// # Errors
    /// When it is too large.
    pub fn content(&self) -> Result<Content, HoldersError> {
        let holders: Vec<Json> = self.listed().iter().map(|holder| holder.as_json()).collect();
        let nodes = self.nodes.as_ref().map(Token::reveal);
        let text = json!({ "form": FORM, "nodes": nodes, "holders": holders }).to_string();
        if text.len() > RECORD_BYTES_MAX {
            return Err(HoldersError::TooLarge(text.len()));
        }
        Ok(Content::Value(Value::Text(text.into())))
    }

    /// Everybody but the nodes, by name.
    #[must_use]
    pub fn listed(&self) -> Vec<&Arc<Holder>> {
        let mut listed: Vec<_> = self.by_id.values().filter(|holder| holder.id.as_str() != NODES).collect();
        listed.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        listed
    }

    /// Whoever has a token with this id and secret. It takes as long whether there is one or not.
    #[must_use]
    pub fn of_token(&self, id: &TokenId, hash: &SecretHash) -> Option<&Arc<Holder>> {
        let found = self.by_id.get(id);
        let kept = match found.map(|holder| &holder.proof) {
            Some(Proof::Secret(kept)) => kept,
            Some(Proof::Certificate(_)) | None => &SecretHash::OF_NOBODY,
        };
        let is_known = kept == hash;
        found.filter(|holder| is_known && matches!(holder.proof, Proof::Secret(_)))
    }

    /// Whoever has the certificate of the client with this name.
    #[must_use]
    pub fn of_certificate(&self, name: &str) -> Option<&Arc<Holder>> {
        self.by_certificate.get(name)
    }

    /// The token by which nodes know each other; `None` before the first holder is made.
    #[must_use]
    pub fn nodes(&self) -> Option<&Token> {
        self.nodes.as_ref()
    }

    /// Adds a holder, and with the first one the token of the nodes. The same holder again changes nothing.
    ///
    /// # Errors
    /// When its id or its certificate is another's, or something of it is not accepted.
    pub fn create(&mut self, holder: Holder, nodes: impl FnOnce() -> Token) -> Result<(), HoldersError> {
        if holder.id.as_str() == NODES || holder.id.as_str() == "bootstrap" {
            return Err(HoldersError::Reserved(holder.id));
        }
        if !(1..=GRANTS_MAX).contains(&holder.grants.len()) {
            return Err(HoldersError::Grants(holder.grants.len()));
        }
        if !(1..=NAME_BYTES_MAX).contains(&holder.name.len()) || holder.name.chars().any(char::is_control) {
            return Err(HoldersError::Name);
        }
        if let Some(present) = self.by_id.get(&holder.id) {
            // Sent again: only the time is another.
            let is_same = Holder { created: present.created, ..holder.clone() } == **present;
            return if is_same { Ok(()) } else { Err(HoldersError::IdTaken(holder.id)) };
        }
        if let Proof::Certificate(name) = &holder.proof
            && let Some(present) = self.by_certificate.get(name)
        {
            return Err(HoldersError::CertificateTaken(name.clone(), present.id.clone()));
        }
        self.add(holder);
        if self.nodes.is_none() {
            self.know_nodes(nodes());
        }
        self.content().map(|_| ())
    }

    /// Takes a holder away. The nodes get a new token for theirs, `nodes`, because they go on to ask each other.
    ///
    /// # Errors
    /// When there is none with this id.
    pub fn revoke(&mut self, id: &TokenId, nodes: impl FnOnce() -> Token) -> Result<(), HoldersError> {
        if id.as_str() == NODES && self.nodes.is_some() {
            self.know_nodes(nodes());
            return Ok(());
        }
        let holder = self.by_id.remove(id).ok_or_else(|| HoldersError::Missing(id.clone()))?;
        if let Proof::Certificate(name) = &holder.proof {
            self.by_certificate.remove(name);
        }
        Ok(())
    }

    /// A token of the nodes, to be made with the first holder.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new_token_of_nodes() -> Result<Token, super::TokenError> {
        Token::named(TokenId::new(NODES).expect("it is an id"))
    }

    fn add(&mut self, holder: Holder) {
        let holder = Arc::new(holder);
        if let Proof::Certificate(name) = &holder.proof {
            self.by_certificate.insert(name.clone(), Arc::clone(&holder));
        }
        self.by_id.insert(holder.id.clone(), holder);
    }

    /// Nodes may ask each other for what their own status shows.
    fn know_nodes(&mut self, token: Token) {
        self.add(Holder {
            id: token.id().clone(),
            name: "a node of this cluster".to_owned(),
            proof: Proof::Secret(token.hash()),
            grants: vec![Grant::Observer],
            created: 0,
        });
        self.nodes = Some(token);
    }
}

impl Holder {
    fn as_json(&self) -> Json {
        let (hash, certificate) = match &self.proof {
            Proof::Secret(hash) => (Some(STANDARD.encode(hash.as_bytes())), None),
            Proof::Certificate(name) => (None, Some(name)),
        };
        let rights: Vec<String> = self.grants.iter().map(Grant::to_string).collect();
        json!({
            "id": self.id.as_str(),
            "name": self.name,
            "hash": hash,
            "certificate": certificate,
            "rights": rights,
            "created": self.created,
        })
    }

    fn of(json: &Json) -> Option<Self> {
        let proof = match (json["hash"].as_str(), json["certificate"].as_str()) {
            (Some(hash), None) => Proof::Secret(SecretHash::from_bytes(&STANDARD.decode(hash).ok()?)?),
            (None, Some(name)) => Proof::Certificate(name.to_owned()),
            _ => return None,
        };
        let grants = json["rights"].as_array()?.iter();
        Some(Self {
            id: TokenId::new(json["id"].as_str()?)?,
            name: json["name"].as_str()?.to_owned(),
            proof,
            grants: grants.map(|grant| grant.as_str()?.parse().ok()).collect::<Option<_>>()?,
            created: json["created"].as_i64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, proof: Proof, grants: &[&str]) -> Holder {
        let id = TokenId::new(&format!("id{name}")).unwrap();
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        Holder { id, name: name.to_owned(), proof, grants, created: 7 }
    }

    fn of_nodes() -> Token {
        Holders::new_token_of_nodes().unwrap()
    }

    #[test]
    fn holders_read_back_and_are_found_by_what_they_show() {
        let token = Token::new().unwrap();
        let mut holders = Holders::default();
        let with_token =
            Holder { id: token.id().clone(), ..holder("a", Proof::Secret(token.hash()), &["write:carts/x"]) };
        holders.create(with_token.clone(), of_nodes).unwrap();
        holders.create(holder("b", Proof::Certificate("ada".into()), &["admin"]), of_nodes).unwrap();
        holders.create(with_token.clone(), of_nodes).expect("the same again is no mistake");
        let read = Holders::of(&holders.content().unwrap()).unwrap();
        assert_eq!(read.listed(), holders.listed());
        assert_eq!(read.listed().len(), 2);
        assert_eq!(**read.of_token(token.id(), &token.hash()).unwrap(), with_token);
        assert_eq!(read.of_certificate("ada").unwrap().name, "b");
        let nodes = read.nodes().unwrap();
        assert_eq!(read.of_token(nodes.id(), &nodes.hash()).unwrap().grants, [Grant::Observer]);

        let other = Token::named(token.id().clone()).unwrap();
        assert!(read.of_token(other.id(), &other.hash()).is_none(), "another secret");
        assert!(read.of_token(Token::new().unwrap().id(), &token.hash()).is_none(), "another id");
        let id = TokenId::new("idb").unwrap();
        assert!(read.of_token(&id, &SecretHash::OF_NOBODY).is_none(), "it has a certificate, and no secret");
        let mut read = read;
        read.revoke(token.id(), of_nodes).unwrap();
        read.revoke(&id, of_nodes).unwrap();
        assert!(read.of_token(token.id(), &token.hash()).is_none() && read.of_certificate("ada").is_none());
        assert_eq!(read.revoke(token.id(), of_nodes), Err(HoldersError::Missing(token.id().clone())));
        let old = read.nodes().unwrap().clone();
        read.revoke(old.id(), of_nodes).expect("the nodes get another one");
        let new = Holders::of(&read.content().unwrap()).unwrap().nodes().unwrap().clone();
        assert!(read.of_token(old.id(), &old.hash()).is_none() && read.of_token(new.id(), &new.hash()).is_some());
        assert_eq!(Holders::default().revoke(old.id(), of_nodes), Err(HoldersError::Missing(old.id().clone())));
    }

    #[test]
    fn what_is_not_accepted_says_why() {
        let token = Token::new().unwrap();
        let mut holders = Holders::default();
        holders.create(holder("a", Proof::Certificate("ada".into()), &["read"]), of_nodes).unwrap();
        let secret = Proof::Secret(token.hash());
        for (given, part) in [
            (holder("a", secret.clone(), &["read"]), "already"),
            (holder("b", Proof::Certificate("ada".into()), &["read"]), "revoke that first"),
            (holder("c", secret.clone(), &[]), "0 rights"),
            (Holder { name: String::new(), ..holder("d", secret.clone(), &["read"]) }, "1 to 64"),
            (Holder { name: "a\nb".into(), ..holder("d", secret.clone(), &["read"]) }, "control"),
            (Holder { id: TokenId::new(NODES).unwrap(), ..holder("d", secret.clone(), &["read"]) }, "itself"),
        ] {
            let error = holders.create(given, of_nodes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let long = format!("read:t/{}", "k".repeat(4_000));
        let grants: Vec<&str> = vec![&long; GRANTS_MAX];
        let too_large = (0..8)
            .find_map(|number| holders.create(holder(&format!("x{number}"), secret.clone(), &grants), of_nodes).err());
        assert!(matches!(too_large, Some(HoldersError::TooLarge(_))), "{too_large:?}");
    }

    #[test]
    fn damaged_records_are_refused_whole() {
        let text = |text: &str| Content::Value(Value::Text(text.to_owned().into()));
        for bad in [
            "",
            "{}",
            r#"{"form":2,"holders":[]}"#,
            r#"{"form":1}"#,
            r#"{"form":1,"holders":[{}]}"#,
            r#"{"form":1,"nodes":"x","holders":[]}"#,
            r#"{"form":1,"holders":[{"id":"a","name":"a","hash":"AA==","certificate":null,"rights":["read"],"created":1}]}"#,
        ] {
            assert!(matches!(Holders::of(&text(bad)), Err(HoldersError::Unreadable(_))), "{bad}");
        }
        assert!(Holders::of(&Content::Tombstone).unwrap().listed().is_empty());
        assert!(Holders::of(&text(r#"{"form":1,"nodes":null,"holders":[]}"#)).unwrap().nodes().is_none());
    }
}
