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
//!
//! **From cluster to cluster** goes a [`Parcel`]: out of the one like any message, and by the chain into the inbox of the
//! other. So for each pair of clusters there is one order, and nothing is lost or repeated. What is in it only the
//! receiving cluster can read: it is sealed to the key that this cluster had the chain publish ([`Order::Mailbox`]). The
//! chain sees to it that a cluster speaks for contracts that are placed in it only, and moves the money along. What
//! cannot be delivered, or fails there, goes back in the same way ([`Order::SendBack`], [`Inbound::SentBack`]).
//!
//! **A contract moves** to another cluster in steps that the chain orders: the one cluster lets it rest and packs it
//! ([`Inbound::Leave`], [`Order::Package`]); the other gets all of it ([`Inbound::Arrive`], [`Order::Arrived`]), upon
//! which the chain gives it its new place; the one lets go of it ([`Inbound::Left`], [`Order::LetGo`]), and it works again
//! ([`Inbound::Begin`]). It is read in the one until it lets go, and in the other from its arrival on; nowhere in between
//! can it change, so both tell the same. Until its arrival the move can be called off ([`Inbound::CalledOff`]).

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
    /// A call of a contract by a contract of this or another cluster.
    #[codec(index = 3)]
    Parcel {
        /// Where it comes from.
        cluster: ClusterId,
        /// Number in that cluster's outbox.
        number: u64,
        /// The contract that sent it: it is the caller. The chain has placed it in that cluster.
        from: AccountId,
        /// What it sent.
        parcel: Parcel,
    },
    /// Money of a parcel that could not be delivered, and the news of it.
    #[codec(index = 4)]
    SentBack {
        /// The contract that had sent it.
        to: AccountId,
        /// How much; may be nothing.
        amount: Balance,
        /// Number of the parcel in the outbox.
        number: u64,
        /// Why.
        why: Undelivered,
    },
    /// An event of the chain that a contract watches, with which it calls itself.
    #[codec(index = 5)]
    Event {
        /// The contract.
        contract: AccountId,
        /// Selector of the message.
        selector: [u8; 4],
        /// Index of the pallet in the runtime, and of the event in the pallet.
        kind: (u8, u8),
        /// The block that it happened in.
        block: u32,
        /// How many of the same watch there were since the last of which the contract was told.
        missed: u32,
        /// The event's fields in SCALE.
        data: Vec<u8>,
    },
    /// A contract of the cluster is to go to another one: it rests from now on, and is packed. See [`Package`].
    #[codec(index = 6)]
    Leave {
        /// The contract.
        contract: AccountId,
        /// Which of its moves this is.
        number: u32,
        /// The cluster that it goes to.
        to: ClusterId,
        /// The key to which what is for that cluster is sealed.
        mailbox: [u8; 32],
    },
    /// A contract is to come from another cluster.
    #[codec(index = 7)]
    Arrive {
        /// Where from.
        from: ClusterId,
        /// What is known of it.
        package: Package,
    },
    /// The other cluster has all of a contract that was to leave: it is that cluster's from now on.
    #[codec(index = 8)]
    Left {
        /// The contract.
        contract: AccountId,
        /// Which of its moves this is.
        number: u32,
    },
    /// The other cluster has let go of a contract that came: it works here from now on.
    #[codec(index = 9)]
    Begin {
        /// The contract.
        contract: AccountId,
        /// Which of its moves this is.
        number: u32,
        /// What it owned there.
        amount: Balance,
    },
    /// A contract stays where it was, and works there again. Both clusters are told.
    #[codec(index = 10)]
    CalledOff {
        /// The contract.
        contract: AccountId,
        /// Which of its moves this was.
        number: u32,
    },
}

impl Inbound {
    /// Whether a contract is called. A call is the last message of the command that takes it.
    pub fn is_call(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::Parcel { .. } | Self::Event { .. })
    }

    /// Money that comes with it, and whose it is first.
    pub fn money(&self) -> (&AccountId, Balance) {
        match self {
            Self::Deposit { to, amount } | Self::Returned { to, amount, .. } | Self::SentBack { to, amount, .. } => {
                (to, *amount)
            }
            Self::Call { from, value, .. } => (from, *value),
            Self::Parcel { from, parcel, .. } => (from, parcel.value),
            Self::Begin { contract, amount, .. } => (contract, *amount),
            Self::Event { contract, .. }
            | Self::Leave { contract, .. }
            | Self::Left { contract, .. }
            | Self::CalledOff { contract, .. } => (contract, 0),
            Self::Arrive { package, .. } => (&package.contract, 0),
        }
    }
}

/// What one contract sends to another, as everyone can see it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Parcel {
    /// The cluster that it is for, and sealed to.
    pub cluster: ClusterId,
    /// The contract that is called there.
    pub contract: AccountId,
    /// Money that goes along.
    pub value: Balance,
    /// Selector and arguments, padded and sealed: at most `MAX_SEALED` bytes.
    pub sealed: Vec<u8>,
}

/// A contract on its way to another cluster, as everyone can see it. What it consists of, the members of that cluster
/// fetch from those of the one that it leaves; what is sealed here tells them how, and what it has to be.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Package {
    /// The contract.
    pub contract: AccountId,
    /// Which of its moves this is.
    pub number: u32,
    /// Sealed to the cluster that it is for: at most `MAX_SEALED` bytes.
    pub sealed: Vec<u8>,
}

/// Why something comes back of a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub enum Undelivered {
    /// The chain has not placed its sender in the cluster that sent it.
    Sender,
    /// There is no such cluster, or too much waits for it.
    NoRoom,
    /// The money could not be moved.
    Money,
    /// There is no such contract there.
    NoContract,
    /// The contract failed or refused.
    Failed,
    /// It was delivered; this is what the receiver paid its sender, who could not reach it there.
    Change,
    /// The contract is on its way to another cluster, or has gone there.
    Moving {
        /// Which contract.
        contract: AccountId,
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
    /// Account or contract in the cluster that sends it; of a parcel that goes back, who had sent that.
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
    /// Bring a parcel of the contract that sends it to another cluster.
    #[codec(index = 2)]
    Parcel(Parcel),
    /// Bring the money of a parcel back, which has left the cluster's ledger, and the news to the contract that sent it.
    #[codec(index = 3)]
    SendBack {
        /// Where it came from.
        cluster: ClusterId,
        /// The contract that had sent it.
        to: AccountId,
        /// How much; may be nothing.
        amount: Balance,
        /// Its number in that cluster's outbox.
        number: u64,
        /// Why.
        why: Undelivered,
    },
    /// Publish the key to which parcels for this cluster are sealed.
    #[codec(index = 4)]
    Mailbox {
        /// X25519.
        key: [u8; 32],
    },
    /// Tell the other cluster of a contract that leaves for it.
    #[codec(index = 5)]
    Package(Package),
    /// All of a contract that was to come is here: it is this cluster's from now on.
    #[codec(index = 6)]
    Arrived {
        /// Which of the contract's moves this is.
        number: u32,
    },
    /// Tell the other cluster that a contract that left works there from now on, and bring it what the contract owned.
    #[codec(index = 7)]
    LetGo {
        /// Which of the contract's moves this is.
        number: u32,
        /// How much. It has left the cluster's ledger.
        amount: Balance,
    },
}

impl Order {
    /// Money that leaves the cluster with it.
    pub fn money(&self) -> Balance {
        match self {
            Self::Withdraw { amount, .. } | Self::SendBack { amount, .. } | Self::LetGo { amount, .. } => *amount,
            Self::Parcel(parcel) => parcel.value,
            Self::Dispatch { .. } | Self::Mailbox { .. } | Self::Package(_) | Self::Arrived { .. } => 0,
        }
    }
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
