//! The shares of the operations in a workload.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt as _};
use serde_json::{Value as Json, json};

/// An operation of the Cluster service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Get,
    Set,
    Delete,
    /// Reads a key's version, and writes the key if it has that version still.
    Cas,
    /// Adds 1 to a number.
    Add,
    /// Lists the next keys above one.
    List,
    /// Writes a key that is watched, until every watcher was told.
    Watch,
}

/// The names of all operations, for errors.
const NAMES: &str = "get, set, delete, cas, add, list and watch";

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Get, Self::Set, Self::Delete, Self::Cas, Self::Add, Self::List, Self::Watch];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Cas => "cas",
            Self::Add => "add",
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// The largest weight. It allows any ratio that can be measured, and the sum of weights cannot overflow.
const WEIGHT_MAX: u32 = 1_000_000;

/// The weights of the operations. They need not add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    weights: [u32; Kind::ALL.len()],
}

impl Mix {
    pub(super) fn pick(&self, random: &mut impl Rng) -> Kind {
        let total: u32 = self.weights.iter().sum();
        let mut at = random.random_range(0..total);
        for kind in Kind::ALL {
            match at.checked_sub(self.weight(kind)) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        unreachable!("a number below the sum of the weights falls into one of them")
    }

    pub(super) fn weight(&self, kind: Kind) -> u32 {
        self.weights[kind as usize]
    }

    pub(super) fn as_json(self) -> Json {
        Kind::ALL.into_iter().map(|kind| (kind.name().to_owned(), json!(self.weight(kind)))).collect()
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "such as get=50,set=50 or get=90,set=9,delete=1";
        let mut weights = [None; Kind::ALL.len()];
        for part in text.split(',') {
            let part = part.trim();
            let (name, weight) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not OPERATION=WEIGHT, {example}"))?;
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name.trim())
                .ok_or_else(|| format!("{name:?} is not an operation: {NAMES} are, {example}"))?;
            let weight = weight
                .trim()
                .parse()
                .ok()
                .filter(|weight| *weight <= WEIGHT_MAX)
                .ok_or_else(|| format!("{weight:?} is not a weight: 0 to {WEIGHT_MAX} is accepted, {example}"))?;
            if weights[kind as usize].replace(weight).is_some() {
                return Err(format!("{} is given twice", kind.name()));
            }
        }
        let weights = weights.map(Option::unwrap_or_default);
        if weights == [0; Kind::ALL.len()] {
            return Err(format!("all weights are 0: give at least one operation a weight, {example}"));
        }
        Ok(Self { weights })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for kind in Kind::ALL.into_iter().filter(|kind| self.weight(*kind) > 0) {
            write!(f, "{separator}{}={}", kind.name(), self.weight(kind))?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn weights_need_not_add_up_to_100() {
        let mix: Mix = "set=3, get=1".parse().unwrap();
        assert_eq!(Kind::ALL.map(|kind| mix.weight(kind)), [1, 3, 0, 0, 0, 0, 0]);
        assert_eq!(mix.to_string(), "get=1,set=3");
        assert_eq!(
            mix.as_json(),
            json!({ "get": 1, "set": 3, "delete": 0, "cas": 0, "add": 0, "list": 0, "watch": 0 })
        );
    }

    #[test]
    fn operations_are_drawn_by_weight() {
        let mix: Mix = "get=70,set=20,delete=10".parse().unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        let mut drawn = [0_u32; Kind::ALL.len()];
        for _ in 0..100_000 {
            drawn[mix.pick(&mut random) as usize] += 1;
        }
        for (kind, percent) in [(Kind::Get, 70_u32), (Kind::Set, 20), (Kind::Delete, 10)] {
            let drawn = drawn[kind as usize];
            assert!(drawn.abs_diff(percent * 1_000) < 700, "{kind:?} {drawn} times");
        }
    }

    #[test]
    fn operation_of_weight_0_is_never_drawn() {
        let mut random = SmallRng::seed_from_u64(1);
        for kind in Kind::ALL {
            let mix: Mix = format!("{}=1", kind.name()).parse().unwrap();
            assert!((0..1_000).all(|_| mix.pick(&mut random) == kind));
        }
    }

    #[test]
    fn bad_mix_is_refused_with_the_part_and_an_example() {
        for (text, part) in [
            ("", "OPERATION=WEIGHT"),
            ("get", "OPERATION=WEIGHT"),
            ("put=1", "get, set, delete, cas, add, list and watch are"),
            ("get=-1", "not a weight"),
            ("get=1000001", "not a weight"),
            ("get=half", "not a weight"),
            ("get=1,get=2", "twice"),
            ("get=0,set=0", "all weights are 0"),
        ] {
            let error = text.parse::<Mix>().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
