use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroize;

use crate::{ChainId, FormError, ids::serde_as_text};

/// What a signature is for. The tag is the first part of the signed bytes, so that a signature of one kind can't stand
/// for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A transaction of an account, a machine or a proposer.
    Transaction,
    /// A machine's consent to belong to an account.
    MachineProof,
    /// A one-time code's word that a machine may join an account.
    JoinProof,
    /// A registrar's word that an identity was verified.
    Voucher,
    /// A consensus vote.
    Vote,
    /// A consensus proposal.
    Proposal,
    /// A part of a proposed block.
    ProposalPart,
    /// A request to a gateway that isn't a transaction (uploading a blob, reporting progress).
    Request,
}

impl Domain {
    fn tag(self) -> &'static str {
        match self {
            Domain::Transaction => "deepmarket/v1/transaction",
            Domain::MachineProof => "deepmarket/v1/machine-proof",
            Domain::JoinProof => "deepmarket/v1/join-proof",
            Domain::Voucher => "deepmarket/v1/voucher",
            Domain::Vote => "deepmarket/v1/vote",
            Domain::Proposal => "deepmarket/v1/proposal",
            Domain::ProposalPart => "deepmarket/v1/proposal-part",
            Domain::Request => "deepmarket/v1/request",
        }
    }

    /// The signed bytes: domain tag ‖ chain id ‖ content, the tag preceded by its length.
    fn message(self, chain: &ChainId, content: &[u8]) -> Vec<u8> {
        let tag = self.tag().as_bytes();
        let mut message = Vec::with_capacity(1 + tag.len() + 32 + content.len());
        message.push(tag.len() as u8);
        message.extend_from_slice(tag);
        message.extend_from_slice(&chain.0);
        message.extend_from_slice(content);
        message
    }
}

/// An ed25519 public key (RFC 8032). Shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Is it a point of the curve? Canonical bytes may hold any 32 bytes; text and JSON hold keys only.
    pub fn check(&self) -> Result<(), FormError> {
        VerifyingKey::from_bytes(&self.0).map(|_| ()).map_err(|_| FormError::BadPublicKey)
    }

    /// Checks a signature strictly (no malleability, no small-order keys).
    pub fn verify(&self, domain: Domain, chain: &ChainId, content: &[u8], signature: &Signature) -> Result<(), FormError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| FormError::BadPublicKey)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&domain.message(chain, content), &signature).map_err(|_| FormError::BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| FormError::BadPublicKey)?;
        let key = PublicKey(bytes);
        key.check()?;
        Ok(key)
    }
}
serde_as_text!(PublicKey);

/// An ed25519 signature. Shown as 128 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| FormError::BadSignature)?;
        Ok(Signature(bytes))
    }
}
serde_as_text!(Signature);

/// An ed25519 secret key. Wiped from memory when dropped; its `Debug` shows the public key only.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system gives randomness");
        let key = Self::from_seed(seed);
        seed.zeroize();
        key
    }

    /// The key of a 32-byte seed (RFC 8032 section 5.1.5).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        SecretKey(SigningKey::from_bytes(&seed))
    }

    /// The seed, for a key file.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs content for one purpose on one chain.
    pub fn sign(&self, domain: Domain, chain: &ChainId, content: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.message(chain, content)).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hash;

    #[test]
    fn a_signature_holds_for_one_key_one_domain_one_chain_and_one_content() {
        let key = SecretKey::from_seed([1; 32]);
        let chain = Hash::of(b"chain");
        let signature = key.sign(Domain::Transaction, &chain, b"content");
        assert!(key.public().verify(Domain::Transaction, &chain, b"content", &signature).is_ok());
        assert!(key.public().verify(Domain::Voucher, &chain, b"content", &signature).is_err());
        assert!(key.public().verify(Domain::Transaction, &Hash::of(b"other"), b"content", &signature).is_err());
        assert!(key.public().verify(Domain::Transaction, &chain, b"contents", &signature).is_err());
        assert!(SecretKey::from_seed([2; 32]).public().verify(Domain::Transaction, &chain, b"content", &signature).is_err());
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let key = SecretKey::from_seed([1; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode(key.seed())));
    }
}
