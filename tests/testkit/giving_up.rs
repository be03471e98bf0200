//! When an operation may be given up before its deadline: only when so many of its replicas have refused for good that no
//! majority is left, or when its own node can draw no stamp.

use quorate::protocol::{Failure, QuorumReport, ReplicaStatus};
use quorate::types::NodeId;

/// The coordinator of an operation that failed.
pub struct Coordinator<'a> {
    pub id: &'a NodeId,
    pub store_has_failed: bool,
}

/// Whether `failure` says that too few replicas answered.
pub fn report_of(failure: &Failure) -> Option<&QuorumReport> {
    match failure {
        Failure::NoQuorum(report) | Failure::NotApplied(report) | Failure::OutcomeUnknown(report) => Some(report),
        _ => None,
    }
}

/// What is wrong with giving up so early, if anything. `has_refused` says whether a peer did refuse for good since the
/// operation began: what the report says of it must have happened.
pub fn may_give_up(
    coordinator: &Coordinator<'_>,
    failure: &Failure,
    has_refused: impl Fn(&NodeId) -> bool,
) -> Result<(), String> {
    let Some(report) = report_of(failure) else { return Ok(()) };
    let count = |is_so: &dyn Fn(&NodeId, &ReplicaStatus) -> bool| {
        report.replicas.iter().filter(|(id, said)| is_so(id, said)).count()
    };
    let refused = count(&|id, said| match said {
        ReplicaStatus::Refused(refusal) => refusal.is_for_good() && (id == coordinator.id || has_refused(id)),
        ReplicaStatus::NotTalking(_) => true,
        ReplicaStatus::Answered | ReplicaStatus::Nothing | ReplicaStatus::Unreachable => false,
    });
    let answered = count(&|_, said| *said == ReplicaStatus::Answered);
    // It has its clocks, and needs an epoch that its own disk does not take.
    let has_no_stamp =
        matches!(failure, Failure::NotApplied(_)) && coordinator.store_has_failed && answered >= report.needed;
    if has_no_stamp || report.replicas.len() - refused < report.needed {
        return Ok(());
    }
    Err(format!(
        "node {} gave up early, although only {refused} replicas refused for good: {failure:?}",
        coordinator.id
    ))
}
