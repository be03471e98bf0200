//! `quorate dev`: a cluster on this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::logging::{self, LogFormat, LogLevel};
use super::serve::{self, StorageKind};
use super::{CliError, Exit, Global};
use crate::config::{self, Config, DevPlan};
use crate::server::{Server, ServerError};
use crate::types::Durability;

/// Run a throw-away cluster on this machine
///
/// Listens on loopback alone. Ctrl-C ends it and drops its data, unless --data-dir keeps it.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate dev
  quorate dev --nodes 5 --port 9101
  quorate dev --data-dir ./data")]
pub(super) struct Dev {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// The first node's port; the others take those after it
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Keep the data in this folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where records are kept
    #[arg(long, value_enum, default_value_t = StorageKind::Rocks)]
    storage: StorageKind,
}

impl Dev {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        logging::init(LogFormat::Human, LogLevel::Warn).map_err(|error| CliError::not_done(error.to_string()))?;
        serve::end_process_on_panic();
        let shutdown = serve::shutdown_on_signal()?;
        let folder = Folder::new(self.data_dir.clone())?;
        let plan = DevPlan {
            nodes: usize::from(self.nodes),
            port: self.port,
            data_dir: folder.path.clone(),
            durability: Durability::Fsync,
        };
        let configs = config::dev(&plan).map_err(|error| CliError::bad_input(error.to_string()))?;
        let mut servers = Vec::with_capacity(configs.len());
        for config in &configs {
            let server = Server::start(config, self.storage.into()).await.map_err(|error| self.explain(error))?;
            servers.push(server);
        }
        formed(&servers, &shutdown).await;
        if !shutdown.is_cancelled() {
            let shown = if global.json { described(&configs, &folder) } else { self.lines_to_paste(&configs, &folder) };
            println!("{shown}");
        }
        let mut running = JoinSet::new();
        for server in servers {
            running.spawn(server.run(shutdown.clone()));
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| CliError::not_done(error.to_string()))??;
        }
        Ok(Exit::Done)
    }

    fn explain(&self, error: ServerError) -> CliError {
        let taken = matches!(error, ServerError::Listen { .. });
        let mut error = CliError::from(error);
        if taken {
            error.message = format!("{}; --port takes another first port than {}", error.message, self.port);
        }
        error
    }

    fn lines_to_paste(&self, configs: &[Config], folder: &Folder) -> String {
        let quorate = std::env::current_exe().map_or_else(|_| "quorate".to_owned(), |path| path.display().to_string());
        let (first, last) = (self.port, self.port + self.nodes - 1);
        let addresses: Vec<String> = configs.iter().map(|config| config.node.local_address.to_string()).collect();
        let addresses = addresses.join(",");
        let metrics = configs.first().and_then(|config| config.node.local_metrics_address.as_ref());
        let metrics = metrics.map_or_else(String::new, |address| format!("\n  curl -s http://{address}/metrics"));
        let fate = if folder.throw_away { "drops its data" } else { "keeps its data" };
        format!(
            "{nodes} nodes on 127.0.0.1:{first} to {last}, data in {path}. Ctrl-C ends them and {fate}.\n\n\
             Paste into another terminal:\n  \
             export QUORATE_ADDRESS={addresses}\n  \
             {quorate} set greeting hello\n  \
             {quorate} get greeting\n  \
             {quorate} status\n  \
             grpcurl -plaintext -d '{{\"entry\": {{\"key\": \"b\", \"value\": \"b-value\"}}}}' localhost:{first} \
             api.Cluster/Set\n  \
             grpcurl -plaintext -d '{{\"key\": \"b\"}}' localhost:{last} api.Cluster/Get{metrics}",
            nodes = self.nodes,
            path = folder.path.display(),
        )
    }
}

/// The cluster for a script, in one line.
fn described(configs: &[Config], folder: &Folder) -> String {
    let nodes: Vec<_> = configs
        .iter()
        .map(|config| {
            let metrics = config.node.local_metrics_address.as_ref().map(ToString::to_string);
            let address = config.node.local_address.to_string();
            json!({ "id": config.node.id.as_str(), "address": address, "metrics_address": metrics })
        })
        .collect();
    json!({ "nodes": nodes, "data_dir": folder.path, "kept": !folder.throw_away }).to_string()
}

/// Waits until all nodes take requests, or the user has lost patience.
async fn formed(servers: &[Server], shutdown: &CancellationToken) {
    for server in servers {
        while !shutdown.is_cancelled()
            && server.handle().status().await.is_ok_and(|status| status.unready.is_some() || !status.all_talk())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Where the data is; a throw-away folder is removed when this is dropped.
struct Folder {
    path: PathBuf,
    throw_away: bool,
}

impl Folder {
    fn new(keep_in: Option<PathBuf>) -> Result<Self, CliError> {
        let throw_away = keep_in.is_none();
        let path = keep_in.unwrap_or_else(|| std::env::temp_dir().join(format!("quorate-dev-{}", std::process::id())));
        std::fs::create_dir_all(&path)
            .map_err(|error| CliError::bad_input(format!("cannot make folder {}: {error}", path.display())))?;
        Ok(Self { path, throw_away })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.throw_away
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("quorate: could not remove {}: {error}", self.path.display());
        }
    }
}
