//! `quorate man`: a manual page for each command.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::output::report;
use super::{Cli, CliError, Exit};

/// Write the manual pages, one for each command
///
/// The folder is made where it is missing. Pages are in section 1: quorate.1, quorate-get.1 and so on.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate man ~/.local/share/man/man1
  quorate man ./man && man ./man/quorate-set.1")]
pub(super) struct Man {
    /// The folder of the pages
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<Exit, CliError> {
        let folder = self.folder.display();
        let failed = |error| CliError::bad_input(format!("{folder}: cannot be written: {error}"));
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let command = Cli::command().disable_help_subcommand(true);
        clap_mangen::generate_to(command, &self.folder).map_err(failed)?;
        report(&format!("the pages are in {folder}\n"), &format!("done, with pages in {folder}"));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        let man = Man { folder: folder.path().join("new/man1") };
        assert_eq!(man.run().unwrap(), Exit::Done);
        let page = |name: &str| {
            std::fs::read_to_string(man.folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        for command in Cli::command().get_subcommands() {
            assert!(page(&format!("quorate-{}.1", command.get_name())).contains("EXAMPLES"), "{}", command.get_name());
        }
        assert!(page("quorate.1").contains("EXIT CODES") && page("quorate-tables-create.1").contains("ttl"));
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let man = Man { folder: file.path().join("man1") };
        let error = man.run().unwrap_err();
        assert!(error.exit == Exit::BadInput && error.message.contains("man1"), "{error}");
    }
}
