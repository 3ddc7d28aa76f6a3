use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Units of a [`Decimal`] in 1.
const NANOS: i128 = 1_000_000_000;

/// A fixed-point number of 1e-9 steps: learning rates and the like, exact on every machine. Between ±9.2e9.
///
/// Parsed from and shown as a decimal (`0.001`, `1e-3`, `25`); what is finer than 1e-9 is refused, not rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Decimal(i64);

impl Decimal {
    /// Nothing.
    pub const ZERO: Decimal = Decimal(0);
    /// One.
    pub const ONE: Decimal = Decimal(1_000_000_000);

    /// A number given in steps of 1e-9.
    pub const fn from_nanos(nanos: i64) -> Self {
        Decimal(nanos)
    }

    /// The number in steps of 1e-9.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// `self · numerator / denominator`, rounded towards zero; saturates. A denominator of 0 counts as 1.
    #[must_use]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Decimal {
        let product = i128::from(self.0) * i128::from(numerator) / i128::from(denominator.max(1));
        Decimal(product.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// The product, rounded towards zero; saturates.
    #[must_use]
    pub fn times(self, other: Decimal) -> Decimal {
        let product = i128::from(self.0) * i128::from(other.0) / NANOS;
        Decimal(product.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

/// A text that is not a [`Decimal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// `nan` or `inf`.
    #[error("it is not a finite number")]
    NotFinite,
    /// Not a number at all.
    #[error("it is not a decimal number")]
    NotANumber,
    /// More than nine decimals.
    #[error("it is finer than 0.000000001, the smallest step")]
    TooFine,
    /// Beyond ±9.2e9.
    #[error("it is beyond 9 billion")]
    TooLarge,
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, text) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case("nan") || text.eq_ignore_ascii_case("inf") {
            return Err(DecimalError::NotFinite);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| DecimalError::NotANumber)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let all_digits = digits.iter().all(u8::is_ascii_digit);
        if whole.is_empty() || mantissa.ends_with('.') || !all_digits || digits.len() > 1000 {
            return Err(DecimalError::NotANumber);
        }
        // value = digits · 10^shift steps of 1e-9; leading and trailing zeros carry nothing.
        let mut shift = 9 + i64::from(exponent) - fraction.len() as i64;
        let mut digits: &[u8] = &digits;
        while let [b'0', rest @ ..] = digits {
            digits = rest;
        }
        while let [rest @ .., b'0'] = digits {
            (digits, shift) = (rest, shift + 1);
        }
        if digits.is_empty() {
            return Ok(Decimal::ZERO);
        }
        if shift < 0 {
            return Err(DecimalError::TooFine);
        }
        if digits.len() as i64 + shift > 19 {
            return Err(DecimalError::TooLarge);
        }
        let mut nanos = digits.iter().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        nanos *= 10_i128.pow(shift as u32);
        if negative {
            nanos = -nanos;
        }
        i64::try_from(nanos).map(Decimal).map_err(|_| DecimalError::TooLarge)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0).unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (nanos / NANOS as u128, nanos % NANOS as u128);
        if fraction == 0 {
            return f.pad(&format!("{sign}{whole}"));
        }
        f.pad(format!("{sign}{whole}.{fraction:09}").trim_end_matches('0'))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_parsed_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("-0.0", 0),
            ("1e-3", 1_000_000),
            ("0.001", 1_000_000),
            ("+1.5E2", 150_000_000_000),
            ("1e-9", 1),
            ("0.1000000000000", 100_000_000),
            ("0e99", 0),
            ("9223372036.854775807", i64::MAX),
            ("-9223372036.854775808", i64::MIN),
        ] {
            assert_eq!(text.parse::<Decimal>(), Ok(Decimal(nanos)), "{text}");
        }
    }

    #[test]
    fn what_has_no_exact_value_is_refused_and_not_rounded() {
        for (text, error) in [
            ("nan", DecimalError::NotFinite),
            ("-inf", DecimalError::NotFinite),
            ("1e-10", DecimalError::TooFine),
            ("0.0000000001", DecimalError::TooFine),
            ("1e10", DecimalError::TooLarge),
            ("9223372036.854775808", DecimalError::TooLarge),
            ("1e999999999", DecimalError::TooLarge),
            ("1e-999999999", DecimalError::TooFine),
            ("", DecimalError::NotANumber),
            (".5", DecimalError::NotANumber),
            ("5.", DecimalError::NotANumber),
            ("1e", DecimalError::NotANumber),
            ("--1", DecimalError::NotANumber),
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(error), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_decimal_survives_its_text_form(nanos: i64) {
            let decimal = Decimal(nanos);
            proptest::prop_assert_eq!(decimal.to_string().parse::<Decimal>(), Ok(decimal));
        }
    }
}
