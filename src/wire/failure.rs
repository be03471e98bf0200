//! The account that a failed call gives of itself: a `google.rpc.ErrorInfo` in the status details, for server and client
//! alike.
//!
//! Contract: a status without an `ErrorInfo`, or with one of another domain or an unknown reason, reads as `None`. A client
//! must then assume the worst. Everything here is bounded, because a status travels in HTTP/2 trailers, and clients refuse
//! trailers beyond 16 KiB: a client that could not read a failure would not know its reason.

use std::fmt;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::types::{NodeId, Slot};

/// The domain of every `ErrorInfo` that Quorate sends.
pub const DOMAIN: &str = "quorate";

/// Metadata key: the key's slot, a decimal number.
pub const SLOT: &str = "slot";
/// Metadata key: the ids of the slot's replicas, in the order of preference, separated by commas.
pub const REPLICAS: &str = "replicas";
/// Metadata key: how many of the replicas had to answer, a decimal number.
pub const NEEDED: &str = "needed";
/// Metadata key: the key's present version, where a condition failed.
pub const VERSION: &str = "version";
/// Metadata key: whether the key has a value, `true` or `false`, where a condition failed.
pub const HAS_VALUE: &str = "has_value";
/// Prefix of a metadata key: the last answer of the replica whose id follows.
pub const REPLICA_PREFIX: &str = "replica.";

/// The most bytes of one replica's answer.
const SAID_BYTES_MAX: usize = 160;
/// The most bytes of all replicas' answers. With 63 replicas of the longest id (4 KiB more, and as keys once more) the
/// details stay under 9 KiB, that is 12 KiB in base64.
const SAID_BYTES_TOTAL_MAX: usize = 2 << 10;
/// The most bytes of a status message. Percent-encoding makes up to three times as many of them.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Why a call failed, sorted by what its caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The write certainly did not happen, and will not. It is safe to send again, unless the request itself was at fault.
    NotApplied,
    /// The write may have happened, or may still happen. Read the key to find out.
    OutcomeUnknown,
    /// Too few replicas answered the read. It is safe to send again.
    NoQuorum,
    /// The node does not take the request now, or could not finish it: it starts, ends, is refused by its peers or has too
    /// much to do. Nothing was written by this try; of earlier tries it says nothing. Ask another node, or again later.
    NotReady,
    /// The replica's disk cannot be read or written now. An operator's write may have happened.
    StoreFailed,
    /// A record is not what was written: its checksum is wrong, or two contents have one stamp.
    Damaged,
    /// The request is not valid, and nothing was done. Correct it.
    InvalidArgument,
    /// The node is not a replica of the key. Ask one of the nodes that are named.
    NotReplica,
    /// The stamp of a Node/Set is not above the stamp held.
    StampNotGreater,
    /// The node's configuration does not allow Node/Set and Clock/Set.
    OperatorWritesOff,
    /// The condition of a write does not hold. The write never takes effect.
    ConditionFailed,
    /// The value to add to is no number, or the sum is out of range. The addition never takes effect.
    NotANumber,
    /// A Clock/Set or Node/Set would raise the clock too far.
    ClockRaiseTooFar,
    /// There is no table of this name. Nothing was done.
    NoSuchTable,
    /// There is a table of this name already. Nothing was done.
    TableExists,
    /// The members cannot be changed so. Nothing was done.
    MembersRefused,
    /// Another change of members came first. Nothing was done.
    MembersChanged,
    /// The caller is not known to the node: it shows no token and no certificate, or none that has rights. Nothing was done.
    Unauthenticated,
    /// The caller lacks a right. Nothing was done, and nothing is said of what the request was about.
    PermissionDenied,
}

impl FailureReason {
    const ALL: [Self; 19] = [
        Self::NotApplied,
        Self::OutcomeUnknown,
        Self::NoQuorum,
        Self::NotReady,
        Self::StoreFailed,
        Self::Damaged,
        Self::InvalidArgument,
        Self::NotReplica,
        Self::StampNotGreater,
        Self::OperatorWritesOff,
        Self::ClockRaiseTooFar,
        Self::ConditionFailed,
        Self::NotANumber,
        Self::NoSuchTable,
        Self::TableExists,
        Self::MembersRefused,
        Self::MembersChanged,
        Self::Unauthenticated,
        Self::PermissionDenied,
    ];

    /// The reason as it stands in an `ErrorInfo`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "NOT_APPLIED",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::NoQuorum => "NO_QUORUM",
            Self::NotReady => "NOT_READY",
            Self::StoreFailed => "STORE_FAILED",
            Self::Damaged => "DAMAGED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotReplica => "NOT_REPLICA",
            Self::StampNotGreater => "STAMP_NOT_GREATER",
            Self::OperatorWritesOff => "OPERATOR_WRITES_OFF",
            Self::ClockRaiseTooFar => "CLOCK_RAISE_TOO_FAR",
            Self::ConditionFailed => "CONDITION_FAILED",
            Self::NotANumber => "NOT_A_NUMBER",
            Self::NoSuchTable => "NO_SUCH_TABLE",
            Self::TableExists => "TABLE_EXISTS",
            Self::MembersRefused => "MEMBERS_REFUSED",
            Self::MembersChanged => "MEMBERS_CHANGED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
        }
    }

    /// The reason that `text` names, if there is such a reason.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// gRPC's status code for it. An overloaded node refuses with `RESOURCE_EXHAUSTED` instead.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NotApplied | Self::NoQuorum | Self::NotReady | Self::StoreFailed => Code::Unavailable,
            Self::Damaged => Code::DataLoss,
            Self::OutcomeUnknown => Code::DeadlineExceeded,
            Self::InvalidArgument => Code::InvalidArgument,
            Self::NoSuchTable => Code::NotFound,
            Self::TableExists => Code::AlreadyExists,
            Self::MembersChanged => Code::Aborted,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotReplica
            | Self::StampNotGreater
            | Self::OperatorWritesOff
            | Self::ClockRaiseTooFar
            | Self::ConditionFailed
            | Self::NotANumber
            | Self::MembersRefused => Code::FailedPrecondition,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One replica of a slot, and its last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAnswer {
    /// The replica.
    pub node: NodeId,
    /// Its answer, or why there is none; `None` if that is not known. Cut after 160 bytes.
    pub said: Option<String>,
}

/// Why a call failed, and the replicas that had a part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason, which decides what the caller does next.
    pub reason: FailureReason,
    /// The slot of the key, if the call has a key.
    pub slot: Option<Slot>,
    /// The number of replicas that had to answer.
    pub needed: Option<usize>,
    /// The slot's replicas, in the order of preference.
    pub replicas: Vec<ReplicaAnswer>,
    /// The key's present state, where a condition failed.
    pub current: Option<Current>,
}

/// The state of a key for which a condition failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its version, as text.
    pub version: String,
    /// Whether it has a value.
    pub has_value: bool,
}

impl Failure {
    /// A failure that has no more to it than its reason.
    #[must_use]
    pub fn new(reason: FailureReason) -> Self {
        Self { reason, slot: None, needed: None, replicas: Vec::new(), current: None }
    }

    /// The status to answer with. `code` is [`FailureReason::code`] unless there is a better one.
    #[must_use]
    pub fn to_status(&self, code: Code, message: &str) -> Status {
        let mut metadata = std::collections::HashMap::new();
        if let Some(slot) = self.slot {
            metadata.insert(SLOT.to_owned(), slot.to_string());
        }
        if let Some(needed) = self.needed {
            metadata.insert(NEEDED.to_owned(), needed.to_string());
        }
        if let Some(Current { version, has_value }) = &self.current {
            metadata.insert(VERSION.to_owned(), version.clone());
            metadata.insert(HAS_VALUE.to_owned(), has_value.to_string());
        }
        if !self.replicas.is_empty() {
            let ids: Vec<&str> = self.replicas.iter().map(|replica| replica.node.as_str()).collect();
            metadata.insert(REPLICAS.to_owned(), ids.join(","));
        }
        let mut room = SAID_BYTES_TOTAL_MAX;
        for replica in &self.replicas {
            let Some(said) = &replica.said else { continue };
            let said = cut(said, SAID_BYTES_MAX);
            let Some(left) = room.checked_sub(said.len()) else { break };
            room = left;
            metadata.insert(format!("{REPLICA_PREFIX}{}", replica.node), said.to_owned());
        }
        let details = ErrorDetails::with_error_info(self.reason.as_str(), DOMAIN, metadata);
        Status::with_error_details(code, cut(message, MESSAGE_BYTES_MAX), details)
    }

    /// The failure in a status; `None` if the status has no `ErrorInfo` of Quorate.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let reason = FailureReason::parse(&info.reason)?;
        let ids = info.metadata.get(REPLICAS).map_or("", String::as_str);
        let replicas = ids
            .split(',')
            .filter_map(|id| NodeId::new(id).ok())
            .map(|node| {
                let said = info.metadata.get(&format!("{REPLICA_PREFIX}{node}")).cloned();
                ReplicaAnswer { node, said }
            })
            .collect();
        Some(Self {
            reason,
            slot: info.metadata.get(SLOT).and_then(|text| text.parse().ok()).map(Slot),
            needed: info.metadata.get(NEEDED).and_then(|text| text.parse().ok()),
            replicas,
            current: info.metadata.get(VERSION).map(|version| Current {
                version: version.clone(),
                has_value: info.metadata.get(HAS_VALUE).is_some_and(|text| text == "true"),
            }),
        })
    }
}

/// A code as the gRPC specification writes it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The first `bytes_max` bytes of `text`, or a little less so that no character is split.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure() -> Failure {
        let replica =
            |id, said: Option<&str>| ReplicaAnswer { node: NodeId::new(id).unwrap(), said: said.map(str::to_owned) };
        Failure {
            reason: FailureReason::NotApplied,
            slot: Some(Slot(31_384)),
            needed: Some(2),
            replicas: vec![replica("3", Some("unreachable")), replica("2", Some("")), replica("4", None)],
            current: Some(Current { version: "AAxx".into(), has_value: true }),
        }
    }

    #[test]
    fn failure_survives_a_status() {
        let status = failure().to_status(Code::Unavailable, "not written");
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "not written");
        assert_eq!(Failure::from_status(&status), Some(failure()));
    }

    #[test]
    fn each_reason_reads_back_as_itself() {
        for reason in FailureReason::ALL {
            assert_eq!(FailureReason::parse(reason.as_str()), Some(reason));
            let status = Failure::new(reason).to_status(reason.code(), "");
            assert_eq!(Failure::from_status(&status), Some(Failure::new(reason)));
        }
    }

    #[test]
    fn largest_failure_fits_into_trailers() {
        let replicas = (0..63)
            .map(|i| ReplicaAnswer {
                node: NodeId::new(&format!("{i:0>64}")).unwrap(), said: Some("ö".repeat(10_000))
            })
            .collect();
        let failure = Failure { replicas, ..failure() };
        let status = failure.to_status(Code::Unavailable, &"ö".repeat(10_000));
        let base64_bytes = status.details().len().div_ceil(3) * 4;
        assert!(base64_bytes + 3 * status.message().len() < 16 << 10, "{base64_bytes}");
        assert_eq!(Failure::from_status(&status).unwrap().replicas.len(), 63);
    }

    #[test]
    fn foreign_status_says_nothing() {
        assert_eq!(Failure::from_status(&Status::unavailable("connection refused")), None);
        let details = ErrorDetails::with_error_info("NOT_APPLIED", "elsewhere", std::collections::HashMap::new());
        assert_eq!(Failure::from_status(&Status::with_error_details(Code::Unavailable, "", details)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn random_details_read_or_say_nothing(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Failure::from_status(&Status::with_details(Code::Unknown, "", bytes.into()));
        }

        #[test]
        fn random_metadata_reads(
            reason in prop_oneof![Just("NOT_APPLIED".to_owned()), ".{0,12}"],
            metadata in prop::collection::hash_map(
                prop_oneof![Just("slot".to_owned()), Just("replicas".to_owned()), Just("needed".to_owned()), ".{0,12}"],
                ".{0,24}",
                0..5,
            ),
        ) {
            let details = ErrorDetails::with_error_info(reason.clone(), DOMAIN, metadata);
            let read = Failure::from_status(&Status::with_error_details(Code::Unknown, "", details));
            prop_assert_eq!(read.is_some(), FailureReason::parse(&reason).is_some());
        }
    }
}
