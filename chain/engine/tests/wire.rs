//! Engine messages as bytes, and what their signatures hold for.

use std::fmt::Debug;

use bytes::Bytes;
use deepmarket_engine::{
    Address, BlockHeight, Market, PART_BYTES, Part, Proposal, Validators, Value, Vote, VoteSigner, VoteVerifier,
    host::{CommitCertificate, ProposedValue, Round, SignedConsensusMsg, StreamContent, StreamId, StreamMessage, Validity},
    wire::{MarketCodec, Wire, vote_bytes},
};
use deepmarket_types::{Domain, Hash, SecretKey, Signature, encode};
use malachite_app::app::consensus::LivenessMsg;
use malachite_codec::{Codec, HasEncodedLen};
use malachite_core_types::{
    CommitSignature, Context, NilOrVal, PolkaCertificate, PolkaSignature, RoundCertificate, RoundCertificateType, RoundSignature,
    SignedMessage, ThresholdParams, ValidatorProof, VoteType,
};
use malachite_signing::{Signer, Verifier, VerifierExt};
use malachite_sync::{PeerId, RawDecidedValue, Request, Response, Status, ValueRequest, ValueResponse};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn address(n: u8) -> Address {
    Address(key(n).public())
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

fn signer(n: u8) -> VoteSigner {
    VoteSigner { chain: chain(), key: key(n) }
}

fn vote(kind: VoteType, value: NilOrVal<Hash>) -> Vote {
    Vote { kind, height: BlockHeight(7), round: Round::new(2), value, validator: address(1) }
}

fn proposal() -> Proposal {
    Proposal {
        height: BlockHeight(7),
        round: Round::new(2),
        value: Value(Hash::of(b"block")),
        pol_round: Round::Nil,
        proposer: address(1),
    }
}

fn signature(n: u8) -> Signature {
    Signature([n; 64])
}

/// The message survives its bytes; one byte more, one less, or a changed length is refused.
fn round_trips<T: Wire + PartialEq + Debug>(message: T) {
    let bytes = MarketCodec.encode(&message).unwrap();
    assert_eq!(MarketCodec.encoded_len(&message).unwrap(), bytes.len());
    let decode = |bytes: Vec<u8>| <MarketCodec as Codec<T>>::decode(&MarketCodec, Bytes::from(bytes));
    assert_eq!(decode(bytes.to_vec()).unwrap(), message);
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(longer).is_err(), "trailing byte after {message:?}");
    assert!(decode(bytes[..bytes.len() - 1].to_vec()).is_err(), "cut {message:?}");
}

#[test]
fn every_engine_message_survives_its_bytes_and_refuses_others() {
    let hash = Hash::of(b"block");
    let signed_vote = SignedMessage::new(vote(VoteType::Precommit, NilOrVal::Val(hash)), signature(1));
    round_trips(vote(VoteType::Prevote, NilOrVal::Nil));
    round_trips(SignedConsensusMsg::Vote(signed_vote.clone()));
    round_trips(SignedConsensusMsg::Proposal(SignedMessage::new(proposal(), signature(2))));
    let polka = PolkaCertificate::<Market> {
        height: BlockHeight(7),
        round: Round::new(2),
        value_id: hash,
        polka_signatures: vec![PolkaSignature::new(address(1), signature(1))],
    };
    let skip = RoundCertificate::<Market> {
        height: BlockHeight(7),
        round: Round::new(2),
        cert_type: RoundCertificateType::Skip,
        round_signatures: vec![RoundSignature::new(VoteType::Prevote, NilOrVal::Nil, address(3), signature(3))],
    };
    round_trips(polka.clone());
    round_trips(LivenessMsg::Vote(signed_vote));
    round_trips(LivenessMsg::PolkaCertificate(polka));
    round_trips(LivenessMsg::SkipRoundCertificate(skip));
    let init = Part::Init { height: BlockHeight(7), round: Round::new(2), valid_round: Round::Nil, proposer: address(1) };
    for part in [init, Part::Data(vec![5; 1000].into()), Part::Fin { signature: signature(4) }] {
        round_trips(part.clone());
        round_trips(StreamMessage::new(StreamId::new(vec![1; 16].into()), 3, StreamContent::Data(part)));
    }
    round_trips(ValidatorProof::<Market>::new(vec![1; 32], vec![2; 38], signature(5)));
    round_trips(ProposedValue {
        height: BlockHeight(7),
        round: Round::new(2),
        valid_round: Round::new(0),
        proposer: address(1),
        value: Value(hash),
        validity: Validity::Invalid,
    });
    let certificate = CommitCertificate {
        height: BlockHeight(7),
        round: Round::new(2),
        value_id: hash,
        commit_signatures: vec![CommitSignature::new(address(1), signature(1)), CommitSignature::new(address(2), signature(2))],
    };
    round_trips(certificate.clone());
    let extended = Wire::from_form(certificate.to_form()).unwrap();
    let values = vec![RawDecidedValue::<Market>::new(vec![1, 2, 3].into(), extended)];
    round_trips(Response::ValueResponse(ValueResponse::new(BlockHeight(7), values)));
    round_trips(Request::<Market>::ValueRequest(ValueRequest::new(BlockHeight(1)..=BlockHeight(5))));
    round_trips(Status::<Market> {
        peer_id: PeerId::from_bytes(&[&[0, 0x24, 8, 1, 0x12, 0x20], &key(1).public().0[..]].concat()).unwrap(),
        tip_height: BlockHeight(9),
        history_min_height: BlockHeight(1),
    });
}

#[test]
fn a_part_longer_than_allowed_is_refused() {
    let decode = |part: &Part| <MarketCodec as Codec<Part>>::decode(&MarketCodec, MarketCodec.encode(part).unwrap());
    assert!(decode(&Part::Data(vec![0; PART_BYTES].into())).is_ok());
    assert!(decode(&Part::Data(vec![0; PART_BYTES + 1].into())).is_err());
}

#[test]
fn bytes_of_a_vote_never_change() {
    // A golden vector: other bytes would be another protocol.
    let bytes = vote_bytes(&vote(VoteType::Precommit, NilOrVal::Val(Hash([3; 32]))));
    let expected = [&[1][..], &7_u64.to_le_bytes(), &[1], &2_u32.to_le_bytes(), &[1], &[3; 32], &key(1).public().0].concat();
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn a_signature_holds_for_one_kind_of_message_and_one_chain() {
    let verifier = VoteVerifier { chain: chain() };
    let public = key(1).public();
    let signed = signer(1).sign_vote(vote(VoteType::Precommit, NilOrVal::Nil)).await.unwrap();
    let check = async |verifier: &VoteVerifier, vote: &Vote| {
        verifier.verify_signed_vote(vote, &signed.signature, &public).await.unwrap().is_valid()
    };
    assert!(check(&verifier, &signed.message).await);
    assert!(!check(&verifier, &vote(VoteType::Prevote, NilOrVal::Nil)).await);
    assert!(!check(&VoteVerifier { chain: Hash::of(b"other") }, &signed.message).await);

    let signed = signer(1).sign_proposal(proposal()).await.unwrap();
    let check = async |verifier: &VoteVerifier| {
        verifier.verify_signed_proposal(&signed.message, &signed.signature, &public).await.unwrap().is_valid()
    };
    assert!(check(&verifier).await);
    assert!(!check(&VoteVerifier { chain: Hash::of(b"other") }).await);
    // The same bytes signed for another purpose prove nothing.
    let bytes = encode(&signed.message.to_form());
    let as_vote = key(1).sign(Domain::Vote, &chain(), &bytes);
    assert!(!verifier.verify_signed_proposal(&signed.message, &as_vote, &public).await.unwrap().is_valid());
}

#[tokio::test]
async fn a_validator_proof_holds_for_its_key_and_peer() {
    let verifier = VoteVerifier { chain: chain() };
    let proof = signer(1).sign_validator_proof(key(1).public().0.to_vec(), vec![9; 38]).await.unwrap();
    assert!(verifier.verify_validator_proof(&proof).await.unwrap().is_valid());
    let forged = ValidatorProof::<Market>::new(proof.public_key.clone(), vec![8; 38], proof.signature);
    assert!(!verifier.verify_validator_proof(&forged).await.unwrap().is_valid());
    let malformed = ValidatorProof::<Market>::new(vec![1; 3], vec![8; 38], proof.signature);
    assert!(!verifier.verify_validator_proof(&malformed).await.unwrap().is_valid());
}

#[tokio::test]
async fn a_commit_certificate_needs_more_than_two_thirds_of_the_validators() {
    let validators = Validators::new((1..=4).map(|n| key(n).public()));
    let hash = Hash::of(b"block");
    let precommit = async |n: u8| {
        let vote = Market.new_precommit(BlockHeight(7), Round::new(0), NilOrVal::Val(hash), address(n));
        signer(n).sign_vote(vote).await.unwrap()
    };
    let check = async |votes: Vec<SignedMessage<Market, Vote>>| {
        let certificate = CommitCertificate::new(BlockHeight(7), Round::new(0), hash, votes);
        let thresholds = ThresholdParams::default();
        VoteVerifier { chain: chain() }.verify_commit_certificate(&Market, &certificate, &validators, thresholds).await
    };
    let votes = [precommit(1).await, precommit(2).await, precommit(3).await];
    assert!(check(votes.to_vec()).await.is_ok());
    assert!(check(votes[..2].to_vec()).await.is_err());
    assert!(check(vec![votes[0].clone(), votes[1].clone(), votes[1].clone()]).await.is_err());
    assert!(check(vec![votes[0].clone(), votes[1].clone(), precommit(9).await]).await.is_err());
}

#[test]
fn validators_take_turns_and_their_order_is_not_the_documents() {
    let keys: Vec<_> = (1..=4).map(|n| key(n).public()).collect();
    let (one, other) = (Validators::new(keys.clone()), Validators::new(keys.iter().rev().copied()));
    assert_eq!(one, other);
    let mut turns: Vec<_> = (0..4).map(|round| one.proposer(5, round)).collect();
    assert_eq!((one.proposer(5, 1), one.proposer(5, 4)), (one.proposer(6, 0), one.proposer(5, 0)));
    turns.sort();
    let mut sorted = keys;
    sorted.sort();
    assert_eq!(turns, sorted);
}
