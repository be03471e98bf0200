//! A linearizability checker for one key: a register with read, write and delete.
//!
//! Contract: every written value is unique within the history. An operation of unknown outcome may have taken effect at any
//! time after its invocation, or never. An operation that certainly failed never took effect. A failed read constrains
//! nothing. Times are any numbers that rise with real time; operations that share a number are concurrent.
//!
//! The search is that of Wing and Gong (1993) with Lowe's memo of configurations (2017). Two facts about registers keep it
//! short. If a read that may come next sees the present value, it can come next. And since values are unique, a write of
//! unknown outcome can be left out if no read saw its value; otherwise it took effect before that read ended. Only deletes of
//! unknown outcome stay open to the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The steps after which [`check`] gives up, by default: some seconds.
pub const STEPS_MAX: u64 = 5_000_000;

/// The request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A read. `saw` is its result, if it returned.
    Read { saw: Option<u64> },
    /// A write of this value. No other write of the history has the same value.
    Write { value: u64 },
    /// A delete.
    Delete,
}

/// The outcome as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It succeeded at this time.
    Returned(u64),
    /// A read failed, or a write or delete certainly did not happen.
    Failed,
    /// It may have happened, or may still happen.
    Unknown,
}

/// One operation of one client on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client's number.
    pub client: u32,
    /// The time of its invocation.
    pub invoked: u64,
    /// The request.
    pub action: Action,
    /// The outcome.
    pub ending: Ending,
}

/// The result of a check.
#[allow(clippy::enum_variant_names, reason = "no verdict is what it says")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order of the operations explains every result.
    Linearizable,
    /// No order does.
    NotLinearizable,
    /// The search used up its steps. This counts as a failure.
    NoVerdict,
}

/// Checks whether the history of one key is linearizable. At its beginning the key has no value.
#[must_use]
pub fn check(history: &[Operation], steps_max: u64) -> Verdict {
    match prepare(history) {
        Some(steps) => Search::new(&steps).run(steps_max),
        None => Verdict::NotLinearizable,
    }
}

/// A smaller part of a history that is not linearizable, which is not linearizable either.
///
/// Leaving operations out never breaks the others: a write is left out together with the reads of its value.
#[must_use]
pub fn shorten(history: &[Operation], steps_max: u64) -> Vec<Operation> {
    let fails = |part: &[Operation]| check(part, steps_max) == Verdict::NotLinearizable;
    let mut ends: Vec<u64> = history.iter().filter_map(returned).collect();
    ends.sort_unstable();
    // Every prefix of a linearizable history is linearizable, so that the shortest bad prefix can be bisected.
    let first_bad = ends.partition_point(|end| !fails(&beginning(history, *end)));
    let mut kept = ends.get(first_bad).map_or_else(|| history.to_vec(), |end| beginning(history, *end));
    loop {
        let smaller = groups(&kept).into_iter().rev().find_map(|group| {
            let rest: Vec<Operation> =
                kept.iter().enumerate().filter(|(i, _)| !group.contains(i)).map(|(_, op)| *op).collect();
            fails(&rest).then_some(rest)
        });
        match smaller {
            Some(smaller) => kept = smaller,
            None => return kept,
        }
    }
}

/// One operation in words, for the report of a failed run.
#[must_use]
pub fn describe(operation: &Operation) -> String {
    let Operation { client, invoked, action, ending } = operation;
    let value = |value: Option<u64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let what = match (action, ending) {
        (Action::Read { saw }, Ending::Returned(_)) => format!("read {}", value(*saw)),
        (Action::Read { .. }, _) => "read".to_owned(),
        (Action::Write { value }, _) => format!("write {value}"),
        (Action::Delete, _) => "delete".to_owned(),
    };
    let how = match ending {
        Ending::Returned(at) => format!("to {at}"),
        Ending::Failed => "failed".to_owned(),
        Ending::Unknown => "outcome unknown".to_owned(),
    };
    format!("client {client}: from {invoked} {how}: {what}")
}

fn returned(operation: &Operation) -> Option<u64> {
    match operation.ending {
        Ending::Returned(at) => Some(at),
        Ending::Failed | Ending::Unknown => None,
    }
}

/// The history as it was known at the time `end`.
fn beginning(history: &[Operation], end: u64) -> Vec<Operation> {
    let cut = |operation: &Operation| match operation.ending {
        Ending::Returned(at) if at > end => Operation { ending: Ending::Unknown, ..*operation },
        _ => *operation,
    };
    history.iter().filter(|operation| operation.invoked <= end).map(cut).collect()
}

/// Sets of operations that may be left out together.
fn groups(history: &[Operation]) -> Vec<BTreeSet<usize>> {
    let mut values: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    let mut groups = Vec::new();
    let last_nothing =
        history.iter().filter(|operation| operation.action == Action::Read { saw: None }).filter_map(returned).max();
    for (i, operation) in history.iter().enumerate() {
        match operation.action {
            Action::Write { value } => {
                values.entry(value).or_default().insert(i);
            }
            Action::Read { saw } => {
                if let Some(value) = saw {
                    values.entry(value).or_default().insert(i);
                }
                groups.push(BTreeSet::from([i]));
            }
            // A later read of nothing may be the effect of this delete.
            Action::Delete if last_nothing.is_some_and(|end| end >= operation.invoked) => {}
            Action::Delete => groups.push(BTreeSet::from([i])),
        }
    }
    groups.extend(values.into_values());
    groups
}

/// An operation in the form that the search uses.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: u64,
    /// `u64::MAX` if it may never take effect.
    to: u64,
    does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    See(Option<u64>),
    Set(Option<u64>),
}

const NEVER: u64 = u64::MAX;

/// Drops operations without constraints, and bounds those that can be bounded. `None` if a read saw a value that no write can
/// have written before.
fn prepare(history: &[Operation]) -> Option<Vec<Step>> {
    let mut first_seen: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in history {
        if let (Action::Read { saw: Some(value) }, Ending::Returned(at)) = (operation.action, operation.ending) {
            let seen = first_seen.entry(value).or_insert(at);
            *seen = at.min(*seen);
        }
    }
    let mut written = BTreeSet::new();
    let mut steps = Vec::with_capacity(history.len());
    for Operation { invoked, action, ending, .. } in history.iter().copied() {
        let (does, to) = match (action, ending) {
            (Action::Read { .. }, Ending::Failed | Ending::Unknown) => continue,
            (Action::Write { .. } | Action::Delete, Ending::Failed) => continue,
            (Action::Read { saw }, Ending::Returned(at)) => (Does::See(saw), at),
            (Action::Delete, Ending::Returned(at)) => (Does::Set(None), at),
            (Action::Delete, Ending::Unknown) => (Does::Set(None), NEVER),
            (Action::Write { value }, Ending::Returned(at)) => {
                assert!(written.insert(value), "value {value} is written twice: values must be unique");
                (Does::Set(Some(value)), first_seen.get(&value).map_or(at, |seen| at.min(*seen)))
            }
            (Action::Write { value }, Ending::Unknown) => {
                assert!(written.insert(value), "value {value} is written twice: values must be unique");
                let Some(seen) = first_seen.get(&value) else { continue };
                (Does::Set(Some(value)), *seen)
            }
        };
        if to < invoked {
            // A read saw the value before the write began.
            return None;
        }
        steps.push(Step { from: invoked, to, does });
    }
    if first_seen.keys().any(|value| !written.contains(value)) {
        return None;
    }
    steps.sort_by_key(|step| (step.from, step.to));
    Some(steps)
}

/// A depth-first search for an order, one operation after the other.
struct Search<'a> {
    steps: &'a [Step],
    placed: Vec<u64>,
    /// All steps before this index are placed.
    low: usize,
    /// The number of steps that must still be placed.
    left: usize,
    value: Option<u64>,
    /// The steps placed so far, for backtracking.
    path: Vec<Placed>,
    seen: HashSet<(Vec<u64>, Option<u64>)>,
}

struct Placed {
    step: usize,
    value_before: Option<u64>,
    low_before: usize,
    /// The alternatives at this point.
    others: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let left = steps.iter().filter(|step| step.to != NEVER).count();
        let placed = vec![0; steps.len().div_ceil(64)];
        Self { steps, placed, low: 0, left, value: None, path: Vec::new(), seen: HashSet::new() }
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut candidates = self.candidates();
        for _ in 0..steps_max {
            if self.left == 0 {
                return Verdict::Linearizable;
            }
            if let Some(step) = candidates.pop() {
                self.place(step, candidates);
                let new = self.seen.insert((self.placed.clone(), self.value));
                candidates = if new { self.candidates() } else { Vec::new() };
            } else {
                match self.backtrack() {
                    Some(others) => candidates = others,
                    None => return Verdict::NotLinearizable,
                }
            }
        }
        Verdict::NoVerdict
    }

    /// The steps that may come next, the most promising last.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = NEVER;
        let mut may_stand = Vec::new();
        for i in (self.low..self.steps.len()).filter(|i| !self.is_placed(*i)) {
            let step = &self.steps[i];
            if step.from > first_end {
                break;
            }
            first_end = first_end.min(step.to);
            may_stand.push(i);
        }
        may_stand.retain(|i| self.steps[*i].from <= first_end);
        if let Some(read) = may_stand.iter().find(|i| self.steps[**i].does == Does::See(self.value)) {
            return vec![*read];
        }
        let sees_nothing = may_stand.iter().any(|i| self.steps[*i].does == Does::See(None));
        // A delete that may never take effect is of use only directly before a read of nothing. The earliest one serves as
        // well as any other.
        let mut open_deletes = usize::from(sees_nothing);
        may_stand.retain(|i| match self.steps[*i] {
            Step { does: Does::See(_), .. } => false,
            Step { to: NEVER, .. } => std::mem::take(&mut open_deletes) > 0,
            Step { .. } => true,
        });
        may_stand.sort_by_key(|i| std::cmp::Reverse(self.steps[*i].to));
        may_stand
    }

    fn place(&mut self, step: usize, others: Vec<usize>) {
        self.path.push(Placed { step, value_before: self.value, low_before: self.low, others });
        self.placed[step / 64] |= 1 << (step % 64);
        self.left -= usize::from(self.steps[step].to != NEVER);
        if let Does::Set(value) = self.steps[step].does {
            self.value = value;
        }
        while self.low < self.steps.len() && self.is_placed(self.low) {
            self.low += 1;
        }
    }

    fn backtrack(&mut self) -> Option<Vec<usize>> {
        let Placed { step, value_before, low_before, others } = self.path.pop()?;
        self.placed[step / 64] &= !(1 << (step % 64));
        self.left += usize::from(self.steps[step].to != NEVER);
        self.value = value_before;
        self.low = low_before;
        Some(others)
    }

    fn is_placed(&self, step: usize) -> bool {
        self.placed[step / 64] & (1 << (step % 64)) != 0
    }
}
