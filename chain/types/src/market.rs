use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Credits, FormError, Hash, TimeMs, canonical::check_text};

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

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { cores, gpus, ram_mib, disk_mib } = self;
        write!(f, "{cores} cores, {gpus} GPUs, {ram_mib} MiB memory, {disk_mib} MiB disk")
    }
}

impl Resources {
    /// Does this have at least what `other` asks for?
    pub fn covers(&self, other: &Resources) -> bool {
        self.cores >= other.cores && self.gpus >= other.gpus && self.ram_mib >= other.ram_mib && self.disk_mib >= other.disk_mib
    }

    /// Both together, saturating.
    #[must_use]
    pub fn plus(&self, other: &Resources) -> Resources {
        Resources {
            cores: self.cores.saturating_add(other.cores),
            gpus: self.gpus.saturating_add(other.gpus),
            ram_mib: self.ram_mib.saturating_add(other.ram_mib),
            disk_mib: self.disk_mib.saturating_add(other.disk_mib),
        }
    }

    /// What remains after `other` is taken, none of what it has more of.
    #[must_use]
    pub fn saturating_sub(&self, other: &Resources) -> Resources {
        Resources {
            cores: self.cores.saturating_sub(other.cores),
            gpus: self.gpus.saturating_sub(other.gpus),
            ram_mib: self.ram_mib.saturating_sub(other.ram_mib),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
        }
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
    /// Does each unit that `resources` have cost at least what `minimum` asks?
    pub fn reach(&self, minimum: &UnitPrices, resources: &Resources) -> bool {
        let units = [
            (u64::from(resources.cores), self.core_hour, minimum.core_hour),
            (u64::from(resources.gpus), self.gpu_hour, minimum.gpu_hour),
            (resources.ram_mib, self.ram_gib_hour, minimum.ram_gib_hour),
            (resources.disk_mib, self.disk_gib_hour, minimum.disk_gib_hour),
        ];
        units.into_iter().all(|(quantity, price, least)| quantity == 0 || price >= least)
    }

    /// The greater of both prices for each unit.
    #[must_use]
    pub fn at_least(&self, minimum: &UnitPrices) -> UnitPrices {
        UnitPrices {
            core_hour: self.core_hour.max(minimum.core_hour),
            gpu_hour: self.gpu_hour.max(minimum.gpu_hour),
            ram_gib_hour: self.ram_gib_hour.max(minimum.ram_gib_hour),
            disk_gib_hour: self.disk_gib_hour.max(minimum.disk_gib_hour),
        }
    }

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

    /// The length of a day: four slots.
    pub fn day_ms(&self) -> u64 {
        self.slot_ms.saturating_mul(4)
    }

    /// The day that a moment falls into, and the milliseconds since it began.
    pub fn day_at(&self, time: TimeMs) -> (u64, u64) {
        (self.local(time) / self.day_ms(), self.local(time) % self.day_ms())
    }

    /// The day of the week, 0 is Monday: day 0 was a Thursday.
    pub fn weekday(day: u64) -> u8 {
        ((day + 3) % 7) as u8
    }

    /// The day and the slot of the day (0 to 3) that a moment falls into.
    pub fn slot_at(&self, time: TimeMs) -> (u64, usize) {
        let slot = self.local(time) / self.slot_ms;
        (slot / 4, (slot % 4) as usize)
    }

    /// The first moment from `time` on that is in a wanted slot of the day; none where no slot is wanted.
    pub fn next_slot(&self, time: TimeMs, wanted: impl Fn(usize) -> bool) -> Option<TimeMs> {
        let mut at = time;
        for _ in 0..5 {
            if wanted(self.slot_at(at).1) {
                return Some(at);
            }
            at = self.slot_end(at);
        }
        None
    }

    /// The first moment of the slot after the one that `time` falls into.
    pub fn slot_end(&self, time: TimeMs) -> TimeMs {
        let remaining = self.slot_ms - self.local(time) % self.slot_ms;
        time.plus(remaining)
    }
}

/// Hours of the market's day, from a minute to a later one. Where the end isn't after the beginning, the hours go on over
/// midnight: `18:00-08:00` is an evening, the night and a morning. Equal minutes would be no time and are refused.
///
/// A minute is a 1440th of the market's day, so that the same offer means the same on a market whose day lasts seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyHours {
    /// The first minute of the day, 0 to 1439.
    pub from_minute: u16,
    /// The minute at which they end, 0 to 1440.
    pub to_minute: u16,
}

/// Days of the week: bit 0 is Monday, bit 6 Sunday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weekdays(pub u8);

impl Weekdays {
    /// Every day.
    pub const ALL: Weekdays = Weekdays(0b111_1111);

    /// Is it this day of the week (0 is Monday)?
    pub fn contains(self, weekday: u8) -> bool {
        self.0 >> weekday & 1 == 1
    }
}

impl Default for Weekdays {
    fn default() -> Self {
        Weekdays::ALL
    }
}

/// When an offer holds: on some weekdays, in some hours of them, until some moment. The default is always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Availability {
    /// The hours of a day; none for the whole day.
    #[serde(default)]
    pub hours: Option<DailyHours>,
    /// The weekdays on which these hours begin.
    #[serde(default)]
    pub weekdays: Weekdays,
    /// The offer's end; none for no end.
    #[serde(default)]
    pub until: Option<TimeMs>,
}

impl Availability {
    /// Refuses hours and days that are none.
    pub fn check(&self) -> Result<(), FormError> {
        if self.weekdays.0 == 0 || self.weekdays.0 > Weekdays::ALL.0 {
            return Err(FormError::BadAvailability("name at least one weekday"));
        }
        let Some(DailyHours { from_minute, to_minute }) = self.hours else { return Ok(()) };
        match from_minute < 1440 && to_minute <= 1440 && from_minute != to_minute {
            true => Ok(()),
            false => Err(FormError::BadAvailability("hours go from a minute of the day to another one, like 18:00-08:00")),
        }
    }

    /// Does it hold at this moment?
    pub fn holds(&self, clock: &SlotClock, now: TimeMs) -> bool {
        self.until.is_none_or(|until| now < until) && self.in_hours(clock, now)
    }

    fn in_hours(&self, clock: &SlotClock, now: TimeMs) -> bool {
        let (day, of_day_ms) = clock.day_at(now);
        let (from, to) = self.window(clock);
        let over_midnight = self.hours.is_some_and(|hours| hours.to_minute < hours.from_minute);
        let began_on = |day: u64| self.weekdays.contains(SlotClock::weekday(day));
        match over_midnight {
            false => (from..to).contains(&of_day_ms) && began_on(day),
            // The evening of today, or the morning after yesterday's evening.
            true => (of_day_ms >= from && began_on(day)) || (of_day_ms < to && day.checked_sub(1).is_some_and(began_on)),
        }
    }

    /// Beginning and end of the hours in milliseconds of the day.
    fn window(&self, clock: &SlotClock) -> (u64, u64) {
        let at = |minute: u16| (u128::from(clock.day_ms()) * u128::from(minute) / 1440) as u64;
        self.hours.map_or((0, clock.day_ms()), |hours| (at(hours.from_minute), at(hours.to_minute)))
    }

    /// The next moment after `now` at which the offer may begin or stop to hold; none where nothing changes any more.
    pub fn next_change(&self, clock: &SlotClock, now: TimeMs) -> Option<TimeMs> {
        let until = self.until.filter(|until| *until > now);
        if until.is_none() && self.until.is_some() {
            return None;
        }
        let always = self.hours.is_none() && self.weekdays == Weekdays::ALL;
        let in_hours = self.in_hours(clock, now);
        let boundaries =
            (!always).then(|| self.boundaries(clock, now).find(|at| self.in_hours(clock, *at) != in_hours)).flatten();
        [boundaries, until].into_iter().flatten().min()
    }

    /// When the offer holds next, `now` where it does already; none where it never will.
    pub fn next_opening(&self, clock: &SlotClock, now: TimeMs) -> Option<TimeMs> {
        if self.in_hours(clock, now) {
            return Some(now).filter(|now| self.until.is_none_or(|until| *now < until));
        }
        let opening = self.boundaries(clock, now).find(|at| self.in_hours(clock, *at));
        opening.filter(|at| self.until.is_none_or(|until| *at < until))
    }

    /// The beginnings and ends of hours, and midnights, in the nine days after `now`, in order.
    fn boundaries(&self, clock: &SlotClock, now: TimeMs) -> impl Iterator<Item = TimeMs> {
        let (_, of_day_ms) = clock.day_at(now);
        let midnight = now.0 - of_day_ms.min(now.0);
        let (from, to) = self.window(clock);
        let mut of_day = [0, from, to.min(clock.day_ms())];
        of_day.sort_unstable();
        let day_ms = clock.day_ms();
        (0..9)
            .flat_map(move |day: u64| of_day.map(|ms| TimeMs(midnight.saturating_add(day * day_ms + ms))))
            .filter(move |at| *at > now)
    }
}

/// What a lender offers of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The lent fraction of the machine.
    pub resources: Resources,
    /// When.
    #[serde(default)]
    pub availability: Availability,
    /// The least unit prices: the machine takes new work only in slots that reach them, and a lease that began is never paid
    /// less, also in a later slot that is cheaper.
    #[serde(default)]
    pub minimum: UnitPrices,
    /// What happens to running leases when the hours or the offer end.
    #[serde(default)]
    pub at_close: ChangeMode,
}

/// How a change of an offer, or its end, treats the leases that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMode {
    /// Now; running leases that are in the way end and are paid up to their last receipt.
    AtOnce,
    /// When the running leases have ended; no new one starts until then.
    #[default]
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
    /// The GPUs' model name; empty without any.
    pub gpu: String,
    /// A fingerprint of the physical machine: one that is on offer is not offered a second time under another key.
    pub host: Hash,
    /// All of the machine's resources.
    pub resources: Resources,
    /// Measured training speed of one core in million multiply-adds a second, on the benchmark of `lend verify`.
    pub speed: u64,
    /// The determinism class: the trainer's version, and what its probe round gave on this machine. Trainers of one class compute the
    /// same bits.
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
        check_text("gpu", &self.gpu, Self::TEXT_LIMIT)?;
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
    fn hours_hold_on_their_weekdays_and_over_midnight() {
        let clock = SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: 0 };
        // Day 4 was a Monday.
        let at = |day: u64, hour: u64| TimeMs((day * 24 + hour) * 3_600_000);
        let hours = |from_hour: u16, to_hour: u16| Some(DailyHours { from_minute: from_hour * 60, to_minute: to_hour * 60 });
        let night = Availability { hours: hours(18, 8), weekdays: Weekdays(0b1_1111), until: None };
        assert!(night.check().is_ok());
        for (day, hour, holds) in [(4, 17, false), (4, 18, true), (5, 7, true), (5, 8, false), (8, 23, true), (9, 7, true)] {
            assert_eq!(night.holds(&clock, at(day, hour)), holds, "day {day}, {hour}:00");
        }
        assert!(!night.holds(&clock, at(9, 18)) && !night.holds(&clock, at(11, 7)), "a weekend, and a Monday morning after it");
        assert_eq!(night.next_change(&clock, at(4, 19)), Some(at(5, 8)));
        assert_eq!(night.next_change(&clock, at(9, 9)), Some(at(11, 18)), "from Saturday on, Monday evening is next");
        assert_eq!(night.next_opening(&clock, at(9, 9)), Some(at(11, 18)));
        assert_eq!(night.next_opening(&clock, at(4, 20)), Some(at(4, 20)));

        let always = Availability::default();
        assert_eq!((always.holds(&clock, at(4, 3)), always.next_change(&clock, at(4, 3))), (true, None));
        let until = Availability { until: Some(at(5, 0)), ..night };
        assert_eq!(until.next_change(&clock, at(4, 19)), Some(at(5, 0)));
        assert_eq!((until.next_change(&clock, at(5, 0)), until.next_opening(&clock, at(5, 9))), (None, None));
        let sunday = Availability { hours: None, weekdays: Weekdays(0b100_0000), until: None };
        assert!(sunday.holds(&clock, at(10, 0)) && !sunday.holds(&clock, at(11, 0)));
        assert_eq!(sunday.next_change(&clock, at(4, 5)), Some(at(10, 0)));
        for bad in [
            Availability { weekdays: Weekdays(0), ..always },
            Availability { weekdays: Weekdays(128), ..always },
            Availability { hours: hours(8, 8), ..always },
            Availability { hours: hours(24, 8), ..always },
            Availability { hours: hours(8, 25), ..always },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    /// Moment by moment, on a market whose day lasts 96 ms, so that some hours of a few minutes have no millisecond at all.
    #[test]
    fn the_next_change_and_the_next_opening_are_the_first_ones_that_there_are() {
        let clock = SlotClock { slot_ms: 24, utc_offset_ms: -7 };
        let day_ms = clock.day_ms();
        let begin = 1_000 * day_ms;
        for (from_minute, to_minute) in
            [(0, 1_440), (0, 720), (600, 601), (600, 660), (1_380, 30), (720, 719), (1_439, 0), (300, 15)]
        {
            for (weekdays, until) in
                [(0b111_1111, None), (0b000_0001, None), (0b011_0010, Some(begin + 5 * day_ms + 31)), (0b100_0000, None)]
            {
                let hours = Some(DailyHours { from_minute, to_minute });
                let availability = Availability { hours, weekdays: Weekdays(weekdays), until: until.map(TimeMs) };
                assert_eq!(availability.check(), Ok(()));
                let holds = |at: u64| availability.holds(&clock, TimeMs(at));
                for now in (begin..begin + 8 * day_ms).step_by(5) {
                    let later = now + 1..now + 10 * day_ms;
                    let change = later.clone().find(|at| holds(*at) != holds(now));
                    // It may also name the end of an offer that is closed then anyway.
                    let told = availability.next_change(&clock, TimeMs(now)).map(|at| at.0);
                    let end = until.filter(|until| *until > now);
                    assert_eq!(told, [change, end].into_iter().flatten().min(), "{availability:?} at {now}");
                    let opening = (now..now + 10 * day_ms).find(|at| holds(*at));
                    let told = availability.next_opening(&clock, TimeMs(now)).map(|at| at.0);
                    assert_eq!(told, opening, "{availability:?} at {now}");
                }
            }
        }
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
