//! What calls weigh, by the time that they take on one core.

use crate::bridge::MAX_DISPATCH_WEIGHT;
use frame_support::weights::Weight;
use phala_primitives::{
    bridge::{Order, Outbound},
    limits::MAX_DELIVERED,
};

/// Up to seven signatures and the rest.
pub(crate) const REJOIN: Weight = Weight::from_parts(800_000_000, 0);
/// Besides what a delivery executes: as a rejoin, and the inbox.
pub(crate) const DELIVER: Weight = Weight::from_parts(1_500_000_000, 0);
/// To choose from a full pool.
pub(crate) const POOL: Weight = Weight::from_parts(10_000_000_000, 0);
/// A payment out of a pot.
pub(crate) const PAYMENT: Weight = Weight::from_parts(150_000_000, 0);
pub(crate) const SMALL: Weight = Weight::from_parts(30_000_000, 0);

/// What executing messages of a cluster may weigh.
pub(crate) fn delivery_weight(messages: &[Outbound]) -> Weight {
    messages.iter().take(MAX_DELIVERED).fold(DELIVER, |all, message| {
        all.saturating_add(match message.order {
            Order::Withdraw { .. } | Order::Parcel(_) | Order::SendBack { .. } | Order::LetGo { .. } => PAYMENT,
            Order::Mailbox { .. } | Order::Package(_) | Order::Arrived { .. } => SMALL,
            Order::Dispatch { .. } => MAX_DISPATCH_WEIGHT.set_proof_size(0),
        })
    })
}
