//! `quorate members`: show the members of the cluster, and change them while it serves.
//!
//! Contract: `apply`, `replace` and `abort` end with 0 once what was asked for is so, with 3 where the change was taken back or
//! another one came first, and with 2 where it was not accepted. Ctrl-C ends the command, and not the change.

mod change;
pub(super) mod text;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::config_check::read;
use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::api::{self, MemberFate};
use crate::client::Client;
use crate::config::{ClusterConfig, File};
use crate::service::cluster_report::{HEALTH_TIME_MAX, ask_all};
use crate::service::members::text::{cluster_yml, members_json, plan_json, weight_json};
use change::Change;
use text::{members_text, plan_text};

/// Show the members of the cluster, and change them while it serves
///
/// Without a subcommand it shows, as the nodes see it, each member with its address, state, identity, slots, share of all
/// copies and size on disk; the nodes that wait to join; the number of the configuration; what is moving, and how long still;
/// and how many failures are tolerated, now and when a change is done.
///
/// Members change in two steps. First each operation needs a majority of the members before and one of those after, while
/// the nodes copy the slots that they gain. Once all have them, the members after are the members. No request fails for
/// that, and until the end `quorate members abort` takes it back.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members                                  who the members are, and what is moving
  quorate members export > cluster-new.yml         the present members, to be edited
  quorate serve node-4.yml cluster-new.yml --join  start a node that waits to be added
  quorate members plan cluster-new.yml             what would move; changes nothing
  quorate members apply cluster-new.yml            add, remove and move nodes, change weights or replica_count
  quorate members replace 2                        node 2 lost its disk, and waits with a new one
  quorate members abort                            take the change back that is under way
  quorate members --json | jq '.members[].state'

EXIT CODES:
  0  the members are what was asked for
  2  not accepted, or no answer to the question whether to do it
  3  the change was taken back, or another one came first; or no node answered
  4  the command ended first: `quorate members` shows what became of it")]
pub(super) struct Members {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(Plan),
    Apply(Apply),
    Replace(Replace),
    Abort(Abort),
    Export(Export),
}

/// Show what a change of members would move; changes nothing
///
/// FILE is a cluster.yml as the members should be: nodes added, removed or moved to another address, weights, zones or
/// replica_count changed, in any combination. Prints who comes and leaves, how many slots and about how many bytes go from
/// whom to whom, and how many failures are tolerated before, meanwhile and afterwards.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members export > cluster-new.yml; $EDITOR cluster-new.yml
  quorate members plan cluster-new.yml
  quorate members plan cluster-new.yml --json | jq .bytes")]
struct Plan {
    /// A cluster.yml with the members that should be
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Change the members to those of a cluster.yml
///
/// Shows the plan and asks. Then it begins the change, and shows how far it is until it is done. A node that comes must
/// wait already: start it with `quorate serve NODE_FILE FILE --join`. A node that leaves keeps running until the end.
///
/// Ctrl-C ends the command alone. Run it again to go on watching: it says what should be, so that it never does a thing twice.
///
/// It is refused where slots would have no majority of members that can be reached, before or after, and while another change
/// is under way. With --force it is made all the same. The keys of those slots then wait until the members are back, and a
/// change that is under way is taken back first. Nothing is lost by that. A majority of the present members is still needed.
///
/// Exit code 2: it was not accepted, and the message says why. Exit code 3: the change was taken back, or another operator's
/// change came first.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members apply cluster-new.yml
  quorate members apply cluster-new.yml --yes      in a script
  quorate members apply cluster-new.yml --force    although nodes are away, or another change is under way")]
struct Apply {
    /// A cluster.yml with the members that should be
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do it without a question; needed where stdin is no terminal
    #[arg(long)]
    yes: bool,
    /// Do it although slots wait for members that are away, and take a change back that is under way
    #[arg(long)]
    force: bool,
}

/// Give the place of a member to a node of the same id with another data folder
///
/// For a node that lost its disk, or moved to another machine without it. Start it with a fresh folder:
/// `quorate serve NODE_FILE CLUSTER_FILE --join`. It waits, and `quorate members` lists it with its new identity. The old
/// identity is refused for ever afterwards, even if its disk is found again. Nothing moves but the copies that it lost. Run it
/// again to go on watching: where the node has its place, it says so and ends with code 0.
///
/// --force and the exit codes as those of apply.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members replace 2
  quorate members replace 2 --identity 9f3c01aa    of several nodes 2 that wait, this one")]
struct Replace {
    /// The id of the member
    #[arg(value_name = "ID")]
    id: String,
    /// The new identity, or its first digits, as `quorate members` shows it; needed where several nodes of this id wait
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<String>,
    /// Do it without a question; needed where stdin is no terminal
    #[arg(long)]
    yes: bool,
    /// Do it although slots wait for members that are away, and take a change back that is under way
    #[arg(long)]
    force: bool,
}

/// Take the change of members back that is under way
///
/// The members become those before the change. That is always safe: until its end every write is on a majority of them too.
/// Nodes that were to come wait again.
///
/// Exit code 2: nothing is under way. Exit code 3: the change was done first.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members abort")]
struct Abort {}

/// Print the present members as a cluster.yml
///
/// While members change, these are the members that are to be. Edit the file, and give it to plan and apply.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate members export > cluster.yml
  quorate members export | diff - cluster.yml")]
struct Export {}

impl Members {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self.command {
            None => show(global).await,
            Some(Command::Plan(plan)) => plan.run(global).await,
            Some(Command::Apply(apply)) => apply.run(global).await,
            Some(Command::Replace(replace)) => replace.run(global).await,
            Some(Command::Abort(Abort {})) => change::abort(global).await,
            Some(Command::Export(Export {})) => export(global).await,
        }
    }
}

async fn show(global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    let members = client.members().await?;
    if global.json {
        print_json(&members_json(&members))?;
    } else {
        let left = change::time_left(&client, &members).await;
        print(members_text(&members, left).as_bytes())?;
    }
    Ok(Exit::Done)
}

async fn export(global: &Global) -> Result<Exit, CliError> {
    let members = global.client()?.members().await?;
    if global.json {
        let nodes = members.members.iter().filter(|member| member.in_new);
        let nodes: serde_json::Map<String, serde_json::Value> =
            nodes.map(|node| (node.id.clone(), exported(node))).collect();
        let replica_count = crate::service::members::text::replica_count_after(&members);
        let (name, seed) = (&members.cluster_name, members.seed);
        let mut cluster =
            serde_json::json!({ "name": name, "seed": seed, "replica_count": replica_count, "nodes": nodes });
        if members.epoch_floor > 0 {
            cluster["epoch_floor"] = members.epoch_floor.into();
        }
        print_json(&serde_json::json!({ "cluster": cluster }))?;
    } else {
        print(cluster_yml(&members).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// A node in the JSON of a cluster.yml.
fn exported(node: &api::ClusterMember) -> serde_json::Value {
    let mut json = serde_json::json!({ "remote_address": node.address });
    if node.weight_hundredths != 0 {
        json["weight"] = weight_json(node.weight_hundredths);
    }
    if !node.zone.is_empty() {
        json["zone"] = node.zone.as_str().into();
    }
    json
}

impl Plan {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let client = global.client()?;
        let wish = wish_of_file(&self.file, &client).await?.wish;
        let plan = client.plan_members(wish).await?;
        let warnings = warnings(&plan, global).await?;
        if global.json {
            let mut json = plan_json(&plan);
            json["warnings"] = warnings.into();
            print_json(&json)?;
        } else {
            let mut text = plan_text(&plan);
            for warning in warnings {
                let _ = writeln!(text, "warning: {warning}");
            }
            print(text.as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

impl Apply {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let client = global.client()?;
        let change = wish_of_file(&self.file, &client).await?;
        change.apply(&client, self.yes, self.force, global).await
    }
}

impl Replace {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let client = global.client()?;
        let present = client.members().await?;
        let wish = text::replacement(&present, &self.id, self.identity.as_deref()).map_err(CliError::bad_input)?;
        if !present.changing && text::reaches_wish(&present, &wish) {
            change::done(
                global,
                present.number,
                &format!("node {} has this place already, and no other waits for it", self.id),
            );
            return Ok(Exit::Done);
        }
        Change { present, wish }.apply(&client, self.yes, self.force, global).await
    }
}

/// What is wrong, as seen from here, with the addresses that are new in a plan.
async fn warnings(plan: &api::MembersPlanResponse, global: &Global) -> Result<Vec<String>, CliError> {
    let is_new =
        |fate: MemberFate| matches!(fate, MemberFate::FateAdded | MemberFate::FateReplaced | MemberFate::FateMoved);
    let new = plan.differences.iter().filter(|difference| is_new(difference.fate()));
    let nodes: Vec<api::StorageNode> = new
        .map(|node| api::StorageNode { id: node.id.clone(), address: node.address.clone(), ..Default::default() })
        .collect();
    let info = api::ClusterInfoResponse { storage_nodes: nodes, ..Default::default() };
    let dialer = global.dialer()?;
    let answers = ask_all(&info, &[], &|_| dialer.clone(), HEALTH_TIME_MAX).await;
    let warning = |node: &api::StorageNode| text::address_warning(node, answers.get(&node.address)?);
    Ok(info.storage_nodes.iter().filter_map(warning).collect())
}

/// The wish of a cluster.yml, for the members that there are.
async fn wish_of_file(name: &Path, client: &Client) -> Result<Change, CliError> {
    let text = read(name)?;
    let cluster =
        ClusterConfig::parse(File { name, text: &text }).map_err(|error| CliError::bad_input(error.to_string()))?;
    let present = client.members().await?;
    if cluster.parameters.seed != present.seed {
        return Err(CliError::bad_input(format!(
            "{}: seed is {}, and that of the cluster is {}: it never changes; give the file that seed",
            name.display(),
            cluster.parameters.seed,
            present.seed
        )));
    }
    if cluster.parameters.epoch_floor != present.epoch_floor {
        return Err(CliError::bad_input(format!(
            "{}: epoch_floor is {}, and that of the cluster is {}: it never changes; give the file that number",
            name.display(),
            cluster.parameters.epoch_floor,
            present.epoch_floor
        )));
    }
    if !present.cluster_name.is_empty() && cluster.name != present.cluster_name {
        return Err(CliError::bad_input(format!(
            "{}: the name of the cluster is {:?}, and the nodes have {:?}, which is in their certificates: give the file that name",
            name.display(),
            cluster.name,
            present.cluster_name
        )));
    }
    let member = |member: crate::types::NodeIndex| {
        let (weight_hundredths, zone) = cluster.parameters.site(member).to_fields();
        api::WishedMember {
            id: cluster.parameters.id(member).as_str().to_owned(),
            address: cluster.address(member).to_string(),
            identity: String::new(),
            weight_hundredths,
            zone,
        }
    };
    let members = cluster.parameters.members().map(member).collect();
    let replica_count = u32::try_from(cluster.parameters.replica_count).unwrap_or(u32::MAX);
    let wish = api::MembersWish { members, replica_count, expected: Some(present.number), force: false };
    Ok(Change { present, wish })
}
