//! Where the nodes serve HTTP, as they tell each other.
//!
//! Contract: a node tells its address with each link that it opens, in the metadata of the call. It is for people and their
//! clients alone: no node asks another one over HTTP, and nothing depends on what is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::types::NodeIndex;

/// The name in the metadata.
const NAME: &str = "quorate-http-address";
/// The longest host name, in brackets, and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 8;

/// The addresses of a cluster's nodes for HTTP.
#[derive(Debug, Default)]
pub struct HttpAddresses {
    /// That of this node, if it serves HTTP.
    own: Option<String>,
    told: Mutex<BTreeMap<NodeIndex, String>>,
}

impl HttpAddresses {
    /// The addresses of a node that serves HTTP at `own`, and knows no other yet.
    #[must_use]
    pub fn new(own: Option<String>) -> Self {
        Self { own, told: Mutex::default() }
    }

    /// The address of this node, if it serves HTTP.
    #[must_use]
    pub fn own(&self) -> Option<String> {
        self.own.clone()
    }

    /// The address of `peer`, if it has told one.
    #[must_use]
    pub fn of_peer(&self, peer: NodeIndex) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }

    /// Tells this node's address in the metadata of a link.
    pub(super) fn tell(&self, metadata: &mut MetadataMap) {
        if let Some(address) = self.own.as_ref().and_then(|own| MetadataValue::try_from(own).ok()) {
            metadata.insert(NAME, address);
        }
    }

    /// The address in the metadata of a link, if it looks like one.
    pub(super) fn told(metadata: &MetadataMap) -> Option<String> {
        let text = metadata.get(NAME)?.to_str().ok()?;
        let is_of_address = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        (text.len() <= ADDRESS_BYTES_MAX && text.bytes().all(is_of_address)).then(|| text.to_owned())
    }

    /// Keeps what `peer` has told.
    pub fn keep(&self, peer: NodeIndex, address: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => told.insert(peer, address),
            None => told.remove(&peer),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_address_is_kept_until_its_node_serves_no_http_any_more() {
        let (one, other) = (HttpAddresses::new(Some("n1:8101".to_owned())), HttpAddresses::default());
        let mut metadata = MetadataMap::new();
        one.tell(&mut metadata);
        other.keep(NodeIndex(0), HttpAddresses::told(&metadata));
        assert_eq!(other.of_peer(NodeIndex(0)).as_deref(), Some("n1:8101"));
        other.keep(NodeIndex(0), HttpAddresses::told(&MetadataMap::new()));
        assert_eq!(other.of_peer(NodeIndex(0)), None);
        for strange in ["<script>", "a b", &"a".repeat(ADDRESS_BYTES_MAX + 1)] {
            metadata.insert(NAME, strange.parse().unwrap());
            assert_eq!(HttpAddresses::told(&metadata), None, "{strange}");
        }
    }
}
