//! What clients are told of the tables of one name, in the checker's terms.
//!
//! Contract: **a name** is a register of ids. A creation writes an id where there is none, a drop deletes it, each answer from a
//! table is a read of its id, and "no such table" is a read of nothing. So a table that was dropped answers nobody who asks
//! later, and two tables of one name are never there together. **A key** has one history, whatever the tables of its name were:
//! each creation and each drop is a write of "absent". So a new table is empty, and nobody is told that there is no table while a
//! value is there.

use std::collections::BTreeMap;

use quorate::types::{TableId, Version};

use super::checker::{Action, Condition, Ending, Operation};
use super::requests::Outcome;

/// What the client of one operation was told of the table of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has created a table. Not every client is told the id.
    Created(Option<TableId>),
    /// It may have created a table.
    MayHaveCreated,
    /// It has dropped the table.
    Dropped,
    /// It may have dropped the table.
    MayHaveDropped,
    /// The table of this id answered.
    Is(TableId),
    /// There is no table.
    IsMissing,
}

/// A word, and when it was asked for and told.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub client: u32,
    pub invoked: u64,
    pub returned: Option<u64>,
    pub word: Word,
}

/// A creation or a drop, as the keys of its table see it: a deletion.
#[derive(Clone, Debug)]
pub struct Life {
    pub client: u32,
    pub invoked: u64,
    pub returned: Option<u64>,
    pub outcome: Outcome,
}

/// The creation of a table that somebody has seen.
struct Creation {
    id: TableId,
    client: u32,
    invoked: u64,
    returned: u64,
}

/// The ids of the tables of a name, and when each was seen first.
pub fn ids(heard: &[Heard]) -> BTreeMap<TableId, u64> {
    let mut ids: BTreeMap<TableId, u64> = BTreeMap::new();
    for Heard { returned, word, .. } in heard {
        if let (Word::Is(id) | Word::Created(Some(id)), Some(returned)) = (word, returned) {
            let first = ids.entry(*id).or_insert(*returned);
            *first = (*returned).min(*first);
        }
    }
    ids
}

/// The creations whose tables somebody has seen. One whose client was not told the id is known by its table alone: it may have
/// been any of those.
fn creations(heard: &[Heard]) -> Result<Vec<Creation>, String> {
    let mut creations = Vec::new();
    for (id, first_seen) in ids(heard) {
        let mut by = heard.iter().filter(|heard| heard.word == Word::Created(Some(id)));
        let creator = by.next();
        if let (Some(one), Some(other)) = (creator, by.next()) {
            return Err(format!("table {id} was created twice: {one:?} and {other:?}"));
        }
        let may_be = |heard: &&Heard| matches!(heard.word, Word::MayHaveCreated | Word::Created(None));
        let creation = creator.or_else(|| heard.iter().filter(may_be).min_by_key(|heard| heard.invoked));
        let Some(Heard { client, invoked, returned, .. }) = creation else {
            return Err(format!("nobody has created table {id}"));
        };
        let returned = returned.filter(|_| creator.is_some()).map_or(first_seen, |returned| returned.min(first_seen));
        creations.push(Creation { id, client: *client, invoked: *invoked, returned });
    }
    Ok(creations)
}

/// The history of a name.
///
/// # Errors
/// When a table was created by nobody, or twice.
pub fn history(heard: &[Heard]) -> Result<Vec<Operation>, String> {
    let created = creations(heard)?.into_iter().map(|Creation { id, client, invoked, returned }| {
        let action = Action::WriteIf { condition: Condition::Absent, value: Some(id.0.into()) };
        Operation { client, invoked, action, ending: Ending::Returned(returned), version: None }
    });
    let others = heard.iter().filter_map(|Heard { client, invoked, returned, word }| {
        let ending = returned.map_or(Ending::Unknown, Ending::Returned);
        let (action, ending) = match word {
            Word::Created(_) | Word::MayHaveCreated => return None,
            Word::Dropped => (Action::Delete, ending),
            Word::MayHaveDropped => (Action::Delete, Ending::Unknown),
            Word::Is(id) => (Action::Read { saw: Some(id.0.into()) }, ending),
            Word::IsMissing => (Action::Read { saw: None }, ending),
        };
        Some(Operation { client: *client, invoked: *invoked, action, ending, version: None })
    });
    Ok(created.chain(others).collect())
}

/// The creations and drops of a name, as each of its keys sees them.
///
/// # Errors
/// As [`history`].
pub fn lives(heard: &[Heard]) -> Result<Vec<Life>, String> {
    let created = creations(heard)?.into_iter().map(|Creation { id, client, invoked, returned }| {
        let outcome = Outcome::Wrote(Version::absent().in_table(id));
        Life { client, invoked, returned: Some(returned), outcome }
    });
    let dropped = heard.iter().filter_map(|Heard { client, invoked, returned, word }| {
        let outcome = match word {
            Word::Dropped => Outcome::Done,
            Word::MayHaveDropped => Outcome::Unknown,
            _ => return None,
        };
        Some(Life { client: *client, invoked: *invoked, returned: *returned, outcome })
    });
    Ok(created.chain(dropped).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::checker::{STEPS_MAX, Verdict, check};

    fn heard(invoked: u64, returned: u64, word: Word) -> Heard {
        Heard { client: 0, invoked, returned: Some(returned), word }
    }

    fn verdict(heard: &[Heard]) -> Verdict {
        check(&history(heard).expect("each table has one creator"), STEPS_MAX)
    }

    #[test]
    fn dropped_table_answers_nobody_and_two_tables_are_never_there_together() {
        let (first, second) = (TableId(16), TableId(17));
        let created = heard(0, 10, Word::Created(Some(first)));
        let dropped = heard(20, 30, Word::Dropped);
        let again = heard(40, 50, Word::Created(Some(second)));
        let life = [created, heard(12, 14, Word::Is(first)), dropped, heard(32, 34, Word::IsMissing), again];
        assert_eq!(verdict(&life), Verdict::Linearizable);
        for wrong in [
            heard(32, 36, Word::Is(first)),
            heard(12, 16, Word::IsMissing),
            heard(52, 54, Word::IsMissing),
            heard(60, 62, Word::Is(first)),
        ] {
            assert_eq!(verdict(&[&life[..], &[wrong]].concat()), Verdict::NotLinearizable, "{wrong:?}");
        }
        // It was called before the drop was answered.
        assert_eq!(verdict(&[&life[..], &[heard(25, 36, Word::Is(first))]].concat()), Verdict::Linearizable);
        assert_eq!(verdict(&[created, again]), Verdict::NotLinearizable, "nobody has dropped the first");
    }

    #[test]
    fn table_has_one_creator() {
        let id = TableId(16);
        assert!(history(&[heard(0, 10, Word::Is(id))]).is_err_and(|what| what.contains("nobody")));
        let twice = [heard(0, 10, Word::Created(Some(id))), heard(20, 30, Word::Created(Some(id)))];
        assert!(history(&twice).is_err_and(|what| what.contains("twice")));
        let unknown = [heard(20, 30, Word::Is(id)), heard(0, 10, Word::MayHaveCreated)];
        assert_eq!(verdict(&unknown), Verdict::Linearizable);
        let late = [heard(0, 10, Word::Is(id)), heard(20, 30, Word::MayHaveCreated)];
        assert_eq!(verdict(&late), Verdict::NotLinearizable, "it was seen before anybody created it");
    }
}
