//! Operators' requests: to this node's replica alone, and to its clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{OPERATOR_COUNTER_RAISE_MAX, OPERATOR_EPOCH_RAISE_MAX};
use crate::mutants::rule;
use crate::types::{Age, Clock, Key, NodeId, ReadKind, Record, Stamp};

use super::clock::{EpochNeeded, JumpBounds};
use super::context::{NodeCtx, PendingAck, Requester};
use super::group_commit::AckAfter;
use super::io::{Failure, Reply, RequestId, Time};
use super::message::StoreOrigin;
use super::replica::{Offer, Replica};

/// What an operator may raise the clock by at once.
const OPERATOR_JUMP: JumpBounds =
    JumpBounds { epochs_max: OPERATOR_EPOCH_RAISE_MAX, counts_max: OPERATOR_COUNTER_RAISE_MAX };

/// Operators' requests that wait for this node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operators {
    deadlines: BTreeMap<RequestId, Time>,
    timers: BTreeSet<(Time, RequestId)>,
}

impl Operators {
    /// Answers `request`, unless its deadline has passed.
    pub fn reply(&mut self, request: RequestId, reply: Reply, ctx: &mut NodeCtx<'_>) {
        if let Some(deadline) = self.deadlines.remove(&request) {
            self.timers.remove(&(deadline, request));
            ctx.reply(request, reply);
        }
    }

    /// When [`Operators::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Fails the requests whose deadline has passed.
    pub fn on_wake(&mut self, ctx: &mut NodeCtx<'_>) {
        while let Some((deadline, request)) = self.timers.first().copied()
            && deadline <= ctx.now
        {
            self.reply(request, Reply::Failed(Failure::StoreFailed), ctx);
        }
    }

    /// Reads the record that this node's replica holds.
    pub fn get(&mut self, request: RequestId, deadline: Time, key: Key, replica: &mut Replica, ctx: &mut NodeCtx<'_>) {
        match check_replica(&key, ctx) {
            Ok(()) => {
                self.wait(request, deadline);
                replica.get(key, ReadKind::Data, Requester::Operator(request), ctx);
            }
            Err(failure) => ctx.reply(request, Reply::Failed(failure)),
        }
    }

    /// Stores `record` on this node's replica alone. Its stamp is that of [`stamp_for`].
    pub fn set(
        &mut self,
        request: RequestId,
        deadline: Time,
        key: Key,
        record: Record,
        replica: &mut Replica,
        ctx: &mut NodeCtx<'_>,
    ) {
        self.wait(request, deadline);
        let offer = Offer::Store(StoreOrigin::Writer);
        replica.store(key, record, Age::NONE, offer, Requester::Operator(request), ctx);
    }

    /// Raises the clock, once its epoch is durable.
    pub fn raise_clock(&mut self, request: RequestId, deadline: Time, to: Clock, ctx: &mut NodeCtx<'_>) {
        if let Err(jump) = ctx.clock.check_jump(to, OPERATOR_JUMP) {
            let failure = Failure::RaiseTooFar { given: jump.seen, now: jump.now };
            ctx.reply(request, Reply::Failed(failure));
        } else if ctx.clock.is_durable(to.epoch) {
            ctx.clock.observe(to);
            ctx.reply(request, Reply::Clock(ctx.clock.now()));
        } else if ctx.group_commit.has_failed() {
            ctx.reply(request, Reply::Failed(Failure::StoreFailed));
        } else {
            ctx.group_commit.add_epoch(to.epoch);
            self.wait(request, deadline);
            ctx.group_commit.ack_after(AckAfter::Next, PendingAck::ClockRaised { request, to });
        }
    }

    /// `request` waits for the disk: until `deadline`, because a disk may hang.
    fn wait(&mut self, request: RequestId, deadline: Time) {
        self.deadlines.insert(request, deadline);
        self.timers.insert((deadline, request));
    }
}

/// Checks that this node holds a replica of `key`.
fn check_replica(key: &Key, ctx: &NodeCtx<'_>) -> Result<(), Failure> {
    let slot = ctx.layout.slot(key);
    if rule!(StandInsCount, ctx.layout.holds(ctx.me, slot)) {
        return Ok(());
    }
    let replicas: Vec<NodeId> = ctx.layout.replicas(slot).iter().map(|member| ctx.id(*member)).collect();
    Err(Failure::NotReplica { slot, replicas })
}

/// The stamp of an operator's store to `key`: the one given, or the next of this node's clock.
///
/// # Errors
/// When this node holds no replica of the key, when the stamp given is too far ahead, or when a greater epoch must become
/// durable first.
pub fn stamp_for(key: &Key, given: Option<Stamp>, ctx: &mut NodeCtx<'_>) -> Result<Stamp, Failure> {
    check_replica(key, ctx)?;
    match given {
        Some(stamp) => match ctx.clock.check_jump(stamp.clock, OPERATOR_JUMP) {
            Ok(()) => Ok(stamp),
            Err(jump) => Err(Failure::RaiseTooFar { given: jump.seen, now: jump.now }),
        },
        None => match ctx.clock.issue(Clock::default()) {
            Ok(clock) => Ok(Stamp { clock, writer: ctx.id(ctx.me) }),
            Err(EpochNeeded(epoch)) => {
                // Only at the very end of an epoch's counter. The next try finds the new epoch durable.
                if !ctx.group_commit.has_failed() {
                    ctx.group_commit.add_epoch(epoch);
                }
                Err(Failure::StoreFailed)
            }
        },
    }
}
