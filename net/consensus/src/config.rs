//! What a log is started with.

use phala_primitives::PublicKey;
use std::{fmt, net::SocketAddr, time::Duration};
use zeroize::Zeroizing;

/// An ed25519 secret key. It is wiped when dropped, and does not print.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Takes the 32 bytes of an ed25519 seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One who votes in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its ed25519 key: it authenticates connections and signs votes.
    pub key: PublicKey,
    /// Where it listens. Unused in simulation.
    pub address: SocketAddr,
}

/// How fast a leader proposes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pacing {
    /// Shortest time between a proposal and the next, whoever makes them, by the clock of who makes the next.
    pub min_interval: Duration,
    /// Longest time after a proposal that a leader waits for `Application::ready` before it makes the next.
    pub heartbeat: Duration,
}

/// When a member gives up waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For the leader's proposal, from entering a view. Must exceed `Pacing::heartbeat` and the longest `propose`.
    pub leader: Duration,
    /// For the view's certificate, from entering it. Must exceed `leader`, and leave time for the longest `verify`.
    pub certification: Duration,
    /// Between two tries to leave a view that timed out.
    pub retry: Duration,
    /// Time without a sign of life from a leader after which its views are skipped at once. Must exceed both
    /// `certification` and `retry`.
    pub skip: Duration,
    /// For the answer to a request for a missing certificate or block.
    pub fetch: Duration,
}

/// What one epoch of a log is started with. All members must agree on everything but `me` and `partition`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Own secret key; its public half must be among `members`.
    pub me: Secret,
    /// All members, in any order.
    pub members: Vec<Peer>,
    /// Epoch of the log. Certificates name it.
    pub epoch: u64,
    /// What certificates are signed under: it must tell this log from every other of the network.
    pub namespace: Vec<u8>,
    /// Name of this log in the runtime's storage; different for each epoch. Letters, digits, `-` and `_`.
    pub partition: String,
    /// How fast a leader proposes.
    pub pacing: Pacing,
    /// When a member gives up waiting.
    pub timeouts: Timeouts,
    /// One member leads until it fails, instead of each view having another leader.
    pub stable_leader: bool,
    /// Blocks are voted on and delivered without waiting for this member's storage. For a log that no member goes on
    /// with after a restart: a member that does may have voted for, and taken, what its storage does not hold.
    pub eager: bool,
    /// Largest header and body together, in bytes. A larger block is never proposed nor accepted.
    pub max_block: usize,
    /// Largest message of `LogHandle::send`, in bytes.
    pub max_message: usize,
    /// Messages of `LogHandle::send` that one member may send to another in a second; more are dropped.
    pub messages_per_second: u32,
    /// Most blocks per second that this log is sized for. It bounds what a member may send, and memory grows with it.
    pub max_rate: u32,
    /// Blocks per storage file. `LogHandle::prune` frees whole files.
    pub prune_step: u64,
}

impl LogConfig {
    /// A log like the chain's: the leader rotates, at least 500 ms between blocks, one each second when idle.
    pub fn chain(me: Secret, members: Vec<Peer>, epoch: u64, namespace: Vec<u8>, partition: String) -> Self {
        Self {
            me,
            members,
            epoch,
            namespace,
            partition,
            pacing: Pacing { min_interval: Duration::from_millis(500), heartbeat: Duration::from_millis(1000) },
            timeouts: Timeouts {
                leader: Duration::from_millis(2000),
                certification: Duration::from_millis(3000),
                retry: Duration::from_millis(1000),
                skip: Duration::from_millis(8000),
                fetch: Duration::from_millis(1500),
            },
            stable_leader: false,
            eager: false,
            max_block: (1 << 20) + (64 << 10),
            max_message: 256 << 10,
            messages_per_second: 64,
            max_rate: 10,
            prune_step: 1 << 16,
        }
    }

    /// A log like a cluster's: one leader until it fails, proposals as soon as there is something to propose, an
    /// empty one each 150 ms, another leader 250 ms after the last has fallen silent.
    pub fn cluster(me: Secret, members: Vec<Peer>, epoch: u64, namespace: Vec<u8>, partition: String) -> Self {
        Self {
            me,
            members,
            epoch,
            namespace,
            partition,
            pacing: Pacing { min_interval: Duration::from_millis(1), heartbeat: Duration::from_millis(150) },
            timeouts: Timeouts {
                leader: Duration::from_millis(250),
                certification: Duration::from_millis(350),
                retry: Duration::from_millis(200),
                skip: Duration::from_millis(1500),
                fetch: Duration::from_millis(500),
            },
            stable_leader: true,
            eager: true,
            max_block: (1 << 20) + (64 << 10),
            max_message: (1 << 20) + (64 << 10),
            messages_per_second: 2000,
            max_rate: 500,
            prune_step: 1 << 11,
        }
    }
}
