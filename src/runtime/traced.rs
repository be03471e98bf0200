//! The course of traced requests through this node and its replicas, as spans.
//!
//! Contract: a traced request has a span for its coordinator. Below that stands one for each question to a replica, from the moment
//! when it is sent to that of the answer; below that one of the replica itself, if its node sends spans too. A clock round that several
//! traced requests share is in the trace of each, and the replica's part in that of one of them.
//!
//! Bounds: [`WAITING_MAX`] questions that have no answer yet, and as many of peers. Nothing here changes what the node does, and
//! without traced requests it is not reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::{Answer, Command, Failure, Message, OperationId, ProtocolEvent, Refusal, Reply, RequestId};
use crate::traces::{self, KeyValue, Span, SpanKind, Tracer};
use crate::types::{NodeId, NodeIndex, SpanId, TraceContext};
use crate::wire::batch::TraceNote;

use super::handle::NodeHandle;

/// The most questions whose answers are waited for.
const WAITING_MAX: usize = 8_192;
/// An answer that takes longer is not waited for: longer than requests usually have.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How often such answers are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl NodeHandle {
    /// What decides which requests are traced; `None` where none is.
    pub(crate) fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.inner.tracer.as_ref()
    }

    /// The span of the request that this task works on.
    pub(super) fn current_trace(&self) -> Option<TraceContext> {
        self.tracer().and_then(|_| traces::current())
    }
}

/// The traced requests of one node.
pub(super) struct TracedRequests {
    /// `None` where the node sends no spans.
    tracer: Option<Arc<Tracer>>,
    me: NodeId,
    requests: BTreeMap<RequestId, Course>,
    /// The requests that operations and clock rounds are done for.
    operations: BTreeMap<OperationId, Vec<RequestId>>,
    /// Questions to replicas that have no answer yet.
    asked: BTreeMap<(OperationId, u32, NodeIndex), Question>,
    /// Questions of peers that have no answer yet.
    serving: BTreeMap<(NodeIndex, OperationId, u32), Serving>,
    looked_at: Instant,
}

/// A traced request at its coordinator.
struct Course {
    context: TraceContext,
    parent: SpanId,
    command: &'static str,
    bytes: usize,
    began: Instant,
    operations: Vec<OperationId>,
    replicas: Vec<NodeIndex>,
    rounds: Vec<(OperationId, u32)>,
    resends: i64,
}

/// A question to a replica.
struct Question {
    /// Its span, and the parent of that, for each request that it serves.
    spans: Vec<(TraceContext, SpanId)>,
    replica: NodeId,
    kind: &'static str,
    began: Instant,
    times: i64,
}

/// A question of a peer.
struct Serving {
    context: TraceContext,
    parent: SpanId,
    /// Not known before all of the question is there.
    question: &'static str,
    began: Instant,
}

impl TracedRequests {
    pub(super) fn new(tracer: Option<Arc<Tracer>>, me: NodeId) -> Self {
        Self {
            tracer,
            me,
            requests: BTreeMap::new(),
            operations: BTreeMap::new(),
            asked: BTreeMap::new(),
            serving: BTreeMap::new(),
            looked_at: Instant::now(),
        }
    }

    /// A request begins, whose span is `parent`. Returns its marked name.
    pub(super) fn begin(&mut self, id: RequestId, parent: TraceContext, command: &Command) -> RequestId {
        if self.tracer.is_none() {
            return id;
        }
        let id = id.traced();
        let course = Course {
            context: traces::child_of(parent),
            parent: parent.span,
            command: name_of(command),
            bytes: command.size(),
            began: Instant::now(),
            operations: Vec::new(),
            replicas: Vec::new(),
            rounds: Vec::new(),
            resends: 0,
        };
        self.requests.insert(id, course);
        id
    }

    /// What the protocol tells of a traced operation; `me` is this node.
    pub(super) fn on_event(&mut self, event: &ProtocolEvent, me: NodeIndex) {
        match event {
            ProtocolEvent::Traced { request, operation } => {
                if let Some(course) = self.requests.get_mut(request) {
                    course.operations.push(*operation);
                    self.operations.entry(*operation).or_default().push(*request);
                }
            }
            ProtocolEvent::AskedHere { operation, round, question } => {
                let replica = self.me.clone();
                self.ask(*operation, *round, me, replica, question);
            }
            ProtocolEvent::AnsweredHere { operation, round, refusal } => {
                self.answered(*operation, *round, me, *refusal);
            }
            _ => {}
        }
    }

    /// A message is sent to `peer`. The span that the peer is told of, if any.
    pub(super) fn sent(&mut self, to: NodeIndex, peer: &NodeId, message: &Message) -> Option<TraceNote> {
        match message {
            Message::Request { operation, round, request, .. } if operation.is_traced() => {
                let context = self.ask(*operation, *round, to, peer.clone(), request.name())?;
                Some(TraceNote { operation: *operation, round: *round, context })
            }
            Message::Answer { operation, round, answer, .. } if operation.is_traced() => {
                self.serve_ends(to, peer, *operation, *round, answer);
                None
            }
            _ => None,
        }
    }

    /// A peer tells of the span of a question that comes with it, or later.
    pub(super) fn told(&mut self, from: NodeIndex, note: TraceNote) {
        if self.tracer.is_none() {
            return;
        }
        let TraceNote { operation, round, context } = note;
        self.give_up_late_answers();
        if self.serving.len() < WAITING_MAX {
            let (own, parent) = (traces::child_of(context), context.span);
            let serving = Serving { context: own, parent, question: "message", began: Instant::now() };
            self.serving.entry((from, operation, round)).or_insert(serving);
        }
    }

    /// A message has arrived from `from`.
    pub(super) fn received(&mut self, from: NodeIndex, message: &Message) {
        match message {
            Message::Request { operation, round, request, .. } if operation.is_traced() => {
                if let Some(serving) = self.serving.get_mut(&(from, *operation, *round)) {
                    serving.question = request.name();
                }
            }
            Message::Answer { operation, round, answer, .. } if operation.is_traced() => {
                self.answered(*operation, *round, from, refusal_of(answer));
            }
            _ => {}
        }
    }

    /// A traced request has its reply.
    pub(super) fn end(&mut self, id: RequestId, reply: &Reply) {
        let (Some(tracer), Some(course)) = (self.tracer.clone(), self.requests.remove(&id)) else { return };
        for operation in &course.operations {
            if let Some(requests) = self.operations.get_mut(operation) {
                requests.retain(|request| *request != id);
                if requests.is_empty() {
                    self.operations.remove(operation);
                }
            }
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        tracer.end(Span {
            context: course.context,
            parent: Some(course.parent),
            is_parent_remote: false,
            kind: SpanKind::Internal,
            name: format!("coordinate {}", course.command).into(),
            began: course.began,
            attributes: vec![
                KeyValue::new("quorate.rounds", count(course.rounds.len())),
                KeyValue::new("quorate.resends", course.resends),
                KeyValue::new("quorate.replicas_asked", count(course.replicas.len())),
                KeyValue::new("quorate.request_bytes", count(course.bytes)),
            ],
            failure: failure_of(reply).map(Into::into),
        });
        self.give_up_late_answers();
    }

    /// A replica is asked. The span of that.
    fn ask(
        &mut self,
        operation: OperationId,
        round: u32,
        to: NodeIndex,
        replica: NodeId,
        question: &'static str,
    ) -> Option<TraceContext> {
        let requests = self.operations.get(&operation)?;
        let is_again = self.asked.contains_key(&(operation, round, to));
        let mut spans = Vec::new();
        for request in requests {
            let Some(course) = self.requests.get_mut(request) else { continue };
            if is_again {
                course.resends += 1;
                continue;
            }
            if !course.replicas.contains(&to) {
                course.replicas.push(to);
            }
            if !course.rounds.contains(&(operation, round)) {
                course.rounds.push((operation, round));
            }
            spans.push((traces::child_of(course.context), course.context.span));
        }
        if is_again {
            let question = self.asked.get_mut(&(operation, round, to))?;
            question.times += 1;
            return question.spans.first().map(|(context, _)| *context);
        }
        let context = spans.first().map(|(context, _)| *context)?;
        if self.asked.len() < WAITING_MAX {
            let question = Question { spans, replica, kind: question, began: Instant::now(), times: 1 };
            self.asked.insert((operation, round, to), question);
        }
        Some(context)
    }

    /// A replica has answered. Only its first answer counts.
    fn answered(&mut self, operation: OperationId, round: u32, from: NodeIndex, refusal: Option<Refusal>) {
        if let Some(question) = self.asked.remove(&(operation, round, from)) {
            self.question_ends(question, round, refusal.map(|refusal| format!("{refusal:?}")).as_deref());
        }
    }

    fn question_ends(&self, question: Question, round: u32, failure: Option<&str>) {
        let Some(tracer) = &self.tracer else { return };
        let Question { spans, replica, kind, began, times } = question;
        for (context, parent) in spans {
            tracer.end(Span {
                context,
                parent: Some(parent),
                is_parent_remote: false,
                kind: SpanKind::Client,
                name: format!("ask {kind}").into(),
                began,
                attributes: vec![
                    KeyValue::new("quorate.replica", replica.to_string()),
                    KeyValue::new("quorate.round", i64::from(round)),
                    KeyValue::new("quorate.sent", times),
                ],
                failure: failure.map(|failure| failure.to_owned().into()),
            });
        }
    }

    /// This node has answered a question of `peer`.
    fn serve_ends(&mut self, to: NodeIndex, peer: &NodeId, operation: OperationId, round: u32, answer: &Answer) {
        let (Some(tracer), Some(serving)) = (&self.tracer, self.serving.remove(&(to, operation, round))) else {
            return;
        };
        tracer.end(Span {
            context: serving.context,
            parent: Some(serving.parent),
            is_parent_remote: true,
            kind: SpanKind::Server,
            name: format!("answer {}", serving.question).into(),
            began: serving.began,
            attributes: vec![
                KeyValue::new("quorate.coordinator", peer.to_string()),
                KeyValue::new("quorate.round", i64::from(round)),
                // It was acknowledged once it was on disk.
                KeyValue::new("quorate.durable", matches!(answer, Answer::Stored)),
            ],
            failure: refusal_of(answer).map(|refusal| format!("{refusal:?}").into()),
        });
    }

    /// Ends the spans of questions that have waited too long.
    fn give_up_late_answers(&mut self) {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked_at = Instant::now();
        let is_late = |question: &Question| question.began.elapsed() >= ANSWER_TIME_MAX;
        let late = self.asked.iter().filter(|(_, question)| is_late(question)).map(|(key, _)| *key);
        for key in late.collect::<Vec<_>>() {
            if let Some(question) = self.asked.remove(&key) {
                self.question_ends(question, key.1, Some("NoAnswer"));
            }
        }
        self.serving.retain(|_, serving| serving.began.elapsed() < ANSWER_TIME_MAX);
    }
}

/// What kept a request from being done, in a word; `None` where nothing did, or the request itself.
fn failure_of(reply: &Reply) -> Option<&'static str> {
    let Reply::Failed(failure) = reply else { return None };
    match failure {
        Failure::Unready(_) => Some("Unready"),
        Failure::NotApplied(_) => Some("NotApplied"),
        Failure::OutcomeUnknown(_) => Some("OutcomeUnknown"),
        Failure::OutcomeForgotten => Some("OutcomeForgotten"),
        Failure::NoQuorum(_) => Some("NoQuorum"),
        Failure::StoreFailed => Some("StoreFailed"),
        _ => None,
    }
}

fn refusal_of(answer: &Answer) -> Option<Refusal> {
    if let Answer::Refused(refusal) = answer { Some(*refusal) } else { None }
}

/// The kind of a command, in a word.
fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Get { .. } => "get",
        Command::GetOne { .. } => "get_one",
        Command::Set { .. } => "set",
        Command::Change { .. } => "change",
        Command::List(_) => "list",
        Command::InTable(in_table) => name_of(&in_table.command),
        Command::CreateTable { .. } => "create_table",
        Command::DropTable { .. } => "drop_table",
        Command::OpenTable { .. } => "open_table",
        Command::NodeGet { .. } => "node_get",
        Command::NodeSet { .. } => "node_set",
        Command::ClockGet => "clock_get",
        Command::ClockRaise { .. } => "clock_raise",
    }
}
