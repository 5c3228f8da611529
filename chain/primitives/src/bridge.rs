//! What crosses between the chain and a cluster, and how either side knows that nothing was lost, added or repeated.
//!
//! **Into the cluster**: the chain numbers messages and chains their hashes. Each is stored as a [`Letter`] with the
//! chain of hashes up to and with it. A cluster that holds the [`Head`] of what it took so far is shown the next
//! messages and a storage proof of the last one's letter: it computes the chain of hashes itself and compares.
//!
//! **Out of the cluster**: the cluster numbers messages in the same way. The header of each log entry carries the head
//! of an executed state ([`Crossing`]), so that the members' certificate vouches for it. The chain, which holds the
//! head of what it delivered so far, is shown the next messages, the hashes of those behind them, and that header.
//!
//! Each side learns from the other how far it got, and forgets what is done.

use crate::{AccountId, Balance, ClusterId, Hash, blake2_256};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// How many messages there were, and a hash over all of them.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Head {
    /// Number of the next message; the first is 0.
    pub next: u64,
    /// BLAKE2b-256 over domain, hash before, number and hash of the newest message; zero before the first.
    pub hash: Hash,
}

impl Head {
    fn push(&mut self, domain: &str, message: &Hash) {
        self.hash = blake2_256(&(domain, self.hash, self.next, message).encode());
        self.next = self.next.saturating_add(1);
    }

    /// Takes in the next message into the cluster.
    pub fn push_inbound(&mut self, message: &Inbound) {
        self.push("phala/inbox/v1", &blake2_256(&message.encode()));
    }

    /// Takes in the next message out of the cluster, by its [`Outbound::hash`].
    pub fn push_outbound(&mut self, message: &Hash) {
        self.push("phala/outbox/v1", message);
    }
}

/// A message from the chain into a cluster. Everyone can read it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Inbound {
    /// Money for an account or contract of the cluster.
    #[codec(index = 0)]
    Deposit {
        /// Whose it is.
        to: AccountId,
        /// How much.
        amount: Balance,
    },
    /// A call of a contract by an account of the chain.
    #[codec(index = 1)]
    Call {
        /// Who calls.
        from: AccountId,
        /// The contract.
        contract: AccountId,
        /// Money that comes along. It is the caller's in the cluster first, and stays so if the call fails.
        value: Balance,
        /// Selector and arguments.
        data: Vec<u8>,
    },
    /// Money of a withdrawal that the chain could not pay.
    #[codec(index = 2)]
    Returned {
        /// Who had withdrawn it.
        to: AccountId,
        /// How much.
        amount: Balance,
        /// Number of the withdrawal in the outbox.
        number: u64,
    },
}

/// A message into a cluster as the chain stores it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Letter {
    /// The message.
    pub message: Inbound,
    /// The inbox with it.
    pub head: Head,
}

/// A message from a cluster to the chain.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Outbound {
    /// Account or contract in the cluster that sends it.
    pub from: AccountId,
    /// What the chain is to do.
    pub order: Order,
}

impl Outbound {
    /// What the chain of hashes is made of.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }
}

/// What a cluster orders the chain to do.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Order {
    /// Pay money out of the cluster.
    #[codec(index = 0)]
    Withdraw {
        /// Account of the chain.
        to: AccountId,
        /// How much. It has left the sender's balance in the cluster.
        amount: Balance,
    },
    /// Dispatch a call in the name of the contract that sends it.
    #[codec(index = 1)]
    Dispatch {
        /// Encoded `RuntimeCall`, at most `MAX_DISPATCH` bytes.
        call: Vec<u8>,
    },
}

/// What the chain knows of the traffic with a cluster.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct BridgeRecord {
    /// All messages into the cluster.
    pub inbox: Head,
    /// How many of them the cluster is known to have taken.
    pub taken: u64,
    /// Messages out of the cluster that were delivered.
    pub outbox: Head,
}

/// What a state of the cluster knows of the traffic with the chain, as headers of entries carry it.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Crossing {
    /// How many messages of the chain it has taken.
    pub taken: u64,
    /// All messages that it sent.
    pub outbox: Head,
}

/// Account of the chain, without a key, that holds the money in a cluster.
pub fn pot(cluster: ClusterId) -> AccountId {
    AccountId(blake2_256(&("phala/pot/v1", cluster).encode()).0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn golden_heads() {
        let (mut inbox, mut outbox) = (Head::default(), Head::default());
        inbox.push_inbound(&Inbound::Deposit { to: AccountId([1; 32]), amount: 5 });
        inbox.push_inbound(&Inbound::Call {
            from: AccountId([2; 32]),
            contract: AccountId([3; 32]),
            value: 6,
            data: vec![7],
        });
        inbox.push_inbound(&Inbound::Returned { to: AccountId([4; 32]), amount: 8, number: 9 });
        let order = Order::Withdraw { to: AccountId([5; 32]), amount: 10 };
        outbox.push_outbound(&Outbound { from: AccountId([6; 32]), order }.hash());
        let order = Order::Dispatch { call: vec![1, 2] };
        outbox.push_outbound(&Outbound { from: AccountId([6; 32]), order }.hash());
        assert_eq!((inbox.next, outbox.next), (3, 2));
        assert_eq!(hex::encode(inbox.hash), GOLDEN_INBOX);
        assert_eq!(hex::encode(outbox.hash), GOLDEN_OUTBOX);
    }

    const GOLDEN_INBOX: &str = "90a73539dda287ca94e38a24e5d7489bcf70226088b443b73836791502fbbb33";
    const GOLDEN_OUTBOX: &str = "b96a179d1e3c7df3a8d36dc862aba1e31d75c3b900ef60c8b2dc0496b73a9ec9";

    #[test]
    fn order_and_number_are_part_of_the_hash() {
        let [a, b] = [1, 2].map(|amount| Inbound::Deposit { to: AccountId([1; 32]), amount });
        let chain = |messages: &[&Inbound]| {
            let mut head = Head::default();
            messages.iter().for_each(|message| head.push_inbound(message));
            head
        };
        assert_ne!(chain(&[&a, &b]), chain(&[&b, &a]));
        assert_ne!(chain(&[&a, &a]).hash, chain(&[&a]).hash);
    }
}
