//! The table of methods that clients and operators may call, beside the descriptors that api/api.proto compiles to.
//!
//! Invariant: the table has every method of every service but Peer, and no other (a test compares it with the
//! descriptors). A property of a method as such is a column here: whether it writes, and what its caller needs.

use crate::auth::{Needs, Right};

/// Whether a call may change data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It reads: whatever becomes of it, nothing was changed.
    Read,
    /// It writes: if it fails, its caller must know whether it may have happened.
    Write,
}

/// One method of the public API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method {
    /// `/api.Cluster/Get`.
    path: &'static str,
    access: Access,
    needs: Needs,
}

macro_rules! methods {
    ($($name:ident: $access:ident $path:literal needs $needs:expr;)*) => {
        $(#[doc = concat!("`", $path, "`.")] pub static $name: Method = Method::$access($path, $needs);)*

        /// All methods that a client or an operator may call.
        pub static METHODS: [&Method; [$($path),*].len()] = [$(&$name),*];
    };
}

methods! {
    INFO: read "/api.Cluster/Info" needs Needs::Identity;
    GET: read "/api.Cluster/Get" needs READ;
    BATCH_GET: read "/api.Cluster/BatchGet" needs READ;
    LIST: read "/api.Cluster/List" needs READ;
    SET: write "/api.Cluster/Set" needs WRITE;
    DELETE: write "/api.Cluster/Delete" needs WRITE;
    BATCH_WRITE: write "/api.Cluster/BatchWrite" needs WRITE;
    ADD: write "/api.Cluster/Add" needs WRITE;
    WATCH: read "/api.Cluster/Watch" needs READ;
    TABLE_CREATE: write "/api.Tables/Create" needs ADMIN;
    TABLE_GET: read "/api.Tables/Get" needs READ;
    // It lists the tables of which the caller may read a part.
    TABLE_LIST: read "/api.Tables/List" needs Needs::Identity;
    TABLE_DROP: write "/api.Tables/Drop" needs ADMIN;
    TOKEN_CREATE: write "/api.Tokens/Create" needs Needs::Everything;
    TOKEN_LIST: read "/api.Tokens/List" needs Needs::Everything;
    TOKEN_REVOKE: write "/api.Tokens/Revoke" needs Needs::Everything;
    // Clients ask it before they send a write to a node that they have not heard of for a while.
    NODE_HEALTH: read "/api.Node/Health" needs Needs::Identity;
    // A node may order scrubs alone.
    NODE_REPAIR: write "/api.Node/Repair" needs Needs::OperatorOrNode;
    NODE_INFO: read "/api.Node/Info" needs READ;
    NODE_GET: read "/api.Node/Get" needs READ;
    NODE_SET: write "/api.Node/Set" needs Needs::Operator;
    MEMBERS_GET: read "/api.Members/Get" needs Needs::Observer;
    MEMBERS_PLAN: read "/api.Members/Plan" needs Needs::Operator;
    // A node may ask for its own place alone.
    MEMBERS_CHANGE: write "/api.Members/Change" needs Needs::OperatorOrNode;
    MEMBERS_ABORT: write "/api.Members/Abort" needs Needs::Operator;
    CLOCK_GET: read "/api.Clock/Get" needs Needs::Observer;
    CLOCK_SET: write "/api.Clock/Set" needs Needs::Operator;
}

const READ: Needs = Needs::Keys(Right::Read);
const WRITE: Needs = Needs::Keys(Right::Write);
const ADMIN: Needs = Needs::Keys(Right::Admin);

const PACKAGE: &str = "/api.";

impl Method {
    const fn read(path: &'static str, needs: Needs) -> Self {
        Self { path, access: Access::Read, needs }
    }

    const fn write(path: &'static str, needs: Needs) -> Self {
        Self { path, access: Access::Write, needs }
    }

    /// The method that gRPC calls by `path`.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        METHODS.iter().copied().find(|method| method.path == path)
    }

    /// Its name in metrics and logs, as `Cluster/Get`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.strip_prefix(PACKAGE).unwrap_or(self.path)
    }

    /// Whether it may change data.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// What it needs of its caller, once a node asks who that is.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The full name of its service, as `api.Cluster`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.path.trim_start_matches('/').split('/').next().unwrap_or_default()
    }
}

/// The full names of the services that have a method in the table, each once.
#[must_use]
pub fn services() -> Vec<&'static str> {
    let mut services: Vec<&'static str> = METHODS.iter().map(|method| method.service()).collect();
    services.dedup();
    services
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::api;

    #[test]
    fn table_has_the_methods_of_the_descriptors() {
        let files = prost_types::FileDescriptorSet::decode(api::DESCRIPTORS).unwrap().file;
        let services = files.iter().filter(|file| file.package() == "api").flat_map(|file| &file.service);
        let described: BTreeSet<String> = services
            .filter(|service| service.name() != "Peer")
            .flat_map(|service| {
                service.method.iter().map(|method| format!("/api.{}/{}", service.name(), method.name()))
            })
            .collect();
        let listed: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        assert_eq!(listed, described);
        assert_eq!(listed.len(), METHODS.len(), "each once");
    }

    #[test]
    fn method_is_found_by_its_whole_path() {
        let get = Method::find("/api.Cluster/Get").unwrap();
        assert_eq!((get.name(), get.service(), get.access()), ("Cluster/Get", "api.Cluster", Access::Read));
        assert_eq!(Method::find("/api.Clock/Set").unwrap().access(), Access::Write);
        for path in ["/api.Cluster/Steal", "/api.Peer/Link", "/api.Cluster/Get/more", "Cluster/Get", "/", ""] {
            assert_eq!(Method::find(path), None, "{path}");
        }
        assert_eq!(services(), ["api.Cluster", "api.Tables", "api.Tokens", "api.Node", "api.Members", "api.Clock"]);
    }
}
