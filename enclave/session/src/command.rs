//! Commands: signed changes of state. Every replica of the cluster checks every command.

use crate::{CertificateCache, SignedCertificate, wire::signed};
use codec::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey};
use phala_primitives::{
    AccountId, Balance, ClusterId, Code, Coded, Fact, Hash, blake2_256,
    bridge::Inbound,
    limits::{MAX_COMMAND, MAX_COMMAND_GAS, MAX_COMMAND_LIFE_MS, PART},
};
use std::fmt;

/// Name of a command, drawn at random by the client. Within an account no two commands have the same.
pub type CommandId = [u8; 16];

/// Name of an input that comes in parts, drawn at random by the client.
pub type InputId = [u8; 16];

/// What a command does.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Action {
    /// Calls a contract.
    Call {
        /// The contract.
        contract: AccountId,
        /// Selector and arguments.
        data: Vec<u8>,
    },
    /// Gives the cluster a contract's code, at most `PART` bytes; a larger one goes in parts.
    Upload {
        /// The code.
        code: Vec<u8>,
        /// That the chain has its `CodeRecord`.
        proof: Fact,
    },
    /// Creates a contract that the chain has placed in this cluster.
    Instantiate {
        /// Its address.
        contract: AccountId,
        /// Hash of its code.
        code_hash: Hash,
        /// What its address was made of, besides deployer, cluster and code.
        salt: Vec<u8>,
        /// Selector and arguments of the constructor.
        data: Vec<u8>,
        /// That the chain has its `ContractRecord`.
        proof: Fact,
    },
    /// Brings a contract what came of a request that it made in a command. Only members of the cluster may: their
    /// identity is the account.
    Deliver {
        /// The request.
        request: u64,
        /// `Result<HttpResponse, HttpError>` of the `pink` functions in SCALE.
        response: Vec<u8>,
    },
    /// Takes the next messages of the chain. Only members of the cluster may: their identity is the account.
    #[codec(index = 4)]
    Inbox {
        /// The messages; only the last may be a call of a contract.
        messages: Vec<Inbound>,
        /// That the chain has the `Letter` of the last one.
        proof: Fact,
    },
    /// Pays money of the account out to an account of the chain.
    #[codec(index = 5)]
    Withdraw {
        /// Account of the chain.
        to: AccountId,
        /// How much.
        amount: Balance,
    },
    /// Forgets messages that the chain has delivered. Only members of the cluster may.
    #[codec(index = 6)]
    Acknowledge {
        /// The chain's `BridgeRecord`.
        proof: Fact,
    },
    /// Lets the cluster follow what the chain says that its contracts may use. Anyone may; an old policy changes
    /// nothing.
    #[codec(index = 9)]
    Policy {
        /// That the chain has this `ClusterPolicy`.
        proof: Fact,
    },
    /// Gives the cluster a part of a code that is larger than `PART` bytes, which is the length of all parts but
    /// the last. The parts come in their order; with the last of them the code is there.
    #[codec(index = 10)]
    UploadPart {
        /// Hash of the whole code.
        code_hash: Hash,
        /// Number of the part, from 0.
        part: u32,
        /// Its bytes.
        bytes: Vec<u8>,
        /// That the chain has the code's `CodeRecord`.
        proof: Fact,
    },
    /// Brings a contract an HTTP request that came to a worker. Only members of the cluster may.
    #[codec(index = 8)]
    Hook {
        /// The contract.
        contract: AccountId,
        /// `HookRequest` of the `pink` functions in SCALE.
        request: Vec<u8>,
    },
    /// Nothing: whoever sees it executed has all that was final before it. Only members of the cluster may.
    #[codec(index = 11)]
    Barrier,
    /// Tells the cluster where a contract is for which messages of its contracts wait. Only members of the cluster may.
    #[codec(index = 20)]
    Route {
        /// The contract.
        contract: AccountId,
        /// The chain's `ContractRecord`, or that there is none.
        place: Fact,
        /// The key for parcels of that cluster, if the state does not know it.
        mailbox: Option<Fact>,
    },
    /// Has the chain publish the key for parcels to this cluster, once. Only members of the cluster may.
    #[codec(index = 21)]
    Mailbox,
    /// Gives the cluster a part of the input of a call that is too large for one command. The parts come in their order;
    /// the last comes with [`Action::CallInParts`].
    #[codec(index = 22)]
    InputPart {
        /// Name of the input. Other accounts' are others.
        input: InputId,
        /// Length of the whole, in bytes.
        size: u32,
        /// Number of the part, from 0.
        part: u32,
        /// Its bytes: `PART` of them.
        bytes: Vec<u8>,
    },
    /// Calls a contract with an input whose other parts are there. Whatever comes of it, they are gone.
    #[codec(index = 23)]
    CallInParts {
        /// The contract.
        contract: AccountId,
        /// Name of the input.
        input: InputId,
        /// Length of the whole, in bytes.
        size: u32,
        /// The last part.
        last: Vec<u8>,
    },
    /// Brings a part of a contract that comes from another cluster. Only members of the cluster may.
    #[codec(index = 24)]
    Import {
        /// The contract.
        contract: AccountId,
        /// Which of its moves this is.
        number: u32,
        /// Number of the part, from 0.
        index: u32,
        /// The part.
        bytes: Vec<u8>,
        /// Its proof: hashes from the part up to the root that the other cluster has vouched for.
        path: Vec<Hash>,
    },
    /// Gives a contract the code that the chain names for it. Anyone may bring it: the deployer decided on the chain.
    #[codec(index = 7)]
    Upgrade {
        /// Its address.
        contract: AccountId,
        /// Hash of the new code, which the cluster must hold.
        code_hash: Hash,
        /// That the chain has its `ContractRecord`, with this as the present code.
        proof: Fact,
    },
}

impl Action {
    /// The contract that is called, created or upgraded in the name of the command's account.
    pub fn contract(&self) -> Option<&AccountId> {
        match self {
            Self::Call { contract, .. }
            | Self::CallInParts { contract, .. }
            | Self::Instantiate { contract, .. }
            | Self::Upgrade { contract, .. } => Some(contract),
            Self::Upload { .. }
            | Self::Deliver { .. }
            | Self::Inbox { .. }
            | Self::Withdraw { .. }
            | Self::Acknowledge { .. }
            | Self::Hook { .. }
            | Self::Policy { .. }
            | Self::Barrier
            | Self::Route { .. }
            | Self::Mailbox
            | Self::Import { .. }
            | Self::UploadPart { .. }
            | Self::InputPart { .. } => None,
        }
    }

    /// Whether only members of the cluster may command it.
    pub fn is_for_members(&self) -> bool {
        matches!(
            self,
            Self::Deliver { .. }
                | Self::Inbox { .. }
                | Self::Acknowledge { .. }
                | Self::Hook { .. }
                | Self::Barrier
                | Self::Route { .. }
                | Self::Mailbox
                | Self::Import { .. }
        )
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { contract, data } => write!(f, "Call {{ {contract}, {} bytes }}", data.len()),
            Self::Upload { code, .. } => write!(f, "Upload {{ {} bytes }}", code.len()),
            Self::Instantiate { contract, code_hash, data, .. } => {
                write!(f, "Instantiate {{ {contract}, {code_hash}, {} bytes }}", data.len())
            }
            Self::Inbox { messages, .. } => write!(f, "Inbox {{ {} messages }}", messages.len()),
            Self::Withdraw { .. } => write!(f, "Withdraw"),
            Self::Acknowledge { .. } => write!(f, "Acknowledge"),
            Self::Deliver { request, response } => write!(f, "Deliver {{ {request}, {} bytes }}", response.len()),
            Self::Policy { .. } => f.write_str("Policy"),
            Self::Barrier => f.write_str("Barrier"),
            Self::Route { contract, .. } => write!(f, "Route {{ {contract} }}"),
            Self::Mailbox => f.write_str("Mailbox"),
            Self::Import { contract, index, bytes, .. } => {
                write!(f, "Import {{ {contract}, {index}, {} bytes }}", bytes.len())
            }
            Self::UploadPart { code_hash, part, bytes, .. } => {
                write!(f, "UploadPart {{ {code_hash}, {part}, {} bytes }}", bytes.len())
            }
            Self::InputPart { part, bytes, .. } => write!(f, "InputPart {{ {part}, {} bytes }}", bytes.len()),
            Self::CallInParts { contract, size, .. } => write!(f, "CallInParts {{ {contract}, {size} bytes }}"),
            Self::Hook { contract, request } => write!(f, "Hook {{ {contract}, {} bytes }}", request.len()),
            Self::Upgrade { contract, code_hash, .. } => write!(f, "Upgrade {{ {contract}, {code_hash} }}"),
        }
    }
}

/// A change of state that an account wants.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Command {
    /// A cluster executes one command of this id and account, at most once.
    pub id: CommandId,
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Cluster that executes it.
    pub cluster: ClusterId,
    /// What to do.
    pub action: Action,
    /// Money of the account that goes to the contract with a call or an instantiation; 0 with other actions. It comes
    /// back if the contract fails or reverts.
    pub value: Balance,
    /// Most gas that it may use, at most `MAX_COMMAND_GAS`.
    pub gas_limit: u64,
    /// It is not executed in an entry of this time or later, in milliseconds since 1970.
    pub deadline_ms: u64,
}

/// A command with the right to it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedCommand {
    /// Who commands.
    pub certificate: SignedCertificate,
    /// What.
    pub command: Command,
    /// ed25519 by the certificate's key over `("phala/command/v2", command)`.
    pub signature: [u8; 64],
}

impl Command {
    fn message(&self) -> Vec<u8> {
        ("phala/command/v2", self).encode()
    }

    /// Signs with the key that `certificate` names.
    pub fn sign(self, certificate: SignedCertificate, session_key: &SigningKey) -> SignedCommand {
        let signature = session_key.sign(&self.message()).to_bytes();
        SignedCommand { certificate, command: self, signature }
    }
}

impl SignedCommand {
    /// Leaf of the entry's Merkle tree, and what receipts name.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }

    /// Who commands. To be believed after [`SignedCommand::verify`].
    pub fn account(&self) -> &AccountId {
        &self.certificate.body.account
    }

    /// Checks all that can be checked without state: certificate, signature, network, cluster, scope, value, sizes, gas
    /// and deadline. `now_ms` is the replica's clock when the command arrives, the entry's time when it is in a log.
    /// Equal inputs give equal answers on every replica.
    pub fn verify(
        &self,
        cache: &CertificateCache,
        genesis: &Hash,
        cluster: ClusterId,
        now_ms: u64,
    ) -> Result<(), Coded> {
        let command = &self.command;
        if command.genesis != *genesis {
            return Err(Coded::new(Code::WrongNetwork, "in the command"));
        }
        if command.cluster != cluster {
            return Err(Coded::new(Code::WrongAddress, format!("the command is for cluster {}", command.cluster)));
        }
        if now_ms >= command.deadline_ms {
            return Err(Coded::new(Code::Expired, "the command's deadline"));
        }
        if command.deadline_ms - now_ms > MAX_COMMAND_LIFE_MS {
            return Err(Coded::new(Code::DeadlineTooFar, "the command's deadline"));
        }
        if command.gas_limit > MAX_COMMAND_GAS {
            return Err(Coded::new(
                Code::GasLimitTooHigh,
                format!("{} of at most {MAX_COMMAND_GAS}", command.gas_limit),
            ));
        }
        match &command.action {
            Action::Upload { code: bytes, .. } | Action::UploadPart { bytes, .. } if bytes.len() > PART => {
                return Err(Coded::new(Code::CodeTooLarge, format!("for one command, of at most {PART} bytes")));
            }
            _ => {}
        }
        let size = self.encoded_size();
        if size > MAX_COMMAND {
            return Err(Coded::new(Code::CommandTooLarge, format!("{size} bytes of at most {MAX_COMMAND}")));
        }
        cache.verify(&self.certificate, genesis, now_ms)?;
        let certificate = &self.certificate.body;
        if !signed(&certificate.session_key, &command.message(), &self.signature) {
            return Err(Coded::new(Code::BadSignature, "of the command, by its session key"));
        }
        if command.value > 0 && command.action.contract().is_none() {
            return Err(Coded::new(Code::Malformed, "a value without a contract that gets it"));
        }
        let covered = match command.action.contract() {
            // It does nothing by itself.
            _ if matches!(command.action, Action::InputPart { .. }) => true,
            Some(contract) if command.value == 0 => certificate.scope.covers(contract),
            // Whoever may act on some contracts only, may not spend.
            _ => certificate.scope == crate::Scope::All,
        };
        if !covered {
            return Err(Code::OutOfScope.into());
        }
        Ok(())
    }
}
