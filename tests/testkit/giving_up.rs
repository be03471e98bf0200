//! When an operation may fail before its deadline: only if so many replicas refused permanently that no majority is left, or
//! if its own node cannot draw a stamp.

use quorate::protocol::{Failure, QuorumReport, ReplicaStatus};
use quorate::types::NodeId;

/// The coordinator of an operation that failed.
pub struct Coordinator<'a> {
    pub id: &'a NodeId,
    pub store_has_failed: bool,
    /// Whether the operation may need a new ballot at any time.
    pub draws_ballots: bool,
}

/// The report of a failure for which too few replicas answered.
pub fn report_of(failure: &Failure) -> Option<&QuorumReport> {
    match failure {
        Failure::NoQuorum(report) | Failure::NotApplied(report) | Failure::OutcomeUnknown(report) => Some(report),
        _ => None,
    }
}

/// Checks that an operation may fail as early as this one did. `has_refused` tells whether a peer refused permanently since the
/// operation began: a refusal in the report must have happened.
///
/// # Errors
/// The reason why it may not.
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
        ReplicaStatus::Refused(refusal) => refusal.is_permanent() && (id == coordinator.id || has_refused(id)),
        ReplicaStatus::NotTalking(_) => true,
        ReplicaStatus::Answered | ReplicaStatus::Nothing | ReplicaStatus::Unreachable => false,
    });
    let answered = count(&|_, said| *said == ReplicaStatus::Answered);
    // A majority has answered with its clocks, but the stamp needs a new epoch, which the own disk does not take.
    let has_no_stamp =
        matches!(failure, Failure::NotApplied(_)) && coordinator.store_has_failed && answered >= report.needed;
    let has_no_ballot = coordinator.draws_ballots && coordinator.store_has_failed;
    if has_no_stamp || has_no_ballot || report.replicas.len() - refused < report.needed {
        return Ok(());
    }
    Err(format!(
        "node {} gave up early, although only {refused} replicas refused for good: {failure:?}",
        coordinator.id
    ))
}
