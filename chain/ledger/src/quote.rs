use deepmarket_job::{JobSpec, Kind, Size};
use deepmarket_types::{Credits, TimeMs, UnitPrices};

use crate::{Ledger, matching::offer_holds};

/// What a job would cost and when it would run. It promises nothing and costs nothing (DESIGN section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Workers that would start now.
    pub workers: u32,
    /// Machines on offer and in contact that meet the demand, whether or not they are in use.
    pub machines: u32,
    /// Are there enough free ones for the job's minimum?
    pub enough: bool,
    /// When it would start; none where nobody can tell.
    pub expected_start: Option<TimeMs>,
    /// Expected training time in milliseconds; none without a measured machine.
    pub expected_ms: Option<u64>,
    /// Expected cost at the current slot's prices, at most the budget.
    pub expected_cost: Credits,
    /// What would be put into escrow.
    pub budget: Credits,
    /// The current slot, 0 to 3.
    pub current_slot: u8,
    /// The four slots.
    pub slots: Vec<SlotQuote>,
    /// The model's parameters.
    pub parameters: u64,
    /// Memory that a worker needs, in MiB.
    pub ram_mib: u64,
}

/// What a job would cost in one slot of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotQuote {
    /// The slot, 0 to 3.
    pub slot: u8,
    /// Its unit prices.
    pub prices: UnitPrices,
    /// The cost of one hour with all workers.
    pub cost_per_hour: Credits,
    /// The cost of the expected time, at most the budget.
    pub expected_cost: Credits,
}

/// Multiply-adds of one training step in those of the forward pass: the backward pass computes the gradients of the layer's
/// input and of its parameters, each about as much work as the forward pass.
const TRAINING_PASSES: u128 = 3;

/// One hour.
const HOUR_MS: u64 = 3_600_000;

/// Multiply-adds of the whole job: every training sample forward and backward, every validation sample forward, in each epoch.
/// A job that doesn't train passes forward once.
fn work(spec: &JobSpec, size: &Size, train_samples: u64, validate_samples: u64) -> u128 {
    let (train, validate) = (u128::from(train_samples), u128::from(validate_samples));
    let samples = match spec.kind {
        Kind::Train => {
            let an_epoch = TRAINING_PASSES.saturating_mul(train).saturating_add(validate);
            an_epoch.saturating_mul(u128::from(spec.training.epochs))
        }
        Kind::Evaluate | Kind::Predict => train.saturating_add(validate),
    };
    samples.saturating_mul(u128::from(size.multiply_adds))
}

/// The time that equally fast workers need, where `speed` is the slowest one's million multiply-adds a second: the ranks wait
/// for each other in every round. Rounded up.
fn expected_ms(work: u128, workers: u32, speed: u64) -> Option<u64> {
    // A million a second is a thousand a millisecond.
    let per_ms = u128::from(workers) * u128::from(speed) * 1_000;
    let ms = work.checked_add(per_ms.checked_sub(1)?)?.checked_div(per_ms)?;
    u64::try_from(ms).ok()
}

impl Ledger {
    /// Quotes a checked spec for a data set with so many samples.
    pub fn quote(&self, spec: &JobSpec, size: &Size, train_samples: u64, validate_samples: u64) -> Quote {
        let now = self.time();
        let demand = spec.demand();
        let prices_now = self.unit_prices_at(now);
        let clock = self.params().slots;
        let (_, current_slot) = clock.slot_at(now);

        let fitting: Vec<_> = self
            .machines()
            .filter(|m| m.is_watched() && m.heard && !m.draining && !m.addresses.is_empty())
            .filter(|m| offer_holds(m, now, &prices_now))
            .filter(|m| m.offer.is_some_and(|offer| offer.resources.covers(&demand)))
            .collect();
        let picked = self.pick(&demand, spec.workers.max, spec.workers.share_machine, now);
        let free = picked.len() as u32;
        let enough = free >= spec.workers.min;
        // Where nothing is free, quote for the least number of workers on the machines that would do.
        let workers = if enough { free } else { spec.workers.min };
        let speeds_picked = picked.iter().map(|id| self.machines[id].config.speed);
        let speed = if enough { speeds_picked.min() } else { fitting.iter().map(|m| m.config.speed).min() };
        let expected_ms = speed.and_then(|speed| expected_ms(work(spec, size, train_samples, validate_samples), workers, speed));

        let budget = spec.budget.max;
        let times = |one: Credits| Credits::from_micro(one.micro().saturating_mul(u64::from(workers)));
        let cost = |prices: &UnitPrices| times(prices.cost(&demand, expected_ms.unwrap_or(0))).min(budget);
        let slot_prices = self.prices().map_or([self.params().price_floor; 4], |prices| prices.slots);
        let slots = (0..).zip(&slot_prices).map(|(slot, prices)| SlotQuote {
            slot,
            prices: *prices,
            cost_per_hour: times(prices.cost(&demand, HOUR_MS)),
            expected_cost: cost(prices),
        });
        Quote {
            workers: if enough { free } else { 0 },
            machines: fitting.len() as u32,
            enough,
            expected_start: enough.then(|| self.next_start(&spec.budget.slots)).flatten(),
            expected_ms,
            expected_cost: cost(&prices_now),
            budget,
            current_slot: current_slot as u8,
            slots: slots.collect(),
            parameters: size.parameters,
            ram_mib: size.ram_mib,
        }
    }

    /// Now, or when the next slot begins in which the job may start.
    fn next_start(&self, slots: &[u8]) -> Option<TimeMs> {
        let clock = self.params().slots;
        let mut time = self.time();
        for _ in 0..5 {
            let (_, slot) = clock.slot_at(time);
            if slots.is_empty() || slots.iter().any(|&allowed| usize::from(allowed) == slot) {
                return Some(time);
            }
            time = clock.slot_end(time);
        }
        None
    }
}
