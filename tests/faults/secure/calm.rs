//! A round without faults: one CA follows another and tokens change under load, and no request may fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{LATE_MAX, REFUSED_WITHIN, Secure, Who};
use crate::asking::{DEADLINE_SLACK, Kind, Wish};
use crate::doors::{Door, ask};
use crate::testkit::requests::Ask;

/// How long the way from one CA to the next may take: three times a node's look at its files, and a busy machine.
const ROLLED_WITHIN: Duration = Duration::from_secs(30);
/// So long a node has a certificate without its key. It looks at its files every two seconds.
const HALF_WAY: Duration = Duration::from_secs(3);
/// How long clients that had a token in hand may need until it has reached the node.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The deadline of a request.
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two requests over connections of their own.
const PAUSE: Duration = Duration::from_millis(30);

impl Secure {
    /// Goes the way from one CA to the next, replaces a certificate before its key, and changes all tokens.
    pub(crate) async fn change_all(&self) -> Result<(), String> {
        let over = AtomicBool::new(false);
        let changes = async {
            let ended = self.change_files_and_tokens().await;
            over.store(true, Ordering::Relaxed);
            ended
        };
        let (ended, connected) = tokio::join!(changes, self.connect_anew(&over));
        ended.and(connected)?;
        self.refuses_all().await
    }

    async fn change_files_and_tokens(&self) -> Result<(), String> {
        let began = Instant::now();
        // The way of a cluster under faults may have ended half-way.
        while !self.roll_on() {
            if began.elapsed() > ROLLED_WITHIN {
                return Err(format!("the next CA is not in place after {ROLLED_WITHIN:?}: {:?}", self.files));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.issue_in_two_steps(0, HALF_WAY).await;
        let mut old = Vec::new();
        for who in Who::ALL {
            let new = self.create(who).await?;
            self.wait_known(&new).await?;
            old.extend(self.passes[&who].now());
            self.passes[&who].set(new);
        }
        tokio::time::sleep(ON_ITS_WAY).await;
        for token in old {
            let at = self.revoke(token).await?;
            let left = (REFUSED_WITHIN + LATE_MAX).saturating_sub(at.elapsed());
            tokio::time::timeout(left, self.wait_refused()).await.map_err(|_| {
                format!("not every node refuses a token {:?} after it was revoked", REFUSED_WITHIN + LATE_MAX)
            })?;
        }
        Ok(())
    }

    /// Asks for a write and a read over a new connection each time, so that each handshake has the files of that moment.
    async fn connect_anew(&self, over: &AtomicBool) -> Result<(), String> {
        let pass = &self.passes[&Who::Keys];
        let mut at = 0;
        while !over.load(Ordering::Relaxed) {
            at = (at + 1) % self.places.len();
            let number = self.fresh_number();
            let door = Door::ALL[usize::try_from(number).expect("it is small") % Door::ALL.len()];
            for asked in [Ask::Set, Ask::Get] {
                let key = format!("anew-{at}");
                let wish = Wish { key, kind: Kind::Counter, ask: asked, number, is_resend: false, door };
                let said = ask(&self.node(at, pass), &wish, DEADLINE, DEADLINE + DEADLINE_SLACK).await;
                said.map_err(|miss| format!("{wish:?} at node {at} over a new connection, without a fault: {miss}"))?;
                self.count("requests over new connections beside a change of CAs, all done");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}
