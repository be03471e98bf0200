//! Values with a time to live: when they may expire, and when they must have.
//!
//! A version may be deleted because its time to live has passed, once, and no earlier than the fastest clock can count that
//! time from the call of its write. Once all faults have stopped, every such version is gone.

use quorate::types::{AgedRecord, Applied, Content, Key, Ttl, Version};

use crate::clients::{Done, operation_of_token, operation_of_value, value_of};
use crate::plan::RATES;
use crate::testkit::requests::Ask;
use crate::world::World;

/// Times to live, in milliseconds. They pass within a run, most of them.
const TTLS: [u64; 6] = [10, 50, 200, 500, 1_500, FOR_GOOD];
/// A time to live that never passes.
const FOR_GOOD: u64 = 3_600_000;
/// Ages are whole milliseconds, rounded by each node that passes them on. In microseconds.
const ROUNDING: u64 = 20_000;

impl World {
    /// The time to live of what a client writes.
    pub fn draw_ttl(&mut self, index: usize) -> Option<Ttl> {
        if !self.clients.operations[index].ask.writes_value() || !self.random.permille(self.plan.ttl_permille) {
            return None;
        }
        Ttl::from_millis(*self.random.pick(&TTLS))
    }

    /// The first moment at which a version may expire; `None` where it never does.
    pub fn expires_from(&self, key: &Key, version: &Version) -> Option<u64> {
        let ttl = self.watch.ttl(key, version)?;
        let written_at = self.written_at(key, version)?;
        Some((written_at + ttl.as_millis() * 1_000 * 1_000 / RATES.1).saturating_sub(ROUNDING))
    }

    /// When the write was called that made a version.
    fn written_at(&self, key: &Key, version: &Version) -> Option<u64> {
        let writer = match self.watch.led_to(key, version).0.last() {
            Some(applied) => operation_of_token(applied.token),
            None => value_of(self.watch.content(key, version)?).ok().flatten().and_then(operation_of_value),
        };
        self.clients.operations.get(writer?).map(|writer| writer.began_at)
    }

    /// Whether an addition keeps the time to live of the number, as those of Redis do.
    pub fn keeps_ttl(&self, first: usize) -> bool {
        self.tables.any() && first.is_multiple_of(3)
    }

    /// A sum has the time to live that its request gives it, or what is left of the one of the number.
    fn check_additions(&mut self) {
        for (key, Applied { token, version, sum }, base, at) in self.watch.take_new_writes() {
            let Some(first) = operation_of_token(token) else { continue };
            let Some(Done { ask: Ask::Add { delta, .. }, ttl: given, .. }) = self.clients.operations.get(first) else {
                continue;
            };
            let has_value = matches!(self.watch.content(&key, &base), Some(Content::Value(_)));
            let (ttl, of_base) = (self.watch.ttl(&key, &version), self.watch.ttl(&key, &base));
            let may_be_past = self.expires_from(&key, &base).is_some_and(|from| from <= at);
            let is_right = match of_base {
                _ if !self.keeps_ttl(first) || !has_value => ttl == *given,
                None => ttl.is_none(),
                Some(_) if may_be_past && sum == Some(*delta) => ttl == *given,
                Some(of_base) => ttl.is_some_and(|ttl| ttl <= of_base),
            };
            if self.keeps_ttl(first) && ttl.is_some() && of_base.is_some() {
                self.counters.count("an addition kept the time to live");
            }
            if !is_right {
                self.is_wrong(format!(
                    "{version} of {key} is to live {ttl:?}; its request gave {given:?}, and its base {of_base:?}"
                ));
            }
        }
    }

    /// No node deletes a version that never expires, or that has time left.
    pub fn check_expiries(&mut self) {
        self.check_additions();
        for (key, version, at) in self.watch.take_new_expiries() {
            self.counters.count("an expiry was proposed");
            match self.expires_from(&key, &version) {
                None => self.is_wrong(format!("{version} of {key} is deleted, and never expires")),
                Some(from) if at < from => {
                    self.is_wrong(format!("{version} of {key} is deleted at {at} us, and may not be before {from} us"));
                }
                Some(_) => {}
            }
        }
    }

    /// No node tells a version to be older than it is.
    pub fn is_not_older(&mut self, index: usize, record: &AgedRecord) {
        let (key, version) = self.stored(self.clients.operations[index].key, &record.version());
        let Some(written_at) = self.written_at(&key, &version).filter(|_| record.ttl.is_some()) else {
            return;
        };
        let oldest = (self.now - written_at) * RATES.1 / 1_000 + ROUNDING;
        if record.age.0 > oldest / 1_000 {
            self.is_wrong(format!(
                "{} of {key} is told to be {:?} old, and was written {written_at} us",
                record.version(),
                record.age
            ));
        }
    }

    /// All faults have stopped for long: what could expire has.
    pub fn values_are_gone(&mut self) {
        // A sum may have what is left of the longest.
        let is_past = |ttl: Ttl| ttl.as_millis() < FOR_GOOD / 2;
        let hosts = self.hosts.iter().filter(|host| !host.is_forgetful);
        let left = hosts.flat_map(|host| &host.disk.folder.records).find(|(_, record)| record.ttl.is_some_and(is_past));
        if let Some((key, record)) = left {
            self.is_stuck(format!("{} of {key} does not expire: {:?}", record.version(), record.ttl));
        } else if self.plan.ttl_permille > 0 {
            self.counters.count("all values were gone whose time had passed");
        }
    }
}
