//! The registrar of a gateway: gives vouchers, with which accounts are opened.

use std::time::{SystemTime, UNIX_EPOCH};

use deepmarket_types::{ChainId, Hash, PublicKey, SecretKey, TimeMs, Voucher};
use icu_normalizer::uts46::Uts46MapperBorrowed;

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
    ) -> Result<Voucher, BadIdentity> {
        let RegistrarPolicy::Open = self.policy;
        let identity = identity_hash(&self.key, identity)?;
        // The chain's time may lag behind the clock while nothing happens; it decides when the voucher is void.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let expires = chain_time.max(TimeMs(clock)).plus(LIFETIME_MS);
        Ok(Voucher::sign(&self.key, chain, identity, key, expires))
    }
}

/// A text that can't be anybody's identity; holds the beginning of what was given, as far as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' can't be an identity: it needs 1 to 200 printable characters, and a mail address a name and a host")]
pub struct BadIdentity(pub String);

/// What the chain sees of an identity: a hash with a salt that only the registrar can compute, the same for each spelling (see
/// [`normalise`]), so that one person gets one account.
pub fn identity_hash(registrar: &SecretKey, identity: &str) -> Result<Hash, BadIdentity> {
    let shown = || BadIdentity(identity.chars().filter(|c| !c.is_control()).take(40).collect());
    let normal = normalise(identity).ok_or_else(shown)?;
    let salt = Hash::tagged("deepmarket/v1/registrar-salt", &[&registrar.seed()]);
    Ok(Hash::tagged("deepmarket/v1/identity", &[&salt.0, normal.as_bytes()]))
}

/// One spelling for all that mean the same person:
///
/// - capitals, widths, ligatures, composed and decomposed letters are mapped and invisible characters dropped (UTS 46, which is
///   NFKC with case folding as host names have it);
/// - blanks around it go, those within become one;
/// - of a mail address, the host is written in ASCII without a dot at its end (IDNA), and what follows a `+` in its name goes: it
///   is the same mailbox (sub-addresses, RFC 5233), and would make any number of identities of one.
fn normalise(identity: &str) -> Option<String> {
    // What is longer than twice the limit isn't worth mapping: a character may stand for several, hardly ever for fewer.
    if identity.chars().count() > 2 * MAX_IDENTITY_CHARS {
        return None;
    }
    // Joiners mean something between some letters of host names, and nothing here.
    let seen = identity.chars().filter(|c| !matches!(c, '\u{200c}' | '\u{200d}'));
    let mapped: String = Uts46MapperBorrowed::new().map_normalize(seen).collect();
    let words: Vec<&str> = mapped.split_whitespace().collect();
    let text = words.join(" ");
    let normal = match text.rsplit_once('@') {
        Some((name, host)) => {
            let name = name.split_once('+').map_or(name, |(before, _)| before).trim_end();
            let host = idna::domain_to_ascii(host.trim_start().trim_end_matches('.')).ok()?;
            if name.is_empty() || host.is_empty() {
                return None;
            }
            format!("{name}@{host}")
        }
        None => text,
    };
    let fine = (1..=MAX_IDENTITY_CHARS).contains(&normal.chars().count())
        && !normal.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    fine.then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_hash_at_one_registrar_however_it_is_written() {
        let (psu, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let hash = |identity: &str| identity_hash(&psu, identity).unwrap();
        for same in [
            &["ada@pdx.edu", "Ada@PDX.edu ", " ADA@pdx.EDU", "ada@pdx.edu.", "ada+second@pdx.edu", "ada+1+2@pdx.edu"][..],
            // Full width, an invisible joiner, a soft hyphen, a variation selector, a no-break space.
            &[
                "ada@pdx.edu",
                "\u{ff41}da@pdx.edu",
                "a\u{200d}da@pdx.edu",
                "ad\u{ad}a@pdx.edu",
                "ada\u{fe0f}@pdx.edu",
                "\u{a0}ada@pdx.edu",
            ],
            // Composed and decomposed, and capitals of both.
            &["zo\u{eb}@pdx.edu", "zoe\u{308}@pdx.edu", "ZO\u{cb}@pdx.edu", "ZOE\u{308}@PDX.edu"],
            // A host in Unicode and in ASCII.
            &["max@m\u{fc}nchen.example", "max@xn--mnchen-3ya.example", "max@MU\u{308}NCHEN.example"],
            &["Ada  Lovelace", "ada lovelace", "ada\u{2003}lovelace", "\tADA LOVELACE\n"],
        ] {
            for identity in same {
                assert_eq!(hash(identity), hash(same[0]), "{identity:?}");
            }
            assert_ne!(hash(same[0]), identity_hash(&other, same[0]).unwrap());
        }
        let different =
            ["ada@pdx.edu", "ad@pdx.edu", "ada@pdx.example", "ada lovelace", "adalovelace", "zoe@pdx.edu", "zo\u{eb}@pdx.edu"];
        let hashes: std::collections::BTreeSet<Hash> = different.into_iter().map(hash).collect();
        assert_eq!(hashes.len(), different.len());
    }

    #[test]
    fn a_voucher_verifies_and_what_can_be_nobodys_identity_is_refused() {
        let registrar = Registrar::open(SecretKey::from_seed([1; 32]));
        let (chain, key) = (Hash::of(b"chain"), SecretKey::from_seed([2; 32]).public());
        let voucher = registrar.voucher(&chain, "ada", key, TimeMs(u64::MAX / 2)).unwrap();
        voucher.verify(&chain).unwrap();
        assert_eq!(voucher.expires, TimeMs(u64::MAX / 2 + LIFETIME_MS));
        let long = "x".repeat(201);
        for bad in [
            "",
            "  ",
            "\u{200b}",
            "a\u{7}b",
            &long,
            &"\u{200b}".repeat(100_000),
            "@pdx.edu",
            "+x@pdx.edu",
            "ada@",
            "ada@.",
            "\u{e000}",
        ] {
            assert!(registrar.voucher(&chain, bad, key, TimeMs(0)).is_err(), "{bad:?}");
        }
    }
}
