//! Machines with wires between them: network namespaces, and a program instead of a switch.
//!
//! Each machine is a network namespace with an address of its own on one TUN device. This process holds the other ends,
//! carries every packet from one to the other, and does to it what its wire does: it arrives late, or never. A wire has two
//! directions, which are cut and mended each for itself. Packets of one direction keep their order. (`tc netem` would do,
//! where the kernel has it; this needs namespaces and TUN alone, and tells what it did.)
//!
//! The machine with number 0 is the namespace of this process.

use crate::tun;
use anyhow::{Context, Result, bail, ensure};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Largest packet, in bytes.
const PACKET: usize = 1 << 16;
/// Packets on all wires at once; what is more is lost.
const ON_THE_WAY: usize = 1 << 16;
const PREFIX: &str = "phala-";

/// What a direction of a wire does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// How long one is on its way at least.
    pub delay: Duration,
    /// How much longer at most.
    pub jitter: Duration,
    /// How many of a million are lost.
    pub lost: u32,
}

/// One on its way; the earliest first, and those of one time as they came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    due: Instant,
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

struct Air {
    flying: BinaryHeap<Reverse<Flying>>,
    wires: Vec<Vec<Wire>>,
    /// When the last packet of each direction arrives.
    last: Vec<Vec<Instant>>,
    random: u64,
    number: u64,
    ended: bool,
}

struct Hub {
    air: Mutex<Air>,
    news: Condvar,
    ends: Vec<File>,
    first: Ipv4Addr,
    carried: AtomicU64,
    lost: AtomicU64,
}

/// Namespaces with wires between them. They go with this value.
pub struct Wires {
    hub: Arc<Hub>,
    names: Vec<String>,
    device: String,
    threads: Vec<JoinHandle<()>>,
}

fn run(command: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(command).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command} cannot be run"))?;
    ensure!(
        output.status.success(),
        "{command} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The program `ip`. It lies where the path of a user may not lead.
fn program() -> &'static str {
    ["/usr/sbin/ip", "/sbin/ip"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("ip")
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(program(), arguments)
}

/// Removes namespaces that killed processes left.
fn remove_left() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Its turn comes again.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

impl Wires {
    /// Makes so many machines, all of whose wires are alike. What is random comes from the seed.
    ///
    /// Errors: if this process may not make namespaces or TUN devices, or the system has none.
    pub fn new(machines: usize, wire: Wire, seed: u64) -> Result<Self> {
        ensure!(machines < 200, "too many machines");
        remove_left();
        let pid = std::process::id();
        let first = Ipv4Addr::new(10, 200 + (pid % 50) as u8, (pid / 50 % 250) as u8, 1);
        let (mut ends, mut names) = (vec![], vec![]);
        // Whatever was made goes again if the rest cannot be.
        let mut undo = Undo(vec![]);
        for machine in 0..=machines {
            let device = format!("ph{pid}-{machine}");
            ends.push(tun::open(&device).with_context(|| format!("making the TUN device {device}"))?);
            let address = format!("{}/24", address(first, machine));
            if machine == 0 {
                ip(&["addr", "add", &address, "dev", &device])?;
                ip(&["link", "set", &device, "txqueuelen", "5000", "up"])?;
                continue;
            }
            let name = format!("{PREFIX}{pid}-{machine}");
            ip(&["netns", "add", &name])?;
            undo.0.push(name.clone());
            ip(&["link", "set", &device, "netns", &name])?;
            ip(&["-n", &name, "addr", "add", &address, "dev", &device])?;
            ip(&["-n", &name, "link", "set", &device, "txqueuelen", "5000", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            names.push(name);
        }
        undo.0.clear();
        let air = Air {
            flying: BinaryHeap::new(),
            wires: vec![vec![wire; machines + 1]; machines + 1],
            last: vec![vec![Instant::now(); machines + 1]; machines + 1],
            random: seed,
            number: 0,
            ended: false,
        };
        let hub = Arc::new(Hub {
            air: Mutex::new(air),
            news: Condvar::new(),
            ends,
            first,
            carried: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let mut threads = vec![];
        for machine in 0..=machines {
            let hub = hub.clone();
            threads.push(thread::spawn(move || hub.take(machine)));
        }
        let deliverer = hub.clone();
        threads.push(thread::spawn(move || deliverer.deliver()));
        Ok(Self { hub, names, device: format!("ph{pid}-0"), threads })
    }

    /// Address of a machine.
    pub fn address(&self, machine: usize) -> IpAddr {
        address(self.hub.first, machine).into()
    }

    /// What to put before a command so that it runs on a machine.
    pub fn on(&self, machine: usize) -> Result<Vec<String>> {
        let Some(name) = machine.checked_sub(1).and_then(|index| self.names.get(index)) else { bail!("no machine") };
        Ok([program(), "netns", "exec", name].map(str::to_owned).into())
    }

    /// Changes one direction of a wire.
    pub fn set(&self, from: usize, to: usize, wire: Wire) {
        if let Some(direction) = self.hub.air().wires.get_mut(from).and_then(|wires| wires.get_mut(to)) {
            *direction = wire;
        }
    }

    /// How many packets arrived, and how many were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.hub.carried.load(Ordering::Relaxed), self.hub.lost.load(Ordering::Relaxed))
    }
}

struct Undo(Vec<String>);

impl Drop for Undo {
    fn drop(&mut self) {
        for name in &self.0 {
            // An error was reported already.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn address(first: Ipv4Addr, machine: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + machine as u32)
}

impl Hub {
    fn air(&self) -> MutexGuard<'_, Air> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a machine sends, until its device goes.
    fn take(&self, from: usize) {
        let Some(mut end) = self.ends.get(from) else { return };
        let mut buffer = vec![0; PACKET];
        while let Ok(length) = end.read(&mut buffer) {
            let packet = &buffer[..length];
            // IPv4 has its destination in these bytes; whatever else there is goes nowhere.
            let Some(&[a, b, c, d]) = packet.get(16..20).filter(|_| packet[0] >> 4 == 4) else { continue };
            let to = u32::from(Ipv4Addr::new(a, b, c, d)).wrapping_sub(u32::from(self.first)) as usize;
            let mut air = self.air();
            if to >= self.ends.len() {
                continue;
            }
            if air.send(from, to, packet) {
                self.news.notify_one();
            } else {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands packets over when they are due.
    fn deliver(&self) {
        let mut air = self.air();
        while !air.ended {
            let now = Instant::now();
            match air.flying.peek().map(|Reverse(next)| next.due) {
                Some(due) if due <= now => {
                    let Some(Reverse(flying)) = air.flying.pop() else { continue };
                    drop(air);
                    if let Some(mut end) = self.ends.get(flying.to) {
                        // A device whose queue is full loses it, as any would.
                        let _ = end.write(&flying.packet);
                    }
                    self.carried.fetch_add(1, Ordering::Relaxed);
                    air = self.air();
                }
                Some(due) => {
                    air = self.news.wait_timeout(air, due - now).map_or_else(|e| e.into_inner().0, |woken| woken.0);
                }
                None => air = self.news.wait(air).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Air {
    /// Whether the packet is on its way.
    fn send(&mut self, from: usize, to: usize, packet: &[u8]) -> bool {
        let wire = self.wires[from][to];
        if self.below(1_000_000) < u64::from(wire.lost) || self.flying.len() >= ON_THE_WAY {
            return false;
        }
        let late = Duration::from_micros(self.below(wire.jitter.as_micros() as u64 + 1));
        let due = (Instant::now() + wire.delay + late).max(self.last[from][to]);
        self.last[from][to] = due;
        self.number += 1;
        self.flying.push(Reverse(Flying { due, number: self.number, to, packet: packet.to_vec() }));
        true
    }

    /// The next random number below `bound` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.hub.air().ended = true;
        self.hub.news.notify_all();
        for (index, name) in self.names.iter().enumerate() {
            // Without the device, whoever reads from it ends; then nothing is left of the namespace.
            let device = format!("{}{}", self.device.trim_end_matches('0'), index + 1);
            let _ = ip(&["-n", name, "link", "del", &device]);
            let _ = ip(&["netns", "del", name]);
        }
        let _ = ip(&["link", "del", &self.device]);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
