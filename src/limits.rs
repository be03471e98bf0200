//! Every bound of the system, and the arithmetic behind it.
//!
//! What an operator may want to change has its default here and its key in node.yml; the rest is fixed, because nodes
//! that disagreed about it could not talk to each other.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The longest key. RocksDB holds keys whole in its indexes and filters, so that long ones cost memory on every node.
pub const KEY_BYTES_MAX: usize = 4 * KIB;

/// The largest value: what fits into [`MESSAGE_BYTES_MAX`] with a key, a stamp and their framing, and room to spare.
pub const VALUE_BYTES_MAX: usize = 60 * MIB;

/// The largest gRPC message between clients and nodes.
pub const MESSAGE_BYTES_MAX: usize = 64 * MIB;

/// gRPC's default limit of many clients. Pages of a stream stay under it, with a quarter to spare for framing.
pub const PAGE_BYTES_MAX: usize = 3 * MIB;

/// The longest node id.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// The most nodes of one cluster. The placement table scores each node for each slot: at 1,024 nodes that is 67 million
/// scores at start, a third of a second; [`crate::types::NodeIndex`] could count further.
pub const NODES_MAX: usize = 1_024;

/// The most replicas of one slot: a tally is a set of bits in a `u64`.
pub const REPLICA_COUNT_MAX: usize = 63;

/// How long an operation may take where the client gives no deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// The longest deadline that is honoured: a client's `grpc-timeout` of a week would hold its permit for a week.
pub const DEADLINE_MAX: Duration = Duration::from_mins(1);

/// An answer leaves this long before the client's deadline, so that it arrives before the client has given up: a tenth
/// of the time given, within these two.
pub const DEADLINE_MARGIN_MIN: Duration = Duration::from_millis(2);
/// See [`DEADLINE_MARGIN_MIN`].
pub const DEADLINE_MARGIN_MAX: Duration = Duration::from_millis(100);

/// How many client requests one node works on at once, by default. Each holds a few hundred bytes beside its value; by
/// Little's law 1,024 in flight at 10,000 a second is a tenth of a second of waiting, and more would only wait longer.
pub const REQUESTS_IN_FLIGHT_MAX_DEFAULT: usize = 1_024;

/// How many bytes of keys and values client requests may hold in one node at once, by default: four of the largest.
pub const REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT: usize = 256 * MIB;

/// What a request holds beside its key and value, about: its place in maps and queues, and its stamp.
pub const REQUEST_OVERHEAD_BYTES: usize = 512;

/// The most bytes of requests still being read and of answers still being sent that one node holds, whoever they are
/// from: eight of the largest messages. What the node works on in between is bounded by its own limit.
pub const TRANSIT_BYTES_MAX: usize = 512 * MIB;

/// How many requests one connection may have under way: twice what a node works on by default, so that a client meets
/// the node's refusal, which says why, before its connection makes it wait.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 2_048;

/// What a client may send on one stream before it is read. gRPC's default of 64 KiB would cost a large value a round
/// trip per 64 KiB; four MiB fill a link of 10 Gbit/s at 3 ms.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// What a client may send on one connection before it is read: four streams' windows, so that a few large values do not
/// hold up the small requests beside them. It bounds what an unread connection holds.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// How long connections may take to close once all requests are answered: a stream that its client keeps open for good
/// (a health watch) must not keep a node from ending.
pub const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// How many clients may list a node's keys at once: each holds a page or two and, now and then, a thread that reads.
pub const SCANS_MAX: usize = 16;

/// How many entries one step of a scan of keys looks at before it comes up for air: 10 to 100 ms of reading, as values
/// of up to 4 KiB are read along.
pub const SCAN_ENTRIES_MAX: usize = 50_000;

/// How many events may wait for a node's loop; whoever brings more waits, and with it the link that it reads.
pub const EVENTS_WAITING_MAX: usize = 8_192;

/// How many messages of one link may wait for a node's loop, each of [`LINK_BATCH_BYTES`] and one large value; the link is
/// not read on meanwhile. Enough to keep the loop busy while the next are decoded.
pub const LINK_BATCHES_WAITING_MAX: usize = 8;

/// The most bytes that wait to be sent to one peer; beyond it messages are dropped, as a network would, and sent anew
/// or repaired by reads. Two of the largest messages, so that one never blocks the next, and [`LINK_RESERVE_BYTES`].
pub const LINK_QUEUE_BYTES_MAX: usize = 136 * MIB;

/// The part of [`LINK_QUEUE_BYTES_MAX`] that large values leave to small messages, which a backlog of values must not drown.
pub const LINK_RESERVE_BYTES: usize = 8 * MIB;

/// What is packed into one message to a peer before the next one is begun. Large enough that framing and system calls
/// cost nothing, small enough that one takes about a millisecond to encode.
pub const LINK_BATCH_BYTES: usize = MIB;

/// A message to a peer with a larger value goes in pieces of this size, and small messages go between them: the largest
/// value takes half a second of a link of 1 Gbit/s, a piece a millisecond.
pub const LINK_PIECE_BYTES: usize = 128 * KIB;

/// So many pieces may always be on their way to a peer that has not said yet that it took them. Small messages wait for
/// these, wherever they are: in the buffers of gRPC, of the two systems or of the network between them. 512 KiB take 4 ms
/// at 1 Gbit/s, and fill a link of 10 Gbit/s whose round trip takes 0.4 ms.
pub const LINK_PIECES_UNDER_WAY_MIN: usize = 4;
/// See [`LINK_PIECES_UNDER_WAY_MIN`]; so many where pieces do not queue. 8 MiB fill a link of 1 Gbit/s whose round trip
/// takes 64 ms.
pub const LINK_PIECES_UNDER_WAY_MAX: usize = 64;

/// The largest gRPC message between nodes: what is packed into one, twice, as ids and framing are only estimated, or a
/// hello that names [`NODES_MAX`] nodes and [`INCARNATIONS_NAMED_MAX`] runs, and a piece.
pub const LINK_MESSAGE_BYTES_MAX: usize = 2 * LINK_BATCH_BYTES + LINK_PIECE_BYTES;

/// What a replica's disk may have waiting, in bytes of records and of what is owed for them. A coordinator ends its
/// operation once a majority has answered, so that its own bounds do not hold back a replica whose disk is slow: beyond
/// this, what peers ask is dropped, as a network would. As much as one node's clients may hold by default.
pub const REPLICA_BACKLOG_BYTES_MAX: usize = 256 * MIB;

/// How many loads a replica may have waiting for its disk; beyond it what peers ask is dropped. 8,192 cold reads are about
/// a second of a fast disk.
pub const REPLICA_READS_MAX: usize = 8_192;

/// The most bytes of records that are kept for one peer that did not acknowledge them before the write was answered.
/// The oldest go first; reads repair what is dropped.
pub const STRAGGLER_BYTES_MAX: usize = 16 * MIB;

/// An operation asks a majority first, and the others when one is later than it usually is, but no sooner than this: a
/// machine's own hiccups would set it off.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(1);
/// See [`HEDGE_AFTER_MIN`]; no later than this, whatever is usual: where everyone is as slow, asking more of them would
/// make them slower.
pub const HEDGE_AFTER_MAX: Duration = Duration::from_millis(100);

/// How long a peer that was late or refused is not among those asked first. Each time that it is tried again and is
/// still late, the operations of one [`HEDGE_AFTER_MIN`] or so wait for it.
pub const LATE_FOR: Duration = Duration::from_millis(250);

/// When an operation asks again those that have not answered, at the earliest: later where that is how long operations
/// take; doubled each time, up to [`RESEND_AFTER_MAX`]. A link is a reliable stream, so that a message is only lost where
/// a link or a peer was.
pub const RESEND_AFTER: Duration = Duration::from_millis(250);
/// See [`RESEND_AFTER`].
pub const RESEND_AFTER_MAX: Duration = Duration::from_secs(2);

/// The greatest counter of an epoch; the next stamp carries into a new, durable epoch. At a million writes a second an
/// epoch lasts 9,000 years, so that carrying is a matter of correctness alone.
pub const COUNTER_MAX: u64 = 1 << 58;

/// How far an honest peer's counter may be ahead: it counts writes, and no cluster makes 2^48 of them (nine years of a
/// million a second) while one of its nodes looks away. More is damage, and would use the clock up.
pub const COUNTER_JUMP_MAX: u64 = 1 << 48;

/// How far an honest peer's epoch may be ahead: it counts starts, and no node starts 2^32 times while another looks
/// away.
pub const EPOCH_JUMP_MAX: u64 = 1 << 32;

/// How far an operator may raise a counter at once by Clock/Set or Node/Set.
pub const OPERATOR_COUNTER_RAISE_MAX: u64 = 1 << 32;

/// How far an operator may raise an epoch at once by Clock/Set or Node/Set.
pub const OPERATOR_EPOCH_RAISE_MAX: u64 = 1 << 10;

/// How long a node that was told to end waits for the requests in flight. With [`CLOSE_TIME_MAX`] it has ended within
/// five seconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);

/// The most bytes of RocksDB's cache of uncompressed blocks, by default. Indexes and filters are in it too: at 10 bits
/// a key, 10 million keys have 12 MiB of filters, which leaves most of it to data.
pub const BLOCK_CACHE_BYTES_DEFAULT: usize = 128 * MIB;

/// The most bytes of RocksDB's write buffers, by default, those being flushed included: two of the largest values, so
/// that one can be flushed while the next is taken.
pub const WRITE_BUFFER_BYTES_DEFAULT: usize = 128 * MIB;

/// The most bytes of the records written or read last that a store keeps at hand, by default: 100,000 of a kibibyte.
/// Every write compares with one at each replica, and every read asks for one.
pub const RECORD_CACHE_BYTES_DEFAULT: usize = 128 * MIB;

/// Of a larger record the digest alone is kept at hand: copying the value would cost more than finding it again.
pub const RECENT_RECORD_BYTES_MAX: usize = 32 << 10;

/// The largest node.yml or cluster.yml: [`NODES_MAX`] nodes take about 350 bytes each at most, and comments the rest.
pub const CONFIG_BYTES_MAX: usize = MIB;

/// How deep a node.yml or cluster.yml may be nested: they need four levels. The reader calls itself once per level.
pub const CONFIG_DEPTH_MAX: usize = 16;

/// The most nodes of a throw-away local cluster: they share one machine, and their metrics ports begin
/// [`DEV_METRICS_PORT_DISTANCE`] above their ports.
pub const DEV_NODES_MAX: usize = 100;

/// How far above its port a node of a throw-away cluster serves metrics: 8001 and 9001, as in the examples.
pub const DEV_METRICS_PORT_DISTANCE: u16 = 1_000;

/// How many of its latest runs a node names when it introduces itself: 16 bytes each, a megabyte in all. A peer that was
/// away for more of them does not recognise the folder; that takes a node that restarts every second for 18 hours.
pub const INCARNATIONS_NAMED_MAX: usize = 1 << 16;
