//! How far a node has taken over the slots that it gains: the state of `copying`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::mutants::rule;
use crate::protocol::io::Time;
use crate::protocol::layout::Layout;
use crate::protocol::message::OperationId;
use crate::protocol::placement::ReplicaSet;
use crate::protocol::quorum::Tally;
use crate::types::{Clock, Key, NodeIndex, Slot, TableId, TakenOver};

use super::messages::{Progress, TakeoverPage};

/// What a node takes over under one configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Takeover {
    /// The questions of this part; drawn with the first one.
    pub(super) id: Option<OperationId>,
    /// The number of the question. Answers to earlier ones do not count.
    pub(super) round: u32,
    pub(super) step: Step,
    /// Everything up to here is there.
    pub(super) up_to: Option<(Slot, Key)>,
    /// The slots that it takes over, ascending.
    pub(super) slots: Arc<[Slot]>,
    /// One for each set of old replicas that any of these slots has.
    pub(super) groups: Vec<Slot>,
    /// Whether the floors are durable.
    pub(super) knows_floors: bool,
    /// The number of the last task. It never falls, so that no key is taken for another one that was read under an earlier
    /// configuration.
    pub(super) last_task: u64,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    /// When questions are asked again, or keys are tried again.
    pub(super) again_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Asks for the floors.
    Floors(BTreeMap<NodeIndex, ToldFloors>),
    /// The floors are on their way to the disk.
    KeepFloors,
    /// Asks for a page of records.
    List(BTreeMap<NodeIndex, TakeoverPage>),
    /// Brings the keys of a page here.
    Copy {
        keys: VecDeque<Key>,
        in_flight: BTreeMap<u64, Key>,
        /// The end of the page; absent in the last one.
        page_end: Option<(Slot, Key)>,
    },
    /// That everything is there is on its way to the disk.
    KeepEnd,
    /// Everything is there, or nothing had to be.
    Complete,
}

/// What an old replica has told of its floors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ToldFloors {
    pub(super) fence: Option<Clock>,
    /// It has told the dropped tables up to this one.
    pub(super) up_to: TableId,
    /// Whether it has told all.
    pub(super) is_whole: bool,
}

impl ToldFloors {
    /// It tells a further part.
    pub(super) fn hear(&mut self, fence: Option<Clock>, last: Option<TableId>, has_more: bool) {
        self.fence = self.fence.max(fence);
        self.up_to = last.map_or(self.up_to, |last| last.max(self.up_to));
        self.is_whole |= !has_more;
    }
}

impl Takeover {
    /// What `me` has to take over under a layout. `kept` says how far it was before a restart.
    pub(super) fn begin(layout: &Layout, me: NodeIndex, kept: Option<&TakenOver>, now: Time) -> Self {
        let all = layout.taken_over(me);
        let slots =
            rule!(ShrinkWithoutCopy, all, not all.iter().copied().filter(|slot| layout.gains(me, *slot)).collect());
        let mut seen = BTreeSet::new();
        let mut is_of_new_set = |slot: &Slot| seen.insert(ReplicaSet::of(layout.old().replicas(*slot)));
        let is_new = |slot: &Slot| layout.takes_over(me, *slot) && is_of_new_set(slot);
        let groups = layout.distinct_slots().iter().copied().filter(is_new).collect();
        let is_complete = slots.is_empty() || kept.is_some_and(|kept| kept.is_complete);
        let step = if is_complete { Step::Complete } else { Step::Floors(BTreeMap::new()) };
        Self {
            id: None,
            round: 0,
            step,
            up_to: kept.and_then(|kept| kept.up_to.clone()),
            slots,
            groups,
            knows_floors: rule!(NoFloors, is_complete),
            last_task: 0,
            keys: 0,
            bytes: 0,
            again_at: now,
        }
    }

    /// Begins anew, under this layout and from the place that is `kept`. The tasks that ran before do not count any more.
    pub(super) fn begin_anew(&mut self, layout: &Layout, me: NodeIndex, kept: Option<&TakenOver>, now: Time) {
        *self = Self { last_task: self.last_task, ..Self::begin(layout, me, kept, now) };
    }

    pub(super) fn owns(&self, id: OperationId) -> bool {
        self.id == Some(id)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.step == Step::Complete
    }

    pub(super) fn knows_floors(&self) -> bool {
        self.knows_floors
    }

    pub(super) fn progress(&self) -> Progress {
        let is_complete = self.is_complete();
        let slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let done = match &self.up_to {
            _ if is_complete => self.slots.len(),
            None => 0,
            Some((slot, _)) => self.slots.partition_point(|other| other < slot),
        };
        let slots_done = u32::try_from(done).unwrap_or(u32::MAX);
        Progress { is_complete, slots, slots_done, keys: self.keys, bytes: self.bytes }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        match &self.step {
            Step::Complete => None,
            _ => Some(self.again_at),
        }
    }

    pub(super) fn begin_step(&mut self, step: Step, now: Time) {
        self.step = step;
        self.round += 1;
        self.again_at = now;
    }

    /// Whether `answered` hold a majority of the old replicas of every slot that is taken over.
    pub(super) fn are_enough(&self, answered: &BTreeSet<NodeIndex>, layout: &Layout) -> bool {
        let is_enough = |slot: &Slot| {
            let tally = Tally::single(layout.old().replicas(*slot));
            let set = tally.set_of(answered.iter().copied());
            rule!(CopyFromOne, tally.is_quorum(set), not !set.is_empty())
        };
        self.groups.iter().all(is_enough)
    }

    /// The keys of a page that this node may lack, with the end of the page.
    pub(super) fn keys_of(
        pages: BTreeMap<NodeIndex, TakeoverPage>,
        me: NodeIndex,
        layout: &Layout,
    ) -> (VecDeque<Key>, Option<(Slot, Key)>) {
        let end = pages.values().filter_map(|page| page.looked_to.clone()).min();
        let holders: Vec<NodeIndex> = pages.keys().copied().collect();
        let mut named: BTreeMap<(Slot, Key), BTreeMap<NodeIndex, u64>> = BTreeMap::new();
        for (node, page) in pages {
            for (slot, key, mark) in page.records {
                let place = (slot, key);
                if end.as_ref().is_none_or(|end| place <= *end) {
                    named.entry(place).or_default().insert(node, mark);
                }
            }
        }
        // A node that holds the slot already need not read what all hold alike.
        let is_known = |slot: Slot, marks: &BTreeMap<NodeIndex, u64>| {
            let mut of_slot = holders.iter().filter(|node| layout.old().holds(**node, slot));
            marks.get(&me).is_some_and(|mine| of_slot.all(|node| marks.get(node) == Some(mine)))
        };
        let lacking = named.into_iter().filter(|((slot, _), marks)| !is_known(*slot, marks));
        (lacking.map(|((_, key), _)| key).collect(), end)
    }
}
