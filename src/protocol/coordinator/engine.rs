//! The engine of rounds: which replicas are asked, and when they are asked again, for all operations alike.
//!
//! An operation says what it wants next ([`Step`]). The engine asks a majority or all replicas, counts their answers,
//! hedges, resends, and answers the client at the end, at its deadline at the latest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits::{EXPIRING_READ_WAITS_MAX, EXPIRING_READS_MAX, RESEND_AFTER_MAX};
use crate::mutants::rule;
use crate::protocol::clock::{EpochNeeded, PEER_JUMP};
use crate::protocol::context::{Caller, Task};
use crate::protocol::hints::{Hint, HintQueue};
use crate::protocol::io::{Failure, ProtocolEvent, Reply, Time};
use crate::protocol::membership::PeerView;
use crate::protocol::message::{Answer, OperationId, Refusal, Request, StoreOrigin};
use crate::protocol::quorum::Standing;
use crate::types::{AgedRecord, Clock, IdempotencyToken, Key, NodeIndex, Stamp, Version};

use super::clock_rounds::ClockRounds;
use super::context::CoordinatorCtx;
use super::exclusive::ExclusiveQueues;
use super::in_flight::{InFlight, Pace, Stage};
use super::latency::LatencyTracker;
use super::ops::{Cas, Enough, Fanout, Heard, OperationState, Round, Settled, Step};

/// The pause of an operation that met another coordinator is the usual time to an answer at first, and is doubled so often at
/// most. Longer ones would keep those waiting that queue behind it.
const PAUSE_DOUBLINGS_MAX: u32 = 4;
/// The pause of an operation that need not let others go first.
const AT_ONCE: Duration = Duration::from_micros(1);
/// So many operations in a row ask the same peers first.
const SAME_PEERS_FOR: u64 = 64;

/// All operations that this node coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// Boxed: the map moves its values when it changes.
    pub(super) operations: BTreeMap<OperationId, Box<InFlight>>,
    /// The last id given to an operation or clock round.
    last_id: u64,
    pub(super) clock_rounds: ClockRounds,
    /// Operations that wait until an epoch is durable.
    awaiting_epoch: Vec<OperationId>,
    exclusive: ExclusiveQueues,
    /// Operations whose turn in their queue has come; empty between two inputs.
    beginning: VecDeque<OperationId>,
    /// One for each operation: when to hedge, resend or give up.
    pub(super) timers: BTreeSet<(Time, OperationId)>,
    pub(in crate::protocol) latency: LatencyTracker,
    pub(super) hints: HintQueue,
}

impl Coordinator {
    /// A coordinator in a cluster of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            operations: BTreeMap::new(),
            last_id: 0,
            clock_rounds: ClockRounds::default(),
            awaiting_epoch: Vec::new(),
            exclusive: ExclusiveQueues::default(),
            beginning: VecDeque::new(),
            timers: BTreeSet::new(),
            latency: LatencyTracker::new(nodes),
            hints: HintQueue::default(),
        }
    }

    /// Starts an operation on `key`. Its caller gets the reply at `deadline` at the latest.
    pub fn start(
        &mut self,
        caller: Caller,
        deadline: Time,
        key: Key,
        operation: OperationState,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let (now, layout) = (ctx.node.now, ctx.node.layout);
        let slot = layout.slot(&key);
        let replicas = layout.replicas(slot);
        let mut tally = layout.tally(slot);
        #[cfg(feature = "mutants")]
        let voters = ctx.voters(replicas);
        #[cfg(feature = "mutants")]
        let replicas = &*voters;
        #[cfg(feature = "mutants")]
        if replicas != layout.replicas(slot) {
            tally = crate::protocol::quorum::Tally::single(replicas);
        }
        for replica in replicas {
            if *replica != ctx.node.me && matches!(ctx.membership.view(*replica), PeerView::Refused(_)) {
                tally.refuse(*replica);
            }
        }
        let id = self.next_id();
        let id = caller.traced().map_or(id, |request| ctx.node.trace(request, id));
        let alarm = now.after(self.latency.resend_delay()).min(deadline);
        self.timers.insert((alarm, id));
        let in_flight = InFlight {
            caller,
            key,
            slot,
            began: now,
            deadline,
            alarm,
            pace: Pace::Resend { times: 1 },
            refusals: BTreeMap::new(),
            round: 0,
            stage: Stage::Start,
            tally,
            operation,
            settled: None,
        };
        self.operations.insert(id, Box::new(in_flight));
        self.begin_operation(id, false, ctx);
    }

    /// Takes the first step of an operation, unless it has to wait for another one on its key.
    fn begin_operation(&mut self, id: OperationId, is_read: bool, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if operation.operation.is_exclusive() && !self.exclusive.join(&operation.key, id, is_read) {
            return operation.begin(Stage::Queued);
        }
        self.exclusive.begins_to_ask(id, &operation.key);
        let step = operation.operation.start();
        self.perform(id, step, ctx);
        // No operation waits for replicas that are known from the start to refuse.
        self.advance(id, ctx);
    }

    /// An exclusive operation on `key` has ended: the next one of its queue begins. That one may end at once,
    /// and so may those after it: they begin one after the other, and not each within the end of the one before.
    fn leave_queue(&mut self, id: OperationId, key: &Key, settled: Option<Settled>, ctx: &mut CoordinatorCtx<'_>) {
        let Some(next) = self.exclusive.leave(key, id) else { return };
        if let (Some(settled), Some(next)) = (settled, self.operations.get_mut(&next)) {
            next.operation.expect(&settled);
        }
        self.beginning.push_back(next);
        if self.beginning.len() > 1 {
            return;
        }
        while let Some(next) = self.beginning.front().copied() {
            if let Some(operation) = self.operations.get_mut(&next) {
                operation.pace = Pace::Resend { times: 1 };
                let alarm = ctx.node.now.after(self.latency.resend_delay()).min(operation.deadline);
                operation.set_alarm(next, alarm, &mut self.timers);
            }
            self.begin_operation(next, false, ctx);
            self.beginning.pop_front();
        }
    }

    /// Whether a client waits for an operation.
    #[must_use]
    pub fn serves_clients(&self) -> bool {
        let is_of_client = |caller| matches!(caller, Caller::Client(_) | Caller::Task(Task::Table(..)));
        self.operations.values().any(|operation| is_of_client(operation.caller))
    }

    /// A new id for an operation, a clock round, or another question to nodes.
    pub(in crate::protocol) fn next_id(&mut self) -> OperationId {
        self.last_id += 1;
        OperationId(self.last_id)
    }

    /// Takes the operation's next step, if its answers so far allow one.
    pub(super) fn advance(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let InFlight { stage, tally, operation, .. } = &mut **operation;
        let standing = tally.standing();
        let step = match stage {
            Stage::Clock { floor, .. } if rule!(NoClockRound, standing == Standing::Reached) => {
                let floor = *floor;
                return self.draw_stamp(id, floor, ctx);
            }
            Stage::Clock { .. } if standing == Standing::Impossible => Step::Failed,
            Stage::Start | Stage::Queued | Stage::Pause | Stage::Clock { .. } | Stage::Epoch { .. } => Step::Wait,
            Stage::Ask { enough: Enough::Quorum, .. } => match standing {
                Standing::Reached => operation.on_enough(tally),
                Standing::Impossible => operation.on_impossible(),
                Standing::Pending => Step::Wait,
            },
            Stage::Ask { enough: Enough::One, .. } if tally.has_counted_any() => operation.on_enough(tally),
            Stage::Ask { enough: Enough::One, .. } if tally.missing().next().is_none() => operation.on_impossible(),
            Stage::Ask { enough: Enough::One, .. } => Step::Wait,
            Stage::Seal(_) => match standing {
                Standing::Reached => operation.on_sealed(),
                Standing::Impossible => Step::Failed,
                Standing::Pending => Step::Wait,
            },
        };
        self.perform(id, step, ctx);
    }

    pub(super) fn perform(&mut self, id: OperationId, step: Step, ctx: &mut CoordinatorCtx<'_>) {
        match step {
            Step::Wait => {}
            Step::NeedStamp => {
                let Some(operation) = self.operations.get_mut(&id) else { return };
                operation.begin(Stage::Clock { floor: Clock::default(), rounds: Vec::new() });
                #[cfg(feature = "mutants")]
                self.join_older_clock_round(id);
                self.clock_rounds.wait(id, Fanout::Majority);
            }
            Step::NeedBallot(floor) => {
                let Some(operation) = self.operations.get_mut(&id) else { return };
                operation.begin(Stage::Epoch { floor });
                self.draw_stamp(id, floor, ctx);
            }
            Step::Pause(tries) => self.pause(id, tries, ctx),
            Step::Become(next) => {
                let Some(operation) = self.operations.get_mut(&id) else { return };
                let (was_exclusive, key) = (operation.operation.is_exclusive(), operation.key.clone());
                operation.operation = next.into();
                let is_exclusive = operation.operation.is_exclusive();
                self.begin_operation(id, true, ctx);
                if was_exclusive && !is_exclusive {
                    self.leave_queue(id, &key, None, ctx);
                }
            }
            Step::Expire(settled) => self.expire_for_read(id, settled, ctx),
            Step::Ask(round) => self.begin_round(id, round, ctx),
            Step::Seal(seal) => {
                let Some(operation) = self.operations.get_mut(&id) else { return };
                operation.begin(Stage::Seal(seal));
                operation.ask_missing(id, ctx);
            }
            Step::Done(reply) => self.finish(id, reply, ctx),
            Step::Failed => self.fail(id, ctx),
        }
    }

    /// Pauses an operation that met another coordinator. Pauses grow, and differ between nodes, so that one of them gets
    /// ahead.
    fn pause(&mut self, id: OperationId, tries: u32, ctx: &CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let members = ctx.node.layout.members();
        let place = members.iter().position(|member| *member == ctx.node.me).unwrap_or(0);
        let share = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (place, members) = (share(place), share(members.len()));
        let unit = self.latency.hedge_delay(operation.tally.members().iter().copied());
        let pause = tries.checked_sub(1).map_or(AT_ONCE, |tries| unit * 2_u32.pow(tries.min(PAUSE_DOUBLINGS_MAX)));
        let own_share = pause * place / members;
        let alarm = ctx.node.now.after(pause + own_share).min(operation.deadline);
        operation.begin(Stage::Pause);
        operation.pace = Pace::Pause;
        operation.set_alarm(id, alarm, &mut self.timers);
    }

    // Expiries.

    /// Deletes exactly `version` of `key`, because its time to live has passed.
    pub fn expire(
        &mut self,
        caller: Caller,
        deadline: Time,
        key: Key,
        version: &Version,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let token = self.token(ctx);
        let operation = rule!(
            ExpiryDeletesPlainly,
            OperationState::from(Cas::expiring(key.clone(), version, token)),
            not OperationState::from(super::ops::Set::deleting(&key))
        );
        self.start(caller, deadline, key, operation, ctx);
    }

    /// A read found that the time to live of its record has passed. It deletes the record before it goes on. It leaves half
    /// of its time to that at most; where that does not do, or too many do so already, it answers the record.
    fn expire_for_read(&mut self, id: OperationId, settled: Box<AgedRecord>, ctx: &mut CoordinatorCtx<'_>) {
        let token = self.token(ctx);
        let now = ctx.node.now;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let (key, version) = (operation.key.clone(), settled.version());
        if self.exclusive.reads_waiting(&key) >= EXPIRING_READS_MAX {
            return self.finish(id, Reply::Record(Some(*settled)), ctx);
        }
        let wait = (operation.deadline.since(now) / 2).min(EXPIRING_READ_WAITS_MAX);
        operation.deadline = now.after(wait);
        operation.pace = Pace::Resend { times: 1 };
        let alarm = now.after(self.latency.resend_delay()).min(operation.deadline);
        operation.set_alarm(id, alarm, &mut self.timers);
        operation.settled = Some(settled);
        let was_exclusive = operation.operation.is_exclusive();
        operation.operation = Cas::expiring(key.clone(), &version, token).for_read().into();
        if was_exclusive {
            // The read has settled the record in its turn among the exclusive operations, and keeps it.
            let step = operation.operation.start();
            return self.perform(id, step, ctx);
        }
        self.begin_operation(id, true, ctx);
    }

    /// A name for a change of this node's own that no other change has.
    pub(in crate::protocol) fn token(&mut self, ctx: &CoordinatorCtx<'_>) -> IdempotencyToken {
        let nonce = u128::from(ctx.membership.incarnation().nonce);
        let OperationId(unique) = self.next_id();
        IdempotencyToken((nonce << 64 | u128::from(unique)).to_be_bytes())
    }

    // Rounds.

    fn begin_round(&mut self, id: OperationId, round: Round, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Round { fanout, enough, counted, unwanted, event } = round;
        if let Some(event) = event {
            ctx.node.report(event);
        }
        operation.begin(Stage::Ask { fanout, enough });
        operation.tally.preset(counted, unwanted);
        if fanout.is_hedged() {
            let first = self.choose_first(id, fanout, ctx);
            self.ask_hedged(id, &first, ctx);
        } else {
            operation.ask_missing(id, ctx);
        }
    }

    /// Chooses the replicas that are asked first: a quorum of those that can be reached, with this node among them where it
    /// is a replica, or as `fanout` says. Where others are left, they are asked when the timer fires.
    pub(super) fn choose_first(&mut self, id: OperationId, fanout: Fanout, ctx: &CoordinatorCtx<'_>) -> Vec<NodeIndex> {
        let Some(operation) = self.operations.get_mut(&id) else { return Vec::new() };
        let (tally, now) = (&operation.tally, ctx.node.now);
        // All operations of one turn, and of some more, ask the same peers first, so that their requests share messages.
        // Over time each peer is asked first as often as any other.
        let replicas = tally.members();
        let in_order = fanout == Fanout::MajorityInOrder;
        let rotation = if in_order { 0 } else { usize::try_from(id.0 / SAME_PEERS_FOR).unwrap_or(0) % replicas.len() };
        let turn = |peer: &NodeIndex| {
            let position = replicas.iter().position(|replica| replica == peer).unwrap_or(0);
            (position + rotation) % replicas.len()
        };
        let mut chosen: Vec<NodeIndex> = tally.missing().filter(|peer| ctx.reaches(*peer).is_some()).collect();
        chosen.sort_by_key(|peer| (!in_order && *peer != ctx.node.me, self.latency.is_slow(*peer, now), turn(peer)));
        let are_left = match fanout {
            Fanout::Nearest | Fanout::Holder => {
                let reached = chosen.len();
                chosen.truncate(1);
                chosen.len() < reached
            }
            Fanout::Lacking(lacking) => tally.keep_wanted(lacking, &mut chosen),
            _ => tally.keep_quorum(&mut chosen),
        };
        if are_left {
            let first = chosen.iter().copied();
            let delay = match fanout {
                Fanout::Holder => self.latency.content_delay(first),
                Fanout::Lacking(_) => self.latency.store_delay(first),
                _ => self.latency.hedge_delay(first),
            };
            // The others need some of the time that the client gives, too.
            let alarm = now.after(delay.min(operation.deadline.since(now) / 2));
            operation.pace = Pace::Hedge;
            operation.set_alarm(id, alarm, &mut self.timers);
        } else if let Stage::Ask { .. } = operation.stage {
            // The timer of an earlier round is not theirs.
            let alarm = now.after(self.latency.resend_delay()).min(operation.deadline);
            operation.pace = Pace::Resend { times: 1 };
            operation.set_alarm(id, alarm, &mut self.timers);
        }
        chosen
    }

    /// Asks `members` in a round that is hedged.
    fn ask_hedged(&mut self, id: OperationId, members: &[NodeIndex], ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        for member in members {
            operation.tally.ask(*member);
        }
        operation.send(id, members.iter().copied(), ctx);
    }

    /// A majority was asked, and one of it has refused or has not answered in its usual time: asks the others too.
    fn hedge(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let others: Vec<NodeIndex> = rule!(NobodyElseIsAsked, operation.not_asked().collect(), not Vec::new());
        if others.is_empty() {
            return;
        }
        let write = operation.awaits_clocks();
        ctx.node.report(ProtocolEvent::Hedged { write });
        if write {
            self.clock_rounds.wait(id, Fanout::Remaining);
        } else {
            self.ask_hedged(id, &others, ctx);
        }
    }

    /// `refused_by` will not answer: if it is one of a majority that was asked first, the others are asked at once.
    pub(super) fn hedge_now(&mut self, id: OperationId, refused_by: NodeIndex) {
        if let Some(operation) = self.operations.get_mut(&id)
            && operation.may_hedge()
            && operation.tally.is_asked(refused_by)
        {
            operation.pace = Pace::HedgeNow;
            operation.set_alarm(id, operation.began, &mut self.timers);
        }
    }

    /// Asks those again that have not answered.
    fn resend(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        ctx.node.report(ProtocolEvent::Resent);
        #[cfg(feature = "mutants")]
        operation.restamp(ctx);
        match &operation.stage {
            Stage::Clock { rounds, .. } if !rounds.is_empty() => self.clock_rounds.wait(id, Fanout::All),
            Stage::Start | Stage::Queued | Stage::Pause | Stage::Clock { .. } | Stage::Epoch { .. } => {}
            Stage::Ask { .. } => match operation.operation.on_late() {
                Step::Wait => operation.ask_missing(id, ctx),
                step => self.perform(id, step, ctx),
            },
            Stage::Seal(_) => operation.ask_missing(id, ctx),
        }
    }

    // Stamps.

    fn draw_stamp(&mut self, id: OperationId, floor: Clock, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if let Stage::Clock { rounds, .. } = &mut operation.stage {
            self.clock_rounds.leave(id, &std::mem::take(rounds));
        }
        #[cfg(feature = "mutants")]
        ctx.use_epoch_before_durable(floor);
        match ctx.node.clock.issue(floor) {
            Ok(clock) => {
                self.exclusive.begins_to_ask(id, &operation.key);
                let writer = rule!(StampWithoutWriter, ctx.node.writer(), not ctx.node.id(NodeIndex(0)));
                let step = operation.operation.on_stamp(Stamp { clock, writer });
                self.perform(id, step, ctx);
            }
            // It has no stamp and never gets one: certainly not applied.
            Err(EpochNeeded(_)) if ctx.node.group_commit.has_failed() => self.fail(id, ctx),
            Err(EpochNeeded(epoch)) => {
                operation.stage = Stage::Epoch { floor };
                self.awaiting_epoch.push(id);
                ctx.node.group_commit.add_epoch(epoch);
            }
        }
    }

    /// An epoch is durable: the operations that waited for it draw their stamps.
    pub fn on_epoch_durable(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        for id in std::mem::take(&mut self.awaiting_epoch) {
            if let Some(Stage::Epoch { floor }) = self.operations.get(&id).map(|operation| &operation.stage) {
                let floor = *floor;
                self.draw_stamp(id, floor, ctx);
            }
        }
    }

    /// A batch failed: no epoch becomes durable, and operations without a stamp never get one.
    pub fn on_batch_failed(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        for id in std::mem::take(&mut self.awaiting_epoch) {
            self.fail(id, ctx);
        }
    }

    // Answers.

    /// A replica, of this node or a peer, answers round `round` of an operation or clock round.
    pub fn on_answer(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        answer: Answer,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        match answer {
            Answer::Clock(clock) => self.on_clock(from, id, clock, ctx),
            Answer::Lookup { .. }
            | Answer::Stored
            | Answer::Promised { .. }
            | Answer::Preempted { .. }
            | Answer::Sealed => self.on_answer_to_round(from, id, round, answer, ctx),
            // Of a page that has ended.
            Answer::Scanned(_) => {}
            // These are for watches, and for a comparison that has ended.
            Answer::Changes { .. } | Answer::ChangesLost | Answer::Repair(_) => {}
            // Of a question about members that has ended.
            Answer::Members(_) => {}
            // Of a round for deletions that has ended.
            Answer::Fenced { .. } | Answer::OldRecords(_) => {}
            Answer::Refused(refusal) => {
                // A peer whose answer this node had no room for has answered in time.
                if from != ctx.node.me && !refusal.is_of_asker() {
                    self.latency.mark_slow(from, ctx.node.now);
                }
                if self.clock_rounds.is_in_flight(id) {
                    self.on_clock_refused(from, id, refusal, ctx);
                } else {
                    self.on_refused(from, id, round, refusal, ctx);
                }
            }
        }
    }

    fn on_answer_to_round(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        answer: Answer,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else {
            // A record below the seal of its slot was not needed any more, or repair brings it.
            if matches!(answer, Answer::Stored | Answer::Sealed) {
                self.hints.answered(from, id.unmarked(), round);
            }
            return;
        };
        let (is_peer, took) = (from != ctx.node.me, ctx.node.now.since(operation.began));
        // An exclusive operation may have waited and paused since it began.
        if is_peer && answer == Answer::Stored && !operation.operation.is_exclusive() {
            self.latency.stored(from, took);
        }
        let is_of_other_key = answer.key().is_some_and(|key| *key != operation.key);
        if !operation.counts(round) || is_of_other_key || !operation.tally.members().contains(&from) {
            return;
        }
        if is_peer && round == 0 && !operation.operation.is_exclusive() {
            self.latency.answered(from, took);
        }
        if let Some(seen) = answer.clock_of_ballots()
            && ctx.node.clock.check_jump(seen, PEER_JUMP).is_err()
        {
            ctx.node.report(ProtocolEvent::ClockJump { seen });
            return self.on_refused(from, id, round, Refusal::ClockJump, ctx);
        }
        let heard = match operation.stage {
            Stage::Seal(_) if answer == Answer::Stored => Heard::Counts,
            Stage::Seal(_) => Heard::Nothing,
            _ => operation.operation.on_answer(from, answer),
        };
        match heard {
            Heard::Nothing => return,
            Heard::Counts => operation.tally.count(from),
            Heard::Refuses => {
                operation.tally.refuse(from);
                self.hedge_now(id, from);
                self.advance(id, ctx);
                return self.stop_waiting_in_vain(id, round, ctx);
            }
        }
        self.advance(id, ctx);
    }

    /// A replica cannot answer this round. Where no quorum of those that can be reached is left, an operation that can take
    /// another step need not wait for the others, which may be dead.
    fn stop_waiting_in_vain(&mut self, id: OperationId, round: u32, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if operation.round != round || !matches!(operation.stage, Stage::Ask { enough: Enough::Quorum, .. }) {
            return;
        }
        let tally = &operation.tally;
        let uncounted = tally.set_of(tally.uncounted());
        let reached = tally.set_of(tally.missing().filter(|member| ctx.reaches(*member).is_some()));
        if !tally.is_quorum(tally.set_without(uncounted).or(reached)) {
            let step = operation.operation.on_late();
            self.perform(id, step, ctx);
        } else if operation.operation.is_most_likely_lost() && !operation.pace.is_hedging() {
            let soon = ctx.node.now.after(self.latency.hedge_delay(tally.missing()));
            operation.set_alarm(id, soon.min(operation.alarm), &mut self.timers);
        }
    }

    fn on_refused(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        refusal: Refusal,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return self.hints.answered(from, id.unmarked(), round);
        };
        if !operation.counts(round) {
            return;
        }
        if refusal == Refusal::Dropped {
            return self.table_dropped(id, ctx);
        }
        operation.note_refusal(from, refusal);
        self.hedge_now(id, from);
        #[cfg(feature = "mutants")]
        if self.takes_refusal_for_nothing(from, id, ctx) {
            return;
        }
        if refusal.is_permanent() {
            self.refuse(from, id, ctx);
        }
    }

    /// A replica knows that the table of an operation was dropped. That says nothing of the key: the operation ends, and tells
    /// whether it may have written.
    fn table_dropped(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.end(id) else { return };
        ctx.replica.hears_of_drop(operation.key.table(), &mut ctx.node);
        // A read that is to delete what it found has written nothing of its own.
        let may_have_written = operation.settled.is_none() && operation.operation.may_have_written();
        let failure = if may_have_written { Failure::DroppedMeanwhile } else { Failure::TableDropped };
        ctx.node.finish(operation.caller, Reply::Failed(failure));
        if operation.operation.is_exclusive() {
            self.leave_queue(id, &operation.key, None, ctx);
        }
    }

    /// `from` will not answer the present round.
    fn refuse(&mut self, from: NodeIndex, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.tally.refuse(from);
            self.advance(id, ctx);
        }
    }

    // Peers.

    /// `peer` and this node refuse to talk: no operation in flight waits for it any longer.
    pub fn exclude(&mut self, peer: NodeIndex, ctx: &mut CoordinatorCtx<'_>) {
        let in_flight: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in in_flight {
            self.hedge_now(id, peer);
            self.refuse(peer, id, ctx);
        }
    }

    /// `peer` and this node do not refuse each other any longer: operations in flight wait for it again. A late hello of an
    /// earlier incarnation may be refused while the present one is being recorded. Requests that the peer refused itself
    /// stay refused.
    pub fn readmit(&mut self, peer: NodeIndex) {
        for operation in self.operations.values_mut() {
            let has_refused = operation.refusals.get(&peer).is_some_and(|refusal| refusal.is_permanent());
            // Where one answer is enough, those that cannot give it stay out.
            if !has_refused && !matches!(operation.stage, Stage::Ask { enough: Enough::One, .. }) {
                operation.tally.reconsider(peer);
            }
        }
    }

    /// Sends `peer`, which can be reached again, what it has missed: hints, and the requests that may be lost.
    pub fn catch_up(&mut self, peer: NodeIndex, ctx: &mut CoordinatorCtx<'_>) {
        let hints = self.hints.linked(peer, ctx.node.now);
        self.send_hints(peer, hints, ctx);
        let waiting = self.operations.iter().filter(|(_, operation)| operation.waits_for(peer));
        let waiting: Vec<OperationId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.resend(id, ctx);
        }
    }

    fn send_hints(&mut self, peer: NodeIndex, hints: Vec<(OperationId, Hint)>, ctx: &mut CoordinatorCtx<'_>) {
        let Some(incarnation) = ctx.reaches(peer) else { return self.hints.unlinked(peer) };
        for (id, hint) in hints {
            let age = hint.age_at(ctx.node.now);
            let request = Request::Store { key: hint.key, record: hint.record, age, origin: StoreOrigin::Repair };
            ctx.ask(peer, incarnation, id, hint.round, request);
        }
    }

    // Time.

    /// When [`Coordinator::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let first = self.timers.first().map(|(time, _)| *time);
        [first, self.hints.next_wake()].into_iter().flatten().min()
    }

    /// Hedges, resends or gives up every operation whose timer has fired, and sends the hints that are due.
    pub fn on_wake(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        let now = ctx.node.now;
        for (peer, hints) in self.hints.due(now) {
            self.send_hints(peer, hints, ctx);
        }
        while let Some((time, id)) = self.timers.first().copied()
            && time <= now
        {
            self.timers.pop_first();
            let Some(operation) = self.operations.get_mut(&id) else { continue };
            if operation.deadline <= now {
                self.fail(id, ctx);
                continue;
            }
            if operation.pace == Pace::Pause {
                self.exclusive.begins_to_ask(id, &operation.key);
                let step = operation.operation.on_resumed();
                operation.pace = Pace::Resend { times: 1 };
                operation.alarm = now.after(self.latency.resend_delay()).min(operation.deadline);
                self.timers.insert((operation.alarm, id));
                self.perform(id, step, ctx);
                continue;
            }
            let is_lost = operation.operation.is_most_likely_lost();
            let usual = || self.latency.hedge_delay(operation.tally.missing());
            let delay = if is_lost { usual() } else { self.latency.resend_delay() };
            let pace = operation.pace;
            let (times, wait) = match pace {
                Pace::Hedge | Pace::HedgeNow => (1, delay),
                // A pause has ended above.
                Pace::Pause => (1, delay),
                Pace::Resend { times } => (times + 1, (delay * 2_u32.pow(times.min(8))).min(RESEND_AFTER_MAX)),
            };
            operation.pace = Pace::Resend { times };
            operation.alarm = now.after(wait).min(operation.deadline);
            self.timers.insert((operation.alarm, id));
            if !pace.is_hedging() {
                self.resend(id, ctx);
            } else if operation.stage.is_hedged() {
                if pace == Pace::Hedge {
                    let (tally, me) = (&operation.tally, ctx.node.me);
                    let late = tally.missing().filter(|peer| tally.is_asked(*peer) && *peer != me);
                    late.for_each(|peer| self.latency.mark_slow(peer, now));
                }
                self.hedge(id, ctx);
            }
        }
    }

    // Ends.

    fn finish(&mut self, id: OperationId, reply: Reply, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.end(id) else { return };
        let me = ctx.node.me;
        ctx.node.finish(operation.caller, reply);
        if let Some((record, age)) = operation.operation.hint() {
            let kept = if record.ttl.is_some() { ctx.node.now } else { Time::default() };
            // What a replica has fenced off would pass as a copy. It may lack the deletion above it. Repair brings what it lacks.
            let is_fenced = |peer: &NodeIndex| operation.refusals.get(peer) == Some(&Refusal::Fenced);
            for peer in operation.tally.uncounted().filter(|peer| *peer != me && !is_fenced(peer)) {
                let (key, record) = (operation.key.clone(), record.clone());
                let hint = Hint { round: operation.round, key, record, age, kept };
                let hints = self.hints.add(peer, id.unmarked(), hint);
                if hints > 0 {
                    ctx.node.report(ProtocolEvent::HintsDropped { peer, hints });
                }
            }
        }
        if operation.operation.is_exclusive() {
            let settled = operation.operation.settled();
            if let Some(settled) = &settled {
                self.judge_waiting(id, &operation.key, settled, ctx);
            }
            self.leave_queue(id, &operation.key, settled, ctx);
        }
    }

    /// The writes that waited when operation `id` last began to ask end at once if their conditions fail on the record that it
    /// has settled: it was the greatest record of the key at some moment since.
    fn judge_waiting(&mut self, id: OperationId, key: &Key, settled: &Settled, ctx: &mut CoordinatorCtx<'_>) {
        for waiting in self.exclusive.asked_for(key, id) {
            let reply = self.operations.get(&waiting).and_then(|waiting| waiting.operation.fails_on(settled));
            if let Some(reply) = reply {
                self.finish(waiting, reply, ctx);
            }
        }
    }

    fn fail(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        let Some(operation) = self.end(id) else { return };
        let reply = match &operation.settled {
            Some(settled) => Reply::Record(Some(AgedRecord::clone(settled))),
            None => Reply::Failed(operation.operation.failure(operation.report(ctx))),
        };
        ctx.node.finish(operation.caller, reply);
        if operation.operation.is_exclusive() {
            self.leave_queue(id, &operation.key, None, ctx);
        }
    }

    fn end(&mut self, id: OperationId) -> Option<Box<InFlight>> {
        let operation = self.operations.remove(&id)?;
        self.timers.remove(&(operation.alarm, id));
        if let Stage::Clock { rounds, .. } = &operation.stage {
            self.clock_rounds.leave(id, rounds);
        }
        Some(operation)
    }
}
