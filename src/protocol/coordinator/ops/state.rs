//! The state of an operation, whichever it is.

use std::ops::{Deref, DerefMut};

use super::get::Get;
use super::operation::Operation;
use super::set::Set;

/// The state of any operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// A linearizable read.
    Get(Get),
    /// A linearizable write or delete.
    Set(Set),
}

impl Deref for OperationState {
    type Target = dyn Operation;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Get(get) => get,
            Self::Set(set) => set,
        }
    }
}

impl DerefMut for OperationState {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Get(get) => get,
            Self::Set(set) => set,
        }
    }
}
