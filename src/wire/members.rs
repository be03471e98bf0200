//! Conversions of the messages between nodes about members.

use std::sync::Arc;

use bytes::Bytes;

use crate::api;
use crate::api::peer_members_answer::Answer as Told;
use crate::api::peer_members_request::Question;
use crate::limits::{ADDRESS_BYTES_MAX, EPOCH_FLOOR_MAX, NODES_MAX, REPLICA_COUNT_MAX};
use crate::protocol::members::{MembersAnswer, MembersRequest, Progress, TakeoverPage};
use crate::types::{ClusterId, Configuration, Key, Member, MemberList, Site, Slot, StoreId, TableId, VoteBallot};

use super::peer::{PeerWireError, invalid, key, missing, node_id, writer};
use super::repair::{decode_clock, encode_clock, slot};

pub(super) fn encode_cluster(cluster: ClusterId) -> Bytes {
    Bytes::copy_from_slice(&cluster.0.to_be_bytes())
}

fn number(field: &'static str, bytes: &Bytes) -> Result<u128, PeerWireError> {
    let bytes: [u8; 16] = bytes.as_ref().try_into().map_err(|_| invalid(field, &"16 bytes are accepted"))?;
    Ok(u128::from_be_bytes(bytes))
}

pub(super) fn cluster(field: &'static str, bytes: &Bytes) -> Result<ClusterId, PeerWireError> {
    number(field, bytes).map(ClusterId)
}

pub(super) fn store_id(field: &'static str, bytes: &Bytes) -> Result<StoreId, PeerWireError> {
    number(field, bytes).map(StoreId)
}

pub(super) fn address(field: &'static str, text: &str) -> Result<Arc<str>, PeerWireError> {
    let is_valid = text.len() <= ADDRESS_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic());
    if is_valid { Ok(text.into()) } else { Err(invalid(field, &"host:port is accepted")) }
}

fn encode_list(list: &MemberList) -> api::PeerMemberList {
    let member = |member: &Member| {
        let (weight_hundredths, zone) = member.site.to_fields();
        api::PeerMember {
            id: member.id.to_string(),
            store_id: Bytes::copy_from_slice(&member.store_id.0.to_be_bytes()),
            since: member.since,
            address: member.address.to_string(),
            weight_hundredths,
            zone,
        }
    };
    api::PeerMemberList {
        replica_count: u32::try_from(list.replica_count).expect("REPLICA_COUNT_MAX keeps it within a u32"),
        members: list.members.iter().map(member).collect(),
    }
}

fn decode_list(list: &api::PeerMemberList) -> Result<MemberList, PeerWireError> {
    let replica_count = usize::try_from(list.replica_count).unwrap_or(usize::MAX);
    if replica_count > REPLICA_COUNT_MAX {
        return Err(invalid("configuration.replica_count", &format!("at most {REPLICA_COUNT_MAX} is accepted")));
    }
    if list.members.len() > NODES_MAX {
        return Err(invalid("configuration.members", &format!("at most {NODES_MAX} are accepted")));
    }
    let member = |member: &api::PeerMember| {
        Ok(Member {
            id: node_id("configuration.members.id", &member.id)?,
            store_id: store_id("configuration.members.store_id", &member.store_id)?,
            since: member.since,
            address: address("configuration.members.address", &member.address)?,
            site: Site::of_fields(member.weight_hundredths, &member.zone)
                .map_err(|error| invalid("configuration.members", &error))?,
        })
    };
    Ok(MemberList { replica_count, members: list.members.iter().map(member).collect::<Result<_, _>>()? })
}

pub(super) fn encode_configuration(configuration: &Configuration) -> api::PeerConfiguration {
    api::PeerConfiguration {
        number: configuration.number,
        cluster: encode_cluster(configuration.cluster),
        seed: configuration.seed,
        epoch_floor: configuration.epoch_floor,
        old: Some(encode_list(&configuration.old)),
        new: configuration.new.as_ref().map(encode_list),
    }
}

pub(super) fn decode_configuration(
    configuration: &api::PeerConfiguration,
) -> Result<Arc<Configuration>, PeerWireError> {
    let configuration = Configuration {
        number: configuration.number,
        cluster: cluster("configuration.cluster", &configuration.cluster)?,
        seed: configuration.seed,
        epoch_floor: configuration.epoch_floor,
        old: decode_list(configuration.old.as_ref().ok_or(missing("configuration.old"))?)?,
        new: configuration.new.as_ref().map(decode_list).transpose()?,
    };
    if configuration.epoch_floor > EPOCH_FLOOR_MAX {
        return Err(invalid("configuration.epoch_floor", &format!("at most {EPOCH_FLOOR_MAX} is accepted")));
    }
    if !configuration.is_valid() {
        return Err(invalid(
            "configuration",
            &"ids that ascend, a replica_count up to their number, and zones for all or none are accepted",
        ));
    }
    Ok(configuration.into())
}

fn encode_ballot(ballot: &VoteBallot) -> api::PeerVoteBallot {
    api::PeerVoteBallot { count: ballot.count, proposer: ballot.proposer.to_string(), epoch: ballot.epoch }
}

fn decode_ballot(ballot: &api::PeerVoteBallot) -> Result<VoteBallot, PeerWireError> {
    let proposer = writer("ballot.proposer", &ballot.proposer)?;
    Ok(VoteBallot { count: ballot.count, proposer, epoch: ballot.epoch })
}

/// The ballot of none, which a member has promised that has promised nothing, has no name.
fn decode_promised(ballot: &api::PeerVoteBallot) -> Result<VoteBallot, PeerWireError> {
    if ballot.proposer.is_empty() {
        return Ok(VoteBallot { count: ballot.count, proposer: crate::types::NodeId::none(), epoch: ballot.epoch });
    }
    decode_ballot(ballot)
}

fn decode_accept(accept: api::PeerVoteAccept) -> Result<(VoteBallot, Arc<Configuration>), PeerWireError> {
    let ballot = decode_ballot(&accept.ballot.ok_or(missing("accept.ballot"))?)?;
    Ok((ballot, decode_configuration(accept.configuration.as_ref().ok_or(missing("accept.configuration"))?)?))
}

fn encode_place((slot, key): (Slot, Key)) -> api::PeerPlace {
    api::PeerPlace { slot: slot.0.into(), key: key.into_bytes() }
}

fn decode_place(place: api::PeerPlace) -> Result<(Slot, Key), PeerWireError> {
    Ok((slot("place.slot", place.slot)?, key("place.key", place.key)?))
}

pub(super) fn encode_request(request: MembersRequest) -> api::PeerMembersRequest {
    let question = match request {
        MembersRequest::Prepare { ballot } => Question::Prepare(encode_ballot(&ballot)),
        MembersRequest::Accept { ballot, configuration } => Question::Accept(api::PeerVoteAccept {
            ballot: Some(encode_ballot(&ballot)),
            configuration: Some(encode_configuration(&configuration)),
        }),
        MembersRequest::Floors { after } => Question::FloorsAfter(after.0),
        MembersRequest::Records { after } => {
            Question::Records(api::PeerTakeoverRecords { after: after.map(encode_place) })
        }
        MembersRequest::Progress => Question::Progress(true),
    };
    api::PeerMembersRequest { question: Some(question) }
}

pub(super) fn decode_request(request: api::PeerMembersRequest) -> Result<MembersRequest, PeerWireError> {
    Ok(match request.question.ok_or(missing("members.question"))? {
        Question::Prepare(ballot) => MembersRequest::Prepare { ballot: decode_ballot(&ballot)? },
        Question::Accept(accept) => {
            let (ballot, configuration) = decode_accept(accept)?;
            MembersRequest::Accept { ballot, configuration }
        }
        Question::FloorsAfter(after) => MembersRequest::Floors { after: TableId(after) },
        Question::Records(records) => MembersRequest::Records { after: records.after.map(decode_place).transpose()? },
        Question::Progress(_) => MembersRequest::Progress,
    })
}

pub(super) fn encode_answer(answer: MembersAnswer) -> api::PeerMembersAnswer {
    let answer = match answer {
        MembersAnswer::Promised { accepted } => Told::Promised(match accepted {
            Some((ballot, configuration)) => api::PeerVoteAccept {
                ballot: Some(encode_ballot(&ballot)),
                configuration: Some(encode_configuration(&configuration)),
            },
            None => api::PeerVoteAccept { ballot: None, configuration: None },
        }),
        MembersAnswer::Accepted => Told::Accepted(true),
        MembersAnswer::Preempted { promised } => Told::Preempted(encode_ballot(&promised)),
        MembersAnswer::Floors { fence, dropped, has_more } => Told::Floors(api::PeerFloors {
            fence: fence.map(encode_clock),
            dropped: dropped.into_iter().map(|table| table.0).collect(),
            has_more,
        }),
        MembersAnswer::Records(page) => Told::Records(encode_page(page)),
        MembersAnswer::Progress(Progress { is_complete, slots, slots_done, keys, bytes }) => {
            Told::Progress(api::PeerProgress { is_complete, slots, slots_done, keys, bytes })
        }
    };
    api::PeerMembersAnswer { answer: Some(answer) }
}

pub(super) fn decode_answer(answer: api::PeerMembersAnswer) -> Result<MembersAnswer, PeerWireError> {
    Ok(match answer.answer.ok_or(missing("members_answer.answer"))? {
        Told::Promised(api::PeerVoteAccept { ballot: None, configuration: None }) => {
            MembersAnswer::Promised { accepted: None }
        }
        Told::Promised(accept) => MembersAnswer::Promised { accepted: Some(decode_accept(accept)?) },
        Told::Accepted(_) => MembersAnswer::Accepted,
        Told::Preempted(ballot) => MembersAnswer::Preempted { promised: decode_promised(&ballot)? },
        Told::Floors(floors) => MembersAnswer::Floors {
            fence: floors.fence.map(decode_clock),
            dropped: floors.dropped.into_iter().map(TableId).filter(|table| table.is_created()).collect(),
            has_more: floors.has_more,
        },
        Told::Records(page) => MembersAnswer::Records(decode_page(page)?),
        Told::Progress(api::PeerProgress { is_complete, slots, slots_done, keys, bytes }) => {
            MembersAnswer::Progress(Progress { is_complete, slots, slots_done, keys, bytes })
        }
    })
}

fn encode_page(page: TakeoverPage) -> api::PeerTakeoverPage {
    let record = |(slot, key, mark): (Slot, Key, u64)| api::PeerTakeoverRecord {
        slot: slot.0.into(),
        key: key.into_bytes(),
        mark,
    };
    api::PeerTakeoverPage {
        records: page.records.into_iter().map(record).collect(),
        looked_to: page.looked_to.map(encode_place),
        seals: page
            .seals
            .into_iter()
            .map(|(slot, seal)| api::PeerSlotSeal { slot: slot.0.into(), seal: Some(encode_clock(seal)) })
            .collect(),
    }
}

fn decode_page(page: api::PeerTakeoverPage) -> Result<TakeoverPage, PeerWireError> {
    let record = |record: api::PeerTakeoverRecord| {
        Ok((slot("records.slot", record.slot)?, key("records.key", record.key)?, record.mark))
    };
    let seal = |of_slot: api::PeerSlotSeal| {
        let seal = of_slot.seal.map(decode_clock).ok_or(missing("records.seals.seal"))?;
        Ok((slot("records.seals.slot", of_slot.slot)?, seal))
    };
    Ok(TakeoverPage {
        records: page.records.into_iter().map(record).collect::<Result<_, PeerWireError>>()?,
        looked_to: page.looked_to.map(decode_place).transpose()?,
        seals: page.seals.into_iter().map(seal).collect::<Result<_, PeerWireError>>()?,
    })
}
