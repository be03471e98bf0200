//! The configuration reference, docs/configuration.md, made from the table of keys that the parser uses.

use std::fmt::Write as _;

use super::keys::{
    CLUSTER_KEYS, CLUSTER_NAME_BYTES_MAX, CLUSTER_NODE_KEYS, Change, Fallback, Key, Kind, NODE_KEYS, REPLICA_COUNT,
    VARIABLE_PREFIX,
};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX};
use crate::types::{NODE_ID_BYTES_MAX, Weight, ZONE_BYTES_MAX};

const HEAD: &str = "\
# Configuration reference

<!-- Made by `quorate config reference` from src/config/keys.rs. A test compares the two. -->

A node reads two files when it starts: `quorate serve node.yml cluster.yml`. The file node.yml is for one node, and
cluster.yml is the same for all nodes. `quorate config check node.yml cluster.yml` checks them without starting a node.
With `--env` the variables below count too, as they do for a node.
The folder [`examples/`](../examples) has complete files with comments.

SIGHUP makes a running node read both files again. Keys that the tables below mark so take effect at once, and the log
names the others that have changed. A file that is not accepted changes nothing, and the log says why.
";

const NODE_HEAD: &str = "\
## node.yml

All keys are below the key `node`. The smallest file:

```yaml
node:
  id: \"1\"
  local_address: 127.0.0.1:8001
  data_dir: ./data/1
```
";

const CLUSTER_HEAD: &str = "\
## cluster.yml

All keys are below the key `cluster`. Until the nodes have all met once, those whose `seed`, `replica_count`, `epoch_floor`, node
ids, weights or zones differ refuse each other. Later the file is a wish for `quorate members apply`, and says where nodes may be
found: a node whose file differs, and lists the node itself, serves with what the cluster has, and its log says what differs. No
environment variable overrides these keys. A cluster of three nodes:

```yaml
cluster:
  seed: 0
  replica_count: 3
  nodes:
    1: { remote_address: \"10.0.0.1:8001\" }
    2: { remote_address: \"10.0.0.2:8001\" }
    3: { remote_address: \"10.0.0.3:8001\" }
```
";

/// The reference of all keys, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page += "\n";
    page += NODE_HEAD;
    table(&mut page, &[("", &NODE_KEYS)], true);
    sections(&mut page, "node", &NODE_KEYS);
    page += "\n";
    page += CLUSTER_HEAD;
    table(&mut page, &[("", &CLUSTER_KEYS), ("nodes.ID.", &CLUSTER_NODE_KEYS)], false);
    sections(&mut page, "cluster", &CLUSTER_KEYS);
    sections(&mut page, "cluster.nodes.ID", &CLUSTER_NODE_KEYS);
    page += &rules();
    page
}

fn table(page: &mut String, groups: &[(&str, &[&Key])], has_variables: bool) {
    let variable = |text: &str| if has_variables { format!(" {text} |") } else { String::new() };
    let _ = writeln!(page, "\n| key | value | default |{} a change takes effect |", variable("environment variable"));
    let _ = writeln!(page, "|---|---|---|{}---|", if has_variables { "---|" } else { "" });
    for (above, keys) in groups {
        for key in *keys {
            let Key { name, change, .. } = key;
            let name = format!("`{above}{name}`");
            let variable = variable(&format!("`{}`", key.variable()));
            let (value, default, change) = (value(key), default(key), self::change(*change));
            let _ = writeln!(page, "| {name} | {value} | {default} |{variable} {change} |");
        }
    }
}

fn sections(page: &mut String, above: &str, keys: &[&Key]) {
    for key in keys {
        let _ = writeln!(page, "\n### {above}.{}\n\n{}", key.name, key.about);
    }
}

fn value(key: &Key) -> String {
    match key.kind {
        Kind::NodeId => {
            format!("1 to {NODE_ID_BYTES_MAX} printable ASCII characters without spaces and commas")
        }
        Kind::LocalAddress => "IP:PORT, or :PORT for every interface; the port from 1 to 65535".to_owned(),
        Kind::RemoteAddress => "HOST:PORT, with a host name or an IP address; the port from 1 to 65535".to_owned(),
        Kind::Folder => "the path of a folder".to_owned(),
        Kind::File => "the path of a file".to_owned(),
        Kind::Name => format!("1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, dots, hyphens and underscores"),
        Kind::Choice(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or "),
        Kind::Count { min, max } if key.name == REPLICA_COUNT.name => {
            format!("a whole number from {min} to the number of nodes, at most {max}")
        }
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Bytes { min, max } => format!("a whole number of bytes from {} to {}", bytes(min), bytes(max)),
        Kind::Nodes => "a mapping of node ids to mappings".to_owned(),
        Kind::Table => "the name of a table".to_owned(),
        Kind::Weight => format!("a number from {} to {} with at most two decimals", Weight::MIN, Weight::MAX),
        Kind::Zone => format!("1 to {ZONE_BYTES_MAX} printable ASCII characters without spaces and commas"),
        Kind::Hosts => "host names, separated by commas".to_owned(),
        Kind::Origins => "origins, separated by commas".to_owned(),
        Kind::Collector => "http://HOST:PORT".to_owned(),
        Kind::Fraction => "a number from 0 to 1".to_owned(),
    }
}

fn default(key: &Key) -> String {
    match key.default {
        Fallback::Required => "must be given".to_owned(),
        Fallback::None(meaning) => meaning.to_owned(),
        Fallback::Text(text) => format!("`{text}`"),
        Fallback::Number(value) if matches!(key.kind, Kind::Bytes { .. }) => bytes(value),
        Fallback::Number(value) => value.to_string(),
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Reload => "with SIGHUP, or when the node restarts",
        Change::Restart => "when the node restarts",
        Change::RestartAll => "when each node restarts with it",
        Change::Members => "with `quorate members apply`",
        Change::Fixed => "never: it is fixed at the first start",
    }
}

/// A number of bytes as a file has it, and in a unit that people read.
fn bytes(value: usize) -> String {
    let units = [(40, "TiB"), (20, "MiB"), (10, "KiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| value >> unit > 0).unwrap_or((0, "B"));
    format!("{value} ({} {name})", value >> unit)
}

fn rules() -> String {
    format!(
        "
## Rules of both files

A file is one document of YAML, of at most {CONFIG_BYTES_MAX} bytes and {CONFIG_DEPTH_MAX} levels. Values are taken as
they are written: `01` is not `1`, and only `true` and `false` are truth values. Unknown keys, keys that are given twice,
anchors, aliases and tags are refused. An error is one line: file, line and key, the value found, and the values accepted.

## Environment variables

For each key of node.yml there is a variable: `{VARIABLE_PREFIX}` and the key in capitals. A variable overrides the file,
whose value is then not read. An unknown variable that begins with `{VARIABLE_PREFIX}` is refused, because it is probably
misspelt. Kubernetes sets such variables for a Service called `quorate-node` (`{VARIABLE_PREFIX}SERVICE_HOST`,
`{VARIABLE_PREFIX}PORT`, `{VARIABLE_PREFIX}PORT_8001_TCP_ADDR` and so on). A node ignores them, and logs their names.

The command line reads `QUORATE_ADDRESS` in the place of `--address`, likewise `QUORATE_CA`, `QUORATE_CERT`, `QUORATE_KEY` and
`QUORATE_TOKEN_FILE`, and `quorate serve` reads `RUST_LOG` in the place of `--log-level`; see `quorate --help`.
"
    )
}
