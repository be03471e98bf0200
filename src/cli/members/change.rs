//! A change of members from the question to its end.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::task::JoinSet;

use super::text::{Moving, moving, plan_text, reaches_wish, rest_text};
use crate::api;
use crate::cli::output::{print, report, say};
use crate::cli::{CliError, Exit, Global};
use crate::client::{Client, ClientError};
use crate::service::cluster_report::HEALTH_TIME_MAX;
use crate::wire::failure::FailureReason;

/// The time between two looks at how far the nodes are.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The same once a change takes longer. Each look costs the nodes work, for which clients wait too.
const LOOK_LATER_EVERY: Duration = Duration::from_secs(1);
/// How long a change has gone on then.
const LOOK_LATER_AFTER: Duration = Duration::from_secs(3);
/// How long a command waits, at its end, until all members know the new configuration.
const KNOWN_TIME_MAX: Duration = Duration::from_secs(5);
/// How far apart the two looks are by which `quorate members` estimates the time left.
const ESTIMATE_OVER: Duration = Duration::from_secs(1);
/// The rate of a change is that of so many looks.
const LOOKS_KEPT: usize = 30;

/// The members that there were, and those that an operator wishes for.
pub(super) struct Change {
    pub(super) present: api::MembersGetResponse,
    pub(super) wish: api::MembersWish,
}

/// How the watching of a change ended.
enum End {
    /// The configuration is stable again.
    Stable(Box<api::MembersGetResponse>),
    /// Another change has begun meanwhile.
    Other { number: u64 },
    /// The operator has ended the command.
    Interrupted,
}

impl Change {
    /// Makes the change, and waits for its end. With `force`, also where slots wait for members that are away; and another change
    /// that is under way is taken back first.
    pub(super) async fn apply(
        self,
        client: &Client,
        yes: bool,
        force: bool,
        global: &Global,
    ) -> Result<Exit, CliError> {
        let Self { mut present, mut wish } = self;
        wish.force = force;
        if force && present.changing && !reaches_wish(&present, &wish) {
            let question = "another change of members is under way: take it back first? [y/N] ";
            if !yes && !confirmed(question)? {
                return Err(CliError::bad_input("nothing was done"));
            }
            (_, present) = match take_back(client, &present).await? {
                Back::Taken(number, members) => (number, *members),
                Back::Interrupted => return Ok(interrupted()),
            };
            wish.expected = Some(present.number);
            if !global.json {
                say(&format!("the change that was under way is taken back (configuration {})", present.number));
            }
        }
        if reaches_wish(&present, &wish) {
            if present.changing {
                if !global.json {
                    say("this change is under way already: watching it");
                }
                return watch_to_end(client, present.number, &wish, global).await;
            }
            done(global, present.number, "the members are these already");
            return Ok(Exit::Done);
        }
        let plan = client.plan_members(wish.clone()).await.map_err(of_change)?;
        if !global.json {
            print(plan_text(&plan).as_bytes())?;
        }
        if !yes && !confirmed("change the members so? [y/N] ")? {
            return Err(CliError::bad_input("nothing was done"));
        }
        let number = match client.change_members(wish.clone()).await {
            Ok(number) => number,
            // The vote may come to its end yet.
            Err(ClientError::OutcomeUnknown { node }) => match find(client, &wish, present.number, global).await {
                Some(number) => number,
                None => return Err(ClientError::OutcomeUnknown { node }.into()),
            },
            Err(error) => return Err(of_change(error)),
        };
        watch_to_end(client, number, &wish, global).await
    }
}

/// Takes the change back that is under way, and waits until it is.
pub(super) async fn abort(global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    let present = client.members().await?;
    if !present.changing {
        return Err(CliError::bad_input("no change of members is under way: there is nothing to take back"));
    }
    match take_back(&client, &present).await? {
        Back::Taken(number, _) => {
            done(global, number, "taken back");
            Ok(Exit::Done)
        }
        Back::Interrupted => Ok(interrupted()),
    }
}

/// How the taking back of a change ended.
enum Back {
    /// The members are those before it, by the configuration of this number.
    Taken(u64, Box<api::MembersGetResponse>),
    /// The operator has ended the command.
    Interrupted,
}

/// Takes the change back that is under way by `present`, and waits until it is.
async fn take_back(client: &Client, present: &api::MembersGetResponse) -> Result<Back, CliError> {
    let number = client.abort_change_of_members(Some(present.number)).await.map_err(of_change)?;
    let back = api::MembersWish {
        members: present.members.iter().filter(|member| member.in_old).map(super::text::as_it_was).collect(),
        replica_count: present.replica_count,
        ..api::MembersWish::default()
    };
    match watch(client, present.number, false).await {
        End::Stable(members) if reaches_wish(&members, &back) => Ok(Back::Taken(number, members)),
        End::Stable(_) => Err(CliError::not_done("the change was done before it could be taken back")),
        End::Other { number } => Err(other_change(number)),
        End::Interrupted => Ok(Back::Interrupted),
    }
}

/// The number of the configuration with which the change of `wish` has begun, once it is known.
async fn find(client: &Client, wish: &api::MembersWish, before: u64, global: &Global) -> Option<u64> {
    let ends = Instant::now() + global.timeout;
    while Instant::now() < ends {
        if let Ok(members) = client.members().await
            && members.number > before
            && reaches_wish(&members, wish)
        {
            return Some(before + 1);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}

async fn watch_to_end(
    client: &Client,
    number: u64,
    wish: &api::MembersWish,
    global: &Global,
) -> Result<Exit, CliError> {
    match watch(client, number, !global.json).await {
        End::Stable(members) if reaches_wish(&members, wish) => {
            wait_until_known(&members, global).await;
            done(global, members.number, "done");
            Ok(Exit::Done)
        }
        End::Stable(members) => Err(CliError::not_done(format!(
            "the change was taken back, or another one was made (configuration {}): `quorate members` shows the members",
            members.number
        ))),
        End::Other { number } => Err(other_change(number)),
        End::Interrupted => Ok(interrupted()),
    }
}

/// Waits until the members that answer know the configuration, so that the next command finds it, whichever of them it asks. One
/// that does not answer is not waited for.
async fn wait_until_known(members: &api::MembersGetResponse, global: &Global) {
    let Ok(dialer) = global.dialer() else { return };
    let number = members.number;
    let mut asking = JoinSet::new();
    for member in members.members.iter().filter(|member| member.in_new) {
        let builder = Client::builder().address(&member.address).dialer(dialer.clone()).follow_members(false);
        let Ok(client) = builder.deadline(HEALTH_TIME_MAX).build() else { continue };
        asking.spawn(async move {
            while client.members().await.is_ok_and(|members| members.number < number) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }
    // The change is made, whoever has not heard of it by then.
    let _ = tokio::time::timeout(KNOWN_TIME_MAX, asking.join_all()).await;
}

/// Watches until the configuration after `number` is there, or one after that.
async fn watch(client: &Client, number: u64, has_progress: bool) -> End {
    let bar = bar(has_progress);
    let ended = async {
        let mut looks: Vec<(Instant, Moving)> = Vec::new();
        let began = Instant::now();
        loop {
            match client.members().await {
                Ok(members) if members.number > number && !members.changing => return End::Stable(Box::new(members)),
                Ok(members) if members.number > number => return End::Other { number: members.number },
                Ok(members) if members.number == number => show(&bar, &members, &mut looks),
                // This node does not know of the change yet.
                Ok(_) => {}
                Err(error) => bar.set_message(format!("no node answers, and it is asked again: {error}")),
            }
            let is_later = began.elapsed() > LOOK_LATER_AFTER;
            tokio::time::sleep(if is_later { LOOK_LATER_EVERY } else { LOOK_EVERY }).await;
        }
    };
    let end = tokio::select! {
        end = ended => end,
        _ = tokio::signal::ctrl_c() => End::Interrupted,
    };
    bar.finish_and_clear();
    end
}

/// Shows how far the change is.
fn show(bar: &ProgressBar, members: &api::MembersGetResponse, looks: &mut Vec<(Instant, Moving)>) {
    let now = moving(members);
    looks.push((Instant::now(), now));
    if looks.len() > LOOKS_KEPT {
        looks.remove(0);
    }
    bar.set_length(now.slots.max(1));
    bar.set_position(now.slots_done);
    let (first_at, first) = looks[0];
    bar.set_message(rest_text(now, Some(now.rate_since(first, first_at.elapsed()))));
}

/// How many slots and bytes move in a second, by two looks; `None` where nothing moves.
pub(super) async fn time_left(client: &Client, members: &api::MembersGetResponse) -> Option<(f64, f64)> {
    if !members.changing {
        return None;
    }
    let (first, began) = (moving(members), Instant::now());
    tokio::time::sleep(ESTIMATE_OVER).await;
    let later = client.members().await.ok().filter(|later| later.number == members.number)?;
    Some(moving(&later).rate_since(first, began.elapsed()))
}

/// Draws on a terminal alone.
fn bar(has_progress: bool) -> ProgressBar {
    if !has_progress || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(LOOK_EVERY);
    bar
}

/// Asks on the terminal.
fn confirmed(question: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::bad_input(
            "nothing was done: stdin is no terminal that could be asked; add --yes to do it",
        ));
    }
    // A prompt that cannot be shown is answered by nobody.
    let _ = std::io::stderr().lock().write_all(question.as_bytes());
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| CliError::bad_input(format!("nothing was done: stdin cannot be read: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

pub(super) fn done(global: &Global, number: u64, text: &str) {
    let shown = if global.json {
        json!({ "result": text, "number": number }).to_string()
    } else {
        format!("{text} (configuration {number})")
    };
    report(&format!("{shown}\n"), text);
}

fn interrupted() -> Exit {
    say("the change goes on: `quorate members` shows it, and the same command watches it again");
    Exit::OutcomeUnknown
}

fn other_change(number: u64) -> CliError {
    CliError::not_done(format!(
        "another change of members is under way (configuration {number}): `quorate members` shows it; wait for its end"
    ))
}

/// The error of a change: what is refused is not accepted; what another one has changed is not done.
fn of_change(error: ClientError) -> CliError {
    let reason = match &error {
        ClientError::Refused { node } => node.failure.as_ref().map(|failure| failure.reason),
        _ => None,
    };
    let message = error.to_string();
    match reason {
        Some(FailureReason::MembersRefused) => CliError::bad_input(message),
        Some(FailureReason::MembersChanged) => CliError::not_done(message),
        _ => error.into(),
    }
}
