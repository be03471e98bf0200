//! The line protocol. It tells no versions, and does not tell whether PUTNEW or DELETE did something.

use quorate::api::entry::Content;
use quorate::types::Condition;

use super::{Node, missed};
use crate::asking::{Kind, Miss, Wish, content, read_value, ttl_of, value_of_request};
use crate::testkit::requests::{Ask, Outcome};

pub(super) fn takes(ask: &Ask, kind: Kind) -> bool {
    match ask {
        Ask::Get | Ask::Set => true,
        // A delete that may have done nothing would make the histories of plain keys longer to judge.
        Ask::Delete => kind != Kind::Plain,
        Ask::SetIf { condition: Condition::Absent, deletes: false } => true,
        _ => false,
    }
}

pub(super) async fn call(node: &Node, wish: &Wish) -> Result<Outcome, Miss> {
    let Wish { key, kind, ask, number, .. } = wish;
    let line = match ask {
        Ask::Get => format!("GET default {key}"),
        Ask::Delete => format!("DELETE default {key}"),
        _ => {
            let Content::Value(text) = content(value_of_request(*number), *kind) else {
                unreachable!("bytes are no line")
            };
            let word = if matches!(ask, Ask::Set) { "PUT" } else { "PUTNEW" };
            let expire = ttl_of(*number, *kind).map_or_else(String::new, |ttl| format!(" EXPIRE {}", ttl.as_millis()));
            format!("{word} default {key} {text}{expire}")
        }
    };
    let answer = node.lines.send_as(&line, node.token()).await.map_err(|why| missed(why, ask))?;
    match (answer.as_str(), ask) {
        ("ok", Ask::Set) => Ok(Outcome::Done),
        ("ok", Ask::Delete | Ask::SetIf { .. }) => Ok(Outcome::Either),
        ("nil", Ask::Get) => Ok(Outcome::Read(None)),
        (text, _) if text.starts_with("error ") => Err(told(text, ask)),
        (text, Ask::Get) => Ok(Outcome::Read(Some(read_value(key, text.as_bytes(), None, None, *kind)?))),
        _ => Err(Miss::Defect(answer)),
    }
}

pub(super) fn told(text: &str, ask: &Ask) -> Miss {
    let begins = |words: &str| text.strip_prefix("error ").is_some_and(|rest| rest.starts_with(words));
    let is_failed_read = ask.is_read() && begins("failed: ");
    if is_failed_read || begins("not applied: ") || begins("no quorum: ") || begins("not ready: ") {
        Miss::Failed(text.to_owned())
    } else if begins("unauthenticated: ") {
        Miss::Refused(text.to_owned())
    } else if begins("outcome unknown: ") || begins("failed: ") {
        Miss::Unknown(text.to_owned())
    } else {
        Miss::Defect(text.to_owned())
    }
}
