//! Conversions of the reasons why a node refuses another one, or a request.

use crate::api;
use crate::protocol::{HelloRefusal, Refusal};
use crate::types::Incarnation;

pub(super) fn refused_hello(incarnation: Incarnation, refusal: HelloRefusal) -> api::PeerHelloRefused {
    let reason = match refusal {
        HelloRefusal::Protocol => api::PeerHelloRefusal::HelloRefusalProtocol,
        HelloRefusal::Cluster => api::PeerHelloRefusal::HelloRefusalCluster,
        HelloRefusal::WrongNode => api::PeerHelloRefusal::HelloRefusalWrongNode,
        HelloRefusal::StoreId => api::PeerHelloRefusal::HelloRefusalStoreId,
        HelloRefusal::Incarnation => api::PeerHelloRefusal::HelloRefusalIncarnation,
        HelloRefusal::NotMember => api::PeerHelloRefusal::HelloRefusalNotMember,
    };
    api::PeerHelloRefused { incarnation: Some(incarnation.into()), reason: reason.into(), detail: refusal.to_string() }
}

pub(super) fn encode_refusal(refusal: Refusal) -> api::PeerRefusal {
    match refusal {
        Refusal::NotReplica => api::PeerRefusal::RefusalNotReplica,
        Refusal::NotBootstrapped => api::PeerRefusal::RefusalNotBootstrapped,
        Refusal::StoreFailed => api::PeerRefusal::RefusalStoreFailed,
        Refusal::ReadFailed => api::PeerRefusal::RefusalReadFailed,
        Refusal::ClockJump => api::PeerRefusal::RefusalClockJump,
        Refusal::StampConflict => api::PeerRefusal::RefusalStampConflict,
        Refusal::RefusedByPeers => api::PeerRefusal::RefusalRefusedByPeers,
        Refusal::Dropped => api::PeerRefusal::RefusalDropped,
        Refusal::NoRoom => api::PeerRefusal::RefusalNoRoom,
        Refusal::Fenced => api::PeerRefusal::RefusalFenced,
        Refusal::Outdated => api::PeerRefusal::RefusalOutdated,
    }
}

pub(super) fn decode_refusal(refusal: api::PeerRefusal) -> Option<Refusal> {
    Some(match refusal {
        api::PeerRefusal::RefusalUnknown => return None,
        api::PeerRefusal::RefusalNotReplica => Refusal::NotReplica,
        api::PeerRefusal::RefusalNotBootstrapped => Refusal::NotBootstrapped,
        api::PeerRefusal::RefusalStoreFailed => Refusal::StoreFailed,
        api::PeerRefusal::RefusalReadFailed => Refusal::ReadFailed,
        api::PeerRefusal::RefusalClockJump => Refusal::ClockJump,
        api::PeerRefusal::RefusalStampConflict => Refusal::StampConflict,
        api::PeerRefusal::RefusalRefusedByPeers => Refusal::RefusedByPeers,
        api::PeerRefusal::RefusalDropped => Refusal::Dropped,
        api::PeerRefusal::RefusalNoRoom => Refusal::NoRoom,
        api::PeerRefusal::RefusalFenced => Refusal::Fenced,
        api::PeerRefusal::RefusalOutdated => Refusal::Outdated,
    })
}

pub(super) fn decode_hello_refusal(refusal: api::PeerHelloRefusal) -> Option<HelloRefusal> {
    Some(match refusal {
        api::PeerHelloRefusal::HelloRefusalUnknown => return None,
        api::PeerHelloRefusal::HelloRefusalProtocol => HelloRefusal::Protocol,
        api::PeerHelloRefusal::HelloRefusalCluster => HelloRefusal::Cluster,
        api::PeerHelloRefusal::HelloRefusalWrongNode => HelloRefusal::WrongNode,
        api::PeerHelloRefusal::HelloRefusalStoreId => HelloRefusal::StoreId,
        api::PeerHelloRefusal::HelloRefusalIncarnation => HelloRefusal::Incarnation,
        api::PeerHelloRefusal::HelloRefusalNotMember => HelloRefusal::NotMember,
    })
}
