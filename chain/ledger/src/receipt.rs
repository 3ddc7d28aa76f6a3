use std::collections::BTreeSet;

use deepmarket_types::{
    Event, Hash, JobId, JobState, LeaseOutcome, LeaseState, MachineId, PanicReason, PublicKey, Receipt, encode,
};

use crate::{Lease, Ledger, Rejection, change::Change, job::Checkpoint, quote::training_work};

/// What tells two receipts of one number apart.
fn content_hash(receipt: &Receipt) -> Hash {
    Hash::tagged("deepmarket/v1/receipt", &[&encode(receipt)])
}

impl Ledger {
    /// `Receipt`: the lease exists and is served by the signer; job and rank are the lease's; the number is new (the same
    /// receipt twice exists, another one of the same number equivocates, an older one comes too late); the lease is active; no
    /// cumulative number goes down.
    ///
    /// Numbers may leave gaps: receipts are cumulative, so one that was lost costs nothing but the time beyond one interval.
    pub(crate) fn check_receipt(&self, signer: &PublicKey, receipt: &Receipt) -> Result<(), Rejection> {
        let id = receipt.lease;
        let lease = self.leases.get(&id).ok_or(Rejection::UnknownLease(id))?;
        if self.machines[&lease.machine].key != *signer {
            return Err(Rejection::NotLeaseMachine(id));
        }
        if (receipt.job, receipt.rank) != (lease.job, lease.rank) {
            return Err(Rejection::ReceiptMismatch { lease: id, job: lease.job, rank: lease.rank });
        }
        let sequence = receipt.sequence;
        if sequence == lease.sequence && sequence > 0 {
            return Err(match lease.receipt == Some(content_hash(receipt)) {
                true => Rejection::ReceiptExists { lease: id, sequence },
                false => Rejection::ReceiptEquivocates { lease: id, sequence },
            });
        }
        if sequence <= lease.sequence {
            return Err(Rejection::ReceiptSuperseded { lease: id, sequence, last: lease.sequence });
        }
        if !lease.is_active() {
            return Err(Rejection::LeaseClosed(id));
        }
        let totals = [
            ("rounds", receipt.rounds, lease.rounds),
            ("samples", receipt.samples, lease.samples),
            ("cpu_ms", receipt.cpu_ms, lease.cpu_ms),
        ];
        match totals.into_iter().find(|(_, now, before)| now < before) {
            Some((what, ..)) => Err(Rejection::ReceiptShrinks { what }),
            None => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Records a receipt, pays for it, and draws the consequences of its outcome.
    pub fn receipt(&mut self, signer: &PublicKey, receipt: &Receipt) -> Result<(), Rejection> {
        self.ledger.check_receipt(signer, receipt)?;

        let Receipt { job, lease: id, rank, sequence, rounds, samples, .. } = *receipt;
        let lease = self.lease(id);
        lease.sequence = sequence;
        lease.receipt = Some(content_hash(receipt));
        (lease.rounds, lease.samples, lease.cpu_ms) = (rounds, samples, receipt.cpu_ms);
        (lease.parameters, lease.loss_micro) = (Some(receipt.parameters), receipt.loss_micro);
        let (paid_ms, payout) = self.pay(id, sequence);
        let Lease { machine, owner: lender, .. } = self.ledger.leases[&id];
        let borrower = self.ledger.jobs[&job].owner;
        self.events.push(Event::Receipt {
            job,
            lease: id,
            machine,
            lender,
            borrower,
            rank,
            sequence,
            rounds,
            samples,
            paid_ms,
            payout,
        });
        // All ranks hold the same model; the first one stores it on the way, as it stores the last one.
        if let Some(model) = receipt.checkpoint
            && rank == 0
            && self.ledger.jobs[&job].checkpoint.is_none_or(|old| old.model != model)
        {
            self.job(job).checkpoint = Some(Checkpoint { model, rounds });
        }
        if self.ledger.jobs[&job].state == JobState::Matched {
            self.set_job_state(job, JobState::Running);
        }
        match receipt.outcome {
            LeaseOutcome::Running => {}
            LeaseOutcome::Failed(reason) => {
                self.end_lease(id, LeaseState::Failed(reason));
                self.job(job).blamed = Some(id);
                self.close_job(job, JobState::Panic(PanicReason::Failed(reason)));
            }
            LeaseOutcome::Finished(result) => {
                self.lease(id).result = Some(result);
                self.end_lease(id, LeaseState::Finished);
                self.finish_if_agreed(receipt, result);
            }
        }
        Ok(())
    }

    /// Learns from a finished job how fast its machines really were, with all that belongs to a lease: each did its part of what
    /// they trained on together in the job's time. The parts count as equal: a worker that holds fewer samples waits for the
    /// others, and its machine is not slower for that. The mean of the last observation and those before it.
    fn observe_speeds(&mut self, id: JobId) {
        let job = &self.ledger.jobs[&id];
        let lasted_ms = job.started.map_or(0, |started| self.now().since(started)).max(1);
        let leases = self.ledger.job_leases(id).filter(|lease| lease.state == LeaseState::Finished);
        let (machines, samples): (Vec<MachineId>, Vec<u64>) = leases.map(|lease| (lease.machine, lease.samples)).unzip();
        let samples = samples.into_iter().fold(0, u64::saturating_add);
        let work = training_work(job.multiply_adds, samples);
        // A thousand multiply-adds a millisecond are a million a second.
        let machine_ms = u128::from(lasted_ms) * machines.len().max(1) as u128;
        let observed = u64::try_from(work / (machine_ms * 1_000)).unwrap_or(u64::MAX);
        for machine in machines.into_iter().collect::<BTreeSet<_>>().into_iter().filter(|_| observed > 0) {
            self.machine(machine, |machine| {
                let before = if machine.observed_speed == 0 { observed } else { machine.observed_speed };
                machine.observed_speed = before.midpoint(observed);
            });
        }
    }

    /// After a lease finished: all leases of its job must tell the same model and parameters. The job is finished with the
    /// last of them, and stops at the first that differs.
    fn finish_if_agreed(&mut self, receipt: &Receipt, result: Hash) {
        let same = |lease: &Lease| lease.result == Some(result) && lease.parameters == Some(receipt.parameters);
        let differs = |lease: &Lease| lease.state == LeaseState::Finished && !same(lease);
        let disagreement = self.ledger.job_leases(receipt.job).any(differs);
        let active = self.ledger.job_leases(receipt.job).any(Lease::is_active);
        if disagreement {
            self.job(receipt.job).blamed = Some(receipt.lease);
            self.close_job(receipt.job, JobState::Panic(PanicReason::Disagreement));
        } else if !active {
            self.observe_speeds(receipt.job);
            self.close_job(receipt.job, JobState::Finished(result));
        }
    }
}
