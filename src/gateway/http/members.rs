//! The members of the cluster, for operators.
//!
//! Contract: a change is answered with 202 once it has begun; GET shows how far it is.

use axum::http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value as Json, json};

use crate::api;
use crate::limits::NODES_MAX;
use crate::service::members::text::{members_json, plan_json};
use crate::service::members::{Wish, removal};
use crate::types::{NodeId, Weight};

use super::body::Upload;
use super::problem::Problem;
use super::reply::{Body, Reply};
use super::{Call, Gateway};

/// The largest list of members: an id, a host, an identity, a zone and the names of the fields for each of them.
const WISH_BYTES_MAX: usize = NODES_MAX * 640;
const TEXT: &str = "text/plain; charset=utf-8";

impl Gateway {
    /// What `quorate members --json` prints.
    pub(super) async fn members(&self, call: &Call) -> Result<Reply, Problem> {
        Ok(Reply::json(&members_json(&self.service.members(call.deadline()?).await?)))
    }

    pub(super) async fn change_members(&self, call: &Call, upload: Upload) -> Result<Reply, Problem> {
        let wish = wish_of(call, upload).await?;
        Ok(begun(self.service.members_change(wish, call.deadline()?).await?))
    }

    /// What `quorate members plan --json` prints.
    pub(super) async fn plan_members(&self, call: &Call, upload: Upload) -> Result<Reply, Problem> {
        let wish = wish_of(call, upload).await?;
        Ok(Reply::json(&plan_json(&self.service.members_plan(wish, call.deadline()?).await?)))
    }

    pub(super) async fn abort_change(&self, call: &Call) -> Result<Reply, Problem> {
        let expected = call.query.number("expected", 0, u64::MAX)?;
        Ok(begun(self.service.members_abort(expected, call.deadline()?).await?))
    }

    /// Removes a member: the others stay.
    pub(super) async fn remove_node(&self, call: &Call) -> Result<Reply, Problem> {
        let path = call.head.uri.path();
        let name = path.rsplit_once("/_nodes/delete/").map_or(path, |(_, name)| name);
        let name = super::query::unescape(name).and_then(|bytes| String::from_utf8(bytes).ok());
        let report = self.service.members_report(call.deadline()?).await?;
        let id = name.as_deref().and_then(|name| NodeId::new(name).ok());
        let Some(wish) = id.and_then(|id| removal(&report, &id)) else {
            let problem = Problem::new(StatusCode::NOT_FOUND, "missing-node", "The node was not found");
            let mut reply = problem.into_bare_reply();
            reply.body = Body::of("The node was not found");
            return Ok(reply.with(header::CONTENT_TYPE, HeaderValue::from_static(TEXT)));
        };
        Ok(begun(self.service.members_change(wish, call.deadline()?).await?))
    }
}

/// The answer once a change has begun, or is to be taken back.
fn begun(number: u64) -> Reply {
    let mut reply = Reply::json(&json!({ "number": number }));
    reply.status = StatusCode::ACCEPTED;
    reply
}

async fn wish_of(call: &Call, upload: Upload) -> Result<Wish, Problem> {
    Upload::check(&call.head.headers)?;
    let content_type = call.head.headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok());
    let essence = content_type.and_then(|given| given.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "nothing was done: members are JSON; send them with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", detail));
    }
    let body = upload.read(Some(call.deadline()?.answer_at)).await?.bytes;
    if body.len() > WISH_BYTES_MAX {
        return Err(Problem::too_large(WISH_BYTES_MAX));
    }
    let message = read(&body).map_err(|problem| Problem::invalid_body(format!("nothing was done: {problem}")))?;
    Ok(Wish::try_from(message)?)
}

/// The wish in a body. The error says what is wrong with it.
fn read(body: &[u8]) -> Result<api::MembersWish, String> {
    let json: Json = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let fields = fields("the body", &json, &["members", "replica_count", "expected", "force"])?;
    let number = |name: &str| match fields.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(given) => given.as_u64().map(Some).ok_or_else(|| format!("{name} is {given}: a number is accepted")),
    };
    let replica_count = number("replica_count")?.ok_or("replica_count is missing: give the number of replicas")?;
    let Some(Json::Array(members)) = fields.get("members") else {
        return Err("members is missing: give a list of all that are to be, each with id and address".to_owned());
    };
    let member = |(place, json): (usize, &Json)| {
        let fields =
            self::fields(&format!("members[{place}]"), json, &["id", "address", "identity", "weight", "zone"])?;
        let text = |name: &str| match fields.get(name) {
            Some(Json::String(text)) => Ok(text.clone()),
            None | Some(Json::Null) if matches!(name, "identity" | "zone") => Ok(String::new()),
            None => Err(format!("members[{place}].{name} is missing")),
            Some(given) => Err(format!("members[{place}].{name} is {given}: a text is accepted")),
        };
        let weight_hundredths = match fields.get("weight") {
            None | Some(Json::Null) => 0,
            Some(given) => weight(given).ok_or_else(|| {
                let (min, max) = (Weight::MIN, Weight::MAX);
                format!(
                    "members[{place}].weight is {given}: a number from {min} to {max} with at most two decimals is accepted"
                )
            })?,
        };
        Ok(api::WishedMember {
            id: text("id")?,
            address: text("address")?,
            identity: text("identity")?,
            weight_hundredths,
            zone: text("zone")?,
        })
    };
    let members = members.iter().enumerate().map(member).collect::<Result<Vec<_>, String>>()?;
    let replica_count = u32::try_from(replica_count).unwrap_or(u32::MAX);
    let force = match fields.get("force") {
        None | Some(Json::Null) => false,
        Some(Json::Bool(force)) => *force,
        Some(given) => return Err(format!("force is {given}: true and false are accepted")),
    };
    Ok(api::MembersWish { members, replica_count, expected: number("expected")?, force })
}

/// The fields of an object that has no others than those accepted.
fn fields<'a>(what: &str, json: &'a Json, accepted: &[&str]) -> Result<&'a Map<String, Json>, String> {
    let Json::Object(fields) = json else { return Err(format!("{what} is no object")) };
    match fields.keys().find(|name| !accepted.contains(&name.as_str())) {
        Some(other) => Err(format!("{what} has a field {other:?}: accepted are {}", accepted.join(", "))),
        None => Ok(fields),
    }
}

/// A weight in hundredths.
fn weight(given: &Json) -> Option<u32> {
    // A JSON number keeps the digits that it was written with, but for zeros at the end: 2.0 is 2.
    let weight = given.as_number()?.to_string();
    Weight::parse(weight.strip_suffix(".0").unwrap_or(&weight)).map(Weight::hundredths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};

    const GOOD: &str = r#"{"replica_count":3,"expected":4,"members":[{"id":"1","address":"n1:8001"},{"id":"2","address":"n2:8001","identity":"00000000000000000000000000000001","weight":2.5,"zone":"b"}]}"#;

    #[test]
    fn wish_is_read_from_json_and_what_is_wrong_is_named() {
        let wish = read(GOOD.as_bytes()).unwrap();
        assert_eq!((wish.replica_count, wish.expected, wish.members.len()), (3, Some(4), 2));
        assert_eq!(wish.members[1].identity, "00000000000000000000000000000001");
        assert_eq!((wish.members[1].weight_hundredths, &*wish.members[1].zone), (250, "b"));
        assert_eq!((wish.members[0].weight_hundredths, &*wish.members[0].zone), (0, ""));
        for (json, hundredths) in [("3", 300), ("3.0", 300), ("0.07", 7), ("1.1", 110), ("1e2", 10_000)] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(weight(&json), Some(hundredths), "{json}");
        }
        assert!(!wish.force);
        let forced = read(GOOD.replacen('{', r#"{"force":true,"#, 1).as_bytes()).unwrap();
        assert!(forced.force);
        for (text, part) in [
            ("[", "no JSON"),
            ("[]", "no object"),
            (r#"{"members":[]}"#, "replica_count is missing"),
            (r#"{"replica_count":1}"#, "members is missing"),
            (r#"{"replica_count":-1,"members":[]}"#, "replica_count is -1"),
            (r#"{"replica_count":1,"members":[{"id":"1"}]}"#, "members[0].address is missing"),
            (r#"{"replica_count":1,"members":[{"id":1,"address":"n:1"}]}"#, "members[0].id is 1"),
            (r#"{"replica_count":1,"members":[{"id":"1","address":"n:1","weight":0}]}"#, "members[0].weight is 0"),
            (
                r#"{"replica_count":1,"members":[{"id":"1","address":"n:1","weight":0.001}]}"#,
                "members[0].weight is 0.001",
            ),
            (r#"{"replica_count":1,"members":[{"id":"1","address":"n:1","zone":2}]}"#, "members[0].zone is 2"),
            (
                r#"{"replica_count":1,"members":[{"id":"1","address":"n:1","weight":"2"}]}"#,
                "members[0].weight is \"2\"",
            ),
            (r#"{"replica_count":1,"members":[],"expect":3}"#, "\"expect\""),
            (r#"{"replica_count":1,"members":[],"force":1}"#, "force is 1"),
        ] {
            let problem = read(text.as_bytes()).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn fuzz_wish() {
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let text = mutated_text(&[GOOD], bytes);
            if let Ok(message) = read(text.as_bytes())
                && let Ok(wish) = Wish::try_from(message)
            {
                assert!(!wish.members.members.is_empty());
            }
        });
    }
}
