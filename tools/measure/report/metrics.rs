//! The counters of a node's `/metrics` page.

use std::collections::BTreeMap;

/// Protocol messages to peers.
pub const MESSAGES: &str = "quorate_link_messages_total";
/// gRPC messages that these were packed into.
pub const LINK_BATCHES: &str = "quorate_link_batches_total";
/// Batches that were made durable, each with one fsync.
pub const STORE_BATCHES: &str = "quorate_store_batches_total";
/// Records in these batches.
pub const STORE_BATCH_RECORDS: &str = "quorate_store_batch_records_total";
/// How often the log was synced.
pub const LOG_SYNCS: &str = "quorate_store_log_syncs_total";
/// Clock rounds.
pub const CLOCK_ROUNDS: &str = "quorate_clock_rounds_total";
/// Writes that these rounds served.
pub const CLOCK_ROUND_WRITES: &str = "quorate_clock_round_writes_total";

/// All counters of a page, summed over labels.
pub fn counters(page: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let (true, Ok(value)) = (name.ends_with("_total"), value.parse::<f64>()) {
            *counters.entry(name.to_owned()).or_default() += value;
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::{MESSAGES, counters};

    #[test]
    fn counters_are_summed_over_labels_and_gauges_left_out() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP quorate_requests Requests.\n# TYPE quorate_requests counter\n\
                    quorate_requests_total{method=\"Cluster/Get\",code=\"OK\"} 3\n\
                    quorate_requests_total{method=\"Cluster/Set\",code=\"OK\"} 4\n\
                    quorate_link_messages_total 12.5\nquorate_requests_in_flight 7\n# EOF\n";
        let counters = counters(page);
        assert_eq!(counters.len(), 2);
        assert_eq!((counters["quorate_requests_total"], counters[MESSAGES]), (7.0, 12.5));
    }
}
