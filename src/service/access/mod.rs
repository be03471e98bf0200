//! Who may do what.
//!
//! Contract: where authorization is on, an operation runs only if its caller has an identity whose grants allow it. A gateway
//! says who calls ([`acting`]); the service asks, once for every gateway ([`Gate::allow`]). A caller who was not named has no
//! identity: an operation that nobody spoke for is refused.
//!
//! Revocation: the record of a token is read linearizably, and used again for [`FRESH_TIME`] from the beginning of that read.
//! So a token that was revoked is refused everywhere [`FRESH_TIME`] later at the latest. A node that reaches no majority goes
//! on with what it knows for [`STALE_TIME_MAX`].

mod token;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Code;
use tracing::warn;

use crate::log_limit::LogLimit;
use crate::runtime::{NodeHandle, RequestError};
use crate::tls::{Caller, Channel, Name};
use crate::types::{Content, Grant, Right, Table};
use crate::wire::failure::FailureReason;

use super::error::ServiceError;
pub(crate) use token::{GRANTS_MAX, LABEL_BYTES_MAX, LOCAL_ID, Token, TokenRecord, key_of, of_certificate};

/// How long a record is used again.
pub(crate) const FRESH_TIME: Duration = Duration::from_secs(1);
/// How long a node goes on with a record that it cannot read again.
pub(crate) const STALE_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a read of a record may take.
const READ_TIME_MAX: Duration = Duration::from_millis(900);
/// The most identities that a node remembers. One that comes later takes the place of the one that was read the longest ago.
const REMEMBERED_MAX: usize = 4_096;

static REFUSAL_LINES: LogLimit = LogLimit::new(10, Duration::from_secs(10));

tokio::task_local! {
    static CALLER: Arc<Credentials>;
}

/// How a caller proves who it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    pub(crate) address: Option<SocketAddr>,
    /// The name of the client in its certificate.
    certificate: Option<String>,
    /// `Some(None)` for a text that is no token.
    token: Option<Option<Token>>,
}

impl Credentials {
    /// Those of a connection, in a cluster of this name.
    pub(crate) fn of(caller: &Caller, cluster: &str) -> Self {
        let certificate = match caller.channel() {
            Some(Channel::Tls(Some(facts))) => facts.names.iter().find_map(|name| match name {
                Name::Client { cluster: own, name } if own == cluster => Some(name.clone()),
                _ => None,
            }),
            _ => None,
        };
        Self { address: caller.address, certificate, token: None }
    }

    /// The same with the token of a request, which counts in the place of the certificate.
    pub(crate) fn with_token(mut self, text: &str) -> Self {
        self.token = Some(Token::parse(text));
        self
    }
}

/// Runs `operation` for a caller.
pub(crate) fn acting<F: Future>(credentials: Arc<Credentials>, operation: F) -> impl Future<Output = F::Output> {
    CALLER.scope(credentials, operation)
}

/// The caller of the operation that runs.
pub(crate) fn caller() -> Arc<Credentials> {
    CALLER.try_with(Arc::clone).unwrap_or_default()
}

/// What an operation needs.
#[derive(Clone, Debug)]
pub(crate) enum Needs {
    /// An identity.
    Identity,
    /// This right to all keys of the table that begin with this.
    Keys(Right, Table, String),
    /// Any right to keys of the table.
    About(Table),
    /// This right everywhere.
    Everywhere(Right),
}

/// Who somebody is, and what that allows.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The id of the token, or that of the certificate.
    pub(crate) id: String,
    record: Arc<TokenRecord>,
}

impl Identity {
    /// Whether it allows what an operation needs.
    pub(crate) fn allows(&self, needs: &Needs) -> bool {
        let grants: &[Grant] = &self.record.grants;
        match needs {
            Needs::Identity => true,
            Needs::Keys(right, table, prefix) => grants.iter().any(|grant| grant.allows(*right, table, prefix)),
            Needs::About(table) => grants.iter().any(|grant| grant.is_about(table)),
            Needs::Everywhere(right) => grants.iter().any(|grant| grant.allows_everywhere(*right)),
        }
    }
}

/// What was read of an identity.
#[derive(Debug, Default)]
struct Known {
    state: Mutex<Option<(Instant, Option<Arc<TokenRecord>>)>>,
    /// Held while it is read, so that many callers at once make one read of it.
    reading: tokio::sync::Mutex<()>,
}

impl Known {
    fn get(&self) -> Option<(Duration, Option<Arc<TokenRecord>>)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(|(read_at, record)| (read_at.elapsed(), record.clone()))
    }
}

/// Lets operations through.
pub(crate) struct Gate {
    node: NodeHandle,
    is_on: bool,
    /// What whoever reads a file of this node's data folder may do.
    local: Option<(Token, Arc<TokenRecord>)>,
    known: Mutex<HashMap<String, Arc<Known>>>,
}

impl Gate {
    /// A gate of a node. `local` is the token that the node has made for its own machine.
    pub(crate) fn new(node: NodeHandle, is_on: bool, local: Option<Token>) -> Self {
        let grants = vec![Grant { right: Right::Admin, scope: crate::types::Scope::All }];
        let local = local.map(|token| {
            let record = TokenRecord { hash: Some(token.hash()), label: "this machine".to_owned(), grants };
            (token, Arc::new(record))
        });
        Self { node, is_on, local, known: Mutex::default() }
    }

    /// Whether callers are asked for more than nothing.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Lets the operation of the present caller through, or says why not. The words do not depend on what is there.
    pub(crate) async fn allow(&self, needs: &Needs) -> Result<(), ServiceError> {
        if !self.is_on {
            return Ok(());
        }
        let credentials = caller();
        let identity = self.identify(&credentials).await;
        let problem = match identity {
            Ok(identity) if identity.allows(needs) => return Ok(()),
            Ok(identity) => {
                let message = format!(
                    "{} may not do this: it needs {}; an administrator gives roles by `quorate token create`",
                    identity.id,
                    words(needs)
                );
                ServiceError::new(FailureReason::PermissionDenied, &message)
            }
            Err(error) => error,
        };
        if problem.code() != Code::Unavailable
            && let Some(left_out) = REFUSAL_LINES.pass(Instant::now())
        {
            let from = credentials.address.map_or_else(String::new, |address| address.to_string());
            warn!(from, left_out, "refused: {}", problem.message);
        }
        Err(problem)
    }

    /// Who somebody is.
    pub(crate) async fn identify(&self, credentials: &Credentials) -> Result<Identity, ServiceError> {
        // One answer for every wrong token: whether an id exists is nobody's business.
        let unknown = || unauthenticated("this token is not valid: it is mistyped, was revoked, or has expired");
        match (&credentials.token, &credentials.certificate) {
            (Some(None), _) => Err(unknown()),
            (Some(Some(token)), _) if token.id == LOCAL_ID => {
                let local = self.local.as_ref().filter(|(_, record)| token.is_that_of(record));
                local.map(|(_, record)| Identity { id: LOCAL_ID.to_owned(), record: Arc::clone(record) }).ok_or_else(unknown)
            }
            (Some(Some(token)), _) => {
                let record = self.record(&token.id).await?;
                let record = record.filter(|record| token.is_that_of(record)).ok_or_else(unknown)?;
                Ok(Identity { id: format!("token {}", token.id), record })
            }
            (None, Some(name)) => {
                let none = || unauthenticated("this certificate has no roles: an administrator gives it some by `quorate token create --certificate`");
                let record = self.record(&of_certificate(name)).await?.ok_or_else(none)?;
                Ok(Identity { id: format!("client {name}"), record })
            }
            (None, None) => Err(unauthenticated("give a token (--token-file), or a client certificate with roles")),
        }
    }

    /// The record of an identity, as it was at most [`FRESH_TIME`] ago.
    async fn record(&self, identity: &str) -> Result<Option<Arc<TokenRecord>>, ServiceError> {
        let Some(key) = key_of(identity) else { return Ok(None) };
        let known = self.remember(identity);
        let fresh = |known: &Known| known.get().filter(|(age, _)| *age < FRESH_TIME).map(|(_, record)| record);
        if let Some(record) = fresh(&known) {
            return Ok(record);
        }
        let _reading = known.reading.lock().await;
        // Another caller has read it meanwhile.
        if let Some(record) = fresh(&known) {
            return Ok(record);
        }
        let began = Instant::now();
        let read = self.node.get(&Table::Default, key, began + READ_TIME_MAX);
        let read = tokio::time::timeout(READ_TIME_MAX, read).await;
        let problem = match read {
            Ok(Ok(found)) => {
                let text = found.as_ref().and_then(|found| match &found.record.content {
                    Content::Value(value) => std::str::from_utf8(value.bytes()).ok(),
                    Content::Tombstone => None,
                });
                let record = text.and_then(TokenRecord::decode).map(Arc::new);
                *known.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, record.clone()));
                return Ok(record);
            }
            Ok(Err(RequestError::Rejected(_))) => "the node does not take requests now",
            Ok(Err(_)) | Err(_) => "too few replicas answered",
        };
        match known.get() {
            Some((age, record)) if age < STALE_TIME_MAX => Ok(record),
            _ => {
                let message = format!("nothing was done: who you are cannot be looked up: {problem}: ask another node, or later");
                Err(ServiceError::new(FailureReason::NotReady, &message))
            }
        }
    }

    fn remember(&self, identity: &str) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(identity) {
            return Arc::clone(found);
        }
        if known.len() >= REMEMBERED_MAX {
            // Ids that nobody has are read too, so a stranger must not be able to fill this. Old ones go first.
            known.retain(|_, known| known.get().is_some_and(|(age, record)| record.is_some() && age < STALE_TIME_MAX));
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
        }
        Arc::clone(known.entry(identity.to_owned()).or_default())
    }
}

fn unauthenticated(message: &str) -> ServiceError {
    ServiceError::new(FailureReason::Unauthenticated, &format!("nothing was done: {message}"))
}

/// What is needed, for a person.
fn words(needs: &Needs) -> String {
    match needs {
        Needs::Identity => "an identity".to_owned(),
        Needs::Keys(right, table, prefix) if prefix.is_empty() => format!("role {} for all of table {table}", right.name()),
        Needs::Keys(right, table, prefix) => format!("role {} for {prefix:?} in table {table}", right.name()),
        Needs::About(table) => format!("a role for table {table}"),
        Needs::Everywhere(right) => format!("role {}", right.name()),
    }
}
