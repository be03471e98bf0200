//! The commands of one connection that are under way, and their results.
//!
//! Contract: plain reads and writes that may begin at the same time go to the node together, so that they share its turns, a
//! clock round, messages and an fsync. Each other command has a future of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::runtime::{NumberedResult, PlainRequest, Replies};
use crate::service::buffer_budget::BudgetGuard;
use crate::service::error::ServiceError;
use crate::service::plain::StartedRequest;
use crate::service::request_metrics::Door;
use crate::types::Key;
use crate::wire::failure::FailureReason;
use crate::wire::method::Access;

use super::Gateway;
use super::command::{Command, Refusal, content};
use super::execute::{self, answered};
use super::pipeline::Pipeline;
use super::reply::Reply;
use super::strings::value_reply;
use super::table::{Id, Keys};

/// How long a list of keys goes on after its client has sent all it wants, perhaps because the client has gone.
const LIST_TIME_AFTER_END: Duration = Duration::from_millis(500);

/// A command that is under way.
#[derive(Debug, Default)]
pub(super) struct RunningCommand {
    /// Its part of the buffer budget, and its place among the commands of pipelines.
    _held: (Option<BudgetGuard>, Option<OwnedSemaphorePermit>),
    /// What the service knows of a plain read or write.
    started: Option<StartedRequest>,
}

/// The commands of one connection that are under way.
pub(super) struct RunningCommands {
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    futures: FuturesUnordered<BoxFuture<'static, (u64, Reply)>>,
    /// Cancelled when the client has sent all it wants, perhaps because it has gone.
    ends: CancellationToken,
    /// Rings when the first plain command must be given up, or earlier.
    give_up: Alarm,
    /// Empty between calls.
    results: Vec<NumberedResult>,
}

/// A timer that is set again and again.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    rings_at: Option<Instant>,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(super::TICK)), rings_at: None }
    }

    /// It rings at `at` at the latest.
    fn set(&mut self, at: Instant) {
        if self.rings_at.is_none_or(|earlier| at < earlier) {
            self.sleep.as_mut().reset(at.into());
            self.rings_at = Some(at);
        }
    }

    /// Whether it rings. It then rings no more until it is set.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.rings_at.is_none() {
            return Poll::Pending;
        }
        std::task::ready!(self.sleep.as_mut().poll(context));
        self.rings_at = None;
        Poll::Ready(())
    }
}

impl Drop for RunningCommands {
    /// Plain commands go on without their connection. Nobody takes their replies, which may hold large values.
    fn drop(&mut self) {
        self.replies.close();
    }
}

impl RunningCommands {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            replies: Arc::default(),
            futures: FuturesUnordered::new(),
            ends: CancellationToken::new(),
            give_up: Alarm::new(),
            results: Vec::new(),
        }
    }

    /// Gives back the memory of results that were taken.
    pub(super) fn shrink(&mut self) {
        self.results = Vec::new();
        self.replies.shrink();
    }

    /// The client has sent all it wants. Lists of keys end soon, because it may have gone.
    pub(super) fn end_lists(&self) {
        self.ends.cancel();
    }

    /// From now on commands begin for the caller of `gateway`.
    pub(super) fn act_for(&mut self, gateway: &Arc<Gateway>) {
        if !Arc::ptr_eq(&self.gateway, gateway) {
            self.gateway = Arc::clone(gateway);
        }
    }

    /// Begins the commands of `pipeline` that may begin.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        let now = Instant::now();
        let (mut requests, mut refused) = (Vec::new(), Vec::new());
        pipeline.begin(|number, mut command, others_run| {
            let permit = if others_run {
                let Ok(permit) = Arc::clone(&self.gateway.pipelined).try_acquire_owned() else { return Err(command) };
                Some(permit)
            } else {
                None
            };
            let observe = |id| self.gateway.service.observe(Door::Redis, execute::counted_as(id), now);
            let service = &self.gateway.service;
            let allowed = plain(&command).map(|request| Ok(service.allow_plain(self.gateway.table(), request?)?));
            match allowed {
                Some(Ok(request)) => {
                    requests.push((number, request, observe(command.spec.id)));
                    Ok(RunningCommand { _held: (command.guard.take(), permit), started: None })
                }
                Some(Err(refusal)) => {
                    refused.push((number, answered(Err(refusal), observe(command.spec.id))));
                    Ok(RunningCommand::default())
                }
                None => {
                    self.futures.push(run(number, Arc::clone(&self.gateway), command, self.ends.clone()).boxed());
                    Ok(RunningCommand { _held: (None, permit), started: None })
                }
            }
        });
        for (number, reply) in refused {
            pipeline.end(number, reply);
        }
        if requests.is_empty() {
            return;
        }
        // All have the same time. The alarm is left as it is where it rings earlier: that costs less than to set it each time.
        let give_up = &mut self.give_up;
        self.gateway.service.begin(self.gateway.table(), requests, now, &self.replies, |number, started| {
            give_up.set(started.give_up_at);
            if let Some(running) = pipeline.running(number) {
                running.started = Some(started);
            }
        });
    }

    /// Gives the results that are there to `pipeline`. Whether there was any.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, pipeline: &mut Pipeline) -> bool {
        let mut has_progress = false;
        if self.replies.poll_take(context, &mut self.results).is_ready() {
            has_progress = true;
            for (number, result) in self.results.drain(..) {
                // A command that was given up has its answer already.
                let running = pipeline.running(number);
                let Some(started) = running.and_then(|running| running.started.take()) else { continue };
                let access = started.access;
                let (result, observation) = self.gateway.service.end(self.gateway.table(), started, result);
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
        // Once it has rung and was set again, it must be polled again: only then does it wake the task.
        while self.give_up.poll(context).is_ready() {
            has_progress |= self.give_up_overdue(pipeline);
        }
        has_progress
    }

    /// Answers the commands that the node should have answered by now. Whether there was any.
    fn give_up_overdue(&mut self, pipeline: &mut Pipeline) -> bool {
        let (now, mut overdue) = (Instant::now(), Vec::new());
        for (number, running) in pipeline.all_running() {
            match running.started.take() {
                Some(started) if started.give_up_at <= now => overdue.push((number, started)),
                Some(started) => {
                    // Commands do not begin in the order of their numbers: any of them may be the next.
                    self.give_up.set(started.give_up_at);
                    running.started = Some(started);
                }
                None => {}
            }
        }
        let any = !overdue.is_empty();
        for (number, started) in overdue {
            let (error, observation) = self.gateway.service.give_up(self.gateway.table(), started);
            pipeline.end(number, answered(Err(error.into()), observation));
        }
        any
    }
}

/// The plain read or write that a command is; `None` if it is another one.
fn plain(command: &Command) -> Option<Result<PlainRequest, Refusal>> {
    let request = |key: Key| match command.spec.id {
        Id::Get => PlainRequest::Get { key },
        _ => PlainRequest::Set { key, content: content(command.argument(2)) },
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
        tokio::time::sleep(LIST_TIME_AFTER_END).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alarm_rings_at_the_earliest_time_and_again_when_it_was_set_again() {
        let (mut alarm, now, mut rung) = (Alarm::new(), Instant::now(), 0);
        let at = |ms| now + Duration::from_millis(ms);
        alarm.set(at(60_000));
        alarm.set(at(20));
        alarm.set(at(30_000));
        let twice = std::future::poll_fn(|context| {
            while alarm.poll(context).is_ready() {
                rung += 1;
                if rung == 1 {
                    alarm.set(at(40));
                }
            }
            if rung == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert!(tokio::time::timeout(Duration::from_secs(10), twice).await.is_ok(), "nobody else polls the alarm");
        assert!(now.elapsed() >= Duration::from_millis(40));
        let silent = std::future::poll_fn(|context| alarm.poll(context));
        assert!(tokio::time::timeout(Duration::from_millis(50), silent).await.is_err(), "it was not set again");
    }
}
