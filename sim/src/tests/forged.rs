//! Histories that never happened: each check finds the lie made for it, and nothing in the truth.

use crate::{BOUND_MS, Event, InvariantId, Log, MEMBERS, Villainy, check};
use phala_primitives::Hash;

type History = Vec<(u64, Event)>;

const OUTCOME: Hash = Hash([9; 32]);

/// Two accounts, one transfer of 30, fees of 1 on the chain, everything as it should be.
fn truth() -> History {
    let mut history = vec![];
    let mut at = |ms: u64, event| history.push((ms, event));
    for log in [Log::Chain, Log::Cluster] {
        at(0, Event::Endowed { log, account: 0, amount: 100 });
        at(0, Event::Endowed { log, account: 1, amount: 0 });
    }
    for height in 1..=6 {
        if height == 4 {
            at(40, Event::Healed);
        }
        for log in [Log::Chain, Log::Cluster] {
            for member in 0..MEMBERS as u32 {
                let (digest, root) = (Hash([height as u8; 32]), Some(Hash([100 + height as u8; 32])));
                at(height * 10, Event::Final { log, member, height, digest, root });
                at(height * 10, Event::Height { log, member, height });
            }
        }
    }
    for number in 0..2 {
        at(16, Event::Asked { number });
        if number == 0 {
            at(26, Event::Promised { number });
        }
        for member in 0..MEMBERS as u32 {
            at(95, Event::Called { member, number, times: u64::from(number == 0) });
        }
    }
    for (log, sent, got) in [(Log::Cluster, 3, 2), (Log::Neighbour, 2, 3)] {
        for member in 0..MEMBERS as u32 {
            at(95, Event::Letters { log, member, sent, got, amiss: 0 });
        }
    }
    for log in [Log::Cluster, Log::Neighbour] {
        at(96, Event::Counted { log, acknowledged: 7, counted: 7 });
    }
    for (log, fee) in [(Log::Chain, 1), (Log::Cluster, 0)] {
        let outcome = if log == Log::Chain { Hash::ZERO } else { OUTCOME };
        at(15, Event::Sent { log, number: 0, from: 0, to: 1, amount: 30 });
        at(
            25,
            Event::Acknowledged {
                log,
                number: 0,
                outcome,
                proven: true,
                height: if log == Log::Cluster { 3 } else { 0 },
            },
        );
        for member in 0..MEMBERS as u32 {
            at(90, Event::Found { log, member, number: 0, times: 1, outcome, moved: true });
            at(90, Event::Fees { log, member, account: 0, amount: fee });
            at(90, Event::Balance { log, member, account: 0, amount: 70 - fee });
            at(90, Event::Balance { log, member, account: 1, amount: 30 });
            at(90, Event::Supply { log, member, total: 100 - fee });
        }
    }
    history
}

fn found(history: &History) -> Vec<InvariantId> {
    let mut ids: Vec<_> = check(history).into_iter().map(|violation| violation.invariant).collect();
    ids.dedup();
    ids
}

/// The truth with the first event changed that `lie` changes.
fn with(lie: impl Fn(&mut Event) -> bool) -> Vec<InvariantId> {
    let mut history = truth();
    assert!(history.iter_mut().any(|(_, event)| lie(event)), "nothing to lie about");
    found(&history)
}

#[test]
fn the_truth_is_accepted() {
    assert_eq!(check(&truth()), []);
}

#[test]
fn a_callback_that_is_missing_or_ran_twice_is_found() {
    let lies = [(0, 0), (0, 2), (1, 2)];
    for (of, said) in lies {
        let lie = |event: &mut Event| match event {
            Event::Called { member: 2, number, times } if *number == of => std::mem::replace(times, said) != said,
            _ => false,
        };
        assert_eq!(with(lie), [InvariantId::Callback], "{of} called {said} times");
    }
}

#[test]
fn a_letter_that_is_lost_or_comes_twice_or_too_early_is_found() {
    let lost = |event: &mut Event| match event {
        Event::Letters { log: Log::Neighbour, member: 1, got, .. } => std::mem::replace(got, 2) == 3,
        _ => false,
    };
    assert_eq!(with(lost), [InvariantId::Letter]);
    let twice = |event: &mut Event| match event {
        Event::Letters { log: Log::Cluster, member: 2, amiss, .. } => std::mem::replace(amiss, 1) == 0,
        _ => false,
    };
    assert_eq!(with(twice), [InvariantId::Letter]);
}

#[test]
fn a_call_that_a_move_lost_or_repeated_is_found() {
    for said in [6, 8] {
        let lie = |event: &mut Event| match event {
            Event::Counted { log: Log::Neighbour, counted, .. } => std::mem::replace(counted, said) != said,
            _ => false,
        };
        assert_eq!(with(lie), [InvariantId::Once]);
    }
}

#[test]
fn a_fork_is_found_in_blocks_and_in_states() {
    for of in [Log::Chain, Log::Cluster] {
        let fork = |event: &mut Event| match event {
            Event::Final { log, member: 2, digest, .. } if *log == of => std::mem::replace(digest, OUTCOME) != OUTCOME,
            _ => false,
        };
        assert_eq!(with(fork), [InvariantId::Agreement]);
        let root = |event: &mut Event| match event {
            Event::Final { log, member: 3, root: Some(root), .. } if *log == of => {
                std::mem::replace(root, OUTCOME) != OUTCOME
            }
            _ => false,
        };
        assert_eq!(with(root), [InvariantId::Agreement]);
    }
}

#[test]
fn what_was_acknowledged_and_is_lost_or_altered_is_found() {
    let gone = |event: &mut Event| match event {
        Event::Found { member: 1, times, .. } => std::mem::replace(times, 0) > 0,
        _ => false,
    };
    assert_eq!(with(gone), [InvariantId::Durability]);
    let other = |event: &mut Event| match event {
        Event::Found { log: Log::Cluster, outcome, .. } => std::mem::replace(outcome, Hash([1; 32])) == OUTCOME,
        _ => false,
    };
    assert_eq!(with(other), [InvariantId::Durability]);
}

#[test]
fn a_transfer_that_was_executed_twice_is_found() {
    let twice = |event: &mut Event| match event {
        Event::Found { times, .. } => std::mem::replace(times, 2) == 1,
        _ => false,
    };
    assert_eq!(with(twice), [InvariantId::Once]);
    // The log holds it once, but the balances tell that it moved twice; the sum is right.
    let mut history = truth();
    for (_, event) in &mut history {
        if let Event::Balance { log: Log::Cluster, member: 0, account, amount } = event {
            *amount = if *account == 0 { 40 } else { 60 };
        }
    }
    assert_eq!(found(&history), [InvariantId::Once]);
}

#[test]
fn money_from_nowhere_is_found() {
    let more = |event: &mut Event| match event {
        Event::Supply { total, .. } => std::mem::replace(total, 101) != 101,
        _ => false,
    };
    assert_eq!(with(more), [InvariantId::Supply]);
    let unreported = |event: &mut Event| match event {
        Event::Fees { log: Log::Chain, account: 0, amount, .. } => std::mem::replace(amount, 0) != 0,
        _ => false,
    };
    assert_eq!(with(unreported), [InvariantId::Once, InvariantId::Supply]);
}

#[test]
fn a_height_that_goes_back_is_found() {
    let back = |event: &mut Event| match event {
        Event::Height { member: 3, height, .. } if *height == 2 => std::mem::replace(height, 0) > 0,
        _ => false,
    };
    assert_eq!(with(back), [InvariantId::Heights]);
}

#[test]
fn a_receipt_that_proves_nothing_is_found() {
    let bare = |event: &mut Event| match event {
        Event::Acknowledged { proven, .. } => std::mem::replace(proven, false),
        _ => false,
    };
    assert_eq!(with(bare), [InvariantId::Receipt]);
}

#[test]
fn who_does_not_move_on_or_is_not_answered_is_found() {
    let stuck = |event: &mut Event| match event {
        Event::Stuck { .. } => true,
        Event::Healed => {
            *event = Event::Stuck { what: "something".into() };
            true
        }
        _ => false,
    };
    assert_eq!(with(stuck), [InvariantId::Liveness]);
    for log in [Log::Chain, Log::Cluster] {
        let mut history = truth();
        history
            .retain(|(at, event)| !matches!(event, Event::Height { log: of, member: 1, .. } if *of == log && *at > 30));
        assert_eq!(found(&history), [InvariantId::Liveness]);
        let mut history = truth();
        history.retain(|(_, event)| !matches!(event, Event::Acknowledged { log: of, .. } if *of == log));
        assert_eq!(found(&history), [InvariantId::Liveness]);
        let mut history = truth();
        for (at, event) in &mut history {
            if matches!(event, Event::Acknowledged { log: of, .. } if *of == log) {
                *at += BOUND_MS + 100;
            }
        }
        assert_eq!(found(&history), [InvariantId::Liveness]);
    }
}

#[test]
fn a_villain_that_goes_free_and_blame_of_the_honest_are_found() {
    let with = |events: &[Event]| {
        let mut history = truth();
        history.extend(events.iter().map(|event| (70, event.clone())));
        found(&history)
    };
    let turned = |villainy| Event::Turned { worker: 2, villainy };
    let (proven, convicted) = (Event::Proven { worker: 2 }, Event::Convicted { worker: 2 });
    let lies = turned(Villainy::Notarizes);
    assert_eq!(with(&[lies.clone(), proven.clone(), convicted.clone()]), []);
    assert_eq!(with(&[turned(Villainy::Cloned)]), [], "it may have gone unnoticed");
    assert_eq!(with(&[lies.clone(), proven.clone()]), [InvariantId::Blame]);
    assert_eq!(with(&[proven]), [InvariantId::Blame]);
    assert_eq!(with(&[lies, convicted, Event::Convicted { worker: 3 }]), [InvariantId::Blame]);
}
