//! `quorate debug bundle`: what is known of a cluster, in one folder or file, to be sent to somebody who helps.
//!
//! Contract: the bundle holds neither values nor keys of the store, no secret of a configuration file, no token and no private key.
//! What could not be gathered is named in the bundle with the reason, and ends nothing: a bundle is made when things are broken.
//!
//! Caveat: names of hosts, addresses, ids, names of tables and of files are in it.

mod redact;
mod tar;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::output::{chain, print, print_json};
use super::repair;
use super::status::ask;
use super::{CliError, Exit, Global};
use crate::client::endpoint;
use crate::resolve::connect_for_http_1;
use crate::service::members::text::members_json;
use crate::tls::Dialer;
use redact::{without_credentials, without_keys, without_secrets};

/// The end of a log file that is taken: some ten thousand lines.
const LOG_BYTES_MAX: u64 = 2 << 20;
/// A page of metrics has 50 KiB.
const METRICS_BYTES_MAX: u64 = 8 << 20;
const METRICS_TIME_MAX: Duration = Duration::from_secs(5);
/// The part of it that a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Files of configurations have a few lines.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Debug {
    Bundle(Bundle),
}

/// Gather what is known of a cluster into a folder, or into a file whose name ends with .tar
///
/// Asks the nodes for their status, members and repair, and for metrics where it knows the address. Adds what is known of this
/// machine, and the files that you name: configurations without secrets, and the ends of logs without keys. Tokens and private keys are removed from every file. The
/// bundle holds no values. It holds addresses, ids and names of tables: look into it before you give it away.
///
/// What cannot be gathered is left out, and README.txt in the bundle says why. --ca and --token-file hold for the metrics too.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate debug bundle
  quorate debug bundle bundle.tar --config /etc/quorate/node.yml --config /etc/quorate/cluster.yml
  journalctl -u quorate -o cat --since -1h > node.log; quorate debug bundle --log node.log
  quorate debug bundle --metrics n1:9001,n2:9001,n3:9001")]
pub(super) struct Bundle {
    /// The folder to make, or a file whose name ends with .tar; quorate-debug-SECONDS without it
    #[arg(value_name = "FOLDER|FILE.tar")]
    to: Option<PathBuf>,
    /// A node.yml, cluster.yml or contexts.yml of this machine; repeat the option. The metrics of a node.yml's node are asked for too
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// A log of a node, of which the end is taken; repeat the option
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// The `local_metrics_address` of a node, as seen from here; repeat the option, or separate nodes by commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    metrics: Vec<String>,
}

/// What was gathered.
#[derive(Default)]
struct Gathered {
    /// Names with slashes, and contents.
    files: Vec<(String, Vec<u8>)>,
    /// What is not there, and why.
    left_out: Vec<String>,
}

impl Bundle {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let to = self.to.clone().unwrap_or_else(|| format!("quorate-debug-{seconds}").into());
        let name = to.to_string_lossy();
        if [".tar.gz", ".tgz", ".zip", ".tar.xz"].iter().any(|end| name.ends_with(end)) {
            return Err(CliError::bad_input(format!(
                "{name}: bundles are not compressed: give a folder, or a name that ends with .tar"
            )));
        }
        if to.exists() {
            return Err(CliError::bad_input(format!("{} exists already: name another one", to.display())));
        }
        // A bad address, or a file of TLS that cannot be read, is a mistake of the command line, and no broken cluster.
        global.addresses()?;
        let dialer = global.dialer()?;
        let mut gathered = Gathered::default();
        gathered.add_json("machine.json", &machine(seconds));
        gathered.ask_nodes(global).await;
        let mut metrics = self.metrics.clone();
        for file in &self.config {
            metrics.extend(gathered.add_config(file));
        }
        for file in &self.log {
            let text = end_of(file, LOG_BYTES_MAX).map(|text| without_keys(&text).into_bytes());
            gathered.add_or_leave_out(&format!("logs/{}", name_of(file)), text);
        }
        metrics.sort();
        metrics.dedup();
        for address in &metrics {
            gathered.add_or_leave_out(&metrics_name(address), metrics_of(address, &dialer).await);
        }
        let readme = gathered.readme();
        gathered.add("README.txt", readme.as_bytes());
        write(&to, &gathered.files)?;
        if global.json {
            let names: Vec<&str> = gathered.files.iter().map(|(name, _)| name.as_str()).collect();
            print_json(&json!({ "bundle": to.display().to_string(), "files": names, "left_out": gathered.left_out }))?;
        } else {
            let left_out = gathered.left_out.iter().map(|line| format!("left out: {line}\n"));
            let text = left_out.collect::<String>() + &format!("{}\n", to.display());
            print(text.as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

impl Gathered {
    /// All files come through here, and none of them keeps a token or a private key.
    fn add(&mut self, name: &str, content: &[u8]) {
        let content = without_credentials(&String::from_utf8_lossy(content)).into_bytes();
        self.files.push((name.to_owned(), content));
    }

    fn add_json(&mut self, name: &str, json: &Json) {
        self.add(name, format!("{json:#}\n").as_bytes());
    }

    fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push(format!("{name}: {}", why.replace('\n', "; ")));
    }

    fn add_or_leave_out(&mut self, name: &str, content: Result<Vec<u8>, String>) {
        match content {
            Ok(content) => {
                // Two files of one name are both kept.
                let taken = self
                    .files
                    .iter()
                    .filter(|(other, _)| other == name || other.starts_with(&format!("{name}.")))
                    .count();
                let name = if taken == 0 { name.to_owned() } else { format!("{name}.{}", taken + 1) };
                self.add(&name, &content);
            }
            Err(why) => self.leave_out(name, &why),
        }
    }

    /// What the nodes say.
    async fn ask_nodes(&mut self, global: &Global) {
        match ask(global).await {
            Ok(report) => {
                self.add_json("status.json", &report.as_json());
                self.add("status.txt", report.as_text().as_bytes());
            }
            Err(error) => self.leave_out("status.json, status.txt", &error.message),
        }
        // Where there is no client, the status has said why.
        let Ok(client) = global.client() else { return };
        match client.members().await {
            Ok(members) => self.add_json("members.json", &members_json(&members)),
            Err(error) => self.leave_out("members.json", &error.to_string()),
        }
        let repair = async {
            let info = client.cluster_info().await?;
            repair::Report::ask(&info, global).await
        };
        match repair.await {
            Ok(report) => self.add_json("repair.json", &report.as_json()),
            Err(error) => self.leave_out("repair.json", &error.message),
        }
    }

    /// A configuration file. Returns where the metrics of its node are.
    fn add_config(&mut self, file: &Path) -> Option<String> {
        let text = end_of(file, CONFIG_BYTES_MAX);
        let address = text.as_ref().ok().and_then(|text| metrics_address(text));
        self.add_or_leave_out(
            &format!("config/{}", name_of(file)),
            text.map(|text| without_secrets(&text).into_bytes()),
        );
        address
    }

    fn readme(&self) -> String {
        let mut text = "What was known of a Quorate cluster. It holds neither keys nor values, no token, no private key and no secret\n\
                        of a configuration. It holds names of hosts, addresses, ids and names of tables.\n\nFiles:\n"
            .to_owned();
        for (name, content) in &self.files {
            let _ = writeln!(text, "  {name}, {} bytes", content.len());
        }
        if !self.left_out.is_empty() {
            text += "\nLeft out:\n";
            text.extend(self.left_out.iter().map(|line| format!("  {line}\n")));
        }
        text
    }
}

/// The program and the machine.
fn machine(seconds: u64) -> Json {
    // Linux has these files; elsewhere the figures are absent.
    let of_file = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let memory = of_file("/proc/meminfo");
    let of_memory = |name: &str| {
        let line = memory.as_ref()?.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let files = getrlimit(Resource::RLIMIT_NOFILE).ok();
    json!({
        "made_at_unix_seconds": seconds,
        "quorate_version": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "kernel": of_file("/proc/sys/kernel/osrelease"),
        "architecture": std::env::consts::ARCH,
        "processors": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "memory_bytes": of_memory("MemTotal:"),
        "memory_available_bytes": of_memory("MemAvailable:"),
        "load": of_file("/proc/loadavg"),
        "open_files_soft": files.map(|(soft, _)| soft),
        "open_files_hard": files.map(|(_, hard)| hard),
    })
}

/// The last name of a path.
fn name_of(file: &Path) -> String {
    file.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The end of a file, from the beginning of a line on.
fn end_of(path: &Path, bytes_max: u64) -> Result<String, String> {
    let read = || {
        let mut file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        let from = size.saturating_sub(bytes_max);
        // A pipe has no size, and is read from its beginning.
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>((bytes, from > 0))
    };
    let (bytes, is_cut) = read().map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, rest)) if is_cut => rest.to_owned(),
        _ => text,
    })
}

/// Where the metrics of the node of a node.yml are, as seen from its machine.
fn metrics_address(text: &str) -> Option<String> {
    // The file may be one that no node accepts, so that it is not parsed as a whole.
    let line = text.lines().find_map(|line| line.trim().strip_prefix("local_metrics_address:"))?;
    let value = line.split(" #").next()?.trim().trim_matches(['"', '\'']);
    let (host, port) = value.rsplit_once(':')?;
    let _: u16 = port.parse().ok()?;
    let is_any = matches!(host, "" | "0.0.0.0" | "[::]");
    Some(if is_any { format!("127.0.0.1:{port}") } else { value.to_owned() })
}

/// The name of a page of metrics: its host and port alone.
fn metrics_name(address: &str) -> String {
    let host = address.rsplit('@').next().unwrap_or_default();
    let host = host.rsplit("://").next().unwrap_or_default().trim_end_matches('/');
    format!("metrics/{}.txt", host.replace([':', '/', '[', ']'], "_"))
}

/// The page of metrics at an address, which has the rules of the address of a node: a token goes over TLS, or to this machine.
async fn metrics_of(address: &str, dialer: &Dialer) -> Result<Vec<u8>, String> {
    let uri = endpoint(address, dialer).map_err(|problem| problem.to_string())?.uri().clone();
    let host = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default());
    let token = dialer.authorization().and_then(|value| value.to_str().ok());
    let authorization = token.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
    let request = format!("GET /metrics HTTP/1.0\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n");
    let asked = async {
        let connected = connect_for_http_1(uri, dialer.clone(), CONNECT_TIME_MAX).await;
        let mut stream = connected.map_err(|error| chain(&*error))?;
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.take(METRICS_BYTES_MAX).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(answer)
    };
    let asked = tokio::time::timeout(METRICS_TIME_MAX, asked).await;
    let answer = asked.map_err(|_| "it has not answered in time".to_owned())??;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or("the answer is no HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let first = head.lines().next().unwrap_or_default();
    let body = &answer[end + 4..];
    match first.split(' ').nth(1) {
        Some("200") => Ok(body.to_vec()),
        Some("401" | "403") => Err(format!("it answered {first:?}: give --token-file with the token of an observer")),
        // A node that takes TLS alone says so.
        _ => {
            let said = String::from_utf8_lossy(body).lines().next().unwrap_or_default().to_owned();
            Err(format!("it answered {first:?} {said:?}: name the local_metrics_address of a node"))
        }
    }
}

/// Writes the bundle. Others must not read what only its maker may read.
fn write(to: &Path, files: &[(String, Vec<u8>)]) -> Result<(), CliError> {
    let failed = |path: &Path, error: std::io::Error| {
        CliError::bad_input(format!("{}: cannot be written: {error}; name another place", path.display()))
    };
    if to.extension().is_some_and(|extension| extension == "tar") {
        let folder = name_of(&to.with_extension(""));
        let bytes = tar::archive(&folder, files);
        return private_file(to, &bytes).map_err(|error| failed(to, error));
    }
    for (name, content) in files {
        let path = to.join(name);
        let folder = path.parent().unwrap_or(to);
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        private_file(&path, content).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn private_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::File::options().create_new(true).write(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_file_begins_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(end_of(&path, 100).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(end_of(&path, 8).unwrap(), "three\n");
        assert!(end_of(&folder.path().join("none"), 8).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn metrics_are_asked_for_where_the_node_serves_them() {
        for (line, expected) in [
            ("local_metrics_address: \":9001\"", Some("127.0.0.1:9001")),
            ("local_metrics_address: 0.0.0.0:9001 # all", Some("127.0.0.1:9001")),
            ("local_metrics_address: 10.0.0.7:9001", Some("10.0.0.7:9001")),
            ("local_address: 10.0.0.7:9001", None),
            ("local_metrics_address: none", None),
        ] {
            let text = format!("node:\n  id: 1\n  {line}\n");
            assert_eq!(metrics_address(&text).as_deref(), expected, "{line}");
        }
        for (address, name) in [
            ("127.0.0.1:9001", "metrics/127.0.0.1_9001.txt"),
            ("https://ada:secret@n1:9001/", "metrics/n1_9001.txt"),
            ("[::1]:9001", "metrics/___1__9001.txt"),
        ] {
            assert_eq!(metrics_name(address), name);
        }
    }

    #[test]
    fn two_files_of_one_name_are_both_kept() {
        let mut gathered = Gathered::default();
        for content in ["a", "b", "c"] {
            gathered.add_or_leave_out("logs/node.log", Ok(content.into()));
        }
        gathered.add_or_leave_out("logs/other.log", Err("it is gone".to_owned()));
        let names: Vec<&str> = gathered.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["logs/node.log", "logs/node.log.2", "logs/node.log.3"]);
        let readme = gathered.readme();
        assert!(readme.contains("Left out:\n  logs/other.log: it is gone\n"), "{readme}");
        gathered.add_json("status.json", &json!({ "detail": "refused qrt_a1_SECRET" }));
        let (_, last) = gathered.files.last().unwrap();
        assert!(!String::from_utf8_lossy(last).contains("SECRET"), "every file loses its tokens");
    }
}
