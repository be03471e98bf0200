//! A linearizability checker for one key: a register with reads, writes and deletes, conditional ones, and additions.
//!
//! Contract: a written value is unique within a history of plain reads, writes and deletes. An operation of unknown outcome
//! may have taken effect once, at any time after its invocation, or never. An operation that certainly failed never took
//! effect. A failed read constrains nothing. Times are any numbers that rise with real time; operations that share a number
//! are concurrent.
//!
//! Versions are optional: a number for each version that clients were told, so that numbers rise as versions do, and 0 for
//! the absence before the first write. Each effect has a version of its own, above those of all effects before it. Some
//! protocols tell no versions, and do not tell whether a write did something: these are [`Action::WriteNew`] and
//! [`Action::Remove`].
//!
//! The search is that of Wing and Gong (1993) with Lowe's memo of configurations (2017). These facts keep it short. If a read
//! that may come next sees the present state, it can come next. An operation with the smallest version left must come before
//! those with greater ones. An operation of unknown outcome is of use only where the next one needs its effect. And where
//! all values are unique, a write of unknown outcome can be left out if no read saw its value; otherwise it took effect
//! before that read ended. Only deletes, additions and conditional writes of unknown outcome stay open to the end.
//!
//! Many of these make the search long, and most of them had no effect. [`order_by_need`] tries the few that told values need.

pub mod requests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The steps after which [`check`] gives up, by default: some seconds.
pub const STEPS_MAX: u64 = 5_000_000;
/// The same for the few histories, with many operations of unknown outcome, that have no verdict before.
pub const HARD_STEPS_MAX: u64 = 40 * STEPS_MAX;

/// The request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A read. `saw` is its result, if it returned.
    Read {
        /// The value; `None` if there was none.
        saw: Option<u64>,
    },
    /// A write of this value.
    Write {
        /// The value.
        value: u64,
    },
    /// A delete.
    Delete,
    /// A write of a value, or a delete where there is none, that takes effect only where the condition holds.
    WriteIf {
        /// What must be true.
        condition: Condition,
        /// The value; `None` deletes.
        value: Option<u64>,
    },
    /// An addition to the value, where none counts as 0. `sum` is its result, if it returned.
    Add {
        /// What is added.
        delta: i64,
        /// The result.
        sum: Option<u64>,
    },
    /// A write of a value where there is none. Its client is told the same where there is one, and then nothing changes.
    WriteNew {
        /// The value.
        value: u64,
    },
    /// A delete of a value. Its client is told the same where there is none, and then there may or may not be a new version.
    Remove,
    /// The failure of a condition: it showed whether there was a value, and the version.
    Look {
        /// Whether there was a value.
        has_value: bool,
    },
    /// The cluster deletes exactly this version, because its time to live has passed.
    Expire {
        /// The version.
        version: u64,
    },
}

/// What must be true of the key for a conditional write to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key has this version.
    Version(u64),
    /// The key has this value, which no other write wrote.
    Value(u64),
    /// The key has no value.
    Absent,
    /// The key has a value.
    Present,
    /// The key has a value, of one of these versions.
    Among(Versions),
    /// The key has a value of none of these versions; or no value, unless one is needed.
    NotAmong {
        /// The versions.
        versions: Versions,
        /// Whether the key must have a value.
        needs_value: bool,
    },
}

/// A few versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    all: [u64; VERSIONS_MAX],
    count: usize,
}

/// The most versions of a condition.
pub const VERSIONS_MAX: usize = 4;

impl Versions {
    /// These versions.
    ///
    /// # Panics
    /// If there are more than [`VERSIONS_MAX`].
    #[must_use]
    pub fn new(versions: impl IntoIterator<Item = u64>) -> Self {
        let (mut all, mut count) = ([0; VERSIONS_MAX], 0);
        for version in versions {
            all[count] = version;
            count += 1;
        }
        Self { all, count }
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.all[..self.count]
    }
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
    /// The version that it saw or made, where its client was told.
    pub version: Option<u64>,
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

/// An order that explains every result of the history: the operations that took effect, and the reads. It leaves out operations
/// of unknown outcome, which may have had no effect.
///
/// An operation of unknown outcome is tried only where an operation that may come next needs the value that it leads to. One
/// more addition of unknown outcome may come between them. So an order may be missed: `None` does not say that there is none.
#[must_use]
pub fn order_by_need(history: &[Operation], steps_max: u64) -> Option<Vec<Operation>> {
    let steps = prepare(history)?;
    let mut search = Search { by_need: true, ..Search::new(&steps) };
    match search.run(steps_max) {
        Verdict::Linearizable => Some(search.path.iter().map(|placed| history[steps[placed.step].of]).collect()),
        Verdict::NotLinearizable | Verdict::NoVerdict => None,
    }
}

/// A smaller part of a history that is not linearizable, which is not linearizable either.
///
/// Leaving operations out never breaks the others: a write is left out together with the reads of its value. Conditional
/// writes and additions depend on others, so that only reads are left out beside them.
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
    let Operation { client, invoked, action, ending, version } = operation;
    let value = |value: &Option<u64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let what = match (action, ending) {
        (Action::Read { saw }, Ending::Returned(_)) => format!("read {}", value(saw)),
        (Action::Read { .. }, _) => "read".to_owned(),
        (Action::Write { value }, _) => format!("write {value}"),
        (Action::Delete, _) => "delete".to_owned(),
        (Action::WriteIf { condition, value: Some(value) }, _) => format!("write {value} if {condition:?}"),
        (Action::WriteIf { condition, value: None }, _) => format!("delete if {condition:?}"),
        (Action::WriteNew { value }, _) => format!("write {value} unless there is a value"),
        (Action::Remove, _) => "delete what there is".to_owned(),
        (Action::Add { delta, sum: Some(sum) }, Ending::Returned(_)) => format!("add {delta}, which gave {sum}"),
        (Action::Add { delta, .. }, _) => format!("add {delta}"),
        (Action::Look { has_value }, _) => {
            format!("failed condition, which showed {}", if *has_value { "a value" } else { "no value" })
        }
        (Action::Expire { version }, _) => format!("expiry of version {version}"),
    };
    let how = match ending {
        Ending::Returned(at) => format!("to {at}"),
        Ending::Failed => "failed".to_owned(),
        Ending::Unknown => "outcome unknown".to_owned(),
    };
    let version = version.map_or_else(String::new, |version| format!(" at version {version}"));
    format!("client {client}: from {invoked} {how}: {what}{version}")
}

fn returned(operation: &Operation) -> Option<u64> {
    match operation.ending {
        Ending::Returned(at) => Some(at),
        Ending::Failed | Ending::Unknown => None,
    }
}

/// Whether all operations are plain reads, writes and deletes.
fn is_plain(history: &[Operation]) -> bool {
    history.iter().all(|op| matches!(op.action, Action::Read { .. } | Action::Write { .. } | Action::Delete))
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
    if !is_plain(history) {
        let is_read = |op: &Operation| matches!(op.action, Action::Read { .. } | Action::Look { .. });
        return (0..history.len()).filter(|i| is_read(&history[*i])).map(|i| BTreeSet::from([i])).collect();
    }
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
            _ => {
                groups.push(BTreeSet::from([i]));
            }
        }
    }
    groups.extend(values.into_values());
    groups
}

/// An operation in the form that the search uses.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The index of the operation in the history.
    of: usize,
    from: u64,
    /// `u64::MAX` if it may never take effect.
    to: u64,
    does: Does,
    version: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    See(Option<u64>),
    Look(bool),
    Set(Option<u64>),
    SetIf(Condition, Option<u64>),
    SetNew(u64),
    Remove,
    Add(i64, Option<u64>),
}

const NEVER: u64 = u64::MAX;

/// What the key has after some operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    value: Option<u64>,
    /// The greatest version known so far.
    version: u64,
    /// How it relates to that of the value, which may be unknown until it is seen.
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    /// It is that of the value.
    Exactly,
    /// That of the value is greater.
    Above,
    /// That of the value is the same, or greater.
    AtLeast,
}

impl State {
    const FIRST: Self = Self { value: None, version: 0, told: Told::Exactly };

    /// Whether the value may have this version.
    fn may_be(self, version: u64) -> bool {
        match self.told {
            Told::Exactly => version == self.version,
            Told::Above => version > self.version,
            Told::AtLeast => version >= self.version,
        }
    }

    /// The state where this version is seen of it; `None` if it has another one.
    fn showing(self, version: Option<u64>) -> Option<Self> {
        match version {
            None => Some(self),
            Some(version) => self.may_be(version).then_some(Self { version, told: Told::Exactly, ..self }),
        }
    }

    /// The state after an effect; `None` if the version does not rise.
    fn becoming(self, value: Option<u64>, version: Option<u64>) -> Option<Self> {
        match version {
            None => Some(Self { value, told: Told::Above, ..self }),
            Some(version) => (version > self.version).then_some(Self { value, version, told: Told::Exactly }),
        }
    }

    /// The state in which a condition on versions holds. Where several may be that of the value, the least asks the least of
    /// what follows.
    fn among(self, versions: &Versions) -> Option<Self> {
        let least = versions.as_slice().iter().filter(|version| self.may_be(**version)).min();
        self.value.and(least).and_then(|version| self.showing(Some(*version)))
    }

    /// Whether the value may have another version than these.
    fn may_be_none_of(self, versions: &Versions) -> bool {
        self.told != Told::Exactly || !versions.as_slice().contains(&self.version)
    }

    /// The state after `step`; `None` if that cannot come next.
    fn after(self, step: &Step) -> Option<Self> {
        match step.does {
            Does::See(value) => self.showing(step.version).filter(|_| value == self.value),
            Does::Look(has_value) => self.showing(step.version).filter(|_| has_value == self.value.is_some()),
            Does::Set(value) => self.becoming(value, step.version),
            Does::SetIf(condition, value) => {
                let base = match condition {
                    Condition::Version(version) => self.showing(Some(version))?,
                    Condition::Value(value) if self.value == Some(value) => self,
                    Condition::Absent if self.value.is_none() => self,
                    Condition::Present if self.value.is_some() => self,
                    Condition::Among(versions) => self.among(&versions)?,
                    Condition::NotAmong { needs_value, .. } if self.value.is_none() && !needs_value => self,
                    Condition::NotAmong { versions, .. } if self.value.is_some() && self.may_be_none_of(&versions) => {
                        self
                    }
                    Condition::Value(_) | Condition::Absent | Condition::Present | Condition::NotAmong { .. } => {
                        return None;
                    }
                };
                base.becoming(value, step.version)
            }
            Does::SetNew(_) if self.value.is_some() => Some(self),
            Does::SetNew(value) => self.becoming(Some(value), None),
            // A tombstone may have been written above another one.
            Does::Remove if self.value.is_none() => {
                let told = if self.told == Told::Exactly { Told::AtLeast } else { self.told };
                Some(Self { told, ..self })
            }
            Does::Remove => self.becoming(None, None),
            Does::Add(delta, sum) => {
                let is = self.value.unwrap_or_default().wrapping_add_signed(delta);
                if sum.is_some_and(|sum| sum != is) { None } else { self.becoming(Some(is), step.version) }
            }
        }
    }
}

/// Drops operations without constraints, and bounds those that can be bounded. `None` if a read saw a value that no write can
/// have written before.
fn prepare(history: &[Operation]) -> Option<Vec<Step>> {
    let is_plain = is_plain(history);
    let mut first_seen: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in history.iter().filter(|_| is_plain) {
        if let (Action::Read { saw: Some(value) }, Ending::Returned(at)) = (operation.action, operation.ending) {
            let seen = first_seen.entry(value).or_insert(at);
            *seen = at.min(*seen);
        }
    }
    let mut written = BTreeSet::new();
    let mut steps = Vec::with_capacity(history.len());
    for (of, Operation { invoked, action, ending, version, .. }) in history.iter().copied().enumerate() {
        let (end, version) = match ending {
            Ending::Returned(at) => (at, version),
            Ending::Unknown => (NEVER, None),
            Ending::Failed => continue,
        };
        let (does, to) = match action {
            Action::Read { .. } | Action::Look { .. } if end == NEVER => continue,
            Action::Read { saw } => (Does::See(saw), end),
            Action::Look { has_value } => (Does::Look(has_value), end),
            Action::Delete => (Does::Set(None), end),
            Action::WriteIf { condition, value } => (Does::SetIf(condition, value), end),
            Action::WriteNew { value } => (Does::SetNew(value), end),
            Action::Remove => (Does::Remove, end),
            Action::Expire { version } => (Does::SetIf(Condition::Version(version), None), end),
            Action::Add { delta, sum } => (Does::Add(delta, sum.filter(|_| end != NEVER)), end),
            Action::Write { value } if is_plain => {
                assert!(written.insert(value), "value {value} is written twice: values must be unique");
                let seen = first_seen.get(&value).copied();
                if end == NEVER && seen.is_none() {
                    continue;
                }
                (Does::Set(Some(value)), seen.map_or(end, |seen| seen.min(end)))
            }
            Action::Write { value } => (Does::Set(Some(value)), end),
        };
        if to < invoked {
            // A read saw the value before the write began.
            return None;
        }
        steps.push(Step { of, from: invoked, to, does, version });
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
    /// The steps that have a version, in the order of versions.
    by_version: Vec<usize>,
    /// All before this index into `by_version` are placed.
    low_version: usize,
    /// The number of steps that must still be placed.
    left: usize,
    state: State,
    /// The steps placed so far, for backtracking.
    path: Vec<Placed>,
    seen: HashSet<(Vec<u64>, State, bool)>,
    /// Whether steps that may never take effect are tried only where their values are needed.
    by_need: bool,
}

struct Placed {
    step: usize,
    state_before: State,
    low_before: usize,
    low_version_before: usize,
    /// The alternatives at this point.
    others: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let left = steps.iter().filter(|step| step.to != NEVER).count();
        let placed = vec![0; steps.len().div_ceil(64)];
        let mut by_version: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].version.is_some()).collect();
        by_version.sort_by_key(|i| steps[*i].version);
        let (path, seen) = (Vec::new(), HashSet::new());
        let (state, by_need) = (State::FIRST, false);
        Self { steps, placed, low: 0, by_version, low_version: 0, left, state, path, seen, by_need }
    }

    fn run(&mut self, steps_max: u64) -> Verdict {
        let mut candidates = self.candidates();
        for _ in 0..steps_max {
            if self.left == 0 {
                return Verdict::Linearizable;
            }
            if let Some(step) = candidates.pop() {
                self.place(step, candidates);
                let new = self.seen.insert((self.placed.clone(), self.state, self.may_be_in_vain()));
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

    /// Whether the last step placed may never have taken effect: it is of use only if the next one needs its effect.
    fn may_be_in_vain(&self) -> bool {
        self.path.last().is_some_and(|last| self.steps[last.step].to == NEVER)
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
        let least = self.by_version.get(self.low_version).and_then(|i| self.steps[*i].version);
        may_stand.retain(|i| {
            let step = &self.steps[*i];
            step.from <= first_end && (step.version.is_none() || step.version == least)
        });
        if let Some(read) = may_stand.iter().find(|i| {
            matches!(self.steps[**i].does, Does::See(_) | Does::Look(_))
                && self.state.after(&self.steps[**i]) == Some(self.state)
        }) {
            return vec![*read];
        }
        if self.by_need {
            self.drop_unneeded(&mut may_stand);
        }
        // A delete that may never take effect is of use only directly before a step that needs an absence. The earliest one
        // serves as well as any other.
        let needs_absence = |step: &Step| match step.does {
            Does::See(value) => value.is_none(),
            Does::Look(has_value) => !has_value,
            Does::Set(_) => false,
            Does::SetIf(..) | Does::SetNew(_) | Does::Remove | Does::Add(..) => true,
        };
        let mut open_deletes = usize::from(may_stand.iter().any(|i| needs_absence(&self.steps[*i])));
        let in_vain = self.may_be_in_vain();
        may_stand.retain(|i| {
            let step = &self.steps[*i];
            if in_vain && matches!(step.does, Does::Set(_)) || self.state.after(step).is_none() {
                return false;
            }
            !matches!(step, Step { does: Does::Set(None), to: NEVER, .. }) || std::mem::take(&mut open_deletes) > 0
        });
        may_stand.sort_by_key(|i| std::cmp::Reverse(self.steps[*i].to));
        may_stand
    }

    /// Drops the steps that may never take effect and lead to a value that nothing needs. A step that may come next needs a
    /// value at once, or after one more open addition. Steps that lead to an absence stay.
    fn drop_unneeded(&self, may_stand: &mut Vec<usize>) {
        let (mut needed, mut open_additions) = (BTreeSet::<u64>::new(), Vec::new());
        for i in may_stand.iter().copied() {
            let step = &self.steps[i];
            match step.does {
                Does::Add(delta, _) if step.to == NEVER => open_additions.push((i, delta)),
                _ if step.to == NEVER || self.state.after(step).is_some() => {}
                Does::See(Some(value)) => needed.extend([value]),
                Does::Add(delta, Some(sum)) => needed.extend([sum.wrapping_add_signed(delta.wrapping_neg())]),
                // Any value serves.
                Does::Look(true) | Does::SetIf(Condition::Present, _) => return,
                _ => {}
            }
        }
        may_stand.retain(|i| {
            let step = &self.steps[*i];
            let serves = |value: u64| {
                let mut others = open_additions.iter().filter(|(other, _)| other != i);
                needed.contains(&value) || others.any(|(_, delta)| needed.contains(&value.wrapping_add_signed(*delta)))
            };
            step.to != NEVER || self.state.after(step).and_then(|after| after.value).is_none_or(serves)
        });
    }

    fn place(&mut self, step: usize, others: Vec<usize>) {
        self.path.push(Placed {
            step,
            state_before: self.state,
            low_before: self.low,
            low_version_before: self.low_version,
            others,
        });
        self.placed[step / 64] |= 1 << (step % 64);
        self.left -= usize::from(self.steps[step].to != NEVER);
        self.state = self.state.after(&self.steps[step]).expect("only a step that may come next is placed");
        while self.low < self.steps.len() && self.is_placed(self.low) {
            self.low += 1;
        }
        while self.by_version.get(self.low_version).is_some_and(|i| self.is_placed(*i)) {
            self.low_version += 1;
        }
    }

    fn backtrack(&mut self) -> Option<Vec<usize>> {
        let Placed { step, state_before, low_before, low_version_before, others } = self.path.pop()?;
        self.placed[step / 64] &= !(1 << (step % 64));
        self.left += usize::from(self.steps[step].to != NEVER);
        self.state = state_before;
        self.low = low_before;
        self.low_version = low_version_before;
        Some(others)
    }

    fn is_placed(&self, step: usize) -> bool {
        self.placed[step / 64] & (1 << (step % 64)) != 0
    }
}
