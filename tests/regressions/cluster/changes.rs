//! Conditional writes, and watches of what changes.

use quorate::protocol::changes::Filter;
use quorate::protocol::news::{Cursor, ListFirst, WatchEvent, WatchId, WatchNews};
use quorate::protocol::{Command, Input, Listed, Reply};
use quorate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, Lookup, NodeIndex, Value, Version,
};

use super::{Cluster, value_of};
use crate::testkit::checker::{self, Action};

impl Cluster {
    /// Begins a conditional write or an addition. `name` stands for the client's name of the request.
    pub fn change(&mut self, at: NodeIndex, change: Change, name: u8, is_resend: bool) -> usize {
        let action = match &change {
            Change::Write { condition: Condition::Absent, content, .. } => {
                Action::WriteIf { condition: checker::Condition::Absent, value: value_of(content) }
            }
            Change::Write { condition: Condition::Present, content, .. } => {
                Action::WriteIf { condition: checker::Condition::Present, value: value_of(content) }
            }
            // Versions have no numbers here.
            Change::Write {
                condition: Condition::Version(_) | Condition::Among(_) | Condition::NotAmong { .. },
                content,
                ..
            } => value_of(content).map_or(Action::Delete, |value| Action::Write { value }),
            Change::Add { delta, .. } => Action::Add { delta: *delta, sum: None },
        };
        let request = ChangeRequest { change, token: IdempotencyToken([name; 16]), is_resend };
        self.begin(at, action, Command::Change { key: self.key.clone(), request })
    }

    /// Begins a write of `value` that takes effect where the condition holds.
    pub fn write_if(&mut self, at: NodeIndex, condition: Condition, value: u64, name: u8) -> usize {
        let change = self.writes_if(condition, value);
        self.change(at, change, name, false)
    }

    /// A write of `value` where the condition holds.
    pub fn writes_if(&self, condition: Condition, value: u64) -> Change {
        let content = Content::Value(Value::Text(value.to_string().into()));
        let checksum = Checksum::of(&self.key, &content);
        Change::Write { condition, content, ttl: None, checksum }
    }

    /// The version that a write has made.
    #[track_caller]
    pub fn version_of(&self, write: usize) -> Version {
        match self.replies.get(&write) {
            Some(Reply::Set(version) | Reply::Added { version, .. }) => version.clone(),
            other => panic!("the write is not acknowledged: {other:?}"),
        }
    }

    /// The sum that an addition has made.
    #[track_caller]
    pub fn sum_of(&self, add: usize) -> i64 {
        match self.replies.get(&add) {
            Some(Reply::Added { sum, .. }) => *sum,
            other => panic!("the addition is not acknowledged: {other:?}"),
        }
    }

    /// Watches at `at`, from `cursor` on.
    pub fn watch(&mut self, at: NodeIndex, filter: Filter, cursor: Cursor) -> WatchId {
        self.watch_listing(at, filter, cursor, ListFirst::No)
    }

    /// Watches at `at`, from `cursor` on. Where there is none, or it is lost, the watch is told what is there.
    pub fn watch_listing(&mut self, at: NodeIndex, filter: Filter, cursor: Cursor, list: ListFirst) -> WatchId {
        let id = WatchId(self.watches.len() as u64);
        self.watches.insert(id, Vec::new());
        self.input(at, Some(Input::Watch { id, filter, cursor, list }));
        id
    }

    /// The client of a watch takes the page that it was told.
    pub fn page_taken(&mut self, at: NodeIndex, watch: WatchId) {
        self.input(at, Some(Input::WatchPageTaken(watch)));
    }

    /// A client watches no longer.
    pub fn unwatch(&mut self, at: NodeIndex, watch: WatchId) {
        self.input(at, Some(Input::Unwatch(watch)));
    }

    /// Watches all keys.
    pub fn watch_all(&mut self, at: NodeIndex) -> WatchId {
        self.watch(at, Filter::Prefix("".into()), Cursor::default())
    }

    /// What a watch was told.
    pub fn news(&self, watch: WatchId) -> &[WatchNews] {
        &self.watches[&watch]
    }

    /// How often a watch was told this.
    pub fn count_news(&self, watch: WatchId, event: &WatchEvent) -> usize {
        self.news(watch).iter().filter(|news| news.event == *event).count()
    }

    /// The values of the key, in the order in which a watch was told of them.
    pub fn told(&self, watch: WatchId) -> Vec<Option<u64>> {
        let of_key = |news: &WatchNews| match &news.event {
            WatchEvent::Changed { key, record, .. } if *key == self.key => {
                Some(record.as_ref().and_then(|record| value_of(&record.content)))
            }
            WatchEvent::Listed(page) => {
                let (_, listed) = page.iter().find(|(key, _)| *key == self.key)?;
                match &listed.found {
                    Lookup::Record(record) => Some(value_of(&record.content)),
                    Lookup::Digest(_) | Lookup::Absent => panic!("values were asked for: {listed:?}"),
                }
            }
            _ => None,
        };
        self.news(watch).iter().filter_map(of_key).collect()
    }

    /// The keys of the pages that a watch was told, a list for each page.
    pub fn pages(&self, watch: WatchId) -> Vec<Vec<String>> {
        let names = |page: &[(Key, Listed)]| page.iter().map(|(key, _)| key.to_string()).collect();
        let pages = self.news(watch).iter().filter_map(|news| match &news.event {
            WatchEvent::Listed(page) => Some(names(page)),
            _ => None,
        });
        pages.collect()
    }
}
