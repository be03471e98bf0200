//! The verdict on the histories of a judged load, by the checker that the tests use.

use super::round::Done;
use crate::checker::requests::{self, Attempt};
use crate::checker::{HARD_STEPS_MAX, Operation, STEPS_MAX, Verdict, describe, shorten};

/// What was judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Judged {
    /// The keys, each with a history of its own.
    pub(in crate::cli) keys: u64,
    /// The histories that no order of operations explains.
    pub(in crate::cli) wrong: Vec<Wrong>,
    /// The keys whose histories have no verdict: the checker gave up.
    pub(in crate::cli) undecided: Vec<String>,
    /// Answers that no node may give, whatever the order.
    pub(in crate::cli) defects: Vec<String>,
    /// The keys that nobody could read at the end. What they have is not judged.
    pub(in crate::cli) unread: u64,
    /// The keys that could not be removed. Their values expire.
    pub(in crate::cli) left_behind: u64,
}

/// A history that is not linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Wrong {
    pub(in crate::cli) key: String,
    /// What is wrong, in a sentence.
    pub(in crate::cli) what: String,
    /// The operations that cannot be put into an order, by the time of their call.
    pub(in crate::cli) operations: Vec<String>,
}

impl Judged {
    pub(super) fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.wrong.extend(other.wrong);
        self.undecided.extend(other.undecided);
        self.defects.extend(other.defects);
        self.unread += other.unread;
        self.left_behind += other.left_behind;
    }

    pub(in crate::cli) fn is_linearizable(&self) -> bool {
        self.wrong.is_empty() && self.undecided.is_empty() && self.defects.is_empty()
    }
}

/// Judges the history of each key.
pub(super) fn judge(histories: Vec<(String, Vec<Done>)>) -> Judged {
    let mut judged = Judged::default();
    for (key, history) in histories {
        judged.keys += 1;
        match verdict(&history) {
            Ok(Verdict::Linearizable) => {}
            Ok(Verdict::NoVerdict) => judged.undecided.push(key),
            Ok(Verdict::NotLinearizable) => judged.wrong.push(smallest(key, &history)),
            Err((what, index)) => {
                let operations = history.iter().filter(|done| done.index == index).map(|done| format!("{done:?}"));
                judged.wrong.push(Wrong { key, what, operations: operations.collect() });
            }
        }
    }
    judged
}

fn verdict(history: &[Done]) -> Result<Verdict, (String, usize)> {
    let operations = operations(history)?;
    let (verdict, _) = requests::judge(&operations, STEPS_MAX);
    Ok(if verdict == Verdict::NoVerdict { requests::verdict(&operations, HARD_STEPS_MAX) } else { verdict })
}

fn operations(history: &[Done]) -> Result<Vec<Operation>, (String, usize)> {
    let attempts: Vec<Attempt<'_>> = history.iter().map(Done::attempt).collect();
    let found = requests::effects(&attempts)?;
    requests::operations(&attempts, &found, &[])
}

/// The smallest part of a history that is wrong.
fn smallest(key: String, history: &[Done]) -> Wrong {
    let mut shorter = operations(history).map(|operations| shorten(&operations, STEPS_MAX)).unwrap_or_default();
    shorter.sort_by_key(|operation| operation.invoked);
    let what = "no order of these operations explains their answers; times are in microseconds".to_owned();
    Wrong { key, what, operations: shorter.iter().map(describe).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::requests::{Ask, Outcome};
    use crate::types::{Clock, Condition, NodeId, Stamp, Version};

    fn version(counter: u64) -> Version {
        let writer = NodeId::new("1").expect("this is an id");
        Version::new(Stamp { clock: Clock { epoch: 1, counter }, writer }, None)
    }

    fn done(index: usize, ask: Ask, outcome: Outcome) -> Done {
        let invoked = index as u64 * 10;
        Done { client: 0, index, invoked, returned: Some(invoked + 5), ask, outcome }
    }

    fn saw(index: usize, value: Option<u64>, counter: u64) -> Done {
        done(index, Ask::Get, Outcome::Saw { value, version: version(counter) })
    }

    fn of(history: &[Done]) -> Judged {
        judge(vec![("k".to_owned(), history.to_vec())])
    }

    #[test]
    fn history_in_order_is_linearizable_and_unknown_outcomes_may_be_either() {
        let wrote = done(1, Ask::Set, Outcome::Wrote(version(1)));
        let maybe = done(2, Ask::Set, Outcome::Unknown);
        for (value, counter) in [(1, 1), (2, 2)] {
            let judged = of(&[wrote.clone(), maybe.clone(), saw(3, Some(value), counter)]);
            assert!(judged.is_linearizable() && judged.keys == 1, "{judged:?}");
        }
    }

    #[test]
    fn lost_write_is_wrong_and_its_smallest_history_is_told() {
        let history = [
            done(1, Ask::Set, Outcome::Wrote(version(1))),
            saw(2, Some(1), 1),
            done(3, Ask::Set, Outcome::Wrote(version(2))),
            saw(4, Some(1), 1),
        ];
        let judged = of(&history);
        assert!(!judged.is_linearizable());
        let [wrong] = &judged.wrong[..] else { panic!("{judged:?}") };
        let told = wrong.operations.join("\n");
        assert!(told.contains("write 3") && told.contains("read 1") && wrong.operations.len() < 4, "{told}");
    }

    #[test]
    fn condition_that_held_and_was_declined_is_wrong() {
        let condition = Condition::Version(version(1));
        let declined = Outcome::Declined { version: version(1), has_value: true };
        let history = [
            done(1, Ask::Set, Outcome::Wrote(version(1))),
            done(2, Ask::SetIf { condition, deletes: false }, declined),
        ];
        let judged = of(&history);
        assert!(judged.wrong[0].what.contains("declined where it holds"), "{judged:?}");
    }

    #[test]
    fn value_that_nobody_wrote_is_wrong() {
        let judged = of(&[saw(1, Some(77), 3)]);
        assert!(judged.wrong[0].what.contains("value 77 was read, which no request"), "{judged:?}");
    }
}
