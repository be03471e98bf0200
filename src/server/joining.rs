//! A node that waits adds itself to the cluster, where cluster.yml says `discovery: dns`.
//!
//! Contract: the wish is for the present members and this node, and changes nothing else. The members decide, as about the wish of an
//! operator. A node asks only while it has never been a member: what an operator has removed or taken back stays so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::asking::{Pause, Step, ask};
use crate::api;
use crate::protocol::Unready;
use crate::runtime::{NodeHandle, Status};
use crate::service::members::replacement::addition;
use crate::storage::folder::DataFolder;
use crate::types::{Site, StoreId};

/// The shortest time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks until the node is a member. `folder` is `None` where the node does not add itself.
pub(super) async fn run(node: NodeHandle, folder: Option<Arc<DataFolder>>, site: Site) -> Infallible {
    // A node that waits for the place of its damaged store asks for that.
    if let Some(folder) = folder.filter(|folder| folder.replaces().is_none()) {
        add(&node, &folder, &site).await;
    }
    std::future::pending().await
}

async fn add(node: &NodeHandle, folder: &DataFolder, site: &Site) {
    let mut pause = Pause::new(ASK_EVERY);
    while let Ok(Status { unready: Some(Unready::Waiting), .. }) = node.status().await {
        let step = |members: &_| next_step(members, node.id().as_str(), folder.store_id(), site);
        let text = ask(node, folder, "add it with `quorate members apply`", step).await;
        if pause.heard(&text) {
            info!("this node adds itself to the cluster: {text}");
        }
        pause.wait().await;
    }
}

/// What to do by what a member says. Nobody's place is taken.
fn next_step(members: &api::MembersGetResponse, id: &str, own: StoreId, site: &Site) -> Step {
    let own = own.to_string();
    let wait = |text: &str| Step::Wait(text.to_owned());
    match members.members.iter().find(|member| member.id == id && member.in_new) {
        Some(member) if member.identity == own => wait("the change is under way"),
        Some(_) => Step::Wait(format!(
            "another data folder is member {id}: end this node, or give it that place with `quorate members replace {id}`"
        )),
        None if members.changing => wait("members change, and it asks again after that"),
        None => addition(members, id, &own, site)
            .map_or_else(|| wait("the members do not know it yet"), |wish| Step::Ask(Box::new(wish))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_asks_to_come_to_the_present_members_once_they_know_it() {
        let own = StoreId(7);
        let member = |id: &str, identity: u128| api::ClusterMember {
            id: id.to_owned(),
            address: format!("{id}.p:1"),
            identity: StoreId(identity).to_string(),
            in_old: true,
            in_new: true,
            ..Default::default()
        };
        let waiting = |identity: StoreId| api::WaitingMember {
            id: "q-1".to_owned(),
            address: "q-1.p:1".to_owned(),
            identity: identity.to_string(),
        };
        let stable = |waiting| api::MembersGetResponse {
            number: 4,
            replica_count: 1,
            members: vec![member("q-0", 1)],
            waiting,
            ..Default::default()
        };
        let step = |members: &api::MembersGetResponse| next_step(members, "q-1", own, &Site::default());
        let Step::Ask(wish) = step(&stable(vec![waiting(StoreId(9)), waiting(own)])) else { panic!("it waits") };
        assert_eq!((wish.expected, wish.replica_count, wish.force), (Some(4), 1, false));
        let listed: Vec<_> = wish.members.iter().map(|member| (&*member.id, &*member.address)).collect();
        assert_eq!(listed, [("q-0", "q-0.p:1"), ("q-1", "q-1.p:1")]);
        assert_eq!(wish.members[1].identity, own.to_string());

        let waits_for = |members: &api::MembersGetResponse| match step(members) {
            Step::Wait(reason) => reason,
            Step::Ask(wish) => panic!("it asks: {wish:?}"),
        };
        assert!(waits_for(&stable(vec![waiting(StoreId(9))])).contains("do not know it yet"));
        let changing = api::MembersGetResponse { changing: true, ..stable(vec![waiting(own)]) };
        assert!(waits_for(&changing).contains("asks again after that"));
        for (identity, part) in [(7, "under way"), (8, "members replace q-1")] {
            let mut taken = stable(vec![waiting(own)]);
            taken.members.push(member("q-1", identity));
            assert!(waits_for(&taken).contains(part));
        }
    }
}
