//! Contracts that go from one cluster to another, as the chain orders it.

use super::{
    bridge::{alice, deliver_next, events, free, plain},
    clusters::{certified_by, header, key},
    parcels::{in_pots, inbox, with_two},
    *,
};
use frame_support::{assert_noop, assert_ok};
use pallet_clusters::{AnchorProof, Bridges, Contracts, Error, Event, Leaving, Mailboxes, Population};
use phala_primitives::{
    ClusterId, EntryHeader, Executed,
    bridge::{Crossing, Inbound, Order, Outbound, Package, Parcel, Undelivered, pot},
    limits::{MAX_MOVES, MAX_SEALED},
};

const MAILBOX: [u8; 32] = [5; 32];

/// Delivers what cluster 1, which has one worker, sends next.
fn there(messages: &[Outbound]) {
    let bridge = Bridges::<Runtime>::get(1);
    let mut outbox = bridge.outbox;
    messages.iter().for_each(|message| outbox.push_outbound(&message.hash()));
    let executed = Executed { crossing: Crossing { taken: bridge.taken, outbox }, ..header().executed };
    let header = EntryHeader { cluster: 1, executed, ..header() };
    let finality = certified_by(&header, vec![key(4, 0)], 1);
    let proof = AnchorProof { header, finality }.encode();
    assert_ok!(Clusters::deliver(alice(), 1, proof, messages.to_vec(), vec![]));
}

fn package(contract: Plain, number: u32) -> Outbound {
    Outbound { from: contract, order: Order::Package(Package { contract, number, sealed: vec![1; MAX_SEALED] }) }
}

fn arrived(contract: Plain, number: u32) -> Outbound {
    Outbound { from: contract, order: Order::Arrived { number } }
}

fn let_go(contract: Plain, number: u32, amount: Balance) -> Outbound {
    Outbound { from: contract, order: Order::LetGo { number, amount } }
}

fn place(contract: &Plain) -> (ClusterId, Option<ClusterId>, u32) {
    let record = Contracts::<Runtime>::get(contract).unwrap();
    (record.cluster, record.moving, record.moves)
}

fn with_mailbox(test: impl FnOnce(Plain)) {
    with_two(|contract| {
        there(&[Outbound { from: Plain([0; 32]), order: Order::Mailbox { key: MAILBOX } }]);
        test(contract);
    });
}

#[test]
fn a_contract_goes_step_by_step_with_its_money() {
    with_mailbox(|contract| {
        assert_ok!(Clusters::move_contract(alice(), contract, Some(1)));
        assert_eq!(place(&contract), (0, Some(1), 1));
        let leave = Inbound::Leave { contract, number: 1, to: 1, mailbox: MAILBOX };
        assert_eq!(inbox(0).pop(), Some(leave));
        // What is said too early, of another move, or by another cluster, changes nothing.
        there(&[package(contract, 1), arrived(contract, 2), let_go(contract, 1, 0)]);
        deliver_next(&[package(contract, 2), arrived(contract, 1), let_go(contract, 1, PHA)]);
        assert_eq!((inbox(1), place(&contract), in_pots()), (vec![], (0, Some(1), 1), (10 * PHA, 0)));
        deliver_next(&[package(contract, 1)]);
        let Order::Package(sent) = package(contract, 1).order else { panic!() };
        assert_eq!(inbox(1), [Inbound::Arrive { from: 0, package: sent }]);
        there(&[arrived(contract, 1)]);
        assert_eq!((place(&contract), Leaving::<Runtime>::get(contract)), ((1, None, 1), Some((0, 1))));
        assert_eq!(inbox(0).pop(), Some(Inbound::Left { contract, number: 1 }));
        assert_eq!([0, 1].map(Population::<Runtime>::get), [0, 1]);
        assert_noop!(Clusters::move_contract(alice(), contract, None), Error::<Runtime>::NotMoving);
        assert_noop!(Clusters::move_contract(alice(), contract, Some(0)), Error::<Runtime>::Moving);
        deliver_next(&[let_go(contract, 1, 7 * PHA)]);
        let begin = Inbound::Begin { contract, number: 1, amount: 7 * PHA };
        assert_eq!((inbox(1).pop(), in_pots()), (Some(begin), (3 * PHA, 7 * PHA)));
        // Once.
        deliver_next(&[let_go(contract, 1, PHA)]);
        assert_eq!((inbox(1).len(), in_pots()), (2, (3 * PHA, 7 * PHA)));
        let told = events().into_iter().any(|event| event == Event::ContractMoved { address: contract, cluster: 1 });
        assert!(told && free(&pot(1)) > 0);
    });
}

#[test]
fn only_the_deployer_moves_a_contract_and_only_where_it_can_be() {
    with_mailbox(|contract| {
        let bob = RuntimeOrigin::signed(account("//Bob"));
        assert_noop!(Clusters::move_contract(bob, contract, Some(1)), Error::<Runtime>::NotDeployer);
        assert_noop!(Clusters::move_contract(alice(), Plain([9; 32]), Some(1)), Error::<Runtime>::NoContract);
        assert_noop!(Clusters::move_contract(alice(), contract, Some(0)), Error::<Runtime>::Moving);
        assert_noop!(Clusters::move_contract(alice(), contract, Some(7)), Error::<Runtime>::NoCluster);
        assert_noop!(Clusters::move_contract(alice(), contract, None), Error::<Runtime>::NotMoving);
        assert_ok!(Clusters::move_contract(alice(), contract, Some(1)));
        assert_noop!(Clusters::move_contract(alice(), contract, Some(1)), Error::<Runtime>::Moving);
        Mailboxes::<Runtime>::remove(1);
        assert_ok!(Clusters::move_contract(alice(), contract, None));
        assert_noop!(Clusters::move_contract(alice(), contract, Some(1)), Error::<Runtime>::NoMailbox);
    });
}

#[test]
fn a_move_that_is_called_off_is_over_for_both() {
    with_mailbox(|contract| {
        assert_ok!(Clusters::move_contract(alice(), contract, Some(1)));
        deliver_next(&[package(contract, 1)]);
        assert_ok!(Clusters::move_contract(alice(), contract, None));
        let off = Some(Inbound::CalledOff { contract, number: 1 });
        assert_eq!((inbox(0).pop(), inbox(1).pop(), place(&contract)), (off.clone(), off, (0, None, 1)));
        there(&[arrived(contract, 1)]);
        deliver_next(&[package(contract, 1), let_go(contract, 1, PHA)]);
        assert_eq!((place(&contract), inbox(1).len(), in_pots().1), ((0, None, 1), 2, 0));
        assert_ok!(Clusters::move_contract(alice(), contract, Some(1)));
        assert_eq!(place(&contract), (0, Some(1), 2));
    });
}

#[test]
fn so_many_contracts_move_at_once_and_no_more() {
    with_mailbox(|_| {
        let contract = |salt: u8| {
            let code = Hash([6; 32]);
            assert_ok!(Clusters::create_contract(alice(), 0, code, vec![salt], false));
            phala_primitives::records::contract_address(&plain("//Alice"), 0, &code, &[salt])
        };
        let all: Vec<_> = (1..=MAX_MOVES as u8 + 1).map(contract).collect();
        let (last, rest) = all.split_last().unwrap();
        for contract in rest {
            assert_ok!(Clusters::move_contract(alice(), *contract, Some(1)));
        }
        assert_noop!(Clusters::move_contract(alice(), *last, Some(1)), Error::<Runtime>::TooManyMoves);
        assert_ok!(Clusters::move_contract(alice(), rest[0], None));
        assert_ok!(Clusters::move_contract(alice(), *last, Some(1)));
        assert_noop!(Clusters::move_contract(alice(), rest[0], Some(1)), Error::<Runtime>::TooManyMoves);
        deliver_next(&[package(*last, 1)]);
        there(&[arrived(*last, 1)]);
        deliver_next(&[let_go(*last, 1, 0)]);
        assert_ok!(Clusters::move_contract(alice(), rest[0], Some(1)));
    });
}

#[test]
fn what_comes_for_a_contract_goes_to_where_it_is() {
    with_mailbox(|contract| {
        assert_ok!(Clusters::move_contract(alice(), contract, Some(1)));
        deliver_next(&[package(contract, 1)]);
        there(&[arrived(contract, 1)]);
        // A parcel to where it was is told so; its own withdrawal that failed, and what comes back, find it.
        let parcel = Parcel { cluster: 0, contract, value: PHA, sealed: vec![7] };
        let mut record = Contracts::<Runtime>::get(contract).unwrap();
        let (sender, code) = (Plain([8; 32]), record.code_hash);
        record.cluster = 0;
        Contracts::<Runtime>::insert(sender, phala_primitives::records::ContractRecord { code_hash: code, ..record });
        let failed = Outbound { from: contract, order: Order::Withdraw { to: contract, amount: 100 * PHA } };
        deliver_next(&[Outbound { from: sender, order: Order::Parcel(parcel) }, failed]);
        let (why, amount) = (Undelivered::Moving { contract }, 100 * PHA);
        let told = inbox(0);
        let (bounced, returned) = (told.iter().nth_back(1), told.last());
        assert_eq!(bounced, Some(&Inbound::SentBack { to: sender, amount: PHA, number: 1, why }));
        // The pot does not hold so much: the news stays where the money would be.
        assert_eq!(returned, Some(&Inbound::Returned { to: contract, amount, number: 2 }));
        let why = Undelivered::Failed;
        let back = Order::SendBack { cluster: 0, to: contract, amount: PHA, number: 9, why };
        deliver_next(&[Outbound { from: sender, order: back }]);
        assert_eq!(inbox(1).pop(), Some(Inbound::SentBack { to: contract, amount: PHA, number: 9, why }));
        assert_eq!(in_pots(), (9 * PHA, PHA));
        assert_noop!(Clusters::deposit(alice(), 0, contract, PHA), Error::<Runtime>::NoContract);
        assert_ok!(Clusters::deposit(alice(), 1, contract, PHA));
        assert_ok!(Clusters::send_message(alice(), contract, vec![], 0));
        assert!(matches!(inbox(1).pop(), Some(Inbound::Call { .. })));
    });
}
