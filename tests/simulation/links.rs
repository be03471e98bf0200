//! Which node hears which, and what each node's transport was told of its links.

use quorate::types::NodeIndex;

/// The links of all ordered pairs of nodes.
pub struct Links {
    nodes: usize,
    /// How many cuts keep messages from passing.
    cuts: Vec<u32>,
    /// The last that the sender's transport was told, or will be.
    linked: Vec<bool>,
    /// When it was told, or will be: what it is told has an order.
    told_at: Vec<u64>,
    /// What is sent before this time is lost: a link that broke takes what is on its way with it.
    broke_at: Vec<u64>,
    /// What a node sends until then is late.
    pub slow_until: Vec<u64>,
    /// Much is lost until then.
    pub loss_until: u64,
}

impl Links {
    pub fn new(nodes: usize) -> Self {
        let pairs = nodes * nodes;
        Self {
            nodes,
            cuts: vec![0; pairs],
            linked: vec![false; pairs],
            told_at: vec![0; pairs],
            broke_at: vec![0; pairs],
            slow_until: vec![0; nodes],
            loss_until: 0,
        }
    }

    pub fn cut(&mut self, from: NodeIndex, to: NodeIndex) {
        let pair = self.pair(from, to);
        self.cuts[pair] += 1;
    }

    pub fn heal(&mut self, from: NodeIndex, to: NodeIndex) {
        let pair = self.pair(from, to);
        self.cuts[pair] = self.cuts[pair].saturating_sub(1);
    }

    pub fn heal_all(&mut self) {
        self.cuts.fill(0);
        self.slow_until.fill(0);
        self.loss_until = 0;
    }

    pub fn passes(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.cuts[self.pair(from, to)] == 0
    }

    pub fn is_linked(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.linked[self.pair(from, to)]
    }

    /// The transport of `from` is to be told that its link to `to` is up or down, not before `at`: says when.
    pub fn tell(&mut self, from: NodeIndex, to: NodeIndex, up: bool, at: u64) -> u64 {
        let pair = self.pair(from, to);
        self.linked[pair] = up;
        self.told_at[pair] = at.max(self.told_at[pair] + 1);
        self.told_at[pair]
    }

    /// `host` died, and with it what its transport was told.
    pub fn forget(&mut self, host: NodeIndex) {
        let first = host.index() * self.nodes;
        self.linked[first..first + self.nodes].fill(false);
    }

    pub fn break_now(&mut self, from: NodeIndex, to: NodeIndex, now: u64) {
        let pair = self.pair(from, to);
        self.broke_at[pair] = now;
    }

    /// Whether what was sent at `sent_at` was lost with the link.
    pub fn lost_since(&self, from: NodeIndex, to: NodeIndex, sent_at: u64) -> bool {
        sent_at < self.broke_at[self.pair(from, to)]
    }

    fn pair(&self, from: NodeIndex, to: NodeIndex) -> usize {
        from.index() * self.nodes + to.index()
    }
}
