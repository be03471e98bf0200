//! One file for each operation.

pub mod get;
pub mod set;
