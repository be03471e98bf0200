//! `quorate bench` as a process of its own: its arguments, and its report.

use std::time::Duration;

use serde_json::Value as Json;

use crate::testkit::process::command;

/// A workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The argument of `--mix`.
    pub mix: &'static str,
    /// The size of each value, in bytes.
    pub value_bytes: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// How many keys it draws from.
    pub keys: u64,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// A closed loop: so many are always in flight.
    InFlight(u32),
    /// An open loop: so many are due a second.
    Rate(f64),
}

/// The servers that get the requests.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The nodes at these addresses.
    Cluster(&'a str),
    /// The members of etcd at these addresses.
    Etcd(&'a str),
    /// The no-op server, over so many connections.
    Noop(usize),
}

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Run {
    json: Json,
}

impl Workload {
    /// Runs the workload for `duration`.
    ///
    /// # Panics
    /// When the generator does not report.
    pub fn run(&self, target: Target<'_>, warm_up: Duration, duration: Duration) -> Run {
        self.run_with(target, warm_up, duration, &[])
    }

    /// Writes every key of a cluster once.
    pub fn write_all_keys(&self, addresses: &str) {
        self.write_all_keys_of(Target::Cluster(addresses));
    }

    /// Writes every key once.
    pub fn write_all_keys_of(&self, target: Target<'_>) {
        let moment = Duration::from_millis(100);
        self.run_with(target, Duration::ZERO, moment, &["--load"]);
    }

    /// The same, with more arguments.
    ///
    /// # Panics
    /// When the generator does not report.
    pub fn run_with(&self, target: Target<'_>, warm_up: Duration, duration: Duration, more: &[&str]) -> Run {
        let mut bench = command();
        bench.args(["bench", "--json", "--mix", self.mix]).args(more);
        bench.args(["--value-bytes", &self.value_bytes.to_string(), "--keys", &self.keys.to_string()]);
        // Reads of one size must not find values of another.
        bench.args(["--key-prefix", &format!("{}-", self.value_bytes)]);
        bench.arg("--warm-up").arg(format!("{}ms", warm_up.as_millis()));
        bench.arg("--duration").arg(format!("{}ms", duration.as_millis()));
        match self.pace {
            Pace::InFlight(in_flight) => bench.args(["--in-flight", &in_flight.to_string()]),
            Pace::Rate(rate) => bench.args(["--rate", &rate.to_string()]),
        };
        match target {
            Target::Cluster(addresses) => bench.args(["--address", addresses]),
            Target::Etcd(addresses) => bench.args(["--target", "etcd", "--address", addresses]),
            Target::Noop(connections) => bench.args(["--target", "noop", "--connections", &connections.to_string()]),
        };
        let output = bench.output().expect("the generator can be started");
        // A run in which every operation failed ends with a code of failure, and reports all the same.
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{bench:?} reports nothing: {error}\n{}", String::from_utf8_lossy(&output.stderr))
        });
        Run { json }
    }
}

impl Run {
    /// A number of the report, by its JSON pointer; 0 where it is missing, as is the latency of no operation.
    pub fn number(&self, pointer: &str) -> f64 {
        self.json.pointer(pointer).and_then(Json::as_f64).unwrap_or_default()
    }

    fn count(&self, pointer: &str) -> u64 {
        self.json.pointer(pointer).and_then(Json::as_u64).unwrap_or_default()
    }

    /// How many operations were answered.
    pub fn operations(&self) -> u64 {
        self.count("/operations")
    }

    /// How many operations reached the nodes, answered or not.
    pub fn attempts(&self) -> u64 {
        self.operations() + self.failed() + self.count("/unfinished")
    }

    /// How many operations failed.
    pub fn failed(&self) -> u64 {
        self.count("/failed/count")
    }

    /// How many requests of an open loop were never sent.
    pub fn missed(&self) -> u64 {
        self.count("/missed")
    }

    /// How many operations nodes refused at once.
    pub fn refused_at_once(&self) -> u64 {
        self.kinds().filter(|kind| kind["refused_at_once"] == true).filter_map(|kind| kind["count"].as_u64()).sum()
    }

    /// Failures by kind, in words; empty without failures.
    pub fn failures(&self) -> String {
        let kind = |kind: &Json| {
            let reason = kind["reason"].as_str().unwrap_or("no reason");
            format!("{} {} {reason}", kind["count"], kind["code"].as_str().unwrap_or_default())
        };
        self.kinds().map(kind).collect::<Vec<_>>().join(", ")
    }

    fn kinds(&self) -> impl Iterator<Item = &Json> {
        self.json.pointer("/failed/kinds").and_then(Json::as_array).into_iter().flatten()
    }

    /// Answered operations a second.
    pub fn per_second(&self) -> f64 {
        self.number("/operations_per_second")
    }

    /// A latency in microseconds: `p50`, `p99`, `p99_9`, `mean`, `max`.
    pub fn latency_us(&self, which: &str) -> f64 {
        self.number(&format!("/latency_us/{which}"))
    }

    /// CPU time of the generator.
    pub fn generator_cpu(&self) -> Duration {
        Duration::from_secs_f64(self.number("/cpu/generator_seconds"))
    }
}
