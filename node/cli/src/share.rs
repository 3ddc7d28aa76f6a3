//! How much of a machine is lent, as people type it: an amount, or a share of what the machine has.

use std::fmt;

/// Of one resource: cores, GPUs, or MiB of memory or disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So much.
    Amount(u64),
    /// So many percent of what the machine has.
    Percent(u32),
}

impl Share {
    /// The amount for a machine that has `total`. A share is rounded down, but not to nothing.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Share::Amount(amount) => amount,
            Share::Percent(percent) => {
                let part = u128::from(total) * u128::from(percent) / 100;
                (part as u64).max(total.min(1))
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Amount(amount) => write!(f, "{amount}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads a count or a share: `2`, `50%`.
pub fn count(text: &str) -> Result<Share, String> {
    if let Some(share) = percent(text)? {
        return Ok(share);
    }
    // Counts are 32 bits on the chain.
    let number: u32 = text.trim().parse().map_err(|_| format!("'{text}' is neither a number nor a share like 50%"))?;
    Ok(Share::Amount(number.into()))
}

/// Reads an amount of memory or disk, or a share: `2048` (MiB), `2GiB`, `50%`.
pub fn mib(text: &str) -> Result<Share, String> {
    if let Some(share) = percent(text)? {
        return Ok(share);
    }
    let wrong = || format!("'{text}' is not an amount: write MiB (2048), GiB (2GiB) or a share (50%)");
    let typed = text.trim().to_ascii_lowercase();
    let units = [("gib", 1024), ("gb", 1024), ("g", 1024), ("mib", 1), ("mb", 1), ("m", 1), ("", 1)];
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((typed.strip_suffix(unit)?, factor))).ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(*factor).map(Share::Amount).ok_or_else(wrong)
}

fn percent(text: &str) -> Result<Option<Share>, String> {
    let Some(number) = text.trim().strip_suffix('%') else { return Ok(None) };
    match number.trim().parse() {
        Ok(percent @ 1..=100) => Ok(Some(Share::Percent(percent))),
        _ => Err(format!("'{text}' is not a share: write 1% to 100%, without decimals")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_shares_are_read() {
        assert_eq!((count("2"), count("50%")), (Ok(Share::Amount(2)), Ok(Share::Percent(50))));
        assert_eq!(
            (mib("2048"), mib("2GiB"), mib("512 MiB")),
            (Ok(Share::Amount(2048)), Ok(Share::Amount(2048)), Ok(Share::Amount(512)))
        );
        assert_eq!((mib("1g"), mib("100 %")), (Ok(Share::Amount(1024)), Ok(Share::Percent(100))));
        for bad in ["", "-1", "1.5", "two", "0%", "101%", "5.5%", "%", "99999999999"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        for bad in ["", "GiB", "1.5GiB", "18446744073709551615GiB", "2TiB", "-1"] {
            assert!(mib(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_rounded_down_but_not_to_nothing() {
        assert_eq!((Share::Percent(50).of(3), Share::Percent(50).of(1), Share::Percent(50).of(0)), (1, 1, 0));
        assert_eq!((Share::Percent(100).of(u64::MAX), Share::Amount(9).of(3)), (u64::MAX, 9));
    }
}
