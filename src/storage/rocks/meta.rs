//! The metadata of a data folder, as it is read at an open.

use rocksdb::{DB, IteratorMode};

use super::errors::{damaged, failure};
use super::family;
use super::options::META;
use crate::storage::StoreError;
use crate::storage::codec::{FORMAT, FORMAT_WITH_CONFIGURATION, MetaEntry};
use crate::types::Meta;

/// All of it.
pub(super) fn read_meta(database: &DB) -> Result<Meta, StoreError> {
    let (mut format, mut meta) = (None, None);
    let mut entries = Vec::new();
    for entry in database.iterator_cf(family(database, META), IteratorMode::Start) {
        let (name, value) = entry.map_err(|error| failure(&error))?;
        let entry = MetaEntry::decode(&name, &value)
            .map_err(|error| damaged(META, &format!("entry {:?}", String::from_utf8_lossy(&name)), &error))?;
        match entry {
            Some(MetaEntry::Format(found)) => format = Some(found),
            Some(MetaEntry::StoreId(store_id)) => meta = Some(Meta::fresh(store_id)),
            Some(entry) => entries.push(entry),
            None => {}
        }
    }
    let missing = |name| StoreError::Damaged { message: format!("the store has no entry {name:?} in its metadata") };
    let format = format.ok_or_else(|| missing("format"))?;
    if format != FORMAT && format != FORMAT_WITH_CONFIGURATION {
        let message = format!(
            "the store has format {format} and this program reads formats {FORMAT} and {FORMAT_WITH_CONFIGURATION}: start the Quorate that wrote it"
        );
        return Err(StoreError::Damaged { message });
    }
    let mut meta = meta.ok_or_else(|| missing("store_id"))?;
    for entry in entries {
        match entry {
            MetaEntry::Epoch(epoch) => meta.epoch = epoch,
            MetaEntry::Incarnation(incarnation) => meta.incarnations.push(incarnation),
            MetaEntry::Bootstrapped => meta.bootstrapped = true,
            MetaEntry::Peer(id, peer) => {
                meta.peers.insert(id, peer);
            }
            MetaEntry::Running(running) => meta.running = Some(running),
            MetaEntry::Dropped(table) => {
                meta.dropped.insert(table);
            }
            MetaEntry::Fence(fence) => meta.fence = Some(fence),
            MetaEntry::Seal(slot, seal) => {
                meta.seals.insert(slot, seal);
            }
            MetaEntry::Configuration(configuration) => meta.configuration = Some(configuration),
            MetaEntry::Vote(vote) => meta.vote = Some(vote),
            MetaEntry::TakenOver(taken_over) => meta.taken_over = Some(taken_over),
            MetaEntry::Format(_) | MetaEntry::StoreId(_) => {}
        }
    }
    Ok(meta)
}
