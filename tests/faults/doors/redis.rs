//! The Redis protocol. It tells a version where QGETV and QCAS are asked, and no time to live.

use quorate::api::entry::Content;
use quorate::types::Condition;

use super::{Node, missed};
use crate::asking::{Kind, Miss, Wish, content, read_value, ttl_of, value_of_request, version_in, versions};
use crate::testkit::redis::RedisAnswer;
use crate::testkit::requests::{Ask, Outcome};

pub(super) fn takes(ask: &Ask, number: u64, kind: Kind) -> bool {
    match ask {
        Ask::Get | Ask::Set | Ask::Delete | Ask::Add { since: None, .. } => true,
        Ask::SetIf { condition: Condition::Absent | Condition::Present, deletes: false } => true,
        // QCAS gives no time to live.
        Ask::SetIf { condition: Condition::Version(_), deletes: false } => ttl_of(number, kind).is_none(),
        _ => false,
    }
}

pub(super) async fn call(node: &Node, wish: &Wish) -> Result<Outcome, Miss> {
    let Wish { key, kind, ask, number, .. } = wish;
    let with_version = number.is_multiple_of(2);
    let value = match content(value_of_request(*number), *kind) {
        Content::Value(text) => text.into_bytes(),
        Content::Binary(bytes) => bytes.to_vec(),
    };
    let mut words: Vec<Vec<u8>> = match ask {
        Ask::Get if with_version => vec![b"QGETV".to_vec(), key.clone().into()],
        Ask::Get => vec![b"GET".to_vec(), key.clone().into()],
        Ask::Delete => vec![b"DEL".to_vec(), key.clone().into()],
        Ask::Add { delta, .. } => vec![b"INCRBY".to_vec(), key.clone().into(), delta.to_string().into()],
        Ask::SetIf { condition: Condition::Version(version), .. } => {
            vec![b"QCAS".to_vec(), key.clone().into(), versions().encode(version).into(), value]
        }
        _ => vec![b"SET".to_vec(), key.clone().into(), value],
    };
    match ask {
        Ask::SetIf { condition: Condition::Absent, .. } => words.push(b"NX".to_vec()),
        Ask::SetIf { condition: Condition::Present, .. } => words.push(b"XX".to_vec()),
        _ => {}
    }
    if let (true, Some(ttl)) = (matches!(ask, Ask::Set | Ask::SetIf { .. }), ttl_of(*number, *kind)) {
        words.extend([b"PX".to_vec(), ttl.as_millis().to_string().into()]);
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let answer = node.redis.send_as(&words, node.token()).await.map_err(|why| missed(why, ask))?;
    understood(answer, wish)
}

fn understood(answer: RedisAnswer, wish: &Wish) -> Result<Outcome, Miss> {
    let Wish { key, kind, ask, .. } = wish;
    let read = |value: Option<Vec<u8>>| value.map(|value| read_value(key, &value, None, None, *kind)).transpose();
    match (answer, ask) {
        (RedisAnswer::Error(text), _) => told(text, ask),
        (RedisAnswer::Value(value), Ask::Get) => Ok(Outcome::Read(read(value)?)),
        (RedisAnswer::Array(parts), Ask::Get) => match <[RedisAnswer; 2]>::try_from(parts) {
            Ok([RedisAnswer::Value(Some(version)), RedisAnswer::Value(value)]) => {
                let version = version_in(&String::from_utf8_lossy(&version))?;
                Ok(Outcome::Saw { value: read(value)?, version })
            }
            parts => Err(Miss::Defect(format!("{parts:?}"))),
        },
        (RedisAnswer::Word(word), Ask::Set | Ask::SetIf { .. }) if word == "OK" => Ok(Outcome::Done),
        (RedisAnswer::Number(1), Ask::Delete) => Ok(Outcome::Done),
        (RedisAnswer::Number(0), Ask::Delete) => Ok(Outcome::Read(None)),
        (RedisAnswer::Number(sum), Ask::Add { .. }) => Ok(Outcome::Summed(sum.cast_unsigned())),
        (RedisAnswer::Value(None), Ask::SetIf { condition: Condition::Absent, .. }) => {
            Ok(Outcome::Looked { has_value: true })
        }
        (RedisAnswer::Value(None), Ask::SetIf { condition: Condition::Present, .. }) => {
            Ok(Outcome::Looked { has_value: false })
        }
        (RedisAnswer::Value(version), Ask::SetIf { condition: Condition::Version(_), .. }) => match version {
            Some(version) => Ok(Outcome::Wrote(version_in(&String::from_utf8_lossy(&version))?)),
            None => Ok(Outcome::Refused),
        },
        (other, _) => Err(Miss::Defect(format!("{other:?}"))),
    }
}

fn told(text: String, ask: &Ask) -> Result<Outcome, Miss> {
    let word = text.split(' ').next().unwrap_or_default();
    match word {
        "NOTAPPLIED" | "NOQUORUM" | "NOTREADY" => Err(Miss::Failed(text)),
        // A token is not taken, or no longer.
        "WRONGPASS" | "NOAUTH" => Err(Miss::Refused(text)),
        "OUTCOMEUNKNOWN" if !ask.is_read() => Err(Miss::Unknown(text)),
        "ERR" if matches!(ask, Ask::Add { .. }) && text.contains("not an integer or out of range") => {
            Ok(Outcome::Looked { has_value: true })
        }
        // The store of a node failed.
        "ERR" if ask.is_read() => Err(Miss::Failed(text)),
        "ERR" => Err(Miss::Unknown(text)),
        _ => Err(Miss::Defect(text)),
    }
}
