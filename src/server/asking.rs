//! A node that waits asks the members for a change of its own place.

use std::time::Duration;

use crate::api;
use crate::client::{Client, ClientError};
use crate::runtime::NodeHandle;
use crate::storage::folder::DataFolder;

/// How long one question may take.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest time between two questions.
const ASK_EVERY_MAX: Duration = Duration::from_secs(30);

/// The time between two questions: longer while the answer stays the same, because each question costs the members work, and not the
/// same for two nodes that started together.
pub(super) struct Pause {
    every: Duration,
    next: Duration,
    said: String,
}

impl Pause {
    /// The shortest time is `every`.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, next: every, said: String::new() }
    }

    /// The answer was `text`. Returns whether it is another one than before.
    pub(super) fn heard(&mut self, text: &str) -> bool {
        let is_new = self.said != text;
        self.next = if is_new { self.every } else { (self.next * 2).min(ASK_EVERY_MAX) };
        text.clone_into(&mut self.said);
        is_new
    }

    /// Waits until the next question.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(self.next.mul_f64(rand::random_range(0.75..1.25))).await;
    }
}

/// What to do, by what a member says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Ask for this.
    Ask(Box<api::MembersWish>),
    /// Wait, for this reason.
    Wait(String),
}

/// Asks the members in turn, until one knows the node and takes its wish. Says how that went. One that knows less than others, or has
/// no link to them, keeps nobody from asking the rest. `by_hand` is what an operator does in the place of the node.
pub(super) async fn ask(
    node: &NodeHandle,
    folder: &DataFolder,
    by_hand: &str,
    next_step: impl Fn(&api::MembersGetResponse) -> Step,
) -> String {
    let known = std::iter::zip(&folder.parameters().node_ids, folder.addresses());
    let mut said = Err("no other member is known".to_owned());
    for (id, address) in known.filter(|(id, _)| *id != node.id()) {
        let dialer = node.trust().dialer(id);
        let client = Client::builder().address(address).dialer(dialer).follow_members(false).deadline(ASK_TIME_MAX);
        let asked = async {
            let client = client.build()?;
            match next_step(&client.members().await?) {
                Step::Wait(reason) => Ok(Asked::Waits(reason)),
                Step::Ask(wish) => Ok::<_, ClientError>(Asked::Begun(client.change_members(*wish).await?)),
            }
        };
        let answer = asked.await.map_err(|error| match &error {
            ClientError::Refused { .. } if node.trust().tls.is_none() => {
                format!("node {id}: {error}; with authorization and without TLS, {by_hand}")
            }
            _ => format!("node {id}: {error}"),
        });
        if let Ok(Asked::Begun(number)) = answer {
            return format!("node {id} has begun the change (configuration {number})");
        }
        said = more_of(said, answer);
    }
    said.unwrap_or_else(|error| error)
}

/// How a member has answered.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    /// It has begun the change, under the configuration of this number.
    Begun(u64),
    /// There is nothing to ask for now, for this reason.
    Waits(String),
}

/// What is to be said after one more answer: a reason to wait says more than an error, and the first one stays.
fn more_of(said: Result<String, String>, answer: Result<Asked, String>) -> Result<String, String> {
    match (said, answer) {
        (Ok(said), _) => Ok(said),
        (Err(_), Ok(Asked::Waits(reason))) => Ok(reason),
        (Err(_), Ok(Asked::Begun(number))) => Ok(format!("the change has begun (configuration {number})")),
        (Err(_), Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_grows_while_the_answer_stays_the_same() {
        let mut pause = Pause::new(Duration::from_secs(1));
        assert!(pause.heard("a") && !pause.heard("a"));
        assert_eq!(pause.next, Duration::from_secs(2));
        (0..10).for_each(|_| assert!(!pause.heard("a")));
        assert_eq!(pause.next, ASK_EVERY_MAX);
        assert!(pause.heard("b"));
        assert_eq!(pause.next, Duration::from_secs(1));
    }

    #[test]
    fn reason_to_wait_is_said_rather_than_an_error() {
        let said = |answers: &[Result<&str, &str>]| {
            let answer = |answer: &Result<&str, &str>| match answer {
                Ok(reason) => Ok(Asked::Waits((*reason).to_owned())),
                Err(error) => Err((*error).to_owned()),
            };
            answers.iter().map(answer).fold(Err("nobody".to_owned()), more_of)
        };
        assert_eq!(said(&[]), Err("nobody".to_owned()));
        assert_eq!(said(&[Err("one"), Err("two")]), Err("two".to_owned()));
        assert_eq!(said(&[Err("one"), Ok("two"), Err("three"), Ok("four")]), Ok("two".to_owned()));
    }
}
