//! Conversions of the messages between nodes about repair, and about rounds for tombstones.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::api;
use crate::api::peer_compared::Answer as Compared;
use crate::api::peer_repair::Question;
use crate::limits::REPAIR_PARTS_MAX;
use crate::protocol::sums::{Marks, Part, RecordsOf, RepairAnswer, RepairRequest, Sum};
use crate::types::{Clock, Key, Slot};

use super::peer::{PeerWireError, invalid, key, missing, some_key};

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
        RepairAnswer::Records(marks) => Compared::Records(encode_marks(marks)),
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
        Compared::Records(marks) => RepairAnswer::Records(decode_marks(marks)?),
        Compared::NotNow(_) => RepairAnswer::NotNow,
    })
}

pub(super) fn encode_slot_clock(slot: Slot, clock: Clock, after: Option<Key>) -> api::PeerSlotClock {
    let after = after.map(Key::into_bytes).unwrap_or_default();
    api::PeerSlotClock { slot: slot.0.into(), clock: Some(encode_clock(clock)), after }
}

pub(super) fn slot(field: &'static str, number: u32) -> Result<Slot, PeerWireError> {
    u16::try_from(number).map(Slot).map_err(|_| invalid(field, &"slots 0 to 65,535 are accepted"))
}

pub(super) fn decode_slot_clock(
    field: &'static str,
    value: api::PeerSlotClock,
) -> Result<(Slot, Clock, Option<Key>), PeerWireError> {
    let slot = slot(field, value.slot)?;
    let clock = decode_clock(value.clock.ok_or(missing(field))?);
    Ok((slot, clock, some_key(field, value.after)?))
}

pub(super) fn encode_fenced(sum: Option<Sum>) -> api::PeerFenced {
    api::PeerFenced { sum: sum.map(|sum| Bytes::copy_from_slice(&sum.0.to_be_bytes())).unwrap_or_default() }
}

pub(super) fn decode_fenced(fenced: &api::PeerFenced) -> Result<Option<Sum>, PeerWireError> {
    if fenced.sum.is_empty() {
        return Ok(None);
    }
    let sum: [u8; 16] = fenced.sum.as_ref().try_into().map_err(|_| invalid("fenced.sum", &"16 bytes are accepted"))?;
    Ok(Some(Sum(u128::from_be_bytes(sum))))
}

pub(super) fn encode_marks(marks: Marks) -> api::PeerMarks {
    let looked_to = marks.looked_to.map(Key::into_bytes).unwrap_or_default();
    let (keys, marks) = marks.records.into_iter().map(|(key, mark)| (key.into_bytes(), mark)).unzip();
    api::PeerMarks { keys, marks, looked_to }
}

pub(super) fn decode_marks(marks: api::PeerMarks) -> Result<Marks, PeerWireError> {
    if marks.keys.len() != marks.marks.len() {
        return Err(invalid("marks", &"each key has one mark"));
    }
    let keys = marks.keys.into_iter().map(|bytes| key("marks.keys", bytes)).collect::<Result<Vec<_>, _>>()?;
    let records = keys.into_iter().zip(marks.marks).collect();
    Ok(Marks { records, looked_to: some_key("marks.looked_to", marks.looked_to)? })
}

pub(super) fn encode_clock(clock: Clock) -> api::PeerClock {
    api::PeerClock { epoch: clock.epoch, counter: clock.counter }
}

pub(super) fn decode_clock(clock: api::PeerClock) -> Clock {
    Clock { epoch: clock.epoch, counter: clock.counter }
}
