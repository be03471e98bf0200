//! Questions to the file system: whether it has space, whether it takes direct writes, how much a folder takes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use crate::storage::STORE_ASIDE;

const MIB: usize = 1 << 20;

/// Finds out whether `bytes` fit into `folder`, by writing a file of that size and removing it. Quotas and limits on a
/// file's size do not show in the file system's count of free space. The file is not fsynced: the system reserves the
/// space when it accepts the bytes.
///
/// # Errors
/// With the system's reason when the bytes do not fit.
pub(super) fn reserve(folder: &Path, bytes: usize) -> io::Result<()> {
    let probe = folder.join("space.probe");
    let fill = || -> io::Result<()> {
        let mut file = File::create(&probe)?;
        let chunk = vec![0; MIB];
        let mut left = bytes;
        while left > 0 {
            let part = left.min(chunk.len());
            file.write_all(&chunk[..part])?;
            left -= part;
        }
        Ok(())
    };
    let filled = fill();
    // If the file cannot even be removed, opening the database will say what is wrong.
    let _ = std::fs::remove_file(&probe);
    filled
}

/// Whether the file system of `path`, which need not exist yet, takes writes that bypass the system's page cache
/// (`O_DIRECT`). Some file systems do not, and RocksDB would only find out when it flushes a write buffer.
#[cfg(target_os = "linux")]
pub(super) fn takes_direct_writes(path: &Path) -> bool {
    use nix::fcntl::OFlag;
    use std::os::unix::fs::OpenOptionsExt as _;

    /// A block with the alignment that every disk accepts.
    #[repr(align(4096))]
    struct Block([u8; 4096]);

    let Some(folder) = path.ancestors().find(|folder| folder.is_dir()) else { return false };
    // A file without a name leaves nothing behind, even after a crash.
    let flags = (OFlag::O_TMPFILE | OFlag::O_DIRECT).bits();
    let file = std::fs::OpenOptions::new().write(true).custom_flags(flags).open(folder);
    let taken = file.and_then(|mut file| file.write_all(&Block([0; 4096]).0));
    if let Err(error) = &taken {
        tracing::debug!(folder = %folder.display(), %error, "the file system takes no direct writes");
    }
    taken.is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn takes_direct_writes(_: &Path) -> bool {
    false
}

/// The total size of a folder's files, in bytes. Files that appear or vanish meanwhile are not counted.
pub(super) fn folder_bytes(path: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(path) else {
        return 0;
    };
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// How many stores were set aside beside the one at `path`.
pub(super) fn stores_aside(path: &Path) -> u64 {
    let beside = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let is_aside = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(STORE_ASIDE);
    beside.into_iter().flatten().flatten().filter(is_aside).count() as u64
}
