//! A round for deletions, while no client waits. The fence, what brings the replicas level, and the seal at two of them take no time.
//! The third is told the seal at any later time, or never. So the model is about what is on its way when a round begins, and about
//! replicas of which some have the seal.

use quorate::protocol::message::OperationId;
use quorate::protocol::{Message, Request, StoreOrigin};
use quorate::types::{Age, Clock, NodeIndex, Record};

use super::{Action, NODES, State, World};
use crate::machine::{Envelope, Event, key};
use crate::shared::Shared;

/// How far the round is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seal {
    until: Option<Clock>,
    is_told_to_all: bool,
}

impl World {
    pub(super) fn seal_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.seal.until.is_some() {
            let last = self.members().last().filter(|_| !state.seal.is_told_to_all);
            actions.extend(last.map(Action::Seals));
        } else if state.left.seals > 0
            && !state.clients.iter().any(|client| client.waits)
            && durable(state).any(|record| !record.is_value())
        {
            actions.push(Action::Round);
        }
    }

    /// The fence at all, and then all hold the same.
    pub(super) fn round(&self, state: &mut State) {
        let Some(until) = durable(state).map(|record| record.tag().clock()).max() else { return };
        state.left.seals -= 1;
        state.seal.until = Some(until);
        let slot = self.shell.placement.slot(&key());
        for member in self.members() {
            self.is_told(state, member, 0, Request::Fence { slot, fence: until });
        }
        self.all_is_durable(state);
        let Some(greatest) = durable(state).max_by(|one, other| one.tag().cmp(&other.tag())).cloned() else { return };
        for member in self.members() {
            let held = state.machines[member.index()].folder.records.get(&key());
            if held.is_none_or(|held| held.tag() < greatest.tag()) {
                let (key, record, age, origin) = (key(), greatest.clone(), Age::NONE, StoreOrigin::Repair);
                self.is_told(state, member, 1, Request::Store { key, record, age, origin });
            }
        }
        self.all_is_durable(state);
        for member in self.members().take(NODES - 1) {
            self.seals(state, member);
        }
        state.seal.is_told_to_all = false;
        self.all_is_durable(state);
    }

    /// The seal reaches one replica.
    pub(super) fn seals(&self, state: &mut State, member: NodeIndex) {
        let Some(seal) = state.seal.until else { return };
        state.seal.is_told_to_all = true;
        let slot = self.shell.placement.slot(&key());
        self.is_told(state, member, 2, Request::Seal { slot, seal });
    }

    /// A question of a round: a peer brings it.
    fn is_told(&self, state: &mut State, to: NodeIndex, step: u64, request: Request) {
        let Some(from) = self.others(to).next() else { return };
        let incarnation = |member: NodeIndex| state.machines[member.index()].node.incarnation();
        let (from_incarnation, to_incarnation) = (incarnation(from), Some(incarnation(to)));
        let message = Message::Request { operation: OperationId(u64::MAX - step), round: 0, number: 0, request };
        let envelope = Envelope { from, from_incarnation, to, to_incarnation, message };
        self.happens(state, to, Event::Arrives(Shared::new(envelope)));
    }

    fn all_is_durable(&self, state: &mut State) {
        while state.defect.is_none()
            && let Some(member) = self.members().find(|member| state.machines[member.index()].at_disk.is_some())
        {
            self.happens(state, member, Event::Persisted);
        }
    }
}

/// What the folders have of the key.
fn durable(state: &State) -> impl Iterator<Item = &Record> {
    state.machines.iter().filter_map(|machine| machine.folder.records.get(&key()))
}
