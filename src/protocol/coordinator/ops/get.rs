//! A read: asks a majority, and answers only a record that a majority holds.
//!
//! Invariants: a record is returned only once a majority is known to hold exactly it, or it was stored at a majority first
//! (the write-back: without it a later read could miss what this one returned). Where replicas were asked for digests, the
//! value returned is the one that came with the very stamp settled on.
//!
//! Source: Attiya, Bar-Noy and Dolev, "Sharing memory robustly in message-passing systems" (JACM 1995).

use std::collections::{BTreeMap, BTreeSet};

use crate::mutants::rule;
use crate::protocol::io::{Failure, ProtocolEvent, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request, StoreOrigin};
use crate::protocol::quorum::Tally;
use crate::types::{Age, AgedRecord, Digest, Key, Lookup, NodeIndex, ReadKind, Record, Stamp};

use super::ages::{Ages, read_ends};
use super::operation::{Fanout, Heard, Next, Operation, Round, Step};
use super::seals::ToldSeals;

/// How often a read looks again, before it settles the record itself.
const LOOKS_MAX: u8 = 1;

/// A read that is in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Get {
    /// What each replica was seen to hold.
    seen: BTreeMap<NodeIndex, Option<Digest>>,
    /// How long the replicas have kept what they hold.
    ages: Ages,
    /// The greatest record whose content arrived.
    in_hand: Option<Record>,
    /// The deletions that replicas may have forgotten.
    seals: ToldSeals,
    phase: Phase,
    /// Whether a replica keeps out what is written back, because of the seal of its slot.
    is_kept_out: bool,
    /// How often it has looked again at a record that may be on its way to a majority.
    looks: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    /// Asks what the replicas hold: one of them for the record, the others for its digest.
    #[default]
    Digests,
    /// Asks anew, and every replica for the record, because the holders of the greatest one did not send it.
    Records,
    /// Has settled on a digest, and needs the content from a replica that holds it.
    Fetch,
    /// Stores the record that it settled on at a majority.
    WriteBack(Record),
}

impl Get {
    /// Whether `member` has answered what it holds.
    pub(super) fn has_seen(&self, member: NodeIndex) -> bool {
        self.seen.contains_key(&member)
    }

    /// Whether `member` was seen to hold exactly the record of this digest.
    pub(super) fn has_seen_at(&self, member: NodeIndex, digest: &Digest) -> bool {
        self.seen.get(&member).is_some_and(|seen| seen.as_ref() == Some(digest))
    }

    /// The replicas that were seen to hold the greatest record.
    pub(super) fn holders_of_greatest(&self) -> BTreeSet<NodeIndex> {
        let greatest = self.seen.values().flatten().max();
        self.seen.iter().filter(|(_, seen)| seen.as_ref() == greatest).map(|(member, _)| *member).collect()
    }

    /// The greatest record that was seen, if its content has arrived.
    #[cfg(feature = "mutants")]
    pub(super) fn greatest_in_hand(&self) -> Option<Record> {
        let greatest = self.seen.values().flatten().max()?;
        self.in_hand.clone().filter(|record| record.digest() == *greatest)
    }

    fn lookup(&mut self, from: NodeIndex, held: Lookup, age: Age) -> Heard {
        let wants_record = matches!(self.phase, Phase::Records | Phase::Fetch);
        let digest = held.digest();
        // A store that shows a digest and then not its record is damaged. To ask it again and again would lead nowhere.
        if wants_record && matches!(held, Lookup::Digest(_))
            || self.phase == Phase::Fetch && digest.as_ref() < self.seen.get(&from).and_then(Option::as_ref)
        {
            return Heard::Refuses;
        }
        self.ages.hear(&held, age);
        if let Lookup::Record(record) = held
            && self.in_hand.as_ref().is_none_or(|in_hand| in_hand.digest() < record.digest())
        {
            self.in_hand = Some(record);
        }
        // A repeated request may be answered twice, and the older answer arrive last.
        let seen = self.seen.entry(from).or_default();
        *seen = digest.max(seen.take());
        Heard::Counts
    }

    /// Settles on the greatest record seen, of those that a majority holds.
    fn settle(&mut self, tally: &Tally) -> Step {
        let greatest = self.seen.values().flatten().max().cloned();
        let seal = rule!(AbsenceToldUnsealed, self.seals.greatest(), not None);
        let Some(greatest) = greatest.filter(|greatest| !greatest.is_sealed_away(seal)) else {
            // The version of an absence is that of a seal which a quorum has. Else what is built later could lie below it.
            return match seal {
                Some(seal) if !self.seals.are_told_by(self.seen.keys()) => Step::Seal(seal),
                _ => Step::Done(Reply::Record(self.seals.absence().map(AgedRecord::from))),
            };
        };
        #[cfg(feature = "mutants")]
        if let Some(step) = self.ages.expire_unsettled(self.in_hand.as_ref()) {
            return step;
        }
        let holders = self.seen.iter().filter(|(_, digest)| digest.as_ref() == Some(&greatest));
        let holders = tally.set_of(holders.map(|(member, _)| *member));
        // A record of a conditional write that is not at a majority may never be chosen: it is not written back, but settled.
        let is_chosen = greatest.proposal.is_none() || tally.is_quorum(holders);
        if !rule!(StoresUnchosen, is_chosen) {
            if self.looks == LOOKS_MAX {
                return Step::Become(Next::Settle);
            }
            // Most likely its coordinator is about to bring it there.
            *self = Self { looks: self.looks + 1, ..Self::default() };
            return Step::Pause(self.looks.into());
        }
        let has_content = |record: &Record| rule!(ContentOfAnotherStamp, record.digest() == greatest);
        let Some(record) = self.in_hand.clone().filter(has_content) else {
            self.phase = Phase::Fetch;
            // One answer is enough: it brings the content settled on, or a greater record.
            return Step::Ask(Round::for_content(holders, tally));
        };
        if rule!(NoWriteBack, tally.is_quorum(holders)) {
            return read_ends(self.ages.aged(record));
        }
        // A deletion was above it, which a replica has forgotten since all had it. The answer that shows the record is older.
        if rule!(WritesBackBelowSeal, self.seals.some_forgot(&greatest, &self.seen, tally), not false) {
            return self.read_anew();
        }
        self.phase = Phase::WriteBack(record);
        // The record is durable at its holders. Those not heard from may hold it.
        let lacking = self.seen.iter().filter(|(_, seen)| seen.as_ref() < Some(&greatest)).map(|(member, _)| *member);
        let lacking = tally.set_of(lacking);
        Step::Ask(Round { event: Some(ProtocolEvent::ReadWroteBack), ..Round::to_lacking(holders, lacking) })
    }

    /// Asks every replica for its record. Earlier answers bind nobody, because the client was told nothing yet.
    fn start_over(&mut self) -> Step {
        *self = Self { phase: Phase::Records, looks: self.looks, ..Self::default() };
        Step::Ask(Round::to_all())
    }

    /// Begins again in a moment: what it was told is older than the seal of the slot.
    fn read_anew(&mut self) -> Step {
        *self = Self { looks: self.looks, ..Self::default() };
        Step::Pause(1)
    }

    /// A refusal taken for "nothing is held": wrong.
    #[cfg(feature = "mutants")]
    pub(in crate::protocol) fn take_refusal_for_nothing(&mut self, from: NodeIndex) -> Heard {
        if matches!(self.phase, Phase::WriteBack(_)) {
            Heard::Nothing
        } else {
            self.lookup(from, Lookup::Absent, Age::NONE)
        }
    }
}

impl Operation for Get {
    fn start(&mut self) -> Step {
        Step::Ask(Round { fanout: Fanout::Majority, ..Round::to_all() })
    }

    fn request(&self, key: &Key, leads: bool) -> Request {
        let key = key.clone();
        match &self.phase {
            Phase::Digests if leads && self.in_hand.is_none() => Request::Get { key, read_kind: ReadKind::Data },
            Phase::Digests => Request::Get { key, read_kind: ReadKind::Digest },
            Phase::Records | Phase::Fetch => Request::Get { key, read_kind: ReadKind::Data },
            Phase::WriteBack(record) => {
                let (record, age) = (record.clone(), self.ages.of(record));
                Request::Store { key, record, age, origin: StoreOrigin::Repair }
            }
        }
    }

    fn on_stamp(&mut self, _: Stamp) -> Step {
        unreachable!("a read draws no stamp")
    }

    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard {
        match (answer, &self.phase) {
            (Answer::Stored, Phase::WriteBack(_)) => Heard::Counts,
            (Answer::Sealed, Phase::WriteBack(_)) => {
                self.is_kept_out = true;
                Heard::Refuses
            }
            (Answer::Lookup { key, held, age, seal }, Phase::Digests | Phase::Records | Phase::Fetch) => {
                self.seals.hear(from, &key, seal);
                self.lookup(from, held, age)
            }
            _ => Heard::Nothing,
        }
    }

    fn on_enough(&mut self, tally: &Tally) -> Step {
        match &self.phase {
            Phase::WriteBack(record) => read_ends(self.ages.aged(record.clone())),
            Phase::Digests | Phase::Records | Phase::Fetch => self.settle(tally),
        }
    }

    fn on_impossible(&mut self) -> Step {
        match self.phase {
            Phase::Fetch => self.start_over(),
            _ if self.is_kept_out => self.read_anew(),
            _ => Step::Failed,
        }
    }

    fn on_reconfigured(&mut self, _: &Tally) -> Step {
        *self = Self { looks: self.looks, ..Self::default() };
        self.start()
    }

    fn on_sealed(&mut self) -> Step {
        Step::Done(Reply::Record(self.seals.absence().map(AgedRecord::from)))
    }

    /// The few holders of the greatest record may have died since they were seen: a read that insisted on their content
    /// would stall although a majority is well.
    fn on_late(&mut self) -> Step {
        if self.is_kept_out {
            return self.read_anew();
        }
        if rule!(InsistsOnHolder, self.phase != Phase::Fetch) { Step::Wait } else { self.start_over() }
    }

    fn on_resumed(&mut self) -> Step {
        self.start()
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        Failure::NoQuorum(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checksum, Clock, Content, NodeId};

    const REPLICAS: [NodeIndex; 3] = [NodeIndex(0), NodeIndex(1), NodeIndex(2)];

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn record(counter: u64) -> Record {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        Record::plain(stamp, Content::Tombstone, Checksum::of(&key(), &Content::Tombstone))
    }

    fn whole(counter: u64) -> Answer {
        Answer::Lookup { key: key(), held: Lookup::Record(record(counter)), age: Age::NONE, seal: None }
    }

    fn digest(counter: u64) -> Answer {
        Answer::Lookup { key: key(), held: Lookup::Digest(record(counter).digest()), age: Age::NONE, seal: None }
    }

    /// A read that two replicas have answered, and its next step.
    fn answered(answers: [(u16, Answer); 2]) -> (Get, Tally, Step) {
        let (mut read, mut tally) = (Get::default(), Tally::single(&REPLICAS));
        for (from, answer) in answers {
            assert_eq!(read.on_answer(NodeIndex(from), answer), Heard::Counts);
            tally.count(NodeIndex(from));
        }
        let step = read.on_enough(&tally);
        (read, tally, step)
    }

    /// Whether what `by` holds is brought to `lacking`, which was seen to hold less.
    fn is_written_back(step: &Step, by: u16, lacking: u16, tally: &Tally) -> bool {
        let round = Round::to_lacking(tally.set_of([NodeIndex(by)]), tally.set_of([NodeIndex(lacking)]));
        *step == Step::Ask(Round { event: Some(ProtocolEvent::ReadWroteBack), ..round })
    }

    #[test]
    fn content_is_fetched_from_its_holder_and_written_back() {
        let (mut read, mut tally, step) = answered([(0, whole(1)), (1, digest(2))]);
        let holder = tally.set_of([NodeIndex(1)]);
        assert_eq!(step, Step::Ask(Round::for_content(holder, &tally)), "nobody else was seen to hold it");
        assert_eq!(read.request(&key(), false), Request::Get { key: key(), read_kind: ReadKind::Data });
        tally.reset();
        assert_eq!(read.on_answer(NodeIndex(1), whole(2)), Heard::Counts);
        let step = read.on_enough(&tally);
        assert!(is_written_back(&step, 1, 0, &tally), "{step:?}");
        let (key, record, age) = (key(), record(2), Age::NONE);
        let store = Request::Store { key: key.clone(), record: record.clone(), age, origin: StoreOrigin::Repair };
        assert_eq!(read.request(&key, false), store);
        assert_eq!(read.on_answer(NodeIndex(2), Answer::Stored), Heard::Counts);
        assert_eq!(read.on_enough(&tally), Step::Done(Reply::Record(Some(record.into()))));
    }

    #[test]
    fn read_goes_on_without_the_holder_of_the_greatest_record() {
        for silent in [true, false] {
            let (mut read, mut tally, _) = answered([(0, whole(1)), (1, digest(2))]);
            assert_eq!(read.on_answer(NodeIndex(1), digest(2)), Heard::Refuses, "its record is wanted, not its digest");
            let step = if silent { read.on_late() } else { read.on_impossible() };
            assert_eq!(step, Step::Ask(Round::to_all()), "all are asked instead");
            tally.reset();
            for member in [0, 2] {
                assert_eq!(read.on_answer(NodeIndex(member), whole(1)), Heard::Counts);
                tally.count(NodeIndex(member));
            }
            assert_eq!(read.on_enough(&tally), Step::Done(Reply::Record(Some(record(1).into()))));
        }
    }

    #[test]
    fn older_answer_that_arrives_last_takes_nothing_back() {
        let (mut read, mut tally) = (Get::default(), Tally::single(&REPLICAS));
        for (from, answer) in [(1, whole(2)), (1, digest(1)), (0, digest(1))] {
            assert_eq!(read.on_answer(NodeIndex(from), answer), Heard::Counts);
            tally.count(NodeIndex(from));
        }
        let step = read.on_enough(&tally);
        assert!(is_written_back(&step, 1, 0, &tally), "{step:?}");
    }

    #[test]
    fn data_is_asked_of_one_replica_until_it_has_arrived() {
        let (mut read, kind) = (Get::default(), |read: &Get, leads| match read.request(&key(), leads) {
            Request::Get { read_kind, .. } => read_kind,
            other => panic!("a read begins with a get, not {other:?}"),
        });
        assert_eq!((kind(&read, true), kind(&read, false)), (ReadKind::Data, ReadKind::Digest));
        read.on_answer(NodeIndex(0), whole(1));
        assert_eq!(kind(&read, true), ReadKind::Digest);
    }
}
