//! `quorate config check`: check configuration files before a node reads them.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::config::{self, File, FileReport};

/// Check node.yml and cluster.yml files
///
/// Checks each file by itself, and each node file against each cluster file. Prints one line for each file, and a remark
/// about accepted values that are probably mistakes. Ends with code 2 if a file is not accepted. Environment variables are
/// ignored.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate config check node-1.yml cluster.yml
  quorate config check examples/3-local-nodes/*.yml
  quorate config check --json *.yml | jq '.[] | select(.ok | not)'")]
pub(super) struct Check {
    /// Node files and cluster files, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(self, global: &Global) -> Result<Exit, CliError> {
        let texts = self.files.iter().map(PathBuf::as_path).map(read).collect::<Result<Vec<_>, _>>()?;
        let files: Vec<File<'_>> =
            std::iter::zip(&self.files, &texts).map(|(name, text)| File { name, text }).collect();
        let reports = config::check(&files);
        let refused: Vec<String> =
            reports.iter().filter_map(|report| report.outcome.as_ref().err()).map(ToString::to_string).collect();
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

fn as_line(report: &FileReport) -> Option<String> {
    let checked = report.outcome.as_ref().ok()?;
    let remarks = report.remarks.iter().map(|remark| format!("{remark}\n"));
    Some(format!("{}: ok ({checked})\n{}", report.file.display(), remarks.collect::<String>()))
}

fn as_json(report: &FileReport) -> serde_json::Value {
    let file = report.file.display().to_string();
    match &report.outcome {
        Ok(checked) => {
            let remarks: Vec<String> = report.remarks.iter().map(ToString::to_string).collect();
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
        let reports = config::check(&[file("n.yml", node), file("c.yml", cluster)]);
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
    fn file_in_order_says_what_it_holds() {
        let outcome = Ok(Checked::Node { id: NodeId::new("1").unwrap() });
        let report = FileReport { file: "n.yml".into(), outcome, remarks: Vec::new() };
        assert_eq!(as_line(&report).unwrap(), "n.yml: ok (node 1)\n");
        assert_eq!(as_json(&report).to_string(), r#"{"file":"n.yml","holds":"node 1","ok":true,"remarks":[]}"#);
    }
}
