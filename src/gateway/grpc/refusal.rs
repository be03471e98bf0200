//! Refusals that the gRPC library makes before a request reaches a handler, in Quorate's words.
//!
//! Every failure of a handler has an `ErrorInfo`. A status without one therefore comes from the library: the message does
//! not decode, is too large, or is compressed in another way than accepted; or the method does not exist. Nothing was done
//! then, and the request is at fault, not this node.

use tonic::body::Body;
use tonic::codegen::http::{self, HeaderMap, HeaderName};
use tonic::{Code, Status};

use crate::limits::METADATA_BYTES_MAX;
use crate::wire::failure::{Failure, FailureReason};
use crate::wire::method::Access;

/// gRPC's trailer for the code of a status. A name that is parsed once is found sooner.
pub(super) static STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's trailer for the details of a status.
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The refusal of a request whose metadata is too large, if it is.
pub(super) fn of_metadata(headers: &HeaderMap, access: Access) -> Option<Status> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (bytes > METADATA_BYTES_MAX).then(|| {
        let message = format!("the metadata has {bytes} bytes: at most {METADATA_BYTES_MAX} bytes are accepted");
        status(Code::InvalidArgument, &message, access)
    })
}

/// Whether a response refuses a request because there is too much: of all, or of its client.
pub(super) fn is_overload(headers: &HeaderMap) -> bool {
    headers.get(&STATUS).is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::ResourceExhausted)
}

/// The response, with an `ErrorInfo` if it is a refusal that has none.
pub(super) fn explained(mut response: http::Response<Body>, access: Access) -> http::Response<Body> {
    let headers = response.headers();
    // A response that began well has its status in its trailers, and comes from a handler.
    if !headers.contains_key(&STATUS) || headers.contains_key(&DETAILS) {
        return response;
    }
    let Some(refused) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else {
        return response;
    };
    let code = match refused.code() {
        // The library's code for a message that does not decode.
        Code::Internal => Code::InvalidArgument,
        code => code,
    };
    let explained = status(code, refused.message(), access);
    // It cannot fail: the header map has room, and the message was percent-encoded before.
    let _ = explained.add_header(response.headers_mut());
    response
}

fn status(code: Code, message: &str, access: Access) -> Status {
    let reason = match access {
        Access::Read => FailureReason::InvalidArgument,
        Access::Write => FailureReason::NotApplied,
    };
    let message = match message {
        "" => "there is no such method; reflection lists those that are served",
        message => message,
    };
    Failure::new(reason).to_status(code, &format!("nothing was done: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_the_library_is_explained_and_other_responses_stay() {
        let refused = Status::internal("failed to decode").into_http();
        let explained = Status::from_header_map(super::explained(refused, Access::Write).headers()).unwrap();
        assert_eq!(explained.code(), Code::InvalidArgument);
        assert_eq!(explained.message(), "nothing was done: failed to decode");
        assert_eq!(Failure::from_status(&explained).unwrap().reason, FailureReason::NotApplied);

        let of_handler = Failure::new(FailureReason::NoQuorum).to_status(Code::Unavailable, "not read");
        let same = super::explained(of_handler.into_http(), Access::Read);
        let same = Status::from_header_map(same.headers()).unwrap();
        assert_eq!((same.code(), same.message()), (Code::Unavailable, "not read"));
        let fine = super::explained(http::Response::new(Body::empty()), Access::Read);
        assert!(fine.headers().is_empty());
        assert!(is_overload(Status::resource_exhausted("too much").into_http::<Body>().headers()));
        assert!(
            !is_overload(Status::unavailable("not read").into_http::<Body>().headers()) && !is_overload(fine.headers())
        );
    }
}
