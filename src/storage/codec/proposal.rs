//! The bytes of a proposal: what a record that a conditional write made has beyond a plain one.
//!
//! They are the ballot (a stamp), the version, the version at which the history begins, the length of the history (1), and
//! for each of its entries the token (16), the version, and the sum. A version is a byte of flags, then its stamp unless that
//! is the record's own (1), then its ballot where it has one (2). A sum is 0, or 1 and its value (8).

use crate::types::{Applied, IdempotencyToken, Proposal, RECENT_MAX, Stamp, Version};

use super::{DecodeError, Input, encode_stamp, stamp};

/// The version has the stamp of its record.
const SAME_STAMP: u8 = 1;
/// The version has a ballot.
const BALLOT: u8 = 1 << 1;

/// Appends `proposal` of a record with stamp `of_record`.
pub(super) fn encode(proposal: &Proposal, of_record: &Stamp, out: &mut Vec<u8>) {
    encode_stamp(&proposal.ballot, out);
    encode_version(&proposal.version, of_record, out);
    encode_version(&proposal.recent_floor, of_record, out);
    out.push(u8::try_from(proposal.recent.len()).expect("RECENT_MAX keeps the length within a byte"));
    for Applied { token, version, sum } in &proposal.recent {
        out.extend_from_slice(&token.0);
        encode_version(version, of_record, out);
        match sum {
            None => out.push(0),
            Some(sum) => {
                out.push(1);
                out.extend_from_slice(&sum.to_be_bytes());
            }
        }
    }
}

/// Reads the proposal of a record with stamp `of_record`.
pub(super) fn decode(input: &mut Input<'_>, of_record: &Stamp) -> Result<Proposal, DecodeError> {
    let ballot = stamp(input, false)?;
    let version = decode_version(input, of_record)?;
    let recent_floor = decode_version(input, of_record)?;
    let length = input.take_u8("history's length")?;
    if usize::from(length) > RECENT_MAX {
        return Err(DecodeError::Unknown { field: "history's length", found: length });
    }
    let recent = (0..length).map(|_| applied(input, of_record)).collect::<Result<_, _>>()?;
    Ok(Proposal { ballot, version, recent, recent_floor })
}

fn applied(input: &mut Input<'_>, of_record: &Stamp) -> Result<Applied, DecodeError> {
    let token = IdempotencyToken(input.take("token")?);
    let version = decode_version(input, of_record)?;
    let sum = match input.take_u8("sum's mark")? {
        0 => None,
        1 => Some(i64::from_be_bytes(input.take("sum")?)),
        found => return Err(DecodeError::Unknown { field: "sum's mark", found }),
    };
    Ok(Applied { token, version, sum })
}

pub(super) fn encode_version(version: &Version, of_record: &Stamp, out: &mut Vec<u8>) {
    let same_stamp = if version.stamp == *of_record { SAME_STAMP } else { 0 };
    let ballot = if version.ballot.is_some() { BALLOT } else { 0 };
    out.push(same_stamp | ballot);
    if same_stamp == 0 {
        encode_stamp(&version.stamp, out);
    }
    if let Some(ballot) = &version.ballot {
        encode_stamp(ballot, out);
    }
}

pub(super) fn decode_version(input: &mut Input<'_>, of_record: &Stamp) -> Result<Version, DecodeError> {
    let flags = input.take_u8("version's flags")?;
    if flags & !(SAME_STAMP | BALLOT) != 0 {
        return Err(DecodeError::Unknown { field: "version's flags", found: flags });
    }
    let stamp_of_version = if flags & SAME_STAMP == 0 { stamp(input, true)? } else { of_record.clone() };
    let ballot = if flags & BALLOT == 0 { None } else { Some(stamp(input, false)?) };
    Ok(Version::new(stamp_of_version, ballot))
}
