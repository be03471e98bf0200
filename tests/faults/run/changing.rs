//! Members that change under load, kills and pauses: nodes join, leave, lose their folder and are replaced, the number of
//! replicas changes, and changes are taken back.
//!
//! Nodes reach each other without proxies, because a configuration has one address for each of them. So links are not cut here.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::{Client, api};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;

use super::{CONNECTIONS, ROUND_TIME_MAX, Run, START_TIME_MAX};
use crate::clients::{Account, Workload};
use crate::plan::{Action, Step};
use crate::testkit::cluster::{cluster_yml, write};
use crate::testkit::porcupine::Porcupine;

/// The nodes that may be members.
const PLACES: usize = 5;
/// How many members there are first, and at least.
const MEMBERS_MIN: usize = 3;
/// How long a change may take, with the faults beside it. A node that was killed comes back within seconds.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(90);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Keys that are written once, and must be there in the end.
const KEPT: usize = 60;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Join,
    Leave,
    /// A member loses its folder and is replaced.
    Replace,
    /// The number of replicas becomes another one.
    Recount,
    /// A node joins, and the change is taken back while it goes on, if it is not done before.
    TakeBack,
}

impl Change {
    const ALL: [Self; 6] = [Self::Join, Self::Leave, Self::Replace, Self::Recount, Self::TakeBack, Self::Replace];

    fn counted(self) -> &'static str {
        match self {
            Self::Join => "nodes that joined",
            Self::Leave => "members that left",
            Self::Replace => "members that lost their folder and were replaced",
            Self::Recount => "changes of the number of replicas",
            Self::TakeBack => "changes that were to be taken back",
        }
    }
}

/// A cluster whose members change.
#[derive(Debug)]
pub(crate) struct Changing {
    pub(crate) run: Run,
    replica_count: usize,
    deck: Vec<Change>,
}

/// What a round is to do.
struct Wanted {
    wish: api::MembersWish,
    /// The nodes that take part: members, and those that come.
    involved: Vec<usize>,
    takes_back_after: Option<Duration>,
}

impl Changing {
    /// Starts a cluster of three of the nodes.
    pub(crate) async fn start(
        name: String,
        origin: Instant,
        numbers: Arc<AtomicU64>,
        porcupine: Option<Porcupine>,
    ) -> Result<Self, String> {
        let mut run = Run::prepare(name, (PLACES, MEMBERS_MIN), false, origin, numbers, porcupine).await;
        run.serving = (0..MEMBERS_MIN).collect();
        let mut changing = Self { run, replica_count: MEMBERS_MIN, deck: Vec::new() };
        for at in changing.run.serving.clone() {
            changing.write_file(at, &changing.run.serving);
        }
        changing.run.apply(&Action::Start(changing.run.serving.clone(), 0));
        changing.run.wait_linked(START_TIME_MAX).await?;
        let client = changing.operator();
        for key in 0..KEPT {
            let written = client.set(format!("kept-{key}"), key.to_string()).await;
            written.map_err(|error| format!("writing kept-{key}: {error}"))?;
        }
        Ok(changing)
    }

    /// Runs one round: a change under faults while clients work, then recovery, then the check of all histories.
    pub(crate) async fn round(&mut self, random: &mut StdRng) -> Result<(), String> {
        self.run.rounds += 1;
        let change = self.deal(random);
        self.run.say(&format!("round {}: {change:?}, members {:?}", self.run.rounds, self.run.serving));
        let workload = Arc::new(Workload {
            name: format!("{}-{}", self.run.name, self.run.rounds),
            origin: self.run.origin,
            began: Instant::now(),
            numbers: Arc::clone(&self.run.numbers),
            over: AtomicBool::new(false),
            watches_over: AtomicBool::new(false),
            is_calm: false,
        });
        let mut clients = JoinSet::new();
        for client in 0..random.random_range(8..=16) {
            let workload = Arc::clone(&workload);
            let nodes = self.run.seen[client as usize % CONNECTIONS].clone();
            let seed = random.random();
            clients.spawn(async move { workload.run(client, seed, nodes).await });
        }
        let worked = tokio::time::timeout(ROUND_TIME_MAX, self.work(change, &workload, random)).await;
        let worked = worked.unwrap_or_else(|_| Err(format!("the round is not over after {ROUND_TIME_MAX:?}")));
        workload.over.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        while let Some(done) = clients.join_next().await {
            account.merge(done.expect("a client does not panic"));
        }
        let read = match &worked {
            Ok(()) => self.run.read_all(&workload, &mut account).await,
            Err(_) => Ok(()),
        };
        let operations: usize = account.histories.values().map(Vec::len).sum();
        let explored = format!("{} histories of {operations} operations", account.histories.len());
        // A wrong history is a better report than a cluster that did not recover.
        self.run.judge(&workload, account).await?;
        worked.and(read)?;
        self.run.check_logs()?;
        println!("{}: {explored}: {change:?}, now {:?}", workload.name, self.run.serving);
        Ok(())
    }

    /// The next kind of change that can be made now.
    fn deal(&mut self, random: &mut StdRng) -> Change {
        loop {
            if self.deck.is_empty() {
                self.deck = Change::ALL.to_vec();
                self.deck.shuffle(random);
            }
            let members = self.run.serving.len();
            let can_be = |change: &Change| match change {
                Change::Join | Change::TakeBack => members < PLACES,
                Change::Leave | Change::Recount => members > MEMBERS_MIN,
                Change::Replace => true,
            };
            match self.deck.iter().position(can_be) {
                Some(place) => return self.deck.remove(place),
                None => self.deck.clear(),
            }
        }
    }

    async fn work(&mut self, change: Change, workload: &Workload, random: &mut StdRng) -> Result<(), String> {
        let wanted = self.begin(change, random).await?;
        let operator = self.operator();
        let (wish, takes_back_after) = (wanted.wish.clone(), wanted.takes_back_after);
        let made = tokio::spawn(make_change(operator, wish, takes_back_after));
        let steps = faults(&wanted.involved, random);
        let followed = self.run.follow(&steps).await;
        self.run.heal();
        self.run.apply(&Action::Start(wanted.involved.clone(), 0));
        followed?;
        let ended = made.await.expect("it does not panic")?;
        self.run.say(ended);
        self.run.counters.add(ended, 1);
        self.run.counters.add(change.counted(), 1);
        self.settle(&wanted.involved).await?;
        self.run.recover(workload).await?;
        self.are_kept().await
    }

    /// Starts the node that comes, if one does, and says what is to be wished for.
    async fn begin(&mut self, change: Change, random: &mut StdRng) -> Result<Wanted, String> {
        let mut members = self.run.serving.clone();
        let mut involved = members.clone();
        let mut identity = None;
        match change {
            Change::Join | Change::TakeBack => {
                let at = (0..PLACES).find(|at| !members.contains(at)).expect("a place is free");
                members.push(at);
                involved.push(at);
                self.join(at, &members).await?;
            }
            Change::Leave => {
                members.remove(random.random_range(0..members.len()));
                self.replica_count = self.replica_count.min(members.len());
            }
            Change::Replace => {
                let at = members[random.random_range(0..members.len())];
                self.run.apply(&Action::Kill(vec![at]));
                identity = Some((at, self.join(at, &members).await?));
            }
            Change::Recount => {
                self.replica_count = if self.replica_count > MEMBERS_MIN { MEMBERS_MIN } else { members.len() };
            }
        }
        let wished = |at: &usize| api::WishedMember {
            id: self.run.nodes[*at].id.clone(),
            address: self.run.nodes[*at].address(),
            identity: identity.iter().filter(|(of, _)| of == at).map(|(_, identity)| identity.clone()).collect(),
            ..api::WishedMember::default()
        };
        let replica_count = u32::try_from(self.replica_count).expect("it is small");
        let members = members.iter().map(wished).collect();
        let wish = api::MembersWish { members, replica_count, ..api::MembersWish::default() };
        let takes_back_after =
            (change == Change::TakeBack).then(|| Duration::from_millis(random.random_range(0..1_500)));
        Ok(Wanted { wish, involved, takes_back_after })
    }

    /// Starts a node with a fresh folder, and waits until the members know that it waits. Returns its identity.
    async fn join(&mut self, at: usize, members: &[usize]) -> Result<String, String> {
        self.write_file(at, members);
        let node = &mut self.run.nodes[at];
        let folder = &node.files.data_dir;
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|error| format!("removing {}: {error}", folder.display()))?;
        }
        node.arguments = vec!["--join".into()];
        let id = node.id.clone();
        let known =
            self.operator().members().await.map_err(|error| format!("the members before a node joins: {error}"))?;
        let before: BTreeSet<String> = known.waiting.into_iter().map(|node| node.identity).collect();
        self.run.apply(&Action::Start(vec![at], 0));
        let (operator, began) = (self.operator(), Instant::now());
        loop {
            let members = operator.members().await;
            // The folder that it had before may have waited, too, and is not forgotten at once.
            let is_it = |node: &&api::WaitingMember| node.id == id && !before.contains(&node.identity);
            let waiting = members.as_ref().ok().and_then(|members| members.waiting.iter().find(is_it));
            if let Some(waiting) = waiting {
                return Ok(waiting.identity.clone());
            }
            if began.elapsed() > START_TIME_MAX {
                return Err(format!("node {at} does not wait to join after {START_TIME_MAX:?}: {members:?}"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all that take part agree who the members are. The others are ended, and lose their folders.
    async fn settle(&mut self, involved: &[usize]) -> Result<(), String> {
        let began = Instant::now();
        let (members, replica_count) = loop {
            let mut said: BTreeSet<(u64, Vec<String>, u32)> = BTreeSet::new();
            let mut errors = Vec::new();
            for at in involved {
                match client_of(&[self.run.nodes[*at].address()]).members().await {
                    Ok(members) if !members.changing => {
                        let ids = members.members.iter().map(|member| member.id.clone()).collect();
                        said.insert((members.number, ids, members.replica_count));
                    }
                    Ok(members) => errors.push(format!("node {at}: members change ({})", members.number)),
                    Err(error) => errors.push(format!("node {at}: {error}")),
                }
            }
            let agreed = said.first().filter(|_| said.len() == 1).cloned();
            if let Some((_, ids, replica_count)) = agreed {
                let is_member = |at: &usize| ids.contains(&self.run.nodes[*at].id);
                let members: Vec<usize> = (0..PLACES).filter(is_member).collect();
                // Those that are no members do not know who they are.
                let silent = errors.len();
                if silent + members.len() <= involved.len() {
                    break (members, replica_count);
                }
            }
            if began.elapsed() > CHANGE_TIME_MAX {
                return Err(format!("the members do not agree after {CHANGE_TIME_MAX:?}: {said:?}, {errors:?}"));
            }
            self.run.check_processes()?;
            tokio::time::sleep(LOOK_EVERY).await;
        };
        self.replica_count = usize::try_from(replica_count).expect("it is small");
        let gone: Vec<usize> = (0..PLACES).filter(|at| !members.contains(at)).collect();
        self.run.apply(&Action::Kill(gone));
        self.run.serving = members;
        Ok(())
    }

    /// Reads what was written before the first change.
    async fn are_kept(&self) -> Result<(), String> {
        let client = self.operator();
        for key in 0..KEPT {
            let found = client.get(format!("kept-{key}")).await;
            let found = found.map_err(|error| format!("reading kept-{key} without a fault: {error}"))?;
            if found.is_none_or(|found| found.value.bytes() != key.to_string().as_bytes()) {
                return Err(format!("kept-{key} is lost"));
            }
        }
        Ok(())
    }

    /// A client of all nodes.
    fn operator(&self) -> Client {
        let addresses: Vec<String> = self.run.nodes.iter().map(crate::testkit::cluster::TestNode::address).collect();
        client_of(&addresses)
    }

    fn write_file(&self, at: usize, members: &[usize]) {
        let nodes: Vec<(&str, u16)> =
            members.iter().map(|at| (self.run.nodes[*at].id.as_str(), self.run.nodes[*at].port)).collect();
        write(&self.run.nodes[at].files.cluster_file, &cluster_yml(0, self.replica_count.min(members.len()), &nodes));
    }
}

fn client_of(addresses: &[String]) -> Client {
    Client::new(addresses).expect("the addresses are well formed").with_deadline(Duration::from_secs(5))
}

/// Kills and pauses of some of these nodes, each of which ends.
fn faults(nodes: &[usize], random: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.random_range(0..=3) {
        let from = random.random_range(0..2_500_u64);
        let to = from + random.random_range(200..2_500);
        let mut some = nodes.to_vec();
        some.shuffle(random);
        let is_pause = random.random_bool(0.3);
        // All at once is one in some.
        some.truncate(if random.random_ratio(1, 6) { some.len() } else { random.random_range(1..=2) });
        let (begins, ends) = if is_pause {
            (Action::Pause(some.clone()), Action::Resume(some))
        } else {
            (Action::Kill(some.clone()), Action::Start(some, 0))
        };
        steps.push(Step { at: Duration::from_millis(from), action: begins });
        steps.push(Step { at: Duration::from_millis(to), action: ends });
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// Asks for a change until it is made or taken back, as an operator does who does not give up.
async fn make_change(
    operator: Client,
    wish: api::MembersWish,
    takes_back_after: Option<Duration>,
) -> Result<&'static str, String> {
    let (began, mut begun_at, mut last) = (Instant::now(), None, String::new());
    loop {
        match operator.members().await {
            Ok(members) if !members.changing && is_so(&members, &wish) => return Ok("changes made"),
            Ok(members) if members.changing => {
                let begun_at = *begun_at.get_or_insert_with(Instant::now);
                if takes_back_after.is_some_and(|after| begun_at.elapsed() >= after)
                    && let Err(error) = operator.abort_change_of_members(Some(members.number)).await
                {
                    last = error.to_string();
                }
            }
            Ok(_) if takes_back_after.is_some() && begun_at.is_some() => return Ok("changes taken back"),
            Ok(_) => match operator.change_members(wish.clone()).await {
                Ok(_) => begun_at = Some(Instant::now()),
                // A node may be away that the change needs.
                Err(error) => last = error.to_string(),
            },
            Err(error) => last = error.to_string(),
        }
        if began.elapsed() > CHANGE_TIME_MAX {
            return Err(format!("the change is not over after {CHANGE_TIME_MAX:?}: {last}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the members are those of the wish.
fn is_so(members: &api::MembersGetResponse, wish: &api::MembersWish) -> bool {
    let is_wished = |member: &api::ClusterMember| {
        let wished = wish.members.iter().find(|wished| wished.id == member.id);
        wished.is_some_and(|wished| wished.identity.is_empty() || wished.identity == member.identity)
    };
    members.members.len() == wish.members.len()
        && members.members.iter().all(is_wished)
        && members.replica_count == wish.replica_count
}
