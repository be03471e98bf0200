//! gRPC, which has every operation, and tells the most of each.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use quorate::api;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::condition::Condition as Arm;
use quorate::types::Condition;
use quorate::wire::failure::{Failure, FailureReason};
use tonic::{Code, Status};

use super::Node;
use crate::asking::{
    DEADLINE_SLACK, Kind, Miss, Page, Wish, content, ttl_of, value_in, value_of_request, version_in, versions,
};
use crate::testkit::requests::{Ask, Outcome};

pub(super) fn takes(ask: &Ask) -> bool {
    let names_several = matches!(ask, Ask::SetIf { condition: Condition::Among(_) | Condition::NotAmong { .. }, .. });
    !names_several && !matches!(ask, Ask::List { .. })
}

pub(super) async fn call(of: &Node, wish: &Wish, deadline: Duration) -> Result<Outcome, Miss> {
    let Wish { key, kind, ask, number, is_resend, .. } = wish;
    let mut node = ClusterClient::new(of.grpc.clone());
    let (key, value, resend) = (key.clone(), value_of_request(*number), *is_resend);
    let (condition, request_id) = match ask {
        Ask::SetIf { condition, .. } => (Some(condition_of(condition)), request_id(*number)),
        Ask::Add { .. } => (None, request_id(*number)),
        _ => Default::default(),
    };
    let is_deletion = matches!(ask, Ask::Delete | Ask::SetIf { deletes: true, .. });
    let written = match ask {
        Ask::Get | Ask::GetOne { .. } => {
            let mut request = api::GetRequest { key, ..Default::default() };
            if let Ask::GetOne { at_least } = ask {
                request.set_consistency(api::Consistency::One);
                request.at_least = at_least.as_ref().map(|version| versions().encode(version));
            }
            let answer = node.get(of.within(request, deadline)).await;
            let api::GetResponse { entry, version, ttl, .. } =
                answer.map_err(|status| miss(&status, wish))?.into_inner();
            return Ok(Outcome::Saw { value: value_in(entry.as_ref(), ttl, *kind)?, version: version_in(&version)? });
        }
        Ask::List { .. } => unreachable!("a list is no request of one key"),
        Ask::Add { delta, since } => {
            let since = since.as_ref().map(|version| versions().encode(version));
            let delta = *delta;
            let request = api::AddRequest { key, delta, since, request_id, resend, ..Default::default() };
            node.add(of.within(request, deadline)).await.map(|answer| {
                let api::AddResponse { value, version } = answer.into_inner();
                (Some(value), version)
            })
        }
        _ if is_deletion => {
            let request = api::DeleteRequest { key, condition, request_id, resend, ..Default::default() };
            node.delete(of.within(request, deadline)).await.map(|answer| (None, answer.into_inner().version))
        }
        _ => {
            let entry = Some(api::Entry { key, content: Some(content(value, *kind)) });
            let ttl = ttl_of(*number, *kind).and_then(|ttl| ttl.try_into().ok());
            let request = api::SetRequest { entry, condition, ttl, request_id, resend, ..Default::default() };
            node.set(of.within(request, deadline)).await.map(|answer| (None, answer.into_inner().version))
        }
    };
    match written {
        Ok((None, version)) => Ok(Outcome::Wrote(version_in(&version)?)),
        Ok((Some(sum), version)) => Ok(Outcome::Added { sum: sum.cast_unsigned(), version: version_in(&version)? }),
        Err(status) => match declined(&status) {
            Some((version, has_value)) if ask.has_token() => {
                Ok(Outcome::Declined { version: version_in(&version)?, has_value })
            }
            _ => Err(miss(&status, wish)),
        },
    }
}

/// The pages of a list, each with the time that `now` says once it is there. The list may end with a failure.
pub(crate) async fn list(
    of: &Node,
    request: api::ListRequest,
    kind_of: impl Fn(&str) -> Kind,
    now: impl Fn() -> u64,
    deadline: Duration,
) -> (Vec<(Page, u64)>, Result<(), Miss>) {
    let of = &of.now();
    let mut pages = Vec::new();
    let values = request.values;
    let listing = async {
        let mut node = ClusterClient::new(of.grpc.clone()).max_decoding_message_size(64 << 20);
        let failed = |status: Status| Miss::Failed(said(&status));
        let mut listed = node.list(of.within(request, deadline)).await.map_err(failed)?.into_inner();
        let mut last: Option<String> = None;
        while let Some(api::ListResponse { entries, next }) = listed.message().await.map_err(failed)? {
            let mut named = Vec::new();
            for api::ListedEntry { key, version, entry, ttl } in entries {
                if last.as_ref().is_some_and(|last| *last >= key) {
                    return Err(Miss::Defect(format!("a list names {key} after {last:?}")));
                }
                if values != entry.is_some() {
                    return Err(Miss::Defect(format!("a list with values: {values} names {key} with {entry:?}")));
                }
                let value = match &entry {
                    Some(entry) => value_in(Some(entry), ttl, kind_of(&key))?,
                    None => None,
                };
                named.push((key.clone(), value, version_in(&version)?));
                last = Some(key);
            }
            let is_over = next.is_none();
            pages.push((Page { named, looked_to: next }, now()));
            if is_over {
                return Ok(());
            }
        }
        Ok(())
    };
    let ended = match tokio::time::timeout(deadline + DEADLINE_SLACK, listing).await {
        Ok(ended) => ended,
        Err(_) => Err(Miss::Failed("no page in time".to_owned())),
    };
    (pages, ended)
}

fn request_id(number: u64) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&u128::from(number).to_be_bytes())
}

fn condition_of(condition: &Condition) -> api::Condition {
    let arm = match condition {
        Condition::Version(version) => Arm::IfVersion(versions().encode(version)),
        Condition::Absent => Arm::IfAbsent(true),
        Condition::Present => Arm::IfPresent(true),
        Condition::Among(_) | Condition::NotAmong { .. } => unreachable!("gRPC has no lists of versions"),
    };
    api::Condition { condition: Some(arm) }
}

/// The state that a failed condition showed, or an addition that found no number.
pub(super) fn declined(status: &Status) -> Option<(String, bool)> {
    let failure = Failure::from_status(status)?;
    let current = failure.current?;
    match failure.reason {
        FailureReason::ConditionFailed => Some((current.version, current.has_value)),
        FailureReason::NotANumber => Some((current.version, true)),
        _ => None,
    }
}

pub(super) fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn miss(status: &Status, wish: &Wish) -> Miss {
    let text = said(status);
    if is_refusal(status) {
        return Miss::Refused(text);
    }
    match Failure::from_status(status).map(|failure| failure.reason) {
        Some(FailureReason::NotApplied) if wish.is_resend => {
            Miss::Defect(format!("a request that was sent before is told as not applied: {text}"))
        }
        // The latter speaks of this attempt alone, as does a failed attempt in the history.
        Some(FailureReason::NotApplied | FailureReason::NotReady) => Miss::Failed(text),
        Some(FailureReason::Damaged | FailureReason::InvalidArgument) => Miss::Defect(text),
        _ if wish.ask.is_read() || never_left(status) => Miss::Failed(text),
        _ => Miss::Unknown(text),
    }
}

/// Whether the node does not know who asks.
pub(super) fn is_refusal(status: &Status) -> bool {
    let reason = Failure::from_status(status).map(|failure| failure.reason);
    status.code() == Code::Unauthenticated && reason == Some(FailureReason::Unauthenticated)
}

/// Whether no process listened at the node's port.
pub(super) fn never_left(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}
