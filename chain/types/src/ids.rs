use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::PublicKey;

/// A text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct IdParseError {
    text: String,
    expected: &'static str,
}

fn parse_error(text: &str, expected: &'static str) -> IdParseError {
    IdParseError { text: text.chars().take(80).collect(), expected }
}

/// Serde as the type's text form.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

/// A blake3 hash of 32 bytes. Shown as `blake3:<64 hex digits>`; plain hex is accepted too.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of a domain tag and parts; each part is preceded by its length, so that no two lists of parts collide.
    pub fn tagged(tag: &str, parts: &[&[u8]]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        for part in std::iter::once(&tag.as_bytes()).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// The 64 hex digits, without the prefix: for file names and addresses.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("blake3:").unwrap_or(text), &mut bytes)
            .map_err(|_| parse_error(text, "a blake3 hash (blake3: and 64 hex digits)"))?;
        Ok(Hash(bytes))
    }
}
serde_as_text!(Hash);

/// The chain's name to all signatures: the hash of its genesis document.
pub type ChainId = Hash;

/// Ids of 20 bytes that are derived from a first public key and shown as bech32m.
macro_rules! key_id {
    ($(#[$doc:meta])* $name:ident, $hrp:literal, $tag:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub [u8; 20]);

        impl $name {
            /// The id that belongs to a first public key.
            pub fn from_key(key: &PublicKey) -> Self {
                let hash = crate::Hash::tagged($tag, &[&key.0]);
                $name(hash.0[..20].try_into().expect("20 of 32 bytes"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked($hrp), &self.0).expect("20 bytes fit into bech32");
                f.pad(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = || parse_error(text, $expected);
                let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text).map_err(|_| error())?;
                if checked.hrp() != Hrp::parse_unchecked($hrp) {
                    return Err(error());
                }
                let bytes: Vec<u8> = checked.byte_iter().collect();
                Ok($name(bytes.try_into().map_err(|_| error())?))
            }
        }
        serde_as_text!($name);
    };
}

key_id!(
    /// An account, derived from its first key: `dm1…`. The id stays when the key is rotated.
    AccountId, "dm", "deepmarket/account-id", "an account id (dm1…)"
);
key_id!(
    /// A lent machine, derived from the machine's own key: `dmm1…`.
    MachineId, "dmm", "deepmarket/machine-id", "a machine id (dmm1…)"
);

/// Ids that count up on the chain, shown with a prefix.
macro_rules! counted_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = text.strip_prefix($prefix).unwrap_or(text);
                digits.parse().map($name).map_err(|_| parse_error(text, $expected))
            }
        }
        serde_as_text!($name);
    };
}

counted_id!(
    /// A job, numbered in order of submission: `job-7`.
    JobId, "job-", "a job id (job-7)"
);
counted_id!(
    /// One worker of one job on one machine: `lease-9`.
    LeaseId, "lease-", "a lease id (lease-9)"
);
counted_id!(
    /// One round of one lease that is computed again: `audit-3`.
    AuditId, "audit-", "an audit id (audit-3)"
);

/// The number of a block; genesis is height 0, the first decided block is height 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Height(pub u64);

impl Height {
    /// The height of the following block.
    #[must_use]
    pub fn next(self) -> Height {
        Height(self.0 + 1)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A moment in milliseconds since 1970-01-01T00:00:00Z, as blocks state it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TimeMs(pub u64);

impl TimeMs {
    /// Milliseconds from `earlier` to `self`, zero where `earlier` is later.
    pub fn since(self, earlier: TimeMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and some milliseconds.
    #[must_use]
    pub fn plus(self, ms: u64) -> TimeMs {
        TimeMs(self.0.saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form_and_refuse_each_others() {
        let key = crate::SecretKey::from_seed([7; 32]).public();
        let (account, machine) = (AccountId::from_key(&key), MachineId::from_key(&key));
        assert!(account.to_string().starts_with("dm1"));
        assert_eq!(account.to_string().parse::<AccountId>().unwrap(), account);
        assert_eq!(machine.to_string().parse::<MachineId>().unwrap(), machine);
        assert!(machine.to_string().parse::<AccountId>().is_err());
        assert_eq!("job-7".parse::<JobId>().unwrap(), JobId(7));
        assert_eq!("7".parse::<JobId>().unwrap(), JobId(7));
        assert!("lease-7".parse::<JobId>().is_err());
        let hash = Hash::of(b"x");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
    }

    #[test]
    fn a_tagged_hash_depends_on_where_parts_end() {
        assert_ne!(Hash::tagged("t", &[b"ab", b"c"]), Hash::tagged("t", &[b"a", b"bc"]));
    }
}
