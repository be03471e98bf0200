//! What clients ask of a key and are told of it, in the checker's terms. A client may send one request several times, to any
//! nodes: all its attempts are one operation.

use std::collections::{BTreeMap, BTreeSet};

use super::{self as checker, Action, Ending, Operation, STEPS_MAX, Verdict, check, order_by_need};
use crate::types::{Condition, Version};

/// The wish of a client. The index of the first attempt names the value and the token.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A linearizable read.
    Get,
    /// A read of one replica.
    GetOne {
        /// The version that the answer must not be older than.
        at_least: Option<Version>,
    },
    /// A page of the list of all keys from this one on: a read of each of them.
    List {
        /// The most keys of the page.
        keys_max: usize,
        /// Whether values were asked for.
        values: bool,
    },
    /// A write.
    Set,
    /// A delete.
    Delete,
    /// A write, or a delete, that takes effect only where the condition holds.
    SetIf {
        /// The condition.
        condition: Condition,
        /// Whether it is a delete.
        deletes: bool,
    },
    /// An addition.
    Add {
        /// What is added.
        delta: i64,
        /// The version that the client named.
        since: Option<Version>,
    },
}

impl Ask {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get | Self::GetOne { .. } | Self::List { .. })
    }

    /// Whether it writes a value, which may have a time to live.
    #[must_use]
    pub fn writes_value(&self) -> bool {
        matches!(self, Self::Set | Self::SetIf { deletes: false, .. } | Self::Add { .. })
    }

    /// Whether it is a conditional write, which has a token and may be sent again.
    #[must_use]
    pub fn has_token(&self) -> bool {
        matches!(self, Self::SetIf { .. } | Self::Add { .. })
    }
}

/// How an attempt ended, as far as its client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A read saw this.
    Saw {
        /// The value.
        value: Option<u64>,
        /// Its version, or that of the absence.
        version: Version,
    },
    /// A page named the key, or left it out. It has the value where values were asked for.
    Listed(Option<(Option<u64>, Version)>),
    /// A write took effect.
    Wrote(Version),
    /// An addition took effect.
    Added {
        /// The sum.
        sum: u64,
        /// The version that it made.
        version: Version,
    },
    /// A read saw this, and its client was told no version.
    Read(Option<u64>),
    /// It was told whether there was a value, and neither the value nor the version. A write that was told so did nothing.
    Looked {
        /// Whether there was a value.
        has_value: bool,
    },
    /// A write took effect, and its client was told no version.
    Done,
    /// An addition took effect, and its client was told no version.
    Summed(u64),
    /// A condition did not hold, and its client was told no more.
    Refused,
    /// A write or a delete took effect, or did nothing because there was a value already, or none: its client was not told.
    Either,
    /// A condition did not hold, or an addition found no number: the write never takes effect.
    Declined {
        /// The version that the key has.
        version: Version,
        /// Whether it has a value.
        has_value: bool,
    },
    /// A read failed, or a write certainly did not happen.
    Failed,
    /// A write may have happened, or may happen yet.
    Unknown,
}

impl Outcome {
    /// Whether a node answered.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        !matches!(self, Self::Failed | Self::Unknown)
    }

    /// The version that the client was told.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Saw { version, .. }
            | Self::Wrote(version)
            | Self::Added { version, .. }
            | Self::Declined { version, .. } => Some(version),
            Self::Listed(named) => named.as_ref().map(|(_, version)| version),
            Self::Read(_) | Self::Looked { .. } | Self::Done | Self::Summed(_) | Self::Refused | Self::Either => None,
            Self::Failed | Self::Unknown => None,
        }
    }
}

/// One attempt of a request, as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The client's number.
    pub client: u32,
    /// The attempt's own number.
    pub index: usize,
    /// The number of the first attempt of the same request: its own, unless the request was sent again.
    pub first: usize,
    /// The value that the request writes. No other request writes it.
    pub value: u64,
    /// When it began, in the time of histories.
    pub invoked: u64,
    /// When it ended.
    pub returned: Option<u64>,
    /// What was asked.
    pub ask: &'a Ask,
    /// What was answered.
    pub outcome: &'a Outcome,
}

/// The effect of a request: its version, its sum, and when it had happened at the latest.
pub type Effect = (Version, Option<u64>, u64);

/// A version that may expire, once and not before its time.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The version.
    pub version: Version,
    /// The first moment, in the time of histories.
    pub from: u64,
    /// The version of the deletion, and when that had happened at the latest. Nobody need know that it happened.
    pub deletion: Option<(Version, u64)>,
}

/// The requests that took effect because the values that they write were seen, whatever their clients were told. This is for
/// histories without additions, in which only the first attempt of a request has its value.
///
/// # Errors
/// A value that no request for the key writes, or that has two versions, and the attempt that saw it.
pub fn effects(attempts: &[Attempt<'_>]) -> Result<BTreeMap<usize, Effect>, (String, usize)> {
    let writers: BTreeMap<u64, usize> = attempts
        .iter()
        .filter(|attempt| attempt.index == attempt.first && attempt.ask.writes_value())
        .map(|attempt| (attempt.value, attempt.index))
        .collect();
    let mut effects: BTreeMap<usize, Effect> = BTreeMap::new();
    for attempt in attempts {
        let Outcome::Saw { value: Some(value), version } = attempt.outcome else { continue };
        let Some(returned) = attempt.returned else { continue };
        let Some(writer) = writers.get(value) else {
            return Err((format!("value {value} was read, which no request for the key writes"), attempt.index));
        };
        let known = effects.entry(*writer).or_insert_with(|| (version.clone(), None, returned));
        if known.0 != *version {
            return Err((
                format!("value {value} was read at version {} and at version {version}", known.0),
                attempt.index,
            ));
        }
        known.2 = known.2.min(returned);
    }
    Ok(effects)
}

/// The operations of one key, from the attempts at all its requests, and what may expire. Some requests are known to have
/// taken effect although nobody may have been told: `found` has them by their first attempt.
///
/// # Errors
/// The answer that no order of operations explains, and the first attempt of the request.
pub fn operations(
    attempts: &[Attempt<'_>],
    found: &BTreeMap<usize, Effect>,
    expiries: &[Expiry],
) -> Result<Vec<Operation>, (String, usize)> {
    let ranks = ranks(attempts, found, expiries);
    let rank = |version: &Version| ranks[version];
    let mut requests: BTreeMap<usize, Vec<Attempt<'_>>> = BTreeMap::new();
    for attempt in attempts {
        // Reads of one replica are judged apart: they may be old.
        if !matches!(attempt.ask, Ask::GetOne { .. }) {
            requests.entry(attempt.first).or_default().push(*attempt);
        }
    }
    let mut operations = Vec::new();
    for (first, attempts) in requests {
        add_request(&attempts, found.get(&first), &rank, &mut operations).map_err(|what| (what, first))?;
    }
    operations.extend(expiries.iter().map(|Expiry { version, from, deletion }| Operation {
        client: u32::MAX,
        invoked: *from,
        action: Action::Expire { version: rank(version) },
        ending: deletion.as_ref().map_or(Ending::Unknown, |(_, until)| Ending::Returned(*until)),
        version: deletion.as_ref().map(|(deletion, _)| rank(deletion)),
    }));
    Ok(operations)
}

/// Whether the history is linearizable. Requests of unknown outcome that led to any version told are known to have taken
/// effect. The others most likely did not, and the search is short without them, or with the few that told values need. It may
/// take `steps_of_doubt_max` with all of them.
#[must_use]
pub fn verdict(operations: &[Operation], steps_of_doubt_max: u64) -> Verdict {
    judge(operations, steps_of_doubt_max).0
}

/// The verdict, and the part of the history that it was found with: it leaves out operations that had no effect.
#[must_use]
pub fn judge(operations: &[Operation], steps_of_doubt_max: u64) -> (Verdict, Vec<Operation>) {
    let is_expiry = |operation: &Operation| {
        matches!(
            operation.action,
            Action::WriteIf { condition: checker::Condition::Value(_), .. } | Action::Expire { .. }
        )
    };
    let is_known = |operation: &&Operation| operation.ending != Ending::Unknown || is_expiry(operation);
    let is_likely = |operation: &&Operation| {
        is_known(operation) || !matches!(operation.action, Action::WriteIf { .. } | Action::Add { .. })
    };
    let known: Vec<Operation> = operations.iter().filter(is_known).copied().collect();
    if check(&known, steps_of_doubt_max) == Verdict::Linearizable {
        return (Verdict::Linearizable, known);
    }
    // An order proves the verdict: the operations that it leaves out may have had no effect. That none is found proves nothing.
    if let Some(order) = order_by_need(operations, steps_of_doubt_max.min(STEPS_MAX)) {
        return (Verdict::Linearizable, order);
    }
    let likely: Vec<Operation> = operations.iter().filter(is_likely).copied().collect();
    if check(&likely, STEPS_MAX) == Verdict::Linearizable {
        return (Verdict::Linearizable, likely);
    }
    (check(operations, steps_of_doubt_max), operations.to_vec())
}

/// Adds what the attempts of one request did. It may have taken effect although nobody was told: `found`.
#[allow(clippy::too_many_lines, reason = "one kind of answer after the other")]
fn add_request(
    attempts: &[Attempt<'_>],
    found: Option<&Effect>,
    rank: &impl Fn(&Version) -> u64,
    operations: &mut Vec<Operation>,
) -> Result<(), String> {
    let Attempt { client, invoked, ask, value, .. } = attempts[0];
    let mut effects: Vec<Effect> = found.cloned().into_iter().collect();
    // When it had taken effect at the latest, and may have done nothing at all.
    let (mut is_done_by, mut is_settled_by, mut told_sum) = (None, None, None);
    let mut declined: Vec<Operation> = Vec::new();
    let mut is_final = false;
    for done in attempts {
        let returned = done.returned.unwrap_or(u64::MAX);
        match done.outcome {
            Outcome::Saw { value, version } => {
                let (action, version) = (Action::Read { saw: *value }, known(version, rank));
                let ending = Ending::Returned(returned);
                operations.push(Operation { client, invoked, action, ending, version });
                return Ok(());
            }
            Outcome::Listed(named) => {
                let (action, version) = match named {
                    None => (Action::Read { saw: None }, None),
                    Some((Some(value), version)) => (Action::Read { saw: Some(*value) }, known(version, rank)),
                    Some((None, version)) => (Action::Look { has_value: true }, known(version, rank)),
                };
                let ending = Ending::Returned(returned);
                operations.push(Operation { client, invoked, action, ending, version });
                return Ok(());
            }
            Outcome::Read(value) => {
                let (action, ending) = (Action::Read { saw: *value }, Ending::Returned(returned));
                operations.push(Operation { client, invoked, action, ending, version: None });
                return Ok(());
            }
            Outcome::Looked { has_value } => {
                let (action, ending) = (Action::Look { has_value: *has_value }, Ending::Returned(returned));
                declined.push(Operation { client, invoked: done.invoked, action, ending, version: None });
                is_final |= is_last_word(done, attempts);
            }
            Outcome::Done => is_done_by = Some(returned),
            Outcome::Summed(sum) => (is_done_by, told_sum) = (Some(returned), Some(*sum)),
            Outcome::Refused => is_final = true,
            Outcome::Either => is_settled_by = Some(returned),
            Outcome::Wrote(version) => effects.push((version.clone(), None, returned)),
            Outcome::Added { sum, version } => effects.push((version.clone(), Some(*sum), returned)),
            Outcome::Declined { version, has_value } => {
                let holds = match ask {
                    Ask::SetIf { condition: Condition::Version(named), .. } => named == version,
                    Ask::SetIf { condition: Condition::Absent, .. } => !has_value,
                    Ask::SetIf { condition: Condition::Present, .. } => *has_value,
                    Ask::SetIf { condition: Condition::Among(named), .. } => *has_value && named.contains(version),
                    Ask::SetIf { condition: Condition::NotAmong { versions, needs_value }, .. } => {
                        if *has_value {
                            !versions.contains(version)
                        } else {
                            !needs_value
                        }
                    }
                    _ => false,
                };
                if holds {
                    return Err(format!("{ask:?} was declined where it holds, at {version}"));
                }
                is_final |= is_last_word(done, attempts);
                declined.push(Operation {
                    client,
                    invoked: done.invoked,
                    action: Action::Look { has_value: *has_value },
                    ending: Ending::Returned(returned),
                    version: known(version, rank),
                });
            }
            Outcome::Failed | Outcome::Unknown => {}
        }
    }
    if let Some((version, sum, _)) = effects.first()
        && effects.iter().any(|(other, other_sum, _)| (other, other_sum) != (version, sum))
    {
        return Err(format!("one request took effect as {effects:?}"));
    }
    if (!effects.is_empty() || is_done_by.is_some()) && is_final {
        return Err("a request that took effect was declined".to_owned());
    }
    operations.extend(declined);
    let all_failed = attempts.iter().all(|done| *done.outcome == Outcome::Failed);
    if all_failed && !effects.is_empty() {
        return Err(format!("a request that was certainly not applied took effect as {effects:?}"));
    }
    if ask.is_read() || all_failed || is_final {
        return Ok(());
    }
    let effect = effects.iter().min_by_key(|(.., until)| *until);
    let sum = effect.and_then(|(_, sum, _)| *sum).or(told_sum);
    let of_records = |versions: &[Version]| {
        versions.iter().filter(|version| !is_sealed_absence(version)).map(rank).collect::<Vec<_>>()
    };
    let ranked = |versions: &[Version]| checker::Versions::new(of_records(versions));
    let action = match ask {
        Ask::Get | Ask::GetOne { .. } | Ask::List { .. } => unreachable!("reads have no effect"),
        Ask::Set => Action::Write { value },
        Ask::Delete => Action::Delete,
        Ask::SetIf { condition, deletes } => {
            let condition = match condition {
                Condition::Version(version) if is_sealed_absence(version) => checker::Condition::Absent,
                Condition::Version(version) => checker::Condition::Version(rank(version)),
                Condition::Absent => checker::Condition::Absent,
                Condition::Present => checker::Condition::Present,
                Condition::Among(named) => checker::Condition::Among(ranked(named)),
                Condition::NotAmong { versions, needs_value } => {
                    checker::Condition::NotAmong { versions: ranked(versions), needs_value: *needs_value }
                }
            };
            Action::WriteIf { condition, value: Some(value).filter(|_| !deletes) }
        }
        Ask::Add { delta, .. } => Action::Add { delta: *delta, sum },
    };
    let version = effect.map(|(version, ..)| rank(version));
    let until = effect.map(|(.., until)| *until).into_iter().chain(is_done_by).min();
    let (action, until) = match (until, is_settled_by) {
        (None, Some(settled)) => (in_doubt(ask, value)?, Some(settled)),
        (until, _) => (action, until),
    };
    operations.push(Operation {
        client,
        invoked,
        action,
        ending: until.map_or(Ending::Unknown, Ending::Returned),
        version,
    });
    Ok(())
}

/// Whether a version is that of an absence in a slot that was sealed. It may change while nothing is written, and the version of
/// a record may follow that is below it.
fn is_sealed_absence(version: &Version) -> bool {
    version.stamp.is_none() && version.ballot.is_none() && version.stamp != crate::types::Stamp::none()
}

/// The number of a version, where its place among the others is known.
fn known(version: &Version, rank: &impl Fn(&Version) -> u64) -> Option<u64> {
    (!is_sealed_absence(version)).then(|| rank(version))
}

/// Whether an attempt that did nothing speaks of the whole request. A first attempt that its client has given up does not know of
/// those after it.
fn is_last_word(done: &Attempt<'_>, attempts: &[Attempt<'_>]) -> bool {
    done.first != done.index || attempts.iter().all(|other| other.index == done.index)
}

/// A request that was answered in a way that does not tell whether it did something.
fn in_doubt(ask: &Ask, value: u64) -> Result<Action, String> {
    match ask {
        Ask::Delete => Ok(Action::Remove),
        Ask::SetIf { condition: Condition::Absent, deletes: false } => Ok(Action::WriteNew { value }),
        _ => Err(format!("{ask:?} was answered as if it might have done nothing")),
    }
}

/// A number for each version of the history, in their order. The ids of the tables of one name rise.
fn ranks(attempts: &[Attempt<'_>], found: &BTreeMap<usize, Effect>, expiries: &[Expiry]) -> BTreeMap<Version, u64> {
    let mut versions = BTreeSet::from([Version::absent()]);
    versions.extend(found.values().map(|(version, ..)| version.clone()));
    for Expiry { version, deletion, .. } in expiries {
        versions.insert(version.clone());
        versions.extend(deletion.iter().map(|(deletion, _)| deletion.clone()));
    }
    for attempt in attempts {
        versions.extend(attempt.outcome.version().cloned());
        match attempt.ask {
            Ask::SetIf { condition: Condition::Version(version), .. } => {
                versions.insert(version.clone());
            }
            Ask::SetIf { condition: Condition::Among(named) | Condition::NotAmong { versions: named, .. }, .. } => {
                versions.extend(named.iter().cloned());
            }
            _ => {}
        }
    }
    let mut versions: Vec<Version> = versions.into_iter().collect();
    versions.sort_by_key(|version| version.table);
    versions.into_iter().zip(0..).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Clock, NodeId, Stamp};

    fn version(counter: u64) -> Version {
        let writer = NodeId::new("1").expect("this is an id");
        Version::new(Stamp { clock: Clock { epoch: 1, counter }, writer }, None)
    }

    fn attempt<'a>(index: usize, ask: &'a Ask, outcome: &'a Outcome) -> Attempt<'a> {
        let at = index as u64 * 10;
        Attempt {
            client: 0,
            index,
            first: index,
            value: index as u64,
            invoked: at,
            returned: Some(at + 5),
            ask,
            outcome,
        }
    }

    /// Too few for a search with many additions of unknown outcome.
    const STEPS_OF_DOUBT_MAX: u64 = 20_000;

    fn operation(action: Action, invoked: u64, ending: Ending) -> Operation {
        Operation { client: 0, invoked, action, ending, version: None }
    }

    fn added(delta: i64, sum: u64, invoked: u64) -> Operation {
        operation(Action::Add { delta, sum: Some(sum) }, invoked, Ending::Returned(invoked + 5))
    }

    fn read(saw: u64, invoked: u64) -> Operation {
        operation(Action::Read { saw: Some(saw) }, invoked, Ending::Returned(invoked + 5))
    }

    /// 22 additions whose clients were not told the outcome.
    fn open_additions() -> Vec<Operation> {
        let deltas = [107_i64, 40, 60].into_iter().chain((1..20).map(|n| 1_000 * n));
        let open = |(delta, invoked)| operation(Action::Add { delta, sum: None }, invoked, Ending::Unknown);
        deltas.zip(0..).map(open).collect()
    }

    #[test]
    fn few_of_many_additions_of_unknown_outcome_are_found_by_the_values_that_need_them() {
        // The first sum needs 107. The second one needs 40 and 60 as well.
        let told = [added(37, 144, 100), added(5, 249, 120), read(249, 140)];
        let history = [&open_additions()[..], &told].concat();
        assert_eq!(check(&history, STEPS_OF_DOUBT_MAX), Verdict::NoVerdict);
        assert_eq!(check(&told, STEPS_OF_DOUBT_MAX), Verdict::NotLinearizable);
        let (verdict, part) = judge(&history, STEPS_OF_DOUBT_MAX);
        assert_eq!(verdict, Verdict::Linearizable);
        let expected = [&history[..3], &told].concat();
        assert!(part.len() == expected.len() && expected.iter().all(|one| part.contains(one)), "{part:#?}");
        assert_eq!(check(&part, STEPS_OF_DOUBT_MAX), Verdict::Linearizable);
    }

    #[test]
    fn any_addition_of_unknown_outcome_may_explain_a_version_that_was_told_without_a_value() {
        let look = operation(Action::Look { has_value: true }, 100, Ending::Returned(105));
        let deleted = operation(Action::Delete, 110, Ending::Returned(115));
        let told = [Operation { version: Some(1), ..look }, deleted, added(37, 144, 120)];
        let history = [&open_additions()[..], &told].concat();
        assert_eq!(check(&history, STEPS_OF_DOUBT_MAX), Verdict::NoVerdict);
        let (verdict, part) = judge(&history, STEPS_OF_DOUBT_MAX);
        assert_eq!(verdict, Verdict::Linearizable);
        assert_eq!(part.len(), told.len() + 2, "{part:#?}");
    }

    #[test]
    fn additions_of_unknown_outcome_do_not_explain_a_value_that_they_do_not_lead_to() {
        let first = added(37, 144, 100);
        for (what, wrong) in [
            ("no addition leads to 245", added(5, 250, 120)),
            ("107 is added once", added(1, 252, 120)),
            ("nothing takes an addition back", read(107, 120)),
        ] {
            let few = [&open_additions()[..3], &[first, wrong]].concat();
            assert_eq!(judge(&few, STEPS_OF_DOUBT_MAX).0, Verdict::NotLinearizable, "{what}");
            let many = [&open_additions()[..], &[first, wrong]].concat();
            assert_ne!(judge(&many, STEPS_OF_DOUBT_MAX).0, Verdict::Linearizable, "{what}");
        }
        let late = operation(Action::Add { delta: 107, sum: None }, 106, Ending::Unknown);
        assert_eq!(judge(&[first, late], STEPS_OF_DOUBT_MAX).0, Verdict::NotLinearizable);
    }

    #[test]
    fn write_of_unknown_outcome_is_known_by_the_read_that_saw_it() {
        let seen = Outcome::Saw { value: Some(1), version: version(7) };
        let history = [attempt(1, &Ask::Set, &Outcome::Unknown), attempt(2, &Ask::Get, &seen)];
        assert_eq!(effects(&history), Ok(BTreeMap::from([(1, (version(7), None, 25))])));
    }

    #[test]
    fn value_of_nobody_and_value_of_two_versions_are_found() {
        let wrote = Outcome::Wrote(version(1));
        let (one, other) = (
            Outcome::Saw { value: Some(1), version: version(1) },
            Outcome::Saw { value: Some(1), version: version(2) },
        );
        let foreign = Outcome::Saw { value: Some(9), version: version(3) };
        let written = attempt(1, &Ask::Set, &wrote);
        let twice = effects(&[written, attempt(2, &Ask::Get, &one), attempt(3, &Ask::Get, &other)]);
        assert!(twice.is_err_and(|(what, at)| at == 3 && what.contains("and at version")));
        let of_nobody = effects(&[written, attempt(2, &Ask::Get, &foreign)]);
        assert!(of_nobody.is_err_and(|(what, at)| at == 2 && what.contains("no request")));
    }
}
