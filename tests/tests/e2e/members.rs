//! Members come and go while people write: who dies for good is replaced, who is drained leaves, and a cluster grows.

use crate::{
    failover::{Log, longest_gap, write},
    harness::{Dice, eventually, run},
    person::{Person, token},
};
use phala_client::{Account, Call};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, ClusterPolicy, records::ClusterRecord};
use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

/// Longest time without a write. An epoch pauses writes, and nothing else does.
const PAUSE: Duration = Duration::from_secs(15);

fn worker(index: usize) -> Account {
    Account::from_suri(&format!("//Worker//{index}")).unwrap()
}

/// From which epoch on keys are needed for each state of a worker's in a folder, as the files say.
fn states(folder: &Path) -> Vec<u64> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(states(&path));
        } else if path.ends_with("state") {
            let (mut file, mut start) = (std::fs::File::open(path).unwrap(), [0; 48]);
            if file.read_exact(&mut start).is_ok() && start.starts_with(b"PHALAST2") {
                found.push(u64::from_le_bytes(start[40..].try_into().unwrap()));
            }
        }
    }
    found
}

#[test]
fn members_come_and_go_and_nothing_is_lost() {
    run(Duration::from_secs(300), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config { spare: 3, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let chain = alice.cluster.chain().clone();
        let creator = worker(0);
        let token = alice.deploy_token(1_000_000).await;
        let writers: Vec<(AccountId, Log)> = (0..4).map(|_| (AccountId(dice.bytes()), Log::default())).collect();
        let mut tasks = vec![];
        for (index, (to, log)) in writers.iter().enumerate() {
            let person = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            person.cluster.prefer(index);
            tasks.push(tokio::spawn(write(person.cluster.contract(token.address()), *to, log.clone())));
        }
        let count = |log: &Log| log.lock().unwrap().len();
        let more = |by: usize| {
            let before: Vec<usize> = writers.iter().map(|(_, log)| count(log)).collect();
            let writers = &writers;
            async move {
                eventually("more writes by all", Duration::from_secs(40), || async {
                    let mut pairs = writers.iter().zip(&before);
                    pairs.all(|((_, log), before)| count(log) >= before + by).then_some(())
                })
                .await;
            }
        };
        let members = async |what: &str, has: &dyn Fn(&[AccountId]) -> bool| -> ClusterRecord {
            eventually(what, Duration::from_secs(90), || async {
                let record = chain.cluster(0).await.unwrap().unwrap();
                let workers: Vec<AccountId> = record.members.iter().map(|member| member.worker).collect();
                has(&workers).then_some(record)
            })
            .await
        };
        more(10).await;
        let begin = Instant::now();

        // It is drained, by its operator, while another is away, who comes back with a log that ends below the epoch.
        net.kill_worker(0).unwrap();
        let leaves = worker(1).id();
        eventually("a worker that takes the place", Duration::from_secs(30), || async {
            chain.submit(&worker(1), &Call::drain(0, &leaves)).await.ok()
        })
        .await;
        let drained = Instant::now();
        members("another in its place", &|now| now.len() == 4 && !now.contains(&leaves)).await;
        println!("drained in {:.1} s", drained.elapsed().as_secs_f64());
        more(10).await;
        net.restart_worker(0).await.unwrap();
        more(10).await;

        // It dies for good.
        let policy = ClusterPolicy { replace_ms: 5_000, ..ClusterPolicy::DEFAULT };
        chain.submit(&creator, &Call::set_policy(0, &policy)).await.unwrap();
        let dead = net.kill_worker(3).unwrap();
        let killed = Instant::now();
        let record = members("another in its place", &|now| now.len() == 4 && !now.contains(&dead)).await;
        println!("replaced {:.1} s after its death, epoch {}", killed.elapsed().as_secs_f64(), record.epoch);
        more(10).await;
        // Its operator switches it on again: it finds its place taken, and waits for another.
        net.start_worker(3).await.unwrap();

        // It grows by all that wait, among them those two.
        eventually("all workers to have offered themselves", Duration::from_secs(60), || async {
            chain.submit(&creator, &Call::resize(0, 7)).await.ok()
        })
        .await;
        let grown = Instant::now();
        let record = members("seven members", &|now| now.len() == 7).await;
        println!("grown in {:.1} s, epoch {}", grown.elapsed().as_secs_f64(), record.epoch);
        more(10).await;
        // What those who left knew is of no use any more, not even with the disks of those who stayed.
        eventually("states under the keys of the epoch", Duration::from_secs(40), || async {
            let record = chain.cluster(0).await.unwrap().unwrap();
            let present = states(net.folder()).into_iter().filter(|since| *since == record.epoch).count();
            (present >= record.members.len()).then_some(())
        })
        .await;
        // Those that came are needed and vote: without two of seven the others go on.
        let fallen = net.kill_worker(0).unwrap();
        net.kill_worker(2).unwrap();
        more(10).await;
        assert!(record.members.iter().any(|member| member.worker == fallen));

        for task in tasks {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled(), "a writer failed");
        }
        let gap = writers.iter().map(|(_, log)| longest_gap(&log.lock().unwrap(), begin)).max().unwrap();
        println!("no writer waited longer than {:.2} s", gap.as_secs_f64());
        assert!(gap < PAUSE);
        for (to, log) in &writers {
            let balance = token::balance(&token, to).await;
            let acknowledged = count(log) as u128;
            // One may have been under way when its writer was stopped.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&balance),
                "{acknowledged} acknowledged, {balance} there"
            );
        }
        net.stop().await;
    });
}
