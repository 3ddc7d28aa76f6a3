//! What is counted of a simulated market.

use deepmarket_ledger::Params;
use deepmarket_types::{Credits, SlotPrices, UnitPrices};

use super::people::Need;

/// Why a need was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was never worth the quoted price.
    TooDear,
    /// It was submitted, and no machine was free until it was too late.
    NoMachine,
    /// Its job started, and prices rose above its budget before the end.
    OutOfBudget,
}

/// Counts and sums over all days of one market.
#[derive(Clone, Debug)]
pub struct Outcome {
    floor: UnitPrices,
    ceiling: UnitPrices,
    /// Core-hours on offer in each slot of the day.
    pub offered: [u64; 4],
    /// Core-hours used in each slot of the day.
    pub used: [u64; 4],
    /// Worker-hours that were needed.
    pub asked: u64,
    /// Worker-hours of needs that were served.
    pub served: u64,
    /// Worker-hours of needs that were not served: too dear, no machine, out of budget.
    pub lost: [u64; 3],
    /// For each served need, the hours from its arising to the start, and of these the hours in which its job could have run.
    pub waits: Vec<(u64, u64)>,
    /// For each need that was given up, the hours that it waited.
    pub vain_waits: Vec<u64>,
    /// What lenders were paid, in microcredits.
    pub income: u64,
    /// What their reserves say that it cost them.
    pub expense: u64,
    /// What served needs were worth.
    pub worth: u64,
    /// Each day's prices.
    pub days: Vec<SlotPrices>,
    /// Days with a price below the floor or above the ceiling.
    pub days_out_of_bounds: u64,
    /// The most that a price moved from one day to the next, in thousandths of the earlier one, rounded down.
    pub largest_change_permille: u64,
}

fn units(prices: &UnitPrices) -> [u64; 4] {
    [prices.core_hour, prices.gpu_hour, prices.ram_gib_hour, prices.disk_gib_hour].map(Credits::micro)
}

impl Outcome {
    /// Nothing seen yet.
    pub fn new(params: &Params) -> Outcome {
        Outcome {
            floor: params.price_floor,
            ceiling: params.price_ceiling,
            offered: [0; 4],
            used: [0; 4],
            asked: 0,
            served: 0,
            lost: [0; 3],
            waits: Vec::new(),
            vain_waits: Vec::new(),
            income: 0,
            expense: 0,
            worth: 0,
            days: Vec::new(),
            days_out_of_bounds: 0,
            largest_change_permille: 0,
        }
    }

    /// A need arose.
    pub fn ask(&mut self, need: &Need) {
        self.asked += need.worker_hours();
    }

    /// A need was served: it arose, its job could have run, and ran, from these hours on.
    pub fn serve(&mut self, need: &Need, arose: u64, ready: u64, started: u64, paid: Credits) {
        self.served += need.worker_hours();
        self.waits.push((started - arose, started.saturating_sub(ready)));
        self.income += paid.micro();
        self.worth += need.worth();
    }

    /// A need was given up after some hours, and something paid for it all the same.
    pub fn lose(&mut self, need: &Need, why: Lost, waited: u64, paid: Credits) {
        self.lost[why as usize] += need.worker_hours();
        self.vain_waits.push(waited.min(need.patience));
        self.income += paid.micro();
    }

    /// A day's prices were set.
    pub fn see_prices(&mut self, prices: &SlotPrices) {
        let bounds = units(&self.floor).into_iter().zip(units(&self.ceiling));
        let bounds: Vec<(u64, u64)> = bounds.collect();
        let within = |slot: &UnitPrices| units(slot).iter().zip(&bounds).all(|(p, (low, high))| (low..=high).contains(&p));
        self.days_out_of_bounds += u64::from(!prices.slots.iter().all(within));
        if let Some(before) = self.days.last() {
            for (old, new) in before.slots.iter().zip(&prices.slots) {
                for (old, new) in units(old).into_iter().zip(units(new)) {
                    // A price is rounded down to a microcredit: up to that much is no change of policy.
                    let moved = if new < old { (old - new).saturating_sub(1) } else { new - old };
                    self.largest_change_permille = self.largest_change_permille.max(moved * 1_000 / old.max(1));
                }
            }
        }
        self.days.push(*prices);
    }

    /// A machine is on offer and in use with so many cores for an hour.
    pub fn see_machine(&mut self, slot: usize, offered: u32, used: u32, reserve: u64) {
        self.offered[slot] += u64::from(offered);
        self.used[slot] += u64::from(used);
        self.expense += u64::from(used) * reserve;
    }

    /// Core-hours used of those on offer.
    pub fn utilisation(&self) -> f64 {
        self.used.iter().sum::<u64>() as f64 / self.offered.iter().sum::<u64>() as f64
    }

    /// Core-hours used of those on offer in one slot of the day.
    pub fn slot_utilisation(&self, slot: usize) -> f64 {
        self.used[slot] as f64 / self.offered[slot].max(1) as f64
    }

    /// Worker-hours served of those needed.
    pub fn share_served(&self) -> f64 {
        self.served as f64 / self.asked as f64
    }

    /// Worker-hours not served for a reason, of those needed.
    pub fn share_lost(&self, why: Lost) -> f64 {
        self.lost[why as usize] as f64 / self.asked as f64
    }

    /// Mean hours from a need's arising to its start.
    pub fn mean_wait(&self) -> f64 {
        self.waits.iter().map(|wait| wait.0).sum::<u64>() as f64 / self.waits.len() as f64
    }

    /// The hours within which 95 of 100 served needs were started.
    pub fn p95_wait(&self) -> u64 {
        let mut waits: Vec<u64> = self.waits.iter().map(|wait| wait.0).collect();
        waits.sort_unstable();
        waits.get(waits.len() * 95 / 100).copied().unwrap_or_default()
    }

    /// Mean hours that a job waited for machines: submitted, and in a slot that it may run in.
    pub fn mean_queue(&self) -> f64 {
        self.waits.iter().map(|wait| wait.1).sum::<u64>() as f64 / self.waits.len() as f64
    }

    /// Mean hours that any need waited, those that were given up included.
    pub fn mean_wait_of_all(&self) -> f64 {
        let served = self.waits.iter().map(|wait| wait.0).sum::<u64>();
        let vain = self.vain_waits.iter().sum::<u64>();
        (served + vain) as f64 / (self.waits.len() + self.vain_waits.len()) as f64
    }

    /// The mean price of one worker's hour (a core, a GiB of memory, a GiB of disk) in each slot, in credits.
    pub fn mean_prices(&self) -> [f64; 4] {
        [0, 1, 2, 3].map(|slot| {
            let sum: f64 = self.days.iter().map(|day| worker_hour(&day.slots[slot])).sum();
            sum / self.days.len() as f64
        })
    }
}

/// What one worker's hour costs at these prices, in credits.
pub fn worker_hour(prices: &UnitPrices) -> f64 {
    [prices.core_hour, prices.ram_gib_hour, prices.disk_gib_hour].map(Credits::micro).iter().sum::<u64>() as f64 / 1e6
}
