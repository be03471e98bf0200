//! A vote under way: the state of `vote`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::protocol::io::Time;
use crate::protocol::message::OperationId;
use crate::types::{Configuration, NodeIndex, VoteBallot};

/// A vote that this node runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposal {
    pub(super) id: OperationId,
    /// The number of the question. Answers to earlier ones do not count.
    pub(super) round: u32,
    pub(super) ballot: VoteBallot,
    /// What this node would have.
    pub(super) wanted: Arc<Configuration>,
    pub(super) stage: Stage,
    /// When those are asked again that have not answered, or when the next try begins.
    pub(super) again_at: Time,
    /// When this node gives up.
    pub(super) deadline: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Asks for promises.
    Prepare { promised: BTreeSet<NodeIndex>, accepted: Option<(VoteBallot, Arc<Configuration>)> },
    /// Asks to accept this configuration.
    Accept { configuration: Arc<Configuration>, by: BTreeSet<NodeIndex> },
    /// Another proposer was first. It tries again later.
    Pause,
}
