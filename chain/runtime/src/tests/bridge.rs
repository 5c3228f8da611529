use super::{
    clusters::{certified, header, with_cluster},
    *,
};
use frame_support::{assert_noop, assert_ok};
use pallet_clusters::{AnchorProof, Bridges, Clusters as Stored, Error, Event, Inbox};
use phala_primitives::{
    EntryHeader, Executed,
    bridge::{BridgeRecord, Crossing, Head, Inbound, Letter, Order, Outbound, pot},
    limits::{MAX_CALL_DATA, MAX_DELIVERED, MAX_DISPATCH, MAX_INBOX, MAX_REST, MIN_BALANCE},
};

pub(super) fn plain(uri: &str) -> Plain {
    Plain(account(uri).into())
}

pub(super) fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(account("//Alice"))
}

pub(super) fn free(who: &Plain) -> Balance {
    Balances::free_balance(AccountId::new(who.0))
}

pub(super) fn record() -> BridgeRecord {
    Bridges::<Runtime>::get(0)
}

/// A proof by the first `signers` members of cluster 0 that an entry of its epoch 0 vouches for this traffic.
fn vouched(crossing: Crossing, signers: usize) -> Vec<u8> {
    let executed = Executed { crossing, ..header().executed };
    let header = EntryHeader { executed, ..header() };
    let finality = certified(&header, 0, signers);
    AnchorProof { header, finality }.encode()
}

fn withdraw(to: &Plain, amount: Balance) -> Outbound {
    Outbound { from: Plain([3; 32]), order: Order::Withdraw { to: *to, amount } }
}

/// The outbox after these, from its beginning.
fn outbox(messages: &[Outbound]) -> Head {
    let mut head = Head::default();
    messages.iter().for_each(|message| head.push_outbound(&message.hash()));
    head
}

fn deliver(proof: Vec<u8>, messages: &[Outbound], rest: &[Hash]) -> Result<(), sp_runtime::DispatchError> {
    let by = RuntimeOrigin::signed(account("//Bob"));
    let done = Clusters::deliver(by, 0, proof, messages.to_vec(), rest.to_vec());
    done.map(|info| assert_eq!(info.pays_fee, frame_support::dispatch::Pays::No)).map_err(|failed| failed.error)
}

/// Delivers messages which are all that the cluster sent after those that were delivered.
pub(super) fn deliver_next(messages: &[Outbound]) {
    let mut head = record().outbox;
    messages.iter().for_each(|message| head.push_outbound(&message.hash()));
    let proof = vouched(Crossing { taken: record().taken, outbox: head }, 3);
    assert_ok!(deliver(proof, messages, &[]));
}

pub(super) fn events() -> Vec<Event<Runtime>> {
    let all = System::events().into_iter();
    all.filter_map(|record| if let RuntimeEvent::Clusters(event) = record.event { Some(event) } else { None }).collect()
}

/// A contract of //Alice that the chain has placed in cluster 0.
pub(super) fn contract() -> Plain {
    let code = Hash([6; 32]);
    assert_ok!(Clusters::upload_code(alice(), code, 1000));
    assert_ok!(Clusters::create_contract(alice(), 0, code, vec![], false));
    phala_primitives::records::contract_address(&plain("//Alice"), 0, &code, b"")
}

#[test]
fn a_deposit_fills_the_pot_and_the_inbox() {
    with_cluster(|| {
        let (bob, before) = (plain("//Bob"), free(&plain("//Alice")));
        assert_noop!(Clusters::deposit(alice(), 1, bob, PHA), Error::<Runtime>::NoCluster);
        assert_noop!(Clusters::deposit(alice(), 0, bob, MIN_BALANCE - 1), Error::<Runtime>::TooSmall);
        assert!(Clusters::deposit(alice(), 0, bob, 5_000_000 * PHA).is_err());
        assert_eq!(record(), BridgeRecord::default());
        assert_ok!(Clusters::deposit(alice(), 0, bob, PHA));
        assert_ok!(Clusters::deposit(alice(), 0, bob, MIN_BALANCE));
        // Who created the cluster has paid for the account's existence.
        assert_eq!(free(&pot(0)), PHA + MIN_BALANCE + EXISTENTIAL_DEPOSIT);
        assert_eq!(before - free(&plain("//Alice")), PHA + MIN_BALANCE);
        let mut head = Head::default();
        for (number, amount) in [(0, PHA), (1, MIN_BALANCE)] {
            let message = Inbound::Deposit { to: bob, amount };
            head.push_inbound(&message);
            assert_eq!(Inbox::<Runtime>::get(0, number), Some(Letter { message, head }));
        }
        assert_eq!(record().inbox, head);
    });
}

#[test]
fn a_message_goes_to_where_the_contract_is() {
    with_cluster(|| {
        let contract = contract();
        let send = |to, data: Vec<u8>, value| Clusters::send_message(alice(), to, data, value);
        assert_noop!(send(Plain([1; 32]), vec![], 0), Error::<Runtime>::NoContract);
        assert_noop!(send(contract, vec![0; MAX_CALL_DATA + 1], 0), Error::<Runtime>::MessageTooLong);
        assert_noop!(send(contract, vec![], MIN_BALANCE - 1), Error::<Runtime>::TooSmall);
        assert_ok!(send(contract, vec![7; MAX_CALL_DATA], 0));
        assert_ok!(send(contract, vec![1], PHA));
        let message = Inbound::Call { from: plain("//Alice"), contract, value: PHA, data: vec![1] };
        assert_eq!(Inbox::<Runtime>::get(0, 1).unwrap().message, message);
        assert_eq!(free(&pot(0)), PHA + EXISTENTIAL_DEPOSIT);
    });
}

#[test]
fn an_inbox_is_full_until_the_cluster_has_taken_from_it() {
    with_cluster(|| {
        let bob = plain("//Bob");
        for _ in 0..3 {
            assert_ok!(Clusters::deposit(alice(), 0, bob, MIN_BALANCE));
        }
        // As if there had been more.
        Bridges::<Runtime>::mutate(0, |bridge| bridge.inbox.next = MAX_INBOX);
        assert_noop!(Clusters::deposit(alice(), 0, bob, MIN_BALANCE), Error::<Runtime>::InboxFull);
        let taken = |taken| deliver(vouched(Crossing { taken, outbox: Head::default() }, 3), &[], &[]);
        assert_eq!(taken(0), Err(Error::<Runtime>::NothingNew.into()));
        assert_eq!(taken(MAX_INBOX + 1), Err(Error::<Runtime>::BadProof.into()), "more than there are");
        assert_ok!(taken(2));
        assert_eq!(taken(2), Err(Error::<Runtime>::NothingNew.into()));
        assert!(Inbox::<Runtime>::get(0, 1).is_none() && Inbox::<Runtime>::get(0, 2).is_some());
        assert_ok!(Clusters::deposit(alice(), 0, bob, MIN_BALANCE));
        assert_ok!(taken(MAX_INBOX));
        assert!(record().taken < MAX_INBOX, "a block removes some only");
    });
}

#[test]
fn a_delivery_needs_the_members_word_for_exactly_these_messages() {
    with_cluster(|| {
        assert_ok!(Clusters::deposit(alice(), 0, plain("//Bob"), 10 * PHA));
        let dave = plain("//Dave");
        let all: Vec<_> = (1..=3).map(|n| withdraw(&dave, n * PHA)).collect();
        let crossing = Crossing { taken: 0, outbox: outbox(&all) };
        let proof = vouched(crossing, 3);
        let rest = [all[1].hash(), all[2].hash()];
        let refused = |proof: Vec<u8>, messages: &[Outbound], rest: &[Hash], error: Error<Runtime>| {
            assert_eq!(deliver(proof, messages, rest), Err(error.into()));
        };
        refused(vouched(crossing, 2), &all, &[], Error::BadProof);
        refused(vec![0; 17_000], &all, &[], Error::NoProof);
        refused(proof[..proof.len() - 1].to_vec(), &all, &[], Error::BadProof);
        refused(proof.clone(), &all[..2], &[], Error::OtherMessages);
        refused(proof.clone(), &all[1..], &[], Error::OtherMessages);
        refused(proof.clone(), &[all[1].clone(), all[0].clone(), all[2].clone()], &[], Error::OtherMessages);
        let altered = [withdraw(&dave, 9 * PHA), all[1].clone(), all[2].clone()];
        refused(proof.clone(), &altered, &[], Error::OtherMessages);
        refused(proof.clone(), &[], &[all[0].hash(), rest[0], rest[1]], Error::NothingNew);
        refused(proof.clone(), &vec![all[0].clone(); 65], &[], Error::TooManyMessages);
        refused(proof.clone(), &all, &vec![Hash::ZERO; MAX_REST as usize + 1], Error::TooManyMessages);

        let before = free(&dave);
        assert_ok!(deliver(proof.clone(), &all[..1], &rest));
        assert_eq!((free(&dave) - before, record().outbox.next), (PHA, 1));
        refused(proof.clone(), &all[..1], &rest, Error::OtherMessages);
        refused(proof.clone(), &all, &[], Error::OtherMessages);
        assert_ok!(deliver(proof.clone(), &all[1..], &[]));
        assert_eq!((free(&dave) - before, record().outbox), (6 * PHA, crossing.outbox));
        refused(proof.clone(), &[], &[], Error::NothingNew);
        assert_eq!(free(&pot(0)), 4 * PHA + EXISTENTIAL_DEPOSIT);
        // Members of an epoch that has ended have no say.
        let shown = Stored::<Runtime>::get(0).unwrap().checkpoint.anchor;
        for index in 0..4 {
            let origin = RuntimeOrigin::signed(worker(index));
            assert_ok!(Clusters::rejoin(origin, 0, shown, Some(proof.clone())));
        }
        let more = withdraw(&dave, PHA);
        let mut head = crossing.outbox;
        head.push_outbound(&more.hash());
        refused(vouched(Crossing { taken: 0, outbox: head }, 4), &[more], &[], Error::BadProof);
    });
}

#[test]
fn the_heaviest_delivery_fits_into_a_block() {
    let message = Outbound { from: Plain([3; 32]), order: Order::Dispatch { call: vec![0; MAX_DISPATCH] } };
    let messages = vec![message; MAX_DELIVERED];
    let call = pallet_clusters::Call::deliver { cluster: 0, proof: vec![], messages, rest: vec![] };
    let weight = RuntimeCall::Clusters(call).get_dispatch_info().total_weight();
    let class = config::Weights::get();
    let most = class.get(frame_support::dispatch::DispatchClass::Normal).max_extrinsic;
    assert!(most.is_none_or(|most| weight.all_lte(most)), "{weight:?} of {most:?}");
    assert!(weight.ref_time() < MAX_BLOCK_WEIGHT.ref_time() * 9 / 10, "{weight:?}");
}

#[test]
fn what_cannot_be_paid_goes_back_and_stops_nothing() {
    with_cluster(|| {
        assert_ok!(Clusters::deposit(alice(), 0, plain("//Bob"), 2 * PHA));
        let (nobody, dave) = (Plain([44; 32]), plain("//Dave"));
        let dust = EXISTENTIAL_DEPOSIT - 1;
        let before = free(&dave);
        deliver_next(&[withdraw(&nobody, dust), withdraw(&dave, 3 * PHA), withdraw(&dave, PHA)]);
        assert_eq!((free(&nobody), free(&dave) - before), (0, PHA));
        let returned = |number| Inbox::<Runtime>::get(0, number).unwrap().message;
        assert_eq!(returned(1), Inbound::Returned { to: Plain([3; 32]), amount: dust, number: 0 });
        assert_eq!(returned(2), Inbound::Returned { to: Plain([3; 32]), amount: 3 * PHA, number: 1 });
        let results = events().into_iter().filter_map(|event| match event {
            Event::Withdrawn { number, result, .. } => Some((number, result.is_ok())),
            _ => None,
        });
        assert_eq!(results.collect::<Vec<_>>(), [(0, false), (1, false), (2, true)]);
    });
}

#[test]
fn a_contract_acts_on_the_chain_as_itself_for_a_fee_and_only_as_the_filter_allows() {
    with_cluster(|| {
        let contract = contract();
        let own = AccountId::new(contract.0);
        let order = |from: Plain, call: Vec<u8>| Outbound { from, order: Order::Dispatch { call } };
        let pay = |amount| {
            let dest = account("//Dave").into();
            RuntimeCall::Balances(pallet_balances::Call::transfer_keep_alive { dest, value: amount })
        };
        let batch = |calls| RuntimeCall::Utility(pallet_utility::Call::batch_all { calls });
        let last = || {
            let mut results = events().into_iter().filter_map(|event| match event {
                Event::Dispatched { result, .. } => Some(result),
                _ => None,
            });
            results.next_back().unwrap()
        };
        let dave = plain("//Dave");
        let before = free(&dave);
        let run = |call: &RuntimeCall| {
            deliver_next(&[order(contract, call.encode())]);
            last()
        };
        assert!(run(&pay(PHA)).is_err(), "it owns nothing");
        assert_ok!(Balances::transfer_keep_alive(alice(), own.clone().into(), 10 * PHA));
        assert_ok!(run(&pay(PHA)));
        let fee = 9 * PHA - free(&contract);
        assert!((1..PHA / 100).contains(&fee), "{fee}");
        assert_ok!(run(&batch(vec![pay(PHA), pay(PHA)])));
        assert_eq!(free(&dave) - before, 3 * PHA);
        let deposit = pallet_clusters::Call::deposit { cluster: 0, to: contract, amount: PHA };
        assert_ok!(run(&RuntimeCall::Clusters(deposit)));
        assert_eq!(record().inbox.next, 1);

        let left = free(&contract);
        let code = pallet_clusters::Call::upload_code { code_hash: Hash([1; 32]), size: 1 };
        let filtered = Err(frame_system::Error::<Runtime>::CallFiltered.into());
        assert_eq!(run(&RuntimeCall::Clusters(code.clone())), filtered);
        assert_eq!(run(&batch(vec![pay(PHA), RuntimeCall::Clusters(code)])), filtered);
        assert!(free(&contract) < left, "it pays for the attempt");
        assert_eq!(free(&dave) - before, 3 * PHA, "a batch is done as a whole");
        let mut nested = pay(PHA);
        (0..9).for_each(|_| nested = batch(vec![nested.clone()]));
        assert_eq!(run(&nested), Err(Error::<Runtime>::BadCall.into()));
        for (from, call, error) in [
            (contract, vec![0xff; 9], Error::<Runtime>::BadCall),
            (contract, [pay(PHA).encode(), vec![0]].concat(), Error::BadCall),
            (contract, vec![0; MAX_DISPATCH + 1], Error::MessageTooLong),
            (contract, batch(vec![pay(1); 110]).encode(), Error::CallTooHeavy),
            (plain("//Alice"), pay(PHA).encode(), Error::NoContract),
        ] {
            deliver_next(&[order(from, call)]);
            assert_eq!(last(), Err(error.into()));
        }
        assert_eq!(free(&dave) - before, 3 * PHA);
    });
}
