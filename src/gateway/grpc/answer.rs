//! What a request is answered with when it fails: the code, the words, and the `google.rpc.ErrorInfo`.
//!
//! Sorted by what the client does next. A write is told whether it certainly did not happen (send it again) or may have
//! happened (read to find out); nothing that is not known is claimed.

use tonic::{Code, Status};

use crate::protocol::placement::Placement;
use crate::protocol::{Failure, QuorumReport, ReplicaStatus};
use crate::runtime::Rejected;
use crate::service::health::{ids, nodes, raise_text, unready_text};
use crate::storage::StoreError;
use crate::types::{Key, Record};
use crate::wire::WireError;
use crate::wire::failure::{self, FailureReason, ReplicaAnswer};

/// What a request is for, as far as its failure depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find something out.
    Read,
    /// To change something.
    Write,
}

/// Whom a failure concerns: the request and, where it has one, its key.
pub(super) struct Subject<'a> {
    pub(super) purpose: Purpose,
    pub(super) key: Option<&'a Key>,
    pub(super) placement: &'a Placement,
}

impl Subject<'_> {
    /// The status of a request that the node has failed.
    pub(super) fn failed(&self, failure: Failure) -> Status {
        match failure {
            Failure::Unready(unready) => self.not_begun(None, &unready_text(&unready)),
            Failure::NotApplied(report) => {
                let text = "not written, certainly, and safe to send again";
                of_report(FailureReason::NotApplied, text, report)
            }
            Failure::OutcomeUnknown(report) => {
                let text = "may or may not be written: read the key to find out";
                of_report(FailureReason::OutcomeUnknown, text, report)
            }
            Failure::NoQuorum(report) => of_report(FailureReason::NoQuorum, "not read, safe to ask again", report),
            Failure::NotReplica { slot, replicas } => {
                let message =
                    format!("this node does not hold slot {slot} of the key: ask {}, its replicas", nodes(&replicas));
                let replicas = replicas.into_iter().map(|node| ReplicaAnswer { node, said: None }).collect();
                let reason = FailureReason::NotReplica;
                failure::Failure { reason, slot: Some(slot), needed: None, replicas }.to_status(reason.code(), &message)
            }
            Failure::NotGreater { held } => self.status(
                FailureReason::StampNotGreater,
                &format!("not stored: stamp {held} is held, which is not below the one given"),
            ),
            Failure::RaiseTooFar { given, now } => {
                self.status(FailureReason::ClockRaiseTooFar, &raise_text(given, now))
            }
            Failure::StampConflict => self.status(
                FailureReason::Damaged,
                "not stored: a record of this very stamp is held with another content. A stamp is given once: give \
                 another one, and where nobody gave this one by hand, report it as a defect",
            ),
            Failure::StoreFailed => {
                let text = match self.purpose {
                    Purpose::Read => "this node's disk could not be read",
                    Purpose::Write => "this node's disk takes no writes; whether this one is kept shows when it does",
                };
                self.status(FailureReason::StoreFailed, &format!("{text} (the node's log says what failed)"))
            }
        }
    }

    /// The status of a request that has no reply.
    pub(super) fn rejected(&self, rejected: &Rejected) -> Status {
        match rejected {
            Rejected::TooManyRequests { .. } | Rejected::TooManyBytes { .. } => {
                self.not_begun(Some(Code::ResourceExhausted), &rejected.to_string())
            }
            Rejected::Ended => self.not_begun(None, &rejected.to_string()),
            Rejected::Abandoned => self.unanswered(&rejected.to_string()),
        }
    }

    /// The status of a request whose node has said nothing for longer than it may.
    pub(super) fn unanswered(&self, why: &str) -> Status {
        match self.purpose {
            Purpose::Read => self.status(FailureReason::NotReady, &format!("{why}: ask another node")),
            Purpose::Write => self.status(
                FailureReason::OutcomeUnknown,
                &format!("may or may not be written, for {why}: read the key to find out"),
            ),
        }
    }

    /// The status of a record that is not what was written.
    pub(super) fn damaged(&self, record: &Record) -> Status {
        let message = format!(
            "the record of stamp {} is damaged: its checksum does not match its content. Read it through another node, \
             and check this one's memory and disk",
            record.stamp
        );
        self.status(FailureReason::Damaged, &message)
    }

    /// The status of a request that would make answers hold too many bytes.
    pub(super) fn no_room(&self) -> Status {
        super::transit::full(match self.purpose {
            Purpose::Read => FailureReason::NotReady,
            Purpose::Write => FailureReason::NotApplied,
        })
    }

    fn not_begun(&self, code: Option<Code>, why: &str) -> Status {
        let (reason, text) = match self.purpose {
            Purpose::Read => (FailureReason::NotReady, "not read"),
            Purpose::Write => (FailureReason::NotApplied, "not written"),
        };
        let text = if self.key.is_some() { text } else { "not done" };
        self.failure(reason).to_status(code.unwrap_or(reason.code()), &format!("{text}: {why}"))
    }

    fn status(&self, reason: FailureReason, message: &str) -> Status {
        self.failure(reason).to_status(reason.code(), message)
    }

    fn failure(&self, reason: FailureReason) -> failure::Failure {
        let Some(key) = self.key else { return failure::Failure::new(reason) };
        let slot = self.placement.slot(key);
        let replicas = ids(self.placement, self.placement.replicas(slot))
            .map(|node| ReplicaAnswer { node: node.clone(), said: None })
            .collect();
        failure::Failure { reason, slot: Some(slot), needed: None, replicas }
    }
}

/// The status of a message that is not valid.
pub(super) fn invalid(error: &WireError) -> Status {
    refused(FailureReason::InvalidArgument, &error.to_string())
}

/// The status of a request that is refused for what it is.
pub(super) fn refused(reason: FailureReason, message: &str) -> Status {
    failure::Failure::new(reason).to_status(reason.code(), message)
}

/// The status of a scan that the store could not do.
pub(super) fn scan_failed(error: &StoreError) -> Status {
    let reason = match error {
        StoreError::Damaged { .. } => FailureReason::Damaged,
        StoreError::NoSpace { .. }
        | StoreError::InUse { .. }
        | StoreError::Failed { .. }
        | StoreError::Suspended
        | StoreError::Closed => FailureReason::StoreFailed,
    };
    refused(reason, &format!("the keys could not be read: {error}"))
}

fn of_report(reason: FailureReason, text: &str, report: QuorumReport) -> Status {
    let QuorumReport { slot, needed, replicas } = report;
    let answered = replicas.iter().filter(|(_, said)| *said == ReplicaStatus::Answered).count();
    let count = replicas.len();
    let replicas: Vec<ReplicaAnswer> =
        replicas.into_iter().map(|(node, said)| ReplicaAnswer { node, said: Some(said_text(&said)) }).collect();
    let each: Vec<String> = replicas
        .iter()
        .map(|replica| format!("{} {}", replica.node, replica.said.as_deref().unwrap_or_default()))
        .collect();
    let message = format!(
        "{text}. {needed} of the {count} replicas of slot {slot} had to answer, {answered} did: {}",
        each.join("; ")
    );
    failure::Failure { reason, slot: Some(slot), needed: Some(needed), replicas }.to_status(reason.code(), &message)
}

/// What a replica said, as the end of a sentence that begins with its id.
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
    use crate::protocol::{HelloRefusal, Refusal, Unready};
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
        }
    }

    fn placement() -> Placement {
        let node_ids = ["1", "2", "3", "4", "5"].map(id).to_vec();
        Placement::new(ClusterParameters { seed: 0, replica_count: 3, node_ids })
    }

    #[test]
    fn each_failure_has_its_code_and_reason_and_says_what_to_do() {
        let placement = placement();
        let key = Key::new("b").unwrap();
        let stamp = Stamp { clock: Clock { epoch: 3, counter: 9 }, writer: id("2") };
        let forming = || Failure::Unready(Unready::Forming { missing: vec![id("4")] });
        let too_far = Failure::RaiseTooFar { given: Clock { epoch: 9_999, counter: 0 }, now: stamp.clock };
        let elsewhere = Failure::NotReplica { slot: Slot(31_384), replicas: vec![id("3"), id("2"), id("4")] };
        for (purpose, failure, code, reason, parts) in [
            (
                Purpose::Write,
                Failure::NotApplied(report()),
                Code::Unavailable,
                FailureReason::NotApplied,
                &["certainly", "2 of the 3 replicas", "slot 31384", "1 did", "3 answered", "2 is not reachable"][..],
            ),
            (
                Purpose::Write,
                Failure::OutcomeUnknown(report()),
                Code::DeadlineExceeded,
                FailureReason::OutcomeUnknown,
                &["may or may not", "same cluster file"],
            ),
            (
                Purpose::Read,
                Failure::NoQuorum(report()),
                Code::Unavailable,
                FailureReason::NoQuorum,
                &["not read", "safe to ask again"],
            ),
            (Purpose::Write, forming(), Code::Unavailable, FailureReason::NotApplied, &["not written", "node 4"]),
            (Purpose::Read, forming(), Code::Unavailable, FailureReason::NotReady, &["not read", "node 4"]),
            (
                Purpose::Write,
                Failure::Unready(Unready::Draining),
                Code::Unavailable,
                FailureReason::NotApplied,
                &["ask another one"],
            ),
            (
                Purpose::Read,
                elsewhere,
                Code::FailedPrecondition,
                FailureReason::NotReplica,
                &["slot 31384", "nodes 3, 2, 4"],
            ),
            (
                Purpose::Write,
                Failure::NotGreater { held: stamp },
                Code::FailedPrecondition,
                FailureReason::StampNotGreater,
                &["3.9@2"],
            ),
            (Purpose::Write, too_far, Code::FailedPrecondition, FailureReason::ClockRaiseTooFar, &["9999.0", "3.9"]),
            (Purpose::Write, Failure::StampConflict, Code::DataLoss, FailureReason::Damaged, &["another content"]),
            (Purpose::Write, Failure::StoreFailed, Code::Unavailable, FailureReason::StoreFailed, &["no writes"]),
            (Purpose::Read, Failure::StoreFailed, Code::Unavailable, FailureReason::StoreFailed, &["be read"]),
        ] {
            let subject = Subject { purpose, key: Some(&key), placement: &placement };
            let status = subject.failed(failure.clone());
            assert_eq!(status.code(), code, "{failure:?}");
            let info = failure::Failure::from_status(&status).unwrap();
            assert_eq!(info.reason, reason, "{failure:?}");
            assert_eq!(info.slot, Some(Slot(31_384)), "{failure:?}");
            assert_eq!(info.replicas.iter().map(|replica| replica.node.as_str()).collect::<Vec<_>>(), ["3", "2", "4"]);
            assert!(parts.iter().all(|part| status.message().contains(part)), "{}", status.message());
        }
    }

    #[test]
    fn request_without_a_reply_claims_no_more_than_is_known() {
        let placement = placement();
        let key = Key::new("b").unwrap();
        let full = Rejected::TooManyRequests { requests_max: 7 };
        for (purpose, rejected, code, reason) in [
            (Purpose::Write, full.clone(), Code::ResourceExhausted, FailureReason::NotApplied),
            (Purpose::Read, full, Code::ResourceExhausted, FailureReason::NotReady),
            (
                Purpose::Write,
                Rejected::TooManyBytes { bytes_max: 7 },
                Code::ResourceExhausted,
                FailureReason::NotApplied,
            ),
            (Purpose::Write, Rejected::Ended, Code::Unavailable, FailureReason::NotApplied),
            (Purpose::Write, Rejected::Abandoned, Code::DeadlineExceeded, FailureReason::OutcomeUnknown),
            (Purpose::Read, Rejected::Abandoned, Code::Unavailable, FailureReason::NotReady),
        ] {
            let status = Subject { purpose, key: Some(&key), placement: &placement }.rejected(&rejected);
            assert_eq!(status.code(), code, "{rejected:?}");
            assert_eq!(failure::Failure::from_status(&status).unwrap().reason, reason, "{rejected:?}");
        }
    }

    #[test]
    fn everything_a_replica_can_say_reads_after_its_id() {
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
