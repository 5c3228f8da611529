//! Contracts that are told of events.

use super::{
    bridge::{alice, contract, events, free, plain, record},
    clusters::with_cluster,
    *,
};
use frame_support::{assert_noop, assert_ok, traits::Hooks};
use pallet_clusters::{Bridges, Error, Event, Filter, Inbox, Kind, MAX_TOLD, MAX_WATCHES, Watched, Watches};
use phala_primitives::{bridge::Inbound, limits::MAX_INBOX};

const SELECTOR: [u8; 4] = [0, 0, 0, 3];

/// Pallet and event as they are encoded.
fn kind(event: impl Into<RuntimeEvent>) -> Kind {
    let encoded = event.into().encode();
    (encoded[0], encoded[1])
}

fn transfers() -> Kind {
    let (from, to) = (account("//Alice"), account("//Bob"));
    kind(pallet_balances::Event::<Runtime>::Transfer { from, to, amount: 0 })
}

fn to(who: &Plain) -> Option<Filter> {
    Some(Filter { at: 32, bytes: who.0.to_vec() })
}

fn pay(who: &Plain, amount: Balance) {
    assert_ok!(Balances::transfer_keep_alive(alice(), AccountId::new(who.0).into(), amount));
}

/// What contracts are told at the end of this block.
fn told() -> Vec<Inbound> {
    let before = record().inbox.next;
    <Clusters as Hooks<BlockNumber>>::on_finalize(1);
    (before..record().inbox.next).map(|number| Inbox::<Runtime>::get(0, number).unwrap().message).collect()
}

/// A contract with money on the chain.
fn rich() -> (Plain, RuntimeOrigin) {
    let contract = contract();
    pay(&contract, 100 * PHA);
    (contract, RuntimeOrigin::signed(AccountId::new(contract.0)))
}

#[test]
fn a_contract_is_told_of_what_it_wants_once_and_pays_for_it() {
    with_cluster(|| {
        let (contract, origin) = rich();
        System::reset_events();
        assert_eq!(told(), []);
        assert_ok!(Clusters::watch(origin.clone(), transfers(), to(&contract), SELECTOR));
        assert_eq!(free(&contract), 100 * PHA - WATCH_DEPOSIT);
        pay(&plain("//Bob"), PHA);
        pay(&contract, 2 * PHA);
        pay(&contract, 3 * PHA);
        let all = told();
        let amounts = all.iter().map(|message| {
            let Inbound::Event { contract: whom, selector: SELECTOR, kind, block: 1, missed: 0, data } = message else {
                panic!("{message:?}")
            };
            assert_eq!((whom, *kind), (&contract, transfers()));
            let (from, to, amount) = <(Plain, Plain, Balance)>::decode(&mut data.as_slice()).unwrap();
            assert_eq!((from, to), (plain("//Alice"), contract));
            amount
        });
        assert_eq!(amounts.collect::<Vec<_>>(), [2 * PHA, 3 * PHA]);
        let fee = 105 * PHA - WATCH_DEPOSIT - free(&contract);
        assert!((1..PHA / 100).contains(&fee), "{fee}");
        assert_noop!(Clusters::unwatch(origin.clone(), transfers(), None, SELECTOR), Error::<Runtime>::NoWatch);
        assert_ok!(Clusters::unwatch(origin, transfers(), to(&contract), SELECTOR));
        assert_eq!((told(), free(&contract)), (vec![], 105 * PHA - fee));
        assert_eq!((Watched::<Runtime>::get(), Watches::<Runtime>::get(transfers())), (0, vec![]));
    });
}

#[test]
fn only_contracts_watch_and_only_so_much() {
    with_cluster(|| {
        let (contract, origin) = rich();
        let watch = |origin, at, filter: usize| {
            Clusters::watch(origin, transfers(), Some(Filter { at, bytes: vec![1; filter] }), SELECTOR)
        };
        assert_noop!(watch(alice(), 0, 1), Error::<Runtime>::NoContract);
        assert_noop!(watch(origin.clone(), 0, 65), Error::<Runtime>::FilterTooLong);
        for at in 0..MAX_WATCHES as u16 {
            assert_ok!(watch(origin.clone(), at, 64));
        }
        assert_noop!(watch(origin.clone(), 0, 64), Error::<Runtime>::WatchExists);
        assert_noop!(watch(origin.clone(), 99, 64), Error::<Runtime>::TooManyWatches);
        assert_eq!(free(&contract), 100 * PHA - WATCH_DEPOSIT * Balance::from(MAX_WATCHES));
        // A filter beyond the event's end.
        pay(&contract, PHA);
        assert_eq!(told(), []);
    });
}

#[test]
fn what_finds_no_room_is_counted_and_a_poor_contract_is_left_alone() {
    with_cluster(|| {
        let (contract, origin) = rich();
        assert_ok!(Clusters::watch(origin.clone(), transfers(), None, SELECTOR));
        System::reset_events();
        for _ in 0..MAX_TOLD + 5 {
            pay(&plain("//Bob"), PHA);
        }
        assert_eq!(told().len(), MAX_TOLD as usize);
        System::reset_events();
        pay(&plain("//Bob"), PHA);
        let Some(Inbound::Event { missed: 5, .. }) = told().pop() else { panic!("five were missed") };
        Bridges::<Runtime>::mutate(0, |bridge| bridge.inbox.next += MAX_INBOX / 2);
        assert_eq!(told(), []);
        assert_eq!(Watches::<Runtime>::get(transfers())[0].missed, 1);
        Bridges::<Runtime>::mutate(0, |bridge| bridge.taken = bridge.inbox.next);

        let all = free(&contract) - EXISTENTIAL_DEPOSIT;
        assert_ok!(Balances::transfer_allow_death(origin, account("//Bob").into(), all));
        System::reset_events();
        pay(&plain("//Bob"), PHA);
        assert_eq!(told(), []);
        assert_eq!((Watched::<Runtime>::get(), free(&contract)), (0, EXISTENTIAL_DEPOSIT + WATCH_DEPOSIT));
        assert!(events().contains(&Event::WatchEnded { contract, kind: transfers() }));
    });
}

#[test]
fn contracts_name_calls_and_events_by_these_numbers() {
    run(|| {
        let call = pallet_clusters::Call::<Runtime>::watch { kind: (2, 2), filter: None, selector: SELECTOR };
        assert_eq!(RuntimeCall::Clusters(call).encode()[..2], [11, 50]);
        let call = pallet_clusters::Call::<Runtime>::unwatch { kind: (2, 2), filter: None, selector: SELECTOR };
        assert_eq!(RuntimeCall::Clusters(call).encode()[..2], [11, 51]);
        assert_eq!(transfers(), (2, 2));
    });
}
