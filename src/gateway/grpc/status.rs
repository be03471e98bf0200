//! The service's errors and states in gRPC's words.

use tonic::{Code, Status};

use crate::api;
use crate::service::error::ServiceError;
use crate::service::health::{Health, LinkState};
use crate::wire::WireError;

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        error.failure.to_status(code(&error), &error.message)
    }
}

/// The status code of an error.
pub(super) fn code(error: &ServiceError) -> Code {
    match error {
        // It was not looked at: what became of the earlier tries can still be asked for.
        ServiceError { is_resend: true, .. } => Code::Unavailable,
        ServiceError { overloaded: true, .. } => Code::ResourceExhausted,
        _ => error.failure.reason.code(),
    }
}

/// The status of a message that is not valid.
pub(super) fn rejected(error: WireError) -> Status {
    ServiceError::from(error).into()
}

impl From<Health> for api::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Online => Self::Online,
            Health::Starting => Self::Starting,
            Health::Degraded => Self::Degraded,
            Health::Draining => Self::Draining,
            Health::Refused => Self::Refused,
        }
    }
}

impl From<LinkState> for api::PeerState {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Linked => Self::PeerLinked,
            LinkState::Unreachable => Self::PeerUnreachable,
            LinkState::Refused => Self::PeerRefused,
            LinkState::Itself => Self::PeerSelf,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::error::no_room;
    use crate::wire::failure::{Failure, FailureReason};
    use crate::wire::method::Access;

    #[test]
    fn status_has_the_code_of_its_reason_unless_the_node_is_overloaded() {
        let status = Status::from(ServiceError::new(FailureReason::NotApplied, "not written"));
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "not written"));
        let status = Status::from(no_room(Access::Write));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(Failure::from_status(&status).unwrap().reason, FailureReason::NotApplied);
    }
}
