//! One client of a judged load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::{SeedableRng as _, random};
use tokio::sync::mpsc::UnboundedSender;

use super::round::{Done, Part};
use super::{Ended, Kind, Mix, Shared};
use crate::checker::requests::{Ask, Outcome};
use crate::client::{Acknowledged, Client, ClientError, KeyState};
use crate::types::{Condition, Value};

/// The pause after a failure: nodes that are down refuse fast.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// The share of conditional writes that take a version which the client knows already, and which may be old.
const FROM_MEMORY: f64 = 0.4;

/// A client at work.
pub(super) struct Worker {
    number: u32,
    client: Client,
    shared: Arc<Shared>,
    parts: UnboundedSender<Part>,
    random: StdRng,
    round: usize,
    part: Part,
    /// The last version that it was told, by the key's place in the round.
    versions: BTreeMap<usize, String>,
}

impl Worker {
    pub(super) fn new(number: usize, client: Client, shared: Arc<Shared>, parts: UnboundedSender<Part>) -> Self {
        let number = u32::try_from(number).expect("there are few clients");
        let random = StdRng::seed_from_u64(random());
        Self { number, client, shared, parts, random, round: 0, part: Part::of(0), versions: BTreeMap::new() }
    }

    /// Works until the load is over.
    pub(super) async fn run(mut self) {
        while !self.shared.over.is_cancelled() {
            self.begin_round(self.shared.round());
            let place = self.random.random_range(0..self.shared.plan.keys);
            let is_answered = self.work(place).await;
            let pause = if is_answered { self.shared.plan.think } else { PAUSE_AFTER_FAILURE };
            if !pause.is_zero() {
                tokio::select! {
                    () = self.shared.over.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        self.hand_over();
    }

    fn begin_round(&mut self, round: usize) {
        while self.round < round {
            self.hand_over();
            self.round += 1;
            self.part = Part::of(self.round);
            self.versions.clear();
        }
    }

    /// Hands its part of the round over.
    fn hand_over(&mut self) {
        // The other end stays until all clients have ended.
        let _ = self.parts.send(std::mem::replace(&mut self.part, Part::of(self.round)));
    }

    /// Does one thing. Returns whether it was answered.
    async fn work(&mut self, place: usize) -> bool {
        match (self.shared.plan.mix, self.random.random_range(0..100)) {
            (_, 0..45) => self.get(place).await,
            (Mix::All, 45..65) => self.set(place, None).await,
            (Mix::All, 65..90) | (Mix::Conditional, 45..90) => match self.version(place).await {
                Some(version) => self.set(place, Some(version)).await,
                None => false,
            },
            (Mix::All, 90..95) => self.delete(place, None).await,
            (Mix::All | Mix::Conditional, _) => match self.version(place).await {
                Some(version) => self.delete(place, Some(version)).await,
                None => false,
            },
        }
    }

    /// A version of the key: the present one, or one that was.
    async fn version(&mut self, place: usize) -> Option<String> {
        if let Some(known) = self.versions.get(&place)
            && self.random.random_bool(FROM_MEMORY)
        {
            return Some(known.clone());
        }
        self.versions.remove(&place);
        self.get(place).await;
        self.versions.get(&place).cloned()
    }

    async fn get(&mut self, place: usize) -> bool {
        let (key, number, invoked) = self.begin(place);
        let answer = self.client.get(&key).state().await;
        let (outcome, ended) = match answer {
            Ok(state) => {
                self.versions.insert(place, state.version.clone());
                (self.part.saw(&self.shared, &key, &state), Ended::Done)
            }
            Err(error) => (Outcome::Failed, Ended::Failed(reason(&error))),
        };
        self.end(place, Kind::Get, (number, invoked), Ask::Get, outcome, &ended)
    }

    async fn set(&mut self, place: usize, version: Option<String>) -> bool {
        let (key, number, invoked) = self.begin(place);
        let mut set = self.client.set(&key, number.to_string()).ttl(self.shared.ttl);
        if let Some(version) = &version {
            set = set.if_version(version);
        }
        let answer = set.await;
        let kind = if version.is_some() { Kind::CompareAndSet } else { Kind::Set };
        self.wrote(place, kind, (number, invoked), version.as_deref(), answer)
    }

    async fn delete(&mut self, place: usize, version: Option<String>) -> bool {
        let (key, number, invoked) = self.begin(place);
        let mut delete = self.client.delete(&key);
        if let Some(version) = &version {
            delete = delete.if_version(version);
        }
        let answer = delete.await;
        self.wrote(place, Kind::Delete, (number, invoked), version.as_deref(), answer)
    }

    /// The key, the number of an operation on it, and its beginning.
    fn begin(&self, place: usize) -> (String, usize, u64) {
        (self.shared.key(self.round, place), self.shared.fresh_number(), self.shared.now())
    }

    fn wrote(
        &mut self,
        place: usize,
        kind: Kind,
        began: (usize, u64),
        version: Option<&str>,
        answer: Result<Acknowledged, ClientError>,
    ) -> bool {
        let shared = Arc::clone(&self.shared);
        let key = shared.key(self.round, place);
        let deletes = kind == Kind::Delete;
        let ask = match version.map(|version| self.part.version(&shared, &key, version)) {
            None if deletes => Ask::Delete,
            None => Ask::Set,
            Some(Some(version)) => Ask::SetIf { condition: Condition::Version(version), deletes },
            // The part has the defect, and the history is wrong whatever else it says.
            Some(None) => return false,
        };
        let (outcome, ended) = match answer {
            Ok(written) => {
                self.versions.insert(place, written.version.clone());
                let version = self.part.version(&shared, &key, &written.version);
                (version.map_or(Outcome::Unknown, Outcome::Wrote), Ended::Done)
            }
            Err(ClientError::ConditionFailed { version, has_value }) => {
                self.versions.insert(place, version.clone());
                let version = self.part.version(&shared, &key, &version);
                let outcome = version.map_or(Outcome::Refused, |version| Outcome::Declined { version, has_value });
                (outcome, Ended::ConditionFailed)
            }
            Err(error @ ClientError::OutcomeUnknown { .. }) => (Outcome::Unknown, Ended::Unknown(reason(&error))),
            Err(error) => (Outcome::Failed, Ended::Failed(reason(&error))),
        };
        self.end(place, kind, began, ask, outcome, &ended)
    }

    /// Records and counts an operation. Returns whether it was answered.
    fn end(
        &mut self,
        place: usize,
        kind: Kind,
        (index, invoked): (usize, u64),
        ask: Ask,
        outcome: Outcome,
        ended: &Ended,
    ) -> bool {
        let returned = self.shared.now();
        self.shared.counts().count(kind, Duration::from_micros(returned - invoked), ended);
        let is_answered = outcome.is_answer();
        let done = Done { client: self.number, index, invoked, returned: Some(returned), ask, outcome };
        self.part.histories.entry(place).or_default().push(done);
        is_answered
    }
}

impl Part {
    /// What a read of `key` saw.
    pub(super) fn saw(&mut self, shared: &Shared, key: &str, state: &KeyState) -> Outcome {
        let Some(version) = self.version(shared, key, &state.version) else { return Outcome::Failed };
        let Some(found) = &state.found else { return Outcome::Saw { value: None, version } };
        let number = match &found.value {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
            Value::Binary(_) => None,
        };
        if number.is_none() {
            self.defects.push(format!("{key}: a read returned {:?}, which no client wrote", found.value));
        }
        number.map_or(Outcome::Failed, |value| Outcome::Saw { value: Some(value), version })
    }

    /// The version that a node told.
    fn version(&mut self, shared: &Shared, key: &str, text: &str) -> Option<crate::types::Version> {
        let version = shared.versions.decode(text).ok();
        if version.is_none() {
            self.defects.push(format!("{key}: a node told version {text:?}, which is none of this cluster"));
        }
        version
    }
}

/// Why an operation failed, without what differs from one failure to the next, so that equal ones can be counted.
fn reason(error: &ClientError) -> String {
    let node = match error {
        ClientError::NotApplied { last, .. } | ClientError::Unavailable { last, .. } => last,
        ClientError::OutcomeUnknown { node } | ClientError::Refused { node } => node,
        other => return other.to_string(),
    };
    match &node.failure {
        Some(failure) => format!("{} said {}", node.address, failure.reason.as_str()),
        None => format!("{}: {}", node.address, node.message),
    }
}
