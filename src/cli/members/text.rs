//! What `quorate members` prints, and what it wishes for: pure functions.

use comfy_table::{Table, presets};
use std::fmt::Write as _;

use crate::api;
use crate::cli::status::{bytes_text, uptime_text};
use crate::service::health::tolerates_text;
pub(super) use crate::service::members::replacement::{as_wished, replacement};
pub(super) use crate::service::members::text::{Moving, moving};
use crate::service::members::text::{fate, replica_count_after, share, state, weight_text};

/// The digits of an identity that the table shows.
const IDENTITY_DIGITS: usize = 8;

/// What is left of a change, with the slots and bytes that move in a second.
pub(in crate::cli) fn rest_text(moving: Moving, rate: Option<(f64, f64)>) -> String {
    let Moving { slots, slots_done, bytes, nodes } = moving;
    let left = rate.and_then(|rate| moving.time_left(rate));
    let mut text = format!("{slots_done} of {slots} slots, {}", bytes_text(bytes));
    if nodes == 0 {
        return text + ", all nodes are ready";
    }
    if let (Some((_, bytes_a_second)), Some(left)) = (rate, left) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive, and shown in few digits"
        )]
        let bytes_a_second = bytes_a_second as u64;
        let left = uptime_text(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
        let _ = write!(text, ", {}/s, about {left} left", bytes_text(bytes_a_second));
    }
    text
}

/// The members as a table, and what is tolerated.
pub(super) fn members_text(members: &api::MembersGetResponse, rate: Option<(f64, f64)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Most clusters have neither weights nor zones, and a line has room for little more than the rest.
    let has_weights = members.members.iter().any(|member| member.weight_hundredths != 0);
    let has_zones = members.members.iter().any(|member| !member.zone.is_empty());
    let with_site = |mut cells: Vec<String>, weight: String, zone: &str| {
        cells.extend(has_weights.then_some(weight));
        cells.extend(has_zones.then(|| zone.to_owned()));
        cells
    };
    let header = ["ID", "ADDRESS", "STATE", "IDENTITY", "SLOTS", "SHARE", "DISK"].map(str::to_owned);
    table.set_header(with_site(header.into(), "WEIGHT".to_owned(), "ZONE"));
    let replica_count = replica_count_after(members);
    let digits = |identity: &str| match identity.get(..IDENTITY_DIGITS) {
        Some(digits) => digits.to_owned(),
        None => "-".to_owned(),
    };
    for member in &members.members {
        let state = if member.reached { state(member).to_owned() } else { format!("{}, away", state(member)) };
        let share = share(member.slots, replica_count);
        let cells = vec![
            member.id.clone(),
            member.address.clone(),
            state,
            digits(&member.identity),
            member.slots.to_string(),
            if member.in_new { format!("{:.1} %", 100.0 * share) } else { "-".to_owned() },
            member.disk_bytes.map_or_else(|| "-".to_owned(), bytes_text),
        ];
        let zone = if member.zone.is_empty() { "-" } else { &member.zone };
        table.add_row(with_site(cells, weight_text(member.weight_hundredths), zone));
    }
    for node in &members.waiting {
        let [none, no_share, no_disk] = ["-", "-", "-"].map(str::to_owned);
        let state = "waiting".to_owned();
        let cells = [node.id.clone(), node.address.clone(), state, digits(&node.identity), none, no_share, no_disk];
        table.add_row(with_site(cells.into(), "-".to_owned(), "-"));
    }
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let copies = match (members.replica_count, members.new_replica_count) {
        (before, Some(after)) if before != after => format!("replica_count {before}, then {after}"),
        (before, _) => format!("replica_count {before}"),
    };
    let kind = if members.changing { "members change" } else { "stable" };
    let _ = writeln!(text, "configuration {}, {kind}; {copies}", members.number);
    if members.changing {
        let _ = writeln!(text, "moving: {}", rest_text(moving(members), rate));
        let _ = writeln!(
            text,
            "{} now, {} when this is done",
            tolerates(members.failures_tolerated),
            members.failures_tolerated_after
        );
    } else {
        let _ = writeln!(text, "{}", tolerates(members.failures_tolerated));
    }
    text
}

fn tolerates(failures: u32) -> String {
    tolerates_text(failures as usize)
}

/// A plan as text.
pub(super) fn plan_text(plan: &api::MembersPlanResponse) -> String {
    let mut text = String::new();
    for difference in &plan.differences {
        let where_it_is = match (difference.fate(), difference.reached) {
            (api::MemberFate::FateAdded | api::MemberFate::FateReplaced, false) => {
                ", which does not wait yet: start it with `quorate serve --join`"
            }
            (_, false) => ", which is away",
            _ => "",
        };
        let _ = writeln!(
            text,
            "node {} is {} ({}{where_it_is}){}",
            difference.id,
            fate(difference.fate()),
            difference.address,
            site_text(difference)
        );
    }
    if plan.replica_count != plan.new_replica_count {
        let _ = writeln!(text, "replica_count becomes {}, from {}", plan.new_replica_count, plan.replica_count);
    }
    if plan.differences.is_empty() && plan.replica_count == plan.new_replica_count {
        text.push_str("the members are these already\n");
    }
    if !plan.moves.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["FROM", "TO", "SLOTS", "ABOUT"]);
        for moved in &plan.moves {
            table.add_row([moved.from.clone(), moved.to.clone(), moved.slots.to_string(), bytes_text(moved.bytes)]);
        }
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    let slots: u64 = plan.moves.iter().map(|moved| u64::from(moved.slots)).sum();
    let bytes: u64 = plan.moves.iter().map(|moved| moved.bytes).sum();
    let known = if plan.bytes_known { "" } else { " (not all nodes have told how much they hold)" };
    let _ = writeln!(text, "moves {slots} copies of slots, about {}{known}", bytes_text(bytes));
    let _ = writeln!(text, "{}", tolerance_text(plan));
    if plan.slots_without_majority > 0 {
        let _ = writeln!(
            text,
            "{} slots would lack a majority of members that can be reached: apply would be refused",
            plan.slots_without_majority
        );
    }
    text
}

/// How many failures are tolerated before a change, meanwhile and afterwards. A node that does not answer counts as a failure, which a
/// reader of the numbers alone would not guess.
fn tolerance_text(plan: &api::MembersPlanResponse) -> String {
    let (meanwhile, after) = (plan.failures_tolerated_meanwhile, plan.failures_tolerated_after);
    let now = tolerates(plan.failures_tolerated);
    let stays = |difference: &&api::MemberDifference| difference.fate() != api::MemberFate::FateRemoved;
    let away = plan.differences.iter().filter(stays).filter(|difference| !difference.reached);
    let away: Vec<&str> = away.map(|difference| difference.id.as_str()).collect();
    match &away[..] {
        [] => format!("{now} now, {meanwhile} meanwhile, {after} afterwards"),
        away => {
            let later = if meanwhile == after {
                format!("{meanwhile} meanwhile and afterwards")
            } else {
                format!("{meanwhile} meanwhile and {after} afterwards")
            };
            let (word, verb) = if away.len() == 1 { ("node", "does") } else { ("nodes", "do") };
            format!("{now} now, {later} while {word} {} {verb} not answer", away.join(", "))
        }
    }
}

/// The warning that a node does not answer at its address. `None` where it does.
pub(super) fn address_warning(node: &api::StorageNode, answer: &Result<api::HealthResponse, String>) -> Option<String> {
    let api::StorageNode { id, address, .. } = node;
    match answer {
        Ok(health) if health.node_id == *id => None,
        Ok(health) => Some(format!(
            "node {} answers at {address}, where the file has node {id}: correct the address",
            health.node_id
        )),
        Err(reason) => Some(format!(
            "node {id} does not answer at {address} from here ({reason}): start it, or correct the address, unless the nodes alone \
             reach it"
        )),
    }
}

/// What a change does to the weight and zone of a member.
fn site_text(difference: &api::MemberDifference) -> String {
    let mut text = String::new();
    let (old, new) = (difference.old_weight_hundredths, difference.weight_hundredths);
    if old != new {
        let _ = write!(text, ": weight {} instead of {}", weight_text(new), weight_text(old));
    }
    if difference.old_zone != difference.zone {
        let zone = |zone: &str| if zone.is_empty() { "no zone".to_owned() } else { format!("zone {zone}") };
        let mark = if text.is_empty() { ":" } else { "," };
        let _ = write!(text, "{mark} {} instead of {}", zone(&difference.zone), zone(&difference.old_zone));
    }
    text
}

/// Whether the members, once no change is under way, are those of a wish.
pub(super) fn reaches_wish(members: &api::MembersGetResponse, wish: &api::MembersWish) -> bool {
    let is_wished = |member: &&api::ClusterMember| {
        wish.members.iter().any(|wished| {
            let is_identity = wished.identity.is_empty() || wished.identity == member.identity;
            let is_site = wished.weight_hundredths == member.weight_hundredths && wished.zone == member.zone;
            wished.id == member.id && wished.address == member.address && is_identity && is_site
        })
    };
    let new = || members.members.iter().filter(|member| member.in_new);
    let count = new().count();
    replica_count_after(members) == wish.replica_count
        && count == wish.members.len()
        && new().filter(is_wished).count() == count
}

/// A member with the weight and zone that it had before the change under way.
pub(super) fn as_it_was(member: &api::ClusterMember) -> api::WishedMember {
    api::WishedMember {
        weight_hundredths: member.old_weight_hundredths,
        zone: member.old_zone.clone(),
        ..as_wished(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, identity: &str, is_in: (bool, bool)) -> api::ClusterMember {
        api::ClusterMember {
            id: id.to_owned(),
            address: format!("n{id}:8001"),
            identity: identity.repeat(32),
            in_old: is_in.0,
            in_new: is_in.1,
            reached: true,
            slots: 49_152,
            ..Default::default()
        }
    }

    fn waiting(id: &str, identity: &str) -> api::WaitingMember {
        api::WaitingMember { id: id.to_owned(), address: format!("m{id}:8001"), identity: identity.repeat(32) }
    }

    fn three() -> api::MembersGetResponse {
        api::MembersGetResponse {
            number: 4,
            replica_count: 3,
            members: ["1", "2", "3"].map(|id| member(id, id, (true, true))).into(),
            failures_tolerated: 1,
            failures_tolerated_after: 1,
            ..Default::default()
        }
    }

    #[test]
    fn table_shows_members_and_nodes_that_wait() {
        let mut members = three();
        members.waiting.push(waiting("4", "a"));
        members.members[2].reached = false;
        let text = members_text(&members, None);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "ID ADDRESS STATE IDENTITY SLOTS SHARE DISK");
        assert_eq!(lines[1], "1 n1:8001 member 11111111 49152 25.0 % -");
        assert_eq!(lines[3], "3 n3:8001 member, away 33333333 49152 25.0 % -");
        assert_eq!(lines[4], "4 m4:8001 waiting aaaaaaaa - - -");
        assert_eq!(lines[5..], ["configuration 4, stable; replica_count 3", "tolerates 1 more failure"]);
    }

    #[test]
    fn change_under_way_says_how_far_it_is_and_how_long_still() {
        let mut members = three();
        let progress = api::MemberProgress { slots: 300, slots_done: 100, bytes: 2_048, ..Default::default() };
        members.members.push(api::ClusterMember { progress: Some(progress), ..member("4", "4", (false, true)) });
        for place in 0..3 {
            members.members[place].progress = Some(api::MemberProgress { complete: true, ..Default::default() });
        }
        (members.changing, members.new_replica_count, members.failures_tolerated_after) = (true, Some(3), 2);
        let text = members_text(&members, Some((10.0, 100.0)));
        assert!(text.contains("moving: 100 of 300 slots, 2.0 KiB, 100 B/s, about 41s left\n"), "{text}");
        assert!(text.contains(" joining "), "{text}");
        assert!(text.ends_with("tolerates 1 more failure now, 2 when this is done\n"), "{text}");
        assert!(!members_text(&members, Some((0.0, 0.0))).contains("left"), "nothing is known of the rest");
    }

    #[test]
    fn wish_is_reached_by_the_members_that_are_to_be() {
        let mut members = three();
        let wish = api::MembersWish {
            members: members.members.iter().map(as_wished).collect(),
            replica_count: 3,
            expected: None,
            force: false,
        };
        assert!(reaches_wish(&members, &wish));
        let mut without_identity = wish.clone();
        without_identity.members[0].identity.clear();
        assert!(reaches_wish(&members, &without_identity));
        let other = |change: fn(&mut api::MembersWish)| {
            let mut other = wish.clone();
            change(&mut other);
            other
        };
        assert!(!reaches_wish(&members, &other(|wish| wish.replica_count = 1)));
        assert!(!reaches_wish(&members, &other(|wish| wish.members[1].address = "n9:1".to_owned())));
        assert!(!reaches_wish(&members, &other(|wish| wish.members[1].identity = "0".repeat(32))));
        assert!(!reaches_wish(&members, &other(|wish| drop(wish.members.pop()))));
        assert!(!reaches_wish(&members, &other(|wish| wish.members[1].weight_hundredths = 200)));
        assert!(!reaches_wish(&members, &other(|wish| wish.members[1].zone = "a".to_owned())));
        members.members[2].in_new = false;
        assert!(!reaches_wish(&members, &wish), "node 3 leaves");
    }

    #[test]
    fn replacement_takes_the_node_that_waits_or_says_what_to_do() {
        let mut members = three();
        let refused = |members: &api::MembersGetResponse, id, identity| replacement(members, id, identity).unwrap_err();
        assert!(refused(&members, "9", None).contains("there is no member \"9\""));
        assert!(reaches_wish(&members, &replacement(&members, "2", None).unwrap()), "it has its place already");
        members.members[1].reached = false;
        assert!(refused(&members, "2", None).contains("no node 2 waits to join"));
        members.waiting.extend([waiting("2", "a"), waiting("3", "b")]);
        let wish = replacement(&members, "2", None).unwrap();
        assert_eq!((wish.members.len(), wish.replica_count, wish.expected), (3, 3, Some(4)));
        assert_eq!(wish.members[2].identity, "a".repeat(32));
        assert_eq!(wish.members[2].address, "m2:8001");
        members.waiting.push(waiting("2", "c"));
        assert!(refused(&members, "2", None).contains("2 nodes 2 wait to join: name one with --identity: aaaa"));
        assert_eq!(replacement(&members, "2", Some("CC")).unwrap().members[2].identity, "c".repeat(32));
        assert!(refused(&members, "2", Some("dd")).contains("of identity dd"));
    }

    #[test]
    fn address_where_no_node_or_another_one_answers_is_warned_of() {
        let node = api::StorageNode { id: "4".into(), address: "n4:8001".into(), ..Default::default() };
        let health = |id: &str| Ok(api::HealthResponse { node_id: id.into(), ..Default::default() });
        assert_eq!(address_warning(&node, &health("4")), None);
        let other = address_warning(&node, &health("5")).unwrap();
        assert!(other.contains("node 5 answers at n4:8001, where the file has node 4"), "{other}");
        let nobody = address_warning(&node, &Err("Connection refused".into())).unwrap();
        assert!(nobody.contains("node 4 does not answer at n4:8001 from here (Connection refused)"), "{nobody}");
    }

    #[test]
    fn plan_says_who_comes_what_moves_and_what_is_tolerated() {
        let plan = api::MembersPlanResponse {
            differences: vec![api::MemberDifference {
                id: "4".to_owned(),
                fate: api::MemberFate::FateAdded.into(),
                address: "n4:8001".to_owned(),
                reached: false,
                ..Default::default()
            }],
            moves: vec![api::MemberMove { from: "1".to_owned(), to: "4".to_owned(), slots: 16_384, bytes: 3 << 20 }],
            failures_tolerated: 1,
            failures_tolerated_meanwhile: 0,
            failures_tolerated_after: 2,
            replica_count: 3,
            new_replica_count: 5,
            slots_without_majority: 7,
            bytes_known: true,
            number: 4,
        };
        let text = plan_text(&plan);
        for part in [
            "node 4 is added (n4:8001, which does not wait yet: start it with `quorate serve --join`)\n",
            "replica_count becomes 5, from 3\n",
            "moves 16384 copies of slots, about 3.0 MiB\n",
            "tolerates 1 more failure now, 0 meanwhile and 2 afterwards while node 4 does not answer\n",
            "7 slots would lack a majority",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let with = |change: fn(&mut api::MembersPlanResponse)| {
            let mut plan = plan.clone();
            plan.failures_tolerated_after = 0;
            change(&mut plan);
            tolerance_text(&plan)
        };
        let one = "tolerates 1 more failure now, 0 meanwhile and afterwards while node 4 does not answer";
        assert_eq!(with(|_| ()), one);
        let two = with(|plan| {
            plan.differences.push(api::MemberDifference { id: "5".to_owned(), ..plan.differences[0].clone() });
        });
        assert!(two.ends_with("0 meanwhile and afterwards while nodes 4, 5 do not answer"), "{two}");
        let all_answer = "tolerates 1 more failure now, 0 meanwhile, 0 afterwards";
        assert_eq!(with(|plan| plan.differences[0].reached = true), all_answer);
        let removed = with(|plan| plan.differences[0].fate = api::MemberFate::FateRemoved.into());
        assert_eq!(removed, all_answer, "a node that leaves is not waited for");
        let weighed = api::MembersPlanResponse {
            differences: vec![api::MemberDifference {
                id: "2".to_owned(),
                fate: api::MemberFate::FateWeighed.into(),
                address: "n2:8001".to_owned(),
                reached: true,
                weight_hundredths: 250,
                zone: "b".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = plan_text(&weighed);
        let line = "node 2 is placed anew (n2:8001): weight 2.5 instead of 1, zone b instead of no zone\n";
        assert!(text.starts_with(line), "{text}");
        let none = api::MembersPlanResponse { replica_count: 3, new_replica_count: 3, ..Default::default() };
        assert!(plan_text(&none).starts_with("the members are these already\n"));
    }
}
