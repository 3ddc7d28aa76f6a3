use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_job::{Evidence, JobSpec, Kind, Mode, Optimizer, Outer, Size};
use deepmarket_types::{
    AccountId, Checkpoint, Credits, Event, Hash, JobId, JobState, LeaseId, Posting, Purse, Resources, RoundTrace, TimeMs,
    UnitPrices,
};

use crate::{Ledger, Rejection, StateKey, change::Change, settlement::with_fee};

/// The most of a spec's error that is stored with the rejected transaction: the error may quote the spec.
const MAX_SPEC_ERROR_CHARS: usize = 400;

/// Bytes of what a trainer saves of a model: parameters, statistics, and the optimizers' vectors; floats of 4 bytes.
fn state_bytes(spec: &JobSpec, size: &Size) -> u64 {
    let inner = match spec.training.optimizer {
        Optimizer::Sgd { .. } => 1,
        Optimizer::Adam { .. } | Optimizer::AdamW { .. } => 2,
    };
    let outer = match spec.training.mode {
        Mode::Local { outer: Outer::Nesterov { .. }, .. } => 2,
        Mode::Local { outer: Outer::Average, .. } => 1,
        Mode::Sync | Mode::Async { .. } => 0,
    };
    4 * (size.parameters * (1 + inner + outer) + size.buffers)
}

/// A submitted job. Its spec's bytes are an entry of their own: [`Ledger::spec`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// Who pays for it.
    pub owner: AccountId,
    /// Its name.
    pub name: String,
    /// The fewest workers that it starts with.
    pub min_workers: u32,
    /// The most workers.
    pub max_workers: u32,
    /// May several of its workers run on one machine?
    pub share_machine: bool,
    /// The failures of workers that it survives.
    pub restarts: u32,
    /// Multiply-adds of one sample's forward pass, from the spec.
    pub multiply_adds: u64,
    /// What each worker needs.
    pub demand: Resources,
    /// The slots of the day in which it may start; empty for any.
    pub slots: Vec<u8>,
    /// The seed that the spec states.
    pub training_seed: u64,
    /// How it stands.
    pub state: JobState,
    /// When it was submitted.
    pub submitted: TimeMs,
    /// When the workers with which it began to train were matched. Stays when others take their place.
    pub started: Option<TimeMs>,
    /// When it closed.
    pub ended: Option<TimeMs>,
    /// So many of a thousand windows are audited at least: the market's floor, or what the spec asks for. 0: none ever is, because
    /// the market has no audits, because it is no training, because a local round has more steps than a dispute can show
    /// ([`RoundTrace::MAX_STEPS`]), or because a round's inputs would be too large to be handed over: the state of its model has
    /// more than half of [`Evidence::MAX_BYTES`].
    pub audit_permille: u32,
    /// What was put into escrow.
    pub budget: Credits,
    /// What is left of the starting credits in escrow; they are spent first.
    pub escrow_granted: Credits,
    /// What is left of the earned credits in escrow.
    pub escrow_earned: Credits,
    /// What was paid to lenders: with what is held until it vests.
    pub paid: Credits,
    /// What was paid for audits, on top of it.
    pub fees: Credits,
    /// What came back when it closed.
    pub refunded: Credits,
    /// The lease that aborted it; none where no single one did.
    pub blamed: Option<LeaseId>,
    /// Workers that failed so far. Leaving, being taken back and losing contact don't count.
    pub failures: u32,
    /// The last state that was stored on the way: what it goes on from when all its workers are lost.
    pub checkpoint: Option<Checkpoint>,
    /// What the first member that did all rounds reported; the others must report the same.
    pub finished: Option<FinalModel>,
    /// All leases it ever had, by rank.
    pub leases: Vec<LeaseId>,
    /// Those of them that are active.
    pub active: BTreeSet<LeaseId>,
    /// Those of the active ones that train together, in order: the longest-serving first.
    pub members: Vec<LeaseId>,
    /// Counts the blocks that changed `members`.
    pub generation: u32,
    /// Fixed by the chain when it was first matched: decides the order of the data, so that a lender can't choose what is
    /// checked.
    pub seed: Option<Hash>,
}

/// What a worker that did all rounds holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FinalModel {
    /// The blob that it stored.
    pub model: Hash,
    /// The hash of its parameters.
    pub parameters: Hash,
}

impl Job {
    /// What is left in escrow.
    pub fn escrow(&self) -> Credits {
        [self.escrow_granted, self.escrow_earned].into_iter().sum()
    }

    /// Does it wait for machines: because it was submitted, or because all its workers were lost?
    pub fn is_waiting(&self) -> bool {
        !self.state.is_closed() && self.active.is_empty()
    }

    /// Could more workers help it? Not where it has as many as it may have, and not once a member has done all rounds.
    pub(crate) fn may_grow(&self) -> bool {
        !self.active.is_empty() && self.active.len() < self.max_workers as usize && self.finished.is_none()
    }

    /// The model, once finished.
    pub fn result(&self) -> Option<Hash> {
        match self.state {
            JobState::Finished(hash) => Some(hash),
            _ => None,
        }
    }

    /// May it start in a slot of the day?
    pub fn may_start_in(&self, slot: usize) -> bool {
        self.slots.is_empty() || self.slots.iter().any(|&allowed| usize::from(allowed) == slot)
    }
}

impl Ledger {
    /// `Borrow`: the spec is sound (so it asks for at least one worker with one core, and states a budget); the account's open
    /// jobs and the queue have room; the budget covers one interval of the least number of workers at the prices of `now`, or
    /// of the cheapest slot that the spec names, and is in the purses.
    pub(crate) fn check_borrow(&self, owner: AccountId, spec: &[u8], now: TimeMs) -> Result<JobSpec, Rejection> {
        let spec = JobSpec::from_bytes(spec)
            .map_err(|error| Rejection::BadSpec(error.to_string().chars().take(MAX_SPEC_ERROR_CHARS).collect()))?;
        let account = &self.accounts[&owner];
        let params = self.params();
        if account.open_jobs >= params.max_open_jobs_per_account {
            return Err(Rejection::TooManyOpenJobs(params.max_open_jobs_per_account));
        }
        if self.index.queued.len() >= params.max_queued_jobs as usize {
            return Err(Rejection::QueueFull(params.max_queued_jobs));
        }
        let budget = spec.budget.max;
        let interval_ms = params.receipt_ms;
        let minimum = self.cheapest_interval(&spec, now);
        if budget < minimum {
            return Err(Rejection::BudgetTooSmall { budget, minimum, workers: spec.workers.min, interval_ms });
        }
        let have = account.spendable();
        if have < budget {
            return Err(Rejection::NotEnoughCredits { have, need: budget });
        }
        Ok(spec)
    }

    /// What one interval of the least number of workers costs in the cheapest slot of today in which the job may start.
    fn cheapest_interval(&self, spec: &JobSpec, now: TimeMs) -> Credits {
        let fee_permille = spec.check().map_or(0, |size| self.fee_permille(self.audit_permille(spec, &size)));
        let cost = |prices: UnitPrices| self.interval_cost(&prices, &spec.demand(), spec.workers.min, fee_permille);
        let allowed = spec.budget.slots.iter().filter_map(|&slot| self.prices.today.map(|p| cost(p.slots[usize::from(slot)])));
        allowed.min().unwrap_or_else(|| cost(self.unit_prices_at(now)))
    }

    /// So many of a thousand windows of a job are audited at least, see [`Job::audit_permille`].
    pub fn audit_permille(&self, spec: &JobSpec, size: &Size) -> u32 {
        let floor = self.params().audit.floor_permille;
        let can_be_disputed = match spec.training.mode {
            Mode::Local { steps, .. } => steps as usize <= RoundTrace::MAX_STEPS,
            Mode::Sync | Mode::Async { .. } => true,
        };
        let can_be_handed_over = state_bytes(spec, size) <= Evidence::MAX_BYTES as u64 / 2;
        match floor > 0 && spec.kind == Kind::Train && can_be_disputed && can_be_handed_over {
            true => floor.max(10 * u32::from(spec.budget.audit_percent)),
            false => 0,
        }
    }

    /// What one interval of so many workers costs at some prices, with the fee for audits.
    pub(crate) fn interval_cost(&self, prices: &UnitPrices, demand: &Resources, workers: u32, fee_permille: u32) -> Credits {
        let one = with_fee(prices.cost(demand, self.params().receipt_ms), fee_permille);
        Credits::from_micro(one.micro().saturating_mul(u64::from(workers)))
    }

    /// `Cancel`: the job exists, is the owner's, and is not closed.
    pub(crate) fn check_cancel(&self, owner: AccountId, id: JobId) -> Result<(), Rejection> {
        let job = self.jobs.get(&id).ok_or(Rejection::UnknownJob(id))?;
        if job.owner != owner {
            return Err(Rejection::NotJobOwner(id));
        }
        if job.state.is_closed() {
            return Err(Rejection::JobClosed { job: id, state: job.state });
        }
        Ok(())
    }
}

impl Change<'_> {
    /// Takes a job's budget into escrow, starting credits first, and queues the job.
    pub fn borrow(&mut self, owner: AccountId, bytes: &[u8]) -> Result<(), Rejection> {
        let spec = self.ledger.check_borrow(owner, bytes, self.now())?;

        let id = JobId(self.ledger.tip.next_job);
        self.ledger.tip.next_job += 1;
        let budget = spec.budget.max;
        let granted = self.ledger.accounts[&owner].granted.min(budget);
        let earned = budget.saturating_sub(granted);
        let size = spec.check();
        let audit_permille = size.as_ref().map_or(0, |size| self.ledger.audit_permille(&spec, size));
        let job = Job {
            id,
            owner,
            min_workers: spec.workers.min,
            max_workers: spec.workers.max,
            share_machine: spec.workers.share_machine,
            restarts: spec.recovery.restarts,
            multiply_adds: size.map_or(0, |size| size.multiply_adds),
            audit_permille,
            demand: spec.demand(),
            slots: spec.budget.slots,
            training_seed: spec.training.seed,
            name: spec.name,
            state: JobState::Queued,
            submitted: self.now(),
            started: None,
            ended: None,
            budget,
            escrow_granted: granted,
            escrow_earned: earned,
            paid: Credits::ZERO,
            fees: Credits::ZERO,
            refunded: Credits::ZERO,
            blamed: None,
            failures: 0,
            checkpoint: None,
            finished: None,
            leases: Vec::new(),
            active: BTreeSet::new(),
            members: Vec::new(),
            generation: 0,
            seed: None,
        };
        self.debit(owner, Purse::Granted, granted, Posting::Escrow(id));
        self.debit(owner, Purse::Earned, earned, Posting::Escrow(id));
        let escrow = &mut self.ledger.tip.totals.escrow;
        *escrow = escrow.checked_add(budget).expect("the escrow is a part of what was minted");
        self.account(owner).open_jobs += 1;
        self.ledger.jobs.insert(id, job);
        self.ledger.index_job(id);
        self.ledger.specs.insert(id, bytes.into());
        self.ledger.rematch = true;
        self.touch(StateKey::Job(id));
        self.touch(StateKey::Spec(id));
        self.events.push(Event::Job { job: id, owner, state: JobState::Queued });
        Ok(())
    }

    /// Stops a job.
    pub fn cancel(&mut self, owner: AccountId, id: JobId) -> Result<(), Rejection> {
        self.ledger.check_cancel(owner, id)?;

        self.close_job(id, JobState::Cancelled);
        Ok(())
    }
}
