use std::{fmt, iter::Sum, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Microcredits in one credit.
pub const MICROCREDITS: u64 = 1_000_000;

/// An amount of money in microcredits. Never negative, never a float; arithmetic is checked.
///
/// Shown and parsed in credits with up to six decimals (`"12.5"`); in JSON it is the number of microcredits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Credits(u64);

impl Credits {
    /// Nothing.
    pub const ZERO: Credits = Credits(0);

    /// An amount given in microcredits.
    pub const fn from_micro(micro: u64) -> Self {
        Credits(micro)
    }

    /// An amount given in whole credits. Panics on overflow: use it for constants only.
    pub const fn from_credits(credits: u64) -> Self {
        Credits(credits * MICROCREDITS)
    }

    /// The amount in microcredits.
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// Is there nothing?
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Sum, or `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Credits) -> Option<Credits> {
        self.0.checked_add(other.0).map(Credits)
    }

    /// Difference, or `None` where `other` is more than `self`.
    #[must_use]
    pub fn checked_sub(self, other: Credits) -> Option<Credits> {
        self.0.checked_sub(other.0).map(Credits)
    }

    /// Difference, or zero where `other` is more than `self`.
    #[must_use]
    pub fn saturating_sub(self, other: Credits) -> Credits {
        Credits(self.0.saturating_sub(other.0))
    }
}

impl Sum for Credits {
    fn sum<I: Iterator<Item = Credits>>(iter: I) -> Self {
        Credits(iter.map(|c| c.0).fold(0, |a, b| a.checked_add(b).expect("the sum of all credits ever minted fits in 64 bits")))
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micro) = (self.0 / MICROCREDITS, self.0 % MICROCREDITS);
        if micro == 0 {
            return f.pad(&whole.to_string());
        }
        let text = format!("{whole}.{micro:06}");
        f.pad(text.trim_end_matches('0'))
    }
}

/// A text that is not an amount of credits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an amount of credits: write digits with at most six decimals, for example 12.5")]
pub struct CreditsParseError(String);

impl FromStr for Credits {
    type Err = CreditsParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CreditsParseError(text.chars().take(40).collect());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(decimals) || decimals.len() > 6 {
            return Err(error());
        }
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let micro: u64 = format!("{decimals:0<6}").parse().map_err(|_| error())?;
        whole.checked_mul(MICROCREDITS).and_then(|w| w.checked_add(micro)).map(Credits).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_shown_and_parsed_without_loss() {
        for (micro, text) in
            [(0, "0"), (1, "0.000001"), (12_500_000, "12.5"), (50_000_000, "50"), (u64::MAX, "18446744073709.551615")]
        {
            assert_eq!(Credits::from_micro(micro).to_string(), text);
            assert_eq!(text.parse::<Credits>().unwrap().micro(), micro);
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "1.0000001", "18446744073709.551616", "1e3", "١"] {
            assert!(text.parse::<Credits>().is_err(), "{text}");
        }
    }
}
