//! Created tables: clients create them, look them up and drop them by their names, and use their keys meanwhile.
//!
//! One seed of two from [`FIRST_SEED`] on has them. All others use the default table alone, and draw nothing here.
//!
//! Two things are judged. **A name** is a register of ids: a creation writes an id where there is none, a drop deletes it, each
//! answer from a table is a read of its id, and "no such table" is a read of nothing. So a table that was dropped answers nobody
//! who asks later, and two tables of one name are never there together. **A key** of a name has one history, whatever the tables
//! were: each creation and each drop is a write of "absent". So a new table is empty, and nobody is told that there is no table
//! while a value is there.

use std::collections::BTreeMap;

use quorate::protocol::{Command, Failure, Reply};
use quorate::types::{Key, Table, TableId, TableName, TableSettings, Version};

use crate::clients::{Done, understand};
use crate::plan::Plan;
use crate::testkit::checker::{self, Action, Ending, Operation};
use crate::testkit::requests::{Ask, Outcome};
use crate::world::World;

/// Seeds below use the default table alone.
pub const FIRST_SEED: u64 = 1_000_000;
/// How long a drop may be felt after its client was answered, or after all faults have stopped, in microseconds.
const FELT: u64 = 3_000_000;

/// Whether the run of a seed has created tables.
pub fn has_tables(seed: u64) -> bool {
    seed >= FIRST_SEED && seed % 2 == 1
}

/// The tables of a run, as its clients know them. In operations, the names come after all keys.
pub struct Tables {
    /// The table of each key. The keys of a table are neighbours.
    of_keys: Vec<Table>,
    names: Vec<TableName>,
    /// The ids of the tables that clients were told to have created, by operation.
    created: BTreeMap<usize, TableId>,
    /// The name that each client was told last to be nobody's.
    missed: Vec<Option<usize>>,
    /// When the present phase began.
    pub phase_began_at: u64,
}

/// A creation or a drop, as the keys of its table see it.
pub struct Life {
    pub client: usize,
    pub invoked: u64,
    pub returned: Option<u64>,
    pub outcome: Outcome,
}

/// A creation of which a client was told, or whose table somebody has seen.
struct Creation {
    id: TableId,
    client: usize,
    invoked: u64,
    returned: u64,
}

impl Tables {
    pub fn new(plan: &Plan) -> Self {
        let Plan { tables, keys, clients, .. } = plan;
        let names = tables.iter().filter_map(|table| match table {
            Table::Named(name) => Some(name.clone()),
            Table::Default => None,
        });
        Self {
            of_keys: (0..*keys).map(|key| tables[key * tables.len() / keys].clone()).collect(),
            names: names.collect(),
            created: BTreeMap::new(),
            missed: vec![None; *clients],
            phase_began_at: 0,
        }
    }

    /// Whether there are any but the default one.
    pub fn any(&self) -> bool {
        !self.names.is_empty()
    }

    /// The table of a key.
    pub fn of(&self, key: usize) -> &Table {
        &self.of_keys[key]
    }

    /// The name that operations on `place` are about; `None` where they are about a key.
    pub fn name_at(&self, place: usize) -> Option<&TableName> {
        self.names.get(place.checked_sub(self.of_keys.len())?)
    }

    /// The place of the name of the table of a key, or of a name itself.
    fn place_of(&self, place: usize) -> Option<usize> {
        match self.of_keys.get(place) {
            None => Some(place),
            Some(Table::Default) => None,
            Some(Table::Named(name)) => {
                self.names.iter().position(|other| other == name).map(|n| n + self.of_keys.len())
            }
        }
    }
}

impl World {
    /// What a client does next, where it is about a name.
    pub fn draw_about_table(&mut self, client: usize) -> Option<(usize, Ask)> {
        if !self.tables.any() {
            return None;
        }
        let missed = self.tables.missed[client].take();
        if let Some(place) = missed
            && self.random.permille(500)
        {
            return Some((place, Ask::Set));
        }
        if !self.random.permille(self.plan.names_permille) {
            return None;
        }
        let place = self.plan.keys + self.random.below(self.tables.names.len());
        Some(match self.random.below(10) {
            0..5 => (place, Ask::Set),
            5..9 => (place, Ask::Delete),
            _ => (place, Ask::Get),
        })
    }

    /// What a client sends. A write of a name creates its table, and a delete drops it.
    pub fn command(&self, index: usize) -> Command {
        let Done { key, ask, .. } = &self.clients.operations[index];
        match (self.tables.name_at(*key).cloned(), ask) {
            (None, _) => self.clients.command(index, &self.keys).in_table(self.tables.of(*key)),
            (Some(name), Ask::Set) => Command::CreateTable { name, settings: TableSettings::default() },
            (Some(name), Ask::Delete) => Command::DropTable { name },
            (Some(name), _) => Command::OpenTable { name },
        }
    }

    /// What a reply means to the client of an operation.
    pub fn understand(&mut self, index: usize, reply: &Reply) -> Result<Outcome, String> {
        let Done { key, client, ref ask, .. } = self.clients.operations[index];
        let Some(place) = self.tables.place_of(key) else { return understand(reply, ask) };
        let is_name = self.tables.name_at(key).is_some();
        match reply {
            Reply::Failed(Failure::NoTable) => {
                self.tables.missed[client] = Some(place);
                Ok(if is_name { Outcome::Read(None) } else { Outcome::Looked { has_value: false } })
            }
            Reply::Failed(Failure::TableDropping) => Ok(Outcome::Failed),
            Reply::Failed(Failure::DroppedMeanwhile) if !ask.is_read() => Ok(Outcome::Unknown),
            _ if !is_name => understand(reply, ask),
            Reply::Table { table, is_new: true } if matches!(ask, Ask::Set) => {
                self.tables.created.insert(index, table.id);
                Ok(Outcome::Done)
            }
            Reply::Table { table, is_new: false } if !matches!(ask, Ask::Delete) => {
                Ok(Outcome::Read(Some(table.id.0.into())))
            }
            Reply::Dropped if matches!(ask, Ask::Delete) => Ok(Outcome::Done),
            _ => understand(reply, ask),
        }
    }

    /// Whether an operation may fail although nothing is in its way: a drop of its table is not over, or was not.
    pub fn meets_a_drop(&self, index: usize, reply: Option<&Reply>) -> bool {
        let Some(Reply::Failed(Failure::TableDropping | Failure::DroppedMeanwhile)) = reply else { return false };
        let Done { key, began_at, .. } = self.clients.operations[index];
        let place = self.tables.place_of(key);
        let is_felt = |done: &Done| {
            Some(done.key) == place
                && matches!(done.ask, Ask::Delete)
                && done.ended_at.is_none_or(|ended_at| ended_at + FELT >= began_at)
        };
        // Whoever comes first after the faults goes on with a drop that nobody has ended.
        began_at < self.tables.phase_began_at + FELT || self.clients.operations.iter().any(is_felt)
    }

    /// Counts how an operation on a name, or on no table, has ended.
    pub fn count_about_table(&mut self, key: usize, ask: &Ask, outcome: &Outcome) -> bool {
        let name = match (outcome, ask) {
            (Outcome::Looked { .. }, _) => "an operation found no table",
            _ if self.tables.name_at(key).is_none() => return false,
            (Outcome::Done, Ask::Set) => "a table was created",
            (Outcome::Done, _) => "a table was dropped",
            (Outcome::Read(Some(_)), Ask::Set) => "a table was there when it was to be created",
            (Outcome::Read(Some(_)), _) => "a table was looked up",
            (Outcome::Read(_), _) => "a name stood for no table",
            (Outcome::Unknown, _) => "a creation or drop of unknown outcome",
            _ => "a creation, drop or look at a table failed",
        };
        self.counters.count(name);
        true
    }

    /// The ids that the tables of a name have had, as far as anybody was told, and when that was first.
    fn ids_of(&self, place: usize) -> BTreeMap<TableId, u64> {
        let mut ids: BTreeMap<TableId, u64> = BTreeMap::new();
        for done in self.clients.operations.iter().filter(|done| self.tables.place_of(done.key) == Some(place)) {
            let id = match (&done.outcome, self.tables.created.get(&done.index)) {
                (_, Some(id)) if done.key == place => Some(*id),
                (Outcome::Read(Some(id)), _) if done.key == place => u32::try_from(*id).ok().map(TableId),
                (outcome, _) => outcome.version().map(|version| version.table),
            };
            if let (Some(id), Some(returned)) = (id.filter(|id| id.is_created()), done.returned) {
                let first = ids.entry(id).or_insert(returned);
                *first = returned.min(*first);
            }
        }
        ids
    }

    /// The ids of the tables that a key has been in.
    pub fn ids_of_key(&self, key: usize) -> Vec<TableId> {
        match self.tables.place_of(key) {
            None => vec![TableId::DEFAULT],
            Some(place) => self.ids_of(place).into_keys().collect(),
        }
    }

    /// The creations of a name. One of unknown outcome is known by its table: nobody can tell which one it was.
    fn creations(&self, place: usize) -> Result<Vec<Creation>, String> {
        let mut creations = Vec::new();
        for (id, first_seen) in self.ids_of(place) {
            let mut by = self.tables.created.iter().filter(|(_, created)| **created == id).map(|(index, _)| *index);
            let creator = by.next();
            if let (Some(creator), Some(other)) = (creator, by.next()) {
                return Err(format!("operations {creator} and {other} have both created table {id}"));
            }
            let may_have =
                |done: &&Done| done.key == place && matches!(done.ask, Ask::Set) && done.outcome == Outcome::Unknown;
            let creation = match creator {
                Some(index) => Some(&self.clients.operations[index]),
                None => self.clients.operations.iter().find(may_have),
            };
            let Some(Done { client, invoked, returned, .. }) = creation else {
                return Err(format!("nobody has created table {id}"));
            };
            let returned =
                returned.filter(|_| creator.is_some()).map_or(first_seen, |returned| returned.min(first_seen));
            creations.push(Creation { id, client: *client, invoked: *invoked, returned });
        }
        Ok(creations)
    }

    /// The creations and drops of the table of a key.
    pub fn lives(&self, key: usize) -> Result<Vec<Life>, String> {
        let Some(place) = self.tables.place_of(key) else { return Ok(Vec::new()) };
        let creations = self.creations(place)?.into_iter().map(|Creation { id, client, invoked, returned }| {
            let outcome = Outcome::Wrote(Version::absent().in_table(id));
            Life { client, invoked, returned: Some(returned), outcome }
        });
        let is_drop = |done: &&Done| done.key == place && matches!(done.ask, Ask::Delete);
        let drops = self.clients.operations.iter().filter(is_drop).filter_map(|done| {
            let Done { client, invoked, returned, ref outcome, .. } = *done;
            let is_kept = matches!(outcome, Outcome::Done | Outcome::Unknown);
            is_kept.then(|| Life { client, invoked, returned, outcome: outcome.clone() })
        });
        Ok(creations.chain(drops).collect())
    }

    /// The history of a name, in the checker's terms.
    pub fn name_history(&self, place: usize) -> Result<Vec<Operation>, String> {
        let number = |client: usize| u32::try_from(client).expect("there are few clients");
        let mut history = Vec::new();
        for Creation { id, client, invoked, returned } in self.creations(place)? {
            let action = Action::WriteIf { condition: checker::Condition::Absent, value: Some(id.0.into()) };
            let (client, ending) = (number(client), Ending::Returned(returned));
            history.push(Operation { client, invoked, action, ending, version: None });
        }
        for done in self.clients.operations.iter().filter(|done| self.tables.place_of(done.key) == Some(place)) {
            let Done { client, invoked, ref ask, ref outcome, .. } = *done;
            let ending = done.returned.map_or(Ending::Unknown, Ending::Returned);
            let saw = |id: Option<u64>| (Action::Read { saw: id }, ending);
            let (action, ending) = match (outcome, ask) {
                (Outcome::Done, Ask::Delete) if done.key == place => (Action::Delete, ending),
                (Outcome::Unknown, Ask::Delete) if done.key == place => (Action::Delete, Ending::Unknown),
                (Outcome::Read(id), _) if done.key == place => saw(*id),
                (Outcome::Looked { .. }, _) => saw(None),
                // One replica may not have heard of a drop.
                (_, Ask::GetOne { .. }) => continue,
                (outcome, _) => match outcome.version().map(|version| version.table) {
                    Some(id) if id.is_created() => saw(Some(id.0.into())),
                    _ => continue,
                },
            };
            history.push(Operation { client: number(client), invoked, action, ending, version: None });
        }
        Ok(history)
    }

    /// Once all faults have stopped, a node that knows of a drop has given the space of its table back.
    pub fn space_is_given_back(&mut self) {
        let holds = |(host, key): (usize, &Key)| {
            let dropped = &self.hosts[host].disk.folder.meta.dropped;
            dropped.contains(&key.table()).then(|| format!("node {host} still has {key} of a dropped table"))
        };
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| !host.is_forgetful);
        let left = hosts.flat_map(|(n, host)| host.disk.folder.index.iter().map(move |key| (n, key))).find_map(holds);
        if let Some(what) = left {
            self.is_stuck(what);
        } else if self.hosts.iter().any(|host| !host.disk.folder.meta.dropped.is_empty()) {
            self.counters.count("the space of dropped tables was given back");
        }
    }
}
