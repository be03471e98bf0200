use serde_json::{Value as Json, json};
use tonic::Status;

use super::*;
use crate::cli::bench::tally::{Outcome, Second, Totals};

fn report(pace: Pace) -> Report {
    let mut totals = Totals::new();
    for millis in 1..=100 {
        let outcome = Outcome::Done { found: millis > 10, bytes: 1 << 20 };
        totals.record(Kind::Get, Duration::from_millis(millis), outcome);
    }
    for _ in 0..100 {
        totals.record(Kind::Set, Duration::from_millis(5), Outcome::Done { found: false, bytes: 0 });
    }
    totals.record(Kind::Set, Duration::from_millis(1), Outcome::Failed(Status::unavailable("gone")));
    let waited = vec![Duration::from_millis(2), Duration::from_millis(4)];
    totals.record(Kind::Watch, Duration::from_millis(5), Outcome::Told { waited, bytes: 0 });
    totals.late = 3;
    let measured = Measured {
        length: Duration::from_secs(2),
        totals,
        seconds: vec![Second { operations: 150, p99_us: 90_000 }, Second { operations: 50, p99_us: 5_000 }],
        unfinished: 4,
        missed: 5,
    };
    let settings = Settings {
        target: "cluster",
        addresses: vec!["a:1".into(), "b:2".into()],
        pace,
        in_flight: 64,
        duration: Duration::from_secs(10),
        warm_up: Duration::ZERO,
        mix: "get=1,set=1,watch=1".parse().unwrap(),
        value_bytes: "100..200".parse().unwrap(),
        keys: 1_000,
        key_prefix: "k".into(),
        table: "default".into(),
        zipf_exponent: Some(0.99),
        list_keys: 100,
        list_values: true,
        watchers: 2,
        connections: 2,
        route: true,
        timeout: Duration::from_secs(5),
        seed: 7,
    };
    Report {
        settings,
        preloaded: Some((1_000, Duration::from_millis(1_500))),
        measured,
        broken_watches: 6,
        interrupted: true,
        generator_cpu: Duration::from_secs(1),
        target_cpu: None,
    }
}

#[test]
fn json_has_every_number() {
    let json = report(Pace::Open { rate: 100.0 }).as_json();
    let near = |pointer: &str, expected: f64| {
        let value = json.pointer(pointer).and_then(Json::as_f64).unwrap_or_else(|| panic!("no {pointer} in {json}"));
        assert!((value - expected).abs() <= expected / 500.0, "{pointer} is {value}, not {expected}");
    };
    for (pointer, expected) in [
        ("/settings/rate", 100.0),
        ("/settings/value_bytes/min", 100.0),
        ("/settings/mix/get", 1.0),
        ("/load/keys", 1_000.0),
        ("/load/seconds", 1.5),
        ("/seconds", 2.0),
        ("/operations", 201.0),
        ("/operations_per_second", 100.5),
        ("/mib_per_second", 50.0),
        ("/latency_us/p50", 5_000.0),
        ("/latency_us/max", 100_000.0),
        ("/get/operations", 100.0),
        ("/get/found", 90.0),
        ("/get/not_found", 10.0),
        ("/get/latency_us/mean", 50_500.0),
        ("/get/latency_us/p50", 50_000.0),
        ("/get/latency_us/p90", 90_000.0),
        ("/get/latency_us/p99", 99_000.0),
        ("/get/latency_us/p99_9", 100_000.0),
        ("/set/operations", 100.0),
        ("/set/failed", 1.0),
        ("/watch/operations", 1.0),
        ("/watch/watchers", 2.0),
        ("/watch/events", 2.0),
        ("/watch/events_per_second", 1.0),
        ("/watch/event_latency_us/p50", 2_000.0),
        ("/watch/event_latency_us/max", 4_000.0),
        ("/watch/broken", 6.0),
        ("/failed/count", 1.0),
        ("/failed/kinds/0/count", 1.0),
        ("/failed/latency_us/max", 1_000.0),
        ("/unfinished", 4.0),
        ("/late", 3.0),
        ("/missed", 5.0),
        ("/cpu/generator_seconds", 1.0),
        ("/each_second/1/operations", 50.0),
        ("/each_second/1/p99_us", 5_000.0),
    ] {
        near(pointer, expected);
    }
    assert_eq!(json["settings"]["loop"], "open");
    assert_eq!(json["settings"]["route"], true);
    assert_eq!(json["settings"]["distribution"], "zipf");
    assert_eq!(json["failed"]["kinds"][0]["code"], "UNAVAILABLE");
    assert_eq!(json["failed"]["kinds"][0]["reason"], Json::Null);
    assert_eq!(json["delete"]["latency_us"], Json::Null);
    assert_eq!(json["cpu"]["target_seconds"], Json::Null);
    assert_eq!(json["interrupted"], true);
}

#[test]
fn text_says_what_was_measured_and_what_was_not() {
    let text = report(Pace::Open { rate: 100.0 }).as_text();
    for part in [
        "100 due a second, at most 64 in flight; get=1,set=1,watch=1; values of 100..200 bytes; 1000 keys, zipf 0.99",
        "2 watchers",
        "2 connections each to a:1,b:2; requests go to replicas of their keys",
        "6 times a watch broke off",
        "1000 keys written before the run, in 1.5 s",
        "measured for 2.0 s, ended early",
        "90 of 100 gets found a value",
        "50.0 MiB/s",
        "1 failed",
        "1 set: UNAVAILABLE (no reason): gone",
        "4 still in flight",
        "3 sent more than 1 ms after they were due",
        "5 due and never sent",
        "the generator 1.00 s (0.50 cores)",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(row("set")[1..3], ["100", "50"]);
    assert_eq!(row("all")[1..3], ["201", "100"]);
    assert_eq!(row("event")[1..3], ["2", "1"]);
    assert!(!rows.iter().any(|row| row.first() == Some(&"delete")), "{text}");
}

#[test]
fn run_without_an_answer_has_no_latencies() {
    let mut report = report(Pace::Closed);
    report.measured.totals = Totals::new();
    report.measured.length = Duration::ZERO;
    let json = report.as_json();
    assert_eq!(json["latency_us"], Json::Null);
    assert_eq!((&json["operations_per_second"], &json["settings"]["rate"]), (&json!(0.0), &Json::Null));
    assert_eq!(report.commonest_failure(), None);
    assert!(report.as_text().contains("64 in flight"));
}

#[test]
fn commonest_failure_is_told_first() {
    let mut report = report(Pace::Closed);
    for _ in 0..2 {
        let status = Status::deadline_exceeded("too slow");
        report.measured.totals.record(Kind::Get, Duration::ZERO, Outcome::Failed(status));
    }
    assert_eq!(report.commonest_failure().unwrap(), "DEADLINE_EXCEEDED without a reason: too slow");
    assert!(!report.is_refused());
}
