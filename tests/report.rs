//! The parts of `make bench` that can be tested without measuring anything. Benchmarks have no test harness of their
//! own.

#![cfg(feature = "server")]
#![allow(dead_code, reason = "the report uses the rest")]

#[path = "../benches/report/metrics.rs"]
mod metrics;
#[path = "../benches/support/picture.rs"]
mod picture;

use picture::{Axis, Panel, Series};

fn texts(axis: &Axis, values: &[f64]) -> Vec<String> {
    axis.scale(values.iter().copied()).ticks.into_iter().map(|place| axis.text(place)).collect()
}

#[test]
fn marks_are_few_and_round() {
    assert_eq!(texts(&Axis::linear(""), &[120.0, 9_300.0]), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
    assert_eq!(texts(&Axis::linear(""), &[0.3]), ["0", "0.1", "0.2", "0.3"]);
    assert_eq!(texts(&Axis::log("", vec![]), &[0.8, 12.0]), ["0.5", "1", "2", "5", "10", "20"]);
    assert_eq!(texts(&Axis::log("", vec![]), &[3.0, 12_000.0]), ["1", "10", "100", "1,000", "10,000", "100,000"]);
    let sizes = vec![64.0, 1_024.0, f64::from(1 << 20)];
    assert_eq!(texts(&Axis::log_bytes("", sizes.clone()), &sizes), ["64 B", "1 KiB", "1 MiB"]);
}

#[test]
fn picture_without_values_can_be_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.svg");
    let series = vec![Series::new("Set", [])];
    let panel = Panel { title: "none".into(), x: Axis::linear("x"), y: Axis::log("y", vec![]), series };
    picture::draw(&path, 1, &[panel]).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("none"));
}

#[test]
fn picture_bears_its_labels_and_legend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.svg");
    let line = |name: &str| Series::new(name, [(1.0, 10.0), (64.0, 0.0), (256.0, 700.0)]);
    let panel = Panel {
        title: "a title".into(),
        x: Axis::log("in flight", vec![1.0, 64.0, 256.0]),
        y: Axis::log("a second", vec![]),
        series: vec![line("Set"), line("Get")],
    };
    picture::draw(&path, 2, &[panel.clone(), panel]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for part in ["a title", "in flight", "a second", "Set", "Get", "256", "1,000"] {
        assert!(text.contains(part), "no {part:?}");
    }
}

#[test]
fn counters_are_summed_over_labels_and_gauges_left_out() {
    let page = "HTTP/1.1 200 OK\r\n\r\n# HELP quorate_requests Requests.\n# TYPE quorate_requests counter\n\
                quorate_requests_total{method=\"Cluster/Get\",code=\"OK\"} 3\n\
                quorate_requests_total{method=\"Cluster/Set\",code=\"OK\"} 4\n\
                quorate_link_messages_total 12.5\nquorate_requests_in_flight 7\n# EOF\n";
    let counters = metrics::counters(page);
    assert_eq!(counters.len(), 2);
    assert_eq!((counters["quorate_requests_total"], counters[metrics::MESSAGES]), (7.0, 12.5));
}
