//! `lend evaluate`: what an offer would earn, and what an account may expect of the next 24 hours (the paper's figures 2, 3).

use deepmarket_types::{AccountId, Credits, MachineConfig, Offer, SlotClock, TimeMs, UnitPrices};

use crate::{Ledger, Rejection, machine::judge_offer, settlement::with_fee};

/// What an offer would earn in one of the next four slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEarning {
    /// The slot of the day, 0 to 3.
    pub slot: u8,
    /// When it begins; now for the running one.
    pub begins: TimeMs,
    /// How long the offer holds in it, in milliseconds.
    pub open_ms: u64,
    /// Its unit prices; of tomorrow's slots today's, which is all that is known.
    pub prices: UnitPrices,
    /// Do the prices reach the offer's minimum?
    pub reaches_minimum: bool,
    /// What it earns if all that is offered is used all the time.
    pub full: Credits,
    /// How much of what is on offer is used in this slot of the day, in thousandths.
    pub utilisation_permille: u32,
    /// `full` times the utilisation.
    pub expected: Credits,
}

/// What an account may expect of the next 24 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// What its machines earn at the usual utilisation of each slot, or by the leases that they serve, where that is more. A
    /// lease is reckoned with its share of what its job has left, at most.
    pub profit: Credits,
    /// What its open jobs cost: at most what they have in escrow.
    pub cost: Credits,
}

impl Ledger {
    /// Would `Lend` accept this offer now, of a machine with this configuration (or of any)? Whose machine it is, and whether
    /// the same one is on offer already, is not asked.
    pub fn judge_offer(&self, offer: &Offer, config: Option<&MachineConfig>) -> Result<(), Rejection> {
        judge_offer(offer, config, self.time())
    }

    /// What an offer would earn in each of the four slots from now on: the running one's rest and the three after it.
    pub fn evaluate(&self, offer: &Offer) -> [SlotEarning; 4] {
        let clock = self.params().slots;
        let mut begins = self.time();
        [0; 4].map(|_: u8| {
            let (_, slot) = clock.slot_at(begins);
            let ends = clock.slot_end(begins);
            let open_ms = open_ms(offer, &clock, begins, ends);
            let prices = self.slot_prices(slot);
            let reaches_minimum = prices.reach(&offer.minimum, &offer.resources);
            let full = if reaches_minimum { prices.cost(&offer.resources, open_ms) } else { Credits::ZERO };
            let utilisation_permille = self.utilisation_permille(slot);
            let expected = share(full, utilisation_permille);
            let slot = slot as u8;
            let earning = SlotEarning { slot, begins, open_ms, prices, reaches_minimum, full, utilisation_permille, expected };
            begins = ends;
            earning
        })
    }

    /// The estimate of the next 24 hours (of the market's day: four slots).
    pub fn estimate(&self, owner: AccountId) -> Estimate {
        let now = self.time();
        let tomorrow = now.plus(self.params().slots.day_ms());
        let machines = self.machines_of(owner).filter_map(|machine| Some((machine, machine.offer?)));
        let profits = machines.map(|(machine, offer)| {
            let expected = sum(self.evaluate(&offer).iter().map(|slot| slot.expected));
            let served = sum(self.machine_leases(machine.id).map(|lease| {
                let job = &self.jobs[&lease.job];
                let share = job.escrow().micro() / (job.active.len() as u64).max(1);
                self.cost_between(&lease.resources, &lease.minimum, now, tomorrow).min(Credits::from_micro(share))
            }));
            expected.max(served)
        });
        let open_jobs = self.jobs_of(owner).rev().filter(|job| !job.state.is_closed());
        let costs = open_jobs.take(self.params().max_open_jobs_per_account as usize).map(|job| {
            let per_worker = self.cost_between(&job.demand, &UnitPrices::default(), now, tomorrow);
            let per_worker = with_fee(per_worker, self.fee_permille(job.audit_permille));
            let workers = (job.active.len() as u64).max(u64::from(job.min_workers));
            Credits::from_micro(per_worker.micro().saturating_mul(workers)).min(job.escrow())
        });
        Estimate { profit: sum(profits), cost: sum(costs) }
    }

    /// The unit prices of a slot of the day: today's, or the floor before the first block.
    pub(crate) fn slot_prices(&self, slot: usize) -> UnitPrices {
        self.prices.today.map_or(self.params().price_floor, |prices| prices.slots[slot])
    }
}

/// How long an offer holds between two moments.
fn open_ms(offer: &Offer, clock: &SlotClock, begins: TimeMs, ends: TimeMs) -> u64 {
    let mut at = begins;
    let mut open_ms = 0;
    while at < ends {
        let next = offer.availability.next_change(clock, at).map_or(ends, |change| change.min(ends));
        if offer.availability.holds(clock, at) {
            open_ms += next.since(at);
        }
        at = next;
    }
    open_ms
}

/// A sum of estimates. It saturates: an offer may be as large as its lender says.
fn sum(parts: impl Iterator<Item = Credits>) -> Credits {
    Credits::from_micro(parts.fold(0, |sum, part| sum.saturating_add(part.micro())))
}

fn share(whole: Credits, permille: u32) -> Credits {
    let part = u128::from(whole.micro()) * u128::from(permille) / 1_000;
    Credits::from_micro(u64::try_from(part).unwrap_or(u64::MAX))
}
