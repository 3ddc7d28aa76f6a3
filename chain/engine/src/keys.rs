use async_trait::async_trait;
use deepmarket_types::{ChainId, Domain, PublicKey, SecretKey, Signature};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use malachite_core_types::{SignedMessage, ValidatorProof, VoteExtensionScope};
use malachite_signing::{Error, Signer, VerificationResult, Verifier};

use crate::{
    Market, Proposal, Vote,
    wire::{proposal_bytes, vote_bytes},
};

/// Signs for one validator on one chain. Votes and proposals carry a domain tag and the chain id.
#[derive(Clone, Debug)]
pub struct VoteSigner {
    /// The chain.
    pub chain: ChainId,
    /// The validator's key.
    pub key: SecretKey,
}

/// Checks signatures of one chain, strictly.
#[derive(Clone, Copy, Debug)]
pub struct VoteVerifier {
    /// The chain.
    pub chain: ChainId,
}

#[async_trait]
impl Signer<Market> for VoteSigner {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Market, Vote>, Error> {
        let signature = self.key.sign(Domain::Vote, &self.chain, &vote_bytes(&vote));
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<Market, Proposal>, Error> {
        let signature = self.key.sign(Domain::Proposal, &self.chain, &proposal_bytes(&proposal));
        Ok(SignedMessage::new(proposal, signature))
    }

    async fn sign_vote_extension(&self, _: VoteExtensionScope<Market>, (): ()) -> Result<SignedMessage<Market, ()>, Error> {
        Err(Error::from_source("vote extensions are not used on this chain"))
    }

    // The engine's protocol wants this one without a prefix: its bytes start with "PoV". Ours start with the length of a
    // domain tag, which is never 80 (`P`), so that neither can stand for the other.
    async fn sign_validator_proof(&self, public_key: Vec<u8>, peer_id: Vec<u8>) -> Result<ValidatorProof<Market>, Error> {
        let bytes = ValidatorProof::<Market>::signing_bytes(&public_key, &peer_id);
        let signature = Signature(SigningKey::from_bytes(&self.key.seed()).sign(&bytes).to_bytes());
        Ok(ValidatorProof::new(public_key, peer_id, signature))
    }
}

fn verdict(key: &PublicKey, domain: Domain, chain: &ChainId, bytes: &[u8], signature: &Signature) -> VerificationResult {
    VerificationResult::from_bool(key.verify(domain, chain, bytes, signature).is_ok())
}

#[async_trait]
impl Verifier<Market> for VoteVerifier {
    async fn verify_signed_vote(&self, vote: &Vote, signature: &Signature, key: &PublicKey) -> Result<VerificationResult, Error> {
        Ok(verdict(key, Domain::Vote, &self.chain, &vote_bytes(vote), signature))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(verdict(key, Domain::Proposal, &self.chain, &proposal_bytes(proposal), signature))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Market>,
        (): &(),
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(&self, proof: &ValidatorProof<Market>) -> Result<VerificationResult, Error> {
        let valid = <[u8; 32]>::try_from(proof.public_key.as_slice())
            .ok()
            .and_then(|key| VerifyingKey::from_bytes(&key).ok())
            .is_some_and(|key| {
                let signature = ed25519_dalek::Signature::from_bytes(&proof.signature.0);
                key.verify_strict(&proof.preimage(), &signature).is_ok()
            });
        Ok(VerificationResult::from_bool(valid))
    }
}
