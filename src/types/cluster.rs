//! Nodes, and what all nodes of a cluster have in common.
//!
//! A weight is a whole number of hundredths. Two nodes that read `0.1` compute the same placement, whatever their processors
//! make of the fraction.

use std::fmt;
use std::sync::Arc;

/// The longest node id, in characters.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// A node's name: 1 to [`NODE_ID_BYTES_MAX`] printable ASCII characters without spaces or commas. Ids are ordered by their
/// bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is not a [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// The text is empty.
    #[error("a node id is empty: give it 1 to {NODE_ID_BYTES_MAX} characters")]
    Empty,
    /// The text has more than [`NODE_ID_BYTES_MAX`] characters.
    #[error("node id {id:?} has {} characters: at most {NODE_ID_BYTES_MAX} are accepted", id.len())]
    TooLong {
        /// The text as it was given.
        id: String,
    },
    /// The text holds a space, a comma, or a character that is not printable ASCII.
    #[error("node id {id:?} holds {character:?}: printable ASCII without spaces and commas is accepted")]
    Character {
        /// The text as it was given.
        id: String,
        /// The first such character.
        character: char,
    },
}

impl NodeId {
    /// Checks `id` and takes it as a node's name.
    ///
    /// # Errors
    /// When `id` is empty, too long, or holds a character that tables and logs could not show unambiguously.
    pub fn new(id: &str) -> Result<Self, NodeIdError> {
        if id.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if let Some(character) = id.chars().find(|c| !c.is_ascii_graphic() || *c == ',') {
            return Err(NodeIdError::Character { id: id.to_owned(), character });
        }
        if id.len() > NODE_ID_BYTES_MAX {
            return Err(NodeIdError::TooLong { id: id.to_owned() });
        }
        Ok(Self(id.into()))
    }

    /// The name under which the node writes that came with the configuration of this number: its id where that is the first,
    /// and else the id, a comma and the number. An id has no comma.
    #[must_use]
    pub fn writer_since(&self, number: u64) -> Self {
        if number == 0 { self.clone() } else { Self(format!("{},{number}", self.0).into()) }
    }

    /// Checks `name` and takes it as the name under which a node writes.
    ///
    /// # Errors
    /// When no node writes under it.
    pub fn of_writer(name: &str) -> Result<Self, NodeIdError> {
        let Some((id, number)) = name.split_once(',') else { return Self::new(name) };
        let no_name = || NodeIdError::Character { id: name.to_owned(), character: ',' };
        let number: u64 = number.parse().map_err(|_| no_name())?;
        let writer = Self::new(id)?.writer_since(number);
        if writer.as_str() == name { Ok(writer) } else { Err(no_name()) }
    }

    /// The id of no node: below all others. It stands in stamps that no node drew.
    #[must_use]
    pub fn none() -> Self {
        Self("".into())
    }

    /// The id as it stands in cluster.yml, logs and tables.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest name of a zone, in characters.
pub const ZONE_BYTES_MAX: usize = 64;

/// The name of what fails as a whole: a rack, a room, a region. 1 to [`ZONE_BYTES_MAX`] printable ASCII characters without
/// spaces or commas.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Arc<str>);

impl Zone {
    /// Checks `name` and takes it as the name of a zone. `None` when it is empty, too long, or holds another character.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_name =
            (1..=ZONE_BYTES_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != ',');
        is_name.then(|| Self(name.into()))
    }

    /// The name as it stands in cluster.yml, logs and tables.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of the data a node holds, compared with the other nodes: a node of weight 2 about twice as much as one of weight
/// 1. From 0.01 to 10,000, with two decimals at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight {
    hundredths: u32,
}

impl Weight {
    /// The weight of a node that is given none.
    pub const ONE: Self = Self { hundredths: 100 };
    /// The smallest weight.
    pub const MIN: Self = Self { hundredths: 1 };
    /// The greatest weight. The largest disk of a cluster is not a million times the smallest: the bounds catch typing errors.
    /// They also bound the products by which placement compares two nodes.
    pub const MAX: Self = Self { hundredths: 1_000_000 };

    /// The weight of so many hundredths; `None` when it is out of bounds.
    #[must_use]
    pub fn of_hundredths(hundredths: u32) -> Option<Self> {
        let weight = Self { hundredths };
        (Self::MIN..=Self::MAX).contains(&weight).then_some(weight)
    }

    /// The weight in hundredths.
    #[must_use]
    pub fn hundredths(self) -> u32 {
        self.hundredths
    }

    /// The weight that `text` says: decimal digits, and a point with one or two more where there is a fraction. `None` when
    /// it is written otherwise, or out of bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if (1..=2).contains(&fraction.len()) => (whole, fraction),
            Some(_) => return None,
            None => (text, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        // Some readers of YAML take a leading zero for octal, others for decimal.
        let is_ambiguous = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || is_ambiguous || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        Self::of_hundredths(format!("{whole}{fraction:0<2}").parse().ok()?)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.hundredths / 100, self.hundredths % 100);
        match fraction {
            0 => write!(f, "{whole}"),
            tenths if tenths % 10 == 0 => write!(f, "{whole}.{}", tenths / 10),
            _ => write!(f, "{whole}.{fraction:02}"),
        }
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What placement knows of a node beside its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// How much of the data the node holds.
    pub weight: Weight,
    /// Where the node is. Either all nodes of a cluster have a zone, or none has.
    pub zone: Option<Zone>,
}

impl Default for Site {
    fn default() -> Self {
        Self { weight: Weight::ONE, zone: None }
    }
}

/// Why numbers and texts are not the sites of a cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// There is not one for each node.
    #[error("there are {listed} {what} for {nodes} nodes: one for each node is accepted, or none at all")]
    Count {
        /// What is listed: weights or zones.
        what: &'static str,
        /// How many there are.
        listed: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The number is no weight.
    #[error("a weight of {hundredths} hundredths: from {} to {} are accepted", Weight::MIN.hundredths, Weight::MAX.hundredths)]
    Weight {
        /// The number.
        hundredths: u32,
    },
    /// The text is no zone.
    #[error(
        "{zone:?} is no zone: 1 to {ZONE_BYTES_MAX} printable ASCII characters without spaces and commas are accepted"
    )]
    Zone {
        /// The text.
        zone: String,
    },
}

impl Site {
    /// The site of one node from its fields in a message: the weight in hundredths, where 0 stands for a weight of 1, and the
    /// zone, where an empty text stands for none.
    ///
    /// # Errors
    /// When one of them is not accepted.
    pub fn of_fields(hundredths: u32, zone: &str) -> Result<Self, SiteError> {
        let weight = match hundredths {
            0 => Weight::ONE,
            _ => Weight::of_hundredths(hundredths).ok_or(SiteError::Weight { hundredths })?,
        };
        let zone = match zone {
            "" => None,
            _ => Some(Zone::new(zone).ok_or_else(|| SiteError::Zone { zone: zone.to_owned() })?),
        };
        Ok(Self { weight, zone })
    }

    /// The fields that [`Site::of_fields`] reads.
    #[must_use]
    pub fn to_fields(&self) -> (u32, String) {
        let hundredths = if self.weight == Weight::ONE { 0 } else { self.weight.hundredths() };
        (hundredths, self.zone.as_ref().map_or_else(String::new, ToString::to_string))
    }

    /// Whether these can be the sites of one cluster: all have a zone, or none has.
    pub fn are_of_one_cluster<'a>(sites: impl IntoIterator<Item = &'a Self>) -> bool {
        let mut sites = sites.into_iter().map(|site| site.zone.is_some());
        let first = sites.next();
        sites.all(|has_zone| Some(has_zone) == first)
    }

    /// The sites of so many nodes, from lists of weights in hundredths and of zones, as they are sent and stored. An empty
    /// list stands for weights of 1, or for no zones.
    ///
    /// # Errors
    /// With the first number or text that is not accepted.
    pub fn listed<Z: AsRef<str>>(nodes: usize, weights: &[u32], zones: &[Z]) -> Result<Vec<Self>, SiteError> {
        for (what, listed) in [("weights", weights.len()), ("zones", zones.len())] {
            if listed != 0 && listed != nodes {
                return Err(SiteError::Count { what, listed, nodes });
            }
        }
        let mut sites = vec![Self::default(); nodes];
        for (site, hundredths) in sites.iter_mut().zip(weights) {
            site.weight = Weight::of_hundredths(*hundredths).ok_or(SiteError::Weight { hundredths: *hundredths })?;
        }
        for (site, zone) in sites.iter_mut().zip(zones.iter().map(AsRef::as_ref)) {
            site.zone = Some(Zone::new(zone).ok_or_else(|| SiteError::Zone { zone: zone.to_owned() })?);
        }
        Ok(sites)
    }
}

/// A node's number in its cluster: the index of its id among all ids in ascending order.
///
/// It names peers inside one process only, where copying it is cheap. On the wire and on disk a node has its [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

impl NodeIndex {
    /// The number as an index into arrays that hold one element for each node.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The settings that must be the same on all nodes of a cluster, because placement and majorities follow from them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterParameters {
    /// The seed of every placement hash. Another seed places every key elsewhere.
    pub seed: u32,
    /// The number of nodes that hold each slot: 1 to the number of nodes.
    pub replica_count: usize,
    /// Each node's first epoch is above it. A new cluster that takes over the keys of another one begins above all clocks of
    /// that one, so that no version is given twice.
    pub epoch_floor: u64,
    /// The ids of all nodes, ascending and distinct.
    pub node_ids: Vec<NodeId>,
    /// The weight and zone of each node, in the order of `node_ids`.
    pub sites: Vec<Site>,
}

impl ClusterParameters {
    /// A cluster of nodes of equal weight without zones. `node_ids` are ascending and distinct.
    #[must_use]
    pub fn plain(seed: u32, replica_count: usize, node_ids: Vec<NodeId>) -> Self {
        let sites = vec![Site::default(); node_ids.len()];
        Self { seed, replica_count, epoch_floor: 0, node_ids, sites }
    }

    /// The weight of each node in hundredths; empty where each is 1.
    #[must_use]
    pub fn weights_listed(&self) -> Vec<u32> {
        let are_given = self.sites.iter().any(|site| site.weight != Weight::ONE);
        let weights = self.sites.iter().map(|site| site.weight.hundredths());
        if are_given { weights.collect() } else { Vec::new() }
    }

    /// The zone of each node; empty where nodes have none.
    #[must_use]
    pub fn zones_listed(&self) -> Vec<&str> {
        self.sites.iter().filter_map(|site| site.zone.as_ref()).map(Zone::as_str).collect()
    }

    /// The index of the node with this id; `None` when the cluster has no such node.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<NodeIndex> {
        let index = self.node_ids.binary_search(id).ok()?;
        Some(NodeIndex(u16::try_from(index).expect("NODES_MAX keeps every index within a u16")))
    }

    /// The id of the node with this index.
    ///
    /// # Panics
    /// When the cluster has no such index.
    #[must_use]
    pub fn id(&self, member: NodeIndex) -> &NodeId {
        &self.node_ids[member.index()]
    }

    /// The weight and zone of the node with this index.
    ///
    /// # Panics
    /// When the cluster has no such index.
    #[must_use]
    pub fn site(&self, member: NodeIndex) -> &Site {
        &self.sites[member.index()]
    }

    /// The indexes of all nodes, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u16::try_from(self.node_ids.len()).expect("NODES_MAX keeps every index within a u16")).map(NodeIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_exactly_and_written_as_they_are_read() {
        for (text, hundredths) in [("1", 100), ("0.01", 1), ("0.1", 10), ("0.10", 10), ("2.5", 250), ("12.34", 1_234)] {
            let weight = Weight::parse(text).unwrap();
            assert_eq!(weight.hundredths(), hundredths, "{text}");
            assert_eq!(Weight::parse(&weight.to_string()), Some(weight), "{text}");
        }
        assert_eq!(Weight::parse("10000"), Some(Weight::MAX));
        assert_eq!(["2", "0.1", "1.05"].map(|text| Weight::parse(text).unwrap().to_string()), ["2", "0.1", "1.05"]);
        for text in [
            "",
            "0",
            "0.00",
            "0.001",
            "10000.01",
            "10001",
            "-1",
            "+1",
            "1.",
            ".5",
            "01",
            "1e3",
            "1,5",
            "0x1",
            "NaN",
            "1 ",
            "1.2.3",
            "99999999999999999999",
        ] {
            assert_eq!(Weight::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn sites_are_listed_for_all_nodes_or_none() {
        let cluster = |sites| ClusterParameters { sites, ..ClusterParameters::plain(0, 1, Vec::new()) };
        for (weights, zones) in [
            (vec![], vec![]),
            (vec![1, 1_000_000, 100], vec![]),
            (vec![], vec!["a", "b", "a"]),
            (vec![100, 100, 250], vec!["a", "b", "c"]),
        ] {
            let cluster = cluster(Site::listed(3, &weights, &zones).unwrap());
            assert_eq!((cluster.weights_listed(), cluster.zones_listed()), (weights, zones));
        }
        // Weights of 1 that are listed are as good as none.
        assert!(cluster(Site::listed(2, &[100, 100], &[""; 0]).unwrap()).weights_listed().is_empty());
        for (weights, zones, part) in [
            (vec![100, 100], vec![], "2 weights for 3 nodes"),
            (vec![], vec!["a"], "1 zones for 3 nodes"),
            (vec![100, 0, 100], vec![], "0 hundredths"),
            (vec![100, 100, 1_000_001], vec![], "1000001 hundredths: from 1 to 1000000"),
            (vec![], vec!["a", "", "b"], "\"\" is no zone"),
        ] {
            let error = Site::listed(3, &weights, &zones).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn zones_are_names_without_spaces_and_commas() {
        assert_eq!(Zone::new("eu-1b").unwrap().as_str(), "eu-1b");
        let longest = "z".repeat(ZONE_BYTES_MAX);
        assert!(Zone::new(&longest).is_some());
        for name in ["", "a b", "a,b", "zür", "a\n", &(longest + "z")] {
            assert_eq!(Zone::new(name), None, "{name:?}");
        }
    }
}
