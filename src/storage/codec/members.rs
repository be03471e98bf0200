//! Configurations, votes, and how far slots are taken over, as entries of `meta`.
//!
//! Texts and lists begin with their length (4). What may be absent begins with 1 where it is there, and is 0 otherwise. A member
//! is id, store id (16), the number since when it is one (8), address. A list of members is `replica_count` (4) and the members. A
//! configuration is number (8), cluster (16), seed (4), the old list, flags (1), and as these say
//! the new list (1) and `epoch_floor` (2, 8 bytes).
//!
//! Where a member has a weight or a zone, each member of the entry has two more fields: its weight in hundredths (4), where 0 stands
//! for a weight of 1, and its zone, where an empty text stands for none. The entry's version then says so.

use std::sync::Arc;

use super::{DecodeError, Input};
use crate::limits::EPOCH_FLOOR_MAX;
use crate::types::{
    ClusterId, Configuration, Key, Member, MemberList, NodeId, Site, Slot, StoreId, TakenOver, Vote, VoteBallot,
};

/// A flag of a configuration: members change, and the new list follows.
const HAS_NEW_LIST: u8 = 1;
/// A flag of a configuration: `epoch_floor` follows.
const HAS_EPOCH_FLOOR: u8 = 2;

/// Whether a member has a weight or a zone.
pub(super) fn has_sites(configuration: &Configuration) -> bool {
    let members = configuration.old.members.iter().chain(configuration.new.iter().flat_map(|new| &new.members));
    members.into_iter().any(|member| member.site != Site::default())
}

fn put_text(text: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u32::try_from(text.len()).expect("ids, keys and addresses are short").to_be_bytes());
    into.extend_from_slice(text);
}

fn put_list(list: &MemberList, have_sites: bool, into: &mut Vec<u8>) {
    let count = |count: usize| u32::try_from(count).expect("the limits keep it within a u32").to_be_bytes();
    into.extend_from_slice(&count(list.replica_count));
    into.extend_from_slice(&count(list.members.len()));
    for member in &list.members {
        put_text(member.id.as_str().as_bytes(), into);
        into.extend_from_slice(&member.store_id.0.to_be_bytes());
        into.extend_from_slice(&member.since.to_be_bytes());
        put_text(member.address.as_bytes(), into);
        if have_sites {
            let (hundredths, zone) = member.site.to_fields();
            into.extend_from_slice(&hundredths.to_be_bytes());
            put_text(zone.as_bytes(), into);
        }
    }
}

pub(super) fn encode_configuration(configuration: &Configuration, into: &mut Vec<u8>) {
    into.extend_from_slice(&configuration.number.to_be_bytes());
    into.extend_from_slice(&configuration.cluster.0.to_be_bytes());
    into.extend_from_slice(&configuration.seed.to_be_bytes());
    let have_sites = has_sites(configuration);
    put_list(&configuration.old, have_sites, into);
    // Most clusters have no floor, and their configurations do not name it.
    let has_floor = configuration.epoch_floor > 0;
    let new_flag = if configuration.new.is_some() { HAS_NEW_LIST } else { 0 };
    into.push(new_flag | if has_floor { HAS_EPOCH_FLOOR } else { 0 });
    if let Some(new) = &configuration.new {
        put_list(new, have_sites, into);
    }
    if has_floor {
        into.extend_from_slice(&configuration.epoch_floor.to_be_bytes());
    }
}

pub(super) fn encode_vote(vote: &Vote, into: &mut Vec<u8>) {
    into.extend_from_slice(&vote.number.to_be_bytes());
    put_ballot(&vote.promised, into);
    into.push(u8::from(vote.accepted.is_some()));
    if let Some((ballot, configuration)) = &vote.accepted {
        put_ballot(ballot, into);
        encode_configuration(configuration, into);
    }
}

fn put_ballot(ballot: &VoteBallot, into: &mut Vec<u8>) {
    into.extend_from_slice(&ballot.count.to_be_bytes());
    put_text(ballot.proposer.as_str().as_bytes(), into);
    into.extend_from_slice(&ballot.epoch.to_be_bytes());
}

pub(super) fn encode_taken_over(taken_over: &TakenOver, into: &mut Vec<u8>) {
    into.extend_from_slice(&taken_over.number.to_be_bytes());
    into.push(u8::from(taken_over.is_complete));
    into.push(u8::from(taken_over.up_to.is_some()));
    if let Some((slot, key)) = &taken_over.up_to {
        into.extend_from_slice(&slot.0.to_be_bytes());
        put_text(key.as_bytes(), into);
    }
}

fn text<'a>(input: &mut Input<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    let bytes = u32::from_be_bytes(input.take(field)?) as usize;
    input.take_slice(bytes, field)
}

fn flag(input: &mut Input<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match input.take_u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(DecodeError::Unknown { field, found }),
    }
}

fn list(input: &mut Input<'_>, have_sites: bool) -> Result<MemberList, DecodeError> {
    let replica_count = u32::from_be_bytes(input.take("replica_count")?) as usize;
    let count = u32::from_be_bytes(input.take("number of members")?);
    let mut members = Vec::new();
    for _ in 0..count {
        let id = super::node_id(text(input, "member's id")?)?;
        let store_id = StoreId(u128::from_be_bytes(input.take("member's store id")?));
        let since = input.take_u64("member's number")?;
        let address = std::str::from_utf8(text(input, "member's address")?);
        let address = address.map_err(|_| DecodeError::NodeIdNotText)?.into();
        let site = if have_sites { site(input)? } else { Site::default() };
        members.push(Member { id, store_id, since, address, site });
    }
    Ok(MemberList { replica_count, members })
}

fn site(input: &mut Input<'_>) -> Result<Site, DecodeError> {
    let hundredths = u32::from_be_bytes(input.take("member's weight")?);
    let zone = String::from_utf8_lossy(text(input, "member's zone")?);
    Ok(Site::of_fields(hundredths, &zone)?)
}

pub(super) fn configuration(input: &mut Input<'_>, have_sites: bool) -> Result<Arc<Configuration>, DecodeError> {
    let number = input.take_u64("number")?;
    let cluster = ClusterId(u128::from_be_bytes(input.take("cluster")?));
    let seed = u32::from_be_bytes(input.take("seed")?);
    let old = list(input, have_sites)?;
    let flags = input.take_u8("flags")?;
    if flags & !(HAS_NEW_LIST | HAS_EPOCH_FLOOR) != 0 {
        return Err(DecodeError::Unknown { field: "flags", found: flags });
    }
    let new = if flags & HAS_NEW_LIST != 0 { Some(list(input, have_sites)?) } else { None };
    let epoch_floor = if flags & HAS_EPOCH_FLOOR != 0 { input.take_u64("epoch_floor")? } else { 0 };
    let configuration = Configuration { number, cluster, seed, epoch_floor, old, new };
    if !configuration.is_valid() || configuration.epoch_floor > EPOCH_FLOOR_MAX {
        return Err(DecodeError::NotAList);
    }
    Ok(configuration.into())
}

pub(super) fn vote(input: &mut Input<'_>, have_sites: bool) -> Result<Vote, DecodeError> {
    let number = input.take_u64("number")?;
    let promised = ballot(input)?;
    let accepted =
        if flag(input, "accepted")? { Some((ballot(input)?, configuration(input, have_sites)?)) } else { None };
    Ok(Vote { number, promised, accepted })
}

fn ballot(input: &mut Input<'_>) -> Result<VoteBallot, DecodeError> {
    let count = input.take_u64("count")?;
    let proposer = text(input, "proposer")?;
    let proposer = if proposer.is_empty() { NodeId::none() } else { super::writer(proposer)? };
    Ok(VoteBallot { count, proposer, epoch: input.take_u64("epoch")? })
}

pub(super) fn taken_over(input: &mut Input<'_>) -> Result<TakenOver, DecodeError> {
    let number = input.take_u64("number")?;
    let is_complete = flag(input, "complete")?;
    let up_to = if flag(input, "place")? {
        let slot = Slot(u16::from_be_bytes(input.take("slot")?));
        Some((slot, Key::from_stored(text(input, "key")?.to_vec())?))
    } else {
        None
    };
    Ok(TakenOver { number, up_to, is_complete })
}
