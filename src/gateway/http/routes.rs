//! The paths, their methods and their parameters, in one table.
//!
//! Contract: the table decides what is answered, and the API's description is made from it, so that the two agree. A key is
//! everything after its prefix: escapes are decoded once, nothing is normalised, and nothing is redirected.

use crate::types::{Key, Table, TableNameError};

use super::problem::Problem;
use super::query::unescape;

/// A method of a path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// The gRPC method that does the same, under which metrics count it, and whose row says what its caller needs.
    pub(super) counted_as: &'static str,
    /// The parameters of the query.
    pub(super) parameters: &'static [&'static str],
    pub(super) summary: &'static str,
    /// The statuses of an answer that does what was asked, with what they mean.
    pub(super) answers: &'static [(u16, &'static str)],
}

/// A path.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) template: &'static str,
    /// The value of `Allow`.
    pub(super) allow: &'static str,
    pub(super) operations: &'static [Operation],
}

const INFO: &str = "/api.Cluster/Info";
const GET: &str = "/api.Cluster/Get";
const SET: &str = "/api.Cluster/Set";
const DELETE: &str = "/api.Cluster/Delete";
const LIST: &str = "/api.Cluster/List";
const WRITTEN: &[(u16, &str)] = &[(201, "written; the key had no value"), (204, "written; the key had a value")];
const READ: &[(u16, &str)] = &[(200, "the value"), (304, "the value has a tag that If-None-Match names")];
const DELETED: &[(u16, &str)] = &[(204, "deleted")];
const CHANGES: &[(u16, &str)] = &[(202, "the change has begun")];
const DROPPED: &[(u16, &str)] = &[(204, "dropped")];

macro_rules! operation {
    ($method:literal, $counted_as:expr, $parameters:expr, $summary:literal, $answers:expr) => {
        Operation {
            method: $method,
            counted_as: $counted_as,
            parameters: &$parameters,
            summary: $summary,
            answers: $answers,
        }
    };
}

macro_rules! of_operators {
    ($template:literal, $counted_as:expr, $parameters:expr, $summary:literal) => {
        Route {
            template: $template,
            allow: "GET, HEAD, OPTIONS",
            operations: &[operation!("GET", $counted_as, $parameters, $summary, &[(200, "the answer")])],
        }
    };
}

/// Every path. A path that more than one template fits belongs to the first.
pub(super) static ROUTES: [Route; 20] = [
    of_operators!("/", LIST, ["prefix", "limit", "cursor", "values", "timeout"], "All keys of the table default"),
    of_operators!("/openapi.json", INFO, [], "The description of this API"),
    of_operators!("/_nodes_discovery", INFO, ["timeout"], "The nodes, with their addresses and states"),
    of_operators!("/_nodes_discovery_plain", INFO, ["timeout"], "The HTTP address of each node, a line each"),
    of_operators!("/_cluster_status", INFO, ["timeout"], "The nodes, and how many of them there are"),
    Route {
        template: "/_health",
        allow: "GET, HEAD, OPTIONS",
        operations: &[operation!(
            "GET",
            "/api.Node/Health",
            ["timeout"],
            "Whether the node serves",
            &[(200, "it serves")]
        )],
    },
    Route {
        template: "/_nodes/delete/{node}",
        allow: "DELETE, OPTIONS",
        operations: &[operation!("DELETE", "/api.Members/Change", ["timeout"], "Remove a member", CHANGES)],
    },
    of_operators!("/_nodes/{key}", INFO, ["timeout"], "The addresses of the replicas of a key"),
    of_operators!("/v1/tables", "/api.Tables/List", ["limit", "cursor", "timeout"], "The tables, page by page"),
    Route {
        template: "/v1/tables/{table}",
        allow: "GET, HEAD, PUT, DELETE, OPTIONS",
        operations: &[
            operation!("GET", "/api.Tables/Get", ["timeout"], "The settings of a table", &[(200, "it exists")]),
            operation!(
                "PUT",
                "/api.Tables/Create",
                ["default_ttl", "value_bytes_max", "quota_bytes", "timeout"],
                "Create a table",
                &[(201, "created, and empty"), (204, "it exists already")]
            ),
            operation!("DELETE", "/api.Tables/Drop", ["timeout"], "Drop a table, with all of its keys", DROPPED),
        ],
    },
    of_operators!(
        "/v1/tables/{table}/keys",
        LIST,
        ["prefix", "limit", "cursor", "values", "timeout"],
        "Keys in the order of their bytes, page by page"
    ),
    Route {
        template: "/v1/tables/{table}/keys/{key}",
        allow: "GET, HEAD, PUT, POST, DELETE, OPTIONS",
        operations: &[
            operation!("GET", GET, ["wait", "timeout"], "Read a value, linearizably", READ),
            operation!("PUT", SET, ["ttl", "timeout"], "Write a value", WRITTEN),
            operation!(
                "POST",
                "/api.Cluster/Add",
                ["add", "ttl", "timeout"],
                "Add to the number in a value",
                &[(200, "the sum")]
            ),
            operation!("DELETE", DELETE, ["timeout"], "Delete a value", DELETED),
        ],
    },
    Route {
        template: "/v1/tables/{table}/watch",
        allow: "GET, OPTIONS",
        operations: &[operation!(
            "GET",
            "/api.Cluster/Watch",
            ["key", "prefix"],
            "The changes of a key or of the keys with a prefix, as server-sent events",
            &[(200, "the events, until one of the two ends hangs up")]
        )],
    },
    of_operators!("/v1/tables/{table}/placement/{key}", INFO, ["timeout"], "The slot and the replicas of a key"),
    Route {
        template: "/v1/batch",
        allow: "POST, OPTIONS",
        operations: &[operation!(
            "POST",
            "/api.Cluster/BatchWrite",
            ["timeout"],
            "Many reads and writes, each on its own",
            &[(200, "the result of each")]
        )],
    },
    Route {
        template: "/v1/members",
        allow: "GET, HEAD, PUT, OPTIONS",
        operations: &[
            operation!(
                "GET",
                "/api.Members/Get",
                ["timeout"],
                "The members, and what is moving",
                &[(200, "the members")]
            ),
            operation!("PUT", "/api.Members/Change", ["timeout"], "Change the members", CHANGES),
        ],
    },
    Route {
        template: "/v1/members/plan",
        allow: "POST, OPTIONS",
        operations: &[operation!(
            "POST",
            "/api.Members/Plan",
            ["timeout"],
            "What a change of the members would move; it changes nothing",
            &[(200, "the plan")]
        )],
    },
    Route {
        template: "/v1/members/abort",
        allow: "POST, OPTIONS",
        operations: &[operation!(
            "POST",
            "/api.Members/Abort",
            ["expected", "timeout"],
            "Take the change of the members back that is under way",
            &[(202, "it is taken back")]
        )],
    },
    of_operators!("/v1/status", "/api.Members/Get", ["timeout"], "The state of each node, and how many more may fail"),
    Route {
        template: "/{key}",
        allow: "GET, HEAD, PUT, POST, DELETE, OPTIONS",
        operations: &[
            operation!("GET", GET, ["wait", "timeout"], "Read a value of the table default, linearizably", READ),
            operation!("PUT", SET, ["ttl", "timeout"], "Write a value", WRITTEN),
            operation!("POST", SET, ["ttl", "timeout"], "Write a value", &[(200, "written")]),
            operation!("DELETE", DELETE, ["timeout"], "Delete a value", DELETED),
        ],
    },
];

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    AllKeys,
    OpenApi,
    Discovery,
    DiscoveryPlain,
    ClusterStatus,
    Health,
    RemovedNode,
    ReplicasOf(Key),
    Tables,
    Table(Table),
    Keys(Table),
    Key(Table, Key),
    Watch(Table),
    Placement(Table, Key),
    Batch,
    Status,
    Members,
    MembersPlan,
    MembersAbort,
    /// A key at its short path.
    Short(Key),
}

impl Resource {
    /// The resource that `path` names, and its route.
    pub(super) fn find(path: &str) -> Result<(Self, &'static Route), Problem> {
        let resource = Self::parse(path)?;
        let template = resource.template();
        let route = ROUTES.iter().find(|route| route.template == template);
        Ok((resource, route.expect("each resource has a route: a test compares them")))
    }

    fn template(&self) -> &'static str {
        match self {
            Self::AllKeys => "/",
            Self::OpenApi => "/openapi.json",
            Self::Discovery => "/_nodes_discovery",
            Self::DiscoveryPlain => "/_nodes_discovery_plain",
            Self::ClusterStatus => "/_cluster_status",
            Self::Health => "/_health",
            Self::RemovedNode => "/_nodes/delete/{node}",
            Self::ReplicasOf(_) => "/_nodes/{key}",
            Self::Tables => "/v1/tables",
            Self::Table(_) => "/v1/tables/{table}",
            Self::Keys(_) => "/v1/tables/{table}/keys",
            Self::Key(..) => "/v1/tables/{table}/keys/{key}",
            Self::Watch(_) => "/v1/tables/{table}/watch",
            Self::Placement(..) => "/v1/tables/{table}/placement/{key}",
            Self::Batch => "/v1/batch",
            Self::Status => "/v1/status",
            Self::Members => "/v1/members",
            Self::MembersPlan => "/v1/members/plan",
            Self::MembersAbort => "/v1/members/abort",
            Self::Short(_) => "/{key}",
        }
    }

    fn parse(path: &str) -> Result<Self, Problem> {
        let rest = path.strip_prefix('/').ok_or_else(Problem::missing_path)?;
        match rest {
            "" => return Ok(Self::AllKeys),
            "openapi.json" => return Ok(Self::OpenApi),
            "_nodes_discovery" => return Ok(Self::Discovery),
            "_nodes_discovery_plain" => return Ok(Self::DiscoveryPlain),
            "_cluster_status" => return Ok(Self::ClusterStatus),
            "_health" => return Ok(Self::Health),
            "v1/tables" => return Ok(Self::Tables),
            "v1/batch" => return Ok(Self::Batch),
            "v1/status" => return Ok(Self::Status),
            "v1/members" => return Ok(Self::Members),
            "v1/members/plan" => return Ok(Self::MembersPlan),
            "v1/members/abort" => return Ok(Self::MembersAbort),
            _ => {}
        }
        if rest.strip_prefix("_nodes/delete/").is_some_and(|node| !node.is_empty()) {
            return Ok(Self::RemovedNode);
        }
        if let Some(raw) = rest.strip_prefix("_nodes/") {
            return key(raw).map(Self::ReplicasOf);
        }
        if let Some(below) = rest.strip_prefix("v1/tables/") {
            return Self::of_table(below);
        }
        let key = key(rest)?;
        let text = key.as_str();
        // Escapes make no key of what is reserved.
        let is_reserved = text == "openapi.json" || text == "v1" || text.starts_with("v1/") || text.starts_with('_');
        if is_reserved { Err(Problem::missing_path()) } else { Ok(Self::Short(key)) }
    }

    fn of_table(below: &str) -> Result<Self, Problem> {
        let (name, rest) = below.split_once('/').map_or((below, None), |(name, rest)| (name, Some(rest)));
        let name = table(name)?;
        let Some(rest) = rest else { return Ok(Self::Table(name)) };
        Ok(match rest {
            "keys" => Self::Keys(name),
            "watch" => Self::Watch(name),
            _ => match (rest.strip_prefix("keys/"), rest.strip_prefix("placement/")) {
                (Some(raw), _) => Self::Key(name, key(raw)?),
                (_, Some(raw)) => Self::Placement(name, key(raw)?),
                _ => return Err(Problem::missing_path()),
            },
        })
    }
}

/// The key that the rest of a path stands for.
fn key(raw: &str) -> Result<Key, Problem> {
    let bytes = unescape(raw).ok_or_else(|| {
        Problem::invalid_path(
            "the key has a broken escape: write a byte as % and two hexadecimal digits, % itself as %25",
        )
    })?;
    Key::new(bytes).map_err(|error| Problem::invalid_key(&error))
}

/// The name of a table.
fn table(raw: &str) -> Result<Table, Problem> {
    let name = unescape(raw).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        Problem::invalid_table(
            "the name of the table is not UTF-8 in percent-escapes: write a byte as % and two hexadecimal digits",
        )
    })?;
    let table = if name.is_empty() { Err(TableNameError::Empty) } else { Table::parse(&name) };
    table.map_err(|error| Problem::invalid_table(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    #[test]
    fn key_is_everything_after_its_prefix() {
        for (path, text) in [
            ("/a", "a"),
            ("/a//b", "a//b"),
            ("//a", "/a"),
            ("/a/", "a/"),
            ("/a%2Fb", "a/b"),
            ("/a+b", "a+b"),
            ("/%25", "%"),
            ("/../x", "../x"),
            ("/exampleKey", "exampleKey"),
            ("/{key}", "{key}"),
            ("/v1x", "v1x"),
            ("/ü", "ü"),
        ] {
            assert_eq!(Resource::parse(path).unwrap(), Resource::Short(key(text)), "{path}");
            for table in ["default", "T", "gr%C3%B6%C3%9Fe"] {
                let long = format!("/v1/tables/{table}/keys{path}");
                let Resource::Key(name, found) = Resource::parse(&long).unwrap() else { panic!("{long}") };
                assert_eq!((name.as_str(), found), (&*table.replace("%C3%B6%C3%9F", "öß"), key(text)), "{long}");
            }
        }
        let reserved = Resource::parse("/v1/tables/default/keys/_health").unwrap();
        assert_eq!(reserved, Resource::Key(Table::Default, key("_health")));
    }

    #[test]
    fn wrong_paths_say_what_is_wrong() {
        for (path, kind) in [
            ("/%", "invalid-key"),
            ("/%ff", "invalid-key"),
            ("/v1/tables/default/keys/", "invalid-key"),
            ("/v1/tables/a%20b/keys", "invalid-table"),
            ("/v1/tables/a%2Fb", "invalid-table"),
            ("/v1/tables/a%ffb", "invalid-table"),
            ("/v1/tables/", "invalid-table"),
            ("/v1/tables//keys", "invalid-table"),
            ("/v1/tables/default/keyz", "missing-path"),
            ("/v1", "missing-path"),
            ("/v1/", "missing-path"),
            ("/v1/x", "missing-path"),
            ("/v1%2Fstatus", "missing-path"),
            ("/%5Fx", "missing-path"),
            ("/_x", "missing-path"),
            ("*", "missing-path"),
        ] {
            assert_eq!(Resource::parse(path).unwrap_err().kind, kind, "{path}");
        }
        assert_eq!(Resource::parse(&format!("/{}", "k".repeat(4_097))).unwrap_err().kind, "invalid-key");
    }

    #[test]
    fn each_route_is_one_of_a_resource_and_allows_its_methods() {
        for route in &ROUTES {
            let path = route.template.replace("{table}", "default").replace("{key}", "k").replace("{node}", "3");
            let (_, found) = Resource::find(&path).unwrap();
            assert_eq!(found.template, route.template);
            for operation in route.operations {
                assert!(route.allow.split(", ").any(|method| method == operation.method), "{}", route.template);
                assert!(crate::wire::method::Method::find(operation.counted_as).is_some(), "{}", operation.counted_as);
            }
        }
    }

    proptest! {
        #[test]
        fn any_path_names_something_or_is_refused(path in "/[v1tables/_%2Fdefaultkeys]{0,40}") {
            let _ = Resource::find(&path);
        }
    }

    #[test]
    fn fuzz_paths() {
        let mut seeds: Vec<&str> = ROUTES.iter().map(|route| route.template).collect();
        seeds.extend(["/v1/tables/default/keys/a%2F%C3%BC", "/v1/tables/default/placement/a//b", "*", "/%00"]);
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let path = mutated_text(&seeds, bytes);
            if let Err(problem) = Resource::find(&path) {
                assert!(matches!(problem.status.as_u16(), 400 | 404), "{path:?}: {problem:?}");
            }
        });
    }
}
