//! Writes, reads and deletes a key, and goes on while some nodes of the cluster are down.
//!
//! Start a cluster with `make run`, then:
//!
//! ```text
//! cargo run --release --no-default-features --example client
//! ```
//!
//! Kill one of the nodes while this runs: no line reports a failure.

use std::time::Duration;

use quorate::{Client, ClientError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    // Name several nodes. Every node answers for every key, and the client passes over nodes that are down.
    let client = Client::builder()
        .address("127.0.0.1:8001")
        .address("127.0.0.1:8002")
        .address("127.0.0.1:8003")
        .deadline(Duration::from_secs(2))
        .build()?;

    for round in 1..=30 {
        match client.set("greeting", format!("hello {round}")).await {
            Ok(written) => println!("{round}: written as {written}"),
            // Certainly not written, although the client tried until the deadline. It is safe to try again.
            Err(ClientError::NotApplied { last, .. }) => println!("{round}: not written: {last}"),
            // Perhaps written. Read the key to find out.
            Err(ClientError::OutcomeUnknown { node }) => println!("{round}: perhaps written: {node}"),
            Err(error) => return Err(error),
        }
        match client.get("greeting").await? {
            Some(found) => println!("{round}: read {:?} of version {}", found.value, found.version),
            None => println!("{round}: there is no greeting"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    client.delete("greeting").await?;
    println!("deleted; now there is {:?}", client.get("greeting").await?);
    Ok(())
}
