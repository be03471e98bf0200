//! What becomes durable on the disk of a node.

use quorate::types::{Batch, TableId};

use super::Host;

impl Host {
    /// The bytes of keys and values that the folder has of a table.
    pub(super) fn bytes_of(&self, table: TableId) -> u64 {
        let of_table = self.records.iter().filter(|(key, record)| key.table() == table && record.is_value());
        of_table.map(|(key, record)| (key.user_bytes().len() + record.content.value_bytes()) as u64).sum()
    }

    pub(super) fn apply(&mut self, batch: &Batch) {
        let Batch {
            epoch,
            incarnation,
            peers,
            bootstrapped,
            records,
            new_keys,
            kept_at,
            expiries_removed,
            running,
            dropped,
            fence,
            seals,
            forgotten,
            configuration,
            vote,
            taken_over,
            emptied: _,
        } = batch;
        self.meta.configuration = configuration.clone().or_else(|| self.meta.configuration.take());
        self.meta.vote = vote.clone().or_else(|| self.meta.vote.take());
        self.meta.taken_over = taken_over.clone().or_else(|| self.meta.taken_over.take());
        self.meta.fence = fence.or(self.meta.fence);
        self.meta.seals.extend(seals);
        for (key, (_, digest)) in forgotten {
            let record = self.records.remove(key).expect("what is forgotten is there");
            assert_eq!(record.digest(), *digest);
            self.index.remove(key);
        }
        self.meta.dropped.extend(dropped);
        self.meta.epoch = self.meta.epoch.max(epoch.unwrap_or(0));
        self.meta.incarnations.extend(incarnation);
        self.meta.peers.extend(peers.iter().map(|(id, known)| (id.clone(), *known)));
        self.meta.bootstrapped |= bootstrapped;
        self.records.extend(records.iter().map(|(key, (_, record))| (key.clone(), record.clone())));
        self.index.extend(new_keys.iter().cloned());
        self.kept_at.retain(|key, _| !records.contains_key(key));
        self.kept_at.extend(kept_at.iter().map(|(key, count)| (key.clone(), *count)));
        self.expiries.retain(|expiry| !expiries_removed.contains(expiry));
        self.expiries.extend(batch.expiries());
        self.meta.running = running.or(self.meta.running);
    }
}
