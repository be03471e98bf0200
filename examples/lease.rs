//! A leader's lease: of several processes one leads, and another one takes over when it is gone.
//!
//! Start a cluster with `quorate dev`, then run this in several terminals, and end the one that leads:
//!
//! ```text
//! cargo run --release --no-default-features --example lease -- ada
//! ```
//!
//! The leader renews its lease. A value never expires before its time to live has passed since the write. So a leader that
//! counts from the moment before it asked stops leading before anybody else can begin. This assumes that clocks run alike
//! within [`DRIFT_MAX`], and says nothing of the time of day. A leader that must not be wrong even where a process is paused
//! in the middle of a step needs a fencing token too, as in `lock`.

use std::time::{Duration, Instant};

use quorate::{Client, ClientError};

/// Clocks of two machines run apart by less than a hundredth.
const DRIFT_MAX: u32 = 100;

/// A process that leads, or would like to.
pub struct Candidate {
    client: Client,
    key: String,
    me: String,
    lease: Duration,
    /// The version of the lease, and the moment at which it ends.
    held: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate. `me` is unique among all processes.
    #[must_use]
    pub fn new(client: &Client, key: &str, me: &str, lease: Duration) -> Candidate {
        // A request that takes longer than a part of the lease is of no use.
        let client = client.with_deadline(lease / 3);
        Candidate { client, key: key.into(), me: me.into(), lease, held: None }
    }

    /// Whether this process leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads_until().is_some_and(|ends_at| Instant::now() < ends_at)
    }

    /// The moment at which the lease ends.
    #[must_use]
    pub fn leads_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, ends_at)| *ends_at)
    }

    /// Begins to lead, or goes on. Call it three times in a lease, whether this process leads or not.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn renew(&mut self) -> Result<bool, ClientError> {
        let asked_at = Instant::now();
        let version = if let Some((version, _)) = &self.held {
            version.clone()
        } else {
            let state = self.client.get(&self.key).state().await?;
            if state.found.is_some() {
                return Ok(false);
            }
            // An absence has a version too.
            state.version
        };
        // The client sends a write that names a version again where a node dies.
        let asked = self.client.set(&self.key, self.me.as_str()).if_version(version).ttl(self.lease).await;
        match asked {
            Ok(written) => {
                self.held =
                    Some((written.version, (asked_at + self.lease).checked_sub(self.lease / DRIFT_MAX).unwrap()));
            }
            // Another process has it, or it has expired.
            Err(ClientError::ConditionFailed { .. }) => self.held = None,
            // Whether it is renewed is not known. The old lease counts until its end; a new one is looked up.
            Err(ClientError::OutcomeUnknown { .. } | ClientError::NotApplied { .. }) => {
                match self.client.get(&self.key).await {
                    Ok(Some(found)) if &found.value.bytes()[..] == self.me.as_bytes() => {
                        let ends_at = self.held.take().map_or(asked_at, |(_, ends_at)| ends_at);
                        self.held = Some((found.version, ends_at));
                    }
                    Ok(_) => self.held = None,
                    Err(_) => {}
                }
            }
            Err(error) => return Err(error),
        }
        Ok(self.leads())
    }

    /// Lets another one lead at once.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn resign(&mut self) -> Result<(), ClientError> {
        let Some((version, _)) = self.held.take() else { return Ok(()) };
        match self.client.delete(&self.key).if_version(version).await {
            Ok(_) | Err(ClientError::ConditionFailed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let client = Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
    let name = std::env::args().nth(1).unwrap_or_else(|| "somebody".to_owned());
    let me = format!("{name}-{}", std::process::id());
    let lease = Duration::from_secs(3);
    let mut candidate = Candidate::new(&client, "leader", &me, lease);
    let mut led = false;
    for _ in 0..60 {
        let leads = candidate.renew().await?;
        if leads != led {
            println!("{me} {}", if leads { "leads" } else { "follows" });
            led = leads;
        }
        tokio::time::sleep(lease / 3).await;
    }
    candidate.resign().await
}
