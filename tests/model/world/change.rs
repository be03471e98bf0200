//! A change of members. There are four nodes, and a list without node 1 takes the place of the list of all. So the slot of the key
//! goes from nodes 1, 2 and 3 to nodes 2, 3 and 4: node 4 gains it.
//!
//! The joint configuration was chosen before the model begins. Two of the old replicas and node 4 hear of it at the same moment, and
//! node 4 takes the slot over from these two, which takes no time. It may happen at any moment, so that any messages and
//! batches of clients are on their way. The others hear of it later, one by one. The end is proposed by node 2, within one
//! step and by the node's own rules. Then each node hears of the last configuration at a time of its own.
//!
//! What is asked and answered about members takes no time, nor does a batch without a record.

use std::sync::Arc;

use quorate::protocol::members::{MembersAnswer, MembersRequest};
use quorate::protocol::placement::Placement;
use quorate::protocol::{Answer, Message, Request};
use quorate::types::{ClusterParameters, Configuration, Member, MemberList, NodeId, NodeIndex, Site};

use super::{Action, NODES, State, World};
use crate::machine::{Envelope, Event, Machine, key};
use crate::milestones;
use crate::shared::Shared;

/// The node that proposes the end.
const ENDS: NodeIndex = NodeIndex(1);

/// How many alarms ring until a member proposes the end: each is half a second later, and the end is proposed after some seconds.
const ALARMS_MAX: usize = 32;

/// How members change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The pairs of old replicas of which one hears of the joint configuration first, and tells node 4.
    pub pairs: &'static [[usize; 2]],
    /// Whether the change comes to its end.
    pub ends: bool,
    /// When the change begins.
    pub begins: When,
    /// A member proposes the end as soon as it can, also where it must not.
    pub hurries: bool,
}

/// When a change begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At any moment.
    Always,
    /// While no client waits.
    Idle,
}

/// What takes no time in a step, beside what is about members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtOnce {
    #[default]
    Nothing,
    /// The last node copies its slot: each message from it or to it, and each batch.
    Copying,
    /// A member ends the change: it asks how far the others are.
    Ending,
}

impl World {
    /// A model in which members change.
    #[must_use]
    pub fn changing(mut self, change: Change) -> Self {
        let ids = ["1", "2", "3", "4"];
        let node_ids = ids.map(|id| NodeId::new(id).expect("this is an id")).to_vec();
        let parameters = |seed| ClusterParameters::plain(seed, NODES, node_ids.clone());
        // The first seed with which the last node does not hold the slot.
        let of_others = (0..1_000)
            .map(|seed| Placement::new(parameters(seed)))
            .find(|placement| !placement.holds(super::member(NODES), placement.slot(&key())));
        self.shell.placement = Arc::new(of_others.expect("each node holds three quarters of the slots"));
        self.shell.addresses = ids.map(|id| format!("n{id}:1").into()).to_vec();
        self.change = Some(change);
        self
    }

    /// The joint configuration, or the last one.
    fn configuration(&self, state: &State, number: u64) -> Arc<Configuration> {
        let placement = &self.shell.placement;
        let member = |(node, id): (NodeIndex, &NodeId)| {
            let address = Arc::clone(&self.shell.addresses[node.index()]);
            let store_id = state.machines[node.index()].folder.meta.store_id;
            Member { id: id.clone(), store_id, since: 0, address, site: Site::default() }
        };
        let members: Vec<Member> = self.members().zip(&placement.parameters().node_ids).map(member).collect();
        let new = MemberList { replica_count: NODES, members: members[1..].to_vec() };
        let old = MemberList { replica_count: NODES, members };
        let cluster = state.machines[0].node.membership().cluster().expect("the members have met");
        let seed = placement.parameters().seed;
        let before = Configuration { number: 0, cluster, seed, epoch_floor: 0, old, new: None };
        let joint = before.joint_with(new);
        Arc::new(if number == 1 { joint } else { joint.completed().expect("it is joint") })
    }

    /// The nodes know the layouts of the configurations that follow, so that they are computed once.
    pub(super) fn prepare_change(&self, state: &mut State) {
        if self.change.is_none() {
            return;
        }
        let (first, mut layouts) = (state.machines[0].node.clone(), Vec::new());
        for number in [1, 2] {
            let configuration = self.configuration(state, number);
            let before = layouts.last().unwrap_or_else(|| first.layout());
            layouts.push(first.membership().layout_under(&configuration, before));
        }
        for machine in &mut state.machines {
            let mut knowing = Machine::clone(machine);
            knowing.node.knows_ahead(&layouts);
            *machine = Shared::new(knowing);
        }
    }

    pub(super) fn change_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(change) = self.change else { return };
        let newest = self.members().map(|member| number(state, member)).max().unwrap_or(0);
        if newest == 0 {
            let is_idle = || !state.clients.iter().any(|client| client.waits);
            if change.begins == When::Always || is_idle() {
                actions.extend((0..change.pairs.len()).map(Action::Changes));
            }
            return;
        }
        for member in self.members() {
            // Node 1 is no member by the last one, and need not hear of it.
            let last = if member.index() == 0 { newest.min(1) } else { newest };
            if number(state, member) < last {
                actions.push(Action::Tells(member, last));
            }
        }
        // Before all have taken over what they must it proposes nothing: a model of its own shows that.
        let has_taken_over = |node: usize| {
            let node = &state.machines[node].node;
            node.layout().number() == 1 && node.members().own_progress().is_complete
        };
        if newest == 1 && change.ends && (1..=NODES).all(has_taken_over) {
            actions.push(Action::Ends(ENDS));
        }
    }

    /// Two of the old replicas hear of the joint configuration, and the last node, which takes the slot over from them.
    pub(super) fn changes(&self, state: &mut State, pair: usize) -> bool {
        let Some(change) = self.change else { return false };
        let last = super::member(NODES);
        state.at_once = AtOnce::Copying;
        for node in change.pairs[pair] {
            self.tells(state, super::member(node), 1);
        }
        if change.hurries {
            for node in 0..NODES {
                self.tells(state, super::member(node), 1);
            }
            state.at_once = AtOnce::Nothing;
            return self.ends(state, ENDS);
        }
        self.tells(state, last, 1);
        state.at_once = AtOnce::Nothing;
        number(state, last) == 1 && state.machines[last.index()].node.members().own_progress().is_complete
    }

    /// A node is told the configuration of this number.
    pub(super) fn tells(&self, state: &mut State, to: NodeIndex, wanted: u64) {
        if number(state, to) >= wanted {
            return;
        }
        let Some(from) = self.others(to).next() else { return };
        let incarnation = |member: NodeIndex| state.machines[member.index()].node.incarnation();
        let (from_incarnation, to_incarnation) = (incarnation(from), Some(incarnation(to)));
        let message = Message::Configuration(self.configuration(state, wanted));
        let envelope = Envelope { from, from_incarnation, to, to_incarnation, message };
        self.happens(state, to, Event::Arrives(Shared::new(envelope)));
        notes_change(state);
    }

    /// A member looks how far the others are, and proposes the end if it may. Says whether it was chosen.
    pub(super) fn ends(&self, state: &mut State, member: NodeIndex) -> bool {
        state.at_once = AtOnce::Ending;
        for _ in 0..ALARMS_MAX {
            if number(state, member) < 2 {
                self.happens(state, member, Event::MembersWake);
            }
        }
        state.at_once = AtOnce::Nothing;
        notes_change(state);
        number(state, member) == 2
    }
}

fn notes_change(state: &mut State) {
    let last = super::member(NODES);
    if number(state, last) > 0 && state.machines[last.index()].node.members().own_progress().is_complete {
        state.milestones |= milestones::TAKEN_OVER;
    }
    let after = [1, 2, 3].map(|node| number(state, super::member(node)));
    if after.iter().filter(|number| **number == 2).count() >= 2 {
        state.milestones |= milestones::MEMBERS_CHANGED;
    }
}

/// The number of the newest configuration that a node knows of.
fn number(state: &State, member: NodeIndex) -> u64 {
    let node = &state.machines[member.index()].node;
    node.members().adopting().unwrap_or(0).max(node.layout().number())
}

/// Whether a message takes no time.
pub(super) fn takes_no_time(envelope: &Envelope, at_once: AtOnce) -> bool {
    let last = super::member(NODES);
    let is_of_members = matches!(
        envelope.message,
        Message::Request { request: Request::Members(_), .. } | Message::Answer { answer: Answer::Members(_), .. }
    );
    is_of_members || at_once == AtOnce::Copying && (envelope.from == last || envelope.to == last)
}

/// Whether a message is lost. That a configuration is told is a step of its own. How far others are is asked by the node that ends
/// the change.
pub(super) fn is_lost(message: &Message, at_once: AtOnce) -> bool {
    match message {
        Message::Configuration(_) | Message::ConfigurationWanted => true,
        Message::Request { request: Request::Members(MembersRequest::Progress), .. }
        | Message::Answer { answer: Answer::Members(MembersAnswer::Progress(_)), .. } => at_once != AtOnce::Ending,
        _ => false,
    }
}
