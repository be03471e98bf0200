//! Who may do what: tokens, rights, and the decision.
//!
//! Contract: nothing here waits, reads a clock or knows a protocol. A secret is never part of a text that is shown: `Debug`
//! leaves it out, and a cluster keeps its hash alone.
//!
//! | file | holds |
//! |---|---|
//! | `token` | a token, its text, and the hash that is kept of it |
//! | `rights` | what somebody was given, what a method needs, and whether the one covers the other |
//! | `holders` | everybody who has rights, as one record of a system table |

#[cfg(feature = "server")]
mod holders;
mod rights;
mod token;

#[cfg(feature = "server")]
pub use holders::{CERTIFICATE_NAME_BYTES_MAX, Holder, Holders, HoldersError, NAME_BYTES_MAX, Proof, RECORD_BYTES_MAX};
pub use rights::{GRANTS_MAX, Grant, GrantError, Needs, Right, Target, allows};
pub use token::{SecretHash, Token, TokenError, TokenId};
