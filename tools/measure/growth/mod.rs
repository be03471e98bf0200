//! How placement behaves as a cluster gets more nodes, and how a cluster behaves as it gets more data: `make growth`.

pub mod fill;
mod nodes;
pub mod placement;
pub mod run;
mod summary;
mod tally;
