//! The service's errors and states in gRPC's words.

use tonic::Status;

use crate::service::error::ServiceError;
use crate::wire::WireError;

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        error.failure.to_status(error.code(), &error.message)
    }
}

/// The status of a message that is not valid.
pub(super) fn rejected(error: WireError) -> Status {
    ServiceError::from(error).into()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

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
