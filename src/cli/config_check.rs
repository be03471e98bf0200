//! `quorate config check`: check configuration files before a node reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::config::{self, ClusterConfig, File, FileReport, NodeConfig, TlsPaths};
use crate::tls::{Name, NodeFiles, NodeTls};

/// Check node.yml and cluster.yml files
///
/// Checks each file by itself, and each node file against each cluster file. Prints one line for each file, and a remark
/// about accepted values that are probably mistakes. Such is a file of TLS that the node would refuse on this machine. Ends with
/// code 2 if a file is not accepted. Environment variables count with --env alone.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate config check node-1.yml cluster.yml
  QUORATE_NODE_ID=2 quorate config check --env node.yml cluster.yml
  quorate config check examples/3-local-nodes/*.yml
  quorate config check --json *.yml | jq '.[] | select(.ok | not)'")]
pub(super) struct Check {
    /// Node files and cluster files, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Let the variables QUORATE_NODE_* override the keys of node files, as serve does
    #[arg(long)]
    env: bool,
}

impl Check {
    pub(super) fn run(self, global: &Global) -> Result<Exit, CliError> {
        let texts = self.files.iter().map(PathBuf::as_path).map(read).collect::<Result<Vec<_>, _>>()?;
        let files: Vec<File<'_>> =
            std::iter::zip(&self.files, &texts).map(|(name, text)| File { name, text }).collect();
        let environment: Vec<(OsString, OsString)> = if self.env { std::env::vars_os().collect() } else { Vec::new() };
        let reports = config::check(&files, &environment);
        let clusters: Vec<ClusterConfig> = files.iter().filter_map(|file| ClusterConfig::parse(*file).ok()).collect();
        let remarks = files.iter().map(|file| tls_remark(*file, &environment, &clusters));
        let reports: Vec<(FileReport, Option<String>)> = std::iter::zip(reports, remarks).collect();
        let refused: Vec<String> =
            reports.iter().filter_map(|(report, _)| report.outcome.as_ref().err()).map(ToString::to_string).collect();
        if global.json {
            print_json(&reports.iter().map(as_json).collect())?;
        } else {
            print(reports.iter().filter_map(as_line).collect::<String>().as_bytes())?;
        }
        if refused.is_empty() { Ok(Exit::Done) } else { Err(CliError::bad_input(refused.join("\nquorate: "))) }
    }
}

/// Reads a configuration file.
pub(super) fn read(file: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(file)
        .map_err(|error| CliError::bad_input(format!("{}: cannot be read: {error}", file.display())))
}

/// The remark that a node would refuse its files of TLS here. They may be there on its own machine alone.
fn tls_remark(file: File<'_>, environment: &[(OsString, OsString)], clusters: &[ClusterConfig]) -> Option<String> {
    let node = NodeConfig::parse(file, environment.iter().cloned()).ok()?;
    let paths = node.tls?;
    // Certificates name the cluster, and so each file is needed to judge them.
    let cluster = clusters.iter().find(|cluster| cluster.parameters.member(&node.id).is_some())?;
    let name = Name::Node { cluster: cluster.name.clone(), id: node.id };
    let TlsPaths { certificate, key, ca } = paths.clone();
    let files = NodeFiles { certificate, key, authorities: ca };
    let error = NodeTls::load(files, name, node.tls_client_certificates_required, node.insecure).err()?;
    let (file, key) = (file.name.display(), paths.key_of(error.file()));
    Some(format!("{file}: {key}: remark: the node would not start on this machine: {error}"))
}

fn remarks((report, of_tls): &(FileReport, Option<String>)) -> impl Iterator<Item = String> {
    report.remarks.iter().map(ToString::to_string).chain(of_tls.clone())
}

fn as_line(checked: &(FileReport, Option<String>)) -> Option<String> {
    let remarks = remarks(checked).map(|remark| format!("{remark}\n"));
    let report = &checked.0;
    let checked = report.outcome.as_ref().ok()?;
    Some(format!("{}: ok ({checked})\n{}", report.file.display(), remarks.collect::<String>()))
}

fn as_json(both: &(FileReport, Option<String>)) -> serde_json::Value {
    let report = &both.0;
    let file = report.file.display().to_string();
    match &report.outcome {
        Ok(checked) => {
            let remarks: Vec<String> = remarks(both).collect();
            json!({ "file": file, "ok": true, "holds": checked.to_string(), "remarks": remarks })
        }
        Err(error) => json!({ "file": file, "ok": false, "error": error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Checked;
    use crate::types::NodeId;

    #[test]
    fn remark_follows_the_line_of_its_file() {
        let node = "node:\n  id: 1\n  local_address: 127.0.0.1:8001\n  data_dir: d\n  insecure: true\n";
        let cluster =
            "cluster:\n  seed: 0\n  replica_count: 1\n  nodes: { 1: { remote_address: \"10.0.0.1:8001\" } }\n";
        let file = |name: &'static str, text| File { name: Path::new(name), text };
        let reports = config::check(&[file("n.yml", node), file("c.yml", cluster)], &[]);
        let reports: Vec<_> = reports.into_iter().map(|report| (report, None)).collect();
        let lines: String = reports.iter().filter_map(as_line).collect();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "n.yml: ok (node 1)");
        assert!(
            lines[1].starts_with("n.yml:3: node.local_address: remark: node 1 listens on 127.0.0.1:8001"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "c.yml: ok (cluster of 1 node, 1 replica)");
        assert_eq!(as_json(&reports[0])["remarks"], json!([lines[1]]));
    }

    #[test]
    fn file_of_tls_that_is_not_there_is_remarked_with_its_key() {
        let node = "node:\n  id: 1\n  local_address: 127.0.0.1:8001\n  data_dir: d\n  tls_certificate: none.crt\n  tls_key: k\n  \
                    tls_ca: ca\n";
        let cluster =
            "cluster:\n  seed: 0\n  replica_count: 1\n  nodes: { 1: { remote_address: \"127.0.0.1:8001\" } }\n";
        let clusters = [ClusterConfig::parse(File { name: Path::new("c.yml"), text: cluster }).unwrap()];
        let file = File { name: Path::new("n.yml"), text: node };
        let remark = tls_remark(file, &[], &clusters).unwrap();
        assert!(remark.starts_with("n.yml: node.tls_certificate: remark: ") && remark.contains("none.crt"), "{remark}");
        let variables = [(OsString::from("QUORATE_NODE_TLS_CERTIFICATE"), OsString::from("/other.crt"))];
        let remark = tls_remark(file, &variables, &clusters).unwrap();
        assert!(remark.contains("/other.crt: cannot be read"), "{remark}");
        assert_eq!(tls_remark(file, &[], &[]), None, "no cluster file says what the certificate is to say");
    }

    #[test]
    fn file_in_order_says_what_it_holds() {
        let outcome = Ok(Checked::Node { id: NodeId::new("1").unwrap() });
        let report = (FileReport { file: "n.yml".into(), outcome, remarks: Vec::new() }, None);
        assert_eq!(as_line(&report).unwrap(), "n.yml: ok (node 1)\n");
        assert_eq!(as_json(&report).to_string(), r#"{"file":"n.yml","holds":"node 1","ok":true,"remarks":[]}"#);
    }
}
