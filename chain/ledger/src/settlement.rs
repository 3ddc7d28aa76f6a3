use deepmarket_types::{Credits, JobId, JobState, LeaseId, LeaseState, PanicReason, Posting, Purse, TimeMs};

use crate::{
    Ledger,
    change::Change,
    window::{grow, shrink},
};

/// The part of a price in thousandths, rounded down.
fn permille(price: Credits, permille: u32) -> Credits {
    let part = u128::from(price.micro()) * u128::from(permille) / 1_000;
    Credits::from_micro(u64::try_from(part).unwrap_or(u64::MAX))
}

/// A price and its fee. Saturates.
pub(crate) fn with_fee(price: Credits, fee_permille: u32) -> Credits {
    Credits::from_micro(price.micro().saturating_add(permille(price, fee_permille).micro()))
}

/// The most that can be paid with its fee out of some escrow: the greatest `p` with `p + ⌊p·f/1000⌋ ≤ e`, which is
/// `⌊(1000·(e + 1) − 1) / (1000 + f)⌋`.
fn most_with_fee(escrow: Credits, fee_permille: u32) -> Credits {
    let most = (1_000 * (u128::from(escrow.micro()) + 1) - 1) / (1_000 + u128::from(fee_permille));
    Credits::from_micro(u64::try_from(most).unwrap_or(u64::MAX))
}

/// What a receipt was paid.
pub(crate) struct Paid {
    /// Block time that it is paid for.
    pub ms: u64,
    /// What it released, without the fee.
    pub payout: Credits,
    /// The part of it that was starting credits.
    pub granted: Credits,
}

impl Ledger {
    /// What a job pays for audits, in thousandths of what its leases are paid: the market's fee, and for more audits than at the
    /// floor what these cost, `(rate − floor) · pay · audit_ms / receipt_ms`, rounded up. Nothing where none are.
    pub fn fee_permille(&self, audit_permille: u32) -> u32 {
        let audit = &self.params().audit;
        if audit_permille == 0 {
            return 0;
        }
        let more = u64::from(audit_permille.saturating_sub(audit.floor_permille));
        let cost = more * u64::from(audit.pay_permille) * audit.audit_ms;
        let extra = cost.div_ceil(1_000 * self.params().receipt_ms);
        audit.fee_permille.saturating_add(u32::try_from(extra).unwrap_or(u32::MAX))
    }

    /// What the next interval of all active leases of a job costs at the prices of the last block, with its fee.
    pub(crate) fn next_interval(&self, id: JobId) -> Credits {
        let (prices, interval_ms, job) = (self.current_prices(), self.params().receipt_ms, &self.jobs[&id]);
        let fee_permille = self.fee_permille(job.audit_permille);
        let active = job.active.iter().map(|lease| &self.leases[lease]);
        let costs = active.map(|lease| {
            let price = prices.at_least(&lease.minimum).cost(&lease.resources, interval_ms);
            with_fee(price, fee_permille).micro()
        });
        Credits::from_micro(costs.fold(0, u64::saturating_add))
    }
}

impl Change<'_> {
    /// Meters a lease up to now and takes its pay and the fee for audits out of the job's escrow. The caller holds the pay or pays it
    /// out; the fee goes to the treasury.
    ///
    /// Paid is the block time since the lease was last metered, at most the latest [`receipt_ms`](crate::Params::receipt_ms)
    /// of it: what no receipt covers isn't paid. Time that spans two slots is split, each part at its own price (or the lease's
    /// minimum, where that is more) and rounded down; the remainder stays with the borrower, and so does that of the fee. Where
    /// prices rose within the interval and the escrow has less, what it has is paid, with its fee. Starting credits are spent before
    /// earned ones, on pay before fees.
    pub fn meter(&mut self, id: LeaseId) -> Paid {
        let now = self.now();
        let receipt_ms = self.ledger.params().receipt_ms;
        let lease = &self.ledger.leases[&id];
        let ms = now.since(lease.metered).min(receipt_ms);
        let from = TimeMs(now.0 - ms);
        let due = self.ledger.cost_between(&lease.resources, &lease.minimum, from, now);
        let job_id = lease.job;
        let fee_permille = self.ledger.fee_permille(self.ledger.jobs[&job_id].audit_permille);

        let job = self.job(job_id);
        let payout = due.min(most_with_fee(job.escrow(), fee_permille));
        let fee = permille(payout, fee_permille);
        let all = with_fee(payout, fee_permille);
        let granted = payout.min(job.escrow_granted);
        let all_granted = all.min(job.escrow_granted);
        shrink(&mut job.escrow_granted, all_granted);
        shrink(&mut job.escrow_earned, all.saturating_sub(all_granted));
        grow(&mut job.paid, payout);
        grow(&mut job.fees, fee);
        let totals = &mut self.ledger.tip.totals;
        shrink(&mut totals.escrow, all);
        grow(&mut totals.treasury, fee);

        let lease = self.lease(id);
        lease.metered = now;
        grow(&mut lease.paid, payout);
        lease.paid_ms += ms;
        Paid { ms, payout, granted }
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
