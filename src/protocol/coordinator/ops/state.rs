//! The state of an operation, whichever it is.

use std::ops::{Deref, DerefMut};

use super::cas::Cas;
use super::get::Get;
use super::get_one::GetOne;
use super::operation::{Next, Operation};
use super::set::Set;

macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident,)*) => {
        /// The state of any operation.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum OperationState {
            $($(#[$doc])* $operation($operation),)*
        }

        impl Deref for OperationState {
            type Target = dyn Operation;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$operation(operation) => operation,)*
                }
            }
        }

        impl DerefMut for OperationState {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$operation(operation) => operation,)*
                }
            }
        }

        $(impl From<$operation> for OperationState {
            fn from(operation: $operation) -> Self {
                Self::$operation(operation)
            }
        })*
    };
}

operations! {
    /// A linearizable read.
    Get,
    /// A read of one replica.
    GetOne,
    /// A linearizable write or delete.
    Set,
    /// A linearizable conditional write.
    Cas,
}

impl From<Next> for OperationState {
    fn from(next: Next) -> Self {
        match next {
            Next::Get => Get::default().into(),
            Next::Settle => Cas::settling().into(),
        }
    }
}
