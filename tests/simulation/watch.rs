//! What must hold at every moment, whatever histories say: watches disks, messages and replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate::protocol::placement::Placement;
use quorate::protocol::quorum::majority;
use quorate::protocol::{Answer, Input, Message, Node, OperationId, Refusal, Request};
use quorate::types::{
    Applied, Ballot, Batch, Checksum, Clock, Content, Incarnation, Key, Lookup, NodeId, NodeIndex, Record, Slot, Stamp,
    TableId, Ttl, Version,
};

use crate::clients::operation_of_token;
use crate::counters::Counters;
use crate::disk::Disk;

/// What one node may be asked about, at the moment of a send.
pub struct Speaker<'a> {
    pub me: NodeIndex,
    pub node: &'a Node,
    pub disk: &'a Disk,
    /// It came back without what it had acknowledged: it must keep silent.
    pub is_forgetful: bool,
    pub now: u64,
}

/// A round of an operation of a node.
type Round = (NodeIndex, Incarnation, OperationId, u32);

/// Watches one run.
pub struct Watch {
    placement: Arc<Placement>,
    /// Whether other majorities may count than those of the first members.
    members_change: bool,
    /// The nodes that may have removed what they acknowledged, because they lost a slot or gained it anew.
    emptied: BTreeSet<NodeIndex>,
    /// What each tag names.
    named: BTreeMap<(Key, Version), Checksum>,
    /// The content that each version names.
    contents: BTreeMap<(Key, Version), Content>,
    /// The time to live of each version that has one.
    ttls: BTreeMap<(Key, Version), Ttl>,
    /// Deletions because a time to live has passed: the version that each of them deletes.
    expiries: BTreeMap<(Key, Version), Version>,
    /// Those that a majority has held durably, or acknowledged, under one tag, and since when.
    expired: BTreeMap<Key, BTreeMap<Version, u64>>,
    /// Those not looked at yet, and when they were proposed.
    new_expiries: Vec<(Key, Version, u64)>,
    /// Conditional writes of clients that were not looked at yet, the versions that they were computed from, and when.
    new_writes: Vec<(Key, Applied, Version, u64)>,
    /// The conditional writes that led to each version, as far as its record remembers them.
    histories: BTreeMap<(Key, Version), Vec<Applied>>,
    /// The key that each stamp was drawn for.
    keys: BTreeMap<Stamp, Key>,
    /// The tag that each store or accept that was sent asks to keep, and the version of what is to be accepted.
    asked: BTreeMap<Round, (Key, Version, Option<Version>)>,
    /// The tables that each drop that was sent names.
    drops: BTreeMap<Round, Vec<TableId>>,
    /// Versions that clients were told of.
    told: BTreeSet<Version>,
    /// The ballots that each replica has promised for a key, when first, and the stamp of the record that it showed then.
    promised: BTreeMap<(NodeIndex, Key), BTreeMap<Ballot, (u64, Stamp)>>,
    /// The replicas that have held a record durably.
    held: BTreeMap<(Key, Version), BTreeSet<NodeIndex>>,
    /// The replicas that have acknowledged an accept. They may have replaced the record before it was durable.
    accepted: BTreeMap<(Key, Version), BTreeSet<NodeIndex>>,
    /// The greatest stamp that each replica has held durably for a key.
    stamps: BTreeMap<(NodeIndex, Key), Stamp>,
    /// The fences and seals that were asked for.
    seals: BTreeMap<Round, (Slot, Clock)>,
    /// The ballot that each prepare asks to promise.
    ballots: BTreeMap<Round, Ballot>,
    /// The operations that have drawn a ballot.
    has_prepared: BTreeSet<(NodeIndex, Incarnation, OperationId)>,
    /// The reads that went on to settle a record.
    settled: BTreeSet<(NodeIndex, Incarnation, OperationId)>,
    /// The greatest clock that each node has acknowledged or revealed, over all of its runs.
    acknowledged: Vec<Clock>,
    /// Whom each read of each node asked, and when first.
    reads: BTreeMap<(NodeIndex, Incarnation, OperationId), BTreeMap<NodeIndex, u64>>,
    /// When each node last refused something for good to a run of another one.
    refused: BTreeMap<(NodeIndex, NodeIndex, Incarnation), u64>,
}

impl Watch {
    /// Watches a cluster of the nodes of `placement`, and of so many others that may become members.
    pub fn new(placement: Arc<Placement>, joiners: usize) -> Self {
        let nodes = placement.parameters().node_ids.len() + joiners;
        Self {
            placement,
            members_change: joiners > 0,
            emptied: BTreeSet::new(),
            named: BTreeMap::new(),
            contents: BTreeMap::new(),
            ttls: BTreeMap::new(),
            expiries: BTreeMap::new(),
            expired: BTreeMap::new(),
            new_expiries: Vec::new(),
            new_writes: Vec::new(),
            histories: BTreeMap::new(),
            keys: BTreeMap::new(),
            asked: BTreeMap::new(),
            drops: BTreeMap::new(),
            told: BTreeSet::new(),
            promised: BTreeMap::new(),
            held: BTreeMap::new(),
            accepted: BTreeMap::new(),
            stamps: BTreeMap::new(),
            seals: BTreeMap::new(),
            ballots: BTreeMap::new(),
            has_prepared: BTreeSet::new(),
            settled: BTreeSet::new(),
            acknowledged: vec![Clock::default(); nodes],
            reads: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether `input` is the answer of a peer that its read asked later than others.
    pub fn answers_late_question(&self, host: NodeIndex, incarnation: Incarnation, input: &Input) -> bool {
        let Input::Peer { from, message: Message::Answer { operation, round: 0, .. }, .. } = input else {
            return false;
        };
        let Some(asked) = self.reads.get(&(host, incarnation, *operation)) else { return false };
        asked.get(from).is_some_and(|at| asked.values().any(|other| other < at))
    }

    /// A node may have removed records of slots that it lost or gained.
    pub fn may_be_emptied(&mut self, host: NodeIndex) {
        self.emptied.insert(host);
    }

    /// A machine has lost its disk, and is another member from now on.
    pub fn forget(&mut self, host: NodeIndex) {
        self.acknowledged[host.index()] = Clock::default();
        self.promised.retain(|(of, _), _| *of != host);
        self.stamps.retain(|(of, _), _| *of != host);
        for holders in self.held.values_mut().chain(self.accepted.values_mut()) {
            holders.remove(&host);
        }
    }

    /// A client was told that its write has this version.
    pub fn told(&mut self, version: &Version) {
        self.told.insert(version.clone().in_table(TableId::DEFAULT));
    }

    pub fn was_told(&self, version: &Version) -> bool {
        self.told.contains(&version.clone().in_table(TableId::DEFAULT))
    }

    /// The conditional writes that led to a version, as far as its record remembers them, and the value of the plain write
    /// that they began on.
    pub fn led_to(&self, key: &Key, version: &Version) -> (&[Applied], Option<&Content>) {
        let history = self.histories.get(&(key.clone(), version.clone()));
        let plain = Version::new(version.stamp.clone(), None);
        (history.map_or(&[], Vec::as_slice), self.contents.get(&(key.clone(), plain)))
    }

    /// The time to live of a version.
    pub fn ttl(&self, key: &Key, version: &Version) -> Option<Ttl> {
        self.ttls.get(&(key.clone(), version.clone())).copied()
    }

    /// The version that a deletion deletes because the time to live has passed.
    pub fn expired_by(&self, key: &Key, version: &Version) -> Option<&Version> {
        self.expiries.get(&(key.clone(), version.clone()))
    }

    pub fn is_expiry(&self, key: &Key, version: &Version) -> bool {
        self.expired_by(key, version).is_some()
    }

    /// The expiries of `key` that a majority has held or acknowledged, and since when.
    pub fn took_effect(&self, key: &Key) -> impl Iterator<Item = (&Version, u64)> {
        self.expired.get(key).into_iter().flatten().map(|(version, at)| (version, *at))
    }

    /// The expiries proposed since this was asked last: the key, the version that they delete, and when.
    pub fn take_new_expiries(&mut self) -> Vec<(Key, Version, u64)> {
        std::mem::take(&mut self.new_expiries)
    }

    /// The conditional writes of clients that were proposed since this was asked last.
    pub fn take_new_writes(&mut self) -> Vec<(Key, Applied, Version, u64)> {
        std::mem::take(&mut self.new_writes)
    }

    /// The content of a version.
    pub fn content(&self, key: &Key, version: &Version) -> Option<&Content> {
        self.contents.get(&(key.clone(), version.clone()))
    }

    /// Whether `replica` has refused something for good to this run of `to` since then.
    pub fn has_refused(&self, replica: NodeIndex, to: NodeIndex, incarnation: Incarnation, since: u64) -> bool {
        self.refused.get(&(replica, to, incarnation)).is_some_and(|at| *at >= since)
    }

    /// A batch goes to a disk.
    pub fn persists(&mut self, batch: &Batch, now: u64, counters: &mut Counters) -> Result<(), String> {
        for (key, (_, record)) in &batch.records {
            self.see(key, record, now)?;
        }
        if batch.epoch.is_some() && !batch.records.is_empty() {
            counters.count("a record carried an epoch");
        }
        if !batch.forgotten.is_empty() {
            counters.count("a deletion was forgotten");
        }
        Ok(())
    }

    /// A node says something.
    pub fn says(
        &mut self,
        speaker: &Speaker<'_>,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: &Message,
        counters: &mut Counters,
    ) -> Result<(), String> {
        if self.is_about_drop(speaker, to, to_incarnation, message, counters)?
            || self.is_about_seal(speaker, to, to_incarnation, message)?
        {
            return Ok(());
        }
        self.says_of_keys(speaker, to, to_incarnation, message, counters)
    }

    /// The same, where it is about no drop.
    #[allow(clippy::too_many_lines, reason = "one arm for each message")]
    fn says_of_keys(
        &mut self,
        speaker: &Speaker<'_>,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: &Message,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let Speaker { me, node, disk, is_forgetful, now } = *speaker;
        let epoch_durable = disk.folder.meta.epoch;
        match message {
            Message::Request { operation, round, request: Request::Store { key, record, .. }, .. } => {
                self.see(key, record, now)?;
                Self::is_issued_durably(speaker, &record.stamp)?;
                let issued_here = is_writer(speaker, &record.stamp);
                if issued_here && *round == 1 && self.was_told(&record.version()) {
                    counters.count("a hint was sent");
                }
                if record.proposal.is_some() {
                    self.is_chosen(speaker, key, record).map_err(|what| format!("{me:?} stores {what}"))?;
                    counters.count("a chosen record was stored");
                } else if self.has_prepared.contains(&(me, node.incarnation(), *operation)) {
                    counters.count("a plain record was stored before it was built on");
                }
                let asked = (key.clone(), tag_of(record), None);
                self.asked.insert((me, node.incarnation(), *operation, *round), asked);
            }
            Message::Request { operation, round, request: Request::Accept { key, record, .. }, .. } => {
                self.see(key, record, now)?;
                let Some(ballot) = record.tag().ballot else {
                    return Err(format!("{me:?} asks to accept a record without a ballot: {record:?}"));
                };
                Self::is_issued_durably(speaker, ballot)?;
                if record.version().tag() != record.tag() {
                    counters.count("a record was settled under a new ballot");
                }
                let asked = (key.clone(), tag_of(record), Some(record.version()));
                self.asked.insert((me, node.incarnation(), *operation, *round), asked);
            }
            Message::Request { operation, round, request: Request::Prepare { ballot, .. }, .. } => {
                Self::is_issued_durably(speaker, ballot)?;
                self.ballots.insert((me, node.incarnation(), *operation, *round), ballot.clone());
                let operation = (me, node.incarnation(), *operation);
                if self.reads.contains_key(&operation) && self.settled.insert(operation) {
                    counters.count("a record was settled for a read");
                }
                self.has_prepared.insert(operation);
            }
            Message::Request { operation, round: 0, request: Request::Get { .. }, .. } => {
                self.reads.entry((me, node.incarnation(), *operation)).or_default().entry(to).or_insert(now);
            }
            Message::Request {
                request: Request::Get { read_kind: quorate::types::ReadKind::Data, .. }, round, ..
            } if *round > 0 => {
                counters.count("a read fetched the content in a further round");
            }
            Message::Answer { .. }
                if is_forgetful && !matches!(message, Message::Answer { answer: Answer::Refused(_), .. }) =>
            {
                return Err(format!("{me:?} has forgotten what it acknowledged, and answered {message:?}"));
            }
            Message::Answer { answer: Answer::Refused(refusal), .. } if refusal.is_permanent() => {
                self.refused.extend(to_incarnation.map(|incarnation| ((me, to, incarnation), now)));
            }
            Message::Answer { answer: Answer::Clock(clock), .. } => {
                if clock.epoch > epoch_durable {
                    return Err(format!("{me:?} showed clock {clock} while its durable epoch was {epoch_durable}"));
                }
                let floor = self.acknowledged[me.index()];
                if *clock < floor {
                    return Err(format!("{me:?} showed clock {clock} after it had acknowledged {floor}"));
                }
            }
            Message::Answer { answer: Answer::Lookup { key, held, .. }, .. } => self.shows(speaker, key, held)?,
            Message::Answer { answer: Answer::Scanned(scanned), .. } => {
                for (key, digest) in &scanned.keys {
                    self.shows(speaker, key, &Lookup::Digest(digest.clone()))?;
                }
            }
            Message::Answer { operation, round, answer: Answer::Promised { key, held, .. }, .. } => {
                self.shows(speaker, key, held)?;
                let ballot =
                    to_incarnation.and_then(|incarnation| self.ballots.get(&(to, incarnation, *operation, *round)));
                let Some(ballot) = ballot.cloned() else {
                    return Err(format!("{me:?} promised to {to:?} what was never asked: {message:?}"));
                };
                let shown = held.digest().map_or_else(Stamp::none, |digest| digest.stamp);
                self.promised.entry((me, key.clone())).or_default().entry(ballot).or_insert((now, shown));
            }
            Message::Answer { answer: Answer::Preempted { .. }, .. } => counters.count("a ballot was preempted"),
            Message::Answer { operation, round, answer: Answer::Stored, .. } => {
                let asked = to_incarnation
                    .and_then(|incarnation| self.asked.get(&(to, incarnation, *operation, *round)).cloned());
                let Some((key, tag, accepted)) = asked else {
                    return Err(format!("{me:?} acknowledged to {to:?} what was never asked: {message:?}"));
                };
                // What was taken in of a slot that is emptied is acknowledged under a number that does not count.
                let is_emptied = self.emptied.contains(&me);
                if disk.folder.records.get(&key).is_some_and(|record| record.tag() > tag.tag()) {
                    counters.count("a store was superseded");
                }
                if !is_emptied {
                    self.acknowledges(speaker, &key, &tag)?;
                }
                if let Some(version) = accepted.filter(|_| !is_emptied) {
                    self.keeps_promises(speaker, &key, &tag)?;
                    self.accepted.entry((key.clone(), tag.clone())).or_default().insert(me);
                    self.note_expired(&key, tag, version, now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a message is a fence or a seal, or the acknowledgement of one, which must be durable.
    fn is_about_seal(
        &mut self,
        speaker: &Speaker<'_>,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: &Message,
    ) -> Result<bool, String> {
        let Speaker { me, node, disk, .. } = *speaker;
        match message {
            Message::Request {
                operation,
                round,
                request: Request::Fence { slot, fence: clock } | Request::Seal { slot, seal: clock },
                ..
            } => {
                self.seals.insert((me, node.incarnation(), *operation, *round), (*slot, *clock));
                Ok(true)
            }
            Message::Answer { operation, round, answer: answer @ (Answer::Stored | Answer::Fenced { .. }), .. } => {
                let asked = to_incarnation.and_then(|it| self.seals.get(&(to, it, *operation, *round)));
                let Some((slot, clock)) = asked else { return Ok(false) };
                let meta = &disk.folder.meta;
                let durable = if *answer == Answer::Stored { meta.seals.get(slot).copied() } else { meta.fence };
                if durable < Some(*clock) {
                    return Err(format!("{me:?} answered {message:?} to {clock} while {durable:?} was durable"));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether a message is a drop, or the acknowledgement of one, which must be durable.
    fn is_about_drop(
        &mut self,
        speaker: &Speaker<'_>,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: &Message,
        counters: &mut Counters,
    ) -> Result<bool, String> {
        let Speaker { me, node, disk, .. } = *speaker;
        match message {
            Message::Request { operation, round, request: Request::Drop { tables }, .. } => {
                self.drops.insert((me, node.incarnation(), *operation, *round), tables.clone());
                Ok(true)
            }
            Message::Answer { operation, round, answer: Answer::Stored, .. } => {
                let asked = to_incarnation.and_then(|it| self.drops.get(&(to, it, *operation, *round)));
                let Some(tables) = asked else { return Ok(false) };
                if let Some(table) = tables.iter().find(|table| !disk.folder.meta.dropped.contains(table)) {
                    return Err(format!("{me:?} acknowledged the drop of table {table}, which is not durable"));
                }
                counters.count("a drop was acknowledged");
                Ok(true)
            }
            Message::Answer { answer: Answer::Refused(Refusal::Dropped), .. } => {
                counters.count("a replica refused a dropped table");
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// A record became durable.
    pub fn is_durable(&mut self, host: NodeIndex, key: &Key, record: &Record, now: u64) {
        self.held.entry((key.clone(), tag_of(record))).or_default().insert(host);
        self.note_expired(key, tag_of(record), record.version(), now);
        let stamp = self.stamps.entry((host, key.clone())).or_insert_with(Stamp::none);
        *stamp = record.stamp.clone().max(std::mem::replace(stamp, Stamp::none()));
    }

    /// Notes an expiry that a majority has accepted. A replica that has a later plain write acknowledges it, and never holds it.
    fn note_expired(&mut self, key: &Key, tag: Version, version: Version, now: u64) {
        if !self.is_expiry(key, &version) {
            return;
        }
        let names = (key.clone(), tag);
        let sets = [self.held.get(&names), self.accepted.get(&names)];
        let acceptors: BTreeSet<&NodeIndex> = sets.into_iter().flatten().flatten().collect();
        if acceptors.len() >= majority(self.placement.replicas(self.placement.slot(key)).len()) {
            self.expired.entry(key.clone()).or_default().entry(version).or_insert(now);
        }
    }

    /// A replica shows what it holds.
    fn shows(&mut self, speaker: &Speaker<'_>, key: &Key, held: &Lookup) -> Result<(), String> {
        if let Lookup::Record(record) = held {
            self.see(key, record, speaker.now)?;
        }
        let Some(digest) = held.digest() else { return Ok(()) };
        let tag = Version::new(digest.stamp.clone(), digest.tag().ballot.cloned());
        self.acknowledges(speaker, key, &tag)
    }

    /// Acknowledged or revealed: it must be durable, and the clock not below it.
    fn acknowledges(&mut self, speaker: &Speaker<'_>, key: &Key, tag: &Version) -> Result<(), String> {
        let Speaker { me, node, disk, .. } = *speaker;
        let durable = disk.folder.records.get(key).map(Record::tag);
        // What it read before, or acknowledges together with the drop, may be removed since.
        let seal = disk.folder.meta.seals.get(&self.placement.slot(key));
        let may_be_forgotten = seal.is_some_and(|seal| tag.stamp < Stamp::of_absence(*seal));
        let is_removed = durable.is_none() && disk.folder.meta.dropped.contains(&key.table()) || may_be_forgotten;
        let is_removed = is_removed || self.emptied.contains(&me);
        if !is_removed && durable.is_none_or(|durable| durable < tag.tag()) {
            return Err(format!("{me:?} answered {tag} of {key} while {durable:?} was durable"));
        }
        let clock = tag.tag().clock();
        if node.clock() < clock {
            return Err(format!("{me:?} answered {tag} of {key} while its clock was {}", node.clock()));
        }
        let floor = &mut self.acknowledged[me.index()];
        *floor = clock.max(*floor);
        Ok(())
    }

    /// No record is accepted below a ballot that was promised before. Promises and acknowledgements of one turn have no
    /// order that others could see.
    fn keeps_promises(&self, speaker: &Speaker<'_>, key: &Key, tag: &Version) -> Result<(), String> {
        let Speaker { me, now, .. } = *speaker;
        // An acknowledgement may be repeated: the promise has shown the record.
        if self.accepted.get(&(key.clone(), tag.clone())).is_some_and(|accepted| accepted.contains(&me)) {
            return Ok(());
        }
        let Some(promised) = self.promised.get(&(me, key.clone())) else { return Ok(()) };
        let above = promised.iter().rev().take_while(|(ballot, _)| Some(*ballot) > tag.ballot.as_ref());
        for (ballot, (at, shown)) in above {
            // A later plain write may have replaced the record before it was stored, and stands above it in the order. It is
            // enough that the promise has shown that write, or the one after it.
            if *at < now && *shown <= tag.stamp {
                return Err(format!("{me:?} accepted {tag} of {key} although it had promised {ballot}"));
            }
        }
        Ok(())
    }

    /// A majority has accepted the record, or has records of later plain writes. What the own replica of its node has
    /// acknowledged is not seen, but what it has replaced the record by.
    fn is_chosen(&self, speaker: &Speaker<'_>, key: &Key, record: &Record) -> Result<(), String> {
        if self.members_change {
            return Ok(());
        }
        let tag = tag_of(record);
        let names = (key.clone(), tag.clone());
        let (held, acknowledged) = (self.held.get(&names), self.accepted.get(&names));
        let replicas = self.placement.replicas(self.placement.slot(key));
        let own = speaker.disk.folder.records.get(key).filter(|own| own.tag() > tag.tag());
        let accepted = replicas.iter().filter(|replica| {
            [held, acknowledged].into_iter().flatten().any(|set| set.contains(replica))
                || (**replica == speaker.me && own.is_some())
                || self.stamps.get(&(**replica, key.clone())).is_some_and(|stamp| *stamp > record.stamp)
        });
        let accepted = accepted.count();
        if accepted > replicas.len() / 2 {
            return Ok(());
        }
        Err(format!("{tag} of {key}, which {accepted} of {} replicas have accepted", replicas.len()))
    }

    /// What this node has issued, it has issued in a durable epoch.
    fn is_issued_durably(speaker: &Speaker<'_>, stamp: &Stamp) -> Result<(), String> {
        let Speaker { me, disk, .. } = *speaker;
        let issued_here = is_writer(speaker, stamp);
        if issued_here && stamp.clock.epoch > disk.folder.meta.epoch {
            return Err(format!("{me:?} sent {stamp} before its epoch was durable"));
        }
        Ok(())
    }

    /// Notes what a deletion deletes that a node proposed by itself.
    fn see_expiry(&mut self, names: &(Key, Version), record: &Record, now: u64) {
        let Some(proposal) = record.proposal.as_deref().filter(|_| record.content == Content::Tombstone) else {
            return;
        };
        let [before @ .., last] = &*proposal.recent else { return };
        // The end of a drop deletes a name, whatever time passed.
        let is_name = names.0.table() == TableId::NAMES;
        if is_of_node(last) && !is_name && !self.expiries.contains_key(names) {
            let deleted = before.last().map_or(&proposal.recent_floor, |applied| &applied.version);
            self.expiries.insert(names.clone(), deleted.clone());
            self.new_expiries.push((names.0.clone(), deleted.clone(), now));
        }
    }

    /// Notes a conditional write of a client.
    fn see_write(&mut self, names: &(Key, Version), record: &Record, now: u64) {
        let Some(proposal) = record.proposal.as_deref().filter(|_| !self.histories.contains_key(names)) else { return };
        let [before @ .., last] = &*proposal.recent else { return };
        if !is_of_node(last) && last.version == names.1 {
            let base = before.last().map_or(&proposal.recent_floor, |applied| &applied.version);
            self.new_writes.push((names.0.clone(), last.clone(), base.clone(), now));
        }
    }

    /// One stamp belongs to one key, one tag names one record, and one version one content.
    fn see(&mut self, key: &Key, record: &Record, now: u64) -> Result<(), String> {
        let tag = tag_of(record);
        for stamp in [Some(&tag.stamp), tag.ballot.as_ref()].into_iter().flatten().filter(|stamp| !stamp.is_none()) {
            let is_first = self.placement.parameters().member(&stamp.writer).is_some();
            let is_later = self.members_change && NodeId::of_writer(stamp.writer.as_str()).is_ok();
            if !(is_first || is_later) {
                return Err(format!("nobody is called {}", stamp.writer));
            }
            let of = self.keys.entry(stamp.clone()).or_insert_with(|| key.clone());
            if of != key {
                return Err(format!("{stamp} was drawn for {of} and for {key}"));
            }
        }
        let checksum = self.named.entry((key.clone(), tag.clone())).or_insert(record.checksum);
        if *checksum != record.checksum {
            return Err(format!("{tag} names two records of {key}"));
        }
        let version = record.version();
        let names = (key.clone(), version.clone());
        if let Some(ttl) = record.ttl {
            let known = *self.ttls.entry(names.clone()).or_insert(ttl);
            if known != ttl {
                return Err(format!("version {version} of {key} has two times to live"));
            }
        }
        self.see_expiry(&names, record, now);
        self.see_write(&names, record, now);
        let history = self.histories.entry(names).or_insert_with(|| record.digest().history().0);
        if *history != record.digest().history().0 {
            return Err(format!("version {version} of {key} has two histories"));
        }
        let content = self.contents.entry((key.clone(), version.clone())).or_insert_with(|| record.content.clone());
        if *content != record.content {
            return Err(format!("version {version} of {key} names {content:?} and {:?}", record.content));
        }
        Ok(())
    }
}

/// Whether a stamp was drawn by the one who speaks.
fn is_writer(speaker: &Speaker<'_>, stamp: &Stamp) -> bool {
    stamp.writer == *speaker.node.layout().writer(speaker.node.me())
}

/// Whether no client, but a node, has asked for it.
fn is_of_node(applied: &Applied) -> bool {
    operation_of_token(applied.token).is_none()
}

/// A record's tag.
fn tag_of(record: &Record) -> Version {
    Version::new(record.stamp.clone(), record.tag().ballot.cloned())
}
