//! Who asks: the other end of a connection, and what it shows.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::codegen::http::{HeaderMap, header};

use crate::auth::{SecretHash, Token, TokenId};
use crate::service::request_metrics::Door;
use crate::shares::Owner;
use crate::tls::{self, Channel, Facts, Name};
use crate::types::NodeId;

/// Somebody who asks. The default is nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(super) door: Option<Door>,
    pub(super) address: Option<SocketAddr>,
    pub(super) shown: Shown,
}

/// What somebody shows of who they are.
#[derive(Clone, Debug, Default)]
pub(super) enum Shown {
    #[default]
    Nothing,
    /// Something in the place of a token.
    NoToken,
    Token(TokenId, SecretHash),
    /// A verified certificate that names a client.
    Certificate(Arc<Facts>),
    /// A verified certificate that names a node of this cluster and no client, where nodes call each other. The node is a member, or
    /// nodes may add themselves.
    Node(NodeId, Arc<Facts>),
    /// The same of a node that is no member.
    NoMember(NodeId),
    /// The question is this node's own.
    ThisNode,
}

impl Caller {
    /// The other end of a connection.
    pub(crate) fn of_connection(door: Door, connection: &tls::Caller) -> Self {
        // Nodes call each other over gRPC alone.
        let shown = match connection.channel() {
            Some(Channel::Tls(Some(facts))) if door == Door::Grpc || names_client(&facts) => Shown::Certificate(facts),
            _ => Shown::Nothing,
        };
        Self { door: Some(door), address: connection.address, shown }
    }

    /// Whoever sent a request with these headers. A token counts before a certificate.
    pub(crate) fn of_request(door: Door, connection: &tls::Caller, headers: &HeaderMap) -> Self {
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Self::of_connection(door, connection) };
        let text = given.to_str().ok().and_then(token_of);
        Self::of_token(door, connection.address, text.as_deref().unwrap_or_default())
    }

    /// Whoever has the token `text`.
    pub(crate) fn of_token(door: Door, address: Option<SocketAddr>, text: &str) -> Self {
        let shown = match Token::parse(text) {
            Ok(token) => Shown::Token(token.id().clone(), token.hash()),
            Err(_) => Shown::NoToken,
        };
        Self { door: Some(door), address, shown }
    }

    /// The same, where a certificate that names no client is looked at: whether it names a node of `cluster` that counts.
    pub(super) fn of_cluster(mut self, cluster: &str, counts: impl Fn(&NodeId) -> bool) -> Self {
        if let Shown::Certificate(facts) = &self.shown
            && !names_client(facts)
        {
            let shown = match node_of(facts, cluster) {
                Some(id) if counts(id) => Shown::Node(id.clone(), Arc::clone(facts)),
                Some(id) => Shown::NoMember(id.clone()),
                None => Shown::Nothing,
            };
            self.shown = shown;
        }
        self
    }

    /// Whoever has a share of the node as its address says; nobody, if it has none.
    pub(super) fn address_alone(&self) -> Option<Owner> {
        self.address.map(|address| Owner::of_address(address.ip()))
    }

    /// Whoever has a share of the node for this caller: what it shows counts before its address. Ask before it is known whether
    /// that is true only where nothing is done meanwhile.
    pub(super) fn owner(&self, cluster: &str) -> Option<Owner> {
        let name = match &self.shown {
            Shown::Token(id, _) => Some(id.as_str().into()),
            Shown::Certificate(facts) => clients_of(facts, cluster).next().map(|name| format!("client {name}")),
            Shown::Node(id, _) => Some(format!("node {id}")),
            Shown::ThisNode => return None,
            Shown::Nothing | Shown::NoToken | Shown::NoMember(_) => None,
        };
        name.map_or_else(|| self.address_alone(), |name| Some(Owner::Holder(name.into())))
    }

    pub(super) fn this_node() -> Self {
        Self { shown: Shown::ThisNode, ..Self::default() }
    }
}

fn names_client(facts: &Facts) -> bool {
    facts.names.iter().any(|name| matches!(name, Name::Client { .. }))
}

/// The node of this cluster in a certificate.
fn node_of<'a>(facts: &'a Facts, cluster: &str) -> Option<&'a NodeId> {
    facts.names.iter().find_map(|name| match name {
        Name::Node { cluster: of, id } if of == cluster => Some(id),
        _ => None,
    })
}

/// The names of clients of this cluster in a certificate.
pub(super) fn clients_of<'a>(facts: &'a Facts, cluster: &'a str) -> impl Iterator<Item = &'a str> {
    facts.names.iter().filter_map(move |name| match name {
        Name::Client { cluster: of, name } if of == cluster => Some(name.as_str()),
        _ => None,
    })
}

/// The token in the value of `authorization`: `Bearer TOKEN`, or `Basic`, as browsers send it, with the token as the password.
fn token_of(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_found_in_what_clients_and_browsers_send() {
        let basic = format!("Basic {}", STANDARD.encode("anybody:qrt_a_b"));
        for value in ["Bearer qrt_a_b", "bearer  qrt_a_b ", &basic] {
            assert_eq!(token_of(value).as_deref(), Some("qrt_a_b"), "{value}");
        }
        for value in ["", "qrt_a_b", "Digest qrt_a_b", "Basic ???", &format!("Basic {}", STANDARD.encode("qrt_a_b"))] {
            assert_eq!(token_of(value), None, "{value}");
        }
    }

    #[test]
    fn certificate_of_a_node_counts_at_its_door_for_a_member_of_the_cluster() {
        let node = |cluster: &str, id: &str| Name::Node { cluster: cluster.into(), id: NodeId::new(id).unwrap() };
        let client = Name::Client { cluster: "c".into(), name: "ada".into() };
        let shown = |door, names: Vec<Name>| {
            let facts = Facts {
                subject: "CN=x".into(),
                issuer: "CN=ca".into(),
                common_name: "x".into(),
                not_before: 0,
                not_after: 1,
                hosts: Vec::new(),
                names,
                key: tls::Key::Rsa(2048),
                is_ca: false,
            };
            let connection = tls::Caller::over(None, Channel::Tls(Some(Arc::new(facts))));
            Caller::of_connection(door, &connection).of_cluster("c", |id| id.as_str() == "1").shown
        };
        assert!(matches!(shown(Door::Grpc, vec![node("c", "1")]), Shown::Node(id, _) if id.as_str() == "1"));
        assert!(matches!(shown(Door::Grpc, vec![node("c", "2")]), Shown::NoMember(id) if id.as_str() == "2"));
        assert!(matches!(shown(Door::Grpc, vec![node("d", "1")]), Shown::Nothing));
        assert!(matches!(shown(Door::Http, vec![node("c", "1")]), Shown::Nothing));
        assert!(matches!(shown(Door::Grpc, vec![node("c", "1"), client]), Shown::Certificate(_)));
    }

    #[test]
    fn token_counts_before_a_certificate_and_junk_is_no_token() {
        let connection = tls::Caller::over(None, Channel::Plain);
        let token = Token::new().unwrap();
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            Caller::of_request(Door::Http, &connection, &headers).shown
        };
        let bearer = format!("Bearer {}", token.reveal());
        assert!(matches!(shown(&bearer), Shown::Token(id, hash) if id == *token.id() && hash == token.hash()));
        assert!(matches!(shown("Bearer junk"), Shown::NoToken));
        assert!(matches!(shown("Digest x"), Shown::NoToken));
        assert!(matches!(Caller::of_request(Door::Http, &connection, &HeaderMap::new()).shown, Shown::Nothing));
    }
}
