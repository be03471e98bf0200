use super::*;
use crate::protocol::RepairReport;
use crate::protocol::layout::KnownNode;
use crate::protocol::placement::Placement;
use crate::runtime::PeerStatus;
use crate::storage::DiskRoom;
use crate::types::{Clock, ClusterId, ClusterParameters, Configuration, Member, MemberList, Site};

const ME: NodeIndex = NodeIndex(0);

fn id(number: usize) -> NodeId {
    NodeId::new(&number.to_string()).unwrap()
}

fn layout(nodes: usize, replica_count: usize) -> Layout {
    let node_ids = (1..=nodes).map(id).collect();
    Layout::begin(Arc::new(Placement::new(ClusterParameters::plain(0, replica_count, node_ids))), &[])
}

fn status(nodes: usize) -> Status {
    let peers = (1..nodes).map(|index| PeerStatus {
        member: NodeIndex(u16::try_from(index).unwrap()),
        id: id(index + 1),
        view: PeerView::Talking,
        last_seen: None,
        queued_bytes: 0,
    });
    Status {
        unready: None,
        cluster: None,
        store_failed: false,
        store_damage: Some("block 7".to_owned()),
        disk_is_short: false,
        clock: Clock::default(),
        requests: 0,
        peers: peers.collect(),
        repair: RepairReport::default(),
    }
}

/// The stores of the other members: whole but for these.
fn others(nodes: usize, but: &[(u16, Other)]) -> BTreeMap<NodeIndex, Other> {
    let index = |index: usize| NodeIndex(u16::try_from(index).unwrap());
    let mut others: BTreeMap<_, _> = (1..nodes).map(|node| (index(node), Other::Whole)).collect();
    others.extend(but.iter().map(|(node, other)| (NodeIndex(*node), other.clone())));
    others
}

fn decided(nodes: usize, replica_count: usize, but: &[(u16, Other)]) -> Decision {
    let layout = layout(nodes, replica_count);
    decide(&Seen {
        is_allowed: true,
        status: &status(nodes),
        layout: &layout,
        me: ME,
        others: &others(nodes, but),
        statistics: &StoreStatistics::default(),
    })
}

#[test]
fn store_is_given_up_only_where_a_majority_of_whole_replicas_is_left() {
    assert_eq!(decided(3, 3, &[]), Decision::default());
    assert_eq!(decided(5, 5, &[]), Decision::default());
    assert_eq!(decided(9, 3, &[]), Decision::default());
    for (nodes, replica_count) in [(1, 1), (3, 1), (2, 2), (3, 2)] {
        let text = decided(nodes, replica_count, &[]).text();
        assert!(
            text.contains(&format!("replica_count is {replica_count}")) && text.contains("backup restore"),
            "{text}"
        );
    }
    // Of three replicas, two that are damaged leave no majority. Of five they do.
    let both = decided(3, 3, &[(1, Other::Damaged)]).text();
    assert!(both.contains("node 2 is damaged too") && both.contains("members apply"), "{both}");
    assert_eq!(decided(5, 5, &[(1, Other::Damaged)]), Decision::default());
    assert!(!decided(5, 5, &[(1, Other::Damaged), (2, Other::Damaged)]).obstacles.is_empty());
    // In a larger cluster some slots have both.
    assert!(!decided(9, 3, &[(1, Other::Damaged)]).obstacles.is_empty());
}

#[test]
fn others_read_their_stores_first() {
    let unread = Other::Unread { is_running: false, bytes: 3 << 20, of_bytes: 9 << 20 };
    let decision = decided(3, 3, &[(2, unread.clone())]);
    assert_eq!(decision.unread, BTreeSet::from([NodeIndex(2)]));
    assert!(decision.text().contains("node 3 reads its own store first"), "{}", decision.text());
    assert!(decision.text().contains("3 of about 9 MiB"), "{}", decision.text());
    assert_eq!(decided(5, 5, &[(2, unread)]), Decision::default(), "three others are whole");
    let failed = decided(3, 3, &[(2, Other::Failed)]);
    assert!(failed.unread.is_empty(), "it is not ordered again and again");
    assert!(failed.text().contains("node 3 could not read its own store"), "{}", failed.text());
    let silent = decided(3, 3, &[(1, Other::Silent("no route".to_owned()))]).text();
    assert!(silent.contains("node 2 does not say how its store is (no route)"), "{silent}");
}

#[test]
fn node_waits_for_what_is_missing_and_says_what_to_do() {
    let layout = layout(3, 3);
    let others = others(3, &[]);
    let free = |free| DiskRoom { free, size: 1 << 30 };
    let full = StoreStatistics { disk_bytes: 8 << 20, disk_room: Some(free(9 << 20)), ..StoreStatistics::default() };
    let statistics = StoreStatistics { disk_room: Some(free(10 << 20)), ..full.clone() };
    let well = Seen {
        is_allowed: true,
        status: &status(3),
        layout: &layout,
        me: ME,
        others: &others,
        statistics: &statistics,
    };
    assert!(decide(&well).obstacles.is_empty());

    let off = decide(&Seen { is_allowed: false, ..well });
    assert!(off.is_by_hand && off.text().contains("members replace"), "{}", off.text());

    let mut away = status(3);
    away.peers[1].view = PeerView::Unreachable;
    let text = decide(&Seen {
        is_allowed: true,
        status: &away,
        layout: &layout,
        me: ME,
        others: &others,
        statistics: &statistics,
    })
    .text();
    assert!(text.contains("node 3 is not linked: start it"), "{text}");

    let starting = Status { unready: Some(Unready::Starting), ..status(3) };
    let text = decide(&Seen {
        is_allowed: true,
        status: &starting,
        layout: &layout,
        me: ME,
        others: &others,
        statistics: &statistics,
    })
    .text();
    assert!(text.contains("it serves first"), "{text}");

    for unready in [Unready::Waiting, Unready::Removed] {
        let status = Status { unready: Some(unready), ..status(3) };
        let text = decide(&Seen {
            is_allowed: true,
            status: &status,
            layout: &layout,
            me: ME,
            others: &others,
            statistics: &statistics,
        })
        .text();
        assert!(text.starts_with("it is no member") && text.contains("--join"), "{text}");
    }

    let text = decide(&Seen {
        is_allowed: true,
        status: &status(3),
        layout: &layout,
        me: ME,
        others: &others,
        statistics: &full,
    })
    .text();
    assert!(text.contains("needs 10 MiB") && text.contains("9 MiB are free"), "{text}");

    let again = StoreStatistics { stores_aside: 1, ..statistics.clone() };
    let text = decide(&Seen {
        is_allowed: true,
        status: &status(3),
        layout: &layout,
        me: ME,
        others: &others,
        statistics: &again,
    })
    .text();
    assert!(text.contains("a damaged store is set aside already: check the disk"), "{text}");
}

#[test]
fn change_that_a_damaged_node_takes_slots_over_in_may_have_to_be_taken_back() {
    let member = |id: &&str| Member {
        id: NodeId::new(id).unwrap(),
        store_id: StoreId(1),
        since: 0,
        address: "h:1".into(),
        site: Site::default(),
    };
    let list = |ids: &[&str]| MemberList { replica_count: 3, members: ids.iter().map(member).collect() };
    let (old, new) = (list(&["1", "2", "3"]), Some(list(&["1", "2", "3", "4"])));
    let configuration = Configuration { number: 9, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new };
    let nodes = (1..=4).map(|number| KnownNode::of_id(id(number))).collect();
    let index_of = |member: &Member| NodeIndex(member.id.as_str().parse::<u16>().unwrap() - 1);
    let first = Placement::new(configuration.parameters(&configuration.old));
    let layout = Layout::begin(Arc::new(first), &[]).under(Arc::new(configuration), nodes, index_of);
    let text = |me| {
        let (status, statistics) = (status(4), StoreStatistics::default());
        let others = BTreeMap::new();
        let seen =
            Seen { is_allowed: true, status: &status, layout: &layout, me, others: &others, statistics: &statistics };
        decide(&seen).text()
    };
    let (old, coming) = (text(ME), text(NodeIndex(3)));
    assert!(old.contains("comes to its end first") && old.contains("configuration 9"), "{old}");
    assert!(coming.contains("members abort") && coming.contains("give node 4 a fresh folder"), "{coming}");
}

#[test]
fn what_a_member_says_of_its_store_is_believed_for_a_day() {
    let mut layout = layout(3, 3);
    let address: Arc<str> = "n2:1".into();
    layout = {
        let placement = Arc::new(layout.old().clone());
        Layout::begin(placement, &["n1:1".into(), Arc::clone(&address), "n3:1".into()])
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let health = |damaged, clean_since| api::HealthResponse {
        node_id: "2".to_owned(),
        serves: true,
        damaged,
        data_bytes: 9,
        scrub: Some(api::ScrubHealth { clean_since, bytes: 4, ..Default::default() }),
        ..Default::default()
    };
    let said = |answer| other(&layout, NodeIndex(1), &Answers::from([("n2:1".to_owned(), answer)]));
    assert_eq!(said(Ok(health(false, seconds(3)))), Other::Whole);
    assert_eq!(said(Ok(health(true, seconds(3)))), Other::Damaged);
    let unread = Other::Unread { is_running: false, bytes: 4, of_bytes: 9 };
    assert_eq!(said(Ok(health(false, None))), unread);
    assert_eq!(said(Ok(health(false, seconds(86_400)))), unread);
    // Two terabytes are read in a day and a half.
    let large = |since| api::HealthResponse { data_bytes: 2 << 40, ..health(false, seconds(since)) };
    assert_eq!(said(Ok(large(2 * 86_400))), Other::Whole);
    assert!(matches!(said(Ok(large(4 * 86_400))), Other::Unread { .. }));
    let ended = |running| {
        let scrub = api::ScrubHealth { passes: 2, running, bytes: 4, ..Default::default() };
        api::HealthResponse { scrub: Some(scrub), ..health(false, None) }
    };
    assert_eq!(said(Ok(ended(false))), Other::Failed);
    assert_eq!(said(Ok(ended(true))), Other::Unread { is_running: true, bytes: 4, of_bytes: 9 });
    assert!(matches!(
        said(Ok(api::HealthResponse { node_id: "2".to_owned(), ..Default::default() })),
        Other::Silent(_)
    ));
    assert!(matches!(
        said(Ok(api::HealthResponse { node_id: "7".to_owned(), ..health(false, seconds(3)) })),
        Other::Silent(_)
    ));
    assert_eq!(said(Err("no route".to_owned())), Other::Silent("no route".to_owned()));
}

#[test]
fn node_asks_for_the_place_of_its_old_store_and_for_no_other() {
    let (old, new) = (StoreId(1), StoreId(2));
    let member = |id: &str, identity: StoreId, in_new| api::ClusterMember {
        id: id.to_owned(),
        identity: identity.to_string(),
        address: format!("n{id}:1"),
        in_old: true,
        in_new,
        ..Default::default()
    };
    let waiting = |identity: StoreId| api::WaitingMember {
        id: "2".to_owned(),
        address: "n2:1".to_owned(),
        identity: identity.to_string(),
    };
    let stable = |own: StoreId, waiting| api::MembersGetResponse {
        number: 4,
        replica_count: 3,
        members: vec![member("1", StoreId(7), true), member("2", own, true), member("3", StoreId(8), true)],
        waiting,
        ..Default::default()
    };
    let step = |members: &api::MembersGetResponse| next_step(members, "2", old, new);
    let waits_for = |members: &api::MembersGetResponse| match step(members) {
        Step::Wait(reason) => reason,
        Step::Ask(wish) => panic!("it asks: {wish:?}"),
    };
    // Another folder of its id waits too: the wish names its own.
    let Step::Ask(wish) = step(&stable(old, vec![waiting(StoreId(9)), waiting(new)])) else { panic!("it waits") };
    assert_eq!((wish.expected, wish.replica_count, wish.members.len(), wish.force), (Some(4), 3, 3, false));
    let own = wish.members.iter().find(|member| member.id == "2").unwrap();
    assert_eq!((&own.identity, &*own.address), (&new.to_string(), "n2:1"));

    assert!(waits_for(&stable(old, vec![])).contains("do not know it yet"));
    assert!(waits_for(&stable(StoreId(5), vec![waiting(new)])).contains("another data folder has its place"));
    assert!(waits_for(&stable(new, vec![])).contains("under way"));
    let changing = api::MembersGetResponse { changing: true, ..stable(old, vec![waiting(new)]) };
    assert!(waits_for(&changing).contains("asks again after that"));
    let mut removed = stable(old, vec![waiting(new)]);
    removed.members.remove(1);
    assert!(waits_for(&removed).contains("no member any more"));
}
