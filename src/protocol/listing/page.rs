//! One page: the answers of nodes, and what they say of each key.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{LISTED_KEYS_MAX, LISTED_KEYS_MIN};
use crate::mutants::rule;
use crate::protocol::context::Caller;
use crate::protocol::io::Time;
use crate::protocol::layout::Layout;
use crate::protocol::message::Refusal;
use crate::protocol::pages::ListPage;
use crate::protocol::quorum::Tally;
use crate::types::{Age, ClusterParameters, Digest, Key, NodeIndex, ScannedKeys};

use super::reading::{KeyState, ReadOf, Reading};

/// A page that is being gathered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Page {
    pub(super) caller: Caller,
    pub(super) deadline: Time,
    /// When its timer fires.
    pub(super) alarm: Time,
    /// How often its timer has fired.
    pub(super) times: u32,
    /// Enough nodes have answered. It waits until its timer fires for more, because some keys are not agreed.
    pub(super) awaits_more: bool,
    pub(super) asked_for: ListPage,
    /// How many configurations were adopted meanwhile. Answers to questions of an earlier round do not count.
    pub(super) round: u32,
    /// The nodes that must have answered.
    pub(super) required: BTreeSet<NodeIndex>,
    pub(super) answers: BTreeMap<NodeIndex, ScannedKeys>,
    pub(super) refusals: BTreeMap<NodeIndex, Refusal>,
    pub(super) stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Nodes are asked for their keys.
    Scan,
    /// Single keys are read.
    Read(Reading),
}

impl Page {
    pub(super) fn new(
        caller: Caller,
        deadline: Time,
        alarm: Time,
        asked_for: ListPage,
        required: BTreeSet<NodeIndex>,
    ) -> Self {
        Self {
            caller,
            deadline,
            alarm,
            times: 0,
            awaits_more: false,
            asked_for,
            required,
            round: 0,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            stage: Stage::Scan,
        }
    }

    /// The most keys that each node is asked for. Of a large cluster each node has a part of the keys of the page alone: it
    /// is asked for its share, and four times the deviation more.
    pub(super) fn scan_keys_max(&self, parameters: &ClusterParameters) -> usize {
        let keys = self.asked_for.keys_max.clamp(LISTED_KEYS_MIN, LISTED_KEYS_MAX);
        let share = (keys * parameters.replica_count).div_ceil(parameters.node_ids.len());
        keys.min(share + 4 * share.isqrt())
    }

    /// Takes the answer of a node. `false` where it is none to this page.
    pub(super) fn take(&mut self, from: NodeIndex, scanned: ScannedKeys) -> bool {
        let range = &self.asked_for.range;
        let is_wanted = matches!(self.stage, Stage::Scan) && !self.answers.contains_key(&from);
        let are_keys_of_range = scanned.keys.is_sorted_by(|(one, _), (next, _)| one < next)
            && scanned.keys.iter().all(|(key, _)| range.contains(key));
        let ends_after_them = scanned.looked_to.as_ref().is_none_or(|looked_to| {
            range.contains(looked_to) && scanned.keys.last().is_none_or(|(last, _)| last <= looked_to)
        });
        let is_answer = is_wanted && are_keys_of_range && ends_after_them;
        if is_answer {
            self.answers.insert(from, scanned);
        }
        is_answer
    }

    /// Whether `member` has not answered, and has not refused for good.
    pub(super) fn may_answer(&self, member: NodeIndex) -> bool {
        let has_refused = self.refusals.get(&member).is_some_and(|refusal| refusal.is_permanent());
        !has_refused && !self.answers.contains_key(&member)
    }

    pub(super) fn answered(&self) -> BTreeSet<NodeIndex> {
        self.answers.keys().copied().collect()
    }

    pub(super) fn has_required(&self) -> bool {
        self.required.iter().all(|member| self.answers.contains_key(member))
    }

    /// The keys that some answer names, and what is still to be read of them.
    pub(super) fn merge(&self, layout: &Layout) -> Reading {
        let mut looked_to = self.looked_to();
        let mut rest: Vec<(NodeIndex, &[(Key, Digest)])> =
            self.answers.iter().map(|(node, scanned)| (*node, &scanned.keys[..])).collect();
        let mut keys = Vec::new();
        let mut named: Vec<(NodeIndex, &Digest)> = Vec::new();
        while let Some(key) = rest.iter().filter_map(|(_, keys)| keys.first()).map(|(key, _)| key).min() {
            if looked_to.as_ref().is_some_and(|last| key > last) {
                break;
            }
            if keys.len() >= LISTED_KEYS_MAX {
                looked_to = keys.last().map(|(last, _): &(Key, KeyState)| last.clone());
                break;
            }
            named.clear();
            for (node, keys) in &mut rest {
                if let Some(((first, digest), others)) = keys.split_first()
                    && first == key
                {
                    named.push((*node, digest));
                    *keys = others;
                }
            }
            let slot = layout.slot(key);
            let replicas = layout.replicas(slot);
            let agreed = agreed(&named, &layout.tally(slot)).filter(|digest| self.is_bound_to(&named, digest));
            let state = match rule!(ListTakesGreatest, agreed, not named.iter().map(|(_, digest)| *digest).max()) {
                Some(digest) => self.settled(digest),
                None => KeyState::Wanted(ReadOf::Latest(self.tellers(&named, replicas))),
            };
            keys.push((key.clone(), state));
        }
        Reading::new(keys, looked_to, self.asked_for.keys_max, self.asked_for.values)
    }

    /// Whether no node in `required` named a greater record than this. A majority may come to hold that later, through
    /// replicas that are not in `required`.
    fn is_bound_to(&self, named: &[(NodeIndex, &Digest)], digest: &Digest) -> bool {
        let mut of_required = named.iter().filter(|(node, _)| self.required.contains(node));
        rule!(BoundListTakesMajority, of_required.all(|(_, other)| *other <= digest))
    }

    /// The replicas in `required` that named a key.
    fn tellers(&self, named: &[(NodeIndex, &Digest)], replicas: &[NodeIndex]) -> BTreeSet<NodeIndex> {
        let named = named.iter().map(|(node, _)| *node);
        named.filter(|node| self.required.contains(node) && replicas.contains(node)).collect()
    }

    /// The last key of the page: beyond it, some node has not looked.
    fn looked_to(&self) -> Option<Key> {
        let cut_off = || self.answers.values().filter_map(|scanned| scanned.looked_to.as_ref());
        rule!(ListBeyondShortestPage, cut_off().min(), not self.longest()).cloned()
    }

    /// The last key that the node looked at which looked furthest.
    #[cfg(feature = "mutants")]
    fn longest(&self) -> Option<&Key> {
        let is_one_whole = self.answers.values().any(|scanned| scanned.looked_to.is_none());
        let cut_off = self.answers.values().filter_map(|scanned| scanned.looked_to.as_ref());
        if is_one_whole { None } else { cut_off.max() }
    }

    /// The state of a key of which a majority named this digest.
    fn settled(&self, digest: &Digest) -> KeyState {
        match (digest.is_value, self.asked_for.values) {
            (false, _) => KeyState::absent(),
            (true, false) if digest.ttl.is_none() => KeyState::listed(digest.clone(), Age::NONE),
            // Scans show no ages: what is left of a time to live is told by a replica that has the record.
            (true, _) => KeyState::Wanted(ReadOf::Exactly(digest.clone())),
        }
    }
}

/// The digest that a quorum named.
fn agreed<'a>(named: &[(NodeIndex, &'a Digest)], tally: &Tally) -> Option<&'a Digest> {
    let holders = |wanted: &Digest| {
        let holders = named.iter().filter(|(_, digest)| *digest == wanted).map(|(node, _)| *node);
        tally.set_of(holders)
    };
    let mut candidates = named.iter().map(|(_, digest)| *digest);
    let first = candidates.next().filter(|digest| tally.is_quorum(holders(digest)));
    first.or_else(|| candidates.find(|digest| tally.is_quorum(holders(digest))))
}
