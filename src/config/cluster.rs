//! cluster.yml: the configuration that all nodes of a cluster have in common.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::address::RemoteAddress;
use super::error::{ConfigError, Problem};
use super::fields::{Mapping, names};
use super::keys::{self, CLUSTER_KEYS, CLUSTER_NAME_BYTES_MAX, CLUSTER_NODE_KEYS, Fallback, Kind};
use super::{File, yaml};
use crate::limits::NODES_MAX;
use crate::types::{ClusterParameters, NodeId, NodeIndex, Site, Weight, Zone};

/// A cluster's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name of the cluster in certificates.
    pub name: String,
    /// The settings that must be the same on every node.
    pub parameters: ClusterParameters,
    /// Each node's address, in the order of the node ids, without duplicates. Two nodes of one cluster may have files with
    /// different addresses, for example behind proxies.
    pub addresses: Vec<RemoteAddress>,
    /// How nodes are found that the file does not list.
    pub discovery: Discovery,
    /// The node that the file does not list: [`ClusterConfig::with_node`] has added it.
    pub unlisted: Option<NodeId>,
}

/// How nodes are found that the file does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Not at all: each node is listed in its own file.
    #[default]
    File,
    /// Their addresses follow from their ids, and they add themselves.
    Dns,
}

impl ClusterConfig {
    /// Reads a cluster.yml.
    ///
    /// # Errors
    /// With the first value that is not accepted.
    pub fn parse(file: File<'_>) -> Result<Self, ConfigError> {
        let root = yaml::parse(file.name, file.text, "cluster")?;
        let mapping = Mapping::top(file.name, &root, "cluster", "node")?;
        mapping.refuse_unknown(&names(&CLUSTER_KEYS))?;
        let name = name(&mapping)?;
        let seed = seed(&mapping)?;
        let nodes = nodes(&mapping)?;
        let replica_count = replica_count(&mapping, nodes.len())?;
        let epoch_floor = epoch_floor(&mapping)?;
        let discovery = discovery(&mapping, &nodes)?;
        let (node_ids, places): (_, Vec<_>) = nodes.into_iter().unzip();
        let (addresses, sites) = places.into_iter().unzip();
        let parameters = ClusterParameters { seed, replica_count, epoch_floor, node_ids, sites };
        Ok(Self { name, parameters, addresses, discovery, unlisted: None })
    }

    /// The cluster with the node `id`: as its file lists it, or as its id says under `discovery: dns`. `None` where it says nothing.
    #[must_use]
    pub fn with_node(&self, id: &NodeId) -> Option<Cow<'_, Self>> {
        if self.parameters.member(id).is_some() {
            return Some(Cow::Borrowed(self));
        }
        let pattern = self.pattern()?;
        let address = RemoteAddress::parse(&format!("{id}{}:{}", pattern.domain, pattern.port))?;
        // A node without a zone cannot be among nodes with zones.
        let has_zones = self.parameters.sites.iter().any(|site| site.zone.is_some());
        let place = self.parameters.node_ids.binary_search(id).err()?;
        if Pattern::of(id, &address)? != pattern || has_zones || self.addresses.len() == NODES_MAX {
            return None;
        }
        let mut with = Self { unlisted: Some(id.clone()), ..self.clone() };
        with.parameters.node_ids.insert(place, id.clone());
        with.parameters.sites.insert(place, Site::default());
        with.addresses.insert(place, address);
        Some(Cow::Owned(with))
    }

    /// What the nodes have in common under `discovery: dns`.
    pub(super) fn pattern(&self) -> Option<Pattern<'_>> {
        let first = || Pattern::of(self.parameters.node_ids.first()?, self.addresses.first()?);
        if self.discovery == Discovery::Dns { first() } else { None }
    }

    /// The first address that other machines may reach: it is not on loopback.
    #[must_use]
    pub fn address_beyond_loopback(&self) -> Option<&RemoteAddress> {
        self.addresses.iter().find(|address| !address.is_loopback())
    }

    /// The address of `member`.
    #[must_use]
    pub fn address(&self, member: NodeIndex) -> &RemoteAddress {
        &self.addresses[member.index()]
    }
}

/// What nodes have in common whose addresses follow from their ids: the ids are STEM-0, STEM-1 and so on, and each is the beginning
/// of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    pub(super) stem: &'a str,
    /// Empty, or with the dot before it.
    domain: &'a str,
    port: u16,
}

impl<'a> Pattern<'a> {
    fn of(id: &'a NodeId, address: &'a RemoteAddress) -> Option<Self> {
        let (stem, number) = id.as_str().rsplit_once('-')?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
        let domain = address.host().strip_prefix(id.as_str())?;
        let is_whole = domain.is_empty() || domain.starts_with('.');
        let is_it = !stem.is_empty() && !number.is_empty() && is_number && is_whole;
        is_it.then(|| Self { stem, domain, port: address.port() })
    }
}

/// The name that a cluster has if none is given.
pub(super) fn default_name() -> String {
    let Fallback::Text(name) = keys::NAME.default else { unreachable!("it has a default") };
    name.to_owned()
}

/// Whether `text` may be the name of a cluster.
#[must_use]
pub fn is_cluster_name(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    is_plain && (1..=CLUSTER_NAME_BYTES_MAX).contains(&text.len())
}

fn name(cluster: &Mapping<'_>) -> Result<String, ConfigError> {
    let Some(entry) = cluster.entry(keys::NAME.name) else { return Ok(default_name()) };
    let accepted = keys::NAME.kind.accepted();
    let given = cluster.given(entry, &accepted)?;
    if is_cluster_name(&given.text) { Ok(given.text) } else { Err(given.refused(accepted)) }
}

fn seed(cluster: &Mapping<'_>) -> Result<u32, ConfigError> {
    let Kind::Count { min, max } = keys::SEED.kind else { unreachable!("it is a number") };
    let accepted = keys::SEED.kind.accepted();
    let given = cluster.required(keys::SEED.name, &accepted)?;
    let number: usize = given.whole_number(min, max, accepted.clone())?;
    u32::try_from(number).map_err(|_| given.refused(accepted))
}

fn nodes(cluster: &Mapping<'_>) -> Result<BTreeMap<NodeId, (RemoteAddress, Site)>, ConfigError> {
    let accepted = keys::NODES.kind.accepted();
    let Some(entry) = cluster.entry(keys::NODES.name) else {
        return Err(cluster.missing(keys::NODES.name, &accepted, None));
    };
    let mapping = cluster.below(entry, &accepted)?;
    let error = |problem| ConfigError { place: mapping.place(Some(mapping.line), None), problem };
    if mapping.entries.is_empty() {
        return Err(error(Problem::NoNodes));
    }
    if mapping.entries.len() > NODES_MAX {
        return Err(error(Problem::TooManyNodes { nodes: mapping.entries.len() }));
    }
    let mut nodes = BTreeMap::new();
    let mut owners: BTreeMap<RemoteAddress, NodeId> = BTreeMap::new();
    for entry in mapping.entries {
        let place = mapping.place(Some(entry.line), Some(&entry.key));
        let id = NodeId::new(&entry.key).map_err(|error| ConfigError { place, problem: Problem::NodeId(error) })?;
        let node = mapping.below(entry, "{ remote_address: HOST:PORT }")?;
        node.refuse_unknown(&names(&CLUSTER_NODE_KEYS))?;
        let accepted = keys::REMOTE_ADDRESS.kind.accepted();
        let given = node.required(keys::REMOTE_ADDRESS.name, &accepted)?;
        let address = RemoteAddress::parse(&given.text).ok_or_else(|| given.refused(accepted))?;
        if let Some(owner) = owners.insert(address.clone(), id.clone()) {
            let owner = format!("node {owner}");
            return Err(given.error(Problem::AddressTaken { address: given.text.clone(), owner }));
        }
        let site = Site { weight: weight(&node)?, zone: zone(&node)? };
        nodes.insert(id, (address, site));
    }
    refuse_some_zones(&mapping)?;
    Ok(nodes)
}

/// A node without a zone among nodes with zones is more likely forgotten than meant.
fn refuse_some_zones(nodes: &Mapping<'_>) -> Result<(), ConfigError> {
    let mut other = None;
    let mut without = None;
    for entry in nodes.entries {
        let node = nodes.below(entry, "a mapping")?;
        if node.entry(keys::ZONE.name).is_some() {
            other = other.or(Some(&entry.key));
        } else {
            without = without.or(Some(node));
        }
    }
    let (Some(other), Some(node)) = (other, without) else { return Ok(()) };
    let place = node.place(Some(node.line), Some(keys::ZONE.name));
    Err(ConfigError { place, problem: Problem::ZoneMissing { other: other.clone() } })
}

fn weight(node: &Mapping<'_>) -> Result<Weight, ConfigError> {
    let Some(entry) = node.entry(keys::WEIGHT.name) else { return Ok(Weight::ONE) };
    let accepted = keys::WEIGHT.kind.accepted();
    let given = node.given(entry, &accepted)?;
    Weight::parse(&given.text).ok_or_else(|| given.refused(accepted))
}

fn zone(node: &Mapping<'_>) -> Result<Option<Zone>, ConfigError> {
    let Some(entry) = node.entry(keys::ZONE.name) else { return Ok(None) };
    let accepted = keys::ZONE.kind.accepted();
    let given = node.given(entry, &accepted)?;
    Zone::new(&given.text).map(Some).ok_or_else(|| given.refused(accepted))
}

fn replica_count(cluster: &Mapping<'_>, nodes: usize) -> Result<usize, ConfigError> {
    let Kind::Count { min, max } = keys::REPLICA_COUNT.kind else { unreachable!("it is a number") };
    let why = if nodes <= max { "the number of nodes" } else { "the most that one slot can have" };
    let max = nodes.min(max);
    let accepted = format!("a whole number from {min} to {max}, {why}");
    let given = cluster.required(keys::REPLICA_COUNT.name, &accepted)?;
    given.whole_number(min, max, accepted)
}

fn discovery(cluster: &Mapping<'_>, nodes: &BTreeMap<NodeId, (RemoteAddress, Site)>) -> Result<Discovery, ConfigError> {
    let Some(entry) = cluster.entry(keys::DISCOVERY.name) else { return Ok(Discovery::File) };
    let accepted = keys::DISCOVERY.kind.accepted();
    let given = cluster.given(entry, &accepted)?;
    match given.text.as_str() {
        "file" => return Ok(Discovery::File),
        "dns" => {}
        _ => return Err(given.refused(accepted)),
    }
    let mut first = None;
    for (id, (address, _)) in nodes {
        let pattern = Pattern::of(id, address);
        if pattern.is_none() || *first.get_or_insert(pattern) != pattern {
            return Err(given.error(Problem::NoPattern { id: id.clone(), address: address.to_string() }));
        }
    }
    Ok(Discovery::Dns)
}

fn epoch_floor(cluster: &Mapping<'_>) -> Result<u64, ConfigError> {
    let Kind::Count { min, max } = keys::EPOCH_FLOOR.kind else { unreachable!("it is a number") };
    let Some(entry) = cluster.entry(keys::EPOCH_FLOOR.name) else { return Ok(0) };
    let accepted = keys::EPOCH_FLOOR.kind.accepted();
    Ok(cluster.given(entry, &accepted)?.whole_number(min, max, accepted.clone())? as u64)
}
