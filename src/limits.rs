//! Every bound that nodes must agree on or operators may change, with its arithmetic.
//!
//! Bounds that operators may change have their default here and their key in node.yml. The others are fixed, because nodes
//! that disagreed about them could not talk to each other. Bounds of keys and node ids stand beside their types. Bounds
//! that concern one module alone stand in that module.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The largest value: with a key, a stamp and their framing it fits into [`MESSAGE_BYTES_MAX`], with 4 MiB to spare.
pub const VALUE_BYTES_MAX: usize = 60 * MIB;

/// The largest gRPC message between clients and nodes.
pub const MESSAGE_BYTES_MAX: usize = 64 * MIB;

/// The most bytes of keys in one message of a stream of keys. Many gRPC clients refuse messages of more than 4 MiB by
/// default; a quarter of that is left to framing.
pub const PAGE_BYTES_MAX: usize = 3 * MIB;

/// The most nodes of one cluster. The placement table scores each node for each slot: 67 million scores for 1,024 nodes,
/// which take a third of a second at start. The type `NodeIndex` could count further.
pub const NODES_MAX: usize = 1_024;

/// The most replicas of one slot. A tally is a set of bits in a `u64`.
pub const REPLICA_COUNT_MAX: usize = 63;

/// How long an operation may take when the client gives no deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// The longest deadline that a node accepts; longer ones are shortened to it. A `grpc-timeout` of a week would otherwise
/// hold its share of [`REQUESTS_IN_FLIGHT_MAX_DEFAULT`] for a week.
pub const DEADLINE_MAX: Duration = Duration::from_mins(1);

/// A node answers a tenth of the given time before the client's deadline, so that the answer arrives in time. This is the
/// least such margin.
pub const DEADLINE_MARGIN_MIN: Duration = Duration::from_millis(2);
/// The greatest such margin; see [`DEADLINE_MARGIN_MIN`].
pub const DEADLINE_MARGIN_MAX: Duration = Duration::from_millis(100);

/// The default of the key `requests_in_flight_max`: how many client requests one node works on at once. Each takes a few
/// hundred bytes beside its value. One client has half of them: by Little's law 1,024 requests in flight at 10,000 a second
/// wait for a tenth of a second, and more of them would only wait longer.
pub const REQUESTS_IN_FLIGHT_MAX_DEFAULT: usize = 2_048;

/// How many requests of one client a node has begun lately while other clients send some too. By Little's law others wait behind
/// these alone. A cluster of three nodes reaches nine tenths of its peak with 256 Sets in flight (docs/performance.md), and these are
/// 192.
pub const REQUESTS_AT_ONCE: usize = 64;

/// The default of the key `request_bytes_in_flight_max`: how many bytes of keys and values client requests may hold in
/// one node at once. It is four of the largest requests.
pub const REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT: usize = 256 * MIB;

/// About how many bytes a request takes beside its key and value: its stamp, and its entries in maps and queues.
pub const REQUEST_OVERHEAD_BYTES: usize = 512;

/// Values above this count while they are in memory because a read loaded them or a peer sent them: those that are loaded
/// against as many bytes as requests in flight may hold, and those of peers against as many again. Smaller values are
/// bounded by their number: [`REPLICA_READS_MAX`] of them take 512 MiB at most, and a store of usual values far less.
pub const UNCOUNTED_VALUE_BYTES_MAX: usize = 64 * KIB;

/// The most bytes that one node holds for requests that still arrive and for responses that are still being sent, over
/// all connections: eight of the largest messages. [`REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT`] bounds the requests that the
/// node works on in between.
pub const BUFFERED_BYTES_MAX: usize = 512 * MIB;

/// When HTTP/2 pings a silent connection, and how long it waits for the answer before it closes the connection.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// The silence before a ping.
    pub interval: Duration,
    /// The longest wait for its answer.
    pub timeout: Duration,
}

/// A client turns to another node within seconds of a cut that TCP does not report.
pub const CLIENT_KEEP_ALIVE: KeepAlive =
    KeepAlive { interval: Duration::from_secs(5), timeout: Duration::from_secs(2) };
/// A link finds such a cut sooner, because operations wait for it, and must outlast the hiccups of a busy machine.
pub const LINK_KEEP_ALIVE: KeepAlive = KeepAlive { interval: Duration::from_secs(2), timeout: Duration::from_secs(4) };
/// A node only has to find clients that are gone, which would hold their buffers for good.
pub const SERVER_KEEP_ALIVE: KeepAlive =
    KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) };

/// The most connections of clients and peers that a process keeps. An idle one takes about 20 KiB of memory: 320 MiB for
/// all. The limit of open files may leave room for fewer.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How many connections one address may open in a second while others have some. Further ones wait. Clients that keep their
/// connections open need far fewer.
pub const CONNECTIONS_PER_SECOND: usize = 1_000;

/// How long such a connection waits at most: less than clients, probes and peers wait for an answer.
pub const CONNECTION_WAITS_MAX: Duration = Duration::from_millis(500);

/// The most connections to the monitoring port. Each scraper and each probe has one or two.
pub const MONITORING_CONNECTIONS_MAX: usize = 64;

/// How long a request may take to arrive, whatever its size: one of the largest values takes four minutes at 2 Mbit/s.
pub const ARRIVAL_TIME_MAX: Duration = Duration::from_mins(5);
/// How long a request that is arriving may pause.
pub const ARRIVAL_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a connection may be silent on which nobody has said who they are, where a node asks. A client says so in its first
/// command.
pub const STRANGER_IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// The most bytes that gzip makes of one byte: deflate has no longer match for fewer bits.
pub const GZIP_RATIO_MAX: usize = 1_032;

/// How many requests of one connection a client may take back before the node has looked at them. HTTP/2 libraries close
/// the connection, with all its other requests, after 20 by default. Four times as many as may be under way, each of a few
/// hundred bytes.
pub const RESETS_PER_CONNECTION_MAX: usize = 8_192;

/// The largest metadata of a call, names and values. gRPC's own default in many languages is 8 or 16 KiB.
pub const METADATA_BYTES_MAX: usize = 32 * KIB;

/// The largest metadata that the transport reads, so that a call beyond [`METADATA_BYTES_MAX`] is refused in words.
pub const METADATA_READ_BYTES_MAX: u32 = 256 << 10;

/// The largest request of reflection and of health checks, which name a service or a symbol.
pub const TOOLS_MESSAGE_BYTES_MAX: usize = 16 << 10;

/// How many such requests may be open. Each has the largest metadata at most beside its message: 64 MiB for all.
pub const TOOLS_MAX: usize = 1_024;

/// How many requests one connection may have under way: twice as many as a node works on for one client by default. So a client gets the
/// node's refusal, which gives the reason, before HTTP/2 makes it wait.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 2_048;

/// How many bytes a client may send on one stream before the node has read them. HTTP/2's default of 64 KiB would cost a
/// large value one round trip for every 64 KiB. 2 MiB fill a link of 1 Gbit/s with a round trip of 16 ms.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// How many bytes a client may send on one connection before the node has read them: two streams' windows, so that a large
/// value does not delay the small requests beside it. It bounds the memory of a connection whose requests are not read.
pub const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;

/// The same of one answer, which a client has asked for. 4 MiB fill a link of 10 Gbit/s with a round trip of 3 ms.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same of all answers on one connection: four of them, so that a few large values do not delay the small ones.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 4 * CLIENT_STREAM_WINDOW_BYTES;

/// About how many bytes a request of HTTP takes from its head to the end of its answer, beside its body: its task, its stream,
/// and an answer that is not counted otherwise. With [`BUFFERED_BYTES_MAX`] it bounds the requests that are open.
pub const OPEN_REQUEST_BYTES: usize = 16 * KIB;

/// Frames of HTTP/2 that ask for nothing, such as PING, SETTINGS and RST_STREAM: how many of one connection a node reads in a
/// second, beside those that its answers are reason for. A request that is taken back counts as four: a connection can take back 500
/// in a second, and a third of those that are answered.
pub const FRAMES_PER_SECOND: usize = 2_000;

/// The same of all connections of one address. Ten connections have their full rate.
pub const ADDRESS_FRAMES_PER_SECOND: usize = 20_000;

/// How many such frames a connection may save up: all its requests can be taken back at once.
pub const FRAMES_SAVED_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize;

/// How many links there may be whose nodes have not said who they are. A node says so in its first message, which has
/// [`LINK_MESSAGE_BYTES_MAX`] at most: 270 MiB for all.
pub const HELLOS_MAX: usize = 128;

/// How long connections may take to close after all requests are answered. A stream that its client never closes (a health
/// watch) must not keep a node from ending.
pub const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// How many clients may list a node's keys at once. Each holds a page or two and, at times, a thread that reads.
pub const SCANS_MAX: usize = 16;

/// How many entries one step of a scan of keys looks at before it yields: 10 to 100 ms of reading, because values below
/// 4 KiB are read along.
pub const SCAN_ENTRIES_MAX: usize = 50_000;

/// How many clients may list the cluster's keys at once through one node. Each holds a page: 256 MiB for all.
pub const LISTS_MAX: usize = 64;

/// The most keys in a page of a list. A replica looks so many records up in a few milliseconds.
pub const LISTED_KEYS_MAX: usize = 1_000;

/// The fewest keys that a replica is asked for. Tombstones are among them, and a page may end at a tombstone.
pub const LISTED_KEYS_MIN: usize = 64;

/// The most bytes of keys and digests in one replica's answer for a list: half of [`LINK_BATCH_BYTES`]. A thousand keys of
/// 100 bytes take a third of it.
pub const SCANNED_BYTES_MAX: usize = 512 * KIB;

/// How many entries of the index one replica looks at for a list before it answers.
pub const SCANNED_ENTRIES_MAX: usize = 10_000;

/// How many scans for lists may wait in one replica. Each takes a few hundred bytes; the requests beyond it are dropped.
pub const REPLICA_SCANS_MAX: usize = 1_024;

/// How many scans for lists one replica runs at the same time: one is enough to keep a processor busy.
pub const SCANS_RUNNING_MAX: usize = 2;

/// How many keys of one page are read at the same time, where their values are wanted or replicas do not agree.
pub const LIST_READS_MAX: usize = 32;

/// The default of the key `repair_keys_per_second`: a few percent of what one node reads and writes.
pub const REPAIR_KEYS_PER_SECOND_DEFAULT: usize = 1_000;

/// The default of the key `repair_bytes_per_second`: a tenth of a link of one gigabit a second.
pub const REPAIR_BYTES_PER_SECOND_DEFAULT: usize = 12 * MIB;

/// A pass that an operator has asked for goes no faster: its values would fill the memory.
pub const REPAIR_UNPACED_BYTES_PER_SECOND: usize = 1024 * MIB;

/// The reserve of a disk where the key `disk_reserve_bytes` is not given, at most: room to merge tables, and to delete.
pub const DISK_RESERVE_BYTES_DEFAULT_MAX: u64 = 1 << 30;
/// It is this part of the disk at most. Small volumes would have no room beside it otherwise.
pub const DISK_RESERVE_PART: u64 = 20;
/// How often a node looks at the free space of its disk.
pub const DISK_ROOM_EVERY: Duration = Duration::from_secs(2);
/// The default of the key `scrub_bytes_per_second`: a terabyte in 18 hours, and a tenth of what a slow disk reads in a second.
pub const SCRUB_BYTES_PER_SECOND_DEFAULT: usize = 16 * MIB;
/// The default of the key `scrub_every_seconds`: 30 days.
pub const SCRUB_EVERY_SECONDS_DEFAULT: usize = 30 * 24 * 3_600;

/// Such a pass compares with each peer until nothing differs, and so often at most: clients may write all the time.
pub const REPAIR_UNPACED_COMPARISONS_MAX: u8 = 3;

/// The time between two comparisons of two nodes that found nothing. Where all is equal, one takes two messages of half a
/// kibibyte, and a millisecond of either node for the sums of 65,536 slots.
pub const REPAIR_EVERY: Duration = Duration::from_secs(10);

/// With so many peers a node compares every [`REPAIR_EVERY`]. With more, each has its turn as much later.
pub const REPAIR_PAIRS_AT_ONCE: usize = 8;

/// How long a few leaves that differ must do so before their keys are compared: writes take less until all replicas have them.
pub const REPAIR_CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Repair begins its steps in bursts of so much time at its pace: a timer, messages and a sync for each key would cost more than
/// the key.
pub const REPAIR_BURST: Duration = Duration::from_millis(20);

/// How many parts one question about sums names. The answer has sixteen sums of 16 bytes for each: 16 KiB.
pub const REPAIR_PARTS_MAX: usize = 64;

/// Where so many slots of sixteen that lie side by side differ, their keys are listed together.
pub const REPAIR_LISTED_TOGETHER_MIN: u32 = 4;

/// How many lists of keys are compared at the same time, so that a round trip does not decide how fast it goes.
pub const REPAIR_LISTINGS_MAX: usize = 8;

/// No further keys are listed while so many wait to be repaired: of 4 KiB each at most, and 100 bytes usually. Each list that
/// is under way may add twice [`REPAIR_LISTED_KEYS_MAX`].
pub const REPAIR_KEYS_WAITING_MAX: usize = 1_000;

/// How many keys a node repairs at the same time: as many as its pace takes where each needs a thirtieth of a second.
pub const REPAIR_IN_FLIGHT_MAX: usize = 32;

/// So many keys are under repair that their values take this long at the pace, or one alone.
pub const REPAIR_AHEAD: Duration = Duration::from_millis(200);

/// The size that values are taken to have before the first was repaired.
pub const REPAIR_VALUE_BYTES_GUESSED: usize = MIB;

/// How long the repair of a key may take. The next comparison finds it again.
pub const REPAIR_KEY_DEADLINE: Duration = Duration::from_secs(2);

/// How long a peer may take for one answer before the comparison ends. Reading a slot takes milliseconds.
pub const REPAIR_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a node is kept for a peer whose comparison it answers, after the peer's last question. A thousand keys that wait
/// take so long at 20 keys a second.
pub const REPAIR_SERVED_FOR: Duration = Duration::from_mins(1);

/// How many reads of slots for a peer may be under way: those beyond it are dropped.
pub const REPAIR_SERVED_READS_MAX: usize = 2 * REPAIR_LISTINGS_MAX;

/// How many reads of slots may be under way when another one begins, for the own comparison, a peer's, and the count: reads
/// outlive their comparison where the disk stands still.
pub const REPAIR_READS_MAX: usize = REPAIR_LISTINGS_MAX + REPAIR_SERVED_READS_MAX + 1;

/// How many records one list looks at, at each node.
pub const REPAIR_LISTED_KEYS_MAX: usize = 1_000;
/// The most bytes of these keys: half of [`LINK_BATCH_BYTES`].
pub const REPAIR_LISTED_BYTES_MAX: usize = 512 * KIB;

/// Repair pauses while so many bytes wait for the disk: the disk does not keep up with clients.
pub const REPAIR_BACKLOG_BYTES_MAX: usize = 8 * MIB;

/// After a start a node counts its records: so many in a page, and pages so often. A million records take ten seconds, at a
/// tenth of a processor.
pub const REPAIR_COUNT_ENTRIES: usize = 2_000;
/// See [`REPAIR_COUNT_ENTRIES`].
pub const REPAIR_COUNT_EVERY: Duration = Duration::from_millis(20);
/// The pause after a page is so many times what the page took, if that is longer: the disk is for others.
pub const REPAIR_COUNT_SHARE: u32 = 9;
/// After so long a page is read again that could not be, or that was read while records were removed.
pub const REPAIR_COUNT_AGAIN: Duration = Duration::from_millis(500);

/// The default of the key `tombstones_kept_for`. A node that is away for longer than this keeps the deletions of its slots from
/// being forgotten, so that the time may be short: it only has to be long beside the time that a write is on its way.
pub const TOMBSTONES_KEPT_FOR_DEFAULT: Duration = Duration::from_mins(10);
/// The same in seconds, as it stands in files.
pub const TOMBSTONES_KEPT_FOR_SECONDS_DEFAULT: usize = 600;

/// A slot with more tombstones than this is to forget them earlier: 65,536 slots with as many are 65 million.
pub const TOMBSTONES_OF_SLOT_MAX: u64 = 1_000;

/// How often the counts of all slots are looked at within the margin of [`TOMBSTONES_KEPT_FOR_DEFAULT`].
pub const TOMBSTONE_LOOKS: u32 = 6;

/// So many slots are tried at once, where a replica of each is away.
pub const TOMBSTONE_SLOTS_AT_ONCE: usize = 256;

/// A step of a round may take so long. The slot is tried again later.
pub const TOMBSTONE_STEP_MAX: Duration = Duration::from_secs(10);

/// After so long a replica is asked again that has not answered.
pub const TOMBSTONE_ASK_AGAIN: Duration = Duration::from_millis(500);

/// How many keys of a slot are brought level before it is listed anew.
pub const TOMBSTONE_KEYS_MAX: usize = 1_000;

/// How often keys are brought level in one round. Usually once is enough.
pub const TOMBSTONE_PASSES_MAX: u32 = 8;

/// How many lists for rounds a node has under way: each peer runs one round at a time, and may ask again.
pub const TOMBSTONE_LISTS_MAX: usize = 16;

/// How many records are looked at together for tombstones that may be removed. The removal of one costs so much time that 20,000
/// in a second are removed.
pub const TOMBSTONE_FORGET_ENTRIES: usize = 1_000;
/// How many neighbouring slots are looked through together, where they have few records.
pub const TOMBSTONE_FORGET_SLOTS: usize = 256;
/// See [`TOMBSTONE_FORGET_ENTRIES`].
pub const TOMBSTONE_FORGET_EACH: Duration = Duration::from_micros(50);
/// After so long it goes on where the disk does not keep up, or could not be read.
pub const TOMBSTONE_FORGET_AGAIN: Duration = Duration::from_millis(500);

/// How many changes are remembered while a page of slots is read, of some 200 bytes each. Beyond it the page is read again.
pub const REPAIR_TOUCHED_MAX: usize = 1 << 16;

/// The longest address of a member in a message, in bytes: a name of 253 characters and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// How many nodes a node keeps in mind that are no members: one more takes the place of the one that was not heard for longest.
pub const STRANGERS_MAX: usize = 256;

/// A node that waits to join says hello every second or so. After so long without one it is not listed any more.
pub const WAITING_HEARD_MAX: Duration = Duration::from_secs(15);

/// How many requests wait for a newer configuration, or for what a node must know before it serves slots that it gains.
pub const HELD_REQUESTS_MAX: usize = 4_096;
/// The most bytes of these requests.
pub const HELD_BYTES_MAX: usize = 64 * MIB;

/// After so long a member is asked for its vote again.
pub const MEMBERS_VOTE_AGAIN: Duration = Duration::from_millis(500);
/// A proposer that met another one pauses for so long, and each a little longer than the one before it in the list.
pub const MEMBERS_VOTE_PAUSE: Duration = Duration::from_millis(200);
/// How often members are asked how far they are, while members change.
pub const MEMBERS_LOOK_EVERY: Duration = Duration::from_millis(500);
/// Each member waits so long for those before it to end a change.
pub const MEMBERS_DRIVE_AFTER: Duration = Duration::from_secs(2);

/// After so long a node that takes slots over asks again, or tries keys again.
pub const TAKEOVER_AGAIN: Duration = Duration::from_millis(200);
/// How many keys a node brings here at the same time.
pub const TAKEOVER_KEYS_IN_FLIGHT_MAX: usize = 32;
/// The same while it works for clients. Fewer would share fewer syncs of the disk, for which clients wait too.
pub const TAKEOVER_BUSY_KEYS_MAX: usize = 16;
/// The default of the key `takeover_keys_per_second`. The p99 of clients of five nodes that share two processors stays below three
/// times what it is without a change.
pub const TAKEOVER_KEYS_PER_SECOND_DEFAULT: usize = 750;
/// The default of the key `takeover_bytes_per_second`: a fifth of a link of one gigabit a second.
pub const TAKEOVER_BYTES_PER_SECOND_DEFAULT: usize = 24 * MIB;
/// How many records one page looks at.
pub const TAKEOVER_KEYS_OF_PAGE: usize = 1_000;
/// The most bytes of keys in one page, about: half of [`LINK_BATCH_BYTES`].
pub const TAKEOVER_BYTES_OF_PAGE: usize = 512 * KIB;
/// How many pages a node reads for others at the same time.
pub const TAKEOVER_READS_MAX: usize = 16;

/// How many ranges of slots that a node has lost are emptied at once. A look into the store takes 2 to 10 microseconds for each.
pub const SWEEP_RANGES: usize = 1_024;
/// How often that is done. A node of many has some 16,000 ranges: four seconds.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// After so long it is tried again where the disk does not keep up.
pub const SWEEP_AGAIN: Duration = Duration::from_millis(500);

/// How many events may wait for a node's event loop. A task that brings one more waits, and with it the link that it reads.
pub const EVENTS_WAITING_MAX: usize = 8_192;

/// How many messages of one link may wait for a node's event loop, each of [`LINK_BATCH_BYTES`] and one large value. The
/// link is not read further meanwhile. Eight keep the loop busy while the next messages are decoded.
pub const LINK_BATCHES_WAITING_MAX: usize = 8;

/// The most bytes that wait to be sent to one peer. Messages beyond it are dropped, as a network would; operations resend
/// them, or reads repair the replica. It holds two of the largest messages, so that one never blocks the next, and
/// [`LINK_RESERVE_BYTES`].
pub const LINK_QUEUE_BYTES_MAX: usize = 136 * MIB;

/// The part of [`LINK_QUEUE_BYTES_MAX`] that only small messages may use, so that a backlog of large values does not crowd
/// them out.
pub const LINK_RESERVE_BYTES: usize = 8 * MIB;

/// How many bytes are packed into one message to a peer before the next message begins. It is large enough to make framing
/// and system calls cheap, and small enough to be encoded in about a millisecond.
pub const LINK_BATCH_BYTES: usize = MIB;

/// The size of the chunks in which a large value is sent to a peer; small messages go between them. On a link of 1 Gbit/s
/// the largest value takes half a second, and a chunk takes a millisecond.
pub const LINK_CHUNK_BYTES: usize = 128 * KIB;

/// The smallest send window of a link, in chunks that the peer has not acknowledged. Small messages wait behind these
/// chunks, in the buffers of gRPC, of both systems and of the network. 512 KiB take 4 ms at 1 Gbit/s, and fill a link of
/// 10 Gbit/s whose round trip takes 0.4 ms.
pub const LINK_CHUNKS_IN_FLIGHT_MIN: usize = 4;
/// The largest send window of a link, in chunks; it applies when chunks do not queue. 8 MiB fill a link of 1 Gbit/s whose
/// round trip takes 64 ms.
pub const LINK_CHUNKS_IN_FLIGHT_MAX: usize = 64;

/// The largest gRPC message between nodes: twice [`LINK_BATCH_BYTES`], because ids and framing are only estimated, and one
/// chunk. A hello that names [`NODES_MAX`] nodes and [`INCARNATIONS_NAMED_MAX`] incarnations fits as well.
pub const LINK_MESSAGE_BYTES_MAX: usize = 2 * LINK_BATCH_BYTES + LINK_CHUNK_BYTES;

/// How many bytes of records and of pending acknowledgements may wait for a replica's disk. A coordinator ends its
/// operation after a majority has answered, so that its own bounds do not slow down for a replica with a slow disk. Beyond
/// this bound the replica drops its peers' requests, as a network would. It is as much as one node's clients may hold by
/// default.
pub const REPLICA_BACKLOG_BYTES_MAX: usize = 256 * MIB;

/// How many reads may wait for a replica's disk. Beyond it the replica drops its peers' requests. A fast disk takes about a
/// second for 8,192 cold reads.
pub const REPLICA_READS_MAX: usize = 8_192;

/// The most bytes of hints for one peer: records that it had not acknowledged when the write was answered. The oldest are
/// dropped first; reads repair the replica.
pub const HINT_BYTES_MAX: usize = 16 * MIB;

/// The most hints that a peer is sent at once: it looks up each key on its disk, and drops what it cannot hold meanwhile.
pub const HINTS_AT_ONCE: usize = 256;
/// After so long the next ones follow.
pub const HINTS_EVERY: Duration = Duration::from_millis(20);
/// After so long the peer is sent again what it has not answered.
pub const HINTS_AGAIN: Duration = Duration::from_secs(1);

/// The shortest hedge delay. An operation asks a majority first, and the other replicas when an answer takes longer than it
/// usually does. Shorter delays would react to pauses of this node's own machine.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(1);
/// The shortest hedge delay where a content is asked for: 2 MiB take as long on a link of one gigabit a second.
pub const HEDGE_CONTENT_AFTER_MIN: Duration = Duration::from_millis(20);
/// The longest hedge delay, however slow the replicas usually are.
pub const HEDGE_AFTER_MAX: Duration = Duration::from_millis(100);

/// How long a peer that was late or refused is not asked first. When it is tried again and is still late, the operations of
/// about one [`HEDGE_AFTER_MIN`] wait for it.
pub const SLOW_FOR: Duration = Duration::from_millis(250);

/// The shortest time after which an operation asks silent replicas again. It is longer where operations usually take longer,
/// and doubles each time up to [`RESEND_AFTER_MAX`]. A link is a reliable stream: a message is lost only with a link or a
/// peer.
pub const RESEND_AFTER: Duration = Duration::from_millis(250);
/// The longest time between two resends; see [`RESEND_AFTER`].
pub const RESEND_AFTER_MAX: Duration = Duration::from_secs(2);

/// How many reads of one key, whose time to live has passed, delete it at once. Further ones answer the value meanwhile:
/// the deletions of one key wait for each other, and the first one does.
pub const EXPIRING_READS_MAX: usize = 16;

/// The most time that a read spends on deleting a value whose time to live has passed. It takes two rounds and an fsync.
pub const EXPIRING_READ_WAITS_MAX: Duration = Duration::from_secs(1);

/// How often a node looks for values whose time to live has passed.
pub const EXPIRY_SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How many entries of the index of expiries one read of it gives: about 30 KiB with keys of 100 bytes.
pub const EXPIRY_PAGE_ENTRIES_MAX: usize = 256;

/// How many values a node deletes at once because their time to live has passed, while no client waits for the node.
pub const EXPIRIES_IN_FLIGHT_MAX: usize = 32;

/// How many it deletes at once while clients wait for it. They share batches with clients' writes. More would finish sooner
/// when 100,000 values expire in one second, and clients would wait longer meanwhile.
pub const EXPIRIES_BESIDE_CLIENTS_MAX: usize = 4;

/// How long no client may have waited for a node before it deletes [`EXPIRIES_IN_FLIGHT_MAX`] values at once.
pub const EXPIRY_QUIET_FOR: Duration = Duration::from_secs(1);

/// How long a replica leaves a value, whose time to live has passed, to each replica that can be reached and has a place
/// before it.
pub const EXPIRY_PLACE_WAITS: Duration = Duration::from_secs(5);

/// The same for a replica that has deleted another value within [`EXPIRY_PLACE_WAITS`]: it works off what has expired. Two
/// that delete the same values would preempt each other.
pub const EXPIRY_PLACE_WAITS_WHILE_BUSY: Duration = Duration::from_mins(1);

/// How long the deletion of a value, whose time to live has passed, may take before it is tried anew.
pub const EXPIRY_DEADLINE: Duration = Duration::from_secs(5);

/// How many values are remembered that had another version elsewhere when they were to be deleted. This node reads them, so
/// that it gets what it lacks. Others are found again by the next sweep: 200 bytes each.
pub const EXPIRIES_OUTDATED_MAX: usize = 1_024;

/// How often a node persists its count of the time that it ran. A restart forgets up to as much of it, which delays expiries.
pub const RUNNING_PERSISTED_EVERY: Duration = Duration::from_mins(1);

/// The greatest counter of an epoch. The next stamp begins a new, durable epoch. At a million writes a second an epoch lasts
/// 9,000 years, so that this rule serves correctness alone.
pub const COUNTER_MAX: u64 = 1 << 58;

/// How far a correct peer's counter may be ahead. It counts writes, and no cluster makes 2^48 of them (nine years at a
/// million a second) while one of its nodes is away. A greater distance is damage, and would use up the clock.
pub const COUNTER_JUMP_MAX: u64 = 1 << 48;

/// How far a correct peer's epoch may be ahead. It counts starts, and no node starts 2^32 times while another is away.
pub const EPOCH_JUMP_MAX: u64 = 1 << 32;

/// The greatest `epoch_floor` of a cluster. Starts and raises of clocks have 2^63 epochs left above it. The bound catches
/// typing errors.
pub const EPOCH_FLOOR_MAX: u64 = 1 << 48;

/// How far an operator may raise a counter at once by Clock/Set or Node/Set.
pub const OPERATOR_COUNTER_RAISE_MAX: u64 = 1 << 32;

/// How far an operator may raise an epoch at once by Clock/Set or Node/Set.
pub const OPERATOR_EPOCH_RAISE_MAX: u64 = 1 << 10;

/// How long a node that was told to end waits for the requests in flight. Together with [`CLOSE_TIME_MAX`] it ends within
/// five seconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);

/// How many watches of clients a node keeps: half of them for one client. Each takes a few hundred bytes, beside what waits for
/// a slow client.
pub const WATCHES_MAX: usize = 8_192;

/// How many changes a node remembers for those who follow them, so that a watch can go on after its node has ended: those of
/// a few seconds at 20,000 writes a second.
pub const WATCH_HISTORY_CHANGES_MAX: usize = 65_536;
/// The most bytes of those changes, about: 512 bytes for each.
pub const WATCH_HISTORY_BYTES_MAX: usize = 32 * MIB;

/// How many streams of changes other nodes may have at one node. Each takes a few hundred bytes: 32 MiB in all.
pub const WATCH_SUBSCRIPTIONS_MAX: usize = 65_536;

/// How many keys that were announced to watches may wait to be read, each of about a kibibyte. Beyond it a node asks for no
/// more changes, and the histories of the others bound what it misses.
pub const WATCH_KEYS_WAITING_MAX: usize = 16_384;

/// How many keys a node reads for watches at once.
pub const WATCH_READS_MAX: usize = 256;

/// How many keys a node remembers the version of that watches were told last. Each replica of a key announces a record once;
/// it is told once where it is remembered until the last replica has announced it.
pub const WATCH_KEYS_REMEMBERED_MAX: usize = 65_536;
/// The most bytes of those keys.
pub const WATCH_KEYS_REMEMBERED_BYTES_MAX: usize = 16 * MIB;

/// How many pages of what is there are gathered at once, for watches that are told that first: of 3 MiB each where values are
/// wanted. The other watches wait their turn.
pub const WATCH_PAGES_MAX: usize = 16;
/// How many keys are remembered that change while a page of a watch is gathered. If more do, the page ends at the last of them.
pub const WATCH_CHANGED_KEYS_MAX: usize = LISTED_KEYS_MAX;

/// How many events may wait for a watch's client. A watch with more is closed, and can go on with its cursor.
pub const WATCH_EVENTS_WAITING_MAX: usize = 1_024;
/// The most bytes of values among the events that wait for all clients of a node. Beyond it the watch with the most bytes is
/// closed. Watches that are told of one record share its value, so that less is held than is counted.
pub const WATCH_BYTES_WAITING_MAX: usize = 256 * MIB;

/// The default of the key `block_cache_bytes`: the size of RocksDB's cache of uncompressed blocks. It holds indexes and
/// filters too. At 10 bits a key, 10 million keys have 12 MiB of filters, which leaves most of the cache to data.
pub const BLOCK_CACHE_BYTES_DEFAULT: usize = 128 * MIB;

/// The default of the key `write_buffer_bytes`: the size of RocksDB's write buffers, including those being flushed. Two of
/// the largest values fit, so that one can be flushed while the next is accepted.
pub const WRITE_BUFFER_BYTES_DEFAULT: usize = 128 * MIB;

/// The default of the key `record_cache_bytes`: the size of the cache of records that were written or read last. It holds
/// 100,000 records of a kibibyte. Every write compares with a record at each replica, and every read asks for one.
pub const RECORD_CACHE_BYTES_DEFAULT: usize = 128 * MIB;

/// The largest value in the record cache. Of a record with a larger value the cache keeps the digest alone: copying the
/// value would cost more than finding it again.
pub const CACHED_VALUE_BYTES_MAX: usize = 32 * KIB;

/// The largest node.yml or cluster.yml. [`NODES_MAX`] nodes take at most about 350 bytes each, and comments the rest.
pub const CONFIG_BYTES_MAX: usize = MIB;

/// How deep a node.yml or cluster.yml may be nested. They need four levels. The reader calls itself once for each level.
pub const CONFIG_DEPTH_MAX: usize = 16;

/// The most nodes of a temporary local cluster (`quorate dev`). They share one machine, and their metrics ports are
/// [`DEV_METRICS_PORT_DISTANCE`] above their ports.
pub const DEV_NODES_MAX: usize = 100;

/// How far above its port a node of a temporary cluster serves metrics: 8001 and 9001, as in the examples.
pub const DEV_METRICS_PORT_DISTANCE: u16 = 1_000;

/// How far above its port a node of a temporary cluster serves HTTP: [`DEV_NODES_MAX`] nodes leave room between them.
pub const DEV_HTTP_PORT_DISTANCE: u16 = 100;

/// How far above its port a node of a temporary cluster serves the line protocol.
pub const DEV_LINE_PORT_DISTANCE: u16 = 200;

/// How far above its port a node of a temporary cluster serves the Redis protocol.
pub const DEV_REDIS_PORT_DISTANCE: u16 = 300;

/// How many of its latest incarnations a node names in its hello: 16 bytes each, one MiB in all. A peer that was away for
/// more of them does not recognise the folder: the node would have to restart every second for 18 hours.
pub const INCARNATIONS_NAMED_MAX: usize = 1 << 16;

/// How many names of tables a node remembers: of 128 bytes at most, so that they hold 1 MiB about. The node reads a forgotten
/// name again.
pub const TABLE_NAMES_MAX: usize = 4_096;

/// How long a node goes on with a drop of a table that it found under way. The next use of the name begins anew.
pub const TABLE_HELP_DEADLINE: Duration = Duration::from_secs(5);

/// How many dropped tables one message between nodes names, of five bytes each at most.
pub const DROPS_IN_MESSAGE_MAX: usize = 10_000;

/// How many keys of a dropped table are removed at once, and how often: 10,000 keys a second, so that clients see little of it.
pub const TABLE_CLEANING_ENTRIES_MAX: usize = 500;
/// See [`TABLE_CLEANING_ENTRIES_MAX`].
pub const TABLE_CLEANING_EVERY: Duration = Duration::from_millis(50);
/// After so long a dropped table is tried again whose records could not be removed.
pub const TABLE_CLEANING_AGAIN: Duration = Duration::from_secs(10);

/// How often a table with a quota is measured at most, while it is written.
pub const QUOTA_MEASURED_EVERY: Duration = Duration::from_secs(2);
/// The pause after a measurement, as a multiple of the time that it took: it costs a twentieth of one thread at most. A
/// measurement reads some 100,000 keys a second.
pub const QUOTA_MEASURING_SHARE: u32 = 20;
