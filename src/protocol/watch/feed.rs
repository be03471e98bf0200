//! What a replica tells of its changes: a numbered history in memory, and the subscriptions of coordinators.
//!
//! Contract: each record is told once it is durable, however it came, and again when a store of a smaller record was
//! acknowledged because of it. Numbers begin anew in each incarnation. A subscriber names the number that it wants next. It
//! gets all changes from there on, or learns that the history no longer reaches back.
//!
//! Caveat: nothing is kept before the first subscription of an incarnation, and [`KEPT_FOR`] after the last one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits::{WATCH_HISTORY_BYTES_MAX, WATCH_HISTORY_CHANGES_MAX, WATCH_SUBSCRIPTIONS_MAX};
use crate::protocol::changes::{Change, Filter};
use crate::protocol::context::Origin;
use crate::protocol::io::Time;
use crate::protocol::message::{Answer, OperationId};
use crate::types::{Incarnation, Key, NodeIndex, Version};

use super::filter::FilterIndex;

/// How long the history is kept after the last request of a subscriber, so that its clients can go on elsewhere.
pub(super) const KEPT_FOR: Duration = Duration::from_mins(5);
/// A subscriber that has not asked for so long has ended. It asks at least every [`super::streams::ASK_AGAIN`].
const SUBSCRIBED_FOR: Duration = Duration::from_secs(30);
/// The most changes in one answer.
const CHANGES_PER_ANSWER: usize = 1_024;
/// The most bytes of changes in one answer, about.
const BYTES_PER_ANSWER: usize = 256 << 10;

/// One stream of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Subscriber {
    node: NodeIndex,
    incarnation: Incarnation,
    operation: OperationId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subscription {
    filter: Filter,
    /// Of its latest request.
    round: u32,
    /// When that arrived.
    asked_at: Time,
    /// The changes below this number were told, or do not match.
    told_to: u64,
    /// The first change from `told_to` on that matches. Where it is absent, none does so far.
    first: Option<u64>,
    /// Whether its latest request waits for an answer.
    is_waiting: bool,
}

/// The changes of one replica, and its subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Feed {
    is_on: bool,
    /// The number of the next change.
    next: u64,
    /// The latest changes, up to `next`.
    history: VecDeque<Change>,
    history_bytes: usize,
    /// When a subscriber asked last.
    asked_at: Time,
    /// When subscriptions are to be looked through for those that have ended.
    look_at: Time,
    subscriptions: BTreeMap<Subscriber, Subscription>,
    index: FilterIndex<Subscriber>,
    /// Those that wait and have something to be told.
    due: BTreeSet<Subscriber>,
}

impl Feed {
    /// `key` has a durable record of `version`.
    pub(super) fn changed(&mut self, key: &Key, version: impl FnOnce() -> Version, now: Time) {
        if !self.is_on {
            return;
        }
        if self.subscriptions.is_empty() && now > self.asked_at.after(KEPT_FOR) {
            self.forget();
            self.is_on = false;
            return;
        }
        let number = self.next;
        self.next += 1;
        let change = Change { number, key: key.detached(), version: version() };
        for subscriber in self.index.matching(key) {
            let Some(subscription) = self.subscriptions.get_mut(&subscriber) else { continue };
            subscription.first.get_or_insert(number);
            if subscription.is_waiting {
                self.due.insert(subscriber);
            }
        }
        self.history_bytes += change.bytes();
        self.history.push_back(change);
        while self.history.len() > WATCH_HISTORY_CHANGES_MAX || self.history_bytes > WATCH_HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.bytes();
        }
    }

    /// A subscriber asks for the changes from `from` on, or subscribes where it names none.
    pub(super) fn on_request(&mut self, from: Origin, filter: &Filter, next: Option<u64>, now: Time) -> Option<Answer> {
        let subscriber = subscriber(from);
        self.end_silent(now);
        self.asked_at = now;
        if !self.is_on {
            // Changes were not counted since it was switched off: a cursor from before must not fit.
            self.is_on = true;
            self.next += 1;
        }
        let Some(wanted) = next else {
            if !self.subscribe(subscriber, filter, from.round, self.next, now) {
                return None;
            }
            return Some(Answer::Changes { from: self.next, to: self.next, changes: Vec::new() });
        };
        let goes_on = self.subscriptions.get(&subscriber).is_some_and(|subscription| subscription.told_to == wanted);
        if !goes_on {
            self.unsubscribe(subscriber);
            let is_reached = (self.oldest()..=self.next).contains(&wanted);
            if !is_reached {
                return Some(Answer::ChangesLost);
            }
            if !self.subscribe(subscriber, filter, from.round, wanted, now) {
                return None;
            }
        }
        let (next, oldest) = (self.next, self.oldest());
        let subscription = self.subscriptions.get_mut(&subscriber)?;
        // A subscriber that asks again wants to know how far nothing matched, or has missed the answer. One that goes on
        // wants to know that the history reaches back.
        let is_repeated = std::mem::replace(&mut subscription.is_waiting, true);
        (subscription.round, subscription.asked_at) = (from.round, now);
        match subscription.first {
            Some(first) if first < oldest => {
                self.unsubscribe(subscriber);
                Some(Answer::ChangesLost)
            }
            Some(_) => {
                self.due.insert(subscriber);
                None
            }
            None if is_repeated || !goes_on => {
                (subscription.told_to, subscription.is_waiting) = (next, false);
                Some(Answer::Changes { from: wanted, to: next, changes: Vec::new() })
            }
            None => None,
        }
    }

    /// A coordinator needs no more changes.
    pub(super) fn on_end(&mut self, from: Origin) {
        self.unsubscribe(subscriber(from));
    }

    /// Takes the answers that are due.
    pub(super) fn answers(&mut self) -> Vec<(Origin, Answer)> {
        let due = std::mem::take(&mut self.due);
        due.into_iter().filter_map(|subscriber| self.answer(subscriber)).collect()
    }

    /// The history has a gap: a batch failed, and its records may have become durable all the same. Every subscriber learns
    /// so.
    pub(super) fn forget(&mut self) {
        if !self.is_on {
            return;
        }
        self.history.clear();
        self.history_bytes = 0;
        self.next += 1;
        for subscription in self.subscriptions.values_mut() {
            subscription.first = Some(0);
        }
        let waiting = self.subscriptions.iter().filter(|(_, subscription)| subscription.is_waiting);
        self.due.extend(waiting.map(|(subscriber, _)| *subscriber));
    }

    /// The number of the oldest change that is kept.
    fn oldest(&self) -> u64 {
        self.next - self.history.len() as u64
    }

    fn answer(&mut self, subscriber: Subscriber) -> Option<(Origin, Answer)> {
        let (oldest, next) = (self.oldest(), self.next);
        let subscription = self.subscriptions.get_mut(&subscriber)?;
        let Subscriber { node, incarnation, operation } = subscriber;
        // Changes count under each configuration.
        let origin = Origin { node, incarnation, operation, round: subscription.round, number: 0 };
        let first = subscription.first?;
        if first < oldest {
            self.unsubscribe(subscriber);
            return Some((origin, Answer::ChangesLost));
        }
        let (mut changes, mut bytes, mut to) = (Vec::new(), 0, next);
        let skipped = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        for change in self.history.iter().skip(skipped) {
            if changes.len() >= CHANGES_PER_ANSWER || bytes >= BYTES_PER_ANSWER {
                to = change.number;
                break;
            }
            if subscription.filter.matches(&change.key) {
                bytes += change.bytes();
                changes.push(change.clone());
            }
        }
        let from = subscription.told_to;
        (subscription.told_to, subscription.is_waiting) = (to, false);
        subscription.first = (to < next).then_some(to);
        Some((origin, Answer::Changes { from, to, changes }))
    }

    /// Says whether there was room.
    fn subscribe(&mut self, subscriber: Subscriber, filter: &Filter, round: u32, told_to: u64, now: Time) -> bool {
        self.unsubscribe(subscriber);
        if self.subscriptions.len() >= WATCH_SUBSCRIPTIONS_MAX {
            return false;
        }
        let filter = filter.detached();
        self.index.insert(&filter, subscriber);
        // The changes from there on are looked through when they are asked for.
        let first = (told_to < self.next).then_some(told_to);
        let subscription = Subscription { filter, round, asked_at: now, told_to, first, is_waiting: false };
        self.subscriptions.insert(subscriber, subscription);
        true
    }

    fn unsubscribe(&mut self, subscriber: Subscriber) {
        if let Some(subscription) = self.subscriptions.remove(&subscriber) {
            self.index.remove(&subscription.filter, subscriber);
            self.due.remove(&subscriber);
        }
    }

    /// Ends the subscriptions of coordinators that no longer ask.
    fn end_silent(&mut self, now: Time) {
        if now < self.look_at {
            return;
        }
        self.look_at = now.after(SUBSCRIBED_FOR);
        let is_silent = |subscription: &Subscription| subscription.asked_at.after(SUBSCRIBED_FOR) < now;
        let silent = self.subscriptions.iter().filter(|(_, subscription)| is_silent(subscription));
        let silent: Vec<Subscriber> = silent.map(|(subscriber, _)| *subscriber).collect();
        for subscriber in silent {
            self.unsubscribe(subscriber);
        }
    }
}

fn subscriber(Origin { node, incarnation, operation, .. }: Origin) -> Subscriber {
    Subscriber { node, incarnation, operation }
}
