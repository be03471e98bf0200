//! The rounds of a judged load: what clients did with some keys, until these are judged and removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet};

use super::Shared;
use super::judge::{self, Judged};
use crate::checker::requests::{Ask, Attempt, Outcome};
use crate::client::{Client, ClientError};

/// The number of the client that reads every key at the end of a round.
const LAST_READER: u32 = u32::MAX;
/// How long the last read and the removal of a key are tried.
const LAST_TIME_MAX: Duration = Duration::from_secs(30);
/// The pause after a try that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// One operation of a client, as it is judged.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) client: u32,
    pub(super) index: usize,
    pub(super) invoked: u64,
    pub(super) returned: Option<u64>,
    pub(super) ask: Ask,
    pub(super) outcome: Outcome,
}

impl Done {
    pub(super) fn attempt(&self) -> Attempt<'_> {
        let Self { client, index, invoked, returned, ref ask, ref outcome } = *self;
        Attempt { client, index, first: index, value: index as u64, invoked, returned, ask, outcome }
    }
}

/// What one client did in a round, or all of them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) round: usize,
    /// By the key's place in the round.
    pub(super) histories: BTreeMap<usize, Vec<Done>>,
    /// Answers that no node may give.
    pub(super) defects: Vec<String>,
}

impl Part {
    pub(super) fn of(round: usize) -> Self {
        Self { round, histories: BTreeMap::new(), defects: Vec::new() }
    }

    fn merge(&mut self, other: Self) {
        for (place, history) in other.histories {
            self.histories.entry(place).or_default().extend(history);
        }
        self.defects.extend(other.defects);
    }
}

/// All rounds. Each is finished once every client has handed its part over.
pub(super) struct Rounds {
    shared: Arc<Shared>,
    reader: Client,
    /// The parts that arrived, and how many.
    open: BTreeMap<usize, (usize, Part)>,
    finishing: JoinSet<Judged>,
}

impl Rounds {
    pub(super) fn new(shared: Arc<Shared>, reader: Client) -> Self {
        Self { shared, reader, open: BTreeMap::new(), finishing: JoinSet::new() }
    }

    /// Finishes rounds until the clients have ended.
    pub(super) async fn run(mut self, mut parts: UnboundedReceiver<Part>) -> Result<Judged, JoinError> {
        while let Some(part) = parts.recv().await {
            let number = part.round;
            let (arrived, round) = self.open.entry(number).or_insert_with(|| (0, Part::of(number)));
            round.merge(part);
            *arrived += 1;
            if *arrived == self.shared.plan.clients
                && let Some((_, round)) = self.open.remove(&number)
            {
                self.finish(round);
            }
        }
        for (_, (_, round)) in std::mem::take(&mut self.open) {
            self.finish(round);
        }
        let mut judged = Judged::default();
        while let Some(of_round) = self.finishing.join_next().await {
            judged.add(of_round?);
        }
        Ok(judged)
    }

    fn finish(&mut self, round: Part) {
        let (shared, reader) = (Arc::clone(&self.shared), self.reader.clone());
        self.finishing.spawn(async move {
            let mut judged = finish(&shared, &reader, round).await;
            judged.wrong.sort_by(|one, other| one.key.cmp(&other.key));
            judged
        });
    }
}

/// Reads every key of a round, judges the histories, and removes the keys.
async fn finish(shared: &Arc<Shared>, reader: &Client, mut round: Part) -> Judged {
    let places: Vec<usize> = round.histories.keys().copied().collect();
    let mut unread = 0;
    for place in &places {
        if !read(shared, reader, &mut round, *place).await {
            unread += 1;
        }
    }
    let named: Vec<(String, Vec<Done>)> = std::mem::take(&mut round.histories)
        .into_iter()
        .map(|(place, history)| (shared.key(round.round, place), history))
        .collect();
    let judging = tokio::task::spawn_blocking(move || judge::judge(named));
    let mut judged = judging.await.expect("the checker does not panic");
    judged.defects = round.defects;
    judged.unread = unread;
    for place in places {
        if !remove(reader, &shared.key(round.round, place)).await {
            judged.left_behind += 1;
        }
    }
    judged
}

/// Reads a key until a node answers. Returns whether one did.
async fn read(shared: &Shared, reader: &Client, round: &mut Part, place: usize) -> bool {
    let (key, began) = (shared.key(round.round, place), Instant::now());
    loop {
        let (index, invoked) = (shared.fresh_number(), shared.now());
        if let Ok(state) = reader.get(&key).state().await {
            let returned = Some(shared.now());
            let outcome = round.saw(shared, &key, &state);
            let done = Done { client: LAST_READER, index, invoked, returned, ask: Ask::Get, outcome };
            round.histories.entry(place).or_default().push(done);
            return true;
        }
        if began.elapsed() > LAST_TIME_MAX {
            return false;
        }
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
}

/// Removes a key. Returns whether that is certain.
async fn remove(reader: &Client, key: &str) -> bool {
    let began = Instant::now();
    loop {
        match reader.delete(key).await {
            Ok(_) => return true,
            // The table is gone, and the key with it.
            Err(ClientError::NoSuchTable { .. }) => return true,
            Err(_) if began.elapsed() > LAST_TIME_MAX => return false,
            Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
        }
    }
}
