//! The state of an operation, whichever it is.

use std::borrow::{Borrow, BorrowMut};
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use super::cas::Cas;
use super::get::Get;
use super::get_one::GetOne;
use super::get_with::GetWith;
use super::mend::Mend;
use super::operation::{Next, Operation};
use super::set::Set;

macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident as $kept:ty,)*) => {
        /// The state of any operation.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum OperationState {
            $($(#[$doc])* $operation($kept),)*
        }

        impl Deref for OperationState {
            type Target = dyn Operation;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$operation(operation) => Borrow::<$operation>::borrow(operation),)*
                }
            }
        }

        impl DerefMut for OperationState {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$operation(operation) => BorrowMut::<$operation>::borrow_mut(operation),)*
                }
            }
        }

        $(impl From<$operation> for OperationState {
            fn from(operation: $operation) -> Self {
                Self::$operation(operation.into())
            }
        })*
    };
}

operations! {
    /// A linearizable read.
    Get as Get,
    /// A read of one replica.
    GetOne as GetOne,
    /// A linearizable read that counts the answers of certain replicas.
    GetWith as Box<GetWith>,
    /// A linearizable read that brings its answer to the replicas that lack it.
    Mend as Box<Mend>,
    /// A linearizable write or delete.
    Set as Set,
    /// A linearizable conditional write.
    Cas as Box<Cas>,
}

impl From<Next> for OperationState {
    fn from(next: Next) -> Self {
        match next {
            Next::Get => Get::default().into(),
            Next::Settle => Cas::settling(BTreeSet::new()).into(),
            Next::SettleWith(tellers) => Cas::settling(tellers).into(),
            Next::Lift => Cas::settling(BTreeSet::new()).lifting().into(),
        }
    }
}
