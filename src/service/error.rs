//! Why an operation failed, sorted by what its caller does next.
//!
//! Contract: a write is told whether it certainly did not happen, so that it can be sent again, or may have happened, so
//! that its key must be read. Nothing is claimed that is not known. Metrics and logs have gRPC's codes for every
//! gateway; each of the others translates the reason into its own words.

use std::fmt::Write as _;

use tonic::Code;

use crate::limits::{ARRIVAL_PAUSE_MAX, ARRIVAL_TIME_MAX, BUFFERED_BYTES_MAX};
use crate::protocol::quorum::majority;
use crate::protocol::{Failure, QuorumReport, ReplicaStatus};
use crate::runtime::{PublishedLayout, Rejected, RequestError};
use crate::types::{Key, NodeId, RECENT_MAX, Record, TABLES_EVER_MAX, TableName, Version};
use crate::wire::WireError;
use crate::wire::failure::{self, FailureReason, ReplicaAnswer};
use crate::wire::method::Access;
use crate::wire::version::VersionText;

use super::health::{ids, nodes, raise_text, unready_text};
use super::tables::missing_table;

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceError {
    /// The reason, and the replicas that had a part in it.
    pub(crate) failure: failure::Failure,
    /// Whether the node refused because it had too much to do, and not because of the request itself.
    pub(crate) overloaded: bool,
    /// Whether the request was refused, and is one that may have been sent before.
    pub(crate) is_resend: bool,
    /// The event, its place, and the remedy.
    pub(crate) message: String,
}

impl ServiceError {
    /// gRPC's code for it.
    pub(crate) fn code(&self) -> Code {
        match self {
            // It was not looked at: what became of the earlier tries can still be asked for.
            Self { is_resend: true, .. } => Code::Unavailable,
            Self { overloaded: true, .. } => Code::ResourceExhausted,
            _ => self.failure.reason.code(),
        }
    }

    /// Whether the operation was carried out, and its result is that the key is not as the request wants it.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.failure.reason, FailureReason::ConditionFailed | FailureReason::NotANumber)
    }

    /// A failure that has no more to it than its reason.
    pub(crate) fn new(reason: FailureReason, message: &str) -> Self {
        Self {
            failure: failure::Failure::new(reason),
            overloaded: false,
            is_resend: false,
            message: message.to_owned(),
        }
    }

    /// A request that is not valid.
    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(FailureReason::InvalidArgument, message)
    }

    /// The failure of a request that its client may have sent before. That nothing was done now says nothing about the
    /// earlier tries.
    pub(crate) fn of_resend(mut self, is_resend: bool) -> Self {
        if is_resend && self.failure.reason == FailureReason::NotApplied {
            self.failure.reason = FailureReason::OutcomeUnknown;
            self.is_resend = true;
        }
        self
    }

    /// The same failure, because the node has too much to do.
    pub(crate) fn overloaded(self) -> Self {
        Self { overloaded: true, ..self }
    }
}

impl From<WireError> for ServiceError {
    fn from(error: WireError) -> Self {
        Self::invalid(&error.to_string())
    }
}

/// The reason of a request that was refused before anything was done.
pub(crate) fn nothing_done(access: Access) -> FailureReason {
    match access {
        Access::Read => FailureReason::NotReady,
        Access::Write => FailureReason::NotApplied,
    }
}

/// A request that would exceed [`BUFFERED_BYTES_MAX`], or the share of its client. Nothing was done.
pub(crate) fn no_room(access: Access) -> ServiceError {
    let message = format!(
        "nothing was done: requests and answers on their way through this node hold {BUFFERED_BYTES_MAX} bytes already, \
         or those of this client half of what others leave: send fewer at once, or spread them over the nodes"
    );
    ServiceError::new(nothing_done(access), &message).overloaded()
}

/// A request of which so much was read that it would exceed [`BUFFERED_BYTES_MAX`]. Nothing was done.
///
/// Nobody knows whether it was sent before. `NOT_APPLIED` would speak of all its tries; this reason speaks of this one alone.
pub(crate) fn no_room_to_read() -> ServiceError {
    no_room(Access::Read)
}

/// A request whose rest did not arrive in time. Nothing was done by this try.
pub(crate) fn late_to_read() -> ServiceError {
    let message = format!(
        "nothing was done: the request did not arrive in time: it may pause for {} s, and take {} s in all",
        ARRIVAL_PAUSE_MAX.as_secs(),
        ARRIVAL_TIME_MAX.as_secs()
    );
    ServiceError::new(nothing_done(Access::Read), &message)
}

/// The request that an error belongs to: its kind, and its key if it has one.
pub(super) struct ErrorContext<'a> {
    pub(super) access: Access,
    pub(super) key: Option<&'a Key>,
    /// The table, unless it is the default one.
    pub(super) table: Option<&'a TableName>,
    /// Tells the replicas of the key.
    pub(super) layout: &'a PublishedLayout,
}

impl ErrorContext<'_> {
    /// An operation that gave no result.
    pub(super) fn request_failed(&self, error: RequestError) -> ServiceError {
        match error {
            RequestError::Failed(failure) => self.failed(failure),
            RequestError::Rejected(rejected) => self.rejected(&rejected),
        }
    }

    /// An operation that the protocol ended.
    fn failed(&self, failure: Failure) -> ServiceError {
        match failure {
            Failure::Unready(unready) => self.not_begun(&unready_text(&unready)),
            Failure::NotApplied(report) => {
                let text = "not written, certainly, and safe to send again";
                of_report(FailureReason::NotApplied, text, report)
            }
            Failure::OutcomeUnknown(report) => {
                let text = "may or may not be written: read the key to find out";
                of_report(FailureReason::OutcomeUnknown, text, report)
            }
            Failure::OutcomeForgotten => self.error(
                FailureReason::OutcomeUnknown,
                &format!(
                    "may or may not be written: read the key to find out. It remembers the last {RECENT_MAX} conditional \
                     writes, and an earlier try of this one is not among them, or the key has no record that tells"
                ),
            ),
            Failure::NoQuorum(report) => of_report(FailureReason::NoQuorum, "not read, safe to ask again", report),
            Failure::NotReplica { slot, replicas } => {
                let message =
                    format!("this node does not hold slot {slot} of the key: ask {}, its replicas", nodes(&replicas));
                let replicas = replicas.into_iter().map(|node| ReplicaAnswer { node, said: None }).collect();
                let reason = FailureReason::NotReplica;
                let failure = failure::Failure { slot: Some(slot), replicas, ..failure::Failure::new(reason) };
                ServiceError { failure, overloaded: false, is_resend: false, message }
            }
            Failure::ConditionFailed { version, has_value } => {
                let text = "not written, and never will be: the condition does not hold";
                self.condition_failed(FailureReason::ConditionFailed, text, &version, has_value)
            }
            Failure::NotANumber { version } => {
                let text =
                    "not added, and never will be: the value is no number in decimal, or the sum is out of 64 bits";
                self.condition_failed(FailureReason::NotANumber, text, &version, true)
            }
            Failure::NotGreater { held } => self.error(
                FailureReason::StampNotGreater,
                &format!("not stored: stamp {held} is held, which is not below the one given"),
            ),
            Failure::RaiseTooFar { given, now } => self.error(FailureReason::ClockRaiseTooFar, &raise_text(given, now)),
            Failure::StampConflict => self.error(
                FailureReason::Damaged,
                "not stored: a record of this very stamp is held with another content. A stamp is given once: give \
                 another one, and where nobody gave this one by hand, report it as a defect",
            ),
            Failure::Members(refusal) => super::members::refused(&refusal),
            Failure::NoTable => missing_table(self.table),
            Failure::TableDropping | Failure::TableDropped => {
                self.not_begun("the table is being dropped: send again, and the answer says whether it is gone")
            }
            Failure::DroppedMeanwhile => self.error(
                FailureReason::OutcomeUnknown,
                "may have been written before its table was dropped, which happened meanwhile: what was in it is gone",
            ),
            Failure::ValueTooLarge { bytes, bytes_max } => ServiceError::invalid(&format!(
                "not written: the value has {bytes} bytes: the settings of the table accept {bytes_max}"
            )),
            Failure::QuotaReached { quota_bytes } => self
                .not_begun(&format!("the table holds its quota of {quota_bytes} bytes: delete keys of it first"))
                .overloaded(),
            Failure::TooManyTables => self
                .not_begun(&format!(
                    "{TABLES_EVER_MAX} tables were created in this cluster, and no more can be: use prefixes of keys \
                     instead"
                ))
                .overloaded(),
            Failure::StoreFailed => {
                let text = match self.access {
                    Access::Read => "this node's disk could not be read",
                    Access::Write => "this node's disk takes no writes; whether this one is kept shows when it does",
                };
                self.error(FailureReason::StoreFailed, &format!("{text} (the node's log says what failed)"))
            }
        }
    }

    /// A conditional write that does not take effect.
    fn condition_failed(&self, reason: FailureReason, text: &str, version: &Version, has_value: bool) -> ServiceError {
        let version = VersionText::of_cluster(self.layout.get().parameters().seed).encode(version);
        let value = if has_value { "a value" } else { "no value" };
        let mut error = self.error(reason, &format!("{text}. The key has {value} and version {version}"));
        error.failure.current = Some(failure::Current { version, has_value });
        error
    }

    /// An operation that has no reply.
    fn rejected(&self, rejected: &Rejected) -> ServiceError {
        match rejected {
            Rejected::TooManyRequests { .. }
            | Rejected::TooManyBytes { .. }
            | Rejected::TooManyRequestsOfClient
            | Rejected::TooManyBytesOfClient
            | Rejected::TooFast { .. } => self.not_begun(&rejected.to_string()).overloaded(),
            Rejected::Ended => self.not_begun(&rejected.to_string()),
            Rejected::Abandoned => self.unanswered(&rejected.to_string()),
        }
    }

    /// An operation that the node has not answered in time.
    pub(super) fn unanswered(&self, why: &str) -> ServiceError {
        match self.access {
            Access::Read => self.error(FailureReason::NotReady, &format!("{why}: ask another node")),
            Access::Write => self.error(
                FailureReason::OutcomeUnknown,
                &format!("may or may not be written, for {why}: read the key to find out"),
            ),
        }
    }

    /// A record that is not what was written.
    pub(super) fn damaged(&self, record: &Record) -> ServiceError {
        let message = format!(
            "the record of stamp {} is damaged: its checksum does not match its content. Read it through another node, \
             and check this one's memory and disk",
            record.stamp
        );
        self.error(FailureReason::Damaged, &message)
    }

    /// An answer that the buffer budget has no room for.
    pub(super) fn no_room(&self) -> ServiceError {
        no_room(self.access)
    }

    fn not_begun(&self, why: &str) -> ServiceError {
        let text = match self.access {
            _ if self.key.is_none() => "not done",
            Access::Read => "not read",
            Access::Write => "not written",
        };
        self.error(nothing_done(self.access), &format!("{text}: {why}"))
    }

    fn error(&self, reason: FailureReason, message: &str) -> ServiceError {
        ServiceError { failure: self.failure(reason), overloaded: false, is_resend: false, message: message.to_owned() }
    }

    fn failure(&self, reason: FailureReason) -> failure::Failure {
        let Some(key) = self.key else { return failure::Failure::new(reason) };
        let layout = self.layout.get();
        let slot = layout.slot(key);
        let replicas =
            ids(&layout, layout.replicas(slot)).map(|node| ReplicaAnswer { node: node.clone(), said: None }).collect();
        failure::Failure { slot: Some(slot), replicas, ..failure::Failure::new(reason) }
    }
}

fn of_report(reason: FailureReason, text: &str, report: QuorumReport) -> ServiceError {
    let QuorumReport { slot, needed, replicas, lists } = report;
    let missing = lists.map(|lists| missing_majorities(&lists, &replicas)).unwrap_or_default();
    let answered = replicas.iter().filter(|(_, said)| *said == ReplicaStatus::Answered).count();
    let count = replicas.len();
    let replicas: Vec<ReplicaAnswer> =
        replicas.into_iter().map(|(node, said)| ReplicaAnswer { node, said: Some(said_text(&said)) }).collect();
    let each: Vec<String> = replicas
        .iter()
        .map(|replica| format!("{} {}", replica.node, replica.said.as_deref().unwrap_or_default()))
        .collect();
    let message = format!(
        "{text}. {missing}{needed} of the {count} replicas of slot {slot} had to answer, {answered} did: {}",
        each.join("; ")
    );
    ServiceError {
        failure: failure::Failure { slot: Some(slot), needed: Some(needed), replicas, ..failure::Failure::new(reason) },
        overloaded: false,
        is_resend: false,
        message,
    }
}

/// While members change: of which list a majority is missing. Either needs one, and the numbers of all replicas do not show it.
fn missing_majorities(lists: &[Vec<NodeId>; 2], replicas: &[(NodeId, ReplicaStatus)]) -> String {
    let has_answered =
        |id: &&NodeId| replicas.iter().any(|(node, said)| node == *id && *said == ReplicaStatus::Answered);
    let mut text = String::new();
    for (list, name) in lists.iter().zip(["before", "after"]) {
        let (answered, needed) = (list.iter().filter(has_answered).count(), majority(list.len()));
        if answered < needed {
            let away = list.iter().filter(|id| !has_answered(id));
            let _ = write!(
                text,
                "Members change, and of the replicas {name} the change {needed} of {} have to answer: {} did not. ",
                list.len(),
                nodes(away)
            );
        }
    }
    text
}

/// The last answer of a replica, as the end of a sentence that begins with its id.
fn said_text(said: &ReplicaStatus) -> String {
    match said {
        ReplicaStatus::Answered => "answered".to_owned(),
        ReplicaStatus::Refused(refusal) => format!("refused: {refusal}"),
        ReplicaStatus::Nothing => "has not answered".to_owned(),
        ReplicaStatus::Unreachable => "is not reachable".to_owned(),
        ReplicaStatus::NotTalking(refusal) => format!("does not talk to this node: {refusal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::protocol::placement::Placement;
    use crate::protocol::{HelloRefusal, Layout, Refusal, Unready};
    use crate::types::{Clock, ClusterParameters, NodeId, Slot, Stamp};

    fn id(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn report() -> QuorumReport {
        QuorumReport {
            slot: Slot(31_384),
            needed: 2,
            replicas: vec![
                (id("3"), ReplicaStatus::Answered),
                (id("2"), ReplicaStatus::Unreachable),
                (id("4"), ReplicaStatus::NotTalking(HelloRefusal::Cluster)),
            ],
            lists: None,
        }
    }

    #[test]
    fn majority_that_is_missing_while_members_change_is_named() {
        let list = |ids: &[&str]| ids.iter().copied().map(id).collect::<Vec<_>>();
        // Of all replicas enough have answered, and of those before the change too few.
        let replicas = ["1", "2", "3", "4", "5"]
            .map(|node| (id(node), if node < "3" { ReplicaStatus::Unreachable } else { ReplicaStatus::Answered }));
        let lists = Some([list(&["1", "2", "3"]), list(&["3", "4", "5"])]);
        let moving = QuorumReport { slot: Slot(7), needed: 2, replicas: replicas.into(), lists };
        let message = of_report(FailureReason::NotApplied, "not written", moving).message;
        let named = "of the replicas before the change 2 of 3 have to answer: nodes 1, 2 did not. 2 of the 5";
        assert!(message.contains(named) && !message.contains("after"), "{message}");
    }

    fn layout() -> PublishedLayout {
        let node_ids = ["1", "2", "3", "4", "5"].map(id).to_vec();
        let placement = Placement::new(ClusterParameters::plain(0, 3, node_ids));
        PublishedLayout::new(Arc::new(Layout::begin(Arc::new(placement), &[])))
    }

    #[test]
    fn each_failure_has_its_reason_and_says_what_to_do() {
        let layout = layout();
        let key = Key::new("b").unwrap();
        let stamp = Stamp { clock: Clock { epoch: 3, counter: 9 }, writer: id("2") };
        let bootstrapping = || Failure::Unready(Unready::Bootstrapping { missing: vec![id("4")] });
        let too_far = Failure::RaiseTooFar { given: Clock { epoch: 9_999, counter: 0 }, now: stamp.clock };
        let elsewhere = Failure::NotReplica { slot: Slot(31_384), replicas: vec![id("3"), id("2"), id("4")] };
        for (access, failure, reason, parts) in [
            (
                Access::Write,
                Failure::NotApplied(report()),
                FailureReason::NotApplied,
                &["certainly", "2 of the 3 replicas", "slot 31384", "1 did", "3 answered", "2 is not reachable"][..],
            ),
            (
                Access::Write,
                Failure::OutcomeUnknown(report()),
                FailureReason::OutcomeUnknown,
                &["may or may not", "same cluster file"],
            ),
            (
                Access::Write,
                Failure::OutcomeForgotten,
                FailureReason::OutcomeUnknown,
                &["may or may not", "the last 8 conditional writes"],
            ),
            (Access::Read, Failure::NoQuorum(report()), FailureReason::NoQuorum, &["not read", "safe to ask again"]),
            (Access::Write, bootstrapping(), FailureReason::NotApplied, &["not written", "node 4"]),
            (Access::Read, bootstrapping(), FailureReason::NotReady, &["not read", "node 4"]),
            (Access::Write, Failure::Unready(Unready::Draining), FailureReason::NotApplied, &["ask another one"]),
            (Access::Read, elsewhere, FailureReason::NotReplica, &["slot 31384", "nodes 3, 2, 4"]),
            (Access::Write, Failure::NotGreater { held: stamp }, FailureReason::StampNotGreater, &["3.9@2"]),
            (Access::Write, too_far, FailureReason::ClockRaiseTooFar, &["9999.0", "3.9"]),
            (Access::Write, Failure::StampConflict, FailureReason::Damaged, &["another content"]),
            (Access::Write, Failure::StoreFailed, FailureReason::StoreFailed, &["no writes"]),
            (Access::Read, Failure::StoreFailed, FailureReason::StoreFailed, &["be read"]),
        ] {
            let context = ErrorContext { access, key: Some(&key), table: None, layout: &layout };
            let error = context.failed(failure.clone());
            let info = &error.failure;
            assert!(!error.overloaded, "{failure:?}");
            assert_eq!(info.reason, reason, "{failure:?}");
            assert_eq!(info.slot, Some(Slot(31_384)), "{failure:?}");
            assert_eq!(info.replicas.iter().map(|replica| replica.node.as_str()).collect::<Vec<_>>(), ["3", "2", "4"]);
            assert!(parts.iter().all(|part| error.message.contains(part)), "{}", error.message);
        }
    }

    #[test]
    fn request_without_a_reply_claims_no_more_than_is_known() {
        let layout = layout();
        let key = Key::new("b").unwrap();
        let full = Rejected::TooManyRequests { requests_max: 7 };
        for (access, rejected, overloaded, reason) in [
            (Access::Write, full.clone(), true, FailureReason::NotApplied),
            (Access::Read, full, true, FailureReason::NotReady),
            (Access::Write, Rejected::TooManyBytes { bytes_max: 7 }, true, FailureReason::NotApplied),
            (Access::Write, Rejected::Ended, false, FailureReason::NotApplied),
            (Access::Write, Rejected::Abandoned, false, FailureReason::OutcomeUnknown),
            (Access::Read, Rejected::Abandoned, false, FailureReason::NotReady),
        ] {
            let error = ErrorContext { access, key: Some(&key), table: None, layout: &layout }.rejected(&rejected);
            assert_eq!((error.failure.reason, error.overloaded), (reason, overloaded), "{rejected:?}");
        }
    }

    #[test]
    fn each_replica_status_reads_after_its_id() {
        for said in [
            ReplicaStatus::Answered,
            ReplicaStatus::Nothing,
            ReplicaStatus::Unreachable,
            ReplicaStatus::Refused(Refusal::StoreFailed),
            ReplicaStatus::NotTalking(HelloRefusal::Incarnation),
        ] {
            let text = said_text(&said);
            assert!(text.starts_with(char::is_lowercase) && !text.ends_with('.'), "{text}");
        }
    }
}
