//! The commands of one connection that are not answered yet, in their order.
//!
//! Contract: a command begins once no command before it touches one of its keys, unless both only read. So the commands of a
//! connection take effect as if they ran one after another.

use std::cmp::Ordering;
use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::command::Command;
use super::parse::ARGUMENT_BYTES;
use super::reply::{Outgoing, Reply, Version};
use super::running::RunningCommand;
use super::table::{Access, Keys};

/// The most commands of one connection that are under way or wait.
pub(super) const COMMANDS_MAX: usize = 128;
/// The most bytes of their arguments and of their answers, unless it is one command alone.
const BYTES_MAX: usize = 1 << 20;

/// The commands of one connection.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    /// The number of the first slot. Commands are counted from the start of the connection.
    first: u64,
    waiting: usize,
    /// How many are under way.
    running: usize,
    /// The bytes of the arguments of commands without an answer, and of the answers that are not sent yet.
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    /// The version of the protocol that was chosen before it.
    version: Version,
    touched: Touched,
    writes: bool,
    /// Those of its arguments, or of its answer once it has one.
    bytes: usize,
    /// No command before this number holds it up.
    free_until: u64,
    state: State,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each command runs once, and boxes would be allocated for all")]
enum State {
    Waiting(Command),
    Running(RunningCommand),
    Done(Reply),
}

/// The hashes of the keys that a command touches. Two keys of one hash only wait for each other in vain.
#[derive(Debug, PartialEq, Eq)]
enum Touched {
    None,
    One(u64),
    /// In ascending order, each once.
    Many(Vec<u64>),
    All,
}

impl Touched {
    fn of(command: &Command) -> Self {
        let hash = |key: &bytes::Bytes| xxh3_64(key);
        match command.spec.keys {
            Keys::None => Self::None,
            Keys::One => command.key_arguments().next().map_or(Self::None, |key| Self::One(hash(key))),
            Keys::Every | Keys::Pairs => {
                let mut hashes: Vec<u64> = command.key_arguments().map(hash).collect();
                hashes.sort_unstable();
                hashes.dedup();
                Self::Many(hashes)
            }
            Keys::Any => Self::All,
        }
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => false,
            (Self::All, _) | (_, Self::All) => true,
            (Self::One(one), Self::One(other)) => one == other,
            (Self::One(one), Self::Many(many)) | (Self::Many(many), Self::One(one)) => many.binary_search(one).is_ok(),
            (Self::Many(one), Self::Many(other)) => have_common(one, other),
        }
    }
}

/// Whether two ascending lists have an element in common.
fn have_common(mut one: &[u64], mut other: &[u64]) -> bool {
    while let ([first, rest @ ..], [other_first, other_rest @ ..]) = (one, other) {
        match first.cmp(other_first) {
            Ordering::Less => one = rest,
            Ordering::Equal => return true,
            Ordering::Greater => other = other_rest,
        }
    }
    false
}

impl Slot {
    /// Whether a later command must wait for this one.
    fn holds_up(&self, later: &Self) -> bool {
        !matches!(self.state, State::Done(_)) && (self.writes || later.writes) && self.touched.meets(&later.touched)
    }
}

impl Pipeline {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a command is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Whether no command waits or is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    /// Whether it takes another command.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < COMMANDS_MAX && (self.bytes < BYTES_MAX)
    }

    /// Adds a command.
    pub(super) fn push(&mut self, command: Command, version: Version) {
        let touched = Touched::of(&command);
        let writes = command.spec.access == Access::Write;
        let bytes = command.arguments.iter().map(|argument| argument.len() + ARGUMENT_BYTES).sum();
        self.bytes += bytes;
        self.waiting += 1;
        self.slots.push_back(Slot { version, touched, writes, bytes, free_until: 0, state: State::Waiting(command) });
    }

    /// Adds an answer that is there already.
    pub(super) fn push_reply(&mut self, reply: Reply, version: Version) {
        let bytes = reply.held();
        self.bytes += bytes;
        let (touched, state) = (Touched::None, State::Done(reply));
        self.slots.push_back(Slot { version, touched, writes: false, bytes, free_until: 0, state });
    }

    /// Hands the commands that may begin to `begin`, each with its number, until it takes no more. It is told whether
    /// another one runs.
    pub(super) fn begin(&mut self, mut begin: impl FnMut(u64, Command, bool) -> Result<RunningCommand, Command>) {
        if self.waiting == 0 {
            return;
        }
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if !matches!(slot.state, State::Waiting(_)) {
                continue;
            }
            // A command that does not hold up a later one never will. So each pair is compared once.
            let from = usize::try_from(slot.free_until.saturating_sub(self.first)).unwrap_or(at);
            let free_until = (from..at).find(|earlier| self.slots[*earlier].holds_up(slot)).unwrap_or(at);
            let number = self.first + at as u64;
            let slot = &mut self.slots[at];
            slot.free_until = self.first + free_until as u64;
            if free_until < at {
                continue;
            }
            let taken = std::mem::replace(&mut slot.state, State::Running(RunningCommand::default()));
            let State::Waiting(command) = taken else { continue };
            match begin(number, command, self.running > 0) {
                Ok(running) => slot.state = State::Running(running),
                Err(command) => {
                    slot.state = State::Waiting(command);
                    return;
                }
            }
            self.waiting -= 1;
            self.running += 1;
        }
    }

    /// The command of this number, if it is under way.
    pub(super) fn running(&mut self, number: u64) -> Option<&mut RunningCommand> {
        match &mut self.slot(number)?.state {
            State::Running(running) => Some(running),
            State::Waiting(_) | State::Done(_) => None,
        }
    }

    /// All commands that are under way, with their numbers.
    pub(super) fn all_running(&mut self) -> impl Iterator<Item = (u64, &mut RunningCommand)> {
        (self.first..).zip(&mut self.slots).filter_map(|(number, slot)| match &mut slot.state {
            State::Running(running) => Some((number, running)),
            State::Waiting(_) | State::Done(_) => None,
        })
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(at)
    }

    /// A command that was under way has ended.
    pub(super) fn end(&mut self, number: u64, reply: Reply) {
        let bytes = reply.held();
        if let Some(slot) = self.slot(number) {
            let before = std::mem::replace(&mut slot.bytes, bytes);
            slot.state = State::Done(reply);
            self.bytes = self.bytes - before + bytes;
            self.running -= 1;
        }
    }

    /// Moves the answers that are next to `outgoing`. Whether there was any.
    pub(super) fn answer(&mut self, outgoing: &mut Outgoing) -> bool {
        let before = self.first;
        while matches!(self.slots.front(), Some(Slot { state: State::Done(_), .. })) {
            if let Some(Slot { version, bytes, state: State::Done(reply), .. }) = self.slots.pop_front() {
                self.bytes -= bytes;
                outgoing.push(reply, version);
                self.first += 1;
            }
        }
        self.first > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command {
        let arguments = text.split(' ').map(|word| bytes::Bytes::copy_from_slice(word.as_bytes())).collect();
        Command::of(arguments, None).unwrap()
    }

    /// The numbers of the commands that begin now.
    fn begun(pipeline: &mut Pipeline) -> Vec<u64> {
        let mut begun = Vec::new();
        pipeline.begin(|number, _, _| {
            begun.push(number);
            Ok(RunningCommand::default())
        });
        begun
    }

    #[test]
    fn commands_of_different_keys_run_together_and_others_in_their_order() {
        let mut pipeline = Pipeline::default();
        for text in ["SET a 1", "SET b 1", "GET a", "GET a", "SET a 2", "MGET b c", "GET c", "SCAN 0", "SET d 1"] {
            pipeline.push(command(text), Version::Two);
        }
        assert_eq!(begun(&mut pipeline), [0, 1, 6]);
        pipeline.end(1, Reply::OK);
        assert_eq!(begun(&mut pipeline), [5]);
        pipeline.end(0, Reply::OK);
        assert_eq!(begun(&mut pipeline), [2, 3]);
        pipeline.end(2, Reply::Nil);
        assert_eq!(begun(&mut pipeline), [] as [u64; 0]);
        let mut outgoing = Outgoing::default();
        assert!(pipeline.answer(&mut outgoing) && !pipeline.answer(&mut outgoing));
        assert_eq!(outgoing.len(), "+OK\r\n+OK\r\n$-1\r\n".len());
        pipeline.end(3, Reply::Nil);
        assert_eq!(begun(&mut pipeline), [4]);
        pipeline.end(4, Reply::OK);
        assert_eq!(begun(&mut pipeline), [7], "a list of all keys comes after every write");
        for number in [5, 6, 7] {
            pipeline.end(number, Reply::Nil);
        }
        assert_eq!(begun(&mut pipeline), [8]);
        pipeline.end(8, Reply::OK);
        assert!(pipeline.answer(&mut outgoing) && pipeline.is_empty() && pipeline.bytes == 0);
    }

    #[test]
    fn window_is_bounded_by_commands_and_by_bytes() {
        let mut pipeline = Pipeline::default();
        for _ in 0..COMMANDS_MAX {
            assert!(pipeline.has_room());
            pipeline.push(command("GET a"), Version::Two);
        }
        assert!(!pipeline.has_room());
        let mut pipeline = Pipeline::default();
        pipeline.push(command(&format!("SET a {}", "x".repeat(BYTES_MAX))), Version::Two);
        assert!(!pipeline.has_room());
        assert_eq!(begun(&mut pipeline), [0]);
        pipeline.end(0, Reply::OK);
        assert!(pipeline.has_room());
        let mut pipeline = Pipeline::default();
        pipeline.push(command(&format!("DEL{}", " ".repeat(BYTES_MAX / ARGUMENT_BYTES))), Version::Two);
        assert!(!pipeline.has_room(), "arguments of no bytes take room too");
    }

    #[test]
    fn answers_take_room_until_they_leave() {
        let mut pipeline = Pipeline::default();
        pipeline.push(command("GET a"), Version::Two);
        assert_eq!(begun(&mut pipeline), [0]);
        pipeline.push_reply(Reply::text("x".repeat(BYTES_MAX)), Version::Two);
        let mut outgoing = Outgoing::default();
        assert!(!pipeline.has_room() && !pipeline.answer(&mut outgoing));
        pipeline.end(0, Reply::text("x".repeat(BYTES_MAX)));
        assert!(!pipeline.has_room() && pipeline.bytes > 2 * BYTES_MAX);
        assert!(pipeline.answer(&mut outgoing) && pipeline.has_room() && pipeline.bytes == 0);
    }

    #[test]
    fn commands_of_many_keys_wait_for_those_that_share_one() {
        let keys = |numbers: std::ops::Range<usize>| -> String {
            numbers.rev().flat_map(|number| [" key".to_owned(), number.to_string()]).collect()
        };
        let mut pipeline = Pipeline::default();
        for text in ["DEL x x", "MSET x 1", &format!("DEL{}", keys(0..500)), &format!("DEL{}", keys(500..900))] {
            pipeline.push(command(text), Version::Two);
        }
        pipeline.push(command(&format!("MGET{}", keys(899..1_200))), Version::Two);
        pipeline.push(command(&format!("MGET{}", keys(900..1_200))), Version::Two);
        assert_eq!(begun(&mut pipeline), [0, 2, 3, 5]);
        pipeline.end(2, Reply::OK);
        assert_eq!(begun(&mut pipeline), [] as [u64; 0]);
        pipeline.end(3, Reply::OK);
        assert_eq!(begun(&mut pipeline), [4]);
        pipeline.end(0, Reply::OK);
        assert!(pipeline.answer(&mut Outgoing::default()));
        assert_eq!(begun(&mut pipeline), [1]);
    }

    proptest::proptest! {
        #[test]
        fn common_elements_are_found(
            one in proptest::collection::btree_set(0_u64..40, 0..8),
            other in proptest::collection::btree_set(0_u64..40, 0..8),
        ) {
            let [ones, others] = [&one, &other].map(|set| set.iter().copied().collect::<Vec<u64>>());
            proptest::prop_assert_eq!(have_common(&ones, &others), !one.is_disjoint(&other));
        }
    }

    #[test]
    fn command_that_the_node_has_no_room_for_waits() {
        let mut pipeline = Pipeline::default();
        for text in ["GET a", "GET b"] {
            pipeline.push(command(text), Version::Two);
        }
        let mut seen = Vec::new();
        pipeline.begin(|number, command, others_run| {
            seen.push(number);
            if others_run { Err(command) } else { Ok(RunningCommand::default()) }
        });
        assert_eq!((seen, pipeline.waiting), (vec![0, 1], 1));
        pipeline.end(0, Reply::Nil);
        assert_eq!(begun(&mut pipeline), [1]);
    }
}
