//! The report of a judged load, for people and for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::{Counts, Kind, Outcome, Wrong};

/// The wrong histories that people are shown. JSON has all of them.
const WRONG_SHOWN: usize = 3;

/// What a report says of the run itself.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Settings {
    pub(in crate::cli) clients: usize,
    /// Whether the run ended before its time.
    pub(in crate::cli) interrupted: bool,
}

impl Outcome {
    /// One word, or a few.
    pub(in crate::cli) fn verdict(&self) -> &'static str {
        if !self.judged.wrong.is_empty() || !self.judged.defects.is_empty() {
            "not linearizable"
        } else if !self.judged.undecided.is_empty() {
            "undecided"
        } else {
            "linearizable"
        }
    }
}

/// The report for people. It ends with the verdict.
pub(in crate::cli) fn as_text(outcome: &Outcome, settings: &Settings) -> String {
    let Outcome { counts, took, judged } = outcome;
    let mut text = format!(
        "{} clients, {:.1} s{}: {} operations on {} keys\n",
        settings.clients,
        took.as_secs_f64(),
        if settings.interrupted { " (interrupted)" } else { "" },
        counts.answered(),
        judged.keys,
    );
    for line in table(counts).lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for ((kind, is_unknown, why), count) in &counts.failures {
        let how = if *is_unknown { "of unknown outcome" } else { "failed" };
        let _ = writeln!(text, "{count} {} {how}: {why}", kind.name());
    }
    if judged.unread > 0 {
        let _ = writeln!(text, "{} keys could not be read at the end", judged.unread);
    }
    if judged.left_behind > 0 {
        let hours = super::TTL_AFTER_END.as_secs() / 3_600;
        let _ = writeln!(text, "{} keys could not be removed; they expire within {hours} h", judged.left_behind);
    }
    for defect in &judged.defects {
        let _ = writeln!(text, "{defect}");
    }
    for Wrong { key, what, operations } in judged.wrong.iter().take(WRONG_SHOWN) {
        let _ = writeln!(text, "{key}: {what}");
        for operation in operations {
            let _ = writeln!(text, "  {operation}");
        }
    }
    if judged.wrong.len() > WRONG_SHOWN {
        let _ = writeln!(text, "and {} keys more; --json tells all of them", judged.wrong.len() - WRONG_SHOWN);
    }
    for key in &judged.undecided {
        let _ = writeln!(text, "{key}: no verdict: the checker gave up, because too many outcomes are unknown");
    }
    text + outcome.verdict() + "\n"
}

/// The report for scripts.
pub(in crate::cli) fn as_json(outcome: &Outcome, settings: &Settings) -> Json {
    let Outcome { counts, took, judged } = outcome;
    let mut operations = serde_json::Map::new();
    for (kind, of_kind) in &counts.kinds {
        let json = json!({
            "done": of_kind.done,
            "condition_failed": of_kind.condition_failed,
            "failed": of_kind.failed,
            "unknown": of_kind.unknown,
            "p50_ms": millis(quantile(&of_kind.latencies, 0.5)),
            "p99_ms": millis(quantile(&of_kind.latencies, 0.99)),
        });
        operations.insert(kind.name().to_owned(), json);
    }
    let failure = |((kind, is_unknown, why), count): (&(Kind, bool, String), &u64)| json!({ "operation": kind.name(), "unknown": is_unknown, "count": count, "why": why });
    let wrong = |wrong: &Wrong| json!({ "key": wrong.key, "what": wrong.what, "history": wrong.operations });
    json!({
        "verdict": outcome.verdict(),
        "seconds": (took.as_secs_f64() * 1e3).round() / 1e3,
        "interrupted": settings.interrupted,
        "clients": settings.clients,
        "keys": judged.keys,
        "operations": operations,
        "failures": counts.failures.iter().map(failure).collect::<Vec<_>>(),
        "wrong": judged.wrong.iter().map(wrong).collect::<Vec<_>>(),
        "defects": judged.defects,
        "undecided": judged.undecided,
        "keys_unread": judged.unread,
        "keys_left": judged.left_behind,
    })
}

fn table(counts: &Counts) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["OPERATION", "DONE", "CONDITION FAILED", "FAILED", "UNKNOWN", "P50 MS", "P99 MS"]);
    for (kind, of_kind) in &counts.kinds {
        let is_conditional = matches!(kind, Kind::CompareAndSet | Kind::Delete);
        table.add_row([
            kind.name().to_owned(),
            of_kind.done.to_string(),
            if is_conditional { of_kind.condition_failed.to_string() } else { "-".to_owned() },
            of_kind.failed.to_string(),
            if *kind == Kind::Get { "-".to_owned() } else { of_kind.unknown.to_string() },
            shown(quantile(&of_kind.latencies, 0.5)),
            shown(quantile(&of_kind.latencies, 0.99)),
        ]);
    }
    table
}

/// A quantile, unless nothing was answered.
pub(in crate::cli) fn quantile(latencies: &Histogram<u64>, part: f64) -> Option<Duration> {
    (!latencies.is_empty()).then(|| Duration::from_micros(latencies.value_at_quantile(part)))
}

fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| (time.as_secs_f64() * 1e5).round() / 1e2)
}

fn shown(time: Option<Duration>) -> String {
    millis(time).map_or_else(|| "-".to_owned(), |millis| format!("{millis:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::judge::Judged;
    use super::super::{Ended, Kind};
    use super::*;

    fn outcome(wrong: Vec<Wrong>, undecided: Vec<String>) -> Outcome {
        let mut counts = Counts::new();
        counts.count(Kind::Get, Duration::from_millis(2), &Ended::Done);
        counts.count(Kind::CompareAndSet, Duration::from_millis(3), &Ended::ConditionFailed);
        counts.count(Kind::Set, Duration::from_secs(5), &Ended::Unknown("n1: broken pipe".into()));
        counts.count(Kind::Set, Duration::from_secs(5), &Ended::Unknown("n1: broken pipe".into()));
        let judged = Judged { keys: 8, wrong, undecided, ..Judged::default() };
        Outcome { counts, took: Duration::from_millis(2_500), judged }
    }

    const SETTINGS: Settings = Settings { clients: 4, interrupted: false };

    #[test]
    fn report_counts_by_kind_and_ends_with_the_verdict() {
        let outcome = outcome(Vec::new(), Vec::new());
        let text = as_text(&outcome, &SETTINGS);
        assert!(text.starts_with("4 clients, 2.5 s: 2 operations on 8 keys\n"), "{text}");
        assert!(text.contains("2 set of unknown outcome: n1: broken pipe\n"), "{text}");
        assert!(text.ends_with("\nlinearizable\n"), "{text}");
        let json = as_json(&outcome, &SETTINGS);
        assert_eq!(json["verdict"], "linearizable");
        assert_eq!(json["operations"]["set"]["unknown"], 2);
        assert_eq!(json["operations"]["compare_and_set"]["condition_failed"], 1);
        assert_eq!(json["operations"]["delete"]["p50_ms"], Json::Null);
    }

    #[test]
    fn wrong_history_is_shown_and_makes_the_verdict() {
        let wrong = |key: &str| Wrong { key: key.into(), what: "no order".into(), operations: vec!["read 1".into()] };
        let outcome = outcome(["a", "b", "c", "d"].map(wrong).to_vec(), vec!["e".into()]);
        let text = as_text(&outcome, &SETTINGS);
        assert!(text.contains("c: no order\n  read 1\n") && text.contains("and 1 keys more"), "{text}");
        assert!(text.contains("e: no verdict") && text.ends_with("\nnot linearizable\n"), "{text}");
        assert_eq!(as_json(&outcome, &SETTINGS)["wrong"].as_array().map(Vec::len), Some(4));
        let undecided = self::outcome(Vec::new(), vec!["e".into()]);
        assert_eq!(undecided.verdict(), "undecided");
    }
}
