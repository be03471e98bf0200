//! A report as one JSON object. Its keys are public: see the help of `quorate bench`.

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::{QUANTILES, Report};
use crate::cli::bench::mix::Kind;
use crate::cli::bench::workload::Pace;

impl Report {
    /// The report for a script.
    pub(in crate::cli::bench) fn as_json(&self) -> Json {
        let Self { settings, measured, .. } = self;
        let totals = &measured.totals;
        let rate = match settings.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(rate),
        };
        let kinds: Vec<Json> = totals
            .failures
            .iter()
            .map(|(kind, failures)| {
                json!({
                    "operation": kind.kind.name(),
                    "code": kind.code,
                    "reason": kind.reason,
                    "refused_at_once": kind.is_refused_at_once(),
                    "count": failures.count,
                    "example": failures.example,
                })
            })
            .collect();
        let seconds: Vec<Json> = std::iter::zip(0.., &measured.seconds)
            .map(|(number, second): (u64, _)| {
                json!({ "second": number, "operations": second.operations, "p99_us": second.p99_us })
            })
            .collect();
        let mut json = json!({
            "settings": {
                "target": settings.target,
                "addresses": settings.addresses,
                "loop": if rate.is_some() { "open" } else { "closed" },
                "rate": rate,
                "in_flight": settings.in_flight,
                "duration_seconds": settings.duration.as_secs_f64(),
                "warm_up_seconds": settings.warm_up.as_secs_f64(),
                "mix": settings.mix.as_json(),
                "value_bytes": { "min": settings.value_bytes.min, "max": settings.value_bytes.max },
                "keys": settings.keys,
                "key_prefix": settings.key_prefix,
                "table": settings.table,
                "distribution": if settings.zipf_exponent.is_some() { "zipf" } else { "uniform" },
                "zipf_exponent": settings.zipf_exponent,
                "list_keys": settings.list_keys,
                "list_values": settings.list_values,
                "watchers": settings.watchers,
                "connections": settings.connections,
                "route": settings.route,
                "timeout_seconds": settings.timeout.as_secs_f64(),
                "seed": settings.seed,
            },
            "load": self.preloaded.map(|(keys, took)| json!({ "keys": keys, "seconds": took.as_secs_f64() })),
            "interrupted": self.interrupted,
            "seconds": measured.length.as_secs_f64(),
            "operations": self.operations(),
            "operations_per_second": self.per_second(self.operations()),
            "mib_per_second": self.mib_per_second(),
            "latency_us": latency_json(&self.all_latencies()),
            "failed": {
                "count": self.failed(),
                "kinds": kinds,
                "latency_us": latency_json(&totals.failed_latencies),
            },
            "unfinished": measured.unfinished,
            "late": totals.late,
            "missed": measured.missed,
            "cpu": {
                "generator_seconds": self.generator_cpu.as_secs_f64(),
                "target_seconds": self.target_cpu.map(|used| used.as_secs_f64()),
            },
            "each_second": seconds,
        });
        for kind in Kind::ALL {
            let of_kind = self.of(kind);
            let failed: u64 =
                totals.failures.iter().filter(|(of, _)| of.kind == kind).map(|(_, failures)| failures.count).sum();
            let count = of_kind.latencies.len();
            let mut shown = json!({
                "operations": count,
                "operations_per_second": self.per_second(count),
                "failed": failed,
                "latency_us": latency_json(&of_kind.latencies),
            });
            if kind == Kind::Get {
                shown["found"] = json!(of_kind.found);
                shown["not_found"] = json!(count - of_kind.found);
            }
            if kind == Kind::Cas {
                shown["applied"] = json!(of_kind.found);
                shown["condition_failed"] = json!(count - of_kind.found);
            }
            if kind == Kind::Watch {
                let events = &totals.event_latencies;
                shown["watchers"] = json!(settings.watchers);
                shown["events"] = json!(events.len());
                shown["events_per_second"] = json!(self.per_second(events.len()));
                shown["event_latency_us"] = latency_json(events);
                shown["broken"] = json!(self.broken_watches);
            }
            json[kind.name()] = shown;
        }
        json
    }
}

/// Latencies in microseconds. Null without a latency.
fn latency_json(latencies: &Histogram<u64>) -> Json {
    if latencies.is_empty() {
        return Json::Null;
    }
    let mut json = json!({ "mean": latencies.mean(), "max": latencies.max() });
    for (name, quantile) in QUANTILES {
        json[name] = json!(latencies.value_at_quantile(quantile));
    }
    json
}
