//! `quorate ca`: a CA of one's own, and what certificates say.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::config::is_cluster_name;
use crate::tls::authority::{self, AuthorityError, Holder, Issued};
use crate::tls::{self, Facts, date};
use crate::types::NodeId;

/// The hosts that every certificate of a node is for: its own machine.
const OWN_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_hours(24);

/// Make certificates, for those who have no CA, and show what certificates say
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate ca init ca --cluster prod
  quorate ca issue node 1 --san n1.example --san 10.0.0.1
  quorate ca issue client ada
  quorate ca show ca/node-1.crt")]
pub(super) struct Ca {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Init),
    Issue(Issue),
    Show(Show),
}

/// Make a CA in a new folder: ca.crt for everybody, and ca.key, which issues certificates and stays there
///
/// Keep ca.key off the machines of the nodes: whoever has it can pose as every node and client.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate ca init ca
  quorate ca init ca --cluster prod --days 3650")]
struct Init {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The name of the cluster in certificates: cluster.name of its cluster.yml
    #[arg(long, value_name = "NAME", default_value = "quorate", value_parser = cluster_name)]
    cluster: String,
    /// How many days the CA is valid
    #[arg(long, value_name = "DAYS", default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// Issue a certificate with its key
///
/// A node's certificate is for the hosts of --san, and for localhost. A client's names the client: no host is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate ca issue node 1 --san n1.example --san 10.0.0.1
  quorate ca issue client ada --dir ca --out ada --days 30
  quorate ca issue node 1 --renew               another certificate in place of ca/node-1.crt")]
struct Issue {
    /// For whom it is
    #[arg(value_enum)]
    kind: Kind,
    /// The node's id in cluster.yml, or the client's name
    #[arg(value_name = "NAME")]
    name: String,
    /// A host name or IP address by which clients reach the node; repeat the option, or separate hosts by commas
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    san: Vec<String>,
    /// The folder of the CA
    #[arg(long, value_name = "DIR", default_value = "ca")]
    dir: PathBuf,
    /// The folder of the new files; without it that of the CA
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many days it is valid; never longer than the CA
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
    /// Replace the files that are there, for the same hosts unless --san gives others
    #[arg(long)]
    renew: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A node, for its tls_certificate and tls_key
    Node,
    /// A client, for its --cert and --key
    Client,
}

/// Show what certificates say: whose they are, who issued them, for how long and for which names
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate ca show ca/ca.crt ca/node-1.crt
  quorate ca show --json ca/node-1.crt | jq '.[0].not_after'")]
struct Show {
    /// Files of certificates in PEM
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl From<AuthorityError> for CliError {
    fn from(error: AuthorityError) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl Ca {
    pub(super) fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self.command {
            Command::Init(init) => init.run(global),
            Command::Issue(issue) => issue.run(global),
            Command::Show(show) => show.run(global),
        }
    }
}

impl Init {
    fn run(self, global: &Global) -> Result<Exit, CliError> {
        print_issued(&authority::init(&self.folder, &self.cluster, DAY * self.days)?, global)
    }
}

impl Issue {
    fn run(self, global: &Global) -> Result<Exit, CliError> {
        let out = self.out.as_ref().unwrap_or(&self.dir);
        let life = DAY * self.days;
        let issue = if self.renew { authority::renew } else { authority::issue };
        let issued = match self.kind {
            Kind::Node => {
                let id = NodeId::new(&self.name).map_err(|error| CliError::bad_input(format!("NAME: {error}")))?;
                let hosts = hosts(self.san, self.renew);
                issue(&self.dir, out, Holder::Node(&id), &hosts, life)?
            }
            Kind::Client if !self.san.is_empty() => {
                return Err(CliError::bad_input("--san is for nodes: a client's certificate names the client alone"));
            }
            Kind::Client => {
                let is_plain = |character: char| !character.is_control() && !character.is_whitespace();
                if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(is_plain) {
                    return Err(CliError::bad_input("NAME: 1 to 64 bytes without spaces are accepted"));
                }
                issue(&self.dir, out, Holder::Client(&self.name), &[], life)?
            }
        };
        print_issued(&issued, global)
    }
}

impl Show {
    fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut shown = Vec::new();
        for file in &self.files {
            let facts = tls::facts(file).map_err(|error| CliError::bad_input(error.to_string()))?;
            shown.extend(facts.into_iter().map(|facts| (file, facts)));
        }
        if global.json {
            print_json(&shown.iter().map(|(file, facts)| as_json(&file.display().to_string(), facts)).collect())?;
        } else {
            let texts: Vec<String> =
                shown.iter().map(|(file, facts)| as_text(&file.display().to_string(), facts)).collect();
            print(texts.join("\n").as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

/// The hosts of a node's certificate: its own machine, and those of --san. A renewed one without --san keeps those that it has, which
/// no host stands for.
fn hosts(san: Vec<String>, renew: bool) -> Vec<String> {
    if renew && san.is_empty() {
        return san;
    }
    let mut hosts: Vec<String> = OWN_HOSTS.map(str::to_owned).into();
    for host in san {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn cluster_name(text: &str) -> Result<String, String> {
    if is_cluster_name(text) {
        return Ok(text.to_owned());
    }
    Err("1 to 64 letters, digits, dots, hyphens and underscores are accepted, such as prod".to_owned())
}

fn print_issued(issued: &Issued, global: &Global) -> Result<Exit, CliError> {
    let (certificate, key) = (issued.certificate.display(), issued.key.display());
    if global.json {
        let mut shown = as_json(&certificate.to_string(), &issued.facts);
        shown["key"] = json!(key.to_string());
        print_json(&shown)?;
    } else {
        print(format!("{}key           {key}\n", as_text(&certificate.to_string(), &issued.facts)).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn names(facts: &Facts) -> Vec<String> {
    facts.names.iter().map(tls::Name::uri).collect()
}

fn as_text(file: &str, facts: &Facts) -> String {
    let Facts { subject, issuer, not_before, not_after, hosts, key, .. } = facts;
    let (from, to) = (date::text(*not_before), date::text(*not_after));
    let mut text = format!("certificate   {file}\nsubject       {subject}\n");
    if facts.is_ca {
        text += "is            a CA\n";
    }
    let _ = writeln!(text, "issuer        {issuer}\nvalid         {from} to {to}");
    for (word, of) in [("name", names(facts)), ("host", hosts.clone())] {
        for one in of {
            let _ = writeln!(text, "{word:<13} {one}");
        }
    }
    let _ = writeln!(text, "public key    {key}");
    if let Some(problem) = facts.out_of_time(date::now()).or_else(|| facts.weakness()) {
        let _ = writeln!(text, "not accepted  {problem}");
    }
    text
}

fn as_json(file: &str, facts: &Facts) -> serde_json::Value {
    json!({
        "certificate": file,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "is_ca": facts.is_ca,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "names": names(facts),
        "hosts": facts.hosts,
        "public_key": facts.key.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_certificate_keeps_its_hosts_without_san_alone() {
        let given = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        assert_eq!(hosts(given(&[]), true), given(&[]), "those of the certificate before are kept");
        assert_eq!(hosts(given(&["localhost"]), true), given(&OWN_HOSTS), "the others are left out");
        assert_eq!(hosts(given(&[]), false), given(&OWN_HOSTS));
        assert_eq!(hosts(given(&["n1", "::1"]), false), given(&["localhost", "127.0.0.1", "::1", "n1"]));
    }
}
