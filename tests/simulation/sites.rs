//! Weights and zones of nodes: those that a cluster begins with, and those that an operator gives.

use quorate::protocol::WishedMember;
use quorate::types::Site;

use crate::testkit::random::Random;

/// In seeds below, nodes have equal weights and no zones, and nobody changes that.
pub const FIRST_SEED: u64 = 3_000_000;

/// What weights and zones the nodes of a run begin with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sites {
    Plain,
    Weights,
    Zones,
    Both,
}

impl Sites {
    pub fn of(seed: u64) -> Self {
        if seed < FIRST_SEED {
            return Self::Plain;
        }
        // What a seed does otherwise hangs on its last bits.
        [Self::Plain, Self::Weights, Self::Zones, Self::Both][(seed / 8 % 4) as usize]
    }

    /// What the cluster files say of this machine.
    pub fn of_host(self, host: usize) -> Site {
        let weight = if matches!(self, Self::Weights | Self::Both) { [100, 50, 300][host % 3] } else { 100 };
        // The first node is alone in its zone.
        let zone = if host == 0 { "a" } else { ["b", "c"][host % 2] };
        site(weight, if matches!(self, Self::Zones | Self::Both) { zone } else { "" })
    }
}

fn site(hundredths: u32, zone: &str) -> Site {
    Site::of_fields(hundredths, zone).expect("this is a weight and a zone")
}

fn any_weight(random: &mut Random) -> u32 {
    *random.pick(&[25, 100, 100, 200, 1_000])
}

fn any_zone(random: &mut Random) -> &'static str {
    random.pick::<&str>(&["a", "b", "c"])
}

/// The weight and zone of a node that joins these.
pub fn of_new(random: &mut Random, others: &[WishedMember]) -> Site {
    let have_zones = others.iter().any(|member| member.site.zone.is_some());
    site(any_weight(random), if have_zones { any_zone(random) } else { "" })
}

/// Gives one of the members another weight.
pub fn weigh(random: &mut Random, members: &mut [WishedMember]) {
    let place = random.below(members.len());
    members[place].site.weight = site(any_weight(random), "").weight;
}

/// Gives one of the members another zone. Where none has one, all get some; and sometimes all lose theirs.
pub fn spread(random: &mut Random, members: &mut [WishedMember]) {
    let have_zones = members.iter().any(|member| member.site.zone.is_some());
    if have_zones && random.permille(250) {
        for member in members {
            member.site.zone = None;
        }
    } else if have_zones {
        let place = random.below(members.len());
        members[place].site.zone = site(100, any_zone(random)).zone;
    } else {
        for member in members {
            member.site.zone = site(100, any_zone(random)).zone;
        }
    }
}
