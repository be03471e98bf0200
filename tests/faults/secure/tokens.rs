//! Tokens, which an administrator makes and revokes while clients use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::ClientError;
use quorate::auth::Token;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{ADMINISTRATION_TIME_MAX, LATE_MAX, REFUSED_WITHIN, Secure, Who, lock};
use crate::pass::Issued;
use crate::testkit::cluster::TestNode;

/// How long an administrator tries the same. Faults of a round are over before.
const CHANGE_TIME_MAX: Duration = Duration::from_mins(1);
/// The pause of an administrator between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The pause between two changes.
const PAUSE_MS: std::ops::Range<u64> = 100..1_200;
/// How long clients have no token that counts, or one that not every node may know.
const BETWEEN_MS: std::ops::Range<u64> = 0..2_000;

/// A token that counts no more.
#[derive(Clone, Debug)]
pub(super) struct Revoked {
    pub(super) token: Arc<Issued>,
    /// When that was answered.
    pub(super) at: Instant,
}

impl Secure {
    /// The first administrator, whom the machine of `first` makes.
    pub(super) async fn make_root(&self, first: &TestNode) -> Result<(), String> {
        let root = Issued::new(Token::new().expect("the system gives random bytes"));
        let began = Instant::now();
        loop {
            // It is another one after each start.
            let made = match Token::parse(&first.bootstrap_token()) {
                Ok(bootstrap) => {
                    let client = self.client(&[0], &Issued::new(bootstrap), ADMINISTRATION_TIME_MAX);
                    let made = client.create_token(&root.token, "root", vec!["admin".to_owned()]).await;
                    made.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match made {
                Ok(_) => break,
                Err(error) if began.elapsed() > CHANGE_TIME_MAX => {
                    return Err(format!("there is no administrator after {CHANGE_TIME_MAX:?}: {error}"));
                }
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
        self.wait_known(&root).await?;
        *lock(&self.root) = Some(root);
        Ok(())
    }

    /// A new token for these clients.
    pub(super) async fn create(&self, who: Who) -> Result<Arc<Issued>, String> {
        let token = Issued::new(Token::new().expect("the system gives random bytes"));
        let (name, rights) = (format!("{who:?}"), who.rights());
        let administrator = self.administrator(&self.everywhere(), ADMINISTRATION_TIME_MAX);
        insist("a token", async || administrator.create_token(&token.token, &name, rights.clone()).await.map(drop))
            .await?;
        Ok(token)
    }

    /// Revokes it. Returns when that was answered.
    pub(super) async fn revoke(&self, token: Arc<Issued>) -> Result<Instant, String> {
        token.goes();
        let administrator = self.administrator(&self.everywhere(), ADMINISTRATION_TIME_MAX);
        let id = token.token.id().as_str().to_owned();
        insist("a revocation", async || match administrator.revoke_token(&id).await {
            // An earlier try has done it.
            Err(error) if error.to_string().contains("there is no token with id") => Ok(()),
            other => other,
        })
        .await?;
        let at = Instant::now();
        lock(&self.revoked).push(Revoked { token, at });
        self.count("tokens revoked");
        Ok(at)
    }

    /// Without faults, each node knows a new token in time.
    pub(super) async fn wait_known(&self, token: &Arc<Issued>) -> Result<(), String> {
        let began = Instant::now();
        for at in self.everywhere() {
            let client = self.client(&[at], token, ADMINISTRATION_TIME_MAX);
            while let Err(error) = client.health().await {
                if began.elapsed() > REFUSED_WITHIN + LATE_MAX {
                    return Err(format!(
                        "node {at} does not know a token {:?} after it was made: {error}",
                        began.elapsed()
                    ));
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
        Ok(())
    }

    /// Gives clients other tokens until `over`, and then those that they lack.
    pub(super) async fn change_tokens(&self, mut random: StdRng, over: &AtomicBool) -> Result<(), String> {
        loop {
            let who = Who::ALL[random.random_range(0..Who::ALL.len())];
            let old = self.passes[&who].now().expect("each kind of clients has a token");
            let between = Duration::from_millis(random.random_range(BETWEEN_MS));
            if random.random_bool(0.5) {
                // They are refused until they have the new one.
                self.revoke(old).await?;
                pause(between, over).await;
                self.passes[&who].set(self.create(who).await?);
            } else {
                let new = self.create(who).await?;
                pause(between, over).await;
                self.passes[&who].set(new);
                self.revoke(old).await?;
            }
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            pause(Duration::from_millis(random.random_range(PAUSE_MS)), over).await;
        }
    }
}

async fn pause(time: Duration, over: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < time && !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tries the same until it is done.
async fn insist(what: &str, mut attempt: impl AsyncFnMut() -> Result<(), ClientError>) -> Result<(), String> {
    let began = Instant::now();
    while let Err(error) = attempt().await {
        if began.elapsed() > CHANGE_TIME_MAX {
            return Err(format!("{what} is not done after {CHANGE_TIME_MAX:?}: {error}"));
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Ok(())
}
