//! Unit tests of what a replica tells, beside the schedules in tests/regressions.

use std::time::Duration;

use bytes::Bytes;

use super::feed::{Feed, KEPT_FOR};
use crate::limits::WATCH_HISTORY_CHANGES_MAX;
use crate::protocol::changes::{Change, Filter};
use crate::protocol::context::Origin;
use crate::protocol::io::Time;
use crate::protocol::message::{Answer, OperationId};
use crate::types::{Clock, Incarnation, Key, NodeId, NodeIndex, Stamp, Version};

fn origin(operation: u64, round: u32) -> Origin {
    let incarnation = Incarnation { epoch: 1, nonce: 1 };
    Origin { node: NodeIndex(1), incarnation, operation: OperationId(operation), round, number: 0 }
}

fn version(counter: u64) -> Version {
    let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
    Version::new(stamp, None)
}

fn prefix(text: &'static str) -> Filter {
    Filter::Prefix(Bytes::from_static(text.as_bytes()))
}

struct Fixture {
    feed: Feed,
    now: Time,
}

impl Fixture {
    fn new() -> Self {
        Self { feed: Feed::default(), now: Time(1) }
    }

    fn changed(&mut self, key: &str, counter: u64) {
        self.feed.changed(&Key::new(key.to_owned()).unwrap(), || version(counter), self.now);
    }

    fn ask(&mut self, operation: u64, round: u32, filter: &Filter, next: Option<u64>) -> Option<Answer> {
        self.feed.on_request(origin(operation, round), filter, next, self.now)
    }

    /// Subscribes, and returns the number of the next change.
    fn subscribe(&mut self, operation: u64, filter: &Filter) -> u64 {
        match self.ask(operation, 1, filter, None) {
            Some(Answer::Changes { from, to, changes }) if from == to && changes.is_empty() => to,
            other => panic!("a subscription begins at once: {other:?}"),
        }
    }
}

fn numbers(answer: Option<Answer>) -> (u64, u64, Vec<u64>) {
    match answer {
        Some(Answer::Changes { from, to, changes }) => {
            (from, to, changes.into_iter().map(|change| change.number).collect())
        }
        other => panic!("changes are told, not {other:?}"),
    }
}

#[test]
fn subscriber_gets_what_matches_and_learns_how_far_the_rest_does_not() {
    let mut fixture = Fixture::new();
    let start = fixture.subscribe(1, &prefix("a"));
    assert_eq!(fixture.ask(1, 2, &prefix("a"), Some(start)), None, "there is nothing yet");
    fixture.changed("b", 1);
    assert_eq!(fixture.feed.answers(), []);
    fixture.changed("a", 2);
    fixture.changed("b", 3);
    let mut answers = fixture.feed.answers();
    assert_eq!(answers.len(), 1);
    let (to, answer) = answers.pop().unwrap();
    assert_eq!(to, origin(1, 2));
    assert_eq!(numbers(Some(answer)), (start, start + 3, vec![start + 1]));
    // Nothing matches for long: it is told so where it asks again, and not before.
    assert_eq!(fixture.ask(1, 3, &prefix("a"), Some(start + 3)), None);
    fixture.changed("b", 4);
    assert_eq!(fixture.feed.answers(), []);
    assert_eq!(numbers(fixture.ask(1, 4, &prefix("a"), Some(start + 3))), (start + 3, start + 4, vec![]));
    // An answer was lost: the same changes are told again.
    fixture.changed("a", 5);
    for round in [5, 6] {
        assert_eq!(fixture.ask(1, round, &prefix("a"), Some(start + 4)), None);
        let (_, answer) = fixture.feed.answers().pop().unwrap();
        assert_eq!(numbers(Some(answer)), (start + 4, start + 5, vec![start + 4]));
    }
}

#[test]
fn nothing_is_counted_or_kept_where_nobody_has_asked() {
    let mut fixture = Fixture::new();
    fixture.changed("a", 1);
    assert_eq!(fixture.feed, Feed::default());
    let start = fixture.subscribe(1, &prefix(""));
    fixture.feed.on_end(origin(1, 1));
    fixture.changed("a", 2);
    assert_eq!(fixture.ask(2, 1, &prefix(""), Some(start)), None, "another node goes on there");
    assert_eq!(numbers(fixture.feed.answers().pop().map(|(_, answer)| answer)).2, [start]);
    fixture.feed.on_end(origin(2, 1));
    fixture.now = fixture.now.after(KEPT_FOR + Duration::from_secs(1));
    fixture.changed("a", 3);
    fixture.changed("a", 4);
    assert_eq!(fixture.ask(3, 1, &prefix(""), Some(start + 1)), Some(Answer::ChangesLost), "it was not counted");
}

#[test]
fn history_that_does_not_reach_back_says_so() {
    let mut fixture = Fixture::new();
    let start = fixture.subscribe(1, &prefix("a"));
    fixture.changed("a", 0);
    for counter in 0..WATCH_HISTORY_CHANGES_MAX as u64 {
        fixture.changed("b", counter);
    }
    assert_eq!(fixture.ask(2, 1, &prefix("b"), Some(start)), Some(Answer::ChangesLost));
    assert_eq!(fixture.ask(2, 1, &prefix("b"), Some(start + 1)), None, "it reaches back to there");
    assert_eq!(fixture.ask(1, 2, &prefix("a"), Some(start)), Some(Answer::ChangesLost), "what matched is gone");
    let ahead = start + 2 + WATCH_HISTORY_CHANGES_MAX as u64;
    assert_eq!(fixture.ask(3, 1, &prefix("b"), Some(ahead)), Some(Answer::ChangesLost), "there is no such number");
}

#[test]
fn gap_in_the_history_is_told_to_all() {
    let mut fixture = Fixture::new();
    let start = fixture.subscribe(1, &prefix(""));
    assert_eq!(fixture.ask(1, 2, &prefix(""), Some(start)), None);
    let other = fixture.subscribe(2, &prefix(""));
    fixture.feed.forget();
    assert_eq!(fixture.feed.answers(), [(origin(1, 2), Answer::ChangesLost)]);
    assert_eq!(fixture.ask(2, 2, &prefix(""), Some(other)), Some(Answer::ChangesLost));
    let again = fixture.subscribe(1, &prefix(""));
    assert!(again > start);
}

#[test]
fn many_changes_are_told_in_parts() {
    let mut fixture = Fixture::new();
    let mut next = fixture.subscribe(1, &prefix(""));
    (0..3_000).for_each(|counter| fixture.changed("a", counter));
    let mut parts = Vec::new();
    for round in 2..5 {
        assert_eq!(fixture.ask(1, round, &prefix(""), Some(next)), None);
        let (from, to, told) = numbers(fixture.feed.answers().pop().map(|(_, answer)| answer));
        assert_eq!(from, next);
        next = to;
        parts.push(told.len());
    }
    assert_eq!(parts.iter().sum::<usize>(), 3_000, "{parts:?}");
    assert_eq!(fixture.ask(1, 5, &prefix(""), Some(next)), None);
    assert_eq!(fixture.feed.answers(), []);
}

#[test]
fn changes_have_a_size() {
    let change = Change { number: 0, key: Key::new("four").unwrap(), version: version(1) };
    assert_eq!(change.bytes(), 204);
}
