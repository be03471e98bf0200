//! `quorate completions`: a script that completes commands in a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::output::print;
use super::{Cli, CliError, Exit};

/// Print a script that makes a shell complete quorate's commands
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate completions bash > ~/.local/share/bash-completion/completions/quorate
  quorate completions zsh > \"${fpath[1]}/_quorate\"
  quorate completions fish > ~/.config/fish/completions/quorate.fish")]
pub(super) struct Completions {
    /// The shell that runs the script
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quorate", &mut script);
        print(&script)?;
        Ok(Exit::Done)
    }
}
