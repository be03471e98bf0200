//! Nodes that speak TLS alone and ask who calls, for the cases that say `secured`.
//!
//! Contract: what a case asks for (a token, a certificate, a CA) is made for it alone. Each node knows it before the case
//! begins, unless the case says that it is young.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use super::testkit::cluster::{Cluster, Plan, START_TIME_MAX, write};
use super::testkit::process::{self, poll};

/// How long a change of the tokens may take until each node knows it: two seconds are promised.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// How long a client goes on with the token of a file that was replaced, and more.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(1_200);
/// How long a node goes on with a token that was revoked.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// A cluster whose first administrator is made, and its CA in the folder `ca`.
pub struct Secured {
    /// Its nodes. What waits for them by plain text waits in vain.
    pub cluster: Cluster,
    /// The token of the case, and its rights.
    token: PathBuf,
    rights: Vec<String>,
}

impl Secured {
    /// Starts the nodes, and makes the first administrator.
    pub async fn start() -> Self {
        let cluster = Cluster::prepare(&Plan { seed: 7, ..Plan::default() });
        let mut secured = Self { cluster, token: PathBuf::new(), rights: Vec::new() };
        secured.run(&["ca", "init", "ca", "--cluster", "quorate"]);
        secured.run(&["ca", "init", "other", "--cluster", "quorate"]);
        for node in &secured.cluster.nodes {
            let id = node.id.as_str();
            secured.run(&["ca", "issue", "node", id, "--dir", "ca"]);
            let files =
                format!("  tls_certificate: ca/node-{id}.crt\n  tls_key: ca/node-{id}.key\n  tls_ca: ca/ca.crt\n");
            let text = process::read(&node.files.node_file) + &files + "  authorization: true\n";
            write(&node.files.node_file, &text);
        }
        secured.cluster.start_all();
        let bootstrap = format!("--bootstrap={}", secured.cluster.dir().join("data").join("1").display());
        let first = secured.cluster.nodes[0].address();
        let create = ["token", "create", "root", &bootstrap, "--out", "root.token"];
        poll("the first administrator", START_TIME_MAX, async || {
            secured.try_run(&[&["--address", &first, "--ca", "ca/ca.crt"][..], &create[..]].concat())
        })
        .await;
        secured.wait_known(&["--token-file", "root.token"]).await;
        secured.wait_all_linked().await;
        secured
    }

    /// Makes what a case asks for. Returns what its client is given.
    pub async fn begin(&mut self, case: &Value) -> Value {
        let asked = &case["secured"];
        let rights = asked["rights"].as_array().into_iter().flatten();
        self.rights = rights.filter_map(Value::as_str).map(str::to_owned).collect();
        let mut given = json!({ "addresses": self.cluster.addresses() });
        match asked["ca"].as_str() {
            None => given["ca_file"] = json!(self.path("ca/ca.crt")),
            Some("other") => given["ca_file"] = json!(self.path("other/ca.crt")),
            Some("none") => {}
            Some(other) => panic!("a case has no CA {other}"),
        }
        if let Some(name) = asked["certificate"].as_str() {
            self.run(&["ca", "issue", "client", name, "--dir", "ca"]);
            let (certificate, key) = (format!("ca/client-{name}.crt"), format!("ca/client-{name}.key"));
            let mut create = vec!["token", "create", name, "--certificate", name];
            create.extend(self.rights.iter().flat_map(|right| ["--allow", right]));
            self.as_root(&create);
            self.wait_known(&["--cert", &certificate, "--key", &key]).await;
            given["certificate_file"] = json!(self.path(&certificate));
            given["key_file"] = json!(self.path(&key));
        }
        if let Some(name) = asked["token"].as_str() {
            self.token = self.make_token(name);
            if asked["is_young"] != true {
                self.wait_known(&["--token-file", &self.token.display().to_string()]).await;
            }
            given["token_file"] = json!(self.token);
        }
        given
    }

    /// Puts a new token into the file of the case's token, and revokes the one before once no client has it any more.
    pub async fn renew_token(&mut self) {
        let old = process::read(&self.token);
        let new = self.make_token("renewed-again");
        self.wait_known(&["--token-file", &new.display().to_string()]).await;
        std::fs::rename(new, &self.token).expect("a file can be renamed in its folder");
        tokio::time::sleep(READ_AGAIN_AFTER).await;
        self.revoke(&old);
        tokio::time::sleep(REVOKED_WITHIN).await;
    }

    /// Revokes the token of the case.
    pub fn revoke_token(&self) {
        self.revoke(&process::read(&self.token));
    }

    /// Waits until every node is linked to every other one.
    pub async fn wait_all_linked(&self) {
        for node in &self.cluster.nodes {
            let address = node.address();
            poll(&format!("node {} to be linked", node.id), START_TIME_MAX, async || {
                let said = self.try_run(&[&of_root(&address)[..], &["--json", "status"]].concat())?;
                let is_linked = said.contains("\"failures_tolerated\":1") && !said.contains("UNREACHABLE");
                if is_linked { Ok(()) } else { Err(said) }
            })
            .await;
        }
    }

    /// Makes a token with the rights of the case at the first node. Its file is named after it.
    fn make_token(&self, name: &str) -> PathBuf {
        let file = self.path(&format!("{name}.token"));
        let out = file.display().to_string();
        let mut create = vec!["token", "create", name, "--out", &out];
        create.extend(self.rights.iter().flat_map(|right| ["--allow", right]));
        self.as_root(&create);
        file
    }

    fn revoke(&self, token: &str) {
        let id = token.split('_').nth(1).expect("a token has an id");
        self.as_root(&["token", "revoke", id]);
    }

    /// Waits until each node knows who shows `credentials`.
    async fn wait_known(&self, credentials: &[&str]) {
        for node in &self.cluster.nodes {
            let address = node.address();
            poll(&format!("node {} to know {credentials:?}", node.id), KNOWN_WITHIN, async || {
                let asking = [&["--address", &address, "--ca", "ca/ca.crt"][..], credentials, &["tables", "list"]];
                self.try_run(&asking.concat())
            })
            .await;
        }
    }

    fn as_root(&self, arguments: &[&str]) {
        let address = self.cluster.nodes[0].address();
        self.run(&[&of_root(&address)[..], arguments].concat());
    }

    fn run(&self, arguments: &[&str]) {
        self.try_run(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }

    /// The answer of a command, or its error.
    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = process::command();
        command.current_dir(self.cluster.dir()).args(arguments);
        let Output { status, stdout, stderr } = command.output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }
}

/// The options of the administrator. Files are named as the folder of the cluster has them.
fn of_root(address: &str) -> [&str; 6] {
    ["--address", address, "--ca", "ca/ca.crt", "--token-file", "root.token"]
}
