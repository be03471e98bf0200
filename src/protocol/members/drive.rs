//! What brings a change to its end: members are asked how far they are, and the end is proposed once all have taken over.
//!
//! The member that has made the change drives it. The others go on for it, each after its place among the members.

use crate::limits::{MEMBERS_DRIVE_AFTER, MEMBERS_LOOK_EVERY};
use crate::mutants::rule;
use crate::protocol::context::Origin;
use crate::protocol::io::{Failure, Reply, Time};
use crate::protocol::layout::Layout;
use crate::protocol::message::{Answer, OperationId};
use crate::protocol::pace::Pace;
use crate::protocol::rate::Rate;
use crate::types::NodeIndex;

use super::messages::{MembersAnswer, MembersRequest};
use super::refusal::MembersRefusal;
use super::request::present_configuration;
use super::state::{Members, MembersCtx, takers};
use super::sweep::Sweep;
use super::takeover::Step;
use super::vote::VOTE_TIME_MAX;

impl Members {
    /// When [`Members::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self, layout: &Layout) -> Option<Time> {
        let look_at = layout.is_joint().then_some(self.look_at);
        [self.vote_wakes_at(), look_at, self.takeover.next_wake(), self.sweep.next_wake()].into_iter().flatten().min()
    }

    /// A timer may have fired.
    pub fn on_wake(&mut self, ctx: &mut MembersCtx<'_>) {
        self.vote_is_late(ctx);
        self.take_over(ctx);
        self.look(ctx);
        self.sweep(ctx);
    }

    /// Slots are taken over at another rate from now on.
    pub fn pace(&mut self, rate: Rate) {
        (self.rate, self.pace) = (rate, Pace::default());
    }

    /// A peer can be reached again: it is asked at once what it has not answered.
    pub fn catch_up(&mut self, ctx: &mut MembersCtx<'_>) {
        if matches!(self.takeover.step, Step::Floors(_) | Step::List(_)) {
            self.takeover.again_at = ctx.now();
            self.take_over(ctx);
        }
    }

    /// Asks all members of the new list how far they are, from time to time.
    fn look(&mut self, ctx: &mut MembersCtx<'_>) {
        let now = ctx.now();
        if !ctx.layout().is_joint() || self.look_at > now {
            return;
        }
        self.look_at = now.after(MEMBERS_LOOK_EVERY);
        if !ctx.shared.membership.is_member() {
            return;
        }
        let id = *self.question.get_or_insert_with(|| ctx.coordinator.next_id());
        let members: Vec<NodeIndex> = ctx.layout().newest().members().to_vec();
        let me = ctx.me();
        for member in members.into_iter().filter(|member| *member != me) {
            ctx.send(member, id, 0, MembersRequest::Progress);
        }
        self.end_if_complete(ctx);
    }

    /// Proposes the new list alone, once all that must have taken over. A member that takes nothing over may be dead: each quorum
    /// has enough others.
    fn end_if_complete(&mut self, ctx: &mut MembersCtx<'_>) {
        let (now, me) = (ctx.now(), ctx.me());
        if !rule!(CommitBeforeComplete, self.have_all_taken_over(ctx.layout(), me)) {
            self.complete_since = None;
            return;
        }
        let since = *self.complete_since.get_or_insert(now);
        let place = ctx.layout().members().iter().position(|member| *member == me).unwrap_or(0);
        let place = if self.is_mine { 0 } else { u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1) };
        if self.proposal.is_some() || since.after(MEMBERS_DRIVE_AFTER.saturating_mul(place)) > now {
            return;
        }
        if let Some(completed) = present_configuration(ctx).and_then(|present| present.completed()) {
            self.propose(completed, now.after(VOTE_TIME_MAX), ctx);
        }
    }

    /// Whether each member that takes slots over has said that it has all of them.
    pub(super) fn have_all_taken_over(&self, layout: &Layout, me: NodeIndex) -> bool {
        let is_done = |member: &NodeIndex| {
            if *member == me {
                self.takeover.is_complete()
            } else {
                !self.takers.contains(member) || self.progress.get(member).is_some_and(|progress| progress.is_complete)
            }
        };
        let members = layout.newest().members();
        rule!(CommitWithOneComplete, members.iter().all(is_done), not members.iter().any(is_done))
    }

    /// Whether `id` is a question about members.
    #[must_use]
    pub fn owns(&self, id: OperationId) -> bool {
        self.question == Some(id)
            || self.proposal.as_ref().is_some_and(|proposal| proposal.id == id)
            || self.takeover.owns(id)
    }

    /// A member asks.
    pub fn on_request(&mut self, from: Origin, request: MembersRequest, ctx: &mut MembersCtx<'_>) {
        match request {
            MembersRequest::Prepare { .. } | MembersRequest::Accept { .. } => self.on_vote(from, request, ctx),
            MembersRequest::Progress => {
                let progress = self.takeover.progress();
                ctx.shared.node.answer(from, Answer::Members(MembersAnswer::Progress(progress)));
            }
            MembersRequest::Floors { after } => Self::tell_floors(from, after, ctx),
            MembersRequest::Records { after } => self.read_records(from, after, ctx),
        }
    }

    /// A member answers.
    pub fn on_answer(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        answer: Answer,
        ctx: &mut MembersCtx<'_>,
    ) {
        let Answer::Members(answer) = answer else { return };
        if let MembersAnswer::Progress(progress) = answer {
            if self.question == Some(id) {
                self.progress.insert(from, progress);
                self.end_if_complete(ctx);
            }
        } else if self.takeover.owns(id) {
            self.on_taken_over_answer(from, round, answer, ctx);
        } else {
            self.on_voted(from, round, answer, ctx);
        }
    }

    /// A configuration is adopted: what belongs to the one before it ends.
    pub fn reconfigure(&mut self, ctx: &mut MembersCtx<'_>) {
        let (now, number) = (ctx.now(), ctx.layout().number());
        self.progress.clear();
        (self.question, self.complete_since, self.look_at) = (None, None, now);
        self.proposal = None;
        self.served.clear();
        self.is_mine = false;
        self.takers = takers(ctx.layout());
        if let Some(asked) = self.asked.take() {
            let configuration = ctx.layout().configuration();
            self.is_mine = configuration.is_some_and(|configuration| **configuration == *asked.wanted);
            // A later configuration may have been told before this node could adopt its own.
            let reply = if self.is_mine || asked.is_chosen {
                Reply::Members { number: asked.wanted.number }
            } else {
                Reply::Failed(Failure::Members(MembersRefusal::OtherChange { number }))
            };
            ctx.shared.node.reply(asked.request, reply);
        }
        let (layout, me) = (ctx.shared.node.layout, ctx.shared.node.me);
        self.takeover.begin_anew(layout, me, None, now);
        self.sweep = Sweep::begin(layout, me, now);
        if let Some(configuration) = ctx.layout().configuration().cloned() {
            Self::tell(&configuration, ctx);
        }
        self.take_over(ctx);
    }
}
