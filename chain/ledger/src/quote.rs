use deepmarket_job::{JobSpec, Kind, Size, Workers};
use deepmarket_types::{Credits, TimeMs, UnitPrices};

use crate::{
    Ledger, Machine,
    matching::{Seats, spread_by_class},
    settlement::with_fee,
};

/// What a job would cost and when it would run. It promises nothing and costs nothing (DESIGN section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Workers that would start now; 0 where it would not.
    pub workers: u32,
    /// Machines on offer now that meet the demand, whether or not they are in use.
    pub machines: u32,
    /// Are there enough free ones for the job's minimum, in this slot?
    pub enough: bool,
    /// When it would start: now, or with the first slot that the job may start in and that has enough machines on offer; none
    /// where nobody can tell, because machines are in use or not offered.
    pub expected_start: Option<TimeMs>,
    /// Expected time from the start to the end, in milliseconds; none without a measured machine.
    pub expected_ms: Option<u64>,
    /// Expected cost from the expected start on, across slots and with the machines' minimum prices, at most the budget. Where no
    /// start can be told, of the first slot in which the job may start.
    pub expected_cost: Credits,
    /// What would be put into escrow: the most that the job can cost.
    pub budget: Credits,
    /// Does the budget cover the expected cost?
    pub covered: bool,
    /// The current slot, 0 to 3.
    pub current_slot: u8,
    /// The four slots of the day.
    pub slots: Vec<SlotQuote>,
    /// The model's parameters.
    pub parameters: u64,
    /// Memory that a worker needs, in MiB.
    pub ram_mib: u64,
    /// So many of a thousand receipts are audited at least; 0: none.
    pub audit_permille: u32,
    /// What that costs, in thousandths of what workers are paid. All costs here include it.
    pub fee_permille: u32,
}

/// What a job would cost if it started in one slot of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotQuote {
    /// The slot, 0 to 3.
    pub slot: u8,
    /// When it begins: now for the current one, else its next beginning.
    pub begins: TimeMs,
    /// May the job start in it, by its spec?
    pub allowed: bool,
    /// Its unit prices.
    pub prices: UnitPrices,
    /// Workers that the machines on offer in it could be, whether or not they are in use.
    pub workers: u32,
    /// Are these enough for the job's minimum?
    pub enough: bool,
    /// When the job would start in it: now where enough machines are free; its beginning for a later slot with enough machines
    /// on offer; none otherwise.
    pub expected_start: Option<TimeMs>,
    /// The cost of one hour with the quoted workers.
    pub cost_per_hour: Credits,
    /// The cost of the expected time from the slot's beginning on, across slots and with the machines' minimum prices; not limited
    /// by the budget.
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

/// Multiply-adds of training on some samples.
pub(crate) fn training_work(multiply_adds: u64, samples: u64) -> u128 {
    TRAINING_PASSES.saturating_mul(u128::from(samples)).saturating_mul(u128::from(multiply_adds))
}

/// All of a job's work, where parts of it are added up: fine enough for parts of centuries, and a million of them fit.
const WHOLE: u128 = 1 << 100;

/// The time that one worker needs for some work at so many million multiply-adds a second. Rounded up.
fn expected_ms(work: u128, speed: u64) -> Option<u64> {
    // A million a second is a thousand a millisecond.
    let per_ms = u128::from(speed) * 1_000;
    let ms = work.checked_add(per_ms.checked_sub(1)?)?.checked_div(per_ms)?;
    u64::try_from(ms).ok()
}

/// How a quote is reckoned for a job and a data set.
struct Asked<'a> {
    spec: &'a JobSpec,
    /// Multiply-adds of the whole job, and of its training alone.
    work: u128,
    training: u128,
}

impl Ledger {
    /// Quotes a checked spec for a data set with so many samples.
    pub fn quote(&self, spec: &JobSpec, size: &Size, train_samples: u64, validate_samples: u64) -> Quote {
        let now = self.time();
        let demand = spec.demand();
        let budget = spec.budget.max;
        let clock = self.params().slots;
        let (_, current_slot) = clock.slot_at(now);
        let training = match spec.kind {
            Kind::Train => training_work(size.multiply_adds, train_samples.saturating_mul(spec.training.epochs.into())),
            Kind::Evaluate | Kind::Predict => 0,
        };
        let audit_permille = self.audit_permille(spec, size);
        let fee_permille = self.fee_permille(audit_permille);
        let asked = Asked { spec, work: work(spec, size, train_samples, validate_samples), training };

        let picked = self.pick(&demand, wanted(spec));
        let picked: Vec<&Machine> = picked.iter().map(|id| &self.machines[id]).collect();
        let free = picked.len() as u32;
        let enough = free >= spec.workers.min;

        let mut machines = 0;
        let mut times_ms = [None; 4];
        let slots: Vec<SlotQuote> = (0..4_u8)
            .map(|slot| {
                let wanted = usize::from(slot);
                let current = wanted == current_slot;
                let begins = clock.next_slot(now, |slot| slot == wanted).unwrap_or(now);
                let on_offer = self.on_offer(spec, begins, wanted);
                if current {
                    machines = on_offer.len() as u32;
                }
                let seats = seats(spec, &on_offer);
                let workers = seats.len() as u32;
                let slot_enough = workers >= spec.workers.min;
                // Those that would work: the free ones now, else the best on offer, as matching would take them.
                let team = if current && enough { &picked } else { &seats };
                let expected_ms = team_time(&asked, team);
                times_ms[wanted] = expected_ms;
                let ends = begins.plus(expected_ms.unwrap_or(0));
                let prices = self.slot_prices(wanted);
                SlotQuote {
                    slot,
                    begins,
                    allowed: spec.budget.slots.is_empty() || spec.budget.slots.contains(&slot),
                    prices,
                    workers,
                    enough: slot_enough,
                    expected_start: if current { enough.then_some(now) } else { slot_enough.then_some(begins) },
                    cost_per_hour: team_cost(spec, team, |_| with_fee(prices.cost(&demand, HOUR_MS), fee_permille)),
                    expected_cost: team_cost(spec, team, |minimum| {
                        with_fee(self.cost_between(&demand, minimum, begins, ends), fee_permille)
                    }),
                }
            })
            .collect();

        // The first start that can be told, else the first slot in which it may start.
        let allowed = || slots.iter().filter(|slot| slot.allowed);
        let first = allowed().filter(|slot| slot.expected_start.is_some()).min_by_key(|slot| slot.expected_start);
        let shown = first.or_else(|| allowed().min_by_key(|slot| slot.begins)).unwrap_or(&slots[current_slot]);
        let starts_now = first.is_some_and(|slot| usize::from(slot.slot) == current_slot);
        Quote {
            workers: if starts_now { free } else { 0 },
            machines,
            enough,
            expected_start: first.and_then(|slot| slot.expected_start),
            expected_ms: times_ms[usize::from(shown.slot)],
            expected_cost: shown.expected_cost.min(budget),
            budget,
            covered: shown.expected_cost <= budget,
            current_slot: current_slot as u8,
            parameters: size.parameters,
            ram_mib: size.ram_mib,
            audit_permille,
            fee_permille,
            slots,
        }
    }

    /// Machines that would take work of this demand at a moment, whether or not they are in use, in the order of matching.
    fn on_offer(&self, spec: &JobSpec, at: TimeMs, slot: usize) -> Vec<&Machine> {
        let (demand, prices, clock) = (spec.demand(), self.slot_prices(slot), self.params().slots);
        let fits = |machine: &&Machine| {
            machine.takes_work()
                && machine.offer.is_some_and(|offer| {
                    offer.resources.covers(&demand)
                        && offer.availability.holds(&clock, at)
                        && prices.reach(&offer.minimum, &offer.resources)
                })
        };
        let mut machines: Vec<&Machine> = self.machines().filter(fits).collect();
        machines.sort_by_key(|machine| machine.rank());
        machines
    }
}

/// The workers that a job asks for.
fn wanted(spec: &JobSpec) -> Seats {
    let Workers { min: least, max: most, share_machine, .. } = spec.workers;
    Seats { least, most, share_machine }
}

/// The machines of the workers that a job would have on these if nothing else ran on them, as matching would choose them.
fn seats<'a>(spec: &JobSpec, machines: &[&'a Machine]) -> Vec<&'a Machine> {
    let offered =
        machines.iter().filter_map(|machine| Some((*machine, machine.config.trainer.as_str(), machine.offer?.resources)));
    spread_by_class(offered, &spec.demand(), wanted(spec), None)
}

/// The time that these machines need, one worker on each: shares follow speed, so that all work until the end. If they are fewer
/// than the job's least number of workers, those that are missing are reckoned as the slowest of them. Machines that finished leases
/// are reckoned with the speed that these showed, which has everything in it but the validation; others with their benchmark's.
/// None without a machine whose speed is known.
fn team_time(asked: &Asked, team: &[&Machine]) -> Option<u64> {
    let alone = |machine: &&Machine| match machine.observed_speed {
        0 => expected_ms(asked.work, machine.config.speed),
        speed if asked.training > 0 => expected_ms(asked.training, speed),
        speed => expected_ms(asked.work, speed),
    };
    let mut times: Vec<u64> = team.iter().filter_map(alone).map(|ms| ms.max(1)).collect();
    let slowest = *times.iter().max()?;
    times.resize(times.len().max(asked.spec.workers.min as usize), slowest);
    // What each does in a millisecond, rounded down; together they do all of it, but for what rounding may have cost. Rounded up.
    let in_a_ms: u128 = times.iter().map(|ms| WHOLE / u128::from(*ms)).sum();
    u64::try_from((WHOLE - (WHOLE >> 40)).div_ceil(in_a_ms)).ok()
}

/// What these machines cost together, given what one with a minimum price costs; the job's least number of workers if they are
/// fewer.
fn team_cost(spec: &JobSpec, team: &[&Machine], one: impl Fn(&UnitPrices) -> Credits) -> Credits {
    let minimum = |machine: &&Machine| machine.offer.map_or(UnitPrices::default(), |offer| offer.minimum);
    let missing = (spec.workers.min as usize).saturating_sub(team.len());
    let minimums = team.iter().map(minimum).chain(std::iter::repeat_n(UnitPrices::default(), missing));
    Credits::from_micro(minimums.fold(0, |sum, minimum| sum.saturating_add(one(&minimum).micro())))
}
