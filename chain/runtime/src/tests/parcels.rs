//! Messages between contracts, as the chain carries them.

use super::{
    bridge::{alice, contract, deliver_next, events, free, plain, record},
    clusters::{key, with_cluster},
    *,
};
use frame_support::assert_ok;
use pallet_clusters::{Bridges, Event, Inbox, Mailboxes, Population};
use phala_primitives::{
    ClusterId,
    bridge::{Inbound, Order, Outbound, Parcel, Undelivered, pot},
    limits::{MAX_INBOX, MAX_SEALED},
};

/// Two clusters of //Alice, the second of one worker; 10 PHA are in the first.
pub(super) fn with_two(test: impl FnOnce(Plain)) {
    with_cluster(|| {
        let contract = contract();
        assert_ok!(register(&worker(4), &key(4, 0)));
        assert_ok!(Clusters::create_cluster(alice(), vec![worker(4)]));
        assert_ok!(Clusters::deposit(alice(), 0, contract, 10 * PHA));
        test(contract);
    });
}

fn parcel(cluster: ClusterId, value: Balance) -> Parcel {
    Parcel { cluster, contract: Plain([8; 32]), value, sealed: vec![7; MAX_SEALED] }
}

fn order(from: Plain, parcel: Parcel) -> Outbound {
    Outbound { from, order: Order::Parcel(parcel) }
}

pub(super) fn inbox(cluster: ClusterId) -> Vec<Inbound> {
    let all = 0..Bridges::<Runtime>::get(cluster).inbox.next;
    all.filter_map(|number| Some(Inbox::<Runtime>::get(cluster, number)?.message)).collect()
}

pub(super) fn in_pots() -> (Balance, Balance) {
    (free(&pot(0)) - EXISTENTIAL_DEPOSIT, free(&pot(1)) - EXISTENTIAL_DEPOSIT)
}

#[test]
fn parcels_arrive_in_their_order_with_sender_and_money() {
    with_two(|from| {
        assert_eq!(in_pots(), (10 * PHA, 0));
        let sent = [parcel(1, 2 * PHA), parcel(1, 0), parcel(0, PHA), parcel(1, PHA)];
        deliver_next(&sent.clone().map(|parcel| order(from, parcel)));
        let arrived = |number: u64| Inbound::Parcel { cluster: 0, number, from, parcel: sent[number as usize].clone() };
        assert_eq!(inbox(1), [arrived(0), arrived(1), arrived(3)]);
        assert_eq!(inbox(0)[1], arrived(2), "its own goes round");
        assert_eq!(in_pots(), (7 * PHA, 3 * PHA));
    });
}

#[test]
fn what_cannot_go_on_comes_back_and_stops_nothing() {
    with_two(|from| {
        // Those who pay have still room.
        Bridges::<Runtime>::mutate(1, |bridge| bridge.inbox.next = MAX_INBOX / 2);
        let (stranger, long) = (plain("//Bob"), Parcel { sealed: vec![0; MAX_SEALED + 1], ..parcel(0, PHA) });
        let tries = [
            (stranger, parcel(0, PHA), Some(Undelivered::Sender)),
            (from, long, Some(Undelivered::Sender)),
            (from, parcel(1, PHA), Some(Undelivered::NoRoom)),
            (from, parcel(2, PHA), Some(Undelivered::NoRoom)),
            (from, parcel(0, PHA), None),
        ];
        deliver_next(&tries.clone().map(|(from, parcel, _)| order(from, parcel)));
        for (number, (to, _, refused)) in (0..).zip(&tries) {
            let message = inbox(0)[1 + number as usize].clone();
            match *refused {
                Some(why) => assert_eq!(message, Inbound::SentBack { to: *to, amount: PHA, number, why }),
                None => assert!(matches!(message, Inbound::Parcel { number: 4, .. })),
            }
        }
        let told = events().into_iter().filter_map(|event| match event {
            Event::ParcelSent { refused, .. } => Some(refused),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), tries.map(|(_, _, refused)| refused));
        assert_eq!(in_pots(), (10 * PHA, 0));
        // A cluster that sends more than it has is broken; it gets its own word back, and nobody else's money.
        Bridges::<Runtime>::mutate(1, |bridge| bridge.inbox.next = 0);
        deliver_next(&[order(from, parcel(1, 11 * PHA))]);
        assert_eq!(in_pots(), (10 * PHA, 0));
        let Some(Inbound::SentBack { why: Undelivered::Money, .. }) = inbox(0).pop() else { panic!() };
        assert!(inbox(1).is_empty());
    });
}

#[test]
fn what_a_cluster_did_not_take_goes_back_even_to_a_full_inbox() {
    with_two(|from| {
        Bridges::<Runtime>::mutate(1, |bridge| bridge.inbox.next = MAX_INBOX);
        let to = plain("//Bob");
        let back = |cluster| {
            let order = Order::SendBack { cluster, to, amount: PHA, number: 5, why: Undelivered::Failed };
            Outbound { from, order }
        };
        deliver_next(&[back(1), back(7), back(1)]);
        let message = Inbound::SentBack { to, amount: PHA, number: 5, why: Undelivered::Failed };
        assert_eq!(inbox(1), [message.clone(), message]);
        assert_eq!(in_pots(), (8 * PHA, 2 * PHA));
        assert_eq!(record().outbox.next, 3);
    });
}

#[test]
fn no_money_comes_to_a_cluster_whose_pot_is_not_open() {
    with_two(|from| {
        assert_ok!(register(&worker(5), &key(5, 0)));
        assert_ok!(Clusters::create_cluster(RuntimeOrigin::root(), vec![worker(5)]));
        deliver_next(&[order(from, parcel(2, PHA)), order(from, parcel(2, 0))]);
        let Some(Inbound::SentBack { amount: PHA, why: Undelivered::Money, .. }) = inbox(0).pop() else { panic!() };
        assert_eq!((inbox(2).len(), free(&pot(2)), in_pots()), (1, 0, (10 * PHA, 0)));
        assert_ok!(Clusters::deposit(alice(), 2, plain("//Bob"), PHA));
        deliver_next(&[order(from, parcel(2, PHA))]);
        assert_eq!((inbox(2).len(), free(&pot(2))), (3, 2 * PHA + EXISTENTIAL_DEPOSIT));
    });
}

#[test]
fn a_cluster_has_its_mailbox_published_and_places_are_counted() {
    with_two(|from| {
        assert!(Mailboxes::<Runtime>::get(0).is_none());
        deliver_next(&[Outbound { from, order: Order::Mailbox { key: [5; 32] } }]);
        assert_eq!((Mailboxes::<Runtime>::get(0), Mailboxes::<Runtime>::get(1)), (Some([5; 32]), None));
        let placed = |cluster| Population::<Runtime>::get(cluster);
        assert_eq!((placed(0), placed(1)), (1, 0));
        assert_ok!(Clusters::create_contract(alice(), 1, Hash([6; 32]), vec![1], false));
        assert_eq!((placed(0), placed(1)), (1, 1));
    });
}
