//! The lines that were typed before, in a file of the user's.
//!
//! Contract: only this user can read the file, and no value is in it: lines that write one stay in memory. A file that cannot be
//! read or written is told once, and the shell goes on.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::words::split;

/// The lines that are kept when the file is read.
const LINES_MAX: usize = 1_000;
/// A file of so many bytes is written anew with the last lines.
const BYTES_MAX: usize = 256 << 10;

/// The file.
#[derive(Debug)]
pub(super) struct HistoryFile {
    path: Option<PathBuf>,
}

impl HistoryFile {
    /// The file of this user, where the XDG base directories say: `quorate/history` in `$XDG_STATE_HOME`, or in `~/.local/state`.
    pub(super) fn of_user() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        Self { path: state.map(|state| state.join("quorate/history")) }
    }

    #[cfg(test)]
    fn at(path: PathBuf) -> Self {
        Self { path: Some(path) }
    }

    /// The last lines, the oldest first.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(super) fn read(&self) -> Result<Vec<String>, String> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{}: cannot be read: {error}", path.display())),
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let last: Vec<String> =
            lines[lines.len().saturating_sub(LINES_MAX)..].iter().map(|line| (*line).to_owned()).collect();
        if bytes.len() > BYTES_MAX {
            self.write(path, &(last.join("\n") + "\n"), true)?;
        }
        Ok(last)
    }

    /// Adds a line, unless it bears a value.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn add(&self, line: &str) -> Result<(), String> {
        match &self.path {
            Some(path) if !bears_value(line) => self.write(path, &format!("{line}\n"), false),
            _ => Ok(()),
        }
    }

    #[allow(clippy::unused_self, reason = "it writes this file")]
    fn write(&self, path: &Path, text: &str, anew: bool) -> Result<(), String> {
        let failed = |error| format!("{}: cannot be written: {error}", path.display());
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let mut options = File::options();
        let file = options.create(true).append(!anew).write(true).truncate(anew).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
    }
}

/// Whether a value may be in the line. A line that cannot be read might have one.
fn bears_value(line: &str) -> bool {
    match split(line) {
        Ok(words) => words.iter().any(|word| word == "set"),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn file_is_private_and_has_no_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/history");
        let file = HistoryFile::at(path.clone());
        assert_eq!(file.read(), Ok(Vec::new()));
        for line in ["get a", "set a secret", "quorate set a secret", "--json set a secret", "set 'a", "list user:"] {
            file.add(line).unwrap();
        }
        assert_eq!(file.read().unwrap(), ["get a", "list user:"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn long_file_keeps_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let lines: Vec<String> = (0..10_000).map(|number| format!("get key-that-has-a-long-name-{number}")).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let file = HistoryFile::at(path.clone());
        let read = file.read().unwrap();
        assert_eq!((read.len(), read.last()), (LINES_MAX, lines.last()));
        assert!(std::fs::metadata(&path).unwrap().len() < BYTES_MAX as u64);
        assert_eq!(file.read().unwrap(), read);
    }
}
