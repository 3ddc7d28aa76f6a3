//! The bytes of engine messages: borsh of the forms below. They are what validators of one release exchange and what the
//! engine's write-ahead log holds; a commit certificate's form is also kept with its block.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use deepmarket_types::{FormError, Hash, PublicKey, Signature, decode, encode};
use malachite_app::app::{
    consensus::LivenessMsg,
    streaming::{StreamContent, StreamId, StreamMessage},
    types::{ProposedValue, SignedConsensusMsg},
};
use malachite_codec::{Codec, HasEncodedLen};
use malachite_core_types::{
    CommitCertificate, CommitSignature, ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate,
    PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage, ValidatorProof, Validity,
    VoteType,
};
use malachite_sync::{PeerId, RawDecidedValue, Request, Response, Status, ValueRequest, ValueResponse};

use crate::{Address, BlockHeight, Market, PART_BYTES, Part, Proposal, Value, Vote};

/// Why bytes of an engine message were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the canonical bytes of the expected message.
    #[error("an engine message is not canonical: {0}")]
    Form(#[from] FormError),
    /// A field has a value that this release doesn't know, or that no honest peer sends.
    #[error("an engine message has an impossible {0}")]
    Field(&'static str),
}

/// A type with a canonical form.
pub trait Wire: Sized {
    /// What is encoded.
    type Form: BorshSerialize + BorshDeserialize;
    /// To the form.
    fn to_form(&self) -> Self::Form;
    /// From the form.
    fn from_form(form: Self::Form) -> Result<Self, WireError>;
}

/// The codec for all engine messages.
#[derive(Clone, Copy, Debug)]
pub struct MarketCodec;

impl<T: Wire> Codec<T> for MarketCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<T, WireError> {
        T::from_form(decode(&bytes)?)
    }

    fn encode(&self, message: &T) -> Result<Bytes, WireError> {
        Ok(encode(&message.to_form()).into())
    }
}

impl<T: Wire> HasEncodedLen<T> for MarketCodec {
    fn encoded_len(&self, message: &T) -> Result<usize, WireError> {
        Ok(encode(&message.to_form()).len())
    }
}

/// Rounds: none is the engine's nil.
type RoundForm = Option<u32>;
/// Hashes: none is the engine's nil.
type ValueForm = Option<Hash>;

fn nil_or_val(value: ValueForm) -> NilOrVal<Hash> {
    value.map_or(NilOrVal::Nil, NilOrVal::Val)
}

fn value_form(value: &NilOrVal<Hash>) -> ValueForm {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(hash) => Some(*hash),
    }
}

/// A vote: is it a precommit, height, round, value, validator. These bytes are signed (domain `Vote`).
pub type VoteForm = (bool, u64, RoundForm, ValueForm, PublicKey);

impl Wire for Vote {
    type Form = VoteForm;

    fn to_form(&self) -> VoteForm {
        let precommit = self.kind == VoteType::Precommit;
        (precommit, self.height.0, self.round.as_u32(), value_form(&self.value), self.validator.0)
    }

    fn from_form((precommit, height, round, value, validator): VoteForm) -> Result<Self, WireError> {
        Ok(Vote {
            kind: if precommit { VoteType::Precommit } else { VoteType::Prevote },
            height: BlockHeight(height),
            round: Round::from(round),
            value: nil_or_val(value),
            validator: Address(validator),
        })
    }
}

/// The signed bytes of a vote.
pub fn vote_bytes(vote: &Vote) -> Vec<u8> {
    encode(&vote.to_form())
}

/// A proposal: height, round, value, proof-of-lock round, proposer. These bytes are signed (domain `Proposal`).
pub type ProposalForm = (u64, RoundForm, Hash, RoundForm, PublicKey);

impl Wire for Proposal {
    type Form = ProposalForm;

    fn to_form(&self) -> ProposalForm {
        (self.height.0, self.round.as_u32(), self.value.0, self.pol_round.as_u32(), self.proposer.0)
    }

    fn from_form((height, round, value, pol_round, proposer): ProposalForm) -> Result<Self, WireError> {
        Ok(Proposal {
            height: BlockHeight(height),
            round: Round::from(round),
            value: Value(value),
            pol_round: Round::from(pol_round),
            proposer: Address(proposer),
        })
    }
}

/// The signed bytes of a proposal.
pub fn proposal_bytes(proposal: &Proposal) -> Vec<u8> {
    encode(&proposal.to_form())
}

impl<T: Wire> Wire for SignedMessage<Market, T> {
    type Form = (T::Form, Signature);

    fn to_form(&self) -> Self::Form {
        (self.message.to_form(), self.signature)
    }

    fn from_form((message, signature): Self::Form) -> Result<Self, WireError> {
        Ok(SignedMessage::new(T::from_form(message)?, signature))
    }
}

/// A signed vote or proposal.
#[derive(BorshSerialize, BorshDeserialize)]
pub enum SignedForm {
    /// A vote.
    Vote((VoteForm, Signature)),
    /// A proposal.
    Proposal((ProposalForm, Signature)),
}

impl Wire for SignedConsensusMsg<Market> {
    type Form = SignedForm;

    fn to_form(&self) -> SignedForm {
        match self {
            SignedConsensusMsg::Vote(vote) => SignedForm::Vote(vote.to_form()),
            SignedConsensusMsg::Proposal(proposal) => SignedForm::Proposal(proposal.to_form()),
        }
    }

    fn from_form(form: SignedForm) -> Result<Self, WireError> {
        Ok(match form {
            SignedForm::Vote(vote) => SignedConsensusMsg::Vote(SignedMessage::from_form(vote)?),
            SignedForm::Proposal(proposal) => SignedConsensusMsg::Proposal(SignedMessage::from_form(proposal)?),
        })
    }
}

/// A quorum's prevotes: height, round, value, signatures.
pub type PolkaForm = (u64, RoundForm, Hash, Vec<(PublicKey, Signature)>);

impl Wire for PolkaCertificate<Market> {
    type Form = PolkaForm;

    fn to_form(&self) -> PolkaForm {
        let signatures = self.polka_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
        (self.height.0, self.round.as_u32(), self.value_id, signatures)
    }

    fn from_form((height, round, value_id, signatures): PolkaForm) -> Result<Self, WireError> {
        let signature = |(key, signature)| PolkaSignature::new(Address(key), signature);
        Ok(PolkaCertificate {
            height: BlockHeight(height),
            round: Round::from(round),
            value_id,
            polka_signatures: signatures.into_iter().map(signature).collect(),
        })
    }
}

/// Votes that end a round: height, round, is it by precommits, and for each vote: is it a precommit, value, validator,
/// signature.
pub type RoundCertificateForm = (u64, RoundForm, bool, Vec<(bool, ValueForm, PublicKey, Signature)>);

impl Wire for RoundCertificate<Market> {
    type Form = RoundCertificateForm;

    fn to_form(&self) -> RoundCertificateForm {
        let precommit = self.cert_type == RoundCertificateType::Precommit;
        let votes = self.round_signatures.iter();
        let votes = votes.map(|s| (s.vote_type == VoteType::Precommit, value_form(&s.value_id), s.address.0, s.signature));
        (self.height.0, self.round.as_u32(), precommit, votes.collect())
    }

    fn from_form((height, round, precommit, votes): RoundCertificateForm) -> Result<Self, WireError> {
        let vote = |(precommit, value, key, signature)| {
            let kind = if precommit { VoteType::Precommit } else { VoteType::Prevote };
            RoundSignature::new(kind, nil_or_val(value), Address(key), signature)
        };
        Ok(RoundCertificate {
            height: BlockHeight(height),
            round: Round::from(round),
            cert_type: if precommit { RoundCertificateType::Precommit } else { RoundCertificateType::Skip },
            round_signatures: votes.into_iter().map(vote).collect(),
        })
    }
}

/// What is repeated so that rounds end.
#[derive(BorshSerialize, BorshDeserialize)]
pub enum LivenessForm {
    /// A vote.
    Vote((VoteForm, Signature)),
    /// A quorum's prevotes.
    Polka(PolkaForm),
    /// Votes that end a round.
    Skip(RoundCertificateForm),
}

impl Wire for LivenessMsg<Market> {
    type Form = LivenessForm;

    fn to_form(&self) -> LivenessForm {
        match self {
            LivenessMsg::Vote(vote) => LivenessForm::Vote(vote.to_form()),
            LivenessMsg::PolkaCertificate(certificate) => LivenessForm::Polka(certificate.to_form()),
            LivenessMsg::SkipRoundCertificate(certificate) => LivenessForm::Skip(certificate.to_form()),
        }
    }

    fn from_form(form: LivenessForm) -> Result<Self, WireError> {
        Ok(match form {
            LivenessForm::Vote(vote) => LivenessMsg::Vote(SignedMessage::from_form(vote)?),
            LivenessForm::Polka(form) => LivenessMsg::PolkaCertificate(PolkaCertificate::from_form(form)?),
            LivenessForm::Skip(form) => LivenessMsg::SkipRoundCertificate(RoundCertificate::from_form(form)?),
        })
    }
}

/// A proposal part.
#[derive(BorshSerialize, BorshDeserialize)]
pub enum PartForm {
    /// Height, round, valid round, proposer.
    Init(u64, RoundForm, RoundForm, PublicKey),
    /// Bytes of the block.
    Data(Vec<u8>),
    /// The proposer's signature.
    Fin(Signature),
}

impl Wire for Part {
    type Form = PartForm;

    fn to_form(&self) -> PartForm {
        match self {
            Part::Init { height, round, valid_round, proposer } => {
                PartForm::Init(height.0, round.as_u32(), valid_round.as_u32(), proposer.0)
            }
            Part::Data(bytes) => PartForm::Data(bytes.to_vec()),
            Part::Fin { signature } => PartForm::Fin(*signature),
        }
    }

    fn from_form(form: PartForm) -> Result<Self, WireError> {
        Ok(match form {
            PartForm::Init(height, round, valid_round, proposer) => Part::Init {
                height: BlockHeight(height),
                round: Round::from(round),
                valid_round: Round::from(valid_round),
                proposer: Address(proposer),
            },
            PartForm::Data(bytes) if bytes.len() > PART_BYTES => return Err(WireError::Field("part length")),
            PartForm::Data(bytes) => Part::Data(bytes.into()),
            PartForm::Fin(signature) => Part::Fin { signature },
        })
    }
}

/// The most bytes of a stream's id.
const STREAM_ID_BYTES: usize = 32;

impl Wire for StreamMessage<Part> {
    type Form = (Vec<u8>, u64, Option<PartForm>);

    fn to_form(&self) -> Self::Form {
        (self.stream_id.to_bytes().to_vec(), self.sequence, self.content.as_data().map(Wire::to_form))
    }

    fn from_form((id, sequence, part): Self::Form) -> Result<Self, WireError> {
        if id.len() > STREAM_ID_BYTES {
            return Err(WireError::Field("stream id"));
        }
        let content = match part {
            Some(part) => StreamContent::Data(Part::from_form(part)?),
            None => StreamContent::Fin,
        };
        Ok(StreamMessage::new(StreamId::new(id.into()), sequence, content))
    }
}

impl Wire for ValidatorProof<Market> {
    type Form = (Vec<u8>, Vec<u8>, Signature);

    fn to_form(&self) -> Self::Form {
        (self.public_key.clone(), self.peer_id.clone(), self.signature)
    }

    fn from_form((public_key, peer_id, signature): Self::Form) -> Result<Self, WireError> {
        Ok(ValidatorProof::new(public_key, peer_id, signature))
    }
}

/// A value in the write-ahead log: height, round, valid round, proposer, value, is it valid.
impl Wire for ProposedValue<Market> {
    type Form = (u64, RoundForm, RoundForm, PublicKey, Hash, bool);

    fn to_form(&self) -> Self::Form {
        let (round, valid_round) = (self.round.as_u32(), self.valid_round.as_u32());
        (self.height.0, round, valid_round, self.proposer.0, self.value.0, self.validity.to_bool())
    }

    fn from_form((height, round, valid_round, proposer, value, valid): Self::Form) -> Result<Self, WireError> {
        Ok(ProposedValue {
            height: BlockHeight(height),
            round: Round::from(round),
            valid_round: Round::from(valid_round),
            proposer: Address(proposer),
            value: Value(value),
            validity: Validity::from_bool(valid),
        })
    }
}

/// Proof that a quorum precommitted a block: height, round, block hash, the validators' signatures. The light check of a
/// block is: its hash is the certificate's, and more than two thirds of its height's validators signed.
pub type CommitForm = (u64, RoundForm, Hash, Vec<(PublicKey, Signature)>);

impl Wire for CommitCertificate<Market> {
    type Form = CommitForm;

    fn to_form(&self) -> CommitForm {
        let signatures = self.commit_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
        (self.height.0, self.round.as_u32(), self.value_id, signatures)
    }

    fn from_form((height, round, value_id, signatures): CommitForm) -> Result<Self, WireError> {
        let signature = |(key, signature)| CommitSignature::new(Address(key), signature);
        Ok(CommitCertificate {
            height: BlockHeight(height),
            round: Round::from(round),
            value_id,
            commit_signatures: signatures.into_iter().map(signature).collect(),
        })
    }
}

impl Wire for ExtendedCommitCertificate<Market> {
    type Form = CommitForm;

    fn to_form(&self) -> CommitForm {
        self.trim_vote_extensions().to_form()
    }

    fn from_form((height, round, value_id, signatures): CommitForm) -> Result<Self, WireError> {
        let signature = |(key, signature)| ExtendedCommitSignature::new(Address(key), signature, None);
        Ok(ExtendedCommitCertificate {
            height: BlockHeight(height),
            round: Round::from(round),
            value_id,
            commit_signatures: signatures.into_iter().map(signature).collect(),
        })
    }
}

impl Wire for Status<Market> {
    type Form = (Vec<u8>, u64, u64);

    fn to_form(&self) -> Self::Form {
        (self.peer_id.to_bytes(), self.tip_height.0, self.history_min_height.0)
    }

    fn from_form((peer, tip, min): Self::Form) -> Result<Self, WireError> {
        let peer_id = PeerId::from_bytes(&peer).map_err(|_| WireError::Field("peer id"))?;
        Ok(Status { peer_id, tip_height: BlockHeight(tip), history_min_height: BlockHeight(min) })
    }
}

impl Wire for Request<Market> {
    type Form = (u64, u64);

    fn to_form(&self) -> Self::Form {
        let Request::ValueRequest(request) = self;
        (request.range.start().0, request.range.end().0)
    }

    fn from_form((start, end): Self::Form) -> Result<Self, WireError> {
        Ok(Request::ValueRequest(ValueRequest::new(BlockHeight(start)..=BlockHeight(end))))
    }
}

impl Wire for Response<Market> {
    type Form = (u64, Vec<(Vec<u8>, CommitForm)>);

    fn to_form(&self) -> Self::Form {
        let Response::ValueResponse(response) = self;
        let values = response.values.iter().map(|v| (v.value_bytes.to_vec(), v.certificate.to_form()));
        (response.start_height.0, values.collect())
    }

    fn from_form((start, values): Self::Form) -> Result<Self, WireError> {
        let value = |(bytes, certificate): (Vec<u8>, CommitForm)| {
            Ok(RawDecidedValue::new(bytes.into(), ExtendedCommitCertificate::from_form(certificate)?))
        };
        let values = values.into_iter().map(value).collect::<Result<_, WireError>>()?;
        Ok(Response::ValueResponse(ValueResponse::new(BlockHeight(start), values)))
    }
}
