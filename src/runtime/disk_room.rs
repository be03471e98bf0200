//! Watches the free space of the store's disk. Below the reserve a node takes no copies from other nodes, so that what is
//! left is for the writes and deletions of its own clients.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::event::Event;
use super::handle::NodeHandle;
use crate::limits::{DISK_RESERVE_BYTES_DEFAULT_MAX, DISK_RESERVE_PART, DISK_ROOM_EVERY};
use crate::storage::{DiskRoom, Store};

impl NodeHandle {
    /// From now on the node takes copies of records only while its disk has so much free space; `None` for a reserve that
    /// follows from the size of the disk.
    pub fn set_disk_reserve(&self, bytes: Option<usize>) {
        self.inner.disk_reserve.send_replace(bytes.map(|bytes| bytes as u64));
    }
}

/// Tells the node each time that the free space falls below the reserve or rises to it again, until the node has ended.
/// `reserve` is in bytes; `None` for one that follows from the size of the disk.
pub(super) async fn watch(
    store: Arc<dyn Store>,
    mut reserve: watch::Receiver<Option<u64>>,
    events: mpsc::Sender<Event>,
) {
    let mut was_short = false;
    loop {
        let asked = Arc::clone(&store);
        // A disk that hangs holds up this task alone.
        let room = tokio::task::spawn_blocking(move || asked.room()).await.ok().flatten();
        let given = *reserve.borrow_and_update();
        if let Some(room) = room {
            let (free, reserve) = (room.free, reserve_of(room, given));
            let is_short = free < reserve;
            match (was_short, is_short) {
                (false, true) => {
                    warn!(
                        free,
                        reserve, "the disk is nearly full: this node takes no copies from other nodes; free space"
                    );
                }
                (true, false) => info!(free, reserve, "the disk has room again"),
                _ => {}
            }
            if is_short != was_short && events.send(Event::DiskRoom { is_short }).await.is_err() {
                return;
            }
            was_short = is_short;
        }
        tokio::select! {
            () = tokio::time::sleep(DISK_ROOM_EVERY) => {}
            Ok(()) = reserve.changed() => {}
            () = events.closed() => return,
        }
    }
}

/// The free space that a disk should keep, in bytes.
fn reserve_of(room: DiskRoom, given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| (room.size / DISK_RESERVE_PART).min(DISK_RESERVE_BYTES_DEFAULT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_follows_from_the_disk_unless_it_is_given() {
        let disk = |size| DiskRoom { free: 0, size };
        assert_eq!(reserve_of(disk(64 << 20), None), (64 << 20) / 20);
        assert_eq!(reserve_of(disk(1 << 40), None), 1 << 30);
        assert_eq!(reserve_of(disk(64 << 20), Some(1 << 30)), 1 << 30, "the operator knows");
        assert_eq!(reserve_of(disk(1 << 40), Some(0)), 0);
    }
}
