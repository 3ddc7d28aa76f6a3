//! The registrar of a gateway: gives vouchers, with which accounts are opened.

use std::time::{SystemTime, UNIX_EPOCH};

use deepmarket_types::{ChainId, Hash, PublicKey, SecretKey, TimeMs, Voucher};

use crate::error::Refusal;

/// How long a voucher is good for.
const LIFETIME_MS: u64 = 24 * 3_600_000;
/// The most characters of an identity.
const MAX_IDENTITY_CHARS: usize = 200;

/// Whom a registrar gives vouchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrarPolicy {
    /// To anybody who asks, unverified: for a market on one's own machine.
    Open,
}

/// A registrar that a gateway serves.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// Its key, which the genesis document names.
    pub key: SecretKey,
    /// Whom it gives vouchers.
    pub policy: RegistrarPolicy,
}

impl Registrar {
    /// A registrar that believes everybody: for a market on one's own machine.
    pub fn open(key: SecretKey) -> Registrar {
        Registrar { key, policy: RegistrarPolicy::Open }
    }

    /// A voucher for an identity and a key.
    pub(crate) fn voucher(
        &self,
        chain: &ChainId,
        identity: &str,
        key: PublicKey,
        chain_time: TimeMs,
    ) -> Result<Voucher, Refusal> {
        let RegistrarPolicy::Open = self.policy;
        let normal = normalise(identity);
        let fine = (1..=MAX_IDENTITY_CHARS).contains(&normal.chars().count()) && !normal.chars().any(char::is_control);
        if !fine {
            return Err(Refusal::BadIdentity(identity.chars().filter(|c| !c.is_control()).take(40).collect()));
        }
        // The chain's time may lag behind the clock while nothing happens; it decides when the voucher is void.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let expires = chain_time.max(TimeMs(clock)).plus(LIFETIME_MS);
        Ok(Voucher::sign(&self.key, chain, identity_hash(&self.key, identity), key, expires))
    }
}

fn normalise(identity: &str) -> String {
    identity.trim().to_lowercase()
}

/// What the chain sees of an identity: a hash with a salt that only the registrar can compute, the same for each spelling
/// (capitals, surrounding blanks).
pub fn identity_hash(registrar: &SecretKey, identity: &str) -> Hash {
    let salt = Hash::tagged("deepmarket/v1/registrar-salt", &[&registrar.seed()]);
    Hash::tagged("deepmarket/v1/identity", &[&salt.0, normalise(identity).as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_hash_at_one_registrar() {
        let (psu, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        assert_eq!(identity_hash(&psu, "Ada@PDX.edu "), identity_hash(&psu, "ada@pdx.edu"));
        assert_ne!(identity_hash(&psu, "ada@pdx.edu"), identity_hash(&other, "ada@pdx.edu"));
    }

    #[test]
    fn a_voucher_verifies_and_an_empty_or_endless_identity_is_refused() {
        let registrar = Registrar::open(SecretKey::from_seed([1; 32]));
        let (chain, key) = (Hash::of(b"chain"), SecretKey::from_seed([2; 32]).public());
        let voucher = registrar.voucher(&chain, "ada", key, TimeMs(u64::MAX / 2)).unwrap();
        voucher.verify(&chain).unwrap();
        assert_eq!(voucher.expires, TimeMs(u64::MAX / 2 + LIFETIME_MS));
        for bad in ["", "  ", "a\u{7}b", &"x".repeat(201)] {
            assert!(matches!(registrar.voucher(&chain, bad, key, TimeMs(0)), Err(Refusal::BadIdentity(_))), "{bad}");
        }
    }
}
