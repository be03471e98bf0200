//! A counter that counts each event once, although nodes die meanwhile.
//!
//! Start a cluster with `quorate dev`, then:
//!
//! ```text
//! cargo run --release --no-default-features --example counter
//! ```
//!
//! An addition that is sent again could count twice. An addition to a named version cannot: a node that gets it
//! again finds the first try in the record, or knows that it never took effect, or says that it cannot know.

use std::time::Duration;

use quorate::{Client, ClientError};

/// A counter, as one of its users sees it.
pub struct Counter {
    client: Client,
    key: String,
    /// A version that an earlier answer gave.
    seen: String,
}

impl Counter {
    /// A counter that begins where it stands.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn open(client: &Client, key: &str) -> Result<Counter, ClientError> {
        let seen = client.get(key).state().await?.version;
        Ok(Counter { client: client.clone(), key: key.to_owned(), seen })
    }

    /// Adds once and returns the sum. The rare error [`ClientError::OutcomeUnknown`] says that it may have counted.
    ///
    /// # Errors
    /// When the cluster cannot be asked in time.
    pub async fn add(&mut self, delta: i64) -> Result<i64, ClientError> {
        loop {
            match self.client.add(&self.key, delta).since(&self.seen).await {
                Ok(added) => {
                    self.seen = added.version;
                    return Ok(added.value);
                }
                // Others have counted too often since. This addition certainly did not: try from here.
                Err(ClientError::ConditionFailed { version, .. }) => self.seen = version,
                Err(error) => return Err(error),
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let client = Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
    let mut counter = Counter::open(&client, "visits").await?;
    for _ in 0..30 {
        match counter.add(1).await {
            Ok(visits) => println!("{visits}"),
            Err(ClientError::OutcomeUnknown { node }) => println!("perhaps counted: {node}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
