//! The answers to the clients of a round, in the terms of the checkers.

use std::collections::BTreeMap;

use quorate::types::{Key, Version};

use crate::asking::{Kind, request_of_value, ttl_of};
use crate::clients::{Account, Done, EXPIRY, LAST_READER, Workload, micros};
use crate::testkit::checker::{Action, Condition, Ending, Operation};
use crate::testkit::requests::{self, Ask, Effect, Outcome};
use crate::testkit::watching::Told;

/// The history of a key in the checker's terms.
pub(crate) fn operations(history: &[Done], kind: Kind) -> Result<Vec<Operation>, String> {
    let attempts: Vec<_> = history.iter().map(Done::attempt).collect();
    reads_of_one(history)?;
    let mut operations = requests::operations(&attempts, &effects(history)?, &[]).map_err(|(what, first)| {
        let tried: Vec<_> = history.iter().filter(|done| done.attempt().first == first).collect();
        format!("{what}: {tried:#?}")
    })?;
    // A value may be deleted by nobody's request once its time to live has passed since its write was called, and only if it
    // is still the same.
    for attempt in attempts.iter().filter(|attempt| attempt.index == attempt.first) {
        let writes = matches!(attempt.ask, Ask::Set | Ask::SetIf { deletes: false, .. });
        let Some(ttl) = ttl_of(attempt.index as u64, kind).filter(|_| writes) else { continue };
        operations.push(Operation {
            client: EXPIRY,
            invoked: attempt.invoked + micros(ttl),
            action: Action::WriteIf { condition: Condition::Value(attempt.value), value: None },
            ending: Ending::Unknown,
            version: None,
        });
    }
    Ok(operations)
}

/// The writes that took effect because their values were seen, whatever their clients were told.
pub(crate) fn effects(history: &[Done]) -> Result<BTreeMap<usize, Effect>, String> {
    let mut effects: BTreeMap<usize, Effect> = BTreeMap::new();
    for done in history.iter().filter(|done| !matches!(done.ask, Ask::GetOne { .. })) {
        let seen = match &done.outcome {
            Outcome::Saw { value: Some(value), version } => Some((*value, version)),
            Outcome::Added { sum, version } => Some((*sum, version)),
            Outcome::Listed(Some((Some(value), version))) => Some((*value, version)),
            _ => None,
        };
        let (Some((value, version)), Some(returned)) = (seen, done.attempt().returned) else { continue };
        let Some((writer, is_whole)) = request_of_value(value) else { continue };
        let writer = usize::try_from(writer).expect("it is small");
        let asked = history.iter().find(|done| done.attempt().index == writer).map(|done| &done.ask);
        let version = match asked {
            None => return Err(format!("{value} was seen, which no request for the key writes")),
            Some(_) if is_whole => version.clone(),
            // A sum is built on the write that has its stamp.
            Some(Ask::Set) => Version::new(version.stamp.clone(), None),
            Some(_) => continue,
        };
        let known = effects.entry(writer).or_insert_with(|| (version.clone(), None, returned));
        if known.0 != version {
            return Err(format!("request {writer} took effect as {} and as {version}", known.0));
        }
        known.2 = known.2.min(returned);
    }
    Ok(effects)
}

/// A read of one replica sees a value that was written, or might have been, before it ended, and no version below that which
/// its client has named.
fn reads_of_one(history: &[Done]) -> Result<(), String> {
    for done in history {
        let (Ask::GetOne { at_least }, Outcome::Saw { value, version }) = (&done.ask, &done.outcome) else { continue };
        if at_least.as_ref().is_some_and(|least| version < least) {
            return Err(format!("a read of one replica answers less than the version named: {done:?}"));
        }
        let Some((writer, _)) = value.and_then(request_of_value) else { continue };
        let is_of_key = |other: &&Done| other.index == writer && Some(other.invoked) <= done.returned;
        if !history.iter().any(|other| is_of_key(&other)) {
            return Err(format!("a read of one replica answers what nobody had written: {done:?}"));
        }
    }
    Ok(())
}

/// Events that a watch ought to have been told, and was not.
pub(crate) fn missed(told: &Told, workload: &Workload, account: &Account) -> Option<String> {
    let Some(since) = told.since() else { return Some("it is not ready".to_owned()) };
    for (number, history) in &account.histories {
        let key = Key::new(workload.key(*number)).expect("it is a key");
        let attempts: Vec<_> = history.iter().map(Done::attempt).collect();
        let first_write = attempts.iter().filter(|attempt| !attempt.ask.is_read()).map(|attempt| attempt.invoked).min();
        for attempt in &attempts {
            let called = match attempt.outcome {
                Outcome::Wrote(_) | Outcome::Added { .. } => {
                    let first = attempts.iter().find(|first| first.index == attempt.first);
                    first.map(|first| first.invoked)
                }
                // What the last reads saw was written after the first write was called.
                Outcome::Saw { version, .. } if attempt.client == LAST_READER && *version != Version::absent() => {
                    first_write
                }
                _ => None,
            };
            let (Some(called), Some(version)) = (called, attempt.outcome.version()) else { continue };
            let is_there =
                attempt.client == LAST_READER && matches!(attempt.outcome, Outcome::Saw { value: Some(_), .. });
            if (is_there && told.misses_what_is_there(&key, version)) || told.misses(&key, version, called) {
                let last = told.last(&key);
                return Some(format!(
                    "ready at {since}, it was told {last:?} of {} and never {attempt:?}",
                    key.as_str()
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use quorate::types::{Clock, NodeId, Stamp};

    use super::*;
    use crate::asking::value_of_request;
    use crate::testkit::checker::{STEPS_MAX, Verdict};

    /// The number of a request whose value expires, in microseconds after its call.
    const EXPIRES: u64 = 1;

    fn version(counter: u64) -> Version {
        let writer = NodeId::new("1").expect("this is an id");
        Version::new(Stamp { clock: Clock { epoch: 1, counter }, writer }, None)
    }

    fn done(index: u64, (invoked, returned): (u64, u64), ask: Ask, outcome: Outcome) -> Done {
        Done { client: 0, index, first: index, invoked, returned: Some(returned), ask, outcome }
    }

    fn saw(index: u64, times: (u64, u64), value: Option<u64>, counter: u64) -> Done {
        done(index, times, Ask::Get, Outcome::Saw { value: value.map(value_of_request), version: version(counter) })
    }

    fn verdict(history: &[Done]) -> Verdict {
        let operations = operations(history, Kind::Expiring).expect("each request took effect once");
        requests::judge(&operations, STEPS_MAX).0
    }

    #[test]
    fn value_may_be_gone_once_it_has_expired_and_neither_before_nor_back_again() {
        let written = done(EXPIRES, (0, 10), Ask::Set, Outcome::Wrote(version(1)));
        let ttl = micros(ttl_of(EXPIRES, Kind::Expiring).expect("it expires"));
        let (early, late) = (saw(2, (ttl - 20, ttl - 10), None, 2), saw(2, (ttl + 10, ttl + 20), None, 2));
        assert_eq!(verdict(&[written.clone(), late.clone()]), Verdict::Linearizable);
        assert_eq!(verdict(&[written.clone(), early]), Verdict::NotLinearizable);
        let again = saw(3, (ttl + 30, ttl + 40), Some(EXPIRES), 1);
        assert_eq!(verdict(&[written.clone(), late, again]), Verdict::NotLinearizable);
        let renewed = done(4, (20, 30), Ask::Set, Outcome::Wrote(version(2)));
        let lost = saw(5, (ttl + 10, ttl + 20), None, 3);
        assert_eq!(verdict(&[written, renewed, lost]), Verdict::NotLinearizable);
    }

    #[test]
    fn value_that_nobody_wrote_and_request_with_two_effects_are_found() {
        let written = done(1, (0, 10), Ask::Set, Outcome::Wrote(version(1)));
        let foreign = operations(&[written.clone(), saw(2, (20, 30), Some(9), 2)], Kind::Plain);
        assert!(foreign.is_err_and(|what| what.contains("which no request for the key writes")));
        let twice = operations(&[written, saw(2, (20, 30), Some(1), 2)], Kind::Plain);
        assert!(twice.is_err_and(|what| what.contains("took effect as")));
    }

    #[test]
    fn watch_must_be_told_of_what_was_called_since_it_was_ready() {
        let workload = Workload::of("w");
        let mut account = Account::default();
        account.histories.insert(0, vec![done(1, (20, 30), Ask::Set, Outcome::Wrote(version(5)))]);
        let key = Key::new(workload.key(0)).expect("it is a key");
        let mut told = Told::default();
        assert!(missed(&told, &workload, &account).is_some_and(|what| what.contains("not ready")));
        told.is_ready(10);
        told.change(&key, &version(4)).expect("it is the first");
        assert!(missed(&told, &workload, &account).is_some_and(|what| what.contains("never")));
        told.change(&key, &version(5)).expect("versions rise");
        assert_eq!(missed(&told, &workload, &account), None);
        assert!(told.change(&key, &version(4)).is_err(), "versions never fall");
    }

    #[test]
    fn watch_with_a_list_must_be_told_what_was_there_before() {
        let workload = Workload::of("w");
        let mut account = Account::default();
        let written = done(1, (20, 30), Ask::Set, Outcome::Wrote(version(5)));
        let last = Done { client: LAST_READER, ..saw(2, (90, 95), Some(1), 5) };
        account.histories.insert(0, vec![written, last]);
        let key = Key::new(workload.key(0)).expect("it is a key");
        let mut told = Told::default();
        told.is_ready(50);
        assert_eq!(missed(&told, &workload, &account), None, "it was written before");
        let mut told = Told::with_list();
        told.is_ready(50);
        assert!(missed(&told, &workload, &account).is_some_and(|what| what.contains("never")));
        told.change(&key, &version(5)).expect("it is the first");
        assert_eq!(missed(&told, &workload, &account), None);
    }

    #[test]
    fn reads_of_one_replica_may_be_old_and_no_older_than_the_version_named() {
        let history = |at_least: u64, value| {
            let one = Ask::GetOne { at_least: Some(version(at_least)) };
            let seen = Outcome::Saw { value: Some(value_of_request(value)), version: version(1) };
            let renewed = done(4, (20, 30), Ask::Set, Outcome::Wrote(version(2)));
            [done(1, (0, 10), Ask::Set, Outcome::Wrote(version(1))), renewed, done(5, (40, 50), one, seen)]
        };
        assert!(operations(&history(1, 1), Kind::Plain).is_ok());
        assert!(operations(&history(2, 1), Kind::Plain).is_err_and(|what| what.contains("less than")));
        assert!(operations(&history(1, 9), Kind::Plain).is_err_and(|what| what.contains("nobody")));
    }

    #[test]
    fn doors_that_tell_less_are_judged_by_what_they_tell() {
        let put_new = |index, times, outcome| {
            done(index, times, Ask::SetIf { condition: quorate::types::Condition::Absent, deletes: false }, outcome)
        };
        let read =
            |index, times, value: Option<u64>| done(index, times, Ask::Get, Outcome::Read(value.map(value_of_request)));
        let wrote = put_new(2, (0, 10), Outcome::Either);
        assert_eq!(verdict(&[wrote.clone(), read(3, (20, 30), Some(2))]), Verdict::Linearizable);
        assert_eq!(verdict(&[wrote.clone(), read(3, (20, 30), None)]), Verdict::NotLinearizable);
        let kept = put_new(4, (12, 18), Outcome::Either);
        assert_eq!(verdict(&[wrote.clone(), kept.clone(), read(3, (20, 30), Some(2))]), Verdict::Linearizable);
        assert_eq!(verdict(&[wrote.clone(), kept, read(3, (20, 30), Some(4))]), Verdict::NotLinearizable);
        let removed = done(5, (40, 50), Ask::Delete, Outcome::Either);
        assert_eq!(verdict(&[wrote.clone(), removed.clone(), read(6, (60, 70), None)]), Verdict::Linearizable);
        assert_eq!(verdict(&[wrote, removed, read(6, (60, 70), Some(2))]), Verdict::NotLinearizable);
    }
}
