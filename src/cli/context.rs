//! `quorate context`: the clusters that the command line knows by name, in contexts.yml.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;

use super::output::{print, print_json, report};
use super::security::{contexts_file, read_contexts, unknown_context};
use super::{AddressOrigin, CliError, Exit, Global};
use crate::config::{Context, Contexts, RemoteAddress};

/// Give clusters names: addresses, certificates and tokens, for --context NAME
///
/// They are kept in ~/.config/quorate/contexts.yml, or in the file that QUORATE_CONTEXTS names.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate context add prod --address n1:8001,n2:8001 --ca ca/ca.crt --token-file shop.token
  quorate --context prod status
  quorate context use prod
  quorate context list
  quorate context remove prod")]
pub(super) struct ContextCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    Use(Use),
    List(List),
    Remove(Remove),
}

/// Add a context: what --address, --ca, --cert, --key and --token-file say, or their variables
///
/// The files are read first, so that a wrong one is found now. Their paths are kept, and not what is in them.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate context add prod --address n1:8001,n2:8001 --ca ca/ca.crt --cert ca/client-ada.crt --key ca/client-ada.key
  quorate context add test --address 10.0.0.7:8001 --use
  quorate context add test --address 10.0.0.8:8001 --replace")]
struct Add {
    /// A name, 1 to 64 bytes without spaces
    #[arg(value_parser = name)]
    name: String,
    /// Makes it the current context: that of commands that name neither a context nor an address
    #[arg(long = "use")]
    is_current: bool,
    /// Takes the place of a context of this name
    #[arg(long)]
    replace: bool,
}

/// Make a context the current one: that of commands that name neither a context nor an address
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate context use prod
  quorate context use --none")]
struct Use {
    /// Its name
    #[arg(required_unless_present = "none")]
    name: Option<String>,
    /// No context is the current one
    #[arg(long, conflicts_with = "name")]
    none: bool,
}

/// List the contexts; the current one has an asterisk
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate context list
  quorate context list --json | jq -r '.[] | select(.current).name'")]
struct List {}

/// Remove a context; its certificates and tokens stay where they are
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate context remove prod")]
struct Remove {
    /// Its name
    name: String,
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |character: char| !character.is_control() && !character.is_whitespace();
    if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("1 to 64 bytes without spaces are accepted, such as prod".to_owned())
}

impl ContextCommand {
    pub(super) fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut kept = Kept::read()?;
        match self.command {
            Command::Add(add) => add.run(&mut kept, global),
            Command::Use(Use { name, .. }) => {
                if let Some(name) = &name {
                    kept.known(name)?;
                }
                kept.contexts.current = name;
                kept.write()
            }
            Command::List(List {}) => list(&kept.contexts, global),
            Command::Remove(Remove { name }) => {
                kept.known(&name)?;
                kept.contexts.contexts.remove(&name);
                kept.contexts.current.take_if(|current| *current == name);
                kept.write()
            }
        }
    }
}

/// The file of contexts, as it was read.
struct Kept {
    file: PathBuf,
    text: String,
    contexts: Contexts,
}

impl Kept {
    /// A file that is not there, or is empty, has no contexts.
    fn read() -> Result<Self, CliError> {
        let Some(file) = contexts_file() else {
            return Err(CliError::bad_input("neither HOME nor QUORATE_CONTEXTS says where contexts.yml is: set one"));
        };
        let text = text_of(&file)
            .map_err(|error| CliError::bad_input(format!("{}: cannot be read: {error}", file.display())))?;
        let contexts = if text.trim().is_empty() { Contexts::default() } else { read_contexts(&file, &text)? };
        Ok(Self { file, text, contexts })
    }

    fn known(&self, name: &str) -> Result<(), CliError> {
        if self.contexts.contexts.contains_key(name) {
            return Ok(());
        }
        Err(unknown_context(name, &self.file, &self.contexts))
    }

    /// Replaces the file, or leaves the one that is there.
    fn write(&self) -> Result<Exit, CliError> {
        let shown = self.file.display();
        if Contexts::has_comments(&self.text) {
            return Err(CliError::bad_input(format!(
                "{shown} has comments, which this command would drop: edit the file, or remove them"
            )));
        }
        let text = self.contexts.to_yaml(folder_of(&self.file)).map_err(|path| {
            CliError::bad_input(format!("{}: the path is no UTF-8, which YAML cannot hold: rename it", path.display()))
        })?;
        // A file that no command reads any more would be worse than none.
        if read_contexts(&self.file, &text)? != self.contexts {
            return Err(CliError::bad_input(format!("{shown} would not say what was given: it is as it was")));
        }
        let failed = |error: Error| {
            let message = format!("{shown}: cannot be written: {error}; it is as it was");
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            if is_full { CliError::not_done(message) } else { CliError::bad_input(message) }
        };
        // A link stays one: the file that it names is replaced.
        let is_link = std::fs::symlink_metadata(&self.file).is_ok_and(|file| file.is_symlink());
        let file = if is_link { std::fs::canonicalize(&self.file).map_err(failed)? } else { self.file.clone() };
        if replace(&file, &self.text, &text).map_err(failed)? {
            return Ok(Exit::Done);
        }
        Err(CliError::not_done(format!("{shown}: somebody else has changed it meanwhile: try again")))
    }
}

/// A file that is not there is one without text.
fn text_of(file: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// Writes a new file beside `file`, and gives it that name. It keeps the mode of the file before. Returns whether it did: a file
/// whose text is not `before` any more stays as it is.
fn replace(file: &Path, before: &str, text: &str) -> std::io::Result<bool> {
    let folder = folder_of(file);
    if !folder.as_os_str().is_empty() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let old = std::fs::metadata(file).ok();
    let new = file.with_extension(format!("new-{}", std::process::id()));
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let mut put_in_place = || {
        made.write_all(text.as_bytes())?;
        made.sync_all()?;
        if let Some(old) = &old {
            if made.metadata()?.uid() != old.uid() {
                return Err(Error::other("it belongs to another user"));
            }
            made.set_permissions(old.permissions())?;
        }
        let is_as_before = text_of(file)? == before;
        if is_as_before {
            std::fs::rename(&new, file)?;
        }
        Ok(is_as_before)
    };
    let replaced = put_in_place();
    if !matches!(replaced, Ok(true)) {
        drop(std::fs::remove_file(&new));
    }
    replaced
}

impl Add {
    fn run(self, kept: &mut Kept, global: &Global) -> Result<Exit, CliError> {
        let Self { name, is_current, replace } = self;
        if kept.contexts.contexts.contains_key(&name) && !replace {
            let file = kept.file.display();
            return Err(CliError::bad_input(format!("{file} has a context {name:?}: give --replace, or another name")));
        }
        // Nobody gave an address: a context of this machine's own node would be a surprise.
        if global.address_origin == AddressOrigin::Context {
            return Err(CliError::bad_input(
                "--address is missing: give the nodes of the cluster, HOST:PORT,HOST:PORT",
            ));
        }
        let addresses = global.addresses()?;
        if let Some(wrong) = addresses.iter().find(|address| RemoteAddress::parse(address).is_none()) {
            return Err(CliError::bad_input(format!("--address: {wrong:?} is not accepted: give HOST:PORT")));
        }
        let addresses = addresses.into_iter().map(str::to_owned).collect();
        global.security.token()?;
        let absolute = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(std::path::absolute).transpose();
            path.map_err(|error| CliError::bad_input(format!("the current folder cannot be found: {error}")))
        };
        let security = &global.security;
        let context = Context {
            addresses,
            ca: absolute(&security.ca)?,
            cert: absolute(&security.cert)?,
            key: absolute(&security.private_key)?,
            token_file: absolute(&security.token_file)?,
        };
        kept.contexts.contexts.insert(name.clone(), context);
        if is_current {
            kept.contexts.current = Some(name.clone());
        }
        kept.write()?;
        let shown = if global.json {
            format!("{}\n", as_json(&name, &kept.contexts))
        } else if kept.contexts.current.as_ref() == Some(&name) {
            format!("{}: {name} is the current context\n", kept.file.display())
        } else {
            format!(
                "{}: has {name}\n  quorate --context {name} status\n  quorate context use {name}\n",
                kept.file.display()
            )
        };
        report(&shown, "the context is added");
        Ok(Exit::Done)
    }
}

fn list(contexts: &Contexts, global: &Global) -> Result<Exit, CliError> {
    if global.json {
        print_json(&contexts.contexts.keys().map(|name| as_json(name, contexts)).collect())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "NAME", "ADDRESS", "CA", "CERTIFICATE", "TOKEN"]);
    let path = |path: &Option<PathBuf>| path.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    for (name, Context { addresses, ca, cert, token_file, .. }) in &contexts.contexts {
        let current = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        table.add_row([current, name, &addresses.join(","), &path(ca), &path(cert), &path(token_file)]);
    }
    print(format!("{table}\n").as_bytes())?;
    Ok(Exit::Done)
}

fn as_json(name: &str, contexts: &Contexts) -> serde_json::Value {
    let Context { addresses, ca, cert, key, token_file } = &contexts.contexts[name];
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    json!({
        "name": name,
        "current": contexts.current.as_deref() == Some(name),
        "address": addresses,
        "ca": path(ca),
        "cert": path(cert),
        "key": path(key),
        "token_file": path(token_file),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_others_change_meanwhile_stays_as_they_left_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("contexts.yml");
        for others in ["", "contexts: {}\n"] {
            std::fs::write(&file, others).unwrap();
            // It was read before: with other text, or before it was there.
            let before = if others.is_empty() { "contexts: { a: {} }\n" } else { "" };
            assert!(!replace(&file, before, "new").unwrap());
            assert_eq!(std::fs::read_to_string(&file).unwrap(), others);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the new file is removed");
        }
        assert!(replace(&file, "contexts: {}\n", "new").unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    }
}
