//! Conversions of the messages between nodes about repair.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::api;
use crate::api::peer_compared::Answer as Compared;
use crate::api::peer_repair::Question;
use crate::limits::REPAIR_PARTS_MAX;
use crate::protocol::sums::{Marks, Part, RecordsOf, RepairAnswer, RepairRequest, Sum};
use crate::types::{Key, Slot};

use super::peer::{PeerWireError, invalid, key, missing};

pub(super) fn encode_request(request: RepairRequest) -> api::PeerRepair {
    let question = match request {
        RepairRequest::Sums(parts) => {
            Question::Sums(api::PeerParts { parts: parts.into_iter().map(Part::number).collect() })
        }
        RepairRequest::Records(RecordsOf { part, parts, after }) => Question::Records(api::PeerRecordsOf {
            part: part.number(),
            parts: parts.into(),
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
            let parts = parts.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
            let slots = |part: &Part| usize::from(part.slots().1.0 - part.slots().0.0) + 1;
            // Sums over more would keep the node's loop for long.
            if parts.iter().map(slots).sum::<usize>() > Slot::COUNT {
                return Err(invalid("repair.sums", &"parts of which none has another are accepted"));
            }
            RepairRequest::Sums(parts)
        }
        Question::Records(api::PeerRecordsOf { part: number, parts, after }) => RepairRequest::Records(RecordsOf {
            part: part(number)?,
            parts: u16::try_from(parts).map_err(|error| invalid("repair.records.parts", &error))?,
            after: if after.is_empty() { None } else { Some(key("repair.records.after", after)?) },
        }),
        Question::End(is_equal) => RepairRequest::End { is_equal },
    })
}

fn part(number: u32) -> Result<Part, PeerWireError> {
    Part::of_number(number)
        .ok_or_else(|| invalid("repair.part", &"a one, followed by 0, 4, 8, 12 or 16 bits, is accepted"))
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
        RepairAnswer::Records(Marks { records, looked_to }) => {
            let (keys, marks) = records.into_iter().map(|(key, mark)| (key.into_bytes(), mark)).unzip();
            let looked_to = looked_to.map_or_else(Bytes::new, Key::into_bytes);
            Compared::Records(api::PeerMarks { keys, marks, looked_to })
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
        Compared::Records(api::PeerMarks { keys, marks, looked_to }) => {
            if keys.len() != marks.len() {
                return Err(invalid("compared.records", &"one mark for each key is accepted"));
            }
            let keys = keys.into_iter().map(|bytes| key("compared.records.keys", bytes));
            let records = keys.zip(marks).map(|(key, mark)| Ok((key?, mark)));
            let records = records.collect::<Result<_, PeerWireError>>()?;
            let looked_to =
                if looked_to.is_empty() { None } else { Some(key("compared.records.looked_to", looked_to)?) };
            RepairAnswer::Records(Marks { records, looked_to })
        }
        Compared::NotNow(_) => RepairAnswer::NotNow,
    })
}
