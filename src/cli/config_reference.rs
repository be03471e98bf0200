//! `quorate config reference`.

use super::output::print;
use super::{CliError, Exit};
use crate::config::reference;

pub(super) fn run() -> Result<Exit, CliError> {
    print(reference().as_bytes())?;
    Ok(Exit::Done)
}
