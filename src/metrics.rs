//! What a node counts, for its `/metrics` page: one struct that the node and the gateway share.
//!
//! Names follow the Prometheus conventions: a unit in the name, `_total` on counters (added when encoded).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A request's method and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `Cluster/Get` and so on.
    pub method: &'static str,
    /// The gRPC code, as `OK` or `UNAVAILABLE`.
    pub code: &'static str,
}

/// A request's method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MethodLabels {
    /// `Cluster/Get` and so on.
    pub method: &'static str,
}

/// Which peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabels {
    /// Its id.
    pub peer: String,
}

/// All that a node counts while it runs. What the store or the protocol can be asked for is not counted here.
#[derive(Debug)]
pub struct Metrics {
    /// Requests that ended.
    pub requests: Family<RequestLabels, Counter>,
    /// How long they took.
    pub request_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    /// Requests under way.
    pub requests_in_flight: Gauge,
    /// Clock rounds begun.
    pub clock_rounds: Counter,
    /// Writes that these served.
    pub clock_round_writes: Counter,
    /// Reads that found no majority in agreement and wrote back.
    pub read_write_backs: Counter,
    /// Operations that asked others too, because someone asked first was late.
    pub hedges: Counter,
    /// Operations that asked again those that had not answered.
    pub resends: Counter,
    /// Requests of peers that were dropped because the disk had too much waiting.
    pub swamped: Counter,
    /// Copies for slow peers that were dropped for lack of room.
    pub stragglers_dropped: Counter,
    /// Records of one stamp with two contents: any is a defect.
    pub stamp_conflicts: Counter,
    /// Clocks that no honest peer can show.
    pub clock_jumps: Counter,
    /// Batches made durable.
    pub batches: Counter,
    /// Records in them.
    pub batch_records: Counter,
    /// How long each took, its fsync included.
    pub batch_seconds: Histogram,
    /// Batches that failed.
    pub batch_failures: Counter,
    /// Loads that memory answered.
    pub loads_from_memory: Counter,
    /// Loads that waited for the disk.
    pub loads_from_disk: Counter,
    /// gRPC messages sent to peers: of many operations each, pieces of large values, and what was taken of those.
    pub link_batches: Counter,
    /// Protocol messages in them.
    pub link_messages: Counter,
    /// Protocol messages dropped because the queue to the peer was full.
    pub link_dropped: Family<PeerLabels, Counter>,
}

/// 50 µs to 13 s, each bucket twice the one before.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 19))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(latencies as fn() -> Histogram),
            requests_in_flight: Gauge::default(),
            clock_rounds: Counter::default(),
            clock_round_writes: Counter::default(),
            read_write_backs: Counter::default(),
            hedges: Counter::default(),
            resends: Counter::default(),
            swamped: Counter::default(),
            stragglers_dropped: Counter::default(),
            stamp_conflicts: Counter::default(),
            clock_jumps: Counter::default(),
            batches: Counter::default(),
            batch_records: Counter::default(),
            batch_seconds: latencies(),
            batch_failures: Counter::default(),
            loads_from_memory: Counter::default(),
            loads_from_disk: Counter::default(),
            link_batches: Counter::default(),
            link_messages: Counter::default(),
            link_dropped: Family::default(),
        }
    }
}

impl Metrics {
    /// Makes everything known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("quorate");
        registry.register("requests", "Requests that ended, by method and gRPC code", self.requests.clone());
        let help = "How long requests took, by method";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.request_seconds.clone());
        registry.register("requests_in_flight", "Requests under way", self.requests_in_flight.clone());
        registry.register("clock_rounds", "Clock rounds begun", self.clock_rounds.clone());
        registry.register("clock_round_writes", "Writes that clock rounds served", self.clock_round_writes.clone());
        let help = "Reads that found no majority in agreement and wrote back";
        registry.register("read_write_backs", help, self.read_write_backs.clone());
        let help = "Operations that asked others too, because someone asked first was late";
        registry.register("hedges", help, self.hedges.clone());
        let help = "Operations that asked again those that had not answered";
        registry.register("resends", help, self.resends.clone());
        let help = "Requests of peers dropped because the disk had too much waiting";
        registry.register("peer_requests_dropped", help, self.swamped.clone());
        let help = "Copies for slow peers dropped for lack of room (reads repair them)";
        registry.register("stragglers_dropped", help, self.stragglers_dropped.clone());
        let help = "Records of one stamp with two contents: any is a defect";
        registry.register("stamp_conflicts", help, self.stamp_conflicts.clone());
        registry.register("clock_jumps", "Clocks that no honest peer can show", self.clock_jumps.clone());
        registry.register("store_batches", "Batches made durable", self.batches.clone());
        registry.register("store_batch_records", "Records in durable batches", self.batch_records.clone());
        let help = "How long a batch took, its fsync included";
        registry.register_with_unit("store_batch_duration", help, Unit::Seconds, self.batch_seconds.clone());
        registry.register("store_batch_failures", "Batches that failed", self.batch_failures.clone());
        registry.register("loads_from_memory", "Loads that memory answered", self.loads_from_memory.clone());
        registry.register("loads_from_disk", "Loads that waited for the disk", self.loads_from_disk.clone());
        let help = "gRPC messages sent to peers, of many operations each, or with pieces of large values";
        registry.register("link_batches", help, self.link_batches.clone());
        registry.register("link_messages", "Protocol messages sent to peers", self.link_messages.clone());
        let help = "Protocol messages dropped because the queue to a peer was full";
        registry.register("link_dropped", help, self.link_dropped.clone());
    }
}
