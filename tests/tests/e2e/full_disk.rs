//! A worker whose disk is full says so and stops; the others go on, and lose nothing.

use crate::{
    contracts::{self, input, probe},
    harness::{LOG, Net, eventually, get, run},
    person::{GAS, Person, outcome},
};
use phala_client::Session;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Enough to start with, and full after some writes.
const SIZE: &str = "size=6m";
const WRITES: u64 = 400;

/// A small file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it; `None` if this machine does not let us.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "phala-test"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                println!("SKIPPED: no mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED: no mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the process that uses it may be about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_one_worker() {
    run(Duration::from_secs(180), async {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("net");
        let Some(_disk) = SmallDisk::mount(&folder.join("workers/3")) else { return };
        let mut net = Net::start(&folder, LOG);
        let alice = Person::at("Alice", &net).await;
        let bad = alice.deploy(probe(), b"begin".to_vec()).await.unwrap();
        let sick = net.workers().swap_remove(3);
        let failed = |text: &str| text.contains("P3003");

        // Values that do not compress, until the disk is full, and some more.
        let (mut written, mut ready, mut since) = (0u64, (200, String::new()), 0);
        while written < WRITES && since < 20 {
            let mut value = vec![0; 48 << 10];
            getrandom::fill(&mut value).unwrap();
            let key = u128::from(written).to_le_bytes();
            outcome(bad.call(input(contracts::STORE, &[&key[..], &value].concat()), GAS).await.unwrap()).unwrap();
            written += 1;
            ready = get(&format!("{sick}/readyz")).await;
            since += u64::from(ready.0 != 200);
        }
        println!("after {written} writes the worker says: {} {}", ready.0, ready.1.trim());
        assert_ne!(ready.0, 200, "{written} writes of 48 KiB fit on a disk of {SIZE}");
        let log = fs::read_to_string(net.log()).unwrap();
        assert!(failed(&ready.1) || log.lines().any(failed), "neither /readyz nor the log name P3003");
        assert!(failed(&ready.1), "/readyz must name P3003: {}", ready.1);
        assert_eq!(get(&format!("{sick}/livez")).await.0, 200, "its operator can still ask it");

        // The others write, read, and have everything.
        assert!(net.lives());
        for _ in 0..5 {
            outcome(bad.call(input(contracts::COUNT, b""), GAS).await.unwrap()).unwrap();
        }
        let mut serving = 0;
        for (replica, url) in alice.cluster.replicas().iter().zip(net.workers()) {
            assert_eq!(replica.endpoint, url);
            if url == sick {
                assert!(Session::open_at(&alice.cluster, &replica.worker).await.is_err(), "it must not serve");
                continue;
            }
            let session = Session::open_at(&alice.cluster, &replica.worker).await.unwrap();
            eventually("all writes on every replica that lives", Duration::from_secs(10), || async {
                let answer = session.query(bad.address(), input(contracts::COUNTER, b"")).await.unwrap();
                (answer.output.data == 5u64.to_le_bytes()).then_some(())
            })
            .await;
            serving += 1;
        }
        assert_eq!(serving, 3);
    });
}
