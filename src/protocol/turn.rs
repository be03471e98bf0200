//! One turn of a node's event loop, as a pure function of the node, its inputs and the reads that memory answers.
//!
//! Contract: a turn handles all inputs that wait and rings the timer if it is due. It answers the reads that memory can
//! answer, and lets [`Node::flush`] begin what the inputs share: a clock round and a batch. Its outputs come in the order
//! in which they are to be applied: persist, read from the disk, send, reply. Events stand among the sends.
//!
//! The protocol does not need this order for safety: a node says what must be durable only after [`Input::Persisted`]. The
//! order keeps the disk busy first, because it takes longest, and clients last, because nobody waits for what they do next.
//!
//! The server, the simulation, the model, the regressions and the benchmark all take their turns here, so that the loop
//! that ships is the loop that is checked.

use std::sync::Arc;

use crate::types::{
    Batch, Expiry, Found, Incarnation, Key, KeyRange, NodeIndex, ReadKind, RunningTime, Slot, SlotRange, TableId,
};

use super::io::{Effect, Input, ProtocolEvent, ReadId, Reply, RequestId, Time};
use super::message::Message;
use super::news::{WatchId, WatchNews};
use super::node::Node;

/// The link between two nodes that a message leaves on. Each of the two opens one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// The link that this node opened. It leads to the incarnation that this node has met there.
    Opened,
    /// The link that this incarnation of the peer opened.
    Accepted(Incarnation),
}

/// The answer of memory to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryRead {
    /// Memory holds the answer.
    Done(Found),
    /// The store cannot be read.
    Failed,
    /// The answer is not in memory: the read goes to the disk.
    WouldBlock,
}

/// A thing that the owner of a node does for it after a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make this batch durable, and answer with [`Input::Persisted`]. One batch at a time is at the disk.
    Persist(Arc<Batch>),
    /// Read from the disk, and answer with [`Input::ReadDone`].
    Read {
        /// Names the answer.
        read: ReadId,
        /// The slot of the key.
        slot: Slot,
        /// The key to read.
        key: Key,
        /// Whether a digest is enough.
        kind: ReadKind,
    },
    /// Read the first keys of a range from the index, and answer with [`Input::ScanDone`].
    Scan {
        /// Names the answer.
        read: ReadId,
        /// The range.
        range: KeyRange,
        /// The most keys to read.
        keys_max: usize,
    },
    /// Read the first records of some slots, and answer with [`Input::SlotsRead`].
    ReadSlots {
        /// Names the answer.
        read: ReadId,
        /// The slots.
        range: SlotRange,
        /// The most records to read.
        entries_max: usize,
    },
    /// Read from the index of expiries, and answer with [`Input::ExpiriesRead`]. One such read at a time is at the disk.
    ReadExpiries {
        /// No entry is read that expires before.
        from: RunningTime,
        /// Only entries after this one are read.
        after: Option<Expiry>,
        /// The most entries that are read.
        entries_max: usize,
    },
    /// Count the bytes of a table, and answer with [`Input::Measured`]. One such task at a time is at the disk.
    Measure {
        /// The table.
        table: TableId,
    },
    /// Remove records of a dropped table, and answer with [`Input::Cleaned`]. One such task at a time is at the disk.
    Clean {
        /// The table.
        table: TableId,
        /// The most records to remove.
        entries_max: usize,
    },
    /// Send this message. It may be lost, repeated or late.
    Send {
        /// The receiver.
        to: NodeIndex,
        /// The link that it leaves on.
        link: Link,
        /// The receiver's incarnation; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// The message.
        message: Message,
    },
    /// Count or log this.
    Event(ProtocolEvent),
    /// Answer a client.
    Reply {
        /// The client's request.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Tell watches of an event.
    Watch {
        /// The watches.
        to: Vec<WatchId>,
        /// The event.
        news: WatchNews,
    },
}

/// A turn that has begun: [`Turn::input`] for each input, then [`Turn::end`].
#[derive(Debug)]
pub struct Turn<'a> {
    node: &'a mut Node,
    effects: Vec<Effect>,
    outputs: Outputs,
}

/// The outputs so far, by their place in the order.
#[derive(Debug, Default)]
struct Outputs {
    persist: Vec<Output>,
    reads: Vec<Output>,
    sends: Vec<Output>,
    replies: Vec<Output>,
}

impl<'a> Turn<'a> {
    /// A turn of `node` without any input yet.
    #[must_use]
    pub fn new(node: &'a mut Node) -> Self {
        Self { node, effects: Vec::new(), outputs: Outputs::default() }
    }

    /// Handles one input. Returns the node after it, and the effects that follow from it, for those that watch.
    pub fn input(&mut self, now: Time, input: Input) -> (&Node, &[Effect]) {
        let before = self.effects.len();
        self.node.handle(now, input, &mut self.effects);
        (self.node, &self.effects[before..])
    }

    /// Ends the turn. `memory` answers reads without waiting.
    pub fn end(mut self, now: Time, mut memory: impl FnMut(Slot, &Key, ReadKind) -> MemoryRead) -> Vec<Output> {
        // A timer that is due rings here, because the owner's own may never ring while inputs keep coming.
        if self.node.next_wake().is_some_and(|wake| wake <= now) {
            self.node.handle(now, Input::Wake, &mut self.effects);
        }
        self.sort(now, &mut memory);
        self.node.flush(now, &mut self.effects);
        // A flush may begin reads too: the own replica compares before it stores. Their outputs are flushed as well.
        while self.sort(now, &mut memory) {
            self.node.flush(now, &mut self.effects);
        }
        let Outputs { persist: mut outputs, mut reads, mut sends, mut replies } = self.outputs;
        outputs.reserve_exact(reads.len() + sends.len() + replies.len());
        outputs.append(&mut reads);
        outputs.append(&mut sends);
        outputs.append(&mut replies);
        outputs
    }

    /// Gives each effect its place among the outputs, and answers reads, until no effect is left. Says whether there were
    /// any reads.
    fn sort(&mut self, now: Time, memory: &mut impl FnMut(Slot, &Key, ReadKind) -> MemoryRead) -> bool {
        let mut any_read = false;
        let mut effects = Vec::new();
        while !self.effects.is_empty() {
            // Reads that are answered have further effects. Two vectors change places, so that neither grows anew.
            std::mem::swap(&mut effects, &mut self.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Persist(batch) => self.outputs.persist.push(Output::Persist(batch)),
                    Effect::Read { read, slot, key, kind } => {
                        any_read = true;
                        let lookup = match memory(slot, &key, kind) {
                            MemoryRead::Done(lookup) => Some(lookup),
                            MemoryRead::Failed => None,
                            MemoryRead::WouldBlock => {
                                self.outputs.reads.push(Output::Read { read, slot, key, kind });
                                continue;
                            }
                        };
                        self.node.handle(now, Input::ReadDone { read, lookup }, &mut self.effects);
                    }
                    Effect::Scan { read, range, keys_max } => {
                        self.outputs.reads.push(Output::Scan { read, range, keys_max });
                    }
                    Effect::ReadSlots { read, range, entries_max } => {
                        self.outputs.reads.push(Output::ReadSlots { read, range, entries_max });
                    }
                    Effect::ReadExpiries { from, after, entries_max } => {
                        self.outputs.reads.push(Output::ReadExpiries { from, after, entries_max });
                    }
                    Effect::Measure { table } => self.outputs.reads.push(Output::Measure { table }),
                    Effect::Clean { table, entries_max } => {
                        self.outputs.reads.push(Output::Clean { table, entries_max });
                    }
                    Effect::Send { to, to_incarnation, message } => {
                        let link = link_for(self.node, to, to_incarnation, &message);
                        self.outputs.sends.push(Output::Send { to, link, to_incarnation, message });
                    }
                    Effect::ProtocolEvent(event) => self.outputs.sends.push(Output::Event(event)),
                    Effect::Reply { id, reply } => self.outputs.replies.push(Output::Reply { id, reply }),
                    Effect::Watch { to, news } => self.outputs.replies.push(Output::Watch { to, news }),
                }
            }
        }
        self.effects = effects;
        any_read
    }
}

/// The link that `message` leaves on. Answers share batches with requests where the opened link leads to the incarnation
/// that asked. Any other incarnation is answered on the link that it opened itself.
fn link_for(node: &Node, to: NodeIndex, to_incarnation: Option<Incarnation>, message: &Message) -> Link {
    match (message, to_incarnation) {
        (Message::Hello(_) | Message::Request { .. }, _) | (_, None) => Link::Opened,
        (Message::Answer { .. } | Message::Configuration(_) | Message::ConfigurationWanted, Some(_))
            if node.talking_to(to) == to_incarnation =>
        {
            Link::Opened
        }
        (_, Some(incarnation)) => Link::Accepted(incarnation),
    }
}
