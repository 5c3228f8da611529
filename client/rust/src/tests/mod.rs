//! The client against a chain and a cluster that misbehave as they are told.

mod fakes;

use crate::{Account, Action, Chain, Cluster, Contract, Scope, Session};
use fakes::{Behaviour, CONTRACT, FakeChain, FakeCluster};
use futures::future::join_all;
use phala_primitives::{
    AccountId, Code, Hash,
    misbehaviour::{Ballot, DoubleVote, Misbehaviour, Vote},
    records::{Anchor, ContractRecord},
    storage,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

struct Setup {
    chain: Arc<FakeChain>,
    cluster: Arc<FakeCluster>,
    contract: Contract,
}

/// A cluster of four that behave like this, and a client that asks the first one first.
async fn setup(behaviours: [Behaviour; 4]) -> Setup {
    let chain = FakeChain::start().await;
    let cluster = FakeCluster::start(&chain, behaviours).await;
    let connection = Arc::new(Chain::connect(&chain.url(), Some(chain.genesis())).await.unwrap());
    let credentials = Account::from_suri("//Alice").unwrap().certify(&connection, Scope::All, Duration::from_secs(60));
    let contract = Contract::find(connection, CONTRACT, credentials).await.unwrap();
    contract.cluster().prefer(0);
    Setup { chain, cluster, contract }
}

#[tokio::test]
async fn another_genesis_is_refused() {
    let chain = FakeChain::start().await;
    let error = Chain::connect(&chain.url(), Some(Hash([1; 32]))).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::GenesisChanged));
}

#[tokio::test]
async fn a_chain_that_goes_back_is_not_believed() {
    let setup = setup([Behaviour::Honest; 4]).await;
    let chain = setup.contract.cluster().chain();
    chain.refresh().await.unwrap();
    setup.chain.set_number(1);
    assert_eq!(chain.contract(&CONTRACT).await.unwrap_err().known(), Some(Code::StaleHead));
}

#[tokio::test]
async fn a_node_that_shows_the_past_is_not_believed() {
    let setup = setup([Behaviour::Honest; 4]).await;
    let cluster = setup.contract.cluster();
    setup.chain.set_number(11);
    setup.chain.set_age(50_000);
    cluster.roster(true).await.unwrap();
    setup.chain.set_number(12);
    setup.chain.set_age(70_000);
    let stale = |error: phala_primitives::Coded| assert_eq!(error.known(), Some(Code::StaleNode), "{error}");
    stale(cluster.roster(true).await.unwrap_err());
    // Nor one that shows the present of one thing only.
    setup.chain.set_age(0);
    setup.chain.set_number(100);
    setup.chain.split(1_000_000, 80);
    stale(cluster.roster(true).await.unwrap_err());
    let late = Arc::new(Chain::connect(&setup.chain.url(), Some(setup.chain.genesis())).await.unwrap());
    let credentials = Account::from_suri("//Bob").unwrap().certify(&late, Scope::All, Duration::from_secs(60));
    stale(Cluster::connect(late, 0, credentials).await.unwrap_err());
}

#[tokio::test]
async fn queries_pass_over_the_dead_the_unready_and_liars() {
    let setup = setup([Behaviour::Dead, Behaviour::NotReady, Behaviour::WrongAnswer, Behaviour::Honest]).await;
    let answered = setup.contract.query(vec![1, 2, 3]).await.unwrap();
    assert_eq!((answered.output.data, answered.worker), (vec![3, 2, 1], setup.cluster.worker(3)));
    // The one that answered is asked first from now on.
    setup.contract.query(vec![4]).await.unwrap();
    assert_eq!(setup.cluster.asked(2), 1);
}

#[tokio::test]
async fn a_new_contract_is_found_though_the_first_replica_does_not_know_it() {
    let setup = setup([Behaviour::Behind, Behaviour::Dead, Behaviour::Behind, Behaviour::Honest]).await;
    let cluster: &Arc<Cluster> = setup.contract.cluster();
    let session = Session::open(cluster).await.unwrap();
    assert_eq!(session.replica().worker, setup.cluster.worker(0));
    let (first, second) = tokio::join!(session.query(CONTRACT, vec![1, 2]), session.query(CONTRACT, vec![3, 4]));
    assert_eq!((first.unwrap().output.data, second.unwrap().output.data), (vec![2, 1], vec![4, 3]));
    cluster.prefer(0);
    assert_eq!(setup.contract.query(vec![1, 2]).await.unwrap().worker, setup.cluster.worker(3));
}

#[tokio::test]
async fn a_command_is_executed_once_though_the_first_replica_swallows_the_outcome() {
    let setup = setup([Behaviour::Swallows, Behaviour::Honest, Behaviour::Honest, Behaviour::Honest]).await;
    let executed = setup.contract.call(vec![1, 2], 1000).await.unwrap();
    assert_eq!(executed.outcome.result.unwrap().data, vec![2, 1]);
    assert_eq!((setup.cluster.executions(), executed.worker), (1, setup.cluster.worker(1)));
}

#[tokio::test]
async fn an_outcome_without_a_quorum_is_not_believed() {
    let setup = setup([Behaviour::NoQuorum; 4]).await;
    let error = setup.contract.call(vec![1], 1000).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::BadReceipt), "{error}");
}

#[tokio::test]
async fn a_contract_may_want_several_replicas_to_agree() {
    let setup = setup([Behaviour::Honest, Behaviour::Dead, Behaviour::Honest, Behaviour::Honest]).await;
    let record = ContractRecord::new(0, Hash::ZERO, AccountId::default(), false);
    setup.chain.put(storage::contract(&CONTRACT), ContractRecord { audit: 3, ..record.clone() });
    assert_eq!(setup.contract.query(vec![1, 2]).await.unwrap().output.data, [2, 1]);
    assert_eq!([0, 2, 3].map(|replica| setup.cluster.asked(replica)), [1; 3]);
    let session = Session::open(setup.contract.cluster()).await.unwrap();
    assert_eq!(session.query(CONTRACT, vec![1, 2]).await.unwrap().output.data, [2, 1]);

    let lied = crate::tests::setup([Behaviour::Invents, Behaviour::Honest, Behaviour::Dead, Behaviour::Dead]).await;
    lied.chain.put(storage::contract(&CONTRACT), ContractRecord { audit: 2, ..record });
    let error = lied.contract.query(vec![1, 2]).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::Contradiction), "{error}");
}

#[tokio::test]
async fn who_makes_up_a_state_has_signed_what_convicts_it() {
    let setup = setup([Behaviour::Invents, Behaviour::Honest, Behaviour::Honest, Behaviour::Honest]).await;
    let cluster = setup.contract.cluster();
    setup.contract.call(vec![1, 2], 1000).await.unwrap();
    cluster.prefer(0);
    let error = cluster.query_quorum(CONTRACT, vec![1], 0, 4).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::Contradiction), "{error}");
    let (proofs, None) = cluster.proofs().await else { panic!("an answer could not be looked at") };
    let [(worker, proof)] = proofs.as_slice() else { panic!("{proofs:?}") };
    assert_eq!(*worker, setup.cluster.worker(0));
    let members = cluster.members(3).await.unwrap();
    assert_eq!(proof.verify(&setup.chain.genesis(), 0, &members), Ok(()));
    assert_eq!(cluster.proofs().await, (vec![], None), "they were looked at");
    cluster.prefer(1);
    let honest = cluster.query(CONTRACT, vec![1]).await.unwrap();
    assert_eq!((honest.worker, cluster.blame(&honest).await.unwrap()), (setup.cluster.worker(1), None));
    let alice = Account::from_suri("//Alice").unwrap();
    let forged = Misbehaviour::Votes(DoubleVote {
        identity: proof.identity(),
        epoch: 3,
        view: 1,
        first: Vote { ballot: Ballot::Nullify, signature: [0; 64] },
        second: Vote { ballot: Ballot::Nullify, signature: [0; 64] },
    });
    let error = cluster.chain().convict(&alice, 0, &forged).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::NothingProven));
    setup.chain.put(storage::offence(&proof.offence(0)), 7u32);
    let error = cluster.chain().convict(&alice, 0, proof).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::AlreadyConvicted));
}

#[tokio::test]
async fn who_knows_of_more_than_was_recovered_is_told_once() {
    let setup = setup([Behaviour::Honest; 4]).await;
    for _ in 0..3 {
        setup.contract.call(vec![1, 2], 1000).await.unwrap();
    }
    let cluster = setup.contract.cluster();
    let begin = |epoch, height| {
        let floor = Anchor { height, digest: Hash([1; 32]) };
        setup.cluster.begin(&setup.chain, epoch, floor);
    };
    begin(4, 3);
    cluster.roster(true).await.unwrap();
    begin(5, 2);
    let error = cluster.roster(true).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::HistoryLost), "{error}");
    cluster.roster(true).await.unwrap();
    begin(6, 2);
    cluster.roster(true).await.unwrap();
    // It does not wait for what is lost.
    assert_eq!(cluster.query_of(CONTRACT, vec![]).min_height, 2);
}

#[tokio::test]
async fn a_session_carries_many_requests_and_goes_on_elsewhere_when_it_breaks() {
    let setup = setup([Behaviour::Dead, Behaviour::Honest, Behaviour::Honest, Behaviour::Honest]).await;
    let cluster: &Arc<Cluster> = setup.contract.cluster();
    let session = Session::open(cluster).await.unwrap();
    assert_eq!(session.replica().worker, setup.cluster.worker(1));
    let only = Session::open_at(cluster, &setup.cluster.worker(1)).await.unwrap();
    let answers = join_all((0..50u8).map(|i| session.query(CONTRACT, vec![i, 7]))).await;
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().output.data, vec![7, i as u8]);
    }
    let command = cluster.sign(Action::Call { contract: CONTRACT, data: vec![5, 6] }, 1000);
    assert_eq!(session.send(&command).await.unwrap().outcome.result.unwrap().data, vec![6, 5]);
    setup.cluster.kill(1);
    let error = only.query(CONTRACT, vec![1]).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::NoReplica), "{error}");
    // The same command again, elsewhere.
    let again = session.send(&command).await.unwrap();
    assert_eq!((again.outcome.result.unwrap().data, setup.cluster.executions()), (vec![6, 5], 1));
    assert_ne!(again.worker, setup.cluster.worker(1));
    let answers = join_all((0..2u8).map(|i| session.query(CONTRACT, vec![i]))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.worker != setup.cluster.worker(1))));
    assert_ne!(session.replica().worker, setup.cluster.worker(1));
}

#[tokio::test]
async fn a_session_whose_replica_hangs_costs_a_second_once() {
    let setup = setup([Behaviour::Hangs, Behaviour::Honest, Behaviour::Honest, Behaviour::Honest]).await;
    let cluster: &Arc<Cluster> = setup.contract.cluster();
    let session = Session::open(cluster).await.unwrap();
    assert_eq!(session.replica().worker, setup.cluster.worker(0));
    // It was asked by session only: over HTTP it would answer.
    cluster.prefer(1);
    let (started, command) = (Instant::now(), Action::Call { contract: CONTRACT, data: vec![8, 9] });
    let executed = session.send(&cluster.sign(command, 1000)).await.unwrap();
    assert_eq!((executed.outcome.result.unwrap().data, executed.worker), (vec![9, 8], setup.cluster.worker(1)));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let started = Instant::now();
    let answers = join_all((0..2u8).map(|i| session.query(CONTRACT, vec![i, 7]))).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!((setup.cluster.executions(), setup.cluster.asked(0)), (1, 1));
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_when_replicas_break_off() {
    let setup = setup([Behaviour::Drops, Behaviour::Dead, Behaviour::Drops, Behaviour::Drops]).await;
    let mut follow = setup.contract.cluster().follow(CONTRACT, 7);
    for number in 7..20 {
        assert_eq!(follow.next().await.unwrap().number, number);
    }
    assert_eq!(follow.position(), 20);
    let asked = [0, 2, 3].map(|replica| setup.cluster.asked(replica));
    assert!(asked.iter().filter(|asked| **asked > 0).count() > 1, "{asked:?}");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let setup = setup([Behaviour::Honest; 4]).await;
    let cluster = setup.contract.cluster();
    let (chain, nobody) = (cluster.chain().clone(), AccountId([9; 32]));
    let credentials = Account::from_suri("//Bob").unwrap().certify(&chain, Scope::All, Duration::from_secs(60));
    let error = Contract::find(chain.clone(), nobody, credentials.clone()).await.unwrap_err();
    assert_eq!(error.known(), Some(Code::NoContract));
    assert_eq!(Cluster::connect(chain, 5, credentials).await.unwrap_err().known(), Some(Code::NoSuchCluster));
    assert_eq!(cluster.contract(nobody).query(vec![]).await.unwrap_err().known(), Some(Code::NoContract));
}
