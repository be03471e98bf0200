//! Conversions of watches: their requests, their cursors and their events.
//!
//! A cursor is, in bytes: the form (1), how many nodes it names, the nodes, and eight bytes that check it. A node is the
//! length of the name under which it writes, the name, epoch and nonce of its incarnation, and a number. Numbers are varints,
//! the nonce has eight bytes. The check covers the key or prefix and is seeded with the cluster's seed, so that a cursor of
//! another seed, or of another watch, is refused. A node that is no member any longer is accepted, and covers nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::encoding::{decode_varint, encode_varint};
use xxhash_rust::xxh3::Xxh3;

use crate::api;
use crate::api::watch_request::Keys;
use crate::api::watch_response::Event;
use crate::protocol::Layout;
use crate::protocol::Listed;
use crate::protocol::changes::Filter;
use crate::protocol::news::{Cursor, Position, WatchEvent, WatchNews};
use crate::types::{Content, Incarnation, KEY_BYTES_MAX, Key, Lookup, NodeId, NodeIndex, Record, Table, TableId};

use super::public::{WireError, key, table};
use super::version::VersionText;

/// The form of cursors.
const FORM: u8 = 1;
/// The length of the check.
const CHECK_BYTES: usize = 8;
/// The largest cursor: 1,024 nodes with the longest ids.
const CURSOR_BYTES_MAX: usize = 128 << 10;

/// A watch, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchCall {
    /// The keys.
    pub filter: Filter,
    /// Where to go on; empty in a new watch.
    pub cursor: Cursor,
    /// Whether changes bring the value.
    pub values: bool,
    /// Whether it is told first what is there, unless it goes on with its cursor.
    pub with_list: bool,
}

/// Stands in a cursor for a node that is no member (any longer). No node has this index.
const UNKNOWN: NodeIndex = NodeIndex(u16::MAX);

/// Reads and writes the watches of one cluster.
#[derive(Clone, Debug)]
pub struct WatchCodec {
    /// The members.
    pub layout: Arc<Layout>,
    /// Its versions.
    pub versions: VersionText,
}

/// The table that a request names.
///
/// # Errors
/// The fault of the name, and what is accepted.
pub fn watched_table(request: &api::WatchRequest) -> Result<Table, WireError> {
    table("table", &request.table)
}

impl WatchCodec {
    /// Reads a request about keys of `table`, which [`watched_table`] names. A cursor is of one table.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn request(&self, table: TableId, request: api::WatchRequest) -> Result<WatchCall, WireError> {
        let api::WatchRequest { keys, cursor, values, with_list, .. } = request;
        let filter = match keys {
            Some(Keys::Key(text)) => Filter::Key(key("key", text)?),
            Some(Keys::Prefix(prefix)) if prefix.len() > KEY_BYTES_MAX => {
                return Err(WireError::Prefix { bytes: prefix.len() });
            }
            Some(Keys::Prefix(prefix)) => Filter::Prefix(prefix.into()),
            None => {
                let accepted = "key, or prefix (an empty prefix for all keys)";
                return Err(WireError::Missing { field: "key", accepted });
            }
        };
        let filter = filter.moved_to(table);
        let cursor = self.decode(&filter, &cursor).ok_or(WireError::Cursor)?;
        Ok(WatchCall { filter, cursor, values, with_list })
    }

    /// Writes an event of a watch of `filter`; with its value where `values` are wanted.
    #[must_use]
    pub fn response(&self, filter: &Filter, news: &WatchNews, values: bool) -> Option<api::WatchResponse> {
        let event = match &news.event {
            WatchEvent::Ready => Event::Ready(api::WatchReady {}),
            WatchEvent::Reset => Event::Reset(api::WatchReset {}),
            WatchEvent::Heartbeat => Event::Heartbeat(api::WatchHeartbeat {}),
            WatchEvent::Changed { key, version, record } => {
                let version = self.versions.encode(&version.clone().in_table(key.table()));
                let name = key.as_str().to_owned();
                match record {
                    Some(Record { content: Content::Value(value), ttl, .. }) => Event::Put(api::WatchPut {
                        key: name,
                        version,
                        entry: values.then(|| (key.clone(), value.clone()).into()),
                        ttl: ttl.map(|ttl| {
                            let span = std::time::Duration::from_millis(ttl.as_millis());
                            prost_types::Duration::try_from(span).unwrap_or_default()
                        }),
                    }),
                    _ => Event::Deleted(api::WatchDeleted { key: name, version }),
                }
            }
            WatchEvent::Listed(_) | WatchEvent::Ended | WatchEvent::TableDropped => return None,
        };
        Some(api::WatchResponse { cursor: self.encode(filter, &news.cursor).into(), event: Some(event) })
    }

    /// Writes a key of what is there, as the first event of its key. It has no cursor: the watch is not told everything yet.
    #[must_use]
    pub fn listed(&self, key: &Key, listed: &Listed) -> Option<api::WatchResponse> {
        let digest = listed.found.digest()?;
        let entry = match &listed.found {
            Lookup::Record(Record { content: Content::Value(value), .. }) => Some((key.clone(), value.clone()).into()),
            _ => None,
        };
        let put = api::WatchPut {
            key: key.as_str().to_owned(),
            version: self.versions.encode(&digest.version().in_table(key.table())),
            entry,
            ttl: digest.ttl.map(|ttl| prost_types::Duration::try_from(listed.age.left_of(ttl)).unwrap_or_default()),
        };
        Some(api::WatchResponse { cursor: Vec::new().into(), event: Some(Event::Put(put)) })
    }

    /// The bytes of a cursor; none of the beginning.
    #[must_use]
    pub fn encode(&self, filter: &Filter, cursor: &Cursor) -> Vec<u8> {
        if cursor.0.is_empty() {
            return Vec::new();
        }
        let mut bytes = vec![FORM];
        encode_varint(cursor.0.len() as u64, &mut bytes);
        for (node, Position { incarnation, number }) in &cursor.0 {
            let id = self.layout.writer(*node).as_str().as_bytes();
            bytes.push(u8::try_from(id.len()).expect("NODE_ID_BYTES_MAX keeps it within a byte"));
            bytes.extend_from_slice(id);
            encode_varint(incarnation.epoch, &mut bytes);
            bytes.extend_from_slice(&incarnation.nonce.to_be_bytes());
            encode_varint(*number, &mut bytes);
        }
        let check = self.check(filter, &bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// The cursor of a watch of `filter`; `None` where it is none of this cluster.
    fn decode(&self, filter: &Filter, bytes: &[u8]) -> Option<Cursor> {
        if bytes.is_empty() {
            return Some(Cursor::default());
        }
        if bytes.len() > CURSOR_BYTES_MAX {
            return None;
        }
        let (parts, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        if self.check(filter, parts) != *check {
            return None;
        }
        let mut rest = parts.strip_prefix(&[FORM])?;
        let count = decode_varint(&mut rest).ok()?;
        let mut positions = BTreeMap::new();
        for _ in 0..count {
            let (length, after) = rest.split_first()?;
            let (id, after) = after.split_at_checked(usize::from(*length))?;
            let name = NodeId::of_writer(std::str::from_utf8(id).ok()?).ok()?;
            let node = self.layout.writer_of(&name).unwrap_or(UNKNOWN);
            rest = after;
            let epoch = decode_varint(&mut rest).ok()?;
            let (nonce, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            let incarnation = Incarnation { epoch, nonce: u64::from_be_bytes(*nonce) };
            let number = decode_varint(&mut rest).ok()?;
            positions.insert(node, Position { incarnation, number });
        }
        rest.is_empty().then_some(Cursor(positions))
    }

    fn check(&self, filter: &Filter, bytes: &[u8]) -> [u8; CHECK_BYTES] {
        let mut check = Xxh3::with_seed(u64::from(self.layout.parameters().seed));
        check.update(bytes);
        check.update(&[u8::from(matches!(filter, Filter::Key(_)))]);
        check.update(filter.as_bytes());
        check.digest().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};
    use crate::protocol::placement::Placement;
    use crate::types::ClusterParameters;

    fn layout(seed: u32) -> Arc<Layout> {
        let node_ids = ["1", "2", "three"].map(|id| NodeId::new(id).unwrap()).to_vec();
        let placement = Placement::new(ClusterParameters { seed, replica_count: 3, epoch_floor: 0, node_ids });
        Arc::new(Layout::begin(Arc::new(placement), &[]))
    }

    fn codec(layout: &Arc<Layout>) -> WatchCodec {
        WatchCodec { layout: Arc::clone(layout), versions: VersionText::of_cluster(layout.parameters().seed) }
    }

    fn prefix(text: &'static str) -> Filter {
        Filter::Prefix(text.into())
    }

    fn cursor() -> Cursor {
        let position = |epoch, number| Position { incarnation: Incarnation { epoch, nonce: u64::MAX - epoch }, number };
        Cursor(BTreeMap::from([(NodeIndex(0), position(3, 0)), (NodeIndex(2), position(u64::MAX, u64::MAX))]))
    }

    fn request(cursor: Vec<u8>) -> api::WatchRequest {
        let keys = Some(Keys::Prefix("user:".to_owned()));
        api::WatchRequest { keys, cursor: cursor.into(), values: true, ..Default::default() }
    }

    #[test]
    fn cursor_comes_out_as_it_went_in() {
        let layout = layout(7);
        for cursor in [Cursor::default(), cursor()] {
            let bytes = codec(&layout).encode(&prefix("user:"), &cursor);
            let expected = WatchCall { filter: prefix("user:"), cursor, values: true, with_list: false };
            assert_eq!(codec(&layout).request(TableId::DEFAULT, request(bytes)), Ok(expected));
        }
    }

    #[test]
    fn foreign_and_damaged_cursors_are_refused() {
        let (own, other) = (layout(7), layout(8));
        let bytes = codec(&own).encode(&prefix("user:"), &cursor());
        let mut damaged = bytes.clone();
        damaged[2] ^= 1;
        let as_key = codec(&own).encode(&Filter::Key(Key::new("user:").unwrap()), &cursor());
        for bytes in [
            codec(&other).encode(&prefix("user:"), &cursor()),
            codec(&own).encode(&prefix("user"), &cursor()),
            as_key,
            damaged,
            bytes[1..].to_vec(),
            [bytes.clone(), vec![0]].concat(),
            b"garbage".to_vec(),
            vec![0; CURSOR_BYTES_MAX + 1],
        ] {
            assert_eq!(codec(&own).request(TableId::DEFAULT, request(bytes)), Err(WireError::Cursor));
        }
    }

    #[test]
    fn cursor_of_removed_members_is_none_of_the_beginning() {
        let (before, node_ids) = (layout(7), vec![NodeId::new("4").unwrap()]);
        let placement = Placement::new(ClusterParameters { seed: 7, replica_count: 1, epoch_floor: 0, node_ids });
        let after = Arc::new(Layout::begin(Arc::new(placement), &[]));
        let bytes = codec(&before).encode(&prefix("user:"), &cursor());
        let read = codec(&after).decode(&prefix("user:"), &bytes).expect("it is of this cluster");
        assert_eq!(read.0.keys().copied().collect::<Vec<_>>(), [UNKNOWN]);
    }

    #[test]
    fn each_bad_request_says_what_is_accepted() {
        let own = layout(7);
        let refused = |request| codec(&own).request(TableId::DEFAULT, request).unwrap_err().to_string();
        assert!(refused(api::WatchRequest::default()).contains("prefix"));
        let keys = |keys| api::WatchRequest { keys: Some(keys), ..Default::default() };
        assert!(refused(keys(Keys::Key(String::new()))).starts_with("key: "));
        assert!(refused(keys(Keys::Prefix("p".repeat(KEY_BYTES_MAX + 1)))).contains("4096"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let own = layout(7);
            let _ = codec(&own).request(TableId::DEFAULT, request(bytes.clone()));
            // With a check that fits.
            let check = codec(&own).check(&prefix("user:"), &bytes);
            let _ = codec(&own).request(TableId::DEFAULT, request([bytes, check.to_vec()].concat()));
        }
    }

    #[test]
    fn fuzz_cursors_of_watches() {
        let (own, filter) = (layout(7), prefix("user:"));
        let whole = codec(&own).encode(&filter, &cursor());
        let (parts, _) = whole.split_last_chunk::<CHECK_BYTES>().expect("a cursor ends with its check");
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let bytes = mutated(&[parts, &[FORM]], bytes);
            let _ = codec(&own).decode(&filter, &bytes);
            // With a check that fits.
            let check = codec(&own).check(&filter, &bytes);
            let Some(cursor) = codec(&own).decode(&filter, &[bytes, check.to_vec()].concat()) else { return };
            assert!(cursor.0.len() <= own.members().len() + 1);
            if cursor.0.contains_key(&UNKNOWN) {
                return;
            }
            assert_eq!(codec(&own).decode(&filter, &codec(&own).encode(&filter, &cursor)), Some(cursor));
        });
    }
}
