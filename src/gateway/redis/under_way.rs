//! The commands of one connection that are under way, and their results.
//!
//! Contract: plain reads and writes that may begin at the same time go to the node together, so that they share its turns, a
//! clock round, messages and an fsync. Each other command has a future of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Ended, Plain, Replies};
use crate::service::buffer_budget::BudgetGuard;
use crate::service::error::ServiceError;
use crate::service::plain::Begun;
use crate::service::request_metrics::Door;
use crate::types::Key;
use crate::wire::failure::FailureReason;
use crate::wire::method::Access;

use super::command::{Command, Refusal, content};
use super::execute::{self, answered};
use super::pipeline::Pipeline;
use super::reply::Reply;
use super::strings::value_reply;
use super::table::{Id, Keys};
use super::{Gateway, LINGER_TIME_MAX};

/// A command that is under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Its part of the buffer budget, and its place among the commands of pipelines.
    _held: (Option<BudgetGuard>, Option<OwnedSemaphorePermit>),
    /// What the service knows of a plain read or write.
    begun: Option<Begun>,
}

/// The commands of one connection that are under way.
pub(super) struct UnderWay {
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    futures: FuturesUnordered<BoxFuture<'static, (u64, Reply)>>,
    /// Cancelled when the client has sent all it wants, perhaps because it has gone.
    ends: CancellationToken,
    /// Rings when the first plain command must be given up, or earlier.
    gives_up: Pin<Box<Sleep>>,
    is_set: bool,
    /// Empty between calls.
    plain: Vec<(u64, Plain)>,
    ended: Vec<Ended>,
}

impl UnderWay {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            replies: Arc::default(),
            futures: FuturesUnordered::new(),
            ends: CancellationToken::new(),
            gives_up: Box::pin(tokio::time::sleep(super::TICK)),
            is_set: false,
            plain: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// The client has sent all it wants. Lists of keys end soon, because it may have gone.
    pub(super) fn end_lists(&self) {
        self.ends.cancel();
    }

    /// Begins the commands of `pipeline` that may begin.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        let mut refused = Vec::new();
        pipeline.begin(|number, mut command, others_run| {
            let permit = if others_run {
                let Ok(permit) = Arc::clone(&self.gateway.pipelined).try_acquire_owned() else { return Err(command) };
                Some(permit)
            } else {
                None
            };
            match plain(&command) {
                Some(Ok(request)) => {
                    self.plain.push((number, request));
                    Ok(Running { _held: (command.guard.take(), permit), begun: None })
                }
                Some(Err(refusal)) => {
                    refused.push((number, command.spec.id, refusal));
                    Ok(Running::default())
                }
                None => {
                    self.futures.push(run(number, Arc::clone(&self.gateway), command, self.ends.clone()).boxed());
                    Ok(Running { _held: (None, permit), begun: None })
                }
            }
        });
        for (number, id, refusal) in refused {
            let observation = self.gateway.service.observe(Door::Redis, execute::counted_as(id), Instant::now());
            pipeline.end(number, answered(Err(refusal), observation));
        }
        if self.plain.is_empty() {
            return;
        }
        let (requests, mut give_up_at) = (std::mem::take(&mut self.plain), None);
        let service = Arc::clone(&self.gateway.service);
        service.begin(Door::Redis, self.gateway.table(), requests, &self.replies, |number, begun| {
            give_up_at.get_or_insert(begun.give_up_at);
            if let Some(running) = pipeline.running(number) {
                running.begun = Some(begun);
            }
        });
        // The timer is only set to an earlier time. To let it ring too early costs less than to set it for each command.
        if !self.is_set
            && let Some(at) = give_up_at
        {
            self.gives_up.as_mut().reset(at.into());
            self.is_set = true;
        }
    }

    /// Gives the results that are there to `pipeline`. Whether there was any.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, pipeline: &mut Pipeline) -> bool {
        let mut has_progress = false;
        if self.replies.poll_take(context, &mut self.ended).is_ready() {
            has_progress = true;
            let service = Arc::clone(&self.gateway.service);
            for (number, ended) in self.ended.drain(..) {
                // A command that was given up has its answer already.
                let Some(begun) = pipeline.running(number).and_then(|running| running.begun.take()) else { continue };
                let access = begun.access;
                let (result, observation) = service.end(self.gateway.table(), begun, ended);
                let answer = result.map_err(Refusal::from).map(|found| match (access, found) {
                    (Access::Write, _) => Reply::OK,
                    (Access::Read, None) => Reply::Nil,
                    (Access::Read, Some(found)) => value_reply(found.record.record.content).guarded(found.guard),
                });
                pipeline.end(number, answered(answer, observation));
            }
        }
        while let Poll::Ready(Some((number, reply))) = self.futures.poll_next_unpin(context) {
            pipeline.end(number, reply);
            has_progress = true;
        }
        if self.is_set && self.gives_up.as_mut().poll(context).is_ready() {
            self.is_set = false;
            has_progress |= self.give_up(pipeline);
        }
        has_progress
    }

    /// Answers the commands that the node should have answered by now. Whether there was any.
    fn give_up(&mut self, pipeline: &mut Pipeline) -> bool {
        let (now, mut overdue, mut next) = (Instant::now(), Vec::new(), None);
        for (number, running) in pipeline.all_running() {
            match &running.begun {
                Some(begun) if begun.give_up_at <= now => overdue.extend(running.begun.take().map(|b| (number, b))),
                Some(begun) => next = next.or(Some(begun.give_up_at)),
                None => {}
            }
        }
        if let Some(at) = next {
            self.gives_up.as_mut().reset(at.into());
            self.is_set = true;
        }
        let any = !overdue.is_empty();
        for (number, begun) in overdue {
            let (error, observation) = self.gateway.service.give_up(self.gateway.table(), begun);
            pipeline.end(number, answered(Err(error.into()), observation));
        }
        any
    }
}

/// The plain read or write that a command is; `None` if it is another one.
fn plain(command: &Command) -> Option<Result<Plain, Refusal>> {
    let request = |key: Key| match command.spec.id {
        Id::Get => Plain::Get { key },
        _ => Plain::Set { key, content: content(command.argument(2)) },
    };
    let is_plain = command.spec.id == Id::Get || command.spec.id == Id::Set && command.arguments.len() == 3;
    is_plain.then(|| command.key().map(request))
}

/// Runs one command. A list of keys ends soon after the client has sent all it wants.
async fn run(number: u64, gateway: Arc<Gateway>, command: Command, ends: CancellationToken) -> (u64, Reply) {
    let is_list = command.spec.keys == Keys::Any;
    let answer = gateway.execute(command, Instant::now());
    if !is_list {
        return (number, answer.await);
    }
    let gone = async {
        ends.cancelled().await;
        tokio::time::sleep(LINGER_TIME_MAX).await;
    };
    let reply = tokio::select! {
        reply = answer => reply,
        () = gone => {
            let text = "the keys were not all looked at when the client closed its side: keep it open until the answer is there";
            super::failure::reply(&ServiceError::new(FailureReason::NotReady, text))
        }
    };
    (number, reply)
}
