//! What each slot of the day saw of demand and supply: what `dynamic` prices and estimates are made of. Integers only.

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{Resources, TimeMs};

use crate::{Job, Ledger, Machine, PricePolicy};

/// Cores, GPUs, MiB of memory, MiB of disk: the order of the four units.
///
/// 128 bits: offers are what lenders say that they have, and the sum of many, times the milliseconds of a slot, must not overflow.
pub(crate) type Quantities = [u128; 4];

/// The most that a pressure counts: four times as much is wanted as there is.
const MAX_PRESSURE_PERMILLE: u32 = 4_000;

fn quantities(resources: &Resources, times: u32) -> Quantities {
    let Resources { cores, gpus, ram_mib, disk_mib } = *resources;
    [cores.into(), gpus.into(), ram_mib, disk_mib].map(|quantity: u64| u128::from(quantity) * u128::from(times))
}

fn add(sum: &mut Quantities, part: Quantities) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}

fn take(sum: &mut Quantities, part: Quantities) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum -= part);
}

/// What is on offer, in use and waited for at this moment. Follows from the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    supply: Quantities,
    used: Quantities,
    /// What queued jobs' least workers ask for, by the slot of the day in which they may start.
    waiting: [Quantities; 4],
}

/// A machine's part of it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MachineFlow {
    supply: Quantities,
    used: Quantities,
}

impl MachineFlow {
    /// What a machine can serve now is its offer, where it takes work; what it is using, where it only finishes its leases.
    pub fn of(machine: &Machine) -> MachineFlow {
        let used = quantities(&machine.used, 1);
        let offer = machine.offer.filter(|_| machine.takes_work() && machine.open);
        MachineFlow { supply: offer.map_or(used, |offer| quantities(&offer.resources, 1)), used }
    }
}

impl Flow {
    pub fn move_machine(&mut self, before: MachineFlow, after: MachineFlow) {
        take(&mut self.supply, before.supply);
        take(&mut self.used, before.used);
        add(&mut self.supply, after.supply);
        add(&mut self.used, after.used);
    }

    pub fn set_queued(&mut self, job: &Job, queued: bool) {
        let demand = quantities(&job.demand, job.min_workers);
        for (_, waiting) in self.waiting.iter_mut().enumerate().filter(|(slot, _)| job.may_start_in(*slot)) {
            if queued { add(waiting, demand) } else { take(waiting, demand) }
        }
    }
}

/// Sums over the time of one slot, in units times milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct SlotFlow {
    supply: [u128; 4],
    used: [u128; 4],
    waiting: [u128; 4],
}

/// Thousandths for each unit; none where nothing was seen.
pub(crate) type Permille = [Option<u32>; 4];

/// What the slots of the day saw: today so far, and means over the days before.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Statistics {
    pub today: [SlotFlow; 4],
    /// What was used and waited for, of what was on offer.
    pub pressure: [Permille; 4],
    /// What was used, of what was on offer.
    pub utilisation: [Permille; 4],
}

/// `part` of `whole` in thousandths; none of nothing is unknown, something of nothing is the most.
fn permille(part: u128, whole: u128) -> Option<u32> {
    match (part, whole) {
        (0, 0) => None,
        (_, 0) => Some(MAX_PRESSURE_PERMILLE),
        _ => Some(u32::try_from(part.saturating_mul(1_000) / whole).unwrap_or(u32::MAX).min(MAX_PRESSURE_PERMILLE)),
    }
}

impl SlotFlow {
    /// What was to be seen for some milliseconds of this slot of the day.
    fn add(&mut self, flow: &Flow, slot: usize, ms: u64) {
        let times = |quantities: Quantities| quantities.map(|quantity| quantity * u128::from(ms));
        add(&mut self.supply, times(flow.supply));
        add(&mut self.used, times(flow.used));
        add(&mut self.waiting, times(flow.waiting[slot]));
    }

    fn utilisation(&self) -> Permille {
        [0, 1, 2, 3].map(|unit| permille(self.used[unit], self.supply[unit]))
    }

    pub fn pressure(&self) -> Permille {
        [0, 1, 2, 3].map(|unit| permille(self.used[unit] + self.waiting[unit], self.supply[unit]))
    }
}

/// The mean with one more day: `mean + weight · (day − mean)`, rounded down.
fn weighed(mean: Permille, day: Permille, weight_permille: u32) -> Permille {
    let weight = u64::from(weight_permille);
    [0, 1, 2, 3].map(|unit| match (mean[unit], day[unit]) {
        (Some(mean), Some(day)) => Some(((u64::from(mean) * (1_000 - weight) + u64::from(day) * weight) / 1_000) as u32),
        (mean, day) => day.or(mean),
    })
}

/// The weight of the last day in the mean utilisation where the price policy names none.
const USUAL_WEIGHT_PERMILLE: u32 = 300;

impl Ledger {
    /// What today's slots saw up to a moment, at most to the end of the last block's day: what lies between a midnight and the
    /// first block after it counts for no slot.
    pub(crate) fn flows_until(&self, time: TimeMs) -> [SlotFlow; 4] {
        let clock = self.params().slots;
        let mut flows = self.statistics.today;
        let mut from = self.tip.time;
        let (day, first) = clock.slot_at(from);
        for (slot, flow) in flows.iter_mut().enumerate().skip(first) {
            let end = clock.slot_end(from).min(time);
            if end <= from || clock.slot_at(from) != (day, slot) {
                break;
            }
            flow.add(&self.index.flow, slot, end.since(from));
            from = end;
        }
        flows
    }

    /// The mean pressures of the four slots when a day with these flows is over.
    pub(crate) fn pressure_after(&self, flows: &[SlotFlow; 4]) -> [Permille; 4] {
        let weight = self.mean_weight();
        [0, 1, 2, 3].map(|slot| weighed(self.statistics.pressure[slot], flows[slot].pressure(), weight))
    }

    /// The statistics for the day after one with today's flows.
    pub(crate) fn statistics_of_next_day(&self) -> Statistics {
        let (flows, weight) = (&self.statistics.today, self.mean_weight());
        let utilisation = [0, 1, 2, 3].map(|slot| weighed(self.statistics.utilisation[slot], flows[slot].utilisation(), weight));
        Statistics { today: Default::default(), pressure: self.pressure_after(flows), utilisation }
    }

    fn mean_weight(&self) -> u32 {
        match &self.params().price_policy {
            PricePolicy::Random => USUAL_WEIGHT_PERMILLE,
            PricePolicy::Dynamic(pricing) => pricing.weight_permille,
        }
    }

    /// How much of the cores on offer is used in a slot of the day, in thousandths: the mean of earlier days, else what today
    /// saw so far, else nothing.
    pub fn utilisation_permille(&self, slot: usize) -> u32 {
        let [cores, ..] = self.statistics.utilisation[slot];
        let [today, ..] = self.statistics.today[slot].utilisation();
        cores.or(today).unwrap_or(0).min(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_unknown_or_the_most() {
        assert_eq!(permille(0, 0), None);
        assert_eq!(permille(1, 0), Some(MAX_PRESSURE_PERMILLE));
        assert_eq!(permille(1, 3), Some(333));
        assert_eq!(permille(u128::MAX, 1), Some(MAX_PRESSURE_PERMILLE));
    }

    #[test]
    fn a_day_without_news_leaves_the_mean() {
        let none = [None; 4];
        let some = [Some(1_000), None, Some(0), Some(500)];
        assert_eq!(weighed(some, none, 300), some);
        assert_eq!(weighed(none, some, 300), some);
        assert_eq!(weighed(some, [Some(0), Some(7), Some(100), Some(501)], 300), [Some(700), Some(7), Some(30), Some(500)]);
    }
}
