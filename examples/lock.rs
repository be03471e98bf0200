//! A lock with a fencing token: of several processes, one at a time works on something.
//!
//! Start a cluster with `quorate dev`, then run this in several terminals:
//!
//! ```text
//! cargo run --release --no-default-features --example lock -- ada
//! ```
//!
//! A lock in a distributed system can be lost without notice: its holder is paused, the time to live passes, and another
//! one takes the lock. So each holder has a token, a number that is greater than that of every holder before it. The
//! service behind the lock remembers the greatest token that it has seen, and refuses a smaller one.

use std::time::Duration;

use quorate::{Client, ClientError};

/// A lock that is held.
pub struct Lock {
    client: Client,
    key: String,
    me: String,
    version: String,
    /// Greater than the token of every holder before this one.
    pub token: i64,
}

impl Lock {
    /// Takes the lock, unless another one has it.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn try_take(client: &Client, key: &str, me: &str, ttl: Duration) -> Result<Option<Lock>, ClientError> {
        let state = client.get(key).state().await?;
        if state.found.is_some() {
            return Ok(None);
        }
        // An absence has a version too. The client sends a write that names a version again where a node dies.
        let taken = match client.set(key, me).if_version(state.version).ttl(ttl).await {
            Ok(taken) => taken.version,
            Err(ClientError::ConditionFailed { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The token is drawn under the lock, and counts once the lock has it. A holder that lost the lock in between fails
        // there. A token that is drawn in vain does no harm.
        let fencing = loop {
            match client.add(format!("{key}/tokens"), 1).await {
                Ok(drawn) => break drawn.value,
                Err(ClientError::OutcomeUnknown { .. }) => {}
                Err(error) => return Err(error),
            }
        };
        match client.set(key, format!("{me} {fencing}")).if_version(taken).ttl(ttl).await {
            Ok(held) => Ok(Some(Lock {
                client: client.clone(),
                key: key.into(),
                me: me.into(),
                version: held.version,
                token: fencing,
            })),
            Err(ClientError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the lock for another `ttl`. `false` if it is lost.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn keep(&mut self, ttl: Duration) -> Result<bool, ClientError> {
        let value = format!("{} {}", self.me, self.token);
        match self.client.set(&self.key, value).if_version(&self.version).ttl(ttl).await {
            Ok(held) => {
                self.version = held.version;
                Ok(true)
            }
            Err(ClientError::ConditionFailed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the lock back. A lock that is lost is left alone.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn release(self) -> Result<(), ClientError> {
        match self.client.delete(&self.key).if_version(&self.version).await {
            Ok(_) | Err(ClientError::ConditionFailed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Writes to what the lock protects. `false` if a later holder has written already.
///
/// # Errors
/// When the cluster cannot be asked in time.
pub async fn write_with_token(client: &Client, key: &str, token: i64, line: &str) -> Result<bool, ClientError> {
    let written = client
        .update(key, |old| {
            let old = old.map_or(String::new(), |old| String::from_utf8_lossy(old.value.bytes()).into_owned());
            let seen: i64 = old.split_once(' ').and_then(|(token, _)| token.parse().ok()).unwrap_or(0);
            (seen <= token).then(|| format!("{token} {line}"))
        })
        .await?;
    Ok(written.is_some())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let client = Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
    let name = std::env::args().nth(1).unwrap_or_else(|| "somebody".to_owned());
    let ttl = Duration::from_secs(10);
    for turn in 1..=10 {
        let me = format!("{name}-{}-{turn}", std::process::id());
        let mut lock = loop {
            if let Some(lock) = Lock::try_take(&client, "printer", &me, ttl).await? {
                break lock;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        println!("{me} holds the lock, with token {}", lock.token);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if lock.keep(ttl).await? && write_with_token(&client, "printer/page", lock.token, &me).await? {
            println!("{me} has printed");
        } else {
            println!("{me} has lost the lock");
        }
        lock.release().await?;
    }
    Ok(())
}
