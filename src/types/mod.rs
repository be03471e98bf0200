//! The types that every other module uses: keys, nodes, clocks, records, and the contract with a store.
//!
//! Contract: a value of one of these types is valid by construction; no other module checks it again. All types are
//! ordered or hashable, so that a protocol state can be compared, hashed and replayed. Cloning is cheap: clones share
//! bytes and ids.

// No clock, random number, thread, lock or channel: clippy.toml has the list, with reasons.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod age;
mod change;
mod clock;
mod cluster;
mod key;
mod members;
mod record;
mod store;
mod store_id;
mod table;
mod trace;
mod version;

pub use age::{Age, AgedRecord, Expiry, RunningTime};
pub use change::{Change, ChangeRequest, Condition, content_of, number_in};
pub use clock::{Clock, Stamp};
pub use cluster::{
    ClusterParameters, NODE_ID_BYTES_MAX, NodeId, NodeIdError, NodeIndex, Site, SiteError, Weight, ZONE_BYTES_MAX, Zone,
};
pub use key::{KEY_BYTES_MAX, Key, KeyError, STORED_KEY_BYTES_MAX, Slot};
pub use members::{ClusterId, Configuration, Member, MemberList, TakenOver, Vote, VoteBallot};
pub use record::{Checksum, Content, Digest, Record, Ttl, Value};
pub use store::{
    Batch, Durability, Found, KeyRange, Lookup, ReadKind, Removed, ScannedKeys, SlotRange, SlotRecord, SlotsPage,
};
pub use store_id::{Incarnation, Meta, PeerRecord, StoreId};
pub use table::{
    DEFAULT_TABLE, TABLE_NAME_BYTES_MAX, TABLES_EVER_MAX, Table, TableId, TableInfo, TableName, TableNameError,
    TableRecord, TableSettings, TableState,
};
pub use trace::{SpanId, TraceContext, TraceId};
pub use version::{Applied, Ballot, IdempotencyToken, Proposal, RECENT_MAX, Tag, Version};
