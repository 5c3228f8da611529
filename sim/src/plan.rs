//! What goes wrong in a run, and when: data, so that a run can be told by its seed and plan alone.

use crate::rng::Seeded;
use rand_core::Rng as _;

/// Members of each log.
pub const MEMBERS: usize = 4;

/// One of the two logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, codec::Encode)]
pub enum Log {
    /// The chain of the validators.
    Chain,
    /// The command log of the cluster.
    Cluster,
}

/// The network falls in two. A pair of the same number, one of each log, is on the same side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// When it begins, in milliseconds since the load began.
    pub at_ms: u64,
    /// When it heals.
    pub until_ms: u64,
    /// Members on one side; the others are on the other.
    pub side: Vec<usize>,
}

/// A member of a log, at a time in milliseconds since the load began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When.
    pub at_ms: u64,
    /// Of which log.
    pub log: Log,
    /// Which member.
    pub member: usize,
}

/// What the network and the machines do in a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Share of messages lost throughout, from 0 to 1; between members, and between clients and members.
    pub loss: f64,
    /// Mean delay of a message, in milliseconds.
    pub latency_ms: u64,
    /// Standard deviation of that delay, in milliseconds.
    pub jitter_ms: u64,
    /// When the network falls in two. They must not overlap.
    pub partitions: Vec<Partition>,
    /// When a machine dies, between two steps of it. What it has not synced to its disk is gone.
    pub crashes: Vec<Moment>,
    /// When it is started again. All must come after the last partition has healed, because a replica's restart waits
    /// for the chain.
    pub restarts: Vec<Moment>,
    /// Whether all workers die and start anew when one of them does.
    pub blackout: bool,
    /// How long clients go on after the last of these, in milliseconds.
    pub calm_ms: u64,
}

impl Plan {
    /// The plan of a seed: 10 % loss throughout, both logs parted 2|2 and healed, and in each log one member that
    /// crashes and comes back, in half of the seeds with all other workers. When, and who, follows from the seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Seeded::new(seed, "plan");
        let mut between = |low: u64, high: u64| low + rng.next_u64() % (high - low);
        let cut = between(1_000, 3_000);
        let healed = cut + between(2_000, 5_000);
        let partner = 1 + between(0, 3) as usize;
        let partition = Partition { at_ms: cut, until_ms: healed, side: vec![0, partner] };
        let mut crash = |log| Moment { log, member: between(0, 4) as usize, at_ms: healed + between(500, 5_000) };
        let (validator, replica) = (crash(Log::Chain), crash(Log::Cluster));
        let mut restart = |moment: Moment| Moment { at_ms: moment.at_ms + between(2_000, 5_000), ..moment };
        let restarts = vec![restart(validator), restart(replica)];
        let (latency_ms, jitter_ms) = (between(2, 15), between(0, 6));
        Self {
            loss: 0.1,
            latency_ms,
            jitter_ms,
            partitions: vec![partition],
            crashes: vec![validator, replica],
            restarts,
            blackout: between(0, 2) == 0,
            calm_ms: 2_000,
        }
    }
}
