//! Bounds in number, size and time.

/// Longest salt of a contract, in bytes.
pub const MAX_SALT: usize = 64;
/// Longest encoded [`AnchorProof`](crate::AnchorProof), in bytes.
pub const MAX_PROOF: usize = 16 << 10;
/// Most workers that wait for a seat.
pub const MAX_POOL: u32 = 1024;
/// Blocks for which an offer counts.
pub const OFFER_LIFE: u32 = 1200;
/// Blocks that a worker gets to fetch a cluster's log.
pub const PATIENCE: u32 = 1800;
/// Blocks for which an accusation counts, and as a sign of its maker's life: members make theirs again much sooner.
pub const ACCUSATION_LIFE: u32 = 240;
/// Blocks in which the members of a cluster that stands still can say that they live.
pub const GRACE: u32 = 30;
/// Blocks after which a checkpoint costs nothing.
pub const SPAN: u32 = 8;
/// Blocks for which a worker gets no seat after it was convicted: about a week.
pub const BARRED: u32 = 7 * 24 * 3600;
