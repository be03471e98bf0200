//! What must hold at every moment, whatever histories say: watches disks, messages and replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate::protocol::placement::Placement;
use quorate::protocol::{Answer, Input, Message, Node, OperationId, Request};
use quorate::types::{Batch, Checksum, Clock, Incarnation, Key, Lookup, NodeIndex, Record, Stamp};

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

/// Watches one run.
pub struct Watch {
    placement: Arc<Placement>,
    /// What each stamp names.
    named: BTreeMap<(Clock, NodeIndex), (Key, Checksum)>,
    /// What each store that was sent asks to keep.
    asked: BTreeMap<(NodeIndex, Incarnation, OperationId, u32), (Key, Stamp)>,
    /// Stamps that clients were told of.
    told: BTreeSet<(Clock, NodeIndex)>,
    /// The greatest clock that each node has acknowledged or revealed, over all of its runs.
    acknowledged: Vec<Clock>,
    /// Whom each read of each node asked, and when first.
    reads: BTreeMap<(NodeIndex, Incarnation, OperationId), BTreeMap<NodeIndex, u64>>,
    /// When each node last refused something for good to a run of another one.
    refused: BTreeMap<(NodeIndex, NodeIndex, Incarnation), u64>,
}

impl Watch {
    pub fn new(placement: Arc<Placement>) -> Self {
        let nodes = placement.parameters().node_ids.len();
        Self {
            placement,
            named: BTreeMap::new(),
            asked: BTreeMap::new(),
            told: BTreeSet::new(),
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

    /// A client was told of this stamp.
    pub fn told(&mut self, stamp: &Stamp) -> Result<(), String> {
        let name = self.name(stamp)?;
        self.told.insert(name);
        Ok(())
    }

    pub fn was_told(&self, stamp: &Stamp) -> bool {
        self.name(stamp).is_ok_and(|name| self.told.contains(&name))
    }

    /// Whether `replica` has refused something for good to this run of `to` since then.
    pub fn has_refused(&self, replica: NodeIndex, to: NodeIndex, incarnation: Incarnation, since: u64) -> bool {
        self.refused.get(&(replica, to, incarnation)).is_some_and(|at| *at >= since)
    }

    /// A batch goes to a disk.
    pub fn persists(&mut self, batch: &Batch, counters: &mut Counters) -> Result<(), String> {
        for (key, (_, record)) in &batch.records {
            self.see(key, record)?;
        }
        if batch.epoch.is_some() && !batch.records.is_empty() {
            counters.count("a record carried an epoch");
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
        let Speaker { me, node, disk, is_forgetful, now } = *speaker;
        let epoch_durable = disk.folder.meta.epoch;
        match message {
            Message::Request { operation, round, request: Request::Store { key, record } } => {
                self.see(key, record)?;
                let issued_here = record.stamp.writer == *self.placement.parameters().id(me);
                if issued_here && record.stamp.clock.epoch > epoch_durable {
                    return Err(format!("{me:?} sent {} before its epoch was durable", record.stamp));
                }
                if issued_here && *round == 1 && self.was_told(&record.stamp) {
                    counters.count("a hint was sent");
                }
                self.asked.insert((me, node.incarnation(), *operation, *round), (key.clone(), record.stamp.clone()));
            }
            Message::Request { operation, round: 0, request: Request::Get { .. } } => {
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
            Message::Answer { answer: Answer::Lookup { key, held }, .. } => {
                if let Lookup::Record(record) = held {
                    self.see(key, record)?;
                }
                if let Some(digest) = held.digest() {
                    self.acknowledges(speaker, key, &digest.stamp)?;
                }
            }
            Message::Answer { operation, round, answer: Answer::Stored } => {
                let asked = to_incarnation
                    .and_then(|incarnation| self.asked.get(&(to, incarnation, *operation, *round)).cloned());
                let Some((key, stamp)) = asked else {
                    return Err(format!("{me:?} acknowledged to {to:?} what was never asked: {message:?}"));
                };
                if disk.folder.records.get(&key).is_some_and(|record| record.stamp > stamp) {
                    counters.count("a store was superseded");
                }
                self.acknowledges(speaker, &key, &stamp)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Acknowledged or revealed: it must be durable, and the clock not below it.
    fn acknowledges(&mut self, speaker: &Speaker<'_>, key: &Key, stamp: &Stamp) -> Result<(), String> {
        let Speaker { me, node, disk, .. } = *speaker;
        let durable = disk.folder.records.get(key).map(|record| &record.stamp);
        if durable.is_none_or(|durable| durable < stamp) {
            return Err(format!("{me:?} answered {stamp} of {key} while {durable:?} was durable"));
        }
        if node.clock() < stamp.clock {
            return Err(format!("{me:?} answered {stamp} of {key} while its clock was {}", node.clock()));
        }
        let floor = &mut self.acknowledged[me.index()];
        *floor = stamp.clock.max(*floor);
        Ok(())
    }

    /// One stamp names one record.
    fn see(&mut self, key: &Key, record: &Record) -> Result<(), String> {
        let name = self.name(&record.stamp)?;
        let (named_key, checksum) = self.named.entry(name).or_insert_with(|| (key.clone(), record.checksum));
        if named_key != key || *checksum != record.checksum {
            return Err(format!("{} names a record of {named_key} and another one of {key}", record.stamp));
        }
        Ok(())
    }

    fn name(&self, stamp: &Stamp) -> Result<(Clock, NodeIndex), String> {
        let member = self.placement.parameters().member(&stamp.writer);
        member.map(|member| (stamp.clock, member)).ok_or_else(|| format!("nobody is called {}", stamp.writer))
    }
}
