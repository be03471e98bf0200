//! `quorate dev`: run a cluster on this machine.
//!
//! Contract: without `--data-dir` the data is in a new folder with a random name that only this user can enter. The folder
//! is removed at the end, unless the process is killed or told twice to end. Nothing else is removed.

use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::logging::{self, LogFormat, LogLevel};
use super::output::{say, write};
use super::serve::{self, StorageKind};
use super::{CliError, Exit, Global, chaos};
use crate::config::{self, Config, DevPlan, LocalAddress, TlsPaths};
use crate::server::{PreparedServer, Server, ServerError};
use crate::tls::authority::{self, Holder};
use crate::types::Durability;

/// A taken name of 64 random bits is no accident.
const FOLDER_TRIES_MAX: usize = 8;
/// The client that has a certificate, and all rights.
const CLIENT: &str = "dev";
/// How long the certificates of a secure cluster are valid.
const CERTIFICATE_LIFE: Duration = Duration::from_hours(24 * 365);

/// Run a throw-away cluster on this machine
///
/// Listens on loopback alone, and prints commands to paste. Ctrl-C ends the cluster and drops its data, unless --data-dir
/// keeps the data. With --json it prints the nodes' addresses.
///
/// With --chaos the nodes are processes of their own. Clients read and write meanwhile, and each write names the version that
/// it replaces. Nodes are killed (SIGKILL) and paused (SIGSTOP) one at a time and brought back, by itself, or at a terminal on
/// a key: k kills, p pauses, r brings back, a goes on by itself, q quits. A line tells the operations in each second, the
/// slowest hundredth, and what failed. At the end the checker judges all histories. Ends with 6 if one is not linearizable.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate dev
  quorate dev --nodes 5 --port 9101
  quorate dev --chaos                         kill and pause nodes under a load, and judge its history
  quorate dev --data-dir ./data
  quorate dev --secure")]
pub(super) struct Dev {
    /// The number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// The first node's port; the others take the ports after it, HTTP is served 100 above, lines 200, Redis 300, metrics 1000
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Keep the data, in this folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where records are stored
    #[arg(long, value_enum, default_value_t = StorageKind::Rocks)]
    storage: StorageKind,
    /// Speak TLS alone, with certificates of a new CA, ask clients for theirs, and have authorization
    #[arg(long, conflicts_with = "chaos")]
    secure: bool,
    /// Kill and pause nodes under a load, and judge its history
    #[arg(long)]
    chaos: bool,
    /// End the chaos after so long; without it, on Ctrl-C or the key q
    #[arg(long, value_name = "N", requires = "chaos", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

impl Dev {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let _log = logging::init(LogFormat::Human, LogLevel::Warn)?;
        serve::end_process_on_panic();
        let shutdown = serve::shutdown_on_signal()?;
        let folder = Folder::new(self.data_dir.clone())?;
        let plan = DevPlan {
            nodes: usize::from(self.nodes),
            port: self.port,
            data_dir: folder.path.clone(),
            durability: Durability::Fsync,
        };
        let mut configs = config::dev(&plan).map_err(|error| CliError::bad_input(error.to_string()))?;
        if self.chaos {
            return self.run_chaos(global, &configs, &folder, &shutdown).await;
        }
        let tls = if self.secure { Some(secure(&mut configs, &folder)?) } else { None };
        let mut servers = self.start(&configs).await?;
        wait_until_bootstrapped(&servers, &shutdown).await;
        if let (Some(_), Some(server), false) = (&tls, servers.first(), shutdown.is_cancelled()) {
            server.give_all_rights_to_certificate(CLIENT).await.map_err(CliError::not_done)?;
            // What is printed works at once, at each node. One that cannot read it now does so within a second.
            for server in &servers {
                server.learn_who_may_do_what().await;
            }
        }
        let mut failure = None;
        if !shutdown.is_cancelled() {
            let shown = if global.json {
                as_json(&configs, &folder, tls.as_ref())
            } else {
                self.lines_to_paste(&configs, &folder, tls.as_ref())
            };
            if let Err(error) = write(format!("{shown}\n").as_bytes()) {
                // Nobody learns the addresses of the nodes, and a cluster that nobody knows of must not stay behind.
                if error.kind() != ErrorKind::BrokenPipe {
                    failure = Some(CliError::not_done(format!("stdout cannot be written: {error}")));
                }
                shutdown.cancel();
            }
        }
        let (mut running, nodes) = (JoinSet::new(), TaskTracker::new());
        for server in &mut servers {
            server.ends_with(&nodes);
        }
        nodes.close();
        for server in servers {
            running.spawn(server.run(shutdown.clone()));
        }
        while let Some(ended) = running.join_next().await {
            let ended = ended.map_err(|error| CliError::not_done(error.to_string()));
            if let Err(error) = ended.and_then(|ended| ended.map_err(CliError::from)) {
                // One node that fails ends all, each in order.
                shutdown.cancel();
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(Exit::Done), Err)
    }

    async fn run_chaos(
        &self,
        global: &Global,
        configs: &[Config],
        folder: &Folder,
        shutdown: &CancellationToken,
    ) -> Result<Exit, CliError> {
        // Three nodes tolerate the first failure.
        if self.nodes < 3 {
            let problem = format!("--chaos needs --nodes 3 or more: {} tolerate no failure", self.nodes);
            return Err(CliError::bad_input(problem));
        }
        if self.storage == StorageKind::Memory {
            let problem =
                "--chaos needs --storage rocks: a killed node that keeps its records in memory has lost its disk";
            return Err(CliError::bad_input(problem));
        }
        chaos::run(global, configs, self.storage, &folder.path, self.seconds, shutdown).await
    }

    /// Starts all nodes. Every port is bound before the first node looks for the others, so that none of them logs that
    /// another one cannot be reached.
    async fn start(&self, configs: &[Config]) -> Result<Vec<Server>, CliError> {
        let mut prepared = Vec::with_capacity(configs.len());
        for config in configs {
            prepared
                .push(Server::prepare(config, self.storage.into()).await.map_err(|error| self.with_port_hint(error))?);
        }
        let started: Result<Vec<Server>, ServerError> = prepared.into_iter().map(PreparedServer::start).collect();
        started.map_err(|error| self.with_port_hint(error))
    }

    fn with_port_hint(&self, error: ServerError) -> CliError {
        let taken = matches!(error, ServerError::Listen { .. });
        let mut error = CliError::from(error);
        if taken {
            error.message = format!("{}; --port takes another first port than {}", error.message, self.port);
        }
        error
    }

    fn lines_to_paste(&self, configs: &[Config], folder: &Folder, tls: Option<&ClientFiles>) -> String {
        let quorate = std::env::current_exe().map_or_else(|_| "quorate".to_owned(), |path| path.display().to_string());
        let (first, last) = (self.port, self.port + self.nodes - 1);
        let addresses: Vec<String> = configs.iter().map(|config| config.node.local_address.to_string()).collect();
        let addresses = addresses.join(",");
        let first_node = configs.first().map(|config| &config.node);
        let line = |address: Option<LocalAddress>, command: &dyn Fn(String) -> String| {
            address.map_or_else(String::new, |address| format!("\n  {}", command(address.to_string())))
        };
        let (curl, scheme) = tls.map_or_else(|| ("curl".to_owned(), "http"), |tls| (tls.of_curl(), "https"));
        let metrics = line(first_node.and_then(|node| node.local_metrics_address), &|at| {
            format!("{curl} -s {scheme}://{at}/metrics\n  # {scheme}://{at}/ is the status page of the first node")
        });
        let http = line(first_node.and_then(|node| node.local_http_address), &|at| {
            format!("{curl} -X PUT -d hello {scheme}://{at}/greeting\n  {curl} {scheme}://{at}/greeting")
        });
        let lines = line(first_node.and_then(|node| node.local_line_address), &|at| match tls {
            None => format!("echo GET default greeting | nc -N {}", at.replace(':', " ")),
            Some(tls) => tls.of_lines(&at),
        });
        let redis = line(first_node.and_then(|node| node.local_redis_address), &|at| {
            let port = at.rsplit(':').next().unwrap_or_default();
            let options = tls.map(ClientFiles::of_redis).unwrap_or_default();
            format!("redis-cli{options} -p {port} get greeting")
        });
        let variables = tls.map(ClientFiles::variables).unwrap_or_default();
        let grpcurl = tls.map_or_else(|| "grpcurl -plaintext".to_owned(), ClientFiles::of_grpcurl);
        let data_fate = if folder.throw_away.is_some() { "drops its data" } else { "keeps its data" };
        format!(
            "{nodes} nodes on 127.0.0.1:{first} to {last}, data in {path}. Ctrl-C ends them and {data_fate}.\n\n\
             Paste into another terminal:\n  \
             export QUORATE_ADDRESS={addresses}{variables}\n  \
             {quorate} set greeting hello\n  \
             {quorate} get greeting\n  \
             {quorate} status\n  \
             {grpcurl} -d '{{\"entry\": {{\"key\": \"b\", \"value\": \"b-value\"}}}}' localhost:{first} \
             api.Cluster/Set\n  \
             {grpcurl} -d '{{\"key\": \"b\"}}' localhost:{last} api.Cluster/Get{http}{lines}{redis}{metrics}",
            nodes = self.nodes,
            path = folder.path.display(),
        )
    }
}

/// The files by which a client of a secure cluster connects.
struct ClientFiles {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Gives each node a certificate, and a client too. Those of a folder that was kept are used again.
fn secure(configs: &mut [Config], folder: &Folder) -> Result<ClientFiles, CliError> {
    let dir = folder.path.join("tls");
    let ca = dir.join(authority::CA_FILE);
    if !ca.exists() {
        authority::init(&dir, "quorate", CERTIFICATE_LIFE)?;
    }
    for config in configs {
        let id = config.node.id.clone();
        let (certificate, key) = (dir.join(format!("node-{id}.crt")), dir.join(format!("node-{id}.key")));
        if !certificate.exists() {
            let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            authority::issue(&dir, &dir, Holder::Node(&id), &hosts, CERTIFICATE_LIFE)?;
        }
        config.node.tls = Some(TlsPaths { certificate, key, ca: ca.clone() });
        config.node.authorization = true;
    }
    let (certificate, key) = (dir.join(format!("client-{CLIENT}.crt")), dir.join(format!("client-{CLIENT}.key")));
    if !certificate.exists() {
        authority::issue(&dir, &dir, Holder::Client(CLIENT), &[], CERTIFICATE_LIFE)?;
    }
    // The lines are pasted in shells that are elsewhere.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    Ok(ClientFiles { ca: absolute(ca), certificate: absolute(certificate), key: absolute(key) })
}

impl ClientFiles {
    fn quoted(&self) -> [String; 3] {
        [&self.ca, &self.certificate, &self.key].map(|path| quoted(&path.display().to_string()))
    }

    fn variables(&self) -> String {
        let [ca, certificate, key] = self.quoted();
        format!("\n  export QUORATE_CA={ca} QUORATE_CERT={certificate} QUORATE_KEY={key}")
    }

    fn of_curl(&self) -> String {
        let [ca, certificate, key] = self.quoted();
        format!("curl --cacert {ca} --cert {certificate} --key {key}")
    }

    fn of_grpcurl(&self) -> String {
        let [ca, certificate, key] = self.quoted();
        format!("grpcurl -cacert {ca} -cert {certificate} -key {key}")
    }

    fn of_redis(&self) -> String {
        let [ca, certificate, key] = self.quoted();
        format!(" --tls --cacert {ca} --cert {certificate} --key {key}")
    }

    fn of_lines(&self, address: &str) -> String {
        let [ca, certificate, key] = self.quoted();
        format!(
            "(echo GET default greeting; sleep 1) | openssl s_client -quiet -no_ign_eof -verify_quiet -verify_return_error -CAfile {ca} \
             -cert {certificate} -key {key} -connect {address}"
        )
    }
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-+,:@%".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The cluster as one line of JSON.
fn as_json(configs: &[Config], folder: &Folder, tls: Option<&ClientFiles>) -> String {
    let nodes: Vec<_> = configs
        .iter()
        .map(|config| {
            let metrics = config.node.local_metrics_address.as_ref().map(ToString::to_string);
            let address = config.node.local_address.to_string();
            let http = config.node.local_http_address.as_ref().map(ToString::to_string);
            let line = config.node.local_line_address.as_ref().map(ToString::to_string);
            let redis = config.node.local_redis_address.as_ref().map(ToString::to_string);
            json!({
                "id": config.node.id.as_str(),
                "address": address,
                "metrics_address": metrics,
                "http_address": http,
                "line_address": line,
                "redis_address": redis,
            })
        })
        .collect();
    let mut shown = json!({ "nodes": nodes, "data_dir": folder.path, "kept": folder.throw_away.is_none() });
    if let Some(ClientFiles { ca, certificate, key }) = tls {
        shown["tls"] = json!({ "ca": ca, "cert": certificate, "key": key });
    }
    shown.to_string()
}

/// Waits until all nodes take requests, or `shutdown` is cancelled.
async fn wait_until_bootstrapped(servers: &[Server], shutdown: &CancellationToken) {
    for server in servers {
        while !shutdown.is_cancelled()
            && server.handle().status().await.is_ok_and(|status| status.unready.is_some() || !status.all_talk())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The folder of the data. A throw-away folder is removed when this is dropped.
struct Folder {
    path: PathBuf,
    throw_away: Option<FileId>,
}

/// The identity of a folder. A folder that takes the name later has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Folder {
    fn new(keep_in: Option<PathBuf>) -> Result<Self, CliError> {
        let cannot_make = |path: &std::path::Path, error| {
            CliError::bad_input(format!("cannot make folder {}: {error}", path.display()))
        };
        if let Some(path) = keep_in {
            std::fs::create_dir_all(&path).map_err(|error| cannot_make(&path, error))?;
            return Ok(Self { path, throw_away: None });
        }
        let mut tries = 0;
        loop {
            // Other users may write to this place too. A random name cannot be guessed, and a taken name is left alone.
            let path = std::env::temp_dir().join(format!("quorate-dev-{:016x}", rand::random::<u64>()));
            let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| std::fs::symlink_metadata(&path));
            tries += 1;
            match made {
                Ok(metadata) => return Ok(Self { path, throw_away: Some(FileId::of(&metadata)) }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < FOLDER_TRIES_MAX => {}
                Err(error) => return Err(cannot_make(&path, error)),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(made) = self.throw_away else { return };
        let removed = match std::fs::symlink_metadata(&self.path) {
            Ok(metadata) if FileId::of(&metadata) == made => std::fs::remove_dir_all(&self.path),
            Ok(_) => Err(std::io::Error::other("something else has its name now")),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            say(&format!("could not remove {}: {error}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn throw_away_folder_is_new_private_and_removed_with_what_is_in_it() {
        let (one, other) = (Folder::new(None).unwrap(), Folder::new(None).unwrap());
        assert_ne!(one.path, other.path);
        let mode = std::fs::metadata(&one.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::create_dir(one.path.join("1")).unwrap();
        let path = one.path.clone();
        drop(one);
        assert!(!path.exists() && other.path.exists());
    }

    #[test]
    fn folder_that_took_its_place_is_left_alone() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path.clone();
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        std::fs::create_dir(&path).unwrap();
        drop(folder);
        assert!(path.exists(), "it was not made by this folder");
        std::fs::remove_dir(&path).unwrap();
        std::fs::remove_dir(&away).unwrap();
    }

    #[test]
    fn path_is_one_word_of_a_shell() {
        for (path, word) in
            [("/tmp/a-b.crt", "/tmp/a-b.crt"), ("/a b/c", "'/a b/c'"), ("it's", "'it'\\''s'"), ("", "''")]
        {
            assert_eq!(quoted(path), word);
        }
    }

    #[test]
    fn folder_that_keeps_its_data_stays() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("kept");
        drop(Folder::new(Some(path.clone())).unwrap());
        assert!(path.exists());
    }
}
