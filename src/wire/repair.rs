//! Conversions of the messages between nodes about repair.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::api;
use crate::api::peer_compared::Answer as Compared;
use crate::api::peer_repair::Question;
use crate::limits::REPAIR_PARTS_MAX;
use crate::protocol::sums::{Part, RepairAnswer, RepairRequest, Sum};
use crate::types::{Key, Slot};

use super::peer::{PeerWireError, invalid, key, missing};

pub(super) fn encode_request(request: RepairRequest) -> api::PeerRepair {
    let question = match request {
        RepairRequest::Sums(parts) => {
            Question::Sums(api::PeerParts { parts: parts.into_iter().map(Part::number).collect() })
        }
        RepairRequest::Records { slot, leaves, after } => Question::Records(api::PeerSlot {
            slot: slot.0.into(),
            leaves: leaves.into(),
            after: after.map_or_else(Bytes::new, Key::into_bytes),
        }),
        RepairRequest::End { is_equal } => Question::End(is_equal),
    };
    api::PeerRepair { question: Some(question) }
}

pub(super) fn decode_request(request: api::PeerRepair) -> Result<RepairRequest, PeerWireError> {
    Ok(match request.question.ok_or(missing("repair.question"))? {
        Question::Sums(api::PeerParts { parts }) => {
            if parts.len() > REPAIR_PARTS_MAX {
                return Err(invalid("repair.sums", &format!("at most {REPAIR_PARTS_MAX} parts are accepted")));
            }
            let part = |number| Part::of_number(number).ok_or(missing("repair.sums.parts"));
            RepairRequest::Sums(parts.into_iter().map(part).collect::<Result<_, _>>()?)
        }
        Question::Records(api::PeerSlot { slot, leaves, after }) => {
            let number = |number, field| u16::try_from(number).map_err(|error| invalid(field, &error));
            RepairRequest::Records {
                slot: Slot(number(slot, "repair.records.slot")?),
                leaves: number(leaves, "repair.records.leaves")?,
                after: if after.is_empty() { None } else { Some(key("repair.records.after", after)?) },
            }
        }
        Question::End(is_equal) => RepairRequest::End { is_equal },
    })
}

pub(super) fn encode_answer(answer: RepairAnswer) -> api::PeerCompared {
    let answer = match answer {
        RepairAnswer::Sums(sums) => {
            let mut bytes = BytesMut::with_capacity(sums.len() * size_of::<Sum>());
            for Sum(sum) in sums {
                bytes.put_u128(sum);
            }
            Compared::Sums(bytes.freeze())
        }
        RepairAnswer::Records { records, has_more } => {
            let (keys, marks) = records.into_iter().map(|(key, mark)| (key.into_bytes(), mark)).unzip();
            Compared::Records(api::PeerMarks { keys, marks, has_more })
        }
        RepairAnswer::NotNow => Compared::NotNow(true),
    };
    api::PeerCompared { answer: Some(answer) }
}

pub(super) fn decode_answer(answer: api::PeerCompared) -> Result<RepairAnswer, PeerWireError> {
    Ok(match answer.answer.ok_or(missing("compared.answer"))? {
        Compared::Sums(mut bytes) => {
            if bytes.len() % size_of::<Sum>() != 0 {
                return Err(invalid("compared.sums", &"16 bytes for each sum are accepted"));
            }
            let count = bytes.len() / size_of::<Sum>();
            RepairAnswer::Sums((0..count).map(|_| Sum(bytes.get_u128())).collect())
        }
        Compared::Records(api::PeerMarks { keys, marks, has_more }) => {
            if keys.len() != marks.len() {
                return Err(invalid("compared.records", &"one mark for each key is accepted"));
            }
            let keys = keys.into_iter().map(|bytes| key("compared.records.keys", bytes));
            let records = keys.zip(marks).map(|(key, mark)| Ok((key?, mark)));
            RepairAnswer::Records { records: records.collect::<Result<_, PeerWireError>>()?, has_more }
        }
        Compared::NotNow(_) => RepairAnswer::NotNow,
    })
}
