//! The table of the key, and what is about the record of its name.

use quorate::protocol::Message;
use quorate::types::{Table, TableId};

use crate::machine::{Event, Machine};
use crate::register;

/// Whether what happens to a machine is about the record of a table's name alone. Such records are ordinary ones, which other
/// models have: here operations on them take no time, where no other batch is at the disk.
pub(super) fn is_about_name(machine: &Machine, event: &Event) -> bool {
    match event {
        Event::Arrives(envelope) => names_a_name(&envelope.message),
        Event::Persisted => machine.at_disk.as_ref().is_some_and(|batch| {
            let keys = &batch.records;
            !keys.is_empty() && batch.dropped.is_empty() && keys.keys().all(|key| key.table() == TableId::NAMES)
        }),
        _ => false,
    }
}

pub(super) fn names_a_name(message: &Message) -> bool {
    message.key().is_some_and(|key| key.table() == TableId::NAMES)
}

pub(super) fn is_answer_without_key(message: &Message) -> bool {
    matches!(message, Message::Answer { .. }) && message.key().is_none()
}

pub(super) fn table() -> Table {
    Table::Named(register::table_name())
}
