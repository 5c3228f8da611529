use super::*;
use crate::{Certificate, Executed, quorum, records::Anchor};
use ed25519_dalek::{Signer as _, SigningKey};

const GENESIS: Hash = Hash([3; 32]);
const CLUSTER: ClusterId = 5;
const EPOCH: u64 = 300;

fn keys() -> Vec<SigningKey> {
    let mut keys: Vec<_> = (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    keys
}

fn members() -> Vec<PublicKey> {
    keys().iter().map(|key| key.verifying_key().to_bytes()).collect()
}

fn proposal(byte: u8) -> Proposal {
    Proposal { parent_view: 6, digest: Hash([byte; 32]) }
}

fn vote(ballot: Ballot, view: u64) -> Vote {
    let mut vote = Vote { ballot, signature: [0; 64] };
    let message = vote.message(&cluster_namespace(&GENESIS, CLUSTER), EPOCH, view);
    vote.signature = keys()[1].sign(&message).to_bytes();
    vote
}

fn double(first: Ballot, second: Ballot) -> DoubleVote {
    let (first, second) = (vote(first, 7), vote(second, 7));
    DoubleVote { identity: members()[1], epoch: EPOCH, view: 7, first, second }
}

fn judge(votes: DoubleVote) -> Result<(), MisbehaviourError> {
    Misbehaviour::Votes(votes).verify(&GENESIS, CLUSTER, &members())
}

#[test]
fn votes_that_exclude_each_other_convict_and_others_do_not() {
    use Ballot::{Finalize, Notarize, Nullify};
    let (one, two) = (proposal(1), proposal(2));
    let moved = Proposal { parent_view: 5, ..one };
    let guilty = [
        (Notarize(one), Notarize(two)),
        (Notarize(one), Notarize(moved)),
        (Finalize(one), Finalize(two)),
        (Nullify, Finalize(one)),
        (Finalize(one), Nullify),
    ];
    for (first, second) in guilty {
        assert_eq!(judge(double(first, second)), Ok(()), "{first:?} {second:?}");
    }
    let innocent = [
        (Notarize(one), Notarize(one)),
        (Finalize(one), Finalize(one)),
        (Nullify, Nullify),
        (Notarize(one), Nullify),
        (Notarize(one), Finalize(one)),
        (Notarize(one), Finalize(two)),
    ];
    for (first, second) in innocent {
        assert_eq!(judge(double(first, second)), Err(MisbehaviourError::NoConflict), "{first:?} {second:?}");
    }
}

#[test]
fn votes_count_only_where_and_as_they_were_given() {
    let good = double(Ballot::Notarize(proposal(1)), Ballot::Notarize(proposal(2)));
    assert_eq!(judge(good.clone()), Ok(()));
    let forged = Err(MisbehaviourError::Signature);
    assert_eq!(judge(DoubleVote { view: 8, ..good.clone() }), forged);
    assert_eq!(judge(DoubleVote { epoch: EPOCH + 1, ..good.clone() }), forged);
    assert_eq!(judge(DoubleVote { identity: members()[0], ..good.clone() }), forged);
    assert_eq!(judge(DoubleVote { second: vote(good.second.ballot, 8), ..good.clone() }), forged);
    // The signature of a vote of another kind.
    let second = Vote { ballot: good.second.ballot, ..vote(Ballot::Finalize(proposal(2)), 7) };
    assert_eq!(judge(DoubleVote { second, ..good.clone() }), forged);
    let proof = Misbehaviour::Votes(good.clone());
    assert_eq!(proof.verify(&GENESIS, CLUSTER + 1, &members()), forged, "of another cluster");
    assert_eq!(proof.verify(&Hash([4; 32]), CLUSTER, &members()), forged, "of another network");
    let stranger = DoubleVote { identity: [9; 32], ..good };
    assert_eq!(judge(stranger), Err(MisbehaviourError::NotMember));
}

fn certified(header: &EntryHeader, signers: usize) -> Finality {
    let mut certificate =
        Certificate { epoch: header.epoch, view: 9, parent_view: 8, digest: header.digest(), votes: vec![] };
    let message = certificate.message(&cluster_namespace(&GENESIS, CLUSTER));
    let votes = keys().into_iter().take(signers).zip(0u16..);
    certificate.votes = votes.map(|(key, index)| (index, key.sign(&message).to_bytes())).collect();
    certificate.into()
}

fn claim() -> QueryClaim {
    QueryClaim {
        contract: AccountId([1; 32]),
        request_id: [2; 16],
        query_hash: Hash([3; 32]),
        cluster: CLUSTER,
        epoch: EPOCH,
        height: 40,
        entry: Hash([4; 32]),
        entry_time_ms: 5,
        state_root: Hash([6; 32]),
        time_ms: 7,
        reply_hash: Hash([8; 32]),
    }
}

fn wrong(claim: Claim, executed: Executed) -> WrongResult {
    let header =
        EntryHeader { executed, ..EntryHeader::genesis(CLUSTER, EPOCH, &Anchor { height: 42, digest: Hash::ZERO }) };
    let signature = keys()[1].sign(&claim.message(&GENESIS)).to_bytes();
    let finality = certified(&header, quorum(4));
    WrongResult { identity: members()[1], claim, signature, header, finality }
}

fn at(height: u64, root: u8) -> Executed {
    Executed { height, state_root: Hash([root; 32]), ..Executed::default() }
}

fn try_result(result: WrongResult) -> Result<(), MisbehaviourError> {
    Misbehaviour::Result(Box::new(result)).verify(&GENESIS, CLUSTER, &members())
}

#[test]
fn a_receipt_convicts_only_if_a_quorum_of_the_same_epoch_says_otherwise() {
    let query = || Claim::Query(claim());
    let guilty = wrong(query(), at(40, 9));
    assert_eq!(try_result(guilty.clone()), Ok(()));
    let entry = EntryHeader::genesis(CLUSTER, EPOCH, &Anchor { height: 40, digest: Hash::ZERO });
    let command = CommandClaim {
        entry,
        index: 1,
        command: Hash([1; 32]),
        state_root: Hash([6; 32]),
        outcome_hash: Hash([2; 32]),
    };
    assert_eq!(try_result(wrong(Claim::Command(Box::new(command)), at(40, 9))), Ok(()));

    assert_eq!(try_result(wrong(query(), at(40, 6))), Err(MisbehaviourError::NoConflict), "it told the truth");
    assert_eq!(try_result(wrong(query(), at(41, 9))), Err(MisbehaviourError::NoConflict), "of another height");
    let early = Claim::Query(QueryClaim { height: 0, ..claim() });
    assert_eq!(try_result(wrong(early, at(0, 9))), Err(MisbehaviourError::NoConflict), "before the first entry");
    let other = Claim::Query(QueryClaim { epoch: EPOCH - 1, ..claim() });
    assert_eq!(try_result(wrong(other, at(40, 9))), Err(MisbehaviourError::Elsewhere), "of another epoch");
    let other = Claim::Query(QueryClaim { cluster: CLUSTER + 1, ..claim() });
    assert_eq!(try_result(wrong(other, at(40, 9))), Err(MisbehaviourError::Elsewhere), "of another cluster");
    let altered = Claim::Query(QueryClaim { state_root: Hash([7; 32]), ..claim() });
    assert_eq!(try_result(WrongResult { claim: altered, ..guilty.clone() }), Err(MisbehaviourError::Signature));
    let alone = WrongResult { finality: certified(&guilty.header, 2), ..guilty.clone() };
    assert!(matches!(try_result(alone), Err(MisbehaviourError::Finality(CertificateError::NoQuorum { .. }))));
    let about = EntryHeader { view: 1, ..guilty.header.clone() };
    let misled = WrongResult { finality: certified(&about, 3), ..guilty };
    assert_eq!(try_result(misled), Err(MisbehaviourError::Elsewhere), "the certificate is over another entry");
}

#[test]
fn an_encoded_proof_is_read_within_its_limit_and_names_the_offence() {
    let proof = Misbehaviour::Votes(double(Ballot::Nullify, Ballot::Finalize(proposal(1))));
    assert_eq!(Misbehaviour::read(&proof.encode()), Some(proof.clone()));
    let votes = proof.encode();
    let long = [votes.as_slice(), &[0]].concat();
    assert_eq!(Misbehaviour::read(&long), None, "something follows");
    assert_eq!(Misbehaviour::read(&vec![0; MAX_MISBEHAVIOUR + 1]), None);
    let offence = Offence { cluster: CLUSTER, epoch: EPOCH, identity: members()[1], kind: OffenceKind::DoubleVote };
    assert_eq!(proof.offence(CLUSTER), offence);
    let proof = Misbehaviour::Result(Box::new(wrong(Claim::Query(claim()), at(40, 9))));
    assert_eq!(proof.offence(CLUSTER), Offence { kind: OffenceKind::WrongResult, ..offence });
    // Frozen: light clients and workers of other versions read it.
    assert_eq!(
        crate::blake2_256(&votes).to_string(),
        "0xee6e3710196fddc6f8f304d4cee8d97068247f6848f4151c17d55bbe731bf22e"
    );
    assert_eq!(
        crate::blake2_256(&proof.encode()).to_string(),
        "0xa760ec0356a1b51479cb55422213d70bb28d860bd02f5266cb82aef19a32f0b6"
    );
}
