//! Watches the free space of the store's disk. Below the reserve a node takes no copies from other nodes, so that what is
//! left is for the writes and deletions of its own clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::event::Event;
use crate::limits::DISK_ROOM_EVERY;
use crate::storage::Store;

/// Tells the node each time that the free space falls below `reserve` or rises to it again, until the node has ended.
pub(super) async fn watch(store: Arc<dyn Store>, reserve: Arc<AtomicU64>, events: mpsc::Sender<Event>) {
    let mut was_short = false;
    loop {
        let asked = Arc::clone(&store);
        // A disk that hangs holds up this task alone.
        let free = tokio::task::spawn_blocking(move || asked.free_bytes()).await;
        let reserve = reserve.load(Ordering::Relaxed);
        if let Ok(Some(free)) = free {
            let is_short = free < reserve;
            if is_short != was_short {
                if is_short {
                    warn!(
                        free,
                        reserve, "the disk is nearly full: this node takes no copies from other nodes; free space"
                    );
                } else {
                    info!(free, reserve, "the disk has room again");
                }
                if events.send(Event::DiskRoom { is_short }).await.is_err() {
                    return;
                }
            }
            was_short = is_short;
        }
        tokio::select! {
            () = tokio::time::sleep(DISK_ROOM_EVERY) => {}
            () = events.closed() => return,
        }
    }
}
