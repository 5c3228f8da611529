//! Key epochs: what is stored is sealed anew while the store is in use, whatever happens meanwhile.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk that fails after so many writes and syncs.
#[derive(Debug)]
struct Dying(Disk, AtomicU64);

impl Dying {
    fn step(&self) -> io::Result<()> {
        let left = self.1.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the machine died"))
    }
}

impl StorageBackend for Dying {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step()?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.0.write(offset, data)
    }
}

fn filled(disk: &Disk) -> (State, BTreeMap<u8, Vec<u8>>) {
    let state = open(disk);
    let mut values = BTreeMap::new();
    for key in 0..60 {
        let value = vec![key; 9000];
        commit(&state, set(1, &[key], &value), Durability::Fast);
        values.insert(key, value);
    }
    commit(&state, Changes::new(), Durability::Durable);
    (state, values)
}

fn holds(state: &State, values: &BTreeMap<u8, Vec<u8>>) {
    for (key, value) in values {
        assert_eq!(state.snapshot().get(&[1; 32], &[*key]).unwrap().as_ref(), Some(value), "{key}");
    }
}

fn sweep(state: &State) {
    while state.reseal(u64::MAX).unwrap() {}
}

/// Epochs of all blocks that were ever written, and of the spare place.
fn epochs(disk: &Disk) -> BTreeMap<u64, usize> {
    let bytes = disk.bytes();
    let mut found = BTreeMap::new();
    for block in
        bytes[sealed::DATA as usize..].chunks_exact(sealed::STRIDE).filter(|block| block.iter().any(|b| *b > 0))
    {
        *found.entry(ring::epoch_of(block)).or_default() += 1;
    }
    found
}

#[test]
fn after_a_sweep_only_the_newest_key_opens_and_is_needed() {
    let disk = Disk::default();
    let (state, values) = filled(&disk);
    let root = state.applied().root;
    assert!(!state.reseal(u64::MAX).unwrap());
    state.rekey(5, &[7; 32]).unwrap();
    state.rekey(4, &[9; 32]).unwrap();
    commit(&state, set(2, b"new", b"value"), Durability::Durable);
    let found = epochs(&disk);
    assert!(found[&1] > 100 && found[&5] > 0 && found.len() == 2, "{found:?}");
    assert_eq!(oldest_epoch(&disk).unwrap(), 1);
    drop(state);

    // Half way, both keys are needed, and it goes on from there.
    let state = State::open(disk.clone(), keys_of([(1, 2), (5, 7)])).unwrap();
    assert!(state.reseal(u64::MAX).unwrap());
    drop(state);
    for lacking in [keys_of([(1, 2)]), keys_of([(5, 7)])] {
        assert!(matches!(State::open(disk.crash(), lacking), Err(StateError::Altered(_))));
    }
    let state = State::open(disk.clone(), keys_of([(1, 2), (5, 7)])).unwrap();
    sweep(&state);
    assert_eq!(epochs(&disk).keys().collect::<Vec<_>>(), [&5]);
    assert_eq!(oldest_epoch(&disk).unwrap(), 5);
    holds(&state, &values);
    drop(state);
    let state = State::open(disk.clone(), keys_of([(5, 7)])).unwrap();
    holds(&state, &values);
    assert_eq!(state.snapshot().get(&[2; 32], b"new").unwrap().as_deref(), Some(&b"value"[..]));
    assert_ne!(state.applied().root, root);
    assert!(matches!(State::open(disk.crash(), keys_of([(1, 2)])), Err(StateError::Altered(_))));
}

#[test]
fn the_root_does_not_depend_on_key_epochs_and_the_caller_may_need_older_keys() {
    let disk = Disk::default();
    let (state, _) = filled(&disk);
    let root = state.applied().root;
    state.rekey(8, &[7; 32]).unwrap();
    while state.reseal(3).unwrap() {}
    assert_eq!((oldest_epoch(&disk).unwrap(), state.applied().root), (3, root));
    for (needed, said) in [(2, 3), (5, 5), (9, 8)] {
        assert!(!state.reseal(needed).unwrap());
        assert_eq!(oldest_epoch(&disk).unwrap(), said);
    }
    drop(state);
    let state = State::open(disk.clone(), keys_of([(8, 7)])).unwrap();
    assert_eq!(state.applied().root, root);
}

#[test]
fn a_machine_that_dies_during_a_sweep_loses_nothing() {
    let disk = Disk::default();
    let (state, values) = filled(&disk);
    let root = state.applied().root;
    drop(state);
    let clean = disk.bytes();
    let mut random = Random(77);
    let mut died = 0;
    for steps in 0.. {
        let disk = Disk::with(clean.clone());
        let dying = Dying(disk.clone(), AtomicU64::new(steps));
        // Opening counts as well.
        let ended = State::open(dying, keys_of([(1, 2), (2, 7)])).is_ok_and(|state| {
            loop {
                match state.reseal(u64::MAX) {
                    Ok(true) => {}
                    Ok(false) => break true,
                    Err(_) => break false,
                }
            }
        });
        died += u32::from(!ended);
        let torn = disk.torn(&mut random);
        let since = oldest_epoch(&torn).unwrap();
        let state =
            State::open(torn.clone(), keys_of([(1, 2), (2, 7)].into_iter().filter(|(epoch, _)| *epoch >= since)));
        let state = state.unwrap_or_else(|error| panic!("{steps} steps: {error}"));
        assert_eq!(state.applied().root, root, "{steps} steps");
        holds(&state, &values);
        sweep(&state);
        drop(state);
        holds(&State::open(torn, keys_of([(2, 7)])).unwrap(), &values);
        if ended {
            break;
        }
    }
    assert!(died > 100, "{died}");
}

#[test]
fn commits_readers_and_further_epochs_go_on_during_a_sweep() {
    let disk = Disk::default();
    let (state, _) = filled(&disk);
    let mut random = Random(5);
    let mut model = BTreeMap::new();
    for epoch in 2..8 {
        state.rekey(epoch, &[epoch as u8; 32]).unwrap();
        for _ in 0..40 {
            let changes = random.changes(5);
            for (place, value) in &changes {
                model.insert(place.clone(), value.clone());
            }
            let before = state.snapshot();
            commit(&state, changes, if random.below(3) == 0 { Durability::Durable } else { Durability::Fast });
            if random.below(4) == 0 {
                state.reseal(u64::MAX).unwrap();
            }
            drop(before);
            let ((space, key), value) = model.iter().nth(random.below(model.len() as u64) as usize).unwrap();
            assert_eq!(state.snapshot().get(space, key).unwrap(), *value);
        }
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for round in 0..40u8 {
                let snapshot = state.snapshot();
                for ((space, key), value) in &model {
                    assert_eq!(snapshot.get(space, key).unwrap(), *value, "round {round}");
                }
            }
        });
        sweep(&state);
        reader.join().unwrap();
    });
    commit(&state, Changes::new(), Durability::Durable);
    drop(state);
    assert_eq!(epochs(&disk).keys().collect::<Vec<_>>(), [&7]);
    let state = State::open(disk, keys_of([(7, 7)])).unwrap();
    for ((space, key), value) in &model {
        assert_eq!(state.snapshot().get(space, key).unwrap(), *value);
    }
}

#[test]
fn a_block_that_was_altered_is_not_sealed_anew() {
    let disk = Disk::default();
    let (state, _) = filled(&disk);
    state.rekey(2, &[7; 32]).unwrap();
    let at = sealed::DATA as usize + 3 * sealed::STRIDE;
    disk.flip(at + 100);
    disk.flip(at + 10);
    let refused = loop {
        match state.reseal(u64::MAX) {
            Ok(true) => {}
            other => break other,
        }
    };
    assert!(matches!(refused, Err(StateError::Altered(_))), "{refused:?}");
}
