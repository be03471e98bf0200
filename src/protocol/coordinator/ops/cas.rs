//! A conditional write: Paxos over the ballots of one stamp, for each key on its own.
//!
//! A ballot is prepared at a majority, which shows the greatest record. The condition is judged on it, and the new record
//! is accepted by a majority under the same ballot. It keeps the stamp of the record that it was computed from, so that it
//! stands above that record and below every newer plain write.
//!
//! In a slot that was sealed, what is computed stands above the seal: on the stamp of an absence there, which is greater than
//! that of every record before the seal.
//!
//! Invariants: no record is built on, reported or made the reason of a failure before a majority is known to hold it
//! ("settled"). One ballot goes with one record for ever. A write takes effect once at most: its base is a version, and
//! versions never come back; the history in the record tells a request that is sent again what became of it.
//!
//! Sources: Lamport, "The Part-Time Parliament" (TOCS 1998); Rystsov, "`CASPaxos`: Replicated State Machines without logs"
//! (2018); Lee et al., "Implementing Linearizability at Large Scale and Low Latency" (SOSP 2015) for requests that are sent
//! again.

use std::collections::{BTreeMap, BTreeSet};

use crate::mutants::{must, rule};
use crate::protocol::io::{Failure, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request, StoreOrigin};
use crate::protocol::quorum::Tally;
use crate::types::{
    Age, Applied, Ballot, Change, ChangeRequest, Checksum, Clock, Condition, Content, Digest, IdempotencyToken, Key,
    Lookup, NodeIndex, Proposal, ReadKind, Record, Stamp, Ttl, Version, content_of, number_in,
};

use super::ages::{Ages, read_ends};
use super::operation::{Fanout, Heard, Next, Operation, Round, Settled, Step};
use super::seals::ToldSeals;

/// How often a write looks again, because another one is about to end.
const LOOKS_MAX: u8 = 3;

/// A conditional write that is in flight, or the settling of a record for a read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Cas {
    goal: Goal,
    /// Replicas whose promises must be among those that count.
    tellers: BTreeSet<NodeIndex>,
    /// The version above which all conditional writes must be remembered, so that the change may run.
    since: Option<Version>,
    /// Whether a record with the change was sent to anybody, or may have been for an earlier try.
    is_attempted: bool,
    phase: Phase,
    /// How many ballots were drawn, but for those drawn at once.
    tries: u32,
    /// Whether the present ballot was drawn at once, because the one before was too small.
    is_drawn_at_once: bool,
    ballot: Ballot,
    /// The next ballot must be above this clock.
    floor: Clock,
    /// Whether a replica of the present round has promised a greater ballot.
    is_preempted: bool,
    /// The digests that came with the promises of the present ballot, or in a look.
    promised: BTreeMap<NodeIndex, Option<Digest>>,
    /// How long the replicas have kept what they hold.
    ages: Ages,
    /// The deletions that replicas may have forgotten.
    seals: ToldSeals,
    /// The greatest record whose content arrived.
    in_hand: Option<Record>,
    /// Whether a read waits for the change, which deletes a value whose time to live has passed.
    is_for_read: bool,
    /// The version of the record that was proposed last, unless it is known to be lost.
    attempt: Option<Version>,
    /// How often a look has found a record that is not settled.
    looks: u8,
    /// Once it is done without a record of its own: what a majority was seen to hold.
    settled: Option<Settled>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Goal {
    /// To change a key.
    Change(Key, ChangeRequest),
    /// To bring the greatest record to a majority, for a read that found it at less than that.
    Settle {
        /// Whether a record below the seal of its slot is settled above it even where a majority holds it.
        lifts: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Between two ballots.
    Idle,
    /// Looks whether another coordinator has changed the key meanwhile; after others went first, or before.
    Look { has_paused: bool },
    /// Asks for promises of the ballot.
    Prepare,
    /// Needs the content of the greatest record, from a replica that holds it.
    Fetch,
    /// Stores a plain record at a majority, so that it can be built on.
    StoreBase(Record),
    /// Stores a record under the ballot, and then ends so.
    Accept(Record, Ending),
}

/// What the client is told once a record is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ending {
    /// The change took effect.
    Applied(Applied),
    /// The change never takes effect.
    Failed(Failure),
    /// The record.
    Settled,
}

/// What follows from the settled record.
enum Verdict {
    /// The change took effect before.
    Applied(Applied),
    /// It cannot be known any more whether it did.
    Unknown,
    /// The change does not take effect.
    Failed(Failure),
    /// The change takes effect, with this content.
    Write(Write),
    /// The read is answered.
    Settled,
}

/// A content to propose.
struct Write {
    content: Content,
    ttl: Option<Ttl>,
    /// Of the key, the content and the time to live.
    checksum: Checksum,
    /// The sum, where it is one.
    sum: Option<i64>,
}

impl Cas {
    /// A conditional write of `key`.
    #[must_use]
    pub fn new(key: Key, request: ChangeRequest) -> Self {
        let since = request.change.since().cloned();
        Self::with(Goal::Change(key, request), since)
    }

    /// Settles the greatest record of the key, for a read that counts the answers of `tellers`.
    #[must_use]
    pub fn settling(tellers: BTreeSet<NodeIndex>) -> Self {
        Self { tellers, ..Self::with(Goal::Settle { lifts: false }, None) }
    }

    /// The same, so that replicas with the seal of the slot take the record.
    #[must_use]
    pub fn lifting(self) -> Self {
        Self { goal: Goal::Settle { lifts: true }, ..self }
    }

    fn with(goal: Goal, since: Option<Version>) -> Self {
        Self {
            goal,
            since,
            tellers: BTreeSet::new(),
            is_attempted: false,
            phase: Phase::Idle,
            tries: 0,
            is_drawn_at_once: false,
            ballot: Ballot::none(),
            floor: Clock::default(),
            is_preempted: false,
            promised: BTreeMap::new(),
            ages: Ages::default(),
            seals: ToldSeals::default(),
            in_hand: None,
            is_for_read: false,
            attempt: None,
            looks: 0,
            settled: None,
        }
    }

    /// The deletion of exactly `version` of `key`, because its time to live has passed.
    #[must_use]
    pub fn expiring(key: Key, version: &Version, token: IdempotencyToken) -> Self {
        let content = Content::Tombstone;
        let checksum = Checksum::of_write(&key, &content, None);
        let condition = rule!(ExpiryOfAnotherVersion, Condition::Version(version.clone()), not Condition::Present);
        let change = Change::Write { condition, content, ttl: None, checksum };
        Self::new(key, ChangeRequest { change, token, is_resend: false })
    }

    /// The same change for a read, which goes on as a read once the change has ended.
    #[must_use]
    pub fn for_read(self) -> Self {
        Self { is_for_read: true, ..self }
    }

    /// The end. A read that has settled a record may have to delete it.
    fn done(&self, reply: Reply) -> Step {
        match reply {
            Reply::Record(Some(record)) => read_ends(record),
            _ if self.is_for_read => Step::Become(Next::Get),
            reply => Step::Done(reply),
        }
    }

    fn needs_content(&self) -> bool {
        match &self.goal {
            Goal::Change(_, request) => request.change.needs_content(),
            Goal::Settle { .. } => true,
        }
    }

    /// A ballot was preempted, or is late. The first one, and the first one after a pause, may only have been below that of a
    /// write that has ended: others went on meanwhile, and a node that is no replica does not hear of them. A proposed record
    /// is looked for at once, before too many others make the key forget it. Otherwise others go first.
    fn try_again(&mut self) -> Step {
        let was_too_small = self.phase == Phase::Prepare && self.is_preempted && !self.is_drawn_at_once;
        self.is_drawn_at_once = was_too_small;
        let may_fail = matches!(&self.goal, Goal::Change(_, request) if matches!(request.change, Change::Write { .. }));
        self.phase = if (may_fail || self.is_attempted) && !was_too_small {
            Phase::Look { has_paused: !self.is_attempted }
        } else {
            Phase::Idle
        };
        Step::Pause(if was_too_small || self.is_attempted { 0 } else { self.tries })
    }

    fn draw(&mut self) -> Step {
        self.tries += u32::from(!self.is_drawn_at_once);
        Step::NeedBallot(self.floor)
    }

    /// Asks what is there, without a ballot: it would preempt those that are about to change the key.
    fn look(&mut self) -> Step {
        self.promised.clear();
        self.seals.begin_round();
        self.is_preempted = false;
        Step::Ask(Round { fanout: Fanout::Majority, ..Round::to_all() })
    }

    /// Ends where the record that a majority was seen to hold decides so.
    fn on_look(&mut self, tally: &Tally) -> Step {
        let greatest = self.greatest().cloned();
        // A ballot settles which seal an absence is that of.
        if self.seals.greatest().is_some() && self.is_absent(greatest.as_ref()) {
            return self.after_look();
        }
        let holders = self.promised.iter().filter(|(_, digest)| **digest == greatest);
        let holders = tally.set_of(holders.map(|(member, _)| *member));
        if !rule!(LookFailsUnsettled, tally.is_quorum(holders)) {
            if self.looks == LOOKS_MAX {
                return self.after_look();
            }
            // Another coordinator is about to bring it to a majority.
            self.looks += 1;
            return Step::Pause(1);
        }
        let Goal::Change(_, request) = &self.goal else { return self.draw() };
        let (recent, _) = greatest.as_ref().map_or_else(|| (Vec::new(), Version::absent()), Digest::history);
        if let Some(applied) = recent.into_iter().find(|applied| applied.token == request.token) {
            return self.done(self.reply(Ending::Applied(applied), None));
        }
        self.forget_lost_attempt(greatest.as_ref());
        let settled = Settled(greatest);
        if !self.is_attempted
            && let Some(reply) = self.fails_on(&settled)
        {
            self.settled = Some(settled);
            return self.done(reply);
        }
        self.after_look()
    }

    /// A look has decided nothing. Others go first, unless they went before the look: then it is this write's turn.
    fn after_look(&mut self) -> Step {
        if self.phase == (Phase::Look { has_paused: true }) {
            return self.draw();
        }
        self.phase = Phase::Look { has_paused: true };
        Step::Pause(self.tries)
    }

    /// A majority holds a greater record than the one that this operation proposed, whose history reaches back to its base and
    /// does not name it. So no majority has accepted the proposal, and none will: those have promised more.
    fn forget_lost_attempt(&mut self, settled: Option<&Digest>) {
        let (Some(settled), Some(attempt), Goal::Change(_, request)) = (settled, &self.attempt, &self.goal) else {
            return;
        };
        let (recent, recent_floor) = settled.history();
        let reaches_back = self.since.as_ref().is_some_and(|since| recent_floor <= *since);
        let is_lost = settled.tag() > attempt.tag() && recent.iter().all(|applied| applied.token != request.token);
        if reaches_back && is_lost {
            self.since = request.change.since().cloned();
            (self.attempt, self.is_attempted) = (None, false);
        }
    }

    fn observe(&mut self, digest: Option<&Digest>) {
        if let Some(digest) = digest {
            self.floor = self.floor.max(digest.tag().clock());
        }
    }

    fn keep(&mut self, held: Lookup) {
        if let Lookup::Record(record) = held
            && self.in_hand.as_ref().is_none_or(|in_hand| in_hand.digest() < record.digest())
        {
            self.in_hand = Some(record);
        }
    }

    /// The greatest record that the majority showed.
    fn greatest(&self) -> Option<&Digest> {
        self.promised.values().flatten().max()
    }

    /// Whether a key is absent of which this is the greatest record.
    fn is_absent(&self, greatest: Option<&Digest>) -> bool {
        greatest.is_none_or(|greatest| greatest.is_sealed_away(self.seals.greatest()))
    }

    /// The seal that a record is to be above which is computed from the greatest one: no ballot builds below it, because replicas
    /// may have forgotten what stood there.
    fn lifted_above(&self, greatest: Option<&Digest>) -> Option<Clock> {
        let seal = rule!(NothingIsLifted, self.seals.greatest()?, not return None);
        let is_lifted = match greatest {
            Some(record) if !self.is_absent(Some(record)) => {
                rule!(LiftsAbsenceOnly, record.is_below(Some(seal)), not false)
            }
            _ => true,
        };
        is_lifted.then_some(seal)
    }

    /// Goes on once a majority has promised the ballot.
    fn decide(&mut self, tally: &Tally, base_is_stored: bool) -> Step {
        let greatest = self.greatest().cloned();
        let holders = self.promised.iter().filter(|(_, digest)| **digest == greatest);
        let holders = tally.set_of(holders.map(|(member, _)| *member));
        let (lifted_above, is_absent) = (self.lifted_above(greatest.as_ref()), self.is_absent(greatest.as_ref()));
        if let Some(seal) = lifted_above
            && rule!(SealNotSettled, !self.seals.are_told_by(self.promised.keys()), not false)
        {
            self.phase = Phase::Idle;
            return Step::Seal(seal);
        }
        let greatest = if is_absent {
            // It is nothing but a version that a conditional write can build on.
            self.in_hand = self.seals.absence().filter(|_| lifted_above.is_some());
            self.in_hand.as_ref().map(Record::digest)
        } else {
            greatest
        };
        let stamp = match (lifted_above, &greatest) {
            (Some(seal), _) => Stamp::of_absence(seal),
            (None, Some(greatest)) => greatest.stamp.clone(),
            (None, None) => Stamp::none(),
        };
        let is_settled = base_is_stored || is_absent || tally.is_quorum(holders);
        let is_plain = greatest.as_ref().is_some_and(|digest| digest.proposal.is_none());
        if rule!(BaseNotSettled, is_plain && !is_settled, not false) {
            return match self.content_of(greatest.as_ref(), tally) {
                Ok(base) => {
                    let base = base.expect("a plain record is a record");
                    self.phase = Phase::StoreBase(base);
                    let lacking = tally.set_of(self.promised.keys().copied()).without(holders);
                    Step::Ask(Round::to_lacking(holders, lacking))
                }
                Err(fetch) => fetch,
            };
        }
        if is_absent || tally.is_quorum(holders) {
            self.forget_lost_attempt(greatest.as_ref());
        }
        let verdict = match self.verdict(greatest.as_ref(), &stamp, tally) {
            Ok(verdict) => verdict,
            Err(fetch) => return fetch,
        };
        let ending = match verdict {
            Verdict::Write(write) => return self.propose(greatest.as_ref(), stamp, write),
            Verdict::Unknown => {
                self.is_attempted = true;
                return self.done(Reply::Failed(Failure::OutcomeForgotten));
            }
            Verdict::Applied(applied) => Ending::Applied(applied),
            // Records that this coordinator, or another one for an earlier try, left at a minority are buried before the change is
            // called failed.
            Verdict::Failed(failure) if is_settled && !self.may_have_written() => {
                self.settled = Some(Settled(greatest));
                return self.done(Reply::Failed(failure));
            }
            // Where nothing is there to bury them with, whoever finds one may still bring it to all.
            Verdict::Failed(_) if is_absent && self.may_have_written() => {
                return self.done(Reply::Failed(Failure::OutcomeForgotten));
            }
            Verdict::Failed(failure) => rule!(FailsUnsettled, Ending::Failed(failure.clone()), not {
                return self.done(Reply::Failed(failure));
            }),
            Verdict::Settled => Ending::Settled,
        };
        let must_bury =
            matches!(ending, Ending::Failed(_)) || self.goal == Goal::Settle { lifts: true } && lifted_above.is_some();
        if is_absent || (!must_bury && (is_settled || (is_plain && matches!(ending, Ending::Settled)))) {
            return match self.content_for(&ending, greatest.as_ref(), tally) {
                Ok(record) => self.done(self.reply(ending, record)),
                Err(fetch) => fetch,
            };
        }
        match self.content_of(greatest.as_ref(), tally) {
            Ok(record) => {
                let record = record.expect("an absence is settled").settled_under(stamp, self.ballot.clone());
                #[cfg(feature = "mutants")]
                let record = broken::settled(record);
                self.accept(record, ending)
            }
            Err(fetch) => fetch,
        }
    }

    /// The record that an ending tells of; only a read is told the record itself.
    fn content_for(
        &mut self,
        ending: &Ending,
        greatest: Option<&Digest>,
        tally: &Tally,
    ) -> Result<Option<Record>, Step> {
        if *ending == Ending::Settled { self.content_of(greatest, tally) } else { Ok(None) }
    }

    /// The record of this digest, with its content; or the step that fetches it.
    fn content_of(&mut self, digest: Option<&Digest>, tally: &Tally) -> Result<Option<Record>, Step> {
        let Some(digest) = digest else { return Ok(None) };
        if let Some(record) = self.in_hand.clone().filter(|record| record.digest() == *digest) {
            return Ok(Some(record));
        }
        self.phase = Phase::Fetch;
        let holders = self.promised.iter().filter(|(_, held)| held.as_ref() == Some(digest));
        let holders = tally.set_of(holders.map(|(member, _)| *member));
        Err(Step::Ask(Round::for_content(holders, tally)))
    }

    /// Judges the change on the greatest record. `stamp` is that of the record to be proposed.
    fn verdict(&mut self, greatest: Option<&Digest>, stamp: &Stamp, tally: &Tally) -> Result<Verdict, Step> {
        let Goal::Change(key, request) = self.goal.clone() else { return Ok(Verdict::Settled) };
        let (recent, recent_floor) = greatest.map_or_else(|| (Vec::new(), Version::absent()), Digest::history);
        let version = greatest.map_or_else(Version::absent, Digest::version);
        let has_value = greatest.is_some_and(|digest| digest.is_value);
        let applied = recent.into_iter().find(|applied| applied.token == request.token);
        if let Some(applied) = rule!(RecentIsIgnored, applied, not None) {
            return Ok(Verdict::Applied(applied));
        }
        let is_repeated = self.is_attempted || request.is_resend;
        let condition_failed = || Ok(Verdict::Failed(Failure::ConditionFailed { version: version.clone(), has_value }));
        match &self.since {
            // A condition without a version may hold again: running it once more could apply the change twice.
            None if request.is_resend => {
                return if rule!(ResendSaysFailed, true, not false) {
                    Ok(Verdict::Unknown)
                } else {
                    condition_failed()
                };
            }
            Some(since) if rule!(RecentFloorIgnored, recent_floor > *since, not false) => {
                return if rule!(ResendSaysFailed, is_repeated, not false) {
                    Ok(Verdict::Unknown)
                } else {
                    condition_failed()
                };
            }
            _ => {}
        }
        let proposed = || Version::new(stamp.clone(), Some(self.ballot.clone()));
        match request.change {
            Change::Write { condition, content, ttl, checksum } => {
                if condition.holds(greatest) {
                    Ok(Verdict::Write(Write { content, ttl, checksum, sum: None }))
                } else {
                    condition_failed()
                }
            }
            // A read of one replica has told a version that no majority holds. Were it built on less, and that version written over
            // it, then the history since that version would not name the addition, and it would count again.
            Change::Add { since: Some(since), .. } if rule!(AddsBelowSince, since >= proposed(), not false) => {
                if is_repeated {
                    Ok(Verdict::Unknown)
                } else {
                    condition_failed()
                }
            }
            Change::Add { delta, ttl, keeps_ttl, .. } => {
                let is_kept = rule!(AdditionKeepsTtl, keeps_ttl, not true);
                let record = self.content_of(greatest, tally)?;
                // Kept for longer than its time to live, it is absent: one proposal is its expiry and the addition. Else each
                // addition would let it live on.
                let is_there = |record: &Record| rule!(AdditionToExpired, !(is_kept && self.ages.is_past(record)));
                let record = record.filter(is_there);
                let kept = record.as_ref().filter(|record| is_kept && record.is_value());
                let left = kept.map(|record| rule!(AdditionRenewsTtl, self.ages.ttl_left(record), not record.ttl));
                let ttl = rule!(AdditionLosesTtl, left.unwrap_or(ttl), not ttl);
                let number = number_in(record.as_ref().map(|record| &record.content));
                let Some(sum) = number.and_then(|number| number.checked_add(delta)) else {
                    // No version keeps another coordinator, which the request was sent to before, from adding to a later
                    // number.
                    return Ok(if rule!(ResendSaysFailed, request.is_resend, not false) {
                        Verdict::Unknown
                    } else {
                        Verdict::Failed(Failure::NotANumber { version })
                    });
                };
                let content = content_of(sum);
                let checksum = Checksum::of_write(&key, &content, ttl);
                Ok(Verdict::Write(Write { content, ttl, checksum, sum: Some(sum) }))
            }
        }
    }

    /// Proposes a content that was computed from the greatest record, under its stamp or a greater one.
    fn propose(&mut self, base: Option<&Digest>, stamp: Stamp, write: Write) -> Step {
        let Goal::Change(_, request) = &self.goal else { unreachable!("a read writes nothing") };
        let Write { content, ttl, checksum, sum } = write;
        let version = Version::new(stamp.clone(), Some(self.ballot.clone()));
        assert!(base.is_none_or(|base| base.tag() < version.tag()), "a conditional write is above its base");
        let applied = Applied { token: request.token, version, sum };
        let proposal = Proposal::following(base, self.ballot.clone(), applied.clone());
        let checksum_of_record = checksum.and_proposal(Some(&proposal));
        let record = Record { stamp, proposal: proposal.shared(), ttl, content, checksum: checksum_of_record };
        #[cfg(feature = "mutants")]
        let (record, applied) = broken::freshly_stamped(record, applied, checksum, &self.ballot);
        (self.attempt, self.is_attempted) = (Some(applied.version.clone()), true);
        // Whether this attempt took effect is found out from the history since its base.
        if self.since.is_none() {
            must!(RunsAgainOnNewBase, self.since = Some(base.map_or_else(Version::absent, Digest::version)));
        }
        self.accept(record, Ending::Applied(applied))
    }

    fn accept(&mut self, record: Record, ending: Ending) -> Step {
        self.phase = Phase::Accept(record, ending);
        Step::Ask(Round::to_all())
    }

    fn reply(&self, ending: Ending, record: Option<Record>) -> Reply {
        match ending {
            Ending::Applied(Applied { version, sum: Some(sum), .. }) => Reply::Added { sum, version },
            Ending::Applied(Applied { version, sum: None, .. }) => Reply::Set(version),
            Ending::Failed(failure) => Reply::Failed(failure),
            Ending::Settled => Reply::Record(record.map(|record| self.ages.aged(record))),
        }
    }
}

impl Operation for Cas {
    fn start(&mut self) -> Step {
        self.on_resumed()
    }

    fn on_resumed(&mut self) -> Step {
        if matches!(self.phase, Phase::Look { .. }) { self.look() } else { self.draw() }
    }

    fn expect(&mut self, settled: &Settled) {
        if self.fails_on(settled).is_some() {
            self.phase = Phase::Look { has_paused: true };
        }
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn settled(&self) -> Option<Settled> {
        match &self.phase {
            Phase::Accept(record, _) => Some(Settled(Some(record.digest()))),
            _ => self.settled.clone(),
        }
    }

    fn fails_on(&self, Settled(settled): &Settled) -> Option<Reply> {
        let settled = settled.as_ref();
        let Goal::Change(_, request) = &self.goal else { return None };
        let Change::Write { condition, .. } = &request.change else { return None };
        // Nothing is promised: the first try of a request that is sent again may take effect yet.
        if rule!(LookFailsResend, request.is_resend, not false) || condition.holds(settled) {
            return None;
        }
        let version = settled.map_or_else(Version::absent, Digest::version);
        let has_value = settled.is_some_and(|digest| digest.is_value);
        Some(Reply::Failed(Failure::ConditionFailed { version, has_value }))
    }

    fn on_stamp(&mut self, stamp: Stamp) -> Step {
        self.ballot = stamp;
        self.is_preempted = false;
        self.promised.clear();
        self.seals.begin_round();
        self.in_hand = None;
        self.phase = Phase::Prepare;
        let fanout = if self.tellers.is_empty() { Fanout::MajorityInOrder } else { Fanout::All };
        Step::Ask(Round { fanout, ..Round::to_all() })
    }

    fn request(&self, key: &Key, leads: bool) -> Request {
        let key = key.clone();
        match &self.phase {
            Phase::Idle | Phase::Prepare => {
                let read_kind = if leads && self.needs_content() { ReadKind::Data } else { ReadKind::Digest };
                Request::Prepare { key, ballot: self.ballot.clone(), read_kind }
            }
            Phase::Look { .. } => Request::Get { key, read_kind: ReadKind::Digest },
            Phase::Fetch => Request::Get { key, read_kind: ReadKind::Data },
            Phase::StoreBase(record) => {
                let (record, age) = (record.clone(), self.ages.of(record));
                Request::Store { key, record, age, origin: StoreOrigin::Repair }
            }
            Phase::Accept(record, _) => Request::Accept { key, record: record.clone(), age: self.ages.of(record) },
        }
    }

    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard {
        match (answer, &self.phase) {
            (Answer::Promised { key, held, age, seal }, Phase::Prepare) => {
                self.ages.hear(&held, age);
                self.seals.hear(from, &key, seal);
                let digest = held.digest();
                self.observe(digest.as_ref());
                // The replica has accepted a greater ballot since it gave the promise. The record cannot be the base of a
                // smaller ballot: versions would fall.
                let is_above = digest.as_ref().and_then(Digest::ballot).is_some_and(|ballot| *ballot >= self.ballot);
                if rule!(BaseAboveBallot, is_above, not false) {
                    self.is_preempted = true;
                    return Heard::Refuses;
                }
                self.keep(held);
                self.promised.insert(from, digest);
                Heard::Counts
            }
            (Answer::Lookup { key, held, seal, .. }, Phase::Look { .. }) => {
                self.seals.hear(from, &key, seal);
                let digest = held.digest();
                self.observe(digest.as_ref());
                let seen = self.promised.entry(from).or_default();
                *seen = digest.max(seen.take());
                Heard::Counts
            }
            (Answer::Lookup { held, age, .. }, Phase::Fetch) => {
                self.ages.hear(&held, age);
                let is_greatest = held.digest().as_ref() == self.greatest();
                if !is_greatest || !matches!(held, Lookup::Record(_)) {
                    return Heard::Refuses;
                }
                self.keep(held);
                Heard::Counts
            }
            (Answer::Stored, Phase::StoreBase(_) | Phase::Accept(..)) => Heard::Counts,
            // What is stored came too late: a replica may have forgotten a deletion above it.
            (Answer::Sealed, Phase::StoreBase(_)) => {
                self.is_preempted = true;
                Heard::Refuses
            }
            (Answer::Preempted { floor, seal }, Phase::Prepare | Phase::Accept(..)) => {
                self.seals.hear_of(seal);
                self.floor = self.floor.max(floor);
                self.is_preempted = true;
                Heard::Refuses
            }
            _ => Heard::Nothing,
        }
    }

    fn on_enough(&mut self, tally: &Tally) -> Step {
        match self.phase.clone() {
            Phase::Idle => Step::Wait,
            Phase::Look { .. } => self.on_look(tally),
            Phase::Prepare if !self.tellers.iter().all(|teller| self.promised.contains_key(teller)) => Step::Wait,
            Phase::Prepare => self.decide(tally, false),
            // The content arrived that was missing.
            Phase::Fetch => self.decide(tally, false),
            Phase::StoreBase(_) => self.decide(tally, true),
            Phase::Accept(record, ending) => self.done(self.reply(ending, Some(record))),
        }
    }

    fn on_impossible(&mut self) -> Step {
        if self.is_preempted || self.phase == Phase::Fetch { self.try_again() } else { Step::Failed }
    }

    /// What was proposed may have been accepted by some: that stays in mind.
    fn on_reconfigured(&mut self, tally: &Tally) -> Step {
        self.forget_others(tally);
        self.phase = Phase::Idle;
        self.is_preempted = false;
        self.draw()
    }

    fn forget_others(&mut self, tally: &Tally) {
        self.tellers.retain(|teller| tally.members().contains(teller));
    }

    fn on_sealed(&mut self) -> Step {
        self.draw()
    }

    /// A promise may be lost, and the same ballot is promised once; the holder of the content may be dead. A record that is
    /// stored or accepted is sent again, unless a replica has promised a greater ballot: with that one and a dead one
    /// against it, it may never reach a majority.
    fn on_late(&mut self) -> Step {
        match self.phase {
            Phase::Look { .. } => self.draw(),
            Phase::Prepare | Phase::Fetch => self.try_again(),
            Phase::Accept(..) | Phase::StoreBase(_) if self.is_preempted => self.try_again(),
            Phase::Idle | Phase::StoreBase(_) | Phase::Accept(..) => Step::Wait,
        }
    }

    fn is_most_likely_lost(&self) -> bool {
        self.is_preempted
    }

    fn hint(&self) -> Option<(Record, Age)> {
        match &self.phase {
            // A majority has accepted it: it is chosen.
            Phase::Accept(record, _) => Some((record.clone(), self.ages.of(record))),
            _ => None,
        }
    }

    fn may_have_written(&self) -> bool {
        matches!(&self.goal, Goal::Change(_, request) if self.is_attempted || request.is_resend)
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        match &self.goal {
            Goal::Settle { .. } => Failure::NoQuorum(report),
            Goal::Change(_, request) if self.is_attempted || request.is_resend => Failure::OutcomeUnknown(report),
            Goal::Change(..) => Failure::NotApplied(report),
        }
    }
}

/// Wrong code for mutants.
#[cfg(feature = "mutants")]
mod broken {
    use super::{Applied, Ballot, Checksum, Proposal, Record, Version};
    use crate::mutants::{Mutant, is_on};

    /// Settling gives a record a new version.
    pub(super) fn settled(record: Record) -> Record {
        let Some(proposal) = record.proposal.as_deref().filter(|_| is_on(Mutant::SettlingChangesVersion)) else {
            return record;
        };
        let version = Version::new(record.stamp.clone(), Some(proposal.ballot.clone()));
        Record { proposal: Proposal { version, ..proposal.clone() }.shared(), ..record }
    }

    /// A conditional write is a plain write with a fresh stamp.
    pub(super) fn freshly_stamped(
        record: Record,
        applied: Applied,
        checksum: Checksum,
        ballot: &Ballot,
    ) -> (Record, Applied) {
        if !is_on(Mutant::ConditionalTakesFreshStamp) {
            return (record, applied);
        }
        let version = Version::new(ballot.clone(), None);
        let record = Record { stamp: ballot.clone(), proposal: None, checksum, ..record };
        (record, Applied { version, ..applied })
    }
}
