//! Conversions of the messages between nodes about changes, which watches follow.

use crate::api;
use crate::api::peer_follow::Keys;
use crate::protocol::changes::{Change, Filter};
use crate::protocol::{Answer, Request};
use crate::types::STORED_KEY_BYTES_MAX;

use super::peer::{PeerWireError, decode_version, encode_version, invalid, key, missing};

pub(super) fn encode_follow(filter: Filter, next: Option<u64>) -> api::PeerFollow {
    let keys = match filter {
        Filter::Key(key) => Keys::Key(key.into_bytes()),
        Filter::Prefix(prefix) => Keys::Prefix(prefix),
    };
    api::PeerFollow { keys: Some(keys), next }
}

pub(super) fn decode_follow(follow: api::PeerFollow) -> Result<Request, PeerWireError> {
    let filter = match follow.keys.ok_or(missing("follow.keys"))? {
        Keys::Key(bytes) => Filter::Key(key("follow.key", bytes)?),
        Keys::Prefix(prefix) if prefix.len() > STORED_KEY_BYTES_MAX => {
            return Err(invalid("follow.prefix", &format!("at most {STORED_KEY_BYTES_MAX} bytes are accepted")));
        }
        Keys::Prefix(prefix) => Filter::Prefix(prefix),
    };
    Ok(Request::Follow { filter, next: follow.next })
}

pub(super) fn encode(from: u64, to: u64, changes: Vec<Change>) -> api::PeerChanges {
    let change = |Change { number, key, version }: Change| api::PeerChange {
        number,
        key: key.into_bytes(),
        version: Some(encode_version(&version)),
    };
    api::PeerChanges { from, to, changes: changes.into_iter().map(change).collect(), lost: false }
}

pub(super) fn decode(message: api::PeerChanges) -> Result<Answer, PeerWireError> {
    let api::PeerChanges { from, to, changes, lost } = message;
    if lost {
        return Ok(Answer::ChangesLost);
    }
    let change = |change: api::PeerChange| {
        let version = decode_version(change.version.as_ref())?;
        Ok(Change { number: change.number, key: key("change.key", change.key)?, version })
    };
    let changes = changes.into_iter().map(change).collect::<Result<Vec<_>, PeerWireError>>()?;
    let is_in_order = changes.iter().map(|change| change.number).is_sorted_by(|a, b| a < b);
    if !is_in_order || changes.iter().any(|change| !(from..to).contains(&change.number)) || from > to {
        return Err(invalid("changes", &"ascending numbers from `from` on and below `to` are accepted"));
    }
    Ok(Answer::Changes { from, to, changes })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::protocol::{Message, OperationId};
    use crate::types::{Clock, Key, NodeId, Stamp, Version};

    fn change(number: u64) -> Change {
        let stamp = Stamp { clock: Clock { epoch: 1, counter: number }, writer: NodeId::new("1").unwrap() };
        Change { number, key: Key::new("k").unwrap(), version: Version::new(stamp, None) }
    }

    fn round_trip(message: Message) -> Result<Message, PeerWireError> {
        let bytes = api::PeerMessage::from(message).encode_to_vec();
        Message::try_from(api::PeerMessage::decode(bytes.as_slice()).unwrap())
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let (operation, round) = (OperationId(7), 3);
        for filter in [Filter::Key(Key::new("k").unwrap()), Filter::Prefix("".into()), Filter::Prefix("user:".into())] {
            for next in [None, Some(0), Some(9)] {
                let request = Request::Follow { filter: filter.clone(), next };
                let message = Message::Request { operation, round, number: 0, request };
                assert_eq!(round_trip(message.clone()), Ok(message));
            }
        }
        let changes = Answer::Changes { from: 4, to: 9, changes: vec![change(4), change(8)] };
        for answer in [changes, Answer::Changes { from: 0, to: 0, changes: vec![] }, Answer::ChangesLost] {
            let message = Message::Answer { operation, round, number: 0, answer };
            assert_eq!(round_trip(message.clone()), Ok(message));
        }
        let message = Message::Request { operation, round, number: 0, request: Request::Unfollow };
        assert_eq!(round_trip(message.clone()), Ok(message));
    }

    #[test]
    fn numbers_out_of_order_or_out_of_bounds_are_refused() {
        for (from, to, numbers) in [(4, 9, &[5, 5][..]), (4, 9, &[6, 5]), (4, 9, &[3]), (4, 9, &[9]), (9, 4, &[])] {
            let answer = Answer::Changes { from, to, changes: numbers.iter().copied().map(change).collect() };
            let message = Message::Answer { operation: OperationId(1), round: 1, number: 0, answer };
            assert!(round_trip(message).is_err(), "{from}..{to}: {numbers:?}");
        }
    }
}
