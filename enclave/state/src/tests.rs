use crate::*;
use phala_primitives::Hash;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

mod reseal;

/// A disk that can lose what was not synced, and be tampered with.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Disk {
    /// What may be left: of what was not synced, any sectors.
    fn torn(&self, random: &mut Random) -> Self {
        let (now, synced) = self.0.lock().unwrap().clone();
        let mut left = synced;
        left.resize(now.len().max(left.len()), 0);
        for (old, new) in left.chunks_mut(512).zip(now.chunks(512)).filter(|(old, new)| old[..new.len()] != **new) {
            if random.below(2) == 0 {
                old[..new.len()].copy_from_slice(new);
            }
        }
        Self::with(left)
    }

    /// What is left when the machine dies now.
    fn crash(&self) -> Self {
        let synced = self.0.lock().unwrap().1.clone();
        Self(Arc::new(Mutex::new((synced.clone(), synced))))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }

    fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((bytes.clone(), bytes))))
    }

    fn flip(&self, at: usize) {
        self.0.lock().unwrap().0[at] ^= 1;
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        let from = disk.0.get(offset as usize..offset as usize + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.1 = disk.0.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let to = disk.0.get_mut(offset as usize..offset as usize + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(data);
        Ok(())
    }
}

fn keys() -> StateKeys {
    keys_of([(1, 2)])
}

/// The keys of these epochs, by the byte that they are made of.
fn keys_of(epochs: impl IntoIterator<Item = (u64, u8)>) -> StateKeys {
    StateKeys::new([1; 32], [3; 32], epochs.into_iter().map(|(epoch, key)| (epoch, [key; 32])))
}

fn open(disk: &Disk) -> State {
    State::open(disk.clone(), keys()).unwrap()
}

fn commit(state: &State, changes: Changes, durability: Durability) -> Hash {
    let height = state.applied().height + 1;
    state.commit(Commit { height, digest: Hash([height as u8; 32]), changes, durability, ..Commit::default() }).unwrap()
}

fn set(space: u8, key: &[u8], value: &[u8]) -> Changes {
    BTreeMap::from([(([space; 32], key.to_vec()), Some(value.to_vec()))])
}

/// xorshift64*, so that a failing run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn changes(&mut self, count: u64) -> Changes {
        (0..count)
            .map(|_| {
                let place = ([self.below(3) as u8; 32], vec![self.below(60) as u8]);
                let value = (self.below(4) > 0).then(|| vec![self.below(256) as u8; self.below(9000) as usize]);
                (place, value)
            })
            .collect()
    }
}

#[test]
fn follows_a_map_through_random_commits_crashes_and_reopens() {
    for seed in 1..=6 {
        let mut random = Random(seed * 7919);
        let mut disk = Disk::default();
        let mut state = open(&disk);
        let mut history = vec![BTreeMap::<([u8; 32], Vec<u8>), Vec<u8>>::new()];
        let mut roots = vec![state.applied().root];
        for _ in 0..40 {
            let count = random.below(12);
            let changes = random.changes(count);
            let mut model = history.last().unwrap().clone();
            for (place, value) in &changes {
                match value {
                    Some(value) => model.insert(place.clone(), value.clone()),
                    None => model.remove(place),
                };
            }
            let durability = if random.below(5) == 0 { Durability::Durable } else { Durability::Fast };
            let before = state.snapshot();
            roots.push(commit(&state, changes, durability));
            for (place, value) in history.last().unwrap().iter().take(5) {
                assert_eq!(before.get(&place.0, &place.1).unwrap().as_ref(), Some(value), "seed {seed}");
            }
            history.push(model);
            drop(before);
            if random.below(8) == 0 {
                let durable = state.durable_height() as usize;
                disk = disk.crash();
                state = open(&disk);
                history.truncate(durable + 1);
                roots.truncate(durable + 1);
            }
            let model = history.last().unwrap();
            let snapshot = state.snapshot();
            assert_eq!(snapshot.applied().height as usize, history.len() - 1, "seed {seed}");
            assert_eq!(snapshot.applied().root, *roots.last().unwrap(), "seed {seed}");
            for space in 0..3u8 {
                for key in 0..60u8 {
                    let held = snapshot.get(&[space; 32], &[key]).unwrap();
                    assert_eq!(held.as_ref(), model.get(&([space; 32], vec![key])), "seed {seed}");
                }
            }
            let mut told = BTreeMap::new();
            for space in 0..3u8 {
                let mut after = None;
                while let Some(items) = Some(snapshot.items(&[space; 32], after.as_ref(), 40).unwrap())
                    && let Some((last, _)) = items.last()
                {
                    after = Some(*last);
                    told.extend(items.into_iter().map(|(_, item)| ((item.space, item.key), item.value)));
                }
            }
            assert_eq!(told, *model, "seed {seed}");
            let nodes = snapshot.node_count();
            assert!(nodes <= model.len() + 1, "{nodes} nodes for {} values, seed {seed}", model.len());
        }
    }
}

#[test]
fn the_root_tells_content_not_history() {
    let (left, right) = (open(&Disk::default()), open(&Disk::default()));
    assert_eq!(left.applied().root, EMPTY_ROOT);
    let mut random = Random(99);
    let all: Changes = random.changes(80).into_iter().filter(|(_, value)| value.is_some()).collect();
    for (place, value) in &all {
        commit(&left, BTreeMap::from([(place.clone(), value.clone())]), Durability::Fast);
    }
    commit(&right, set(7, b"passing", b"by"), Durability::Fast);
    commit(&right, all.clone(), Durability::Fast);
    assert_ne!(left.applied().root, right.applied().root);
    commit(&right, BTreeMap::from([(([7; 32], b"passing".to_vec()), None)]), Durability::Fast);
    assert_eq!(left.applied().root, right.applied().root);
    // Some come and some go at once.
    let mixed = open(&Disk::default());
    commit(&mixed, set(7, b"passing", b"by"), Durability::Fast);
    let mut both = all.clone();
    both.insert(([7; 32], b"passing".to_vec()), None);
    commit(&mixed, both, Durability::Fast);
    assert_eq!(left.applied().root, mixed.applied().root);
    commit(&right, all.keys().map(|place| (place.clone(), None)).collect(), Durability::Fast);
    assert_eq!(right.applied().root, EMPTY_ROOT);
    commit(&right, all, Durability::Fast);
    assert_eq!(left.applied().root, right.applied().root);
}

#[test]
fn a_commit_must_follow_the_last_and_leaves_nothing_behind_when_refused() {
    let state = open(&Disk::default());
    let at = |height| Commit { height, digest: Hash::ZERO, changes: set(1, b"k", b"v"), ..Commit::default() };
    assert!(matches!(state.commit(at(0)), Err(StateError::Height { .. })));
    state.commit(at(5)).unwrap();
    for height in [4, 5, 7] {
        assert!(matches!(state.commit(at(height)), Err(StateError::Height { applied: 5, .. })));
    }
    assert_eq!(state.applied().height, 5);
}

#[test]
fn a_space_is_emptied_by_its_paths_and_old_roots_are_remembered() {
    let state = open(&Disk::default());
    commit(&state, set(1, b"kept", b"v"), Durability::Fast);
    let (clean, note) = (state.applied().root, b"note".to_vec());
    commit(&state, (0..9u8).map(|key| (([7; 32], vec![key]), Some(vec![key]))).collect(), Durability::Fast);
    for left in [9, 4] {
        let paths = state.snapshot().paths(&[7; 32], 5).unwrap();
        assert_eq!(paths.len(), left.min(5));
        let (height, removals) = (state.applied().height + 1, paths.into_iter().map(|p| ([7; 32], p)).collect());
        state.commit(Commit { height, removals, note: note.clone(), ..Commit::default() }).unwrap();
    }
    let snapshot = state.snapshot();
    assert!(snapshot.paths(&[7; 32], 5).unwrap().is_empty() && !snapshot.contains(&[7; 32], &[3]).unwrap());
    assert!(snapshot.contains(&[1; 32], b"kept").unwrap());
    assert_eq!((snapshot.applied().root, snapshot.note()), (clean, note.as_slice()));
    assert_eq!((snapshot.root_at(1).unwrap(), snapshot.root_at(4).unwrap()), (Some(clean), Some(clean)));
    assert_eq!(snapshot.root_at(5).unwrap(), None);
}

#[test]
fn what_lies_on_the_disk_shows_nothing() {
    let disk = Disk::default();
    let state = open(&disk);
    let canary = b"canary: nobody outside may read this";
    for durability in [Durability::Fast, Durability::Durable] {
        commit(&state, set(0xab, canary, &canary.repeat(300)), durability);
    }
    drop(state);
    let bytes = disk.bytes();
    assert!(!bytes.windows(8).any(|window| canary.starts_with(window) || window == [0xab; 8]));
    assert!(!bytes.windows(4).any(|window| window == b"redb"));
    assert_eq!(open(&disk).snapshot().get(&[0xab; 32], canary).unwrap().unwrap(), canary.repeat(300));
}

#[test]
fn altered_bytes_are_an_error_and_never_other_data() {
    let disk = Disk::default();
    let state = open(&disk);
    let value = vec![5u8; 3000];
    for key in 0..40u8 {
        commit(&state, set(1, &[key], &value), Durability::Durable);
    }
    drop(state);
    let clean = disk.bytes();
    let mut refused = 0;
    for at in (0..clean.len()).step_by(1733) {
        let disk = Disk::with(clean.clone());
        disk.flip(at);
        match State::open(disk, keys()) {
            Err(StateError::Altered(_)) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
            // The byte lies in a block that is not in use, or in the older slot of the header.
            Ok(state) => {
                for key in 0..40u8 {
                    assert_eq!(state.snapshot().get(&[1; 32], &[key]).unwrap().as_ref(), Some(&value));
                }
            }
        }
    }
    assert!(refused > 20, "{refused} of {}", clean.len() / 1733);
}

#[test]
fn blocks_of_an_earlier_commit_are_refused_while_open_and_on_opening() {
    let disk = Disk::default();
    let state = open(&disk);
    commit(&state, set(1, b"balance", &[1; 2000]), Durability::Durable);
    let early = disk.bytes();
    for _ in 0..12 {
        commit(&state, set(1, b"balance", &[2; 2000]), Durability::Durable);
    }
    drop(state);
    let late = disk.bytes();
    let (data, stride) = (sealed::DATA as usize, sealed::STRIDE);
    let blocks = (late.len() - data) / stride;
    for block in 0..blocks {
        let at = data + block * stride;
        let Some(old) = early.get(at..at + stride).filter(|old| **old != late[at..at + stride]) else { continue };
        let mut mixed = late.clone();
        mixed[at..at + stride].copy_from_slice(old);
        match State::open(Disk::with(mixed), keys()) {
            Err(StateError::Altered(_)) => {}
            Err(other) => panic!("block {block}: {other}"),
            Ok(state) => assert_eq!(state.snapshot().get(&[1; 32], b"balance").unwrap(), Some(vec![2; 2000])),
        }
    }
    // The whole file rolled back is a consistent earlier state, and says so.
    assert_eq!(open(&Disk::with(early)).applied().height, 1);
}

#[test]
fn another_clusters_keys_are_refused() {
    let disk = Disk::default();
    commit(&open(&disk), set(1, b"k", b"v"), Durability::Durable);
    for other in [keys_of([(1, 9)]), keys_of([(2, 2)]), StateKeys::new([1; 32], [9; 32], [(1, [2; 32])])] {
        assert!(matches!(State::open(disk.clone(), other), Err(StateError::Altered(_))));
    }
    assert!(matches!(State::open(Disk::with(vec![0; 50_000]), keys()), Err(StateError::Altered(_))));
    assert!(matches!(State::open(Disk::with(vec![0; 10]), keys()), Err(StateError::Altered(_))));
}

#[test]
fn proofs_show_presence_and_absence() {
    let state = open(&Disk::default());
    let mut random = Random(5);
    commit(&state, random.changes(50), Durability::Fast);
    commit(&state, set(8, b"here", b"value"), Durability::Fast);
    let (snapshot, root) = (state.snapshot(), state.applied().root);
    let proof = snapshot.prove(&[8; 32], b"here").unwrap();
    assert!(proof.verify(&keys(), &root, &[8; 32], b"here", Some(b"value")));
    assert!(!proof.verify(&keys(), &root, &[8; 32], b"here", Some(b"other")));
    assert!(!proof.verify(&keys(), &root, &[8; 32], b"here", None));
    assert!(!proof.verify(&keys(), &Hash::ZERO, &[8; 32], b"here", Some(b"value")));
    let absent = snapshot.prove(&[8; 32], b"gone").unwrap();
    assert!(absent.verify(&keys(), &root, &[8; 32], b"gone", None));
    assert!(!absent.verify(&keys(), &root, &[8; 32], b"gone", Some(b"value")));
}

#[test]
fn many_commits_do_not_grow_the_file_without_bound() {
    let disk = Disk::default();
    let state = open(&disk);
    let mut random = Random(11);
    let mut sizes = vec![];
    for round in 0..6 {
        for at in 0..200 {
            let durability = if at % 50 == 0 { Durability::Durable } else { Durability::Fast };
            commit(&state, random.changes(6), durability);
        }
        sizes.push(disk.bytes().len());
        assert!(round < 2 || sizes[round] <= 2 * sizes[1], "{sizes:?}");
    }
}

#[test]
fn readers_on_many_threads_see_whole_commits_while_they_go_to_the_disk() {
    const LAST: u64 = 150;
    let disk = Disk::default();
    let state = open(&disk);
    let pair = |n: u64| -> Changes {
        let value = Some(n.to_be_bytes().to_vec());
        // One that stays, and one in each of a hundred places that is there for half of the time.
        let passing = (([3; 32], vec![n as u8 % 100]), (n / 100).is_multiple_of(2).then(|| vec![n as u8]));
        [([1; 32], vec![1]), ([2; 32], vec![2])]
            .map(|place| (place, value.clone()))
            .into_iter()
            .chain([passing])
            .collect()
    };
    commit(&state, pair(0), Durability::Fast);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < LAST {
                        let snapshot = state.snapshot();
                        let left = snapshot.get(&[1; 32], &[1]).unwrap().unwrap();
                        assert_eq!(left, snapshot.get(&[2; 32], &[2]).unwrap().unwrap());
                        let now = u64::from_be_bytes(left.try_into().unwrap());
                        assert!(now >= last);
                        let passing = if now < 100 { now + 1 } else { 199 - now };
                        assert_eq!(snapshot.paths(&[3; 32], 1000).unwrap().len() as u64, passing);
                        assert_eq!(snapshot.root_at(now + 1).unwrap(), Some(snapshot.applied().root));
                        last = now;
                    }
                })
            })
            .collect();
        let settler = scope.spawn(|| {
            while state.durable_height() <= LAST {
                state.settle(|| Ok::<_, StateError>(())).unwrap();
            }
        });
        for n in 1..=LAST {
            commit(&state, pair(n), Durability::Fast);
            let before = state.durable_height();
            while n.is_multiple_of(50) && state.durable_height() == before {
                std::thread::yield_now();
            }
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        settler.join().unwrap();
    });
    assert_eq!((state.unsettled(), open(&disk.crash()).applied()), (0, state.applied()));
}

#[test]
fn what_is_to_be_ahead_of_the_state_on_the_disk_can_be() {
    let disk = Disk::default();
    let state = open(&disk);
    commit(&state, set(1, b"k", b"1"), Durability::Fast);
    let mut called = 0;
    state
        .settle(|| {
            called += 1;
            // What comes now is not part of what is written.
            commit(&state, set(1, b"k", b"2"), Durability::Fast);
            Ok::<_, StateError>(())
        })
        .unwrap();
    assert_eq!((called, state.durable_height(), open(&disk.crash()).applied().height), (1, 1, 1));
    let failed = || StateError::Disk("the log".into());
    assert!(state.settle(|| Err::<(), _>(failed())).is_err());
    commit(&state, set(1, b"k", b"3"), Durability::Fast);
    assert_eq!((state.durable_height(), state.snapshot().get(&[1; 32], b"k").unwrap()), (1, Some(b"3".to_vec())));
    // It goes on with what was left, and then with what came since.
    state.settle(|| Ok::<_, StateError>(())).unwrap();
    assert_eq!((state.durable_height(), state.unsettled()), (3, 0));
    assert_eq!(open(&disk.crash()).snapshot().get(&[1; 32], b"k").unwrap(), Some(b"3".to_vec()));
    state.settle(|| -> Result<(), StateError> { unreachable!("there is nothing to write") }).unwrap();
}

/// Prints what a read and a commit cost here: `cargo test -p phala-state -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a check"]
fn cost() {
    let state = open(&Disk::default());
    let many = |from: u32, count: u32| -> Changes {
        (from..from + count).map(|n| (([1; 32], n.to_be_bytes().to_vec()), Some(vec![n as u8; 64]))).collect()
    };
    for at in 0..20 {
        commit(&state, many(at * 5000, 5000), Durability::Fast);
    }
    commit(&state, many(0, 1), Durability::Durable);
    let start = std::time::Instant::now();
    let mut random = Random(3);
    for _ in 0..100_000 {
        let key = (random.below(100_000) as u32).to_be_bytes();
        assert!(state.snapshot().get(&[1; 32], &key).unwrap().is_some());
    }
    println!("read {:?}", start.elapsed() / 100_000);
    for size in [0, 1, 5, 50] {
        let start = std::time::Instant::now();
        for _ in 0..200 {
            commit(&state, many(random.below(90_000) as u32, size), Durability::Fast);
        }
        println!("commit of {size} values {:?}", start.elapsed() / 200);
    }
}

/// A change of a file: bytes at a place or, without bytes, a length.
type Step = (u64, Option<Vec<u8>>);

/// A disk that remembers each step.
#[derive(Clone, Debug, Default)]
struct Tape(Arc<Mutex<(Vec<u8>, Vec<Step>)>>);

fn step(bytes: &mut Vec<u8>, (at, data): &Step) {
    match data {
        Some(data) => bytes[*at as usize..*at as usize + data.len()].copy_from_slice(data),
        None => bytes.resize(*at as usize, 0),
    }
}

impl Tape {
    fn record(&self, next: Step) {
        let mut tape = self.0.lock().unwrap();
        step(&mut tape.0, &next);
        tape.1.push(next);
    }

    fn length(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }
}

impl StorageBackend for Tape {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.copy_from_slice(&self.0.lock().unwrap().0[offset as usize..offset as usize + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record((len, None));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record((offset, Some(data.to_vec())));
        Ok(())
    }
}

/// A process that is killed has written all up to some step, and of that perhaps a part. What follows is lost, synced or
/// not.
#[test]
fn a_process_killed_at_any_write_leaves_a_store_that_opens() {
    let tape = Tape::default();
    let state = State::open(tape.clone(), keys()).unwrap();
    let made = tape.length();
    // How many steps there were when a height was durable.
    let mut durable = vec![(made, 0)];
    for height in 1..=24u64 {
        let durability = if height % 3 == 0 { Durability::Durable } else { Durability::Fast };
        let values = (0..40u8).map(|key| (([1; 32], vec![key, height as u8]), Some(vec![height as u8; 300])));
        commit(&state, values.collect(), durability);
        if durability == Durability::Durable {
            durable.push((tape.length(), height));
        }
    }
    let steps = tape.0.lock().unwrap().1.clone();
    let mut bytes = vec![];
    for (number, next) in steps.iter().enumerate() {
        if number >= made {
            let least = durable.iter().rev().find(|(steps, _)| *steps <= number).map_or(0, |(_, height)| *height);
            let mut torn = bytes.clone();
            if let (at, Some(data)) = next {
                step(&mut torn, &(*at, Some(data[..data.len() / 2].to_vec())));
            }
            for (cut, left) in [(false, bytes.clone()), (true, torn)] {
                let opened = State::open(Disk::with(left), keys());
                let height = opened
                    .unwrap_or_else(|error| {
                        panic!("step {number} of {}, made {made}, cut {cut}, at {}: {error}", steps.len(), next.0)
                    })
                    .applied()
                    .height;
                assert!(height >= least, "step {number}: at height {height}, {least} was durable");
            }
        }
        step(&mut bytes, next);
    }
}

/// A state that grew through many commits, and one that shrank to a single value.
fn originals() -> Vec<State> {
    let (large, small, empty) = (open(&Disk::default()), open(&Disk::default()), open(&Disk::default()));
    let mut random = Random(21);
    for _ in 0..30 {
        commit(&large, random.changes(40), Durability::Fast);
    }
    let many = (0..6000u32).map(|n| (([9; 32], n.to_be_bytes().to_vec()), Some(vec![n as u8; 20])));
    commit(&large, many.collect(), Durability::Fast);
    commit(&small, set(1, b"only", b"one"), Durability::Fast);
    commit(&small, set(2, b"passing", b"by"), Durability::Fast);
    commit(&small, BTreeMap::from([(([2; 32], b"passing".to_vec()), None)]), Durability::Fast);
    commit(&empty, Changes::new(), Durability::Fast);
    vec![large, small, empty]
}

fn restore(disk: &Disk, outline: &Outline) -> Restore {
    Restore::open(disk.clone(), keys(), outline.clone()).unwrap()
}

#[test]
fn a_state_is_copied_in_pieces_that_are_checked_one_by_one() {
    for original in originals() {
        let snapshot = original.snapshot();
        let (outline, root) = (snapshot.outline().unwrap(), snapshot.applied().root);
        assert_eq!(outline.root(), Some(root));
        assert_eq!(codec::DecodeAll::decode_all(&mut codec::Encode::encode(&outline).as_slice()), Ok(outline.clone()));
        // In an order of its own, and with the death of the process in between.
        let mut disk = Disk::default();
        let mut copy = restore(&disk, &outline);
        let mut missing = copy.missing().unwrap();
        missing.sort_by_key(|piece| piece.wrapping_mul(40503));
        let half = missing.len() / 2;
        for (count, piece) in missing.into_iter().enumerate() {
            if count == half {
                drop(copy);
                disk = disk.crash();
                assert!(matches!(State::open(disk.clone(), keys()), Err(StateError::Altered(_))), "it is not whole");
                copy = restore(&disk, &outline);
            }
            copy.put(&[(piece, snapshot.piece(piece).unwrap())]).unwrap();
        }
        for piece in copy.missing().unwrap() {
            copy.put(&[(piece, snapshot.piece(piece).unwrap())]).unwrap();
        }
        copy.finish(77, Hash([7; 32]), b"note".to_vec()).unwrap();
        let copy = open(&disk.crash());
        assert_eq!(copy.applied(), Applied { height: 77, root, digest: Hash([7; 32]) });
        assert_eq!(copy.snapshot().note(), b"note");
        for space in [[0; 32], [1; 32], [2; 32], [9; 32]] {
            assert_eq!(copy.snapshot().paths(&space, 9999).unwrap(), snapshot.paths(&space, 9999).unwrap());
            assert!(copy.snapshot().values(&space, 9999).unwrap() == snapshot.values(&space, 9999).unwrap());
        }
        // It goes on as the original does.
        let next = || set(3, b"next", b"entry");
        assert_eq!(commit(&copy, next(), Durability::Fast), commit(&original, next(), Durability::Fast));
    }
}

#[test]
fn what_is_not_the_piece_of_the_outline_is_refused() {
    let original = originals().remove(0);
    let (snapshot, disk) = (original.snapshot(), Disk::default());
    let copy = restore(&disk, &snapshot.outline().unwrap());
    let piece = (0..PIECES).find(|piece| snapshot.piece(*piece).unwrap().len() > 2).unwrap();
    let good = snapshot.piece(piece).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<Item>)| {
        let mut items = good.clone();
        change(&mut items);
        items
    };
    let other = snapshot.piece((piece + 1) % PIECES).unwrap();
    let bad = [
        vec![],
        changed(&|items| drop(items.pop())),
        changed(&|items| items.swap(0, 1)),
        changed(&|items| items.push(items[2].clone())),
        changed(&|items| items[0].value.push(0)),
        changed(&|items| items[1].space = [77; 32]),
        changed(&|items| items[1].key.push(1)),
        changed(&|items| items.extend(other.clone())),
    ];
    for (case, items) in bad.into_iter().enumerate() {
        assert!(matches!(copy.put(&[(piece, items)]), Err(StateError::Altered(_))), "case {case}");
    }
    copy.put(&[(piece, good)]).unwrap();
    assert!(!copy.missing().unwrap().contains(&piece));
    assert!(matches!(copy.finish(1, Hash::ZERO, vec![]), Err(StateError::Altered(_))), "pieces are missing");
    let cut = Outline::clone(&snapshot.outline().unwrap());
    let cut: Vec<Subtree> = codec::Decode::decode(&mut codec::Encode::encode(&cut).as_slice()).unwrap();
    let cut: Outline = codec::Decode::decode(&mut codec::Encode::encode(&cut[1..].to_vec()).as_slice()).unwrap();
    assert_eq!(cut.root(), None);
}

#[test]
fn an_older_state_is_brought_up_to_date_by_what_has_changed() {
    let original = originals().remove(0);
    let disk = Disk::default();
    let (before, old) = (original.snapshot(), restore(&disk, &original.snapshot().outline().unwrap()));
    for piece in old.missing().unwrap() {
        old.put(&[(piece, before.piece(piece).unwrap())]).unwrap();
    }
    old.finish(500, Hash([5; 32]), vec![]).unwrap();
    let changes = (0..50u32).map(|n| (([9; 32], n.to_be_bytes().to_vec()), (n % 2 == 0).then(|| vec![1; 9])));
    commit(&original, changes.collect(), Durability::Fast);
    let now = original.snapshot();
    let newer = restore(&disk, &now.outline().unwrap());
    let missing = newer.missing().unwrap();
    assert!((1..=50).contains(&missing.len()), "{} pieces", missing.len());
    for piece in missing {
        newer.put(&[(piece, now.piece(piece).unwrap())]).unwrap();
    }
    newer.finish(900, Hash([9; 32]), vec![]).unwrap();
    let newer = open(&disk);
    assert_eq!(newer.applied().root, now.applied().root);
    assert_eq!(newer.snapshot().paths(&[9; 32], 9999).unwrap().len(), 5975);
    assert_eq!(newer.snapshot().root_at(500).unwrap(), None, "roots of what lay there before are forgotten");
}
