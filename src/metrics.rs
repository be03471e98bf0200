//! Everything that a node counts while it runs, for its `/metrics` page. The node, its links and the service share one
//! [`Metrics`].
//!
//! Contract: each metric is defined once, in [`Metrics`]: its field is its name, and its help is the field's
//! documentation. Names follow the Prometheus conventions: the prefix `quorate_`, base units, and `_total` for counters,
//! which the encoder adds.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The prefix of every metric.
pub const PREFIX: &str = "quorate";

/// The labels of a request that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `Cluster/Get` and so on; `unknown` for a method that does not exist.
    pub method: &'static str,
    /// The name of a gRPC status code, as `OK` or `UNAVAILABLE`.
    pub code: &'static str,
    /// The protocol that it came by: `grpc`, `http`, `lines` or `redis`.
    pub door: &'static str,
}

/// The labels of a request's duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MethodLabels {
    /// `Cluster/Get` and so on; `unknown` for a method that does not exist.
    pub method: &'static str,
    /// The protocol that it came by, as for the requests that ended.
    pub door: &'static str,
}

/// The label of a metric that each peer has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabels {
    /// The id of the peer.
    pub peer: String,
}

/// A histogram for each method and protocol.
type Durations = Family<MethodLabels, Histogram, fn() -> Histogram>;

macro_rules! metrics {
    ($($name:ident: $kind:ty = $new:expr, $help:literal $(, $unit:ident)?;)*) => {
        /// Everything that a node counts while it runs. Values that the store or the protocol can be asked for are not here.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($name: $new,)* }
            }
        }

        impl Metrics {
            /// Registers every metric, under [`PREFIX`].
            pub fn register(&self, registry: &mut Registry) {
                let registry = registry.sub_registry_with_prefix(PREFIX);
                $(register!(registry, stringify!($name), $help, self.$name.clone() $(, $unit)?);)*
            }
        }
    };
}

macro_rules! register {
    ($registry:ident, $name:expr, $help:literal, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    ($registry:ident, $name:expr, $help:literal, $metric:expr, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
}

metrics! {
    requests: Family<RequestLabels, Counter> = Family::default(), "Requests that ended, by method, status code and protocol (door)";
    request_duration: Durations = Family::new_with_constructor(latencies as fn() -> Histogram),
        "Time from the arrival of a request to the end of its answer, by method and protocol (door)", Seconds;
    requests_in_flight: Gauge = Gauge::default(), "Requests under way";
    clock_rounds: Counter = Counter::default(), "Clock rounds begun";
    clock_round_writes: Counter = Counter::default(), "Writes that clock rounds served";
    read_write_backs: Counter = Counter::default(), "Reads that found no majority in agreement and wrote back";
    hedges: Counter = Counter::default(), "Operations that asked further replicas because one was late";
    resends: Counter = Counter::default(), "Operations that asked again the replicas that had not answered";
    peer_requests_dropped: Counter = Counter::default(), "Requests of peers dropped because the disk had too much waiting";
    hints_dropped: Counter = Counter::default(), "Hints for slow peers dropped for lack of room; repair brings what they lack";
    expired: Counter = Counter::default(), "Values that this node deleted because their time to live had passed";
    repaired: Counter = Counter::default(), "Keys that this node read and brought to replicas that lacked them";
    tombstone_rounds: Counter = Counter::default(), "Rounds of this node that let all replicas of a slot forget its old deletions";
    tombstone_rounds_cut_off: Counter = Counter::default(), "Rounds of this node that ended early, because a replica was away or late";
    repaired_bytes: Counter = Counter::default(), "Bytes of the values of these keys";
    repair_bytes: Counter = Counter::default(), "Bytes of the comparisons that this node began and ended, without the values of keys";
    comparisons: Family<PeerLabels, Counter> = Family::default(),
        "Comparisons of this node's records with a peer's that this node began and ended, by peer";
    stamp_conflicts: Counter = Counter::default(), "Records of one stamp with two contents; any is a defect";
    clock_jumps: Counter = Counter::default(), "Clocks of peers refused because no honest clock is so far ahead";
    store_batches: Counter = Counter::default(), "Batches made durable";
    store_batch_records: Counter = Counter::default(), "Records in durable batches";
    store_batch_duration: Histogram = latencies(), "Time to make a batch durable, including its fsync", Seconds;
    store_batch_failures: Counter = Counter::default(), "Batches that failed";
    store_reads_from_memory: Counter = Counter::default(), "Reads of the store that memory answered";
    store_reads_from_disk: Counter = Counter::default(), "Reads of the store that waited for the disk";
    link_batches: Counter = Counter::default(), "gRPC messages sent to peers, each with messages of many operations";
    link_bytes: Counter = Counter::default(), "Bytes of these gRPC messages, without the frames and the encryption around them";
    link_messages: Counter = Counter::default(), "Protocol messages sent to peers";
    link_messages_dropped: Family<PeerLabels, Counter> = Family::default(),
        "Protocol messages dropped because the queue to a peer was full, by peer";
    watches: Gauge = Gauge::default(), "Watches of clients";
    watch_events: Counter = Counter::default(), "Events that watches were told, heartbeats included";
    watch_changes_waiting: Gauge = Gauge::default(), "Keys whose changes were announced to watches and are still to be read";
    watch_resets: Counter = Counter::default(), "Watches that were told to begin anew, because changes may have been missed";
    watches_too_slow: Counter = Counter::default(), "Watches that were closed because their clients read too slowly";
    scrubbed_bytes: Counter = Counter::default(), "Bytes of keys and values that scrubs have read from the disk and verified";
    scrubs: Counter = Counter::default(), "Scrubs that have ended, those included that met damage";
    refused: Counter = Counter::default(), "Requests refused because their callers are not known, or lack a right";
    audit_lines_dropped: Counter = Counter::default(), "Lines of the audit that were dropped because too many waited for the disk, or because it took none";
    traces_dropped: Counter = Counter::default(), "Spans of traces dropped because too many waited for the collector, or because it took none";
    connections_refused: Counter = Counter::default(), "Connections closed at once because too many were open";
}

/// 50 µs to 13 s, each bucket twice the one before.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 19))
}
