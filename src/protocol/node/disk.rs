//! What follows when a batch is durable, or may not be.

use crate::mutants::{self, Mutant};
use crate::protocol::coordinator::ops::set;
use crate::protocol::group_commit::Settled;
use crate::protocol::message::Refusal;
use crate::protocol::replica::{Outcome, Owed};
use crate::protocol::{Effect, Failure, ProtocolEvent, Reply};
use crate::types::Meta;

use super::{Due, Kind, Node, Operation};

impl Node {
    pub(super) fn persisted(&mut self, durable: bool, effects: &mut Vec<Effect>) {
        match self.journal.settle(durable) {
            None => {}
            Some(Settled::Durable(batch, due)) => {
                if let Some(epoch) = batch.epoch {
                    self.clock.epoch_is_durable(epoch);
                    self.started = true;
                }
                if batch.formed {
                    self.handshake.formed();
                    effects.push(Effect::ProtocolEvent(ProtocolEvent::Formed));
                }
                for (key, (_, record)) in &batch.records {
                    if !mutants::is_on(Mutant::ClockBelowRecords) {
                        self.clock.observe(record.stamp.clock);
                    }
                    self.replica.became_durable(key, record.digest(), &self.journal);
                }
                for due in due {
                    self.pay(due, effects);
                }
                self.epoch_is_durable(effects);
                self.form_if_met();
            }
            Some(Settled::Failed(due)) if mutants::is_on(Mutant::AcknowledgedAfterFailure) => {
                for due in due {
                    self.pay(due, effects);
                }
            }
            Some(Settled::Failed(due)) => {
                if mutants::is_on(Mutant::FailureIsForgotten) {
                    self.journal.reopened();
                }
                self.replica.batch_failed();
                self.handshake.recording_failed();
                for due in &due {
                    self.refuse_to_pay(due, effects);
                }
                for id in std::mem::take(&mut self.awaiting_epoch) {
                    self.fail(id, effects);
                }
            }
        }
    }

    pub(super) fn pay(&mut self, due: Due, effects: &mut Vec<Effect>) {
        match due {
            Due::Replica(Owed { target, outcome }) => self.answers.push((target, outcome)),
            Due::Recorded { peer, peer_record, introduced_by } => {
                self.handshake.recorded(peer, peer_record);
                self.acquainted(peer, peer_record.incarnation, introduced_by, effects);
            }
            Due::ClockRaised { operation, to } => {
                self.clock.observe(to);
                self.end_local(operation, Reply::Clock(self.clock.now()), effects);
            }
        }
    }

    pub(super) fn refuse_to_pay(&mut self, due: &Due, effects: &mut Vec<Effect>) {
        match due {
            Due::Replica(Owed { target, .. }) => {
                self.answers.push((*target, Outcome::Refused(Refusal::StoreFailed)));
            }
            // The peer introduces itself again.
            Due::Recorded { .. } => {}
            Due::ClockRaised { operation, .. } => {
                self.end_local(*operation, Reply::Failed(Failure::StoreFailed), effects);
            }
        }
    }

    /// Writes that waited for an epoch draw their stamps.
    pub(super) fn epoch_is_durable(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.awaiting_epoch) {
            if let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get(&id)
                && let set::Step::Draw(floor) = write.step()
            {
                self.draw_stamp(id, floor, effects);
            }
        }
    }

    /// A cluster forms once this node and every other one have recorded each other; one alone has nobody to meet.
    pub(super) fn form_if_met(&mut self) {
        if self.started && self.handshake.may_form() && !self.journal.has_failed() {
            self.journal.add_formed();
        }
    }

    pub(super) fn store_reopened(&mut self, meta: &Meta, effects: &mut Vec<Effect>) {
        self.journal.reopened();
        // What failed may have become durable after all, which is as good as if it had not failed. A peer that is
        // recorded must not be recorded again in an earlier run, and who has formed need not meet everyone again.
        self.clock.epoch_is_durable(meta.epoch);
        self.handshake.store_reopened(meta.formed, &meta.peers);
        if !self.started {
            self.journal.add_incarnation(self.incarnation());
        }
        self.epoch_is_durable(effects);
        self.form_if_met();
    }
}
