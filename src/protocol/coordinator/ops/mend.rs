//! A linearizable read that brings what it answers to the replicas that lack it, for repair and before tombstones are forgotten.
//!
//! It has no rule of its own: a read settles what a majority holds, and stores nothing else. So it never spreads the record
//! of a conditional write that may not be chosen.

use std::collections::BTreeSet;

use crate::mutants::rule;
use crate::protocol::io::{Failure, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request, StoreOrigin};
use crate::protocol::quorum::Tally;
use crate::types::{AgedRecord, Key, NodeIndex, Stamp};

use super::get_with::GetWith;
use super::operation::{Fanout, Heard, Next, Operation, Round, Step};

/// Such a read in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mend {
    get: GetWith,
    /// The replicas of which one lacks something: both are asked, and both have the record in the end.
    pair: BTreeSet<NodeIndex>,
    /// Those that have acknowledged the record.
    stored: BTreeSet<NodeIndex>,
    /// What the read has answered, while it is brought to those that lack it.
    spread: Option<Box<AgedRecord>>,
    /// Whether a replica keeps the record out, because of the seal of its slot.
    is_kept_out: bool,
}

impl Mend {
    /// A repair of a key that two replicas differ about.
    #[must_use]
    pub fn new(pair: BTreeSet<NodeIndex>) -> Self {
        Self { get: GetWith::new(pair.clone()), pair, stored: BTreeSet::new(), spread: None, is_kept_out: false }
    }

    /// Whether one node takes the slot of the key over, rather than two that are compared.
    fn is_takeover(&self) -> bool {
        self.pair.len() == 1
    }

    /// One node takes a slot over: it needs the record. Others that lack it take it over themselves, and are sent it only where
    /// there is no quorum without them.
    fn bring_to_taker(&self, round: Round, tally: &Tally) -> Round {
        let taker = tally.set_of(self.pair.iter().copied());
        match round.fanout {
            Fanout::Lacking(lacking) if self.is_takeover() && tally.is_quorum(round.counted.or(taker)) => {
                Round { fanout: Fanout::Lacking(lacking.and(taker)), ..round }
            }
            _ => round,
        }
    }

    /// Brings `record` to the replicas that were seen to hold less, unless the two hold it already. The others are left to the
    /// comparisons with them. Where one node takes the slot over, it is brought to that node alone.
    fn spread(&mut self, record: AgedRecord, tally: &Tally) -> Step {
        let digest = record.digest();
        let members = tally.members();
        let holds =
            |member: &&NodeIndex| self.get.read().has_seen_at(**member, &digest) || self.stored.contains(member);
        let holders: Vec<NodeIndex> = members.iter().filter(holds).copied().collect();
        let unseen = members.iter().filter(|member| !self.get.read().has_seen(**member)).copied();
        let (holders, unseen) =
            (tally.set_of(holders), tally.set_of(unseen).without(tally.set_of(self.stored.clone())));
        let lacking = tally.set_without(holders.or(unseen));
        self.stored =
            members.iter().filter(|member| !tally.set_of([**member]).and(holders).is_empty()).copied().collect();
        if rule!(RepairSkipsReplica, lacking.is_empty() || self.pair.is_subset(&self.stored)) {
            // The read may have brought it to one that lacked it.
            let has_had = |member: &NodeIndex| self.get.read().has_seen_at(*member, &digest);
            let had_all = self.pair.iter().all(has_had);
            return Step::Done(if had_all { Reply::Record(Some(record)) } else { Reply::Spread(record) });
        }
        self.spread = Some(Box::new(record));
        let taker = tally.set_of(self.pair.iter().copied());
        let is_for_taker = self.is_takeover() && tally.is_quorum(holders.or(taker));
        let unwanted = if is_for_taker { unseen.or(lacking.without(taker)) } else { unseen };
        Step::Ask(Round { counted: holders, unwanted, ..Round::to_all() })
    }
}

impl Operation for Mend {
    /// A node that takes a slot over is asked before all others, so that it is in the quorum.
    fn start(&mut self) -> Step {
        match self.get.start() {
            Step::Ask(round) if self.is_takeover() => Step::Ask(Round { fanout: Fanout::Majority, ..round }),
            step => step,
        }
    }

    /// A node that takes a slot over lacks most of its keys.
    fn lacks_content_here(&self) -> bool {
        self.is_takeover()
    }

    fn request(&self, key: &Key, leads: bool) -> Request {
        match &self.spread {
            Some(aged) => {
                let (key, record, age) = (key.clone(), aged.record.clone(), aged.age);
                Request::Store { key, record, age, origin: StoreOrigin::Repair }
            }
            None => self.get.request(key, leads),
        }
    }

    fn on_stamp(&mut self, stamp: Stamp) -> Step {
        self.get.on_stamp(stamp)
    }

    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard {
        let is_stored = answer == Answer::Stored;
        let heard = match self.spread {
            Some(_) if is_stored => Heard::Counts,
            Some(_) if answer == Answer::Sealed => {
                self.is_kept_out = true;
                Heard::Refuses
            }
            Some(_) => Heard::Nothing,
            None => self.get.on_answer(from, answer),
        };
        if is_stored && heard == Heard::Counts {
            self.stored.insert(from);
        }
        heard
    }

    fn on_enough(&mut self, tally: &Tally) -> Step {
        if self.is_kept_out {
            return self.on_impossible();
        }
        // It cannot end without both.
        let is_wanted = |member: &NodeIndex| match self.spread {
            Some(_) => !self.stored.contains(member),
            None => !self.get.read().has_seen(*member),
        };
        let is_refused = |member: &NodeIndex| !tally.is_missing(*member) && !tally.has_counted(*member);
        if self.pair.iter().any(|member| is_wanted(member) && is_refused(member)) {
            return Step::Failed;
        }
        if let Some(record) = &self.spread {
            let is_done = self.pair.is_subset(&self.stored);
            return if is_done { Step::Done(Reply::Spread((**record).clone())) } else { Step::Wait };
        }
        #[cfg(feature = "mutants")]
        if let Some(unsettled) = self.unsettled() {
            return self.spread(unsettled, tally);
        }
        match self.get.on_enough(tally) {
            // Nobody holds an absence: those that lack the seal were told it.
            Step::Done(Reply::Record(Some(record))) if record.is_absence() => Step::Done(Reply::Record(Some(record))),
            Step::Done(Reply::Record(Some(record))) => self.spread(record, tally),
            // Those that hold the record must be heard, or it would be found again and again. It must not wait for others: while it
            // settles, conditional writes of the key wait on this node.
            Step::Become(Next::SettleWith(_)) => Step::Become(Next::SettleWith(self.get.read().holders_of_greatest())),
            Step::Ask(round) => Step::Ask(self.bring_to_taker(round, tally)),
            step => step,
        }
    }

    /// A record that is kept out below the seal is settled above it, so that all may have it.
    fn on_impossible(&mut self) -> Step {
        match self.spread {
            Some(_) if self.is_kept_out => Step::Become(Next::Lift),
            Some(_) => Step::Failed,
            None => self.get.on_impossible(),
        }
    }

    fn on_sealed(&mut self) -> Step {
        self.get.on_sealed()
    }

    fn on_reconfigured(&mut self, tally: &Tally) -> Step {
        self.forget_others(tally);
        *self = Self::new(std::mem::take(&mut self.pair));
        self.start()
    }

    fn forget_others(&mut self, tally: &Tally) {
        self.pair.retain(|member| tally.members().contains(member));
        self.get.forget_others(tally);
    }

    fn on_resumed(&mut self) -> Step {
        self.start()
    }

    fn on_late(&mut self) -> Step {
        if self.is_kept_out {
            return self.on_impossible();
        }
        if self.spread.is_some() { Step::Wait } else { self.get.on_late() }
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        self.get.failure(report)
    }
}

#[cfg(feature = "mutants")]
impl Mend {
    /// The greatest record that arrived, whether or not it is settled: wrong.
    fn unsettled(&self) -> Option<AgedRecord> {
        use crate::mutants::{Mutant, is_on};
        /// A comparison of repair is one of two.
        const PAIR: usize = 2;
        let is_broken = is_on(Mutant::RepairSpreadsUnchosen)
            || is_on(Mutant::SyncSpreadsUnchosen) && self.pair.len() > PAIR
            || is_on(Mutant::CopyRaw) && self.pair.len() < PAIR;
        self.get.read().greatest_in_hand().filter(|_| is_broken).map(AgedRecord::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::quorum::MemberSet;
    use crate::types::{Age, Checksum, Clock, Content, Lookup, NodeId, Record};

    const NODES: [NodeIndex; 5] = [NodeIndex(0), NodeIndex(1), NodeIndex(2), NodeIndex(3), NodeIndex(4)];

    /// A slot goes from nodes 0, 1 and 2 to `new`, of which node 3 takes it over. The nodes that it sends the record to, once
    /// `holders` have answered that they hold it.
    fn sent_to(new: [u16; 3], holders: [u16; 2], others: &[u16]) -> MemberSet {
        let mut tally = Tally::joint(&NODES[..3], &new.map(NodeIndex));
        let mut copy = Mend::new(BTreeSet::from([NODES[3]]));
        let key = Key::new("k").unwrap();
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 1 }, writer: NodeId::new("1").unwrap() };
        let record = Record::plain(stamp, Content::Tombstone, Checksum::of(&key, &Content::Tombstone));
        let told = |held| Answer::Lookup { key: key.clone(), held, age: Age::NONE, seal: None };
        assert!(matches!(copy.start(), Step::Ask(_)));
        for holder in holders.map(NodeIndex) {
            assert_eq!(copy.on_answer(holder, told(Lookup::Digest(record.digest()))), Heard::Counts);
            tally.count(holder);
        }
        for other in others.iter().copied().map(NodeIndex).chain([NODES[3]]) {
            assert_eq!(copy.on_answer(other, told(Lookup::Absent)), Heard::Counts);
            tally.count(other);
        }
        let content = Round::for_content(tally.set_of(holders.map(NodeIndex)), &tally);
        assert_eq!(copy.on_enough(&tally), Step::Ask(content));
        tally.reset();
        assert_eq!(copy.on_answer(NodeIndex(holders[0]), told(Lookup::Record(record))), Heard::Counts);
        let step = copy.on_enough(&tally);
        let Step::Ask(Round { fanout, counted, unwanted, .. }) = step else {
            panic!("node 3 lacks the record: {step:?}")
        };
        tally.preset(counted, unwanted);
        let mut nodes: Vec<NodeIndex> = tally.missing().collect();
        if let Fanout::Lacking(lacking) = fanout {
            tally.keep_wanted(lacking, &mut nodes);
        }
        tally.set_of(nodes)
    }

    #[test]
    fn node_that_takes_a_slot_over_sends_the_record_to_itself_alone() {
        let set = |nodes: &[u16]| Tally::joint(&NODES[..3], &NODES[2..]).set_of(nodes.iter().copied().map(NodeIndex));
        for holders in [[0, 1], [0, 2], [1, 2]] {
            assert_eq!(sent_to([1, 2, 3], holders, &[]).len(), 1, "nodes {holders:?} hold it");
        }
        assert_eq!(sent_to([2, 3, 4], [0, 2], &[4]), set(&[3]), "node 4 takes the slot over itself");
        assert_eq!(sent_to([2, 3, 4], [0, 1], &[4]), set(&[3, 4]), "nobody of the new list is known to hold it");
    }
}
