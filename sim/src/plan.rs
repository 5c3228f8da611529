//! What goes wrong in a run, and when: data, so that a run can be told by its seed and plan alone.

use crate::rng::Seeded;
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};

/// Members of each log.
pub const MEMBERS: usize = 4;

/// One of the logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, codec::Encode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Log {
    /// The chain of the validators.
    Chain,
    /// The command log of the cluster that clients use.
    Cluster,
    /// That of a second cluster: contracts of the two write to each other.
    Neighbour,
}

impl Log {
    /// Those of a run with or without a second cluster.
    pub(crate) fn all(neighbour: bool) -> Vec<Self> {
        let second = neighbour.then_some(Self::Neighbour);
        [Self::Chain, Self::Cluster].into_iter().chain(second).collect()
    }
}

/// The network falls in two. Members of the same number, one of each log, are on the same side.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partition {
    /// When it begins, in milliseconds since the load began.
    pub at_ms: u64,
    /// When it heals.
    pub until_ms: u64,
    /// Members on one side; the others are on the other.
    pub side: Vec<usize>,
    /// Whether only what this side sends is lost, and what the other one sends arrives.
    pub one_way: bool,
}

/// A machine dies, between two steps of it, and something becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Crash {
    /// When, in milliseconds since the load began.
    pub at_ms: u64,
    /// Of which log.
    pub log: Log,
    /// Which member.
    pub member: usize,
    /// When it comes back. Must be after the last partition has healed, because a replica's restart waits for the chain.
    pub until_ms: u64,
    /// With what.
    pub back: Return,
}

/// How a machine that died comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Return {
    /// With what it had synced to its disk.
    Disk,
    /// A worker with its disk as it was when the load began, and one that lost its newest writes at that: as a host gives
    /// it that wants the cluster to forget.
    OldDisk,
    /// A worker with what it had synced to its disk and, at random, parts of what it had not.
    TornDisk,
    /// A worker that did not die, but whose disk took nothing more until now: it starts again, with room.
    FullDisk,
    /// It does not; another worker takes its place, with nothing.
    Another,
}

/// The clock of a worker jumps, and jumps back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Jump {
    /// When, in milliseconds since the load began.
    pub at_ms: u64,
    /// Which member of the cluster.
    pub member: usize,
    /// By how much, in milliseconds.
    pub by_ms: i64,
    /// When it is right again.
    pub until_ms: u64,
}

/// What one member sends to another is slower, or lost more often, than what comes back, throughout.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Way {
    /// Who sends: a validator and the worker of the same number.
    pub from: usize,
    /// Who gets it.
    pub to: usize,
    /// Mean delay, in milliseconds.
    pub latency_ms: u64,
    /// Share of messages lost.
    pub loss: f64,
}

/// A worker turns hostile, with the keys of its enclave in its host's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Villain {
    /// When, in milliseconds since the load began.
    pub at_ms: u64,
    /// Which member of the cluster.
    pub member: usize,
    /// What it does.
    pub villainy: Villainy,
    /// When somebody brings to the chain what convicts it, and another worker takes its place. Must be after the last
    /// partition has healed.
    pub until_ms: u64,
}

/// What a hostile worker does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, codec::Encode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Villainy {
    /// It notarizes two proposals of a view.
    Notarizes,
    /// It finalizes two proposals of a view.
    Finalizes,
    /// It nullifies a view that it finalizes.
    Nullifies,
    /// It tells some members this, and others that.
    TwoFaced,
    /// It makes up states and answers, and signs them.
    Invents,
    /// Two of it run, with the same keys, each connected to other members.
    Cloned,
}

/// A mistake that the simulation makes on purpose, so that it can be seen that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mistake {
    /// A worker that comes back has kept its keys and votes in the epoch in which it voted before.
    DoubleVote,
    /// Members forget the newest entries of their logs when an epoch ends.
    LostEntry,
    /// A read that is to see everything does not wait.
    StaleRead,
    /// Clients believe one replica where two should agree.
    Gullible,
    /// Nobody brings to the chain what convicts a hostile worker.
    Lenient,
    /// Somebody blames an honest member, and is believed.
    Slander,
}

/// What the network and the machines do in a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Share of messages lost throughout, from 0 to 1; between members, and between clients and members.
    pub loss: f64,
    /// Mean delay of a message, in milliseconds.
    pub latency_ms: u64,
    /// Standard deviation of that delay, in milliseconds.
    pub jitter_ms: u64,
    /// When the network falls in two. They must not overlap.
    pub partitions: Vec<Partition>,
    /// When machines die. Workers that come back at the same time come back together.
    pub crashes: Vec<Crash>,
    /// Workers that turn hostile: at most one, because at most one may.
    #[serde(default)]
    pub villains: Vec<Villain>,
    /// When clocks jump.
    #[serde(default)]
    pub jumps: Vec<Jump>,
    /// Links that are worse in one direction.
    #[serde(default)]
    pub ways: Vec<Way>,
    /// Share of commands that come twice, from clients to members and from members to each other: at once, and again
    /// later.
    #[serde(default)]
    pub twice: f64,
    /// Whether there is a second cluster, with which the first exchanges messages.
    #[serde(default)]
    pub neighbour: bool,
    /// How long clients go on after the last of these, in milliseconds.
    pub calm_ms: u64,
    /// What is done wrong on purpose.
    pub mistake: Option<Mistake>,
}

/// A kind of trouble; when it comes, and whom it meets, follows from a seed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trouble {
    /// None: a network as on a good day.
    Calm,
    /// Long and uneven delays, by which messages overtake each other, and every fifth one lost.
    Rough,
    /// Three times in a row two members cannot reach the other two.
    Parted,
    /// One member is not heard by the others, and hears them; then it is the other way round.
    OneWay,
    /// Loss, a partition, and in each log one member that crashes and comes back.
    Mixed,
    /// A worker crashes again and again.
    Crashes,
    /// All workers lose power at once.
    Blackout,
    /// Two workers, more than may be faulty, come back with old disks.
    Rollback,
    /// A worker dies for good and is replaced.
    Replaced,
    /// A worker votes against itself, is convicted, and replaced.
    Equivocator,
    /// A worker makes up states and answers, is convicted, and replaced.
    WrongExecutor,
    /// Two of a worker run, with the same keys.
    Cloned,
    /// Workers lose power in the middle of writing.
    Torn,
    /// A worker's disk is full.
    Full,
    /// A worker's clock jumps, ahead and back.
    Clock,
    /// Commands come twice, and late.
    Twice,
    /// Some links are much worse in one direction.
    Lopsided,
    /// Two clusters, whose contracts write to each other, while members of both and of the chain crash.
    Neighbours,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Calm,
        Self::Rough,
        Self::Parted,
        Self::OneWay,
        Self::Mixed,
        Self::Crashes,
        Self::Blackout,
        Self::Rollback,
        Self::Replaced,
        Self::Equivocator,
        Self::WrongExecutor,
        Self::Cloned,
        Self::Torn,
        Self::Full,
        Self::Clock,
        Self::Twice,
        Self::Lopsided,
        Self::Neighbours,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Rough => "rough",
            Self::Parted => "parted",
            Self::OneWay => "one-way",
            Self::Mixed => "mixed",
            Self::Crashes => "crashes",
            Self::Blackout => "blackout",
            Self::Rollback => "rollback",
            Self::Replaced => "replaced",
            Self::Equivocator => "equivocator",
            Self::WrongExecutor => "wrong-executor",
            Self::Cloned => "cloned",
            Self::Torn => "torn",
            Self::Full => "full",
            Self::Clock => "clock",
            Self::Twice => "twice",
            Self::Lopsided => "lopsided",
            Self::Neighbours => "neighbours",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.name() == name)
    }

    /// The plan of a seed.
    pub fn plan(self, seed: u64) -> Plan {
        Draw(Seeded::new(seed, &format!("plan {}", self.name()))).plan(self)
    }
}

struct Draw(Seeded);

impl Draw {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low)
    }

    fn member(&mut self) -> usize {
        self.between(0, MEMBERS as u64) as usize
    }

    /// Another than this one.
    fn other(&mut self, than: usize) -> usize {
        (than + 1 + self.between(0, MEMBERS as u64 - 1) as usize) % MEMBERS
    }

    fn crash(&mut self, log: Log, from_ms: u64, back: Return) -> Crash {
        let at_ms = from_ms + self.between(500, 4_000);
        Crash { at_ms, log, member: self.member(), until_ms: at_ms + self.between(1_000, 4_000), back }
    }

    fn villain(&mut self, villainy: Villainy) -> Villain {
        let at_ms = self.between(500, 3_000);
        Villain { at_ms, member: self.member(), villainy, until_ms: at_ms + self.between(3_000, 6_000) }
    }

    fn partition(&mut self, from_ms: u64, side: Vec<usize>, one_way: bool) -> Partition {
        let at_ms = from_ms + self.between(500, 2_500);
        Partition { at_ms, until_ms: at_ms + self.between(1_500, 5_000), side, one_way }
    }

    /// Two members.
    fn half(&mut self) -> Vec<usize> {
        let one = self.member();
        vec![one, self.other(one)]
    }

    fn plan(&mut self, trouble: Trouble) -> Plan {
        let (latency_ms, jitter_ms) = (self.between(2, 15), self.between(0, 6));
        let mut plan = Plan {
            loss: 0.0,
            latency_ms,
            jitter_ms,
            partitions: vec![],
            crashes: vec![],
            villains: vec![],
            jumps: vec![],
            ways: vec![],
            twice: 0.0,
            neighbour: false,
            calm_ms: 2_000,
            mistake: None,
        };
        match trouble {
            Trouble::Calm => plan.calm_ms = 6_000,
            Trouble::Rough => {
                let jitter_ms = self.between(10, 60);
                plan = Plan { loss: 0.2, latency_ms: 50, jitter_ms, calm_ms: 8_000, ..plan };
            }
            Trouble::Parted => {
                let mut from_ms = 0;
                for _ in 0..3 {
                    let side = self.half();
                    let partition = self.partition(from_ms, side, false);
                    from_ms = partition.until_ms;
                    plan.partitions.push(partition);
                }
            }
            Trouble::OneWay => {
                let one = self.member();
                let mute = self.partition(0, vec![one], true);
                let others = (0..MEMBERS).filter(|member| *member != one).collect();
                let deaf = self.partition(mute.until_ms, others, true);
                plan.partitions = vec![mute, deaf];
            }
            Trouble::Mixed => {
                let side = self.half();
                let partition = self.partition(500, side, false);
                let healed = partition.until_ms;
                plan.loss = 0.1;
                plan.partitions.push(partition);
                plan.crashes =
                    vec![self.crash(Log::Chain, healed, Return::Disk), self.crash(Log::Cluster, healed, Return::Disk)];
            }
            Trouble::Crashes => {
                let mut from_ms = 0;
                for _ in 0..3 {
                    let crash = self.crash(Log::Cluster, from_ms, Return::Disk);
                    // The epoch that it waits for takes a while to begin.
                    from_ms = crash.until_ms + 2_000;
                    plan.crashes.push(crash);
                }
            }
            Trouble::Blackout => {
                let first = self.crash(Log::Cluster, 1_000, Return::Disk);
                plan.loss = 0.05;
                plan.crashes = (0..MEMBERS).map(|member| Crash { member, ..first }).collect();
            }
            Trouble::Rollback => {
                let first = self.crash(Log::Cluster, 2_000, Return::OldDisk);
                let second = self.other(first.member);
                plan.crashes = vec![first, Crash { member: second, ..first }];
            }
            Trouble::Replaced => {
                plan.loss = 0.05;
                plan.crashes = vec![self.crash(Log::Cluster, 1_000, Return::Another)];
            }
            Trouble::Equivocator => {
                let kinds = [Villainy::Notarizes, Villainy::Finalizes, Villainy::Nullifies, Villainy::TwoFaced];
                let villainy = kinds[self.member()];
                plan.loss = 0.02;
                plan.villains = vec![self.villain(villainy)];
            }
            Trouble::WrongExecutor => plan.villains = vec![self.villain(Villainy::Invents)],
            Trouble::Cloned => plan.villains = vec![self.villain(Villainy::Cloned)],
            Trouble::Torn => {
                let first = self.crash(Log::Cluster, 500, Return::TornDisk);
                let both = Crash { member: self.other(first.member), ..first };
                let later = self.crash(Log::Cluster, first.until_ms + 2_000, Return::TornDisk);
                plan.crashes = vec![first, both, later];
            }
            Trouble::Full => plan.crashes = vec![self.crash(Log::Cluster, 500, Return::FullDisk)],
            Trouble::Clock => {
                let mut from_ms = 0;
                for by_ms in [20_000, 1_500, -20_000, -1_500] {
                    let at_ms = from_ms + self.between(300, 1_500);
                    from_ms = at_ms + self.between(800, 2_500);
                    plan.jumps.push(Jump { at_ms, member: self.member(), by_ms, until_ms: from_ms });
                }
            }
            Trouble::Twice => {
                let jitter_ms = self.between(5, 30);
                plan = Plan { twice: 0.5, loss: 0.05, latency_ms: 30, jitter_ms, calm_ms: 6_000, ..plan };
            }
            Trouble::Lopsided => {
                let one = self.member();
                for (from, to) in [(one, self.other(one)), (self.other(one), one), (self.member(), one)] {
                    if from != to {
                        let latency_ms = self.between(80, 250);
                        plan.ways.push(Way { from, to, latency_ms, loss: 0.3 });
                    }
                }
                plan.calm_ms = 6_000;
            }
            Trouble::Neighbours => {
                let side = self.half();
                let partition = self.partition(500, side, false);
                let healed = partition.until_ms;
                let crash = |draw: &mut Self, log, after_ms, back| draw.crash(log, healed + after_ms, back);
                plan = Plan { neighbour: true, loss: 0.05, twice: 0.1, partitions: vec![partition], ..plan };
                plan.crashes = vec![
                    crash(self, Log::Neighbour, 0, Return::Disk),
                    crash(self, Log::Chain, 1_000, Return::Disk),
                    crash(self, Log::Cluster, 9_000, Return::TornDisk),
                ];
                plan.calm_ms = 8_000;
            }
        }
        plan
    }
}

impl Plan {
    /// The member that turns hostile in this way, if one does.
    pub(crate) fn villain(&self, villainy: Villainy) -> Option<usize> {
        self.villains.iter().find(|villain| villain.villainy == villainy).map(|villain| villain.member)
    }

    /// Plans that leave something out of this one, to find a short one that goes wrong as well.
    pub fn shorter(&self) -> Vec<Self> {
        let mut plans = vec![];
        for at in 0..self.partitions.len() {
            let mut plan = self.clone();
            plan.partitions.remove(at);
            plans.push(plan);
        }
        for at in 0..self.crashes.len() {
            let mut plan = self.clone();
            plan.crashes.remove(at);
            plans.push(plan);
        }
        for at in 0..self.villains.len() {
            let mut plan = self.clone();
            plan.villains.remove(at);
            plans.push(plan);
        }
        for at in 0..self.jumps.len() {
            let mut plan = self.clone();
            plan.jumps.remove(at);
            plans.push(plan);
        }
        for at in 0..self.ways.len() {
            let mut plan = self.clone();
            plan.ways.remove(at);
            plans.push(plan);
        }
        for plan in [
            Self { neighbour: false, ..self.clone() },
            Self { twice: 0.0, ..self.clone() },
            Self { loss: 0.0, ..self.clone() },
            Self { jitter_ms: 0, ..self.clone() },
        ] {
            if plan != *self {
                plans.push(plan);
            }
        }
        plans
    }
}
