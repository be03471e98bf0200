//! The table of methods that clients and operators may call, beside the descriptors that api/api.proto compiles to.
//!
//! Invariant: the table has every method of every service but Peer, and no other (a test compares it with the
//! descriptors). A property of a method as such is a column here: whether it writes.

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
}

/// All methods that a client or an operator may call.
pub const METHODS: [Method; 24] = [
    Method::read("/api.Cluster/Info"),
    Method::read("/api.Cluster/Get"),
    Method::read("/api.Cluster/BatchGet"),
    Method::read("/api.Cluster/List"),
    Method::write("/api.Cluster/Set"),
    Method::write("/api.Cluster/Delete"),
    Method::write("/api.Cluster/BatchWrite"),
    Method::write("/api.Cluster/Add"),
    Method::read("/api.Cluster/Watch"),
    Method::write("/api.Tables/Create"),
    Method::read("/api.Tables/Get"),
    Method::read("/api.Tables/List"),
    Method::write("/api.Tables/Drop"),
    Method::read("/api.Node/Health"),
    Method::write("/api.Node/Repair"),
    Method::read("/api.Node/Info"),
    Method::read("/api.Node/Get"),
    Method::write("/api.Node/Set"),
    Method::read("/api.Members/Get"),
    Method::read("/api.Members/Plan"),
    Method::write("/api.Members/Change"),
    Method::write("/api.Members/Abort"),
    Method::read("/api.Clock/Get"),
    Method::write("/api.Clock/Set"),
];

const PACKAGE: &str = "/api.";

impl Method {
    const fn read(path: &'static str) -> Self {
        Self { path, access: Access::Read }
    }

    const fn write(path: &'static str) -> Self {
        Self { path, access: Access::Write }
    }

    /// The method that gRPC calls by `path`.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
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

    /// The full name of its service, as `api.Cluster`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.path.trim_start_matches('/').split('/').next().unwrap_or_default()
    }
}

/// The full names of the services that have a method in the table, each once.
#[must_use]
pub fn services() -> Vec<&'static str> {
    let mut services: Vec<&'static str> = METHODS.iter().map(Method::service).collect();
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
        assert_eq!(services(), ["api.Cluster", "api.Tables", "api.Node", "api.Members", "api.Clock"]);
    }
}
