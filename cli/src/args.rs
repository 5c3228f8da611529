//! The command line as data.

use clap::{Args, Parser, Subcommand};
use phala_client::Freshness;
use phala_primitives::limits::MAX_COMMAND_GAS;
use std::{net::SocketAddr, path::PathBuf};

/// The confidential compute cloud on one command line.
#[derive(Parser, Debug)]
#[command(name = "phala", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print data as JSON, one document a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but data and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  phala dev                                        a whole network on this machine
  phala new hello && cd hello && phala build       a contract from nothing
  phala deploy target/ink/hello/hello.contract new true
  phala query ADDRESS get                          read, encrypted, in a millisecond
  phala send ADDRESS flip --suri //Bob             write, encrypted, with a receipt

stdout carries data, stderr everything else. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the contract refused.
Every error has a code; docs/errors.md explains each.";

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a whole network in this process: validators, workers, RPC. Attestation is SIMULATED.
    #[command(
        after_help = "Examples:\n  phala dev\n  phala dev --data-dir ./net --json\n  phala dev --validators 1 --rpc-port 9955"
    )]
    Dev(Dev),
    /// Draw up a network of processes: a file that all of its parts share, and a secret for each. Attestation is SIMULATED.
    #[command(name = "network", after_help = PARTS)]
    DrawNetwork(NetworkOptions),
    /// Run one validator of a network, and its JSON-RPC.
    #[command(
        after_help = "Example:\n  phala node --network net/network.json --secret net/secrets/validator-0 --data-dir v0 --rpc 127.0.0.1:9944"
    )]
    Node(NodeOptions),
    /// Run the key service of a network, which holds its SIMULATED master secret.
    #[command(
        after_help = "Example:\n  phala key-service --network net/network.json --secret net/secrets/key-service --data-dir keys --listen 127.0.0.1:7100"
    )]
    KeyService(KeyServiceOptions),
    /// Run one worker: it serves in a cluster as soon as the chain gives it a place there, and waits in the pool before.
    #[command(
        after_help = "Example:\n  phala worker --network net/network.json --secret net/secrets/worker-0 --data-dir w0 --suri //Worker//0 \\\n    --keys http://127.0.0.1:7100 --listen 127.0.0.1:8000 --peer 127.0.0.1:7200"
    )]
    Worker(WorkerOptions),
    /// Show the main job on a fresh network and print its figures.
    Demo(Demo),
    /// Create a contract from a template.
    #[command(
        after_help = "Examples:\n  phala new hello && cd hello && phala build\n  phala new gold --template token"
    )]
    New {
        /// Name of the contract: lower case, digits, underscores.
        name: String,
        /// What to start from.
        #[arg(long, short, default_value = "flipper", value_parser = phala_build::TEMPLATES.map(|template| template.name))]
        template: String,
        /// Folder in which it is created; by default this one.
        #[arg(long)]
        path: Option<PathBuf>,
    },
    /// Compile a contract into a .contract bundle.
    #[command(
        after_help = "Examples:\n  phala build\n  phala build contracts/examples/psp22\n  phala build --check published.contract     exit code 1 if the source gives other code"
    )]
    Build {
        /// Folder of the contract's Cargo.toml.
        #[arg(default_value = ".")]
        path: PathBuf,
        /// Where target/ink/NAME is written; by default beside the contract.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Compare with this bundle: does the source here give the code in it?
        #[arg(long, value_name = "BUNDLE")]
        check: Option<PathBuf>,
    },
    /// Run a contract's tests: unit tests, and those on the real engine, without a network.
    #[command(after_help = "Examples:\n  phala test\n  phala test --gas\n  phala test transfers -- --nocapture")]
    Test(Test),
    /// Build, deploy, and upgrade in place whenever the source changes; the state stays.
    #[command(
        after_help = "Examples:\n  phala watch\n  phala watch new true --path hello\n  phala watch --reset        begin with a new contract"
    )]
    Watch(Watch),
    /// Run contracts for a test that speaks to standard input and output. The crate `testkit` does.
    #[command(hide = true)]
    Testkit,
    /// Upload code and create a contract; or several, as a collection says.
    #[command(
        after_help = "Examples:\n  phala deploy target/ink/hello/hello.contract new true\n  phala deploy psp22.contract new 1000000 Some(\"Gold\") Some(\"GLD\") 12 --suri //Alice\n  phala deploy target/ink/hello/hello.contract new true --dry-run      what it would cost\n  phala deploy collection.toml"
    )]
    Deploy(Deploy),
    /// Replace the code of a contract that was deployed with --upgradable; address and state stay.
    #[command(after_help = "Example:\n  phala upgrade ADDRESS target/ink/hello/hello.contract --suri //Alice")]
    Upgrade(Upgrade),
    /// Fix the code of an upgradable contract for ever.
    #[command(after_help = "Example:\n  phala freeze ADDRESS --suri //Alice")]
    Freeze {
        /// Address of the contract.
        address: String,
        /// Who deployed it.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Have a contract go to another cluster, as its deployer. It is read all the time; commands wait until it is there.
    #[command(
        after_help = "Examples:\n  phala move ADDRESS --to 1 --suri //Alice\n  phala move ADDRESS --call-off --suri //Alice      it stays where it is, if it is not yet there"
    )]
    Move(crate::commands::moves::Options),
    /// Have clients believe what a contract answers only if so many replicas agree, as its deployer. Meant for queries
    /// whose answer depends on the state alone: what is random or fetched differs from one to the other.
    #[command(after_help = "Example:\n  phala audit ADDRESS 2 --suri //Alice")]
    Audit {
        /// Address of the contract.
        address: String,
        /// How many, 1 to 7; 1: the one that is asked is believed.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=7))]
        replicas: u32,
        /// Who deployed it.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Show what the chain says of a contract: cluster, code, deployer, and whether its code can change.
    #[command(after_help = "Example:\n  phala contract ADDRESS")]
    Contract {
        /// Address of the contract.
        address: String,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Read from a contract: encrypted, answered by one replica, nothing is changed.
    #[command(
        after_help = "Examples:\n  phala query ADDRESS get\n  phala query ADDRESS PSP22::balance_of //Bob --suri //Alice\n  phala query ADDRESS get --freshness linearizable\n  phala query ADDRESS get --freshness quorum:3"
    )]
    Query(Query),
    /// Write to a contract: encrypted, executed by every replica of its cluster, answered with a receipt.
    #[command(
        after_help = "Examples:\n  phala send ADDRESS flip\n  phala send ADDRESS PSP22::transfer //Bob 100 [] --suri //Alice\n  phala send ADDRESS pay --value 2.5\n  phala send ADDRESS flip --dry-run"
    )]
    Send(Send),
    /// Show what a command would cost and answer, without sending it: `send --dry-run`.
    #[command(after_help = "Example:\n  phala cost ADDRESS flip")]
    Cost(Call),
    /// Show what a contract said: its events, and what it logged.
    #[command(
        after_help = "Examples:\n  phala logs ADDRESS\n  phala logs ADDRESS --follow --json\n  phala logs ADDRESS --queries"
    )]
    Logs(Logs),
    /// Show an account: address, balance on the chain and in a cluster, nonce; or make a new one.
    #[command(after_help = "Examples:\n  phala account //Alice\n  phala account --new")]
    Account {
        /// A name such as //Alice, an address, or a phrase in --suri form; not needed with --new.
        account: Option<String>,
        /// Make a new account and print its 12 words.
        #[arg(long)]
        new: bool,
        /// Cluster whose ledger is shown, too.
        #[arg(long, default_value_t = 0)]
        cluster: u32,
        /// Who reads the cluster's ledger, unless the account is named by its secret: it, or the contract's owner.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Show a cluster: its members, what their machines are worth, and what contracts may use.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  phala cluster\n  phala cluster policy --set memory=256MiB --set query=1min --suri //Worker//0\n  phala cluster drain //Worker//2 --suri //Worker//2\n  phala cluster resize 7 --suri //Worker//0\n  phala cluster readers 2 --suri //Worker//0"
    )]
    Cluster {
        /// Number of the cluster.
        #[arg(default_value_t = 0)]
        cluster: u32,
        /// Which network.
        #[command(flatten)]
        network: Network,
        /// What else to do.
        #[command(subcommand)]
        command: Option<ClusterCommand>,
    },
    /// Send PHA to an account and wait until it is final.
    #[command(after_help = "Example:\n  phala transfer //Bob 12.5 --suri //Alice")]
    Transfer {
        /// Who receives: a name such as //Bob or an address.
        to: String,
        /// How much, in PHA, with up to 12 decimals.
        amount: String,
        /// Who pays.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Move PHA from the chain into a cluster, to your account there, another's, or a contract.
    #[command(
        after_help = "Examples:\n  phala deposit 12.5 --suri //Bob\n  phala deposit 100 --to ADDRESS\n\nAt least 0.0001 PHA."
    )]
    Deposit(Move),
    /// Pay PHA out of a cluster to an account of the chain.
    #[command(
        after_help = "Examples:\n  phala withdraw 5 --suri //Bob\n  phala withdraw 5 --to //Charlie\n\nAt least 0.01 PHA; all of the balance, or leave 0.0001 PHA."
    )]
    Withdraw(Move),
    /// Check what this machine needs to build and run contracts, and say how to mend what is missing.
    Doctor {
        /// Which network to look for.
        #[command(flatten)]
        network: Network,
        /// Do what mends it, as far as this program can.
        #[arg(long)]
        fix: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to do with a cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Show what contracts of a cluster may use, or change it, as the account that made the cluster: on a network of
    /// `phala dev`, //Worker//0.
    #[command(after_help = POLICY)]
    Policy {
        /// Number of the cluster.
        #[arg(default_value_t = 0)]
        cluster: u32,
        /// A limit and its new value; may be given several times.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// Who made the cluster.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Give the queries of a contract so many times the processor time of one of weight 1, as the account that made the
    /// cluster.
    #[command(after_help = "Example:\n  phala cluster weight ADDRESS 4 --suri //Worker//0")]
    Weight {
        /// Address of the contract.
        address: String,
        /// From 1 to 100.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
        weight: u32,
        /// Who made the cluster.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Make a cluster of workers that have registered. Who makes it sets its policy.
    #[command(
        after_help = "Example:\n  phala cluster create //Worker//0 //Worker//1 //Worker//2 //Worker//3 --suri //Alice"
    )]
    Create {
        /// 1, or 4 to 7 workers: names such as //Worker//2 or addresses.
        #[arg(required = true)]
        workers: Vec<String>,
        /// Who makes it.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Have another worker take a member's place, as its operator or the account that made the cluster. Nothing stops
    /// meanwhile; once it is done, the worker can be switched off.
    #[command(after_help = "Example:\n  phala cluster drain //Worker//2 --suri //Worker//2")]
    Drain {
        /// The member: a name such as //Worker//2 or an address.
        worker: String,
        /// Number of the cluster.
        #[arg(long, default_value_t = 0)]
        cluster: u32,
        /// Who asks for it.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Give a cluster another number of members, 4 to 7, as the account that made it.
    #[command(after_help = "Example:\n  phala cluster resize 7 --suri //Worker//0")]
    Resize {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(4..=7))]
        size: u32,
        /// Number of the cluster.
        #[arg(long, default_value_t = 0)]
        cluster: u32,
        /// Who made the cluster.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
    /// Give a cluster so many readers, as the account that made it: idle workers that follow it without a vote and
    /// answer queries. Each one more answers as many more.
    #[command(after_help = "Example:\n  phala cluster readers 2 --suri //Worker//0")]
    Readers {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(0..=32))]
        count: u32,
        /// Number of the cluster.
        #[arg(long, default_value_t = 0)]
        cluster: u32,
        /// Who made the cluster.
        #[command(flatten)]
        signer: Signer,
        /// Which network.
        #[command(flatten)]
        network: Network,
    },
}

const POLICY: &str = "\
Limits and their ranges:
  memory        1MiB to 1GiB     linear memory of one call of a contract
  total-memory  1MiB to 8GiB     linear memory of all calls under way for one contract
  query         10ms to 10min    longest time of a query
  message       64KiB to 16MiB   largest input and output of a query
  code          64KiB to 16MiB   largest code of a contract
  value         1KiB to 1MiB     largest value under a storage key
  depth         1 to 32          contracts under way inside each other
  queries       1 to 256         queries of one contract under way at one replica
  http          0 to 16          HTTP requests of one query at once; 0 forbids them
  jobs          0 to 16384       requests and timers of one contract that may wait
  map           0 to 4096        parts into which a query may split its work
  replace       5s to 1440min    how long a member may be silent before it is replaced
  recover       1min to 10080min how long a cluster may stand still before it goes on without those gone

Example:
  phala cluster policy --set memory=256MiB --set query=1min --suri //Worker//0";

/// Where the network is.
#[derive(Args, Debug, Clone)]
pub(crate) struct Network {
    /// JSON-RPC address of a chain node.
    #[arg(long, default_value = "ws://127.0.0.1:9944", env = "PHALA_URL")]
    pub(crate) url: String,
    /// Genesis hash to insist on; without it the node's is trusted on first use.
    #[arg(long, env = "PHALA_GENESIS")]
    pub(crate) genesis: Option<String>,
}

/// Who signs.
#[derive(Args, Debug, Clone)]
pub(crate) struct Signer {
    /// Secret of the account: //Alice … //Ferdie on a devnet, 12 words, or 0x and 64 hex digits.
    /// Prefer the environment variable: arguments can be seen by other users of this machine.
    #[arg(long, default_value = "//Alice", env = "PHALA_SURI", hide_env_values = true)]
    pub(crate) suri: String,
}

/// Options of `dev`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Dev {
    /// Keep the network's data here; by default in a folder that is removed at the end.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Chain nodes that vote.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) validators: u16,
    /// Clusters.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) clusters: u16,
    /// Workers of each cluster: 1, or 4 to 7.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub(crate) workers: u16,
    /// Workers that wait to take the place of one that dies or is drained.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=7))]
    pub(crate) spare: u16,
    /// Port of the JSON-RPC (HTTP and WebSocket); 0 takes a free one.
    #[arg(long, default_value_t = 9944)]
    pub(crate) rpc_port: u16,
    /// Port of the first worker, the others follow; 0 takes free ones.
    #[arg(long, default_value_t = 8000)]
    pub(crate) worker_port: u16,
    /// Let contracts reach this machine and its network over HTTP, not only the internet.
    #[arg(long)]
    pub(crate) allow_private_http: bool,
}

const PARTS: &str = "\
Example, all on one machine; on several ones give their addresses:
  phala network net --validator 127.0.0.1:7000 --workers 4
  phala node --network net/network.json --secret net/secrets/validator-0 --data-dir v0 &
  phala key-service --network net/network.json --secret net/secrets/key-service --data-dir keys --listen 127.0.0.1:7100 &
  phala worker --network net/network.json --secret net/secrets/worker-0 --data-dir w0 --suri //Worker//0 \\
    --keys http://127.0.0.1:7100 --listen 127.0.0.1:8000 --peer 127.0.0.1:7200 &       and so //Worker//1 to //Worker//3
  phala cluster create //Worker//0 //Worker//1 //Worker//2 //Worker//3 --suri //Alice";

/// Options of `network`.
#[derive(Args, Debug, Clone)]
pub(crate) struct NetworkOptions {
    /// Folder for network.json and secrets/.
    pub(crate) folder: PathBuf,
    /// Where a validator listens for the others; once for each.
    #[arg(long, required = true, value_name = "IP:PORT")]
    pub(crate) validator: Vec<SocketAddr>,
    /// For how many workers there is a secret, and an account //Worker//N that owns something.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// Name of the chain.
    #[arg(long, default_value = "Phala Testnet")]
    pub(crate) name: String,
}

/// What all parts of a network need.
#[derive(Args, Debug, Clone)]
pub(crate) struct PartOptions {
    /// The network.json that `phala network` wrote; the same for all.
    #[arg(long)]
    pub(crate) network: PathBuf,
    /// The secret of this part, out of secrets/; no other machine needs it.
    #[arg(long)]
    pub(crate) secret: PathBuf,
    /// Own folder.
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
}

/// Options of `node`.
#[derive(Args, Debug, Clone)]
pub(crate) struct NodeOptions {
    /// Which part.
    #[command(flatten)]
    pub(crate) part: PartOptions,
    /// Where the JSON-RPC (HTTP and WebSocket) listens.
    #[arg(long, default_value = "127.0.0.1:9944", value_name = "IP:PORT")]
    pub(crate) rpc: SocketAddr,
}

/// Options of `key-service`.
#[derive(Args, Debug, Clone)]
pub(crate) struct KeyServiceOptions {
    /// Which part.
    #[command(flatten)]
    pub(crate) part: PartOptions,
    /// JSON-RPC address of a chain node; it is believed only what it proves.
    #[arg(long, default_value = "ws://127.0.0.1:9944", env = "PHALA_URL")]
    pub(crate) url: String,
    /// Where workers ask for keys.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
}

/// Options of `worker`.
#[derive(Args, Debug, Clone)]
pub(crate) struct WorkerOptions {
    /// Which part.
    #[command(flatten)]
    pub(crate) part: PartOptions,
    /// JSON-RPC address of a chain node; it is believed only what it proves.
    #[arg(long, default_value = "ws://127.0.0.1:9944", env = "PHALA_URL")]
    pub(crate) url: String,
    /// The key service.
    #[arg(long, value_name = "URL")]
    pub(crate) keys: String,
    /// Where clients reach this worker.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// Where the other members of its cluster reach it.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) peer: SocketAddr,
    /// Secret of the worker's account.
    #[arg(long, env = "PHALA_SURI", hide_env_values = true)]
    pub(crate) suri: String,
    /// Let contracts reach this machine and its network over HTTP, not only the internet.
    #[arg(long)]
    pub(crate) allow_private_http: bool,
}

/// Options of `demo`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Demo {
    /// Folder with the bundles psp22.contract and ballot.contract (or their built folders).
    #[arg(long, default_value = "target/ink")]
    pub(crate) bundles: PathBuf,
    /// Where the figures are written.
    #[arg(long, default_value = "target/demo.json")]
    pub(crate) out: PathBuf,
    /// Seconds for each measurement under load.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
}

/// Options of `deploy`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Deploy {
    /// The .contract bundle; or a collection.toml, or a folder with one.
    pub(crate) bundle: PathBuf,
    /// Constructor.
    #[arg(default_value = "new")]
    pub(crate) constructor: String,
    /// Arguments of the constructor.
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Makes addresses differ; hex. By default the time.
    #[arg(long)]
    pub(crate) salt: Option<String>,
    /// Cluster to run in; by default the one with the fewest contracts.
    #[arg(long)]
    pub(crate) cluster: Option<u32>,
    /// Most gas the constructor may use.
    #[arg(long, default_value_t = MAX_COMMAND_GAS)]
    pub(crate) gas: u64,
    /// PHA of your balance in the cluster that the contract begins with.
    #[arg(long, default_value = "0")]
    pub(crate) value: String,
    /// Keep the right to replace the code, which everyone can see; `phala freeze` gives it up.
    #[arg(long)]
    pub(crate) upgradable: bool,
    /// Only show what it would cost and whether the constructor succeeds.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `upgrade`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Upgrade {
    /// Address of the contract.
    pub(crate) address: String,
    /// The .contract bundle with the new code.
    pub(crate) bundle: PathBuf,
    /// Do it although the new code reads the storage in another way.
    #[arg(long)]
    pub(crate) force: bool,
    /// Who deployed it.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `test`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Test {
    /// Only tests whose names hold this; what follows `--` goes to the tests.
    pub(crate) arguments: Vec<String>,
    /// Folder of the contract's Cargo.toml.
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// Print a table of the gas that commands used on the real engine.
    #[arg(long)]
    pub(crate) gas: bool,
    /// What goes to the tests.
    #[arg(last = true)]
    pub(crate) last: Vec<String>,
}

/// Options of `watch`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Watch {
    /// Constructor, for the first time.
    #[arg(default_value = "new")]
    pub(crate) constructor: String,
    /// Arguments of the constructor.
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Folder of the contract's Cargo.toml.
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// Begin with a new contract instead of the remembered one.
    #[arg(long)]
    pub(crate) reset: bool,
    /// Upgrade although the new code reads the storage in another way.
    #[arg(long)]
    pub(crate) force: bool,
    /// Cluster to run in; by default the one with the fewest contracts.
    #[arg(long)]
    pub(crate) cluster: Option<u32>,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `send`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Send {
    /// What to send.
    #[command(flatten)]
    pub(crate) call: Call,
    /// Only show what it would cost and answer.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `query`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Query {
    /// What is asked.
    #[command(flatten)]
    pub(crate) call: Call,
    /// How new the state has to be: `any` (as the replica has it, mostly milliseconds behind), `bounded:MS` (the result
    /// of an entry that is at most so many milliseconds old), `linearizable` (with all that was acknowledged to anyone
    /// before), or `quorum:K` (K replicas give the same answer). A replica that has lost the chain for 30 s answers
    /// nothing.
    #[arg(long, default_value = "any")]
    pub(crate) freshness: Wanted,
    /// If replicas contradict each other, or with --anchor the chain: have the chain convict who signed a wrong state.
    /// Everyone can see then that, and when, this contract was asked.
    #[arg(long)]
    pub(crate) blame: bool,
}

/// How new the state has to be that answers, and how many replicas have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What one replica has to have.
    Of(Freshness),
    /// So many replicas that agree.
    Quorum(usize),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `bounded(500)` is as good, where the shell lets it pass.
        let (kind, number) = text.trim_end_matches(')').split_once([':', '(']).unwrap_or((text, ""));
        let wrong = || format!("`{text}` is none of any, bounded:MS, linearizable, quorum:K");
        match (kind, number.is_empty()) {
            ("any", true) => Ok(Self::Of(Freshness::Any)),
            ("linearizable", true) => Ok(Self::Of(Freshness::Linearizable)),
            ("bounded", false) => number.parse().map(|most| Self::Of(Freshness::Bounded(most))).map_err(|_| wrong()),
            ("quorum", false) => number.parse().map(Self::Quorum).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(Freshness::Any) => f.write_str("any"),
            Self::Of(Freshness::Bounded(most)) => write!(f, "bounded:{most}"),
            Self::Of(Freshness::Linearizable) => f.write_str("linearizable"),
            Self::Quorum(members) => write!(f, "quorum:{members}"),
        }
    }
}

/// Options of `query` and `send`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Call {
    /// Address of the contract.
    pub(crate) address: String,
    /// Message, as in the contract's metadata.
    pub(crate) message: String,
    /// Arguments; @FILE stands for the bytes of a file.
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Bundle or metadata; by default what `deploy` remembered for this address.
    #[arg(long)]
    pub(crate) bundle: Option<PathBuf>,
    /// Most gas a command may use.
    #[arg(long, default_value_t = MAX_COMMAND_GAS)]
    pub(crate) gas: u64,
    /// PHA of your balance in the cluster that goes along; a query only looks what would come of it.
    #[arg(long, default_value = "0")]
    pub(crate) value: String,
    /// Also print the receipt.
    #[arg(long)]
    pub(crate) receipt: bool,
    /// Wait until the chain vouches for the entry that the receipt names, half a minute or so.
    #[arg(long)]
    pub(crate) anchor: bool,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `deposit` and `withdraw`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Move {
    /// How much, in PHA, with up to 12 decimals.
    pub(crate) amount: String,
    /// Who receives: a name such as //Bob or an address; by default who signs.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// The cluster; by default that of the contract which receives a deposit, else 0.
    #[arg(long)]
    pub(crate) cluster: Option<u32>,
    /// Who pays.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `logs`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Logs {
    /// Address of the contract.
    pub(crate) address: String,
    /// Go on with what is to come.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Number of the first record; those that were forgotten are skipped.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// What queries said, each to the replica that ran it, instead of what commands said.
    #[arg(long)]
    pub(crate) queries: bool,
    /// Bundle or metadata, for events; by default what `deploy` remembered for this address.
    #[arg(long)]
    pub(crate) bundle: Option<PathBuf>,
    /// Who reads: the owner, or whom the contract allows.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_the_ranges_of_a_policy() {
        for field in phala_primitives::ClusterPolicy::FIELDS {
            assert!(
                super::POLICY.lines().any(|line| line.split_whitespace().next() == Some(field.name)),
                "{}",
                field.name
            );
        }
        assert_eq!(super::POLICY.lines().filter(|line| line.contains(" to ")).count(), 13);
    }

    #[test]
    fn options_may_follow_arguments_which_may_be_negative() {
        use clap::Parser;
        let cli = super::Cli::parse_from(["phala", "send", "ADDRESS", "set", "-5", "x", "--suri", "//Bob", "--json"]);
        let super::Command::Send(super::Send { call, .. }) = cli.command else { panic!("{cli:?}") };
        assert_eq!(
            (call.arguments, call.signer.suri.as_str(), cli.json),
            (vec!["-5".into(), "x".into()], "//Bob", true)
        );
    }
}
