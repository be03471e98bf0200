//! The list that is part of a watch: keys that are there, told before the changes.
//!
//! Contract: once the watch is ready, what it was told is what it would be told by a read of each key, at some moment since
//! it began. Every write that is not in that is told as a change.
//!
//! How: the watch is covered first, and the list is read then, page by page, in the order of the keys. A page counts the
//! answers of all nodes that cover the watch. So each record that they hold, and that they had before they were followed,
//! is in the page, or was replaced. A key is told of its changes once its page was told:
//!
//! - A change of a key beyond that, while no page is gathered, is dropped: the page will have that record or a later one.
//! - While a page is gathered, a read of the key may be older or newer than the page. Such keys are read once more after
//!   the page. The cursor stays where it was when the page began until they are told.
//!
//! Bounds: a watch has one page at most. It is gathered when the client has taken the page before. [`WATCH_PAGES_MAX`] pages
//! of all watches are gathered at once, and the other watches wait their turn.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::limits::{LISTED_KEYS_MAX, WATCH_PAGES_MAX};
use crate::mutants::{must, rule};
use crate::protocol::changes::Filter;
use crate::protocol::context::{Caller, Task};
use crate::protocol::coordinator::ops::GetWith;
use crate::protocol::io::{Failure, Reply};
use crate::protocol::listing::ListingCtx;
use crate::protocol::news::{Cursor, WatchEvent, WatchId};
use crate::protocol::pages::{ListPage, Listed, ListedKeys};
use crate::types::{AgedRecord, Key, KeyRange, Lookup, NodeIndex, Version};

use super::hub::{Stage, WatchCtx, Watches};
use super::pages::Page;
use super::reading::silent;

/// How long a page may take. A node that covers the watch and does not answer by then covers it no longer.
const PAGE_MAX: Duration = Duration::from_secs(5);

impl Watches {
    /// The watch is covered: it is told what is there.
    pub(super) fn begin_list(&mut self, id: WatchId) {
        let Some(watch) = self.clients.get_mut(&id) else { return };
        let Some(list) = &mut watch.list else { return };
        list.page = Page::Queued;
        watch.stage = Stage::Listing;
        self.pages.queue.push_back(id);
        // The remembered keys were not told: the watch is the only one of its group.
        if let Some(group) = self.groups.get_mut(&watch.group) {
            group.last.clear();
        }
    }

    /// The client of a watch has taken the last page.
    pub fn page_taken(&mut self, id: WatchId, ctx: &mut WatchCtx<'_>) {
        let list = self.clients.get_mut(&id).filter(|watch| watch.stage == Stage::Listing);
        if let Some(list) = list.and_then(|watch| watch.list.as_mut())
            && list.page == Page::Untaken
        {
            list.page = Page::Queued;
            self.pages.queue.push_back(id);
            self.start_pages(ctx);
        }
    }

    /// Pages that failed are gathered again.
    pub(super) fn retry_pages(&mut self, ctx: &mut WatchCtx<'_>) {
        for (id, watch) in &mut self.clients {
            if watch.stage == Stage::Listing
                && let Some(list) = &mut watch.list
                && list.page == Page::Failed
            {
                list.page = Page::Queued;
                self.pages.queue.push_back(*id);
            }
        }
        self.start_pages(ctx);
    }

    /// Begins the pages whose turn has come.
    pub(super) fn start_pages(&mut self, ctx: &mut WatchCtx<'_>) {
        while self.pages.running.len() < WATCH_PAGES_MAX
            && let Some(id) = self.pages.queue.pop_front()
        {
            self.start_page(id, ctx);
        }
    }

    fn start_page(&mut self, id: WatchId, ctx: &mut WatchCtx<'_>) {
        let Some(watch) = self.clients.get_mut(&id).filter(|watch| watch.stage == Stage::Listing) else { return };
        let Some(list) = watch.list.as_mut().filter(|list| list.page == Page::Queued) else { return };
        let Some(group) = self.groups.get(&watch.group) else { return };
        self.pages.last += 1;
        let number = self.pages.last;
        self.pages.running.insert(number, id);
        list.page = Page::Running(number);
        list.began_at = group.cursor(&watch.covers);
        (list.changed, list.changed_is_cut) = (BTreeSet::new(), false);
        let required = rule!(ListNotBoundToWatch, watch.covers.clone(), not BTreeSet::new());
        let caller = Caller::Task(Task::WatchPage(number));
        let deadline = ctx.now().after(PAGE_MAX);
        match &group.filter {
            Filter::Prefix(prefix) => {
                let range = KeyRange { after: list.told_to.clone(), prefix: prefix.clone() };
                let page = ListPage { range, keys_max: LISTED_KEYS_MAX, values: list.values };
                let mut listing = ListingCtx { coordinator: ctx.coordinator, node: &mut ctx.shared };
                ctx.listing.start(caller, deadline, page, required, &mut listing);
            }
            Filter::Key(key) => {
                let replicas = ctx.layout().replicas(ctx.layout().slot(key)).to_vec();
                let read = GetWith::new(required.into_iter().filter(|node| replicas.contains(node)).collect());
                ctx.coordinator.start(caller, deadline, key.clone(), read.into(), &mut ctx.shared);
            }
        }
    }

    /// A page was gathered, or could not be.
    pub fn on_page(&mut self, number: u64, reply: Reply, ctx: &mut WatchCtx<'_>) {
        let Some(id) = self.pages.running.remove(&number) else { return };
        let watch = self.clients.get_mut(&id).filter(|watch| watch.stage == Stage::Listing);
        let list = watch.and_then(|watch| watch.list.as_mut());
        // The watch may have ended meanwhile, or have begun anew.
        if let Some(list) = list.filter(|list| list.page == Page::Running(number)) {
            match reply {
                Reply::Listed(page) => self.tell_page(id, page, ctx),
                Reply::Record(record) => {
                    let values = list.values;
                    let page = page_of_key(self.key_of(id), record, values);
                    self.tell_page(id, page, ctx);
                }
                Reply::Failed(failure) => {
                    list.page = Page::Failed;
                    self.page_failed(id, &failure, ctx);
                }
                other => unreachable!("a page is answered with keys, not {other:?}"),
            }
        }
        self.start_pages(ctx);
    }

    /// The key that a watch is about, where it is about one.
    fn key_of(&self, id: WatchId) -> Option<Key> {
        let group = self.groups.get(&self.clients.get(&id)?.group)?;
        match &group.filter {
            Filter::Key(key) => Some(key.clone()),
            Filter::Prefix(_) => None,
        }
    }

    /// The nodes that cover the watch and did not answer cover it no longer.
    fn page_failed(&mut self, id: WatchId, failure: &Failure, ctx: &mut WatchCtx<'_>) {
        let Some(watch) = self.clients.get(&id) else { return };
        let group = watch.group;
        let broken: Vec<NodeIndex> = silent(failure, ctx.layout()).intersection(&watch.covers).copied().collect();
        for node in broken {
            self.break_stream(group, node, ctx);
        }
    }

    /// Tells a watch a page. Keys that changed beside it are read once more.
    fn tell_page(&mut self, id: WatchId, mut page: ListedKeys, ctx: &mut WatchCtx<'_>) {
        let Some(watch) = self.clients.get_mut(&id) else { return };
        let Some(list) = &mut watch.list else { return };
        list.cut(&mut page);
        let ListedKeys { keys, looked_to } = page;
        let is_last = looked_to.is_none();
        let mut changed = std::mem::take(&mut list.changed);
        if let Some(looked_to) = &looked_to {
            changed.retain(|key| key <= looked_to);
        }
        list.told_to = looked_to;
        list.page = Page::Untaken;
        // What was announced of them beside the page is not told yet.
        for key in &changed {
            must!(CursorAheadOfSecondRead, watch.untold.add(key.clone(), list.began_at.clone()));
        }
        // Reads that began before may be older than the page.
        watch.opened_after = self.reads.last_task;
        if is_last {
            watch.stage = Stage::Ready;
        }
        let group = watch.group;
        for (key, listed) in &keys {
            if changed.contains(key) {
                self.remember(group, key, version_of(listed));
            }
        }
        let is_empty = keys.is_empty();
        if !is_empty {
            ctx.emit(vec![id], Cursor::default(), WatchEvent::Listed(keys));
        }
        if is_last {
            let cursor = self.cursor(id);
            ctx.emit(vec![id], cursor, WatchEvent::Ready);
        } else if is_empty {
            self.page_taken(id, ctx);
        }
        for key in changed {
            self.read_once_more(&key, ctx);
        }
        self.start_reads(ctx);
    }
}

fn version_of(listed: &Listed) -> Version {
    listed.found.digest().map_or_else(Version::absent, |digest| digest.version())
}

/// The page of a watch of one key.
fn page_of_key(key: Option<Key>, record: Option<AgedRecord>, values: bool) -> ListedKeys {
    let record = record.filter(|record| record.is_value());
    let listed = key.zip(record).map(|(key, AgedRecord { record, age, .. })| {
        let found = if values { Lookup::Record(record) } else { Lookup::Digest(record.digest()) };
        (key, Listed { found, age })
    });
    ListedKeys { keys: listed.into_iter().collect(), looked_to: None }
}
