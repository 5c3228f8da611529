//! Every error that a person or program can meet has a code. `docs/errors.md` has a section for each; a check of the
//! repository compares the two.

use codec::{Decode, DecodeWithMemTracking, Encode};
use scale_info::TypeInfo;

macro_rules! codes {
    ($($number:literal $name:ident $text:literal => $way_out:literal;)*) => {
        /// What went wrong, by number. 1xxx requests, 2xxx contracts, 3xxx clusters, 4xxx chain, 5xxx tools.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $text] $name = $number,)*
        }

        impl Code {
            /// All codes in order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code with this number.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// What happened, in a sentence without a full stop.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What to do about it.
            pub fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)* }
            }
        }
    };
}

codes! {
    1001 Malformed "the request cannot be decoded" => "Use a client of the same protocol version.";
    1002 TooLarge "the request is larger than the limit" => "Send less at once: `limits` in the worker's /v1/info says how much.";
    1003 UnknownKey "the request is sealed to a session key that this replica does not hold" => "Fetch /v1/info again: session keys rotate hourly and die with the process.";
    1004 NotAuthentic "the request does not decrypt: it was altered or sealed for something else" => "Seal it again; if this persists, something on the way alters traffic.";
    1005 Replayed "a request with this id was seen before" => "Draw a fresh request id for each request.";
    1006 Expired "the request's deadline or highest block has passed" => "Send it again with a fresh deadline.";
    1007 BadSignature "a signature of the request is wrong" => "Check which account signs; wallets may wrap messages in <Bytes>.";
    1008 CertificateTime "the session certificate is not valid now" => "Sign a new session certificate; check the clock.";
    1009 WrongNetwork "the request is meant for another network" => "Compare the genesis hashes of client and worker.";
    1010 WrongAddress "the request is meant for another cluster, contract or replica" => "Ask the chain where the contract lives and fetch /v1/info of that worker.";
    1011 OutOfScope "the session certificate does not cover this contract" => "Sign a certificate whose scope names the contract.";
    1012 Busy "the replica has reached its limit of requests under way" => "Wait a moment and try again, or use another replica.";
    1013 DeadlineTooFar "the request's deadline or highest block lies too far ahead" => "Use a deadline within ten minutes and a highest block within 1200 of the head.";
    1020 ContractBusy "as many queries of this contract are under way as the cluster allows" => "Wait for one of them to end; its cluster's policy says how many may run.";
    1021 MemoryBusy "the replica's memory for queries is used up" => "Wait a moment and try again, or use another replica.";
    1022 BytesBusy "the requests under way hold as many bytes as the replica has for them" => "Wait a moment and try again, or send less at once.";
    1023 CommandTooLarge "the command is larger than an entry of the log holds" => "Send less at once; only queries may be as large as a message.";
    1024 Abandoned "nobody waits for the answer any more" => "Keep the connection open until the answer is there.";
    1025 TooManySessions "the replica has as many sessions open as it may" => "Close sessions that are not used, or use another replica.";
    1026 WrongState "the replica does not hold the state that a part of a query is about" => "The replica that was asked computes the part itself.";
    1041 SlowReader "the subscription ended because its reader was too slow" => "Subscribe again from the next number: what the log still holds comes without gap.";
    2001 NoContract "there is no such contract in this cluster" => "Check the address; `phala deploy` prints it.";
    2002 NoCode "the cluster does not hold this code" => "Upload the code first: `phala deploy` does both.";
    2003 BadModule "the code is no valid contract module" => "Build it with `phala build`, which uses the right target; the message names what is wrong.";
    2004 Ink6 "this is a bundle of ink! 6 (RISC-V); the network runs ink! 5 (WebAssembly)" => "Use ink! 5.1.1 and `phala build`.";
    2005 OutOfGas "the command used all of its gas" => "Send it with a higher --gas.";
    2006 Trapped "the contract trapped" => "Its own code panicked or did something that WebAssembly forbids.";
    2007 Reverted "the contract reverted and its changes were undone" => "The decoded error of the contract says why.";
    2008 TimeLimit "the query ran longer than the cluster allows" => "Make it shorter, or split it.";
    2009 MemoryLimit "the contract wanted more memory than the cluster allows" => "Use less memory.";
    2010 StorageLimit "a key or value is larger than the limit" => "Split the value.";
    2011 CallDepth "contracts called each other too deeply" => "Flatten the calls.";
    2012 CodeTooLarge "the code is larger than the limit" => "Build with `phala build` (optimised), or split the contract.";
    2013 ContractExists "a contract with this address exists already" => "Use another --salt.";
    2014 NoSuchMessage "the contract has no such message or constructor" => "Use the metadata of the deployed code.";
    2015 ReadOnly "a query tried to change state" => "Send it as a command: `phala send`.";
    2017 ReplyTooLarge "the contract returned more than a reply may hold" => "Return less, or page through it.";
    2018 BadProof "the command's proof about the chain is wrong or too old" => "Let the client fetch a fresh proof.";
    2019 NotDeployer "only the account that created the contract on the chain may do this" => "Sign with the deployer's account.";
    2020 GasLimitTooHigh "the command asks for more gas than one command may use" => "Send it with a lower --gas; make long work a query, or split it.";
    2021 LogDenied "only the contract's owner, and whom the contract allows, may read its log" => "Sign with the account that deployed it.";
    2030 TooLittle "the account owns too little in this cluster" => "`phala account` shows the balance, `phala deposit` adds to it.";
    2031 Dust "the amount is below the least that can be moved" => "Move at least 0.0001 PHA within a cluster, and at least 0.01 PHA out of it, and leave nothing or as much behind.";
    2032 OutboxFull "too many messages of the cluster or of this sender wait for the chain" => "Wait until the chain has delivered them.";
    2033 BalanceDenied "only an account itself, and the owner of a contract, may read the balance" => "Sign with that account, or with the one that deployed the contract.";
    2040 ContractMemoryLimit "all calls of the contract together wanted more memory than the cluster allows" => "Use less memory, or make fewer calls at once.";
    2041 UploadLimit "as many codes or inputs are on their way in parts as the cluster allows" => "Wait ten minutes: what is not finished then is dropped.";
    2042 WrongPart "this part of a code or input is not the next one" => "Begin again with the first part: `phala deploy` and `phala send` do.";
    2043 MapLimit "a query asked for more parts, or larger ones, than the cluster allows" => "Split the work into fewer parts, or into several queries.";
    2044 HttpOff "the cluster's policy does not let contracts make HTTP requests" => "Use a cluster that does: `phala cluster` shows its policy.";
    2051 NoHook "the contract has no hook at this path" => "Contracts open hooks by `pink::open_hook`; a hook serves its path and all below.";
    2052 HookTooLarge "the HTTP request is larger than a hook takes" => "Send at most 128 KiB of body and 32 KiB of path, query and headers.";
    2053 HookBusy "too many requests wait for the hooks of this contract" => "Wait and send it again; with an `idempotency-key` it executes once.";
    2054 TooManyHooks "the contract has as many hooks as it may" => "Close one: a single hook serves all paths below its own.";
    2055 BadHookAnswer "the contract's answer to the HTTP request is no HTTP response" => "Let the message return `pink::HookResponse` with a status of 200 to 599.";
    2060 OldVersion "the contract runs this version of its code already, or a newer one" => "Nothing: an older upgrade never takes a newer one back.";
    2061 ContractMoving "the contract is on its way to another cluster and is only read until it is there" => "Send it again in a while; clients of this project wait by themselves.";
    2062 ContractMoved "the contract is in another cluster" => "Ask the chain where it is: clients of this project do so by themselves.";
    3001 NoQuorum "the cluster did not decide in time; the command may still be executed" => "Ask for the command's outcome by its id, or send the same command again: it executes at most once.";
    3002 NotReady "the replica is not ready" => "/readyz says what it waits for.";
    3003 StorageFailed "the replica cannot write to its disk" => "Free space or mend the disk; the other replicas go on.";
    3004 QueueFull "too many commands wait already" => "Wait and send again.";
    3005 StaleHead "the replica's view of the chain is too old" => "Its operator must mend its connection to the chain; use another replica.";
    3006 Internal "the replica met an internal fault" => "Its log says more, with the id given here.";
    3007 NotMember "the worker is no member of the cluster in this epoch" => "Wait until the chain has given the worker a seat; keys are released to members only.";
    3008 AppraisalExpired "the worker's appraisal has expired or its identity has been replaced" => "Register the worker again with fresh evidence.";
    3009 Unsealable "sealed data does not open on this machine" => "It was sealed by another machine or program, or was altered: start with a fresh folder.";
    3010 SessionLimit "the session has ended or carried as much as it may" => "Open a new session.";
    3011 NoReplica "no replica of the cluster answers" => "See which workers run: `phala doctor`. A command keeps its id: send it again, it executes at most once.";
    3012 StaleState "the state of the replica is older than the query allows" => "Allow more time: a cluster without commands makes an entry about six times a second.";
    3013 Contradiction "replicas answer the query differently" => "Ask again; if the contract does not change all the time, a replica is faulty or hostile.";
    3030 LogMissing "the cluster's log on the disks at hand ends below what the chain was shown" => "Start a member with its newest disk: nothing that was acknowledged is given up for an old one.";
    3031 OnlyReads "this replica is a reader: it answers queries, and takes no commands" => "Ask a member of the cluster; clients choose one by themselves.";
    3032 OtherHistory "what follows does not lead on from the state that the replica holds" => "Nothing: it takes the state anew.";
    4001 PoolFull "the node's pool of extrinsics is full" => "Wait for the next block, or add a tip.";
    4002 BadExtrinsic "the extrinsic is not valid" => "The message says why: nonce, balance, signature or era.";
    4003 NoNode "no node of the chain answers" => "Start `phala dev`, or give its address with --url.";
    4004 BadReadProof "a storage proof does not fit the finalised state root" => "Do not trust this node: use another.";
    4005 BadFinality "a finality certificate does not verify against the validators" => "Do not trust this node: use another.";
    4006 BadReceipt "the worker's receipt does not verify against the chain" => "Do not trust the answer: the worker is faulty or hostile.";
    4007 GenesisChanged "the node serves another chain than the one pinned" => "Check --url; with a fresh `phala dev`, drop --genesis.";
    4008 ExtrinsicFailed "the extrinsic was included but failed" => "The message names the pallet's error.";
    4009 NotFinal "the extrinsic was not final in time" => "Look for it with `phala account`; then send again.";
    4010 NoSuchCluster "the chain has no such cluster, or it has no members yet" => "Wait until the network is ready: `phala doctor`.";
    4011 UnknownBlock "the node does not have that block or no longer has its state" => "Ask for a newer block, or ask a node that keeps all states.";
    4012 BadEvidence "the attestation evidence proves nothing under the trust anchors of this network" => "Attest on a machine whose vendor is an anchor of the genesis; `phala dev` anchors its SIMULATED vendor.";
    4020 BadPolicy "the policy has a value that is out of its range, or the account may not set it" => "`phala cluster policy --help` names the ranges; only the account that made the cluster sets its policy.";
    4021 NoIdleWorker "no worker waits that could take the place" => "Start one more worker: without a seat it offers itself.";
    4022 HistoryLost "the cluster was recovered without entries that it had acknowledged" => "Read what is there, and send again what is missing; the chain's event `Recovered` says where it goes on.";
    4030 StaleNode "the newest block that the node shows is too old" => "Use another node: this one is cut off, or hides what is new. If all do, check this machine's clock.";
    4031 NothingProven "the proof does not show that a member of the cluster did wrong" => "The message says why; proofs count for the cluster, the epoch and the network that they are of.";
    4032 AlreadyConvicted "the worker was convicted of this offence before" => "Nothing: one proof is enough.";
    5001 NoWasmTarget "the Rust target wasm32v1-none is not installed" => "rustup target add wasm32v1-none";
    5002 BuildFailed "the contract does not compile" => "Read the compiler's message above.";
    5003 BadArgument "an argument does not fit" => "--help shows examples.";
    5004 BadBundle "the bundle cannot be read" => "Build it again with `phala build`.";
    5005 PortInUse "a port is taken" => "Choose another with --port, or stop the other program.";
    5006 BadKey "the key phrase cannot be read" => "Use a name such as //Alice, 12 words, or 0x and 64 hex digits.";
    5007 DataDir "the data folder cannot be used" => "Check that it exists, is writable, and is not used by another process.";
    5008 UnknownFormat "the data folder was written by another version" => "Use that version, or start with a fresh folder.";
    5020 LayoutChanged "the new code reads the storage in another way than the old code wrote it" => "Keep the order and types of fields, add new ones in a `Mapping` or `Lazy`, or insist with --force.";
    5021 NotReproduced "the source does not give the code that the bundle holds" => "Build the same source with the same compiler and binaryen: the bundle names both.";
    5022 TestsFailed "a test of the contract failed" => "The output above names it.";
    5023 NotUpgradable "the contract's code is fixed" => "Deploy it anew; a contract that was deployed with --upgradable takes other code until `phala freeze`.";
    5024 BadCollection "the collection cannot be read" => "The message names the line; docs/development.md shows an example.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "P{}", *self as u16)
    }
}

/// An error as it crosses the wire: a code and what may be said of this case. The text never holds secrets.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Coded {
    /// Number of the [`Code`].
    pub code: u16,
    /// The case at hand, for people; at most 512 bytes.
    pub detail: String,
}

impl Coded {
    /// An error of this code with a detail, cut to 512 bytes.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > 512 {
            let end = (0..=512).rev().find(|i| detail.is_char_boundary(*i)).unwrap_or(0);
            detail.truncate(end);
        }
        Self { code: code as u16, detail }
    }

    /// The known code, if this side knows the number.
    pub fn known(&self) -> Option<Code> {
        Code::from_number(self.code)
    }
}

impl From<Code> for Coded {
    fn from(code: Code) -> Self {
        Self::new(code, "")
    }
}

impl std::error::Error for Coded {}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "P{}", self.code)?;
        if let Some(code) = self.known() {
            write!(f, ": {}", code.meaning())?;
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}
