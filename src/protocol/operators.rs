//! Operators' requests: to this node's replica alone, and to its clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{OPERATOR_COUNTER_RAISE_MAX, OPERATOR_EPOCH_RAISE_MAX};
use crate::mutants::rule;
use crate::types::{Clock, Key, NodeId, Stamp};

use super::clock::{EpochNeeded, JumpBounds};
use super::context::{NodeCtx, PendingAck};
use super::group_commit::AckAfter;
use super::io::{Failure, Reply, RequestId, Time};

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
    /// `request` waits for the disk: until `deadline`, because a disk may hang.
    pub fn wait(&mut self, request: RequestId, deadline: Time) {
        self.deadlines.insert(request, deadline);
        self.timers.insert((deadline, request));
    }

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
}

/// Checks that this node holds a replica of `key`.
///
/// # Errors
/// When it holds none.
pub fn check_replica(key: &Key, ctx: &NodeCtx<'_>) -> Result<(), Failure> {
    let slot = ctx.placement.slot(key);
    if rule!(StandInsCount, ctx.placement.holds(ctx.me, slot)) {
        return Ok(());
    }
    let replicas: Vec<NodeId> = ctx.placement.replicas(slot).iter().map(|member| ctx.id(*member)).collect();
    Err(Failure::NotReplica { slot, replicas })
}

/// The stamp of an operator's store: the one given, or the next of this node's clock.
///
/// # Errors
/// When the stamp given is too far ahead, or a greater epoch must become durable first.
pub fn stamp(given: Option<Stamp>, ctx: &mut NodeCtx<'_>) -> Result<Stamp, Failure> {
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
