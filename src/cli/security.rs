//! How the command line proves who it is, and whom it believes: options, variables and named contexts.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;

use super::config_check::read;
use super::{ASKING, CliError};
use crate::client::{ClientTls, Token};
use crate::config::{Context, Contexts, File};

/// The variables of the options of TLS and tokens.
const VARIABLES: [(&str, &str); 5] = [
    ("QUORATE_CA", "--ca"),
    ("QUORATE_CERT", "--cert"),
    ("QUORATE_KEY", "--key"),
    ("QUORATE_TOKEN_FILE", "--token-file"),
    ("QUORATE_CONTEXT", "--context"),
];
/// The variable of the file of contexts.
const CONTEXTS_VARIABLE: &str = "QUORATE_CONTEXTS";

/// The options of TLS, and of tokens.
#[derive(Clone, Debug, Default, Args)]
pub struct Security {
    /// The CAs whose nodes are believed, in PEM: with it, connections speak TLS
    #[arg(long, global = true, env = "QUORATE_CA", value_name = "FILE", help_heading = ASKING)]
    pub ca: Option<PathBuf>,
    /// A certificate of this client, in PEM
    #[arg(long, global = true, env = "QUORATE_CERT", value_name = "FILE", help_heading = ASKING)]
    pub cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long = "key", global = true, env = "QUORATE_KEY", value_name = "FILE", help_heading = ASKING)]
    pub private_key: Option<PathBuf>,
    /// The file of a token, for nodes that ask who calls
    #[arg(long, global = true, env = "QUORATE_TOKEN_FILE", value_name = "FILE", help_heading = ASKING)]
    pub token_file: Option<PathBuf>,
    /// The cluster of this name in ~/.config/quorate/contexts.yml; options and other variables come first
    #[arg(long, global = true, env = "QUORATE_CONTEXT", value_name = "NAME", help_heading = ASKING)]
    pub context: Option<String>,
    /// What [`Security::tls`] has read. A command asks for it at each connection that it makes.
    #[arg(skip)]
    loaded: OnceLock<Option<ClientTls>>,
}

impl Security {
    /// Takes what is not given from the context that is named, or else from the current one where `takes_current`. Gives the
    /// addresses of that context.
    pub(super) fn complete(&mut self, takes_current: bool) -> Result<Vec<String>, CliError> {
        if self.context.is_none() && !takes_current {
            return Ok(Vec::new());
        }
        let Some(context) = self.find_context()? else { return Ok(Vec::new()) };
        // Whoever says who they are is not somebody else: nor is a certificate taken with the key of another one.
        if self.cert.is_none() && self.private_key.is_none() && self.token_file.is_none() {
            (self.cert, self.private_key, self.token_file) = (context.cert, context.key, context.token_file);
        }
        self.ca = self.ca.take().or(context.ca);
        Ok(context.addresses)
    }

    fn find_context(&self) -> Result<Option<Context>, CliError> {
        let Some(file) = contexts_file().filter(|file| self.context.is_some() || file.exists()) else {
            return match &self.context {
                Some(name) => Err(CliError::bad_input(format!(
                    "--context {name}: neither HOME nor {CONTEXTS_VARIABLE} says where contexts.yml is"
                ))),
                None => Ok(None),
            };
        };
        let contexts = read_contexts(&file, &read(&file)?)?;
        let Some(name) = self.context.as_ref().or(contexts.current.as_ref()) else { return Ok(None) };
        contexts.contexts.get(name).cloned().map(Some).ok_or_else(|| unknown_context(name, &file, &contexts))
    }

    /// The token that requests have, if they have one.
    pub(super) fn token(&self) -> Result<Option<Token>, CliError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let bad = |why: String| CliError::bad_input(format!("--token-file {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| bad(format!("cannot be read: {error}")))?;
        Token::parse(text.trim()).map(Some).map_err(|error| bad(error.to_string()))
    }

    /// How connections speak TLS, if they do. The files are read once.
    pub(super) fn tls(&self) -> Result<Option<&ClientTls>, CliError> {
        if self.loaded.get().is_none() {
            let read = self.read_tls()?;
            return Ok(self.loaded.get_or_init(|| read).as_ref());
        }
        Ok(self.loaded.get().and_then(Option::as_ref))
    }

    fn read_tls(&self) -> Result<Option<ClientTls>, CliError> {
        let bad = |option: &str, error: &dyn std::fmt::Display| CliError::bad_input(format!("{option}: {error}"));
        let Some(ca) = &self.ca else {
            let given =
                [(&self.cert, "--cert"), (&self.private_key, "--key")].into_iter().find(|(path, _)| path.is_some());
            return match given {
                Some((_, option)) => {
                    Err(CliError::bad_input(format!("{option} needs --ca: give the CA of the cluster")))
                }
                None => Ok(None),
            };
        };
        let tls = ClientTls::load(ca).map_err(|error| bad("--ca", &error))?;
        match (&self.cert, &self.private_key) {
            (Some(cert), Some(key)) => tls.with_certificate(cert, key).map(Some).map_err(|error| bad("--cert", &error)),
            (None, None) => Ok(Some(tls)),
            (Some(_), None) => Err(CliError::bad_input("--cert needs --key: give the key of that certificate")),
            (None, Some(_)) => Err(CliError::bad_input("--key needs --cert: give the certificate of that key")),
        }
    }
}

/// The variable that is set to nothing, where an error of the command line says that `argument` has no value.
pub(super) fn empty_variable(argument: &str) -> Option<&'static str> {
    let is_it = |(variable, option): &&(&str, &str)| {
        argument.split(' ').next() == Some(*option) && std::env::var_os(variable).is_some_and(|value| value.is_empty())
    };
    VARIABLES.iter().find(is_it).map(|(variable, _)| *variable)
}

/// Whether there is a file of contexts.
pub(super) fn has_contexts() -> bool {
    contexts_file().is_some_and(|file| file.exists())
}

/// The contexts of `file`.
pub(super) fn read_contexts(file: &Path, text: &str) -> Result<Contexts, CliError> {
    Contexts::parse(File { name: file, text }).map_err(|error| CliError::bad_input(error.to_string()))
}

/// The error that `file` has no context of this name.
pub(super) fn unknown_context(name: &str, file: &Path, contexts: &Contexts) -> CliError {
    let file = file.display();
    let names: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
    CliError::bad_input(if names.is_empty() {
        format!("context {name}: {file} has no context: quorate context add {name} adds it")
    } else {
        format!("context {name}: {file} has no such context: it has {}", names.join(", "))
    })
}

/// Where contexts are.
pub(super) fn contexts_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable(CONTEXTS_VARIABLE) {
        return Some(file);
    }
    let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(folder.join(Path::new("quorate/contexts.yml")))
}
