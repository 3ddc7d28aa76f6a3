//! One-time codes, by which a machine joins an account that it holds no key of.

use std::{fmt, str::FromStr};

use deepmarket_types::{ChainId, SecretKey, invite_key};

/// Digits and letters without those that look like others when they are read aloud or copied by hand (I, L, O, U).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 16 characters of 5 bits.
const BITS: usize = 80;
const CHARACTERS: usize = BITS / 5;

/// 80 random bits, shown as `K7QD-M2XP-9A0B-CDEF`.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode([u8; CHARACTERS]);

impl InviteCode {
    /// A new code from the system's randomness.
    pub fn generate() -> InviteCode {
        let random = SecretKey::generate().seed();
        let bits = random[..BITS / 8].iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        InviteCode(std::array::from_fn(|i| ALPHABET[(bits >> (5 * i)) as usize & 31]))
    }

    /// The code's key on a market: its public half names the invitation, its secret half proves that one holds the code.
    pub fn key(&self, chain: &ChainId) -> SecretKey {
        invite_key(chain, &self.to_string())
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.0.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned());
        f.write_str(&groups.collect::<Vec<_>>().join("-"))
    }
}

/// A code lets anybody lend a machine in somebody's name: it doesn't belong into logs.
impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(…)")
    }
}

impl FromStr for InviteCode {
    type Err = String;

    /// Takes small letters, spaces and missing dashes, and O, I and L for the digits that they look like.
    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "a code has 16 letters and digits, like K7QD-M2XP-9A0B-CDEF";
        let mut code = Vec::with_capacity(CHARACTERS);
        for typed in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let meant = match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            match u8::try_from(meant).ok().filter(|byte| ALPHABET.contains(byte)) {
                Some(byte) => code.push(byte),
                None => return Err(format!("the code was mistyped: no code has a '{typed}'; {hint}")),
            }
        }
        let length = code.len();
        code.try_into().map(InviteCode).map_err(|_| format!("the code was mistyped: it has {length} characters; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::Hash;

    use super::*;

    #[test]
    fn a_code_is_read_as_it_was_shown_however_it_is_typed() {
        let code = InviteCode::generate();
        let shown = code.to_string();
        assert_eq!((shown.len(), shown.matches('-').count()), (19, 3), "{shown}");
        let chain = Hash::of(b"chain");
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', " "),
            shown.replace('-', ""),
            shown.replace('0', "o"),
            shown.replace('1', "l"),
        ] {
            let read: InviteCode = typed.parse().unwrap();
            assert!(read == code, "{typed}");
            assert_eq!(read.key(&chain).public(), code.key(&chain).public());
        }
        assert_ne!(code.key(&chain).public(), code.key(&Hash::of(b"another chain")).public());
        assert!(!format!("{code:?}").contains(&shown[..4]));
    }

    #[test]
    fn codes_are_random_and_use_the_whole_alphabet() {
        let codes: Vec<InviteCode> = (0..200).map(|_| InviteCode::generate()).collect();
        for place in 0..CHARACTERS {
            let letters: std::collections::BTreeSet<u8> = codes.iter().map(|code| code.0[place]).collect();
            assert!(letters.len() > 20, "place {place} has {} letters only", letters.len());
        }
    }

    #[test]
    fn mistyped_codes_are_refused_with_what_is_wrong() {
        for (bad, says) in [
            ("K7QD-M2XP-9A0B", "12 characters"),
            ("K7QD-M2XP-9A0B-CDEFG", "17 characters"),
            ("K7QD-M2XP-9A0B-CDEU", "'U'"),
            ("K7QD-M2XP-9A0B-CDE!", "'!'"),
            ("K7QD-M2XP-9A0B-CDEÄ", "'Ä'"),
            ("", "0 characters"),
        ] {
            let error = bad.parse::<InviteCode>().unwrap_err();
            assert!(error.contains("mistyped") && error.contains(says), "{bad}: {error}");
        }
    }
}
