//! What nodes say to each other to change members.

use std::sync::Arc;

use crate::types::{Clock, Configuration, Key, NodeId, Slot, TableId, VoteBallot};

/// A question to a member. It is asked under a configuration, and is about that one or its successor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MembersRequest {
    /// Asks for the promise to accept no successor under a smaller ballot (Paxos, phase 1).
    Prepare {
        /// The ballot.
        ballot: VoteBallot,
    },
    /// Asks to accept a successor (Paxos, phase 2).
    Accept {
        /// The ballot.
        ballot: VoteBallot,
        /// The successor.
        configuration: Arc<Configuration>,
    },
    /// Asks for what must be known before a gained slot is served.
    Floors {
        /// Only the dropped tables above this one.
        after: TableId,
    },
    /// Asks for the first records of the slots that the asker takes over and the one who is asked holds.
    Records {
        /// Only those after this key of this slot.
        after: Option<(Slot, Key)>,
    },
    /// Asks how far the slots are taken over.
    Progress,
}

/// The answer of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MembersAnswer {
    /// It has promised; this is what it accepted before, and under which ballot.
    Promised {
        /// What it accepted.
        accepted: Option<(VoteBallot, Arc<Configuration>)>,
    },
    /// It has accepted the successor.
    Accepted,
    /// It has promised a greater ballot.
    Preempted {
        /// That ballot.
        promised: VoteBallot,
    },
    /// What must be known before a gained slot is served.
    Floors {
        /// The clock up to which it takes in no new writes.
        fence: Option<Clock>,
        /// Tables that were dropped, in the order of their ids.
        dropped: Vec<TableId>,
        /// Whether there are more above the last of them.
        has_more: bool,
    },
    /// Records, and the seals of their slots.
    Records(TakeoverPage),
    /// How far it has taken over what it must.
    Progress(Progress),
}

/// The first records of some slots, in the order of slots and then of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TakeoverPage {
    /// The records: slot, key, and a hash of the record.
    pub records: Vec<(Slot, Key, u64)>,
    /// Everything up to here is in the page; absent where nothing follows.
    pub looked_to: Option<(Slot, Key)>,
    /// The seals of those slots that the page has looked at.
    pub seals: Vec<(Slot, Clock)>,
}

/// How far a node has taken over the slots that it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Progress {
    /// Whether nothing is left to do.
    pub is_complete: bool,
    /// How many slots it takes over.
    pub slots: u32,
    /// How many of them are there.
    pub slots_done: u32,
    /// How many keys it has looked at.
    pub keys: u64,
    /// How many bytes of keys and values it has got.
    pub bytes: u64,
}

/// A list of members that an operator wishes for. The node that is asked finds the data folders.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WishedMembers {
    /// The number of members that are to hold each slot.
    pub replica_count: usize,
    /// The members, in any order.
    pub members: Vec<WishedMember>,
}

/// A member that an operator wishes for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WishedMember {
    /// Its id.
    pub id: NodeId,
    /// Where it is reached, `host:port`.
    pub address: Arc<str>,
    /// Its data folder. Without it, that of the member with this id stays, and a node that is new is the one that waits.
    pub store_id: Option<crate::types::StoreId>,
    /// Its weight and zone.
    pub site: crate::types::Site,
}

impl TakeoverPage {
    /// Its size in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// A slot, a hash, and framing.
        const RECORD: usize = 16;
        /// A slot, a clock, and framing.
        const SEAL: usize = 24;
        let records = self.records.iter().map(|(_, key, _)| RECORD + key.as_bytes().len());
        records.sum::<usize>() + self.seals.len() * SEAL
    }
}

/// The size of a configuration in a message in bytes, about.
#[must_use]
pub fn configuration_bytes(configuration: &Configuration) -> usize {
    /// A store id, a number, a weight, and framing.
    const MEMBER: usize = 48;
    let members = configuration.old.members.iter().chain(configuration.new.iter().flat_map(|new| &new.members));
    let zone = |member: &crate::types::Member| member.site.zone.as_ref().map_or(0, |zone| zone.as_str().len());
    members.map(|member| MEMBER + member.id.as_str().len() + member.address.len() + zone(member)).sum()
}

impl MembersRequest {
    /// Its size in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Accept { configuration, .. } => configuration_bytes(configuration),
            Self::Records { after: Some((_, key)) } => key.as_bytes().len(),
            Self::Records { after: None } | Self::Prepare { .. } | Self::Floors { .. } | Self::Progress => 0,
        }
    }
}

impl MembersAnswer {
    /// Its size in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Promised { accepted: Some((_, configuration)) } => configuration_bytes(configuration),
            Self::Records(page) => page.bytes(),
            Self::Floors { dropped, .. } => dropped.len() * size_of::<TableId>(),
            Self::Promised { accepted: None } | Self::Accepted | Self::Preempted { .. } | Self::Progress(_) => 0,
        }
    }
}
