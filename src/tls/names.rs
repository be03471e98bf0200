//! The names that certificates give to nodes and clients: URIs among the subject alternative names.
//!
//! Contract: `quorate://CLUSTER/node/ID` names a node, `quorate://CLUSTER/client/NAME` a client, `quorate://CLUSTER/ca` the CA
//! that `quorate ca init` made. What is not a letter, a digit or one of `-._~` is percent-encoded, with capital digits: one name
//! has one spelling, so that names are equal where their texts are.

use std::fmt::{self, Write as _};

use crate::types::NodeId;

const SCHEME: &str = "quorate://";

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A node.
    Node {
        /// The name of its cluster: `cluster.name`.
        cluster: String,
        /// Its id.
        id: NodeId,
    },
    /// A client.
    Client {
        /// The name of its cluster.
        cluster: String,
        /// Its own name.
        name: String,
    },
    /// The CA of a cluster.
    Authority {
        /// The name of the cluster.
        cluster: String,
    },
}

impl Name {
    /// The name that a URI gives; `None` for a URI of another kind or another spelling.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let (cluster, rest) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let cluster = decoded(cluster)?;
        let name = match rest.split_once('/') {
            None if rest == "ca" => Self::Authority { cluster },
            Some(("node", id)) => Self::Node { cluster, id: NodeId::new(&decoded(id)?).ok()? },
            Some(("client", name)) => Self::Client { cluster, name: decoded(name)? },
            _ => return None,
        };
        // Another spelling of the same name would be another text.
        (name.uri() == uri).then_some(name)
    }

    /// The URI.
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Self::Node { cluster, id } => format!("{SCHEME}{}/node/{}", encoded(cluster), encoded(id.as_str())),
            Self::Client { cluster, name } => format!("{SCHEME}{}/client/{}", encoded(cluster), encoded(name)),
            Self::Authority { cluster } => format!("{SCHEME}{}/ca", encoded(cluster)),
        }
    }
}

/// For people: `node 1 of cluster quorate`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { cluster, id } => write!(f, "node {id} of cluster {}", cluster.escape_debug()),
            Self::Client { cluster, name } => {
                write!(f, "client {} of cluster {}", name.escape_debug(), cluster.escape_debug())
            }
            Self::Authority { cluster } => write!(f, "the CA of cluster {}", cluster.escape_debug()),
        }
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text that was encoded; `None` if it is empty or no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_uri_say_the_same() {
        for (uri, words) in [
            ("quorate://prod/node/1", "node 1 of cluster prod"),
            ("quorate://prod/node/a%2Fb", "node a/b of cluster prod"),
            ("quorate://prod/client/ada%20l", "client ada l of cluster prod"),
            ("quorate://prod/ca", "the CA of cluster prod"),
        ] {
            let name = Name::parse(uri).expect(uri);
            assert_eq!((name.uri(), name.to_string()), (uri.to_owned(), words.to_owned()));
        }
    }

    #[test]
    fn other_spellings_name_nobody() {
        for uri in [
            "quorate://prod/node/",
            "quorate:///node/1",
            "quorate://prod/node/1/2",
            "quorate://prod/node/a%2fb",
            "quorate://prod/node/%31",
            "quorate://prod/node/a b",
            "Quorate://prod/node/1",
            "https://prod/node/1",
            "quorate://prod/ca/1",
            "quorate://prod/node/%",
            "quorate://prod/node/%FF",
        ] {
            assert_eq!(Name::parse(uri), None, "{uri}");
        }
    }
}
