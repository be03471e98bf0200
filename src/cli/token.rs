//! `quorate token`: who may do what.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;

use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::api;
use crate::auth::{Grant, Token as Secret, TokenId};
use crate::server::BOOTSTRAP_FILE;
use crate::tls::date;

/// The data folder of the packages.
const DATA_DIR: &str = "/var/lib/quorate";

/// Say who may do what, where the nodes have authorization: make tokens, list and revoke them
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate token create root --bootstrap --out root.token
  quorate --token-file root.token token create shop --allow write:carts --allow read:default/price: --out shop.token
  quorate --token-file root.token token create ada --certificate ada --allow operator
  quorate --token-file root.token token list
  quorate --token-file root.token token revoke 5f0c2a91d3e84b76")]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a token with rights, or give rights to a client certificate
///
/// Prints the token, which is shown once: the cluster keeps a hash of it. Other nodes than the one that was asked know it within
/// 2 seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
RIGHTS:
  read, write, admin   on keys: all of them, or read:TABLE, read:TABLE/PREFIX, read:*/PREFIX; write includes read,
                       admin includes write, and creates and drops the table; admin alone includes everything
  operator             members, repair, Node/Set and Clock/Set, and what an observer may
  observer             metrics, the status page, members and clocks

EXAMPLES:
  quorate token create root --bootstrap --out root.token
  quorate --token-file root.token token create shop --allow write:carts
  quorate --token-file root.token token create ada --certificate ada --allow admin")]
struct Create {
    /// A name for people, 1 to 64 bytes
    name: String,
    /// A right; repeat the option for more
    #[arg(long, value_name = "RIGHT", required_unless_present = "bootstrap")]
    allow: Vec<Grant>,
    /// Gives the rights to the client with this name in its certificate (quorate ca issue client NAME), and makes no token
    #[arg(long, value_name = "NAME", conflicts_with = "out")]
    certificate: Option<String>,
    /// Writes the token into this new file, which its owner alone may read, and prints its id
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Asks that node with the token in its data folder, whatever --token-file says; without --allow for admin
    #[arg(
        long,
        value_name = "DATA_DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = DATA_DIR
    )]
    bootstrap: Option<PathBuf>,
}

/// List all tokens and certificates that have rights
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate --token-file root.token token list
  quorate --token-file root.token --json token list | jq -r '.[].id'")]
struct List {}

/// Take all rights of a token or a certificate back
///
/// Each node that reaches a majority refuses it within 2 seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate --token-file root.token token revoke 5f0c2a91d3e84b76")]
struct Revoke {
    /// Its id: the second part of the token
    #[arg(value_parser = id)]
    id: TokenId,
}

fn id(text: &str) -> Result<TokenId, String> {
    if text.starts_with("qrt_") {
        return Err("this is a whole token: give its second part alone".to_owned());
    }
    TokenId::new(text).ok_or_else(|| "1 to 16 small letters and digits are accepted".to_owned())
}

impl Token {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self.command {
            Command::Create(create) => create.run(global).await,
            Command::List(List {}) => list(global).await,
            Command::Revoke(revoke) => {
                global.client()?.revoke_token(revoke.id.as_str()).await?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Create {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let Self { name, mut allow, certificate, out, bootstrap } = self;
        let mut global = global.clone();
        if let Some(folder) = &bootstrap {
            let file = folder.join(BOOTSTRAP_FILE);
            if let Err(error) = std::fs::File::open(&file) {
                return Err(CliError::bad_input(format!(
                    "--bootstrap: {}: cannot be read: {error}: give the data folder of the node that is asked, \
                     --bootstrap=DATA_DIR; the file is there while a node with `authorization: true` runs",
                    file.display()
                )));
            }
            global.security.token_file = Some(file);
            if allow.is_empty() {
                allow.push(Grant::EVERYTHING);
            }
        }
        let rights: Vec<String> = allow.iter().map(Grant::to_string).collect();
        let client = if bootstrap.is_some() { global.client_of_bootstrap()? } else { global.client()? };
        let secret = Secret::new().map_err(|error| CliError::not_done(error.to_string()))?;
        if let Some(certificate) = certificate {
            let made = client.give_rights_to_certificate(secret.id().as_str(), &name, &certificate, rights).await?;
            return shown(&global, &made, None);
        }
        // A token that nobody has must not have rights: the file comes first.
        if let Some(file) = &out {
            write_new(file, &secret)?;
        }
        let made = client.create_token(&secret, &name, rights).await.map_err(|error| {
            if let Some(file) = &out {
                let _ = std::fs::remove_file(file);
            }
            CliError::from(error)
        })?;
        match out {
            Some(_) => shown(&global, &made, None),
            None => shown(&global, &made, Some(&secret)),
        }
    }
}

fn shown(global: &Global, made: &api::Token, secret: Option<&Secret>) -> Result<Exit, CliError> {
    if global.json {
        let mut json = as_json(made);
        if let Some(secret) = secret {
            json["token"] = json!(secret.reveal());
        }
        print_json(&json)?;
    } else {
        let line = secret.map_or_else(|| made.id.clone(), Secret::reveal);
        print(format!("{line}\n").as_bytes())?;
    }
    Ok(Exit::Done)
}

fn write_new(file: &Path, secret: &Secret) -> Result<(), CliError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut made| made.write_all(format!("{}\n", secret.reveal()).as_bytes()));
    written.map_err(|error| CliError::bad_input(format!("--out {}: cannot be made: {error}", file.display())))
}

async fn list(global: &Global) -> Result<Exit, CliError> {
    let tokens = global.client()?.list_tokens().await?;
    if global.json {
        print_json(&tokens.iter().map(as_json).collect())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "NAME", "KIND", "RIGHTS", "MADE"]);
    let row = |token: &api::Token| {
        let kind = if token.certificate.is_empty() {
            "token".to_owned()
        } else {
            format!("certificate {}", token.certificate)
        };
        vec![token.id.clone(), token.name.clone(), kind, token.rights.join(" "), date::text(token.created)]
    };
    for token in &tokens {
        table.add_row(row(token));
    }
    print(format!("{table}\n").as_bytes())?;
    Ok(Exit::Done)
}

fn as_json(token: &api::Token) -> serde_json::Value {
    json!({
        "id": token.id,
        "name": token.name,
        "certificate": (!token.certificate.is_empty()).then_some(&token.certificate),
        "rights": token.rights,
        "created": token.created,
    })
}
