use std::{fmt, time::Duration};

use bytes::Bytes;
use deepmarket_types::{Hash, PublicKey, SecretKey, Signature, encode};
use malachite_core_types as core;
use malachite_core_types::{LinearTimeouts, NilOrVal, Round, SignedExtension, SigningScheme, VoteType};

/// The engine's context: which types stand for heights, values, votes and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Market;

/// A block's number as the engine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHeight(pub u64);

impl fmt::Display for BlockHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl core::Height for BlockHeight {
    const ZERO: Self = BlockHeight(0);
    const INITIAL: Self = BlockHeight(1);

    fn increment_by(&self, n: u64) -> Self {
        BlockHeight(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(BlockHeight)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's address: its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl core::Address for Address {}

/// What is decided: a block's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub Hash);

impl core::Value for Value {
    type Id = Hash;

    fn id(&self) -> Hash {
        self.0
    }
}

/// One validator; all have the same power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    address: Address,
}

impl core::Validator<Market> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }

    fn voting_power(&self) -> core::VotingPower {
        1
    }
}

/// The validators of a height, ordered by key, so that the genesis document's order doesn't matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators(Vec<Validator>);

impl Validators {
    /// The set of some keys; doubles are dropped.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut keys: Vec<PublicKey> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        Validators(keys.into_iter().map(|key| Validator { address: Address(key) }).collect())
    }

    /// Who proposes in a round: the validators take turns, and the next one steps in when a round fails. The set must not
    /// be empty.
    pub fn proposer(&self, height: u64, round: u32) -> PublicKey {
        self.at(height, round).address.0
    }

    /// Is this the key of a validator?
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.0.iter().any(|v| v.address.0 == *key)
    }

    fn at(&self, height: u64, round: u32) -> &Validator {
        let turn = height.wrapping_add(u64::from(round)) % self.0.len() as u64;
        &self.0[turn as usize]
    }
}

impl core::ValidatorSet<Market> for Validators {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> core::VotingPower {
        self.0.len() as core::VotingPower
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.iter().find(|v| v.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

/// A vote for a block or for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// First or second vote of a round.
    pub kind: VoteType,
    /// The block's number.
    pub height: BlockHeight,
    /// The round.
    pub round: Round,
    /// The block's hash, or nil.
    pub value: NilOrVal<Hash>,
    /// Who votes.
    pub validator: Address,
}

impl core::Vote<Market> for Vote {
    fn height(&self) -> BlockHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Hash> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Hash> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.validator
    }

    // Vote extensions aren't used (the policy is `Disabled`): a vote never carries one.
    fn extension(&self) -> Option<&SignedExtension<Market>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Market>> {
        None
    }

    fn extend(self, _: SignedExtension<Market>) -> Self {
        self
    }
}

/// A proposer's word that a block is its proposal for a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The block's number.
    pub height: BlockHeight,
    /// The round.
    pub round: Round,
    /// The block's hash.
    pub value: Value,
    /// The earlier round in which a quorum prevoted for this block, or nil.
    pub pol_round: Round,
    /// Who proposes.
    pub proposer: Address,
}

impl core::Proposal<Market> for Proposal {
    fn height(&self) -> BlockHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// A part of a proposed block: `Init`, some `Data`, `Fin`, each one message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Opens a stream.
    Init {
        /// The block's number.
        height: BlockHeight,
        /// The round that it is proposed in.
        round: Round,
        /// For a block that is proposed again: the round in which a quorum prevoted for it.
        valid_round: Round,
        /// Who proposes in this round. The block's header may name another one, who built it in an earlier round.
        proposer: Address,
    },
    /// Some of the block's canonical bytes, at most [`crate::PART_BYTES`].
    Data(Bytes),
    /// Closes the stream.
    Fin {
        /// The proposer's signature over [`part_signing_bytes`].
        signature: Signature,
    },
}

impl core::ProposalPart<Market> for Part {
    fn is_first(&self) -> bool {
        matches!(self, Part::Init { .. })
    }

    fn is_last(&self) -> bool {
        matches!(self, Part::Fin { .. })
    }
}

/// What the proposer signs (domain `ProposalPart`) to close a stream of parts: it binds the assembled bytes to a height, a
/// round and a proposer.
pub fn part_signing_bytes(height: u64, round: Round, valid_round: Round, proposer: &PublicKey, bytes: &[u8]) -> Vec<u8> {
    encode(&(height, round.as_u32(), valid_round.as_u32(), proposer, Hash::of(bytes)))
}

/// How long a round waits: short, since blocks are small and the validators few; each failed round waits longer.
pub fn timeouts() -> LinearTimeouts {
    LinearTimeouts {
        propose: Duration::from_millis(1_200),
        propose_delta: Duration::from_millis(500),
        prevote: Duration::from_millis(500),
        prevote_delta: Duration::from_millis(300),
        precommit: Duration::from_millis(500),
        precommit_delta: Duration::from_millis(300),
        rebroadcast: Duration::from_millis(2_200),
        max_timeout: Duration::from_secs(20),
    }
}

/// Timeouts with our own as the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketTimeouts(pub LinearTimeouts);

impl Default for MarketTimeouts {
    fn default() -> Self {
        MarketTimeouts(timeouts())
    }
}

impl core::Timeouts<Market> for MarketTimeouts {
    fn duration_for(&self, timeout: core::Timeout) -> Duration {
        self.0.duration_for(timeout)
    }
}

/// Ed25519 as the engine needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519;

impl SigningScheme for Ed25519 {
    type DecodingError = std::array::TryFromSliceError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, Self::DecodingError> {
        bytes.try_into().map(Signature)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, Self::DecodingError> {
        bytes.try_into().map(PublicKey)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

impl core::Context for Market {
    type Address = Address;
    type Height = BlockHeight;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = MarketTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, validators: &'a Validators, height: BlockHeight, round: Round) -> &'a Validator {
        validators.at(height.0, round.as_u32().unwrap_or(0))
    }

    fn new_proposal(&self, height: BlockHeight, round: Round, value: Value, pol_round: Round, proposer: Address) -> Proposal {
        Proposal { height, round, value, pol_round, proposer }
    }

    fn new_prevote(&self, height: BlockHeight, round: Round, value: NilOrVal<Hash>, validator: Address) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, validator }
    }

    fn new_precommit(&self, height: BlockHeight, round: Round, value: NilOrVal<Hash>, validator: Address) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, validator }
    }
}
