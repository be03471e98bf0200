//! Who asks, and whether that is allowed: one check for every door.
//!
//! Contract: without authorization nothing is asked and nothing changes. With it, a [`Service`] acts for one caller, and each of
//! its operations first asks [`Service::allow`] with its row of the table of methods. A service that was bound to no caller acts
//! for nobody, so a door that forgets to say who calls is refused. Doors ask [`Service::enter`] before they read a body:
//! a stranger reaches no decoder behind it.
//!
//! How old is what a node knows: it reads the record of all holders every [`READ_EVERY`], linearizably, for [`READ_TIME_MAX`]
//! at most. It reads sooner again where that fails. Its own reads have places that no client takes. So a node that reaches a majority
//! refuses a revoked token within 2 s. One that does not goes on with what it knows
//! for [`KNOWN_FOR`], counted from the beginning of its last read, and then refuses everybody but those who look at its state.
//!
//! Cost: a request waits for nothing. It takes the SHA-256 of its token's 32 bytes (of Redis and lines: once for each AUTH),
//! a read lock for as long as a pointer is copied, a look-up by id, and a comparison with each grant of one holder.

pub(crate) mod audit;
mod caller;
mod tokens;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::auth::{
    Grant, Holder, Holders, Needs, Proof, Right, SecretHash, Target, Token, TokenError, TokenId, allows,
};
use crate::metrics::Metrics;
use crate::service::request_metrics::Door;
use crate::tls;
use crate::types::{Key, NodeId, Table, Version};
use crate::wire::failure::FailureReason;
use crate::wire::method::Method;

use super::Service;
use super::error::ServiceError;

pub use audit::{Audit, AuditError};
pub(crate) use caller::Caller;
use caller::Shown;

/// How often a node reads the record of all holders.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How soon it reads again after a read that failed.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long one read may take.
const READ_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a node goes on with what it read last.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// The id of the token by which the first holder is made.
const BOOTSTRAP: &str = "bootstrap";

/// Who may do what on this node.
pub struct Authorization {
    /// The name of the cluster in certificates.
    cluster: String,
    /// Whether a node that is no member may add itself by its certificate.
    admits: bool,
    known: RwLock<Known>,
    /// By the token in the data folder: whoever can read it may make an administrator.
    bootstrap: Arc<Holder>,
    /// The node itself, for its own questions.
    this_node: Arc<Holder>,
    audit: Option<Audit>,
    metrics: Arc<Metrics>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    holders: Arc<Holders>,
    /// The version of the record.
    version: Option<Version>,
    /// When the read began; `None` before the first one.
    as_of: Option<Instant>,
    /// Why the last read failed, if it did.
    problem: Option<String>,
}

/// What somebody asks for, for errors and for the audit.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'static str,
    needs: Needs,
    pub(super) target: Target<'a>,
    /// More of it for the audit: the name of each field, and its value.
    details: &'a [(&'static str, String)],
}

impl<'a> Asked<'a> {
    pub(super) fn of(method: &'static Method, target: Target<'a>) -> Self {
        Self { method: method.name(), needs: method.needs(), target, details: &[] }
    }

    /// The same, of a caller who needs this.
    pub(super) fn with_needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// The same, with more of it for the audit.
    pub(super) fn with_details(self, details: &'a [(&'static str, String)]) -> Self {
        Self { details, ..self }
    }
}

impl Authorization {
    /// A node that knows nobody yet but whoever has the token that is returned too. `audit` has a line for each refusal. With `admits`,
    /// a node that is no member counts as a node of the cluster, by its certificate.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(
        cluster: String,
        admits: bool,
        audit: Option<Audit>,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, Token), TokenError> {
        let id = TokenId::new(BOOTSTRAP).expect("it is an id");
        let token = Token::named(id)?;
        let holder = |name: &str, hash: SecretHash| {
            let (id, proof) = (token.id().clone(), Proof::Secret(hash));
            Arc::new(Holder { id, name: name.to_owned(), proof, grants: vec![Grant::EVERYTHING], created: 0 })
        };
        let (bootstrap, this_node) = (holder(BOOTSTRAP, token.hash()), holder("this node", SecretHash::OF_NOBODY));
        let known = RwLock::default();
        Ok((Arc::new(Self { cluster, admits, known, bootstrap, this_node, audit, metrics }), token))
    }

    /// What is wrong with what this node knows, for its status.
    pub(super) fn problem(&self) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let problem = known.problem.as_deref()?;
        let age = known.as_of.map_or(KNOWN_FOR, |as_of| as_of.elapsed());
        let then = if age < KNOWN_FOR {
            "it goes on with those that it knows"
        } else {
            "it shows its state, and refuses all else"
        };
        Some(format!("it cannot read who may do what since {} s, and {then}: {problem}", age.as_secs()))
    }

    /// Everybody, as far as that is known, for a request that needs this. Whether a write was sent before is not known here: the
    /// error speaks of this try alone, as NOT_READY does and NOT_APPLIED does not.
    fn holders(&self, needs: Needs) -> Result<Arc<Holders>, ServiceError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Whoever looks after a cluster without a majority needs its metrics and its status above all.
        let is_of_status = matches!(needs, Needs::Identity | Needs::Observer);
        if known.as_of.is_some_and(|as_of| is_of_status || as_of.elapsed() < KNOWN_FOR) {
            return Ok(Arc::clone(&known.holders));
        }
        let message = format!(
            "nothing was done: this node has not been able to read who may do what for {} s: ask another node",
            KNOWN_FOR.as_secs()
        );
        let starting =
            "nothing was done: this node does not know yet who may do what: ask another node, or in a second";
        let message = if known.as_of.is_some() { &message } else { starting };
        Err(ServiceError::new(FailureReason::NotReady, message))
    }

    /// Whoever `caller` is.
    fn holder_of(&self, caller: &Caller, needs: Needs) -> Result<Arc<Holder>, ServiceError> {
        let unknown = |why: &str| {
            let message = format!("nothing was done: {why}");
            ServiceError::new(FailureReason::Unauthenticated, &message)
        };
        match &caller.shown {
            Shown::ThisNode => Ok(Arc::clone(&self.this_node)),
            Shown::Nothing => Err(unknown(
                "this node asks who calls: send a token (authorization: Bearer TOKEN; AUTH TOKEN; --token-file), or use a \
                 client certificate that has rights",
            )),
            Shown::NoToken => Err(unknown(
                "this is no token: a token begins with qrt_ (authorization: Bearer TOKEN, or Basic with it as the password; AUTH \
                 TOKEN)",
            )),
            Shown::Token(id, hash) if *id == self.bootstrap.id => {
                let is_it = self.bootstrap.proof == Proof::Secret(*hash);
                is_it.then(|| Arc::clone(&self.bootstrap)).ok_or_else(|| {
                    unknown("a bootstrap token is that of one node until it starts again: read it from its data folder")
                })
            }
            Shown::Token(id, hash) => self.holders(needs)?.of_token(id, hash).cloned().ok_or_else(|| {
                unknown("the token is not known here: it is wrong, was revoked, or was made less than 2 s ago")
            }),
            Shown::Node(node, facts) => {
                let (id, proof) =
                    (TokenId::new("node").expect("it is an id"), Proof::Certificate(facts.subject.clone()));
                Ok(Arc::new(Holder { id, name: format!("node {node}"), proof, grants: vec![Grant::Node], created: 0 }))
            }
            Shown::NoMember(node) => Err(unknown(&format!(
                "the certificate is that of node {node}, which is no member: send a token, or use a client certificate that has \
                 rights"
            ))),
            Shown::Certificate(facts) => {
                let holders = self.holders(needs)?;
                let found = caller::clients_of(facts, &self.cluster).find_map(|name| holders.of_certificate(name));
                found.cloned().ok_or_else(|| {
                    unknown("the client certificate has no rights: an administrator gives some (quorate token create --certificate)")
                })
            }
        }
    }

    /// Whether `caller` may do what is asked for. A refusal is counted, and stands in the audit.
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<Arc<Holder>, ServiceError> {
        let (holder, error) = match self.holder_of(caller, asked.needs) {
            Ok(holder) if allows(&holder.grants, asked.needs, asked.target) => return Ok(holder),
            Ok(holder) => {
                let error = denied(&holder, asked);
                (Some(holder), error)
            }
            Err(error) => (None, error),
        };
        self.metrics.refused.inc();
        if let Some(audit) = &self.audit {
            audit.refuse(caller, holder.as_deref(), asked, error.failure.reason.as_str());
        }
        Err(error)
    }
}

/// A write that has begun, and stands in the audit once its end is told. Dropped without that, because the client hung up, it says
/// so.
pub(super) struct UntoldWrite {
    service: Service,
    method: &'static Method,
    table: Table,
    key: Key,
    is_told: bool,
}

impl UntoldWrite {
    pub(super) fn tell(mut self, outcome: &str) {
        self.write(outcome);
    }

    fn write(&mut self, outcome: &str) {
        self.is_told = true;
        let Some(authorization) = &self.service.authorization else { return };
        let Some(audit) = &authorization.audit else { return };
        let (caller, method) = (&self.service.caller, self.method);
        let holder = authorization.holder_of(caller, method.needs()).ok();
        let target = Target::Key(&self.table, self.key.user_bytes());
        audit.write(caller, holder.as_deref(), Asked::of(method, target), outcome);
    }
}

impl Drop for UntoldWrite {
    fn drop(&mut self) {
        if !self.is_told {
            self.write("CANCELLED");
        }
    }
}

impl std::fmt::Debug for UntoldWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UntoldWrite").field("key", &self.key).finish_non_exhaustive()
    }
}

fn denied(holder: &Holder, asked: Asked<'_>) -> ServiceError {
    let place = match asked.target {
        Target::Cluster => String::new(),
        Target::Key(table, key) => format!(" on key {:?} of table {table}", String::from_utf8_lossy(key)),
        Target::Keys(table, []) => format!(" on all of table {table}"),
        Target::Keys(table, prefix) => {
            format!(" on the keys of table {table} that begin with {:?}", String::from_utf8_lossy(prefix))
        }
        Target::PartOf(table) => format!(" on any part of table {table}"),
    };
    let message = format!(
        "nothing was done: {:?} lacks {}{place}: an administrator gives rights (quorate token create --allow)",
        holder.name, asked.needs
    );
    ServiceError::new(FailureReason::PermissionDenied, &message)
}

impl Service {
    /// The same operations, for a caller, with the share of whoever that is. Without authorization nobody is asked, and
    /// all that come from one address have one share.
    pub(crate) fn for_caller(&self, caller: Caller) -> Arc<Self> {
        let Some(authorization) = &self.authorization else {
            return Arc::new(self.of_caller(Caller::default(), caller.address_alone()));
        };
        let counts = |id: &NodeId| authorization.admits || self.node.layout().member(id).is_some();
        let caller = caller.of_cluster(&authorization.cluster, counts);
        let owner = caller.owner(&authorization.cluster);
        Arc::new(self.of_caller(caller, owner))
    }

    /// The same operations, for all requests of a connection; `None` where each request may say who calls.
    pub(crate) fn for_connection(&self, door: Door, connection: &tls::Caller) -> Option<Arc<Self>> {
        self.authorization.is_none().then(|| self.for_caller(Caller::of_connection(door, connection)))
    }

    /// The same operations, for the node itself.
    pub(crate) fn for_this_node(self: &Arc<Self>) -> Arc<Self> {
        self.for_caller(Caller::this_node())
    }

    /// Lets a caller in who is known, and has what `method` needs, but for rights on keys: those are looked at where the keys
    /// are known. An unknown method is for those who are known.
    pub(crate) fn enter(&self, method: Option<&'static Method>) -> Result<(), ServiceError> {
        self.enter_at(method.map_or("unknown", Method::name), method.map_or(Needs::Identity, Method::needs))
    }

    /// The same for what is no method of the table.
    pub(crate) fn enter_at(&self, method: &'static str, needs: Needs) -> Result<(), ServiceError> {
        let Some(authorization) = &self.authorization else { return Ok(()) };
        let needs = match needs {
            Needs::Nothing => return Ok(()),
            Needs::Keys(_) => Needs::Identity,
            needs => needs,
        };
        authorization.check(&self.caller, Asked { method, needs, target: Target::Cluster, details: &[] }).map(drop)
    }

    /// Whether the caller may do this. Each operation asks before anything else.
    pub(super) fn allow(&self, method: &'static Method, target: Target<'_>) -> Result<(), ServiceError> {
        let Some(authorization) = &self.authorization else { return Ok(()) };
        authorization.check(&self.caller, Asked::of(method, target)).map(drop)
    }

    /// Whether a caller who may do less than `method` needs may do it for this target: nothing is counted. An error where it is not
    /// known who calls, or no longer.
    pub(super) fn may(&self, method: &'static Method, target: Target<'_>) -> Result<bool, ServiceError> {
        let Some(authorization) = &self.authorization else { return Ok(true) };
        let holder = authorization.holder_of(&self.caller, method.needs())?;
        Ok(allows(&holder.grants, method.needs(), target))
    }

    /// Whether the caller has this, where it may do without. Nothing is counted.
    pub(crate) fn has(&self, needs: Needs) -> bool {
        let Some(authorization) = &self.authorization else { return true };
        let holder = authorization.holder_of(&self.caller, needs);
        holder.is_ok_and(|holder| allows(&holder.grants, needs, Target::Cluster))
    }

    /// Does an operation that stands in the audit, if the caller may.
    pub(super) async fn audited<T>(
        &self,
        method: &'static Method,
        target: Target<'_>,
        operation: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        self.audited_as(Asked::of(method, target), operation).await
    }

    /// The same, for what is asked so.
    pub(super) async fn audited_as<T>(
        &self,
        asked: Asked<'_>,
        operation: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let Some(authorization) = &self.authorization else { return operation.await };
        let holder = authorization.check(&self.caller, asked)?;
        // What the node writes for somebody has a line of its own, with whom.
        let is_told = self.is_of_this_node() && asked.needs == Needs::Keys(Right::Write);
        let audit = authorization.audit.as_ref();
        let Some(audit) = audit.filter(|audit| !is_told && audit.takes(asked.needs)) else {
            return operation.await;
        };
        // Dropped without an end, because the client hung up, it says so.
        let mut line = audit.begin(&self.caller, &holder, asked);
        let result = operation.await;
        line.end(result.as_ref().map_or_else(|error| error.failure.reason.as_str(), |_| "OK"));
        result
    }

    /// The line of a write that has begun, if writes are in the audit.
    pub(super) fn untold_write(&self, method: &'static Method, table: &Table, key: &Key) -> Option<UntoldWrite> {
        let audit = self.authorization.as_ref()?.audit.as_ref()?;
        audit.takes(method.needs()).then(|| UntoldWrite {
            service: self.of_caller(self.caller.clone(), None),
            method,
            table: table.clone(),
            key: key.clone(),
            is_told: false,
        })
    }

    /// What is wrong with what this node knows of tokens.
    pub(super) fn authorization_problem(&self) -> Option<String> {
        self.authorization.as_ref()?.problem()
    }

    /// Whether the operations are the node's own.
    pub(super) fn is_of_this_node(&self) -> bool {
        matches!(self.caller.shown, Shown::ThisNode)
    }

    /// The node that asks by its own certificate, if one does.
    pub(super) fn node_that_asks(&self) -> Option<&NodeId> {
        match &self.caller.shown {
            Shown::Node(id, _) => Some(id),
            _ => None,
        }
    }

    /// Whether a node that is no member may add itself.
    pub(super) fn admits_nodes(&self) -> bool {
        self.authorization.as_ref().is_none_or(|authorization| authorization.admits)
    }

    /// Whether anybody is asked who calls.
    pub(crate) fn asks_who_calls(&self) -> bool {
        self.authorization.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::method::{GET, MEMBERS_CHANGE, NODE_HEALTH, SET};

    fn token(authorization: &Authorization, grants: &[&str], as_of: Option<Instant>) -> Token {
        let token = Token::new().unwrap();
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let proof = Proof::Secret(token.hash());
        let holder = Holder { id: token.id().clone(), name: "t".into(), proof, grants, created: 0 };
        let mut holders = Holders::default();
        holders.create(holder, || Holders::new_token_of_nodes().unwrap()).unwrap();
        *authorization.known.write().unwrap() =
            Known { holders: Arc::new(holders), version: None, as_of, problem: Some("no quorum".into()) };
        token
    }

    fn caller(token: &Token) -> Caller {
        Caller::of_token(Door::Lines, None, &token.reveal())
    }

    #[test]
    fn what_is_known_counts_for_its_time_and_not_longer() {
        let (authorization, bootstrap) = Authorization::new("c".into(), false, None, Arc::default()).unwrap();
        let key = Target::Key(&Table::Default, b"k");
        let asked = |method| Asked::of(method, key);
        let now = Instant::now();
        for (as_of, expected) in [
            (None, Err(FailureReason::NotReady)),
            (Some(now), Ok(())),
            (now.checked_sub(KNOWN_FOR).map(|then| then + Duration::from_secs(5)), Ok(())),
            (now.checked_sub(KNOWN_FOR + Duration::from_secs(1)), Err(FailureReason::NotReady)),
        ] {
            let token = token(&authorization, &["write"], as_of);
            for method in [&GET, &SET] {
                let ended = authorization.check(&caller(&token), asked(method)).map(drop);
                assert_eq!(ended.map_err(|error| error.failure.reason), expected, "{method:?} {as_of:?}");
            }
            let state = authorization.check(&caller(&token), Asked::of(&NODE_HEALTH, Target::Cluster));
            assert_eq!(state.is_ok(), as_of.is_some(), "{as_of:?}");
            assert!(authorization.problem().unwrap().contains("no quorum"));
            assert!(authorization.check(&caller(&bootstrap), asked(&SET)).is_ok(), "the node itself gave it");
        }
    }

    #[test]
    fn refusals_say_what_is_lacking_and_nothing_of_keys() {
        let (authorization, bootstrap) = Authorization::new("c".into(), false, None, Arc::default()).unwrap();
        let token = token(&authorization, &["read:default/a"], Some(Instant::now()));
        let other = Token::named(token.id().clone()).unwrap();
        let wrong_bootstrap = Token::named(bootstrap.id().clone()).unwrap();
        let refused = |caller: &Caller, method, key: &[u8]| {
            let error = authorization.check(caller, Asked::of(method, Target::Key(&Table::Default, key))).unwrap_err();
            (error.failure.reason.as_str(), error.message)
        };
        for (given, method, key, reason, part) in [
            (caller(&token), &SET, &b"a"[..], "PERMISSION_DENIED", "lacks write on key \"a\""),
            (caller(&token), &GET, b"b", "PERMISSION_DENIED", "lacks read on key \"b\""),
            (caller(&token), &MEMBERS_CHANGE, b"a", "PERMISSION_DENIED", "lacks operator"),
            (caller(&other), &GET, b"a", "UNAUTHENTICATED", "not known here"),
            (caller(&wrong_bootstrap), &GET, b"a", "UNAUTHENTICATED", "data folder"),
            (Caller::default(), &GET, b"a", "UNAUTHENTICATED", "asks who calls"),
            (Caller::of_token(Door::Lines, None, "secret"), &GET, b"a", "UNAUTHENTICATED", "qrt_"),
        ] {
            let (said, message) = refused(&given, method, key);
            assert_eq!(said, reason, "{message}");
            assert!(message.contains(part) && message.starts_with("nothing was done"), "{message}");
        }
        assert_eq!(authorization.metrics.refused.get(), 7);
    }
}
