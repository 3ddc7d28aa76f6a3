use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Credits, FormError, TimeMs, canonical::check_text};

/// Milliseconds in one hour.
const HOUR_MS: u128 = 3_600_000;
/// MiB in one GiB.
const MIB_PER_GIB: u128 = 1024;

/// What one worker uses or one machine offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU cores.
    pub cores: u32,
    /// Whole GPUs.
    pub gpus: u32,
    /// Memory in MiB.
    pub ram_mib: u64,
    /// Disk in MiB.
    pub disk_mib: u64,
}

impl Resources {
    /// Does this have at least what `other` asks for?
    pub fn covers(&self, other: &Resources) -> bool {
        self.cores >= other.cores && self.gpus >= other.gpus && self.ram_mib >= other.ram_mib && self.disk_mib >= other.disk_mib
    }

    /// What remains after `other` is taken; `None` where it isn't covered.
    #[must_use]
    pub fn checked_sub(&self, other: &Resources) -> Option<Resources> {
        Some(Resources {
            cores: self.cores.checked_sub(other.cores)?,
            gpus: self.gpus.checked_sub(other.gpus)?,
            ram_mib: self.ram_mib.checked_sub(other.ram_mib)?,
            disk_mib: self.disk_mib.checked_sub(other.disk_mib)?,
        })
    }
}

/// The price of each resource for one hour (the paper's CPU, GPU, RAM and disk units, section II-A).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitPrices {
    /// One CPU core for one hour.
    pub core_hour: Credits,
    /// One GPU for one hour.
    pub gpu_hour: Credits,
    /// One GiB of memory for one hour.
    pub ram_gib_hour: Credits,
    /// One GiB of disk for one hour.
    pub disk_gib_hour: Credits,
}

impl UnitPrices {
    /// The price of resources for some milliseconds. Each of the four products is rounded down to the microcredit: the
    /// remainder stays with the borrower. Saturates at `u64::MAX` microcredits.
    pub fn cost(&self, resources: &Resources, ms: u64) -> Credits {
        let product = |quantity: u64, price: Credits, units_per_priced: u128| {
            let quantity_price = u128::from(quantity) * u128::from(price.micro());
            quantity_price.checked_mul(u128::from(ms)).map_or(u128::MAX, |p| p / (HOUR_MS * units_per_priced))
        };
        let products = [
            product(resources.cores.into(), self.core_hour, 1),
            product(resources.gpus.into(), self.gpu_hour, 1),
            product(resources.ram_mib, self.ram_gib_hour, MIB_PER_GIB),
            product(resources.disk_mib, self.disk_gib_hour, MIB_PER_GIB),
        ];
        let sum = products.into_iter().fold(0_u128, u128::saturating_add);
        Credits::from_micro(u64::try_from(sum).unwrap_or(u64::MAX))
    }
}

/// The prices of one day's four slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPrices {
    /// The day, as [`SlotClock::slot_at`] counts.
    pub day: u64,
    /// The prices of slots 0 to 3.
    pub slots: [UnitPrices; 4],
}

/// Divides time into days of four slots, from 00:00 at the market's offset. A slot is six hours on a real market and may
/// be seconds in a test: a "day" is always four slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotClock {
    /// The length of one slot in milliseconds; not zero.
    pub slot_ms: u64,
    /// What is added to UTC to get the market's clock, in milliseconds.
    pub utc_offset_ms: i64,
}

impl SlotClock {
    fn local(&self, time: TimeMs) -> u64 {
        time.0.saturating_add_signed(self.utc_offset_ms)
    }

    /// The day and the slot of the day (0 to 3) that a moment falls into.
    pub fn slot_at(&self, time: TimeMs) -> (u64, usize) {
        let slot = self.local(time) / self.slot_ms;
        (slot / 4, (slot % 4) as usize)
    }

    /// The first moment of the slot after the one that `time` falls into.
    pub fn slot_end(&self, time: TimeMs) -> TimeMs {
        let remaining = self.slot_ms - self.local(time) % self.slot_ms;
        time.plus(remaining)
    }
}

/// When an offer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// From now on.
    Always,
    /// From now until a moment.
    Until(TimeMs),
}

/// What a lender offers of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The lent fraction of the machine.
    pub resources: Resources,
    /// When.
    pub availability: Availability,
    /// The machine is used only in slots whose core-hour costs at least this.
    pub min_core_hour: Credits,
}

/// How an offer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawMode {
    /// Now; a running lease ends and is paid up to its last receipt.
    AtOnce,
    /// When the running lease has ended; no new one starts.
    AfterLease,
}

/// What `lend verify` measured of a machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// A name that its owner gave.
    pub name: String,
    /// Operating system and architecture, for example `linux x86_64`.
    pub platform: String,
    /// The CPU's model name.
    pub cpu: String,
    /// All of the machine's resources.
    pub resources: Resources,
    /// Measured training speed of one core in million multiply-adds a second, on the benchmark of `lend verify`.
    pub speed: u64,
    /// The trainer's version, part of the determinism class.
    pub trainer: String,
}

impl MachineConfig {
    /// The most characters of each text field.
    pub const TEXT_LIMIT: usize = 80;

    /// Refuses unprintable or overlong text.
    pub fn check(&self) -> Result<(), FormError> {
        check_text("machine name", &self.name, Self::TEXT_LIMIT)?;
        check_text("platform", &self.platform, Self::TEXT_LIMIT)?;
        check_text("cpu", &self.cpu, Self::TEXT_LIMIT)?;
        check_text("trainer", &self.trainer, Self::TEXT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_start_at_midnight_of_the_markets_clock() {
        let clock = SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: -8 * 3_600_000 };
        let midnight_in_portland = TimeMs(20_000 * 86_400_000 + 8 * 3_600_000);
        assert_eq!(clock.slot_at(midnight_in_portland), (20_000, 0));
        assert_eq!(clock.slot_at(TimeMs(midnight_in_portland.0 - 1)), (19_999, 3));
        assert_eq!(clock.slot_end(midnight_in_portland), midnight_in_portland.plus(6 * 3_600_000));
        assert_eq!(clock.slot_end(TimeMs(midnight_in_portland.0 - 1)), midnight_in_portland);
    }

    #[test]
    fn a_cost_rounds_each_product_down() {
        let prices = UnitPrices {
            core_hour: Credits::from_micro(3_600_001),
            ram_gib_hour: Credits::from_credits(1),
            ..UnitPrices::default()
        };
        let resources = Resources { cores: 1, ram_mib: 1024, ..Resources::default() };
        assert_eq!(prices.cost(&resources, 1_000), Credits::from_micro(1_000 + 277));
        assert_eq!(prices.cost(&resources, 3_600_000), Credits::from_micro(3_600_001 + 1_000_000));
        let huge = Resources { cores: u32::MAX, gpus: u32::MAX, ram_mib: u64::MAX, disk_mib: u64::MAX };
        let dear = UnitPrices { core_hour: Credits::from_micro(u64::MAX), ram_gib_hour: Credits::from_micro(u64::MAX), ..prices };
        assert_eq!(dear.cost(&huge, u64::MAX), Credits::from_micro(u64::MAX));
    }
}
