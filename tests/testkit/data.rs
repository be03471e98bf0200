//! Nodes, keys and values that are the same in every run.

use quorate::types::{Checksum, Clock, ClusterParameters, Content, Key, NodeId, Record, Stamp, Value};

/// The sizes of measured values: a small one, a common one, and one that the store puts into a blob file.
pub const VALUE_BYTES: [usize; 3] = [16, 1 << 10, 10 << 10];

/// The parameters of a cluster of `nodes` nodes, with the ids node-1, node-2 and so on.
pub fn parameters(nodes: usize, replica_count: usize, seed: u32) -> ClusterParameters {
    let mut node_ids: Vec<NodeId> = (1..=nodes).map(|n| node_id(&format!("node-{n}"))).collect();
    node_ids.sort();
    ClusterParameters { seed, replica_count, epoch_floor: 0, node_ids }
}

/// The node id of this text.
pub fn node_id(id: &str) -> NodeId {
    NodeId::new(id).expect("the ids of these nodes are valid")
}

/// The text of key `number`: 16 characters in no order, as of a random id. Each number has its own.
pub fn key_text(number: u64) -> String {
    format!("{:016x}", mixed(number))
}

/// The key of this number.
pub fn key(number: u64) -> Key {
    Key::new(key_text(number)).expect("16 characters are a key")
}

/// The value of key `number`: bytes that do not compress.
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let words = (0..bytes.div_ceil(8) as u64).map(|word| mixed(mixed(number) ^ mixed(word)));
    let mut value: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    value.truncate(bytes);
    value
}

/// The content of key `number`.
pub fn content(number: u64, bytes: usize) -> Content {
    Content::Value(Value::Binary(value(number, bytes).into()))
}

/// The record of key `number`, with this counter in its stamp.
pub fn record(number: u64, bytes: usize, counter: u64) -> Record {
    let content = content(number, bytes);
    let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: node_id("node-1") };
    let checksum = Checksum::of(&key(number), &content);
    Record::plain(stamp, content, checksum)
}

/// Mixes a number: the last step of SplitMix64. It is invertible, so that no two numbers give the same result.
pub fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
