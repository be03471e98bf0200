//! The vote on the successor of a configuration: Paxos among the members of its old list.
//!
//! Invariants: a member's promise and what it accepted are durable before it answers. A proposer that finds something accepted
//! proposes that. So each number has one configuration.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{MEMBERS_VOTE_AGAIN, MEMBERS_VOTE_PAUSE};
use crate::mutants::rule;
use crate::protocol::context::{Delivery, Origin, PendingAck, Requester};
use crate::protocol::group_commit::AckAfter;
use crate::protocol::io::{Failure, Reply, Time};
use crate::protocol::message::{Answer, Message, Refusal};
use crate::protocol::quorum::majority;
use crate::types::{Configuration, NodeIndex, Vote, VoteBallot};

use super::messages::{MembersAnswer, MembersRequest};
use super::proposal::{Proposal, Stage};
use super::refusal::MembersRefusal;
use super::state::{Members, MembersCtx};

impl Members {
    /// Begins a vote in which this node proposes `wanted`.
    pub(super) fn propose(&mut self, wanted: Configuration, deadline: Time, ctx: &mut MembersCtx<'_>) {
        let id = ctx.coordinator.next_id();
        let epoch = ctx.shared.membership.incarnation().epoch;
        let ballot = VoteBallot { count: 0, proposer: ctx.shared.node.writer(), epoch };
        let (wanted, stage) = (Arc::new(wanted), Stage::Pause);
        self.proposal = Some(Proposal { id, round: 0, ballot, wanted, stage, again_at: ctx.now(), deadline });
        self.prepare(ctx);
    }

    /// Begins the next try, above every ballot that this node knows of.
    fn prepare(&mut self, ctx: &mut MembersCtx<'_>) {
        let promised = self.promised(ctx.layout().number() + 1);
        let Some(proposal) = &mut self.proposal else { return };
        self.last_count = proposal.ballot.count.max(promised.count).max(self.last_count) + 1;
        proposal.ballot.count = self.last_count;
        proposal.round += 1;
        proposal.stage = rule!(
            ConfigWithoutPrepare,
            Stage::Prepare { promised: BTreeSet::new(), accepted: None },
            not Stage::Accept { configuration: Arc::clone(&proposal.wanted), by: BTreeSet::new() }
        );
        self.ask_voters(ctx);
    }

    /// Asks all voters that have not answered.
    fn ask_voters(&mut self, ctx: &mut MembersCtx<'_>) {
        let again_at = ctx.now().after(MEMBERS_VOTE_AGAIN);
        let Some(proposal) = &mut self.proposal else { return };
        proposal.again_at = again_at;
        let (id, round, ballot) = (proposal.id, proposal.round, proposal.ballot.clone());
        let (answered, request) = match &proposal.stage {
            Stage::Prepare { promised, .. } => (promised.clone(), MembersRequest::Prepare { ballot }),
            Stage::Accept { configuration, by } => {
                (by.clone(), MembersRequest::Accept { ballot, configuration: Arc::clone(configuration) })
            }
            Stage::Pause => return,
        };
        let voters: Vec<NodeIndex> = ctx.layout().old().members().to_vec();
        for voter in voters.into_iter().filter(|voter| !answered.contains(voter)) {
            if voter == ctx.me() {
                let from = ctx.own_origin(id, round);
                self.on_vote(from, request.clone(), ctx);
            } else {
                ctx.send(voter, id, round, request.clone());
            }
        }
    }

    /// A proposer asks this node.
    pub(super) fn on_vote(&mut self, from: Origin, request: MembersRequest, ctx: &mut MembersCtx<'_>) {
        let (layout, me) = (ctx.layout(), ctx.me());
        let number = layout.number() + 1;
        if !layout.old().members().contains(&me) {
            return ctx.shared.node.refuse(Requester::Coordinator(from), Refusal::NotReplica);
        }
        if ctx.shared.node.group_commit.has_failed() {
            return ctx.shared.node.refuse(Requester::Coordinator(from), Refusal::StoreFailed);
        }
        let promised = self.promised(number);
        let accepted = self.vote.take().filter(|vote| vote.number == number).and_then(|vote| vote.accepted);
        let cluster = ctx.shared.membership.cluster();
        let (answer, vote) = match request {
            MembersRequest::Prepare { ballot } if ballot >= promised => {
                let answer = MembersAnswer::Promised { accepted: accepted.clone() };
                (answer, Vote { number, promised: ballot, accepted })
            }
            MembersRequest::Accept { ballot, configuration }
                if ballot >= promised
                    && configuration.number == number
                    && configuration.is_valid()
                    && Some(configuration.cluster) == cluster =>
            {
                let vote = Vote { number, promised: ballot.clone(), accepted: Some((ballot, configuration)) };
                (MembersAnswer::Accepted, vote)
            }
            _ => {
                let answer = MembersAnswer::Preempted { promised: promised.clone() };
                (answer, Vote { number, promised, accepted })
            }
        };
        ctx.shared.node.group_commit.add_vote(vote.clone());
        self.vote = Some(vote);
        let answer = Delivery::Answer(from, Answer::Members(answer));
        ctx.shared.node.group_commit.ack_after(AckAfter::Next, PendingAck::Stored(answer));
    }

    /// A voter has answered.
    pub(super) fn on_voted(&mut self, from: NodeIndex, round: u32, answer: MembersAnswer, ctx: &mut MembersCtx<'_>) {
        let voters = ctx.layout().old().members();
        let (is_voter, needed) = (voters.contains(&from), majority(voters.len()));
        let Some(proposal) = self.proposal.as_mut().filter(|proposal| proposal.round == round && is_voter) else {
            return;
        };
        match (answer, &mut proposal.stage) {
            (MembersAnswer::Promised { accepted: told }, Stage::Prepare { promised, accepted }) => {
                promised.insert(from);
                if told.as_ref().map(|(ballot, _)| ballot) > accepted.as_ref().map(|(ballot, _)| ballot) {
                    *accepted = told;
                }
                if promised.len() >= needed {
                    let found = accepted.take().map(|(_, configuration)| configuration);
                    let configuration = rule!(ConfigIgnoresAccepted, found, not None);
                    let configuration = configuration.unwrap_or_else(|| Arc::clone(&proposal.wanted));
                    proposal.stage = Stage::Accept { configuration, by: BTreeSet::new() };
                    proposal.round += 1;
                    self.ask_voters(ctx);
                }
            }
            (MembersAnswer::Accepted, Stage::Accept { configuration, by }) => {
                by.insert(from);
                if by.len() >= needed {
                    let chosen = Arc::clone(configuration);
                    self.proposal = None;
                    self.chosen_is(chosen, ctx);
                }
            }
            (MembersAnswer::Preempted { promised }, _) => {
                proposal.ballot.count = proposal.ballot.count.max(promised.count);
                proposal.stage = Stage::Pause;
                // Those that compete wait for different times.
                let members = ctx.shared.node.layout.members();
                let place = members.iter().position(|member| *member == ctx.shared.node.me).unwrap_or(0);
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                let pause = MEMBERS_VOTE_PAUSE + (MEMBERS_VOTE_PAUSE / 4).saturating_mul(place);
                proposal.again_at = ctx.now().after(pause);
            }
            _ => {}
        }
    }

    /// A majority has accepted: everyone may know.
    fn chosen_is(&mut self, configuration: Arc<Configuration>, ctx: &mut MembersCtx<'_>) {
        Self::tell(&configuration, ctx);
        if let Some(asked) = self.asked.as_mut().filter(|asked| *asked.wanted == *configuration) {
            asked.is_chosen = true;
        }
        self.learn(&configuration);
    }

    /// Tells a configuration that was chosen to all that it or the present one names.
    pub(super) fn tell(configuration: &Arc<Configuration>, ctx: &mut MembersCtx<'_>) {
        let of_it =
            configuration.members().filter_map(|member| ctx.shared.membership.index_of(&member.id, member.store_id));
        let mut to: BTreeSet<NodeIndex> = of_it.collect();
        to.extend(ctx.layout().members());
        to.remove(&ctx.me());
        for node in to {
            if let Some(incarnation) = ctx.shared.membership.heard_from(node) {
                let message = Message::Configuration(Arc::clone(configuration));
                ctx.shared.node.send(node, Some(incarnation), message);
            }
        }
    }

    /// The time of the vote's next step, or of an operator's answer.
    pub(super) fn vote_wakes_at(&self) -> Option<Time> {
        let vote = self.proposal.as_ref().map(|proposal| proposal.again_at.min(proposal.deadline));
        vote.into_iter().chain(self.asked.as_ref().map(|asked| asked.deadline)).min()
    }

    /// Asks again, tries again, or gives up.
    pub(super) fn vote_is_late(&mut self, ctx: &mut MembersCtx<'_>) {
        let now = ctx.now();
        // What was chosen may wait for the disk.
        if let Some(asked) = self.asked.take_if(|asked| asked.deadline <= now) {
            let failure = Failure::Members(MembersRefusal::NoMajorityVoted);
            ctx.shared.node.reply(asked.request, Reply::Failed(failure));
        }
        let Some(proposal) = &self.proposal else { return };
        if proposal.deadline <= now {
            self.proposal = None;
            return;
        }
        if proposal.again_at > now {
            return;
        }
        match proposal.stage {
            Stage::Pause => self.prepare(ctx),
            Stage::Prepare { .. } | Stage::Accept { .. } => self.ask_voters(ctx),
        }
    }
}

/// How long a vote for which no operator waits is tried.
pub(super) const VOTE_TIME_MAX: Duration = Duration::from_secs(10);
