//! The file `addresses`: where the nodes of the cluster were reached, by the cluster file of the last start that named them all.
//!
//! A cluster file that was edited for a change of members may lack a node that is a member until the change is made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::{ADDRESSES, ADDRESSES_NEW, DataFolderError, io_error, sync_folder};
use crate::types::NodeId;

/// Reads the addresses in `folder`; none where there is no such file. A line that says nothing is passed over: the file only
/// helps to find nodes.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<NodeId, String>, DataFolderError> {
    let path = folder.join(ADDRESSES);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error("read", &path, error)),
    };
    let entry = |line: &str| {
        let (id, address) = line.split_once(' ')?;
        Some((NodeId::new(id).ok()?, address.to_owned()))
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Replaces the file in `folder`, atomically and durably.
pub(super) fn write(folder: &Path, addresses: &BTreeMap<NodeId, String>) -> Result<(), DataFolderError> {
    let (new, done) = (folder.join(ADDRESSES_NEW), folder.join(ADDRESSES));
    let lines: Vec<String> = addresses.iter().map(|(id, address)| format!("{id} {address}\n")).collect();
    let text = lines.concat();
    let mut file = File::create(&new).map_err(|error| io_error("create", &new, error))?;
    file.write_all(text.as_bytes()).map_err(|error| io_error("write", &new, error))?;
    file.sync_all().map_err(|error| io_error("sync", &new, error))?;
    fs::rename(&new, &done).map_err(|error| io_error("rename", &new, error))?;
    sync_folder(folder)
}
