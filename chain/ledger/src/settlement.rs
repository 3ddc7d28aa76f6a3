use deepmarket_types::{Credits, JobId, JobState, LeaseId, LeaseState, PanicReason, Posting, Purse, TimeMs};

use crate::{Ledger, change::Change};

impl Ledger {
    /// What the next interval of all active leases of a job costs at the prices of the last block.
    pub(crate) fn next_interval(&self, id: JobId) -> Credits {
        let (prices, interval_ms) = (self.current_prices(), self.params().receipt_ms);
        let active = self.jobs[&id].active.iter().map(|lease| &self.leases[lease]);
        let costs = active.map(|lease| prices.at_least(&lease.minimum).cost(&lease.resources, interval_ms).micro());
        Credits::from_micro(costs.fold(0, u64::saturating_add))
    }
}

impl Change<'_> {
    /// Meters a lease up to now and pays its owner; tells the time that was paid for and the payout.
    ///
    /// Paid is the block time since the lease was last metered, at most the latest [`receipt_ms`](crate::Params::receipt_ms)
    /// of it: what no receipt covers isn't paid. Time that spans two slots is split, each part at its own price (or the lease's
    /// minimum, where that is more) and rounded down; the remainder stays with the borrower. Where prices rose within the
    /// interval and the escrow has less, the rest of the escrow is paid. Starting credits are spent before earned ones; the
    /// lender earns both as earned ones, except from a job of its own account: then both go back to the purses that they came
    /// from. Otherwise anybody could turn starting credits into earned ones by lending to oneself.
    pub fn pay(&mut self, id: LeaseId, sequence: u32) -> (u64, Credits) {
        let now = self.now();
        let receipt_ms = self.ledger.params().receipt_ms;
        let lease = &self.ledger.leases[&id];
        let paid_ms = now.since(lease.metered).min(receipt_ms);
        let from = TimeMs(now.0 - paid_ms);
        let due = self.ledger.cost_between(&lease.resources, &lease.minimum, from, now);
        let (job_id, owner, machine) = (lease.job, lease.owner, lease.machine);

        let job = self.job(job_id);
        let payout = due.min(job.escrow());
        let borrower = job.owner;
        let granted = payout.min(job.escrow_granted);
        let earned = payout.saturating_sub(granted);
        let take = |purse: Credits, amount| purse.checked_sub(amount).expect("no more is paid than the escrow holds");
        job.escrow_granted = take(job.escrow_granted, granted);
        job.escrow_earned = take(job.escrow_earned, earned);
        let add = |sum: Credits| sum.checked_add(payout).expect("what is paid was minted, which fits in 64 bits");
        job.paid = add(job.paid);
        let totals = &mut self.ledger.tip.totals;
        totals.escrow = take(totals.escrow, payout);

        let lease = self.lease(id);
        lease.metered = now;
        lease.paid = add(lease.paid);
        lease.paid_ms += paid_ms;
        if !payout.is_zero() {
            self.machine(machine, |machine| machine.earned = add(machine.earned));
        }
        let cause = Posting::Payout { job: job_id, lease: id, machine, sequence };
        let (granted, earned) = if owner == borrower { (granted, earned) } else { (Credits::ZERO, payout) };
        self.credit(owner, Purse::Granted, granted, cause);
        self.credit(owner, Purse::Earned, earned, cause);
        (paid_ms, payout)
    }

    /// Closes a job: its active leases end, what is left of its escrow goes back to the purses it came from.
    pub fn close_job(&mut self, id: JobId, state: JobState) {
        assert!(state.is_closed() && !self.ledger.jobs[&id].state.is_closed(), "invariant broken: {id} closes twice");
        for lease in self.ledger.jobs[&id].active.clone() {
            self.end_lease(lease, LeaseState::Ended);
        }
        // The job's end tells what there is to tell.
        self.regrouped.remove(&id);
        self.accused.remove(&id);
        let now = self.now();
        let job = self.job(id);
        let (owner, granted, earned) = (job.owner, job.escrow_granted, job.escrow_earned);
        job.refunded = job.escrow();
        job.ended = Some(now);
        (job.escrow_granted, job.escrow_earned) = (Credits::ZERO, Credits::ZERO);
        let refunded = job.refunded;
        let escrow = &mut self.ledger.tip.totals.escrow;
        *escrow = escrow.checked_sub(refunded).expect("a job's escrow is a part of all escrow");
        self.credit(owner, Purse::Granted, granted, Posting::Refund(id));
        self.credit(owner, Purse::Earned, earned, Posting::Refund(id));
        self.account(owner).open_jobs -= 1;
        self.set_job_state(id, state);
    }

    /// At the block's end: a job whose escrow can't pay the next interval of its active leases stops.
    pub fn stop_exhausted_jobs(&mut self) {
        let exhausted = |id: &JobId| self.ledger.jobs[id].escrow() < self.ledger.next_interval(*id);
        let jobs: Vec<JobId> = self.ledger.index.served.iter().copied().filter(exhausted).collect();
        for id in jobs {
            self.close_job(id, JobState::Panic(PanicReason::Budget));
        }
    }
}
