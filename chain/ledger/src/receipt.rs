use deepmarket_types::{
    Event, FailureReason, Hash, JobId, JobState, LeaseId, LeaseOutcome, LeaseState, MachineId, PanicReason, PublicKey, Receipt,
    encode,
};

use crate::{FinalModel, Lease, Ledger, Rejection, Window, change::Change, quote::training_work, settlement::Paid};

/// What tells two receipts of one number apart.
fn content_hash(receipt: &Receipt) -> Hash {
    Hash::tagged("deepmarket/v1/receipt", &[&encode(receipt)])
}

impl Ledger {
    /// `Receipt`: the lease exists and is served by the signer; job and rank are the lease's; the number is new (the same
    /// receipt twice exists, another one of the same number equivocates, an older one comes too late); the lease is active; no
    /// cumulative number goes down; the numbers of rounds fit together; where its job is audited, more samples come with more commitments; `missing` is another lease of the job; only a member has
    /// done all rounds.
    ///
    /// Numbers may leave gaps: receipts are cumulative, so one that was lost costs nothing but the time beyond one interval.
    /// The rounds of a worker that took part in none yet are what it heard, and may go back: a job may, to its last checkpoint.
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
            ("rounds", receipt.rounds, if lease.took_part() { lease.rounds } else { 0 }),
            ("samples", receipt.samples, lease.samples),
            ("cpu_ms", receipt.cpu_ms, lease.cpu_ms),
            ("committed rounds", receipt.committed, lease.committed),
        ];
        if let Some((what, ..)) = totals.into_iter().find(|(_, now, before)| now < before) {
            return Err(Rejection::ReceiptShrinks { what });
        }
        self.check_rounds(lease, receipt)?;
        let is_audited = self.jobs[&lease.job].audit_permille > 0;
        if is_audited && receipt.samples > lease.samples && receipt.committed == lease.committed {
            // What no commitment covers could never be audited.
            return Err(Rejection::ReceiptContradicts { problem: "it has more samples, and no new commitment" });
        }
        if let Some(missing) = receipt.missing
            && (missing == id || self.leases.get(&missing).is_none_or(|other| other.job != lease.job))
        {
            return Err(Rejection::ReceiptBlamesStranger { lease: id, missing });
        }
        match receipt.outcome {
            LeaseOutcome::Finished(_) if lease.joined.is_none() => Err(Rejection::NotMember(id)),
            _ => Ok(()),
        }
    }

    /// [`Ledger::check_receipt`] for mempools: a second receipt of one number is let through once, so that the chain sees it.
    pub(crate) fn precheck_receipt(&self, signer: &PublicKey, receipt: &Receipt) -> Result<(), Rejection> {
        match self.check_receipt(signer, receipt) {
            Err(Rejection::ReceiptEquivocates { lease, .. })
                if self.has_audits() && self.leases[&lease].suspect_from.is_none() =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// The first round is none after the last one, and stays once the worker took part in it; a stored state has no more rounds
    /// than were done.
    fn check_rounds(&self, lease: &Lease, receipt: &Receipt) -> Result<(), Rejection> {
        let contradicts = |problem| Err(Rejection::ReceiptContradicts { problem });
        if receipt.from > receipt.rounds {
            return contradicts("its first round is after its last one");
        }
        if lease.took_part() && receipt.from != lease.from {
            return contradicts("it took part from another round on by the receipt before");
        }
        match receipt.checkpoint.is_some_and(|checkpoint| checkpoint.rounds > receipt.rounds) {
            true => contradicts("its checkpoint has more rounds than were done"),
            false => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Records a receipt, pays for it, and draws the consequences of its outcome.
    pub fn receipt(&mut self, signer: &PublicKey, receipt: &Receipt) -> Result<(), Rejection> {
        if let Err(rejection) = self.ledger.check_receipt(signer, receipt) {
            if matches!(rejection, Rejection::ReceiptEquivocates { .. }) {
                self.suspect(receipt.lease);
            }
            return Err(rejection);
        }

        let Receipt { job, lease: id, rank, sequence, rounds, samples, .. } = *receipt;
        let now = self.now();
        let before = self.ledger.leases[&id].clone();
        let lease = self.lease(id);
        lease.sequence = sequence;
        lease.receipt = Some(content_hash(receipt));
        let is_first = lease.ready.is_none();
        lease.ready.get_or_insert(now);
        (lease.from, lease.rounds, lease.samples, lease.cpu_ms) = (receipt.from, rounds, samples, receipt.cpu_ms);
        (lease.parameters, lease.loss_micro) = (Some(receipt.parameters), receipt.loss_micro);
        (lease.missing, lease.committed) = (receipt.missing, receipt.committed);
        if is_first {
            self.ledger.index_job(job);
        }
        let paid = self.meter(id);
        let (paid_ms, payout) = (paid.ms, paid.payout);
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
        match self.ledger.has_audits() {
            true => self.hold_pay(&before, receipt, &paid),
            false => self.pay_out(id, sequence, paid.payout, paid.granted),
        }
        self.compare_parameters(id);
        // All members hold the same state; the first one stores it on the way, as it stores the model at the end.
        let of_job = &self.ledger.jobs[&job];
        if let Some(checkpoint) = receipt.checkpoint
            && of_job.members.first() == Some(&id)
            && of_job.checkpoint.is_none_or(|kept| kept.rounds < checkpoint.rounds)
        {
            self.job(job).checkpoint = Some(checkpoint);
        }
        if receipt.missing.is_some() {
            self.accused.insert(job);
        }
        match receipt.outcome {
            LeaseOutcome::Running => {}
            LeaseOutcome::Failed(reason) => self.fail(job, id, reason),
            LeaseOutcome::Finished(model) => self.finish_lease(job, id, FinalModel { model, parameters: receipt.parameters }),
        }
        Ok(())
    }

    /// Holds what a receipt was paid, with what it claims, until it vests; `before` is its lease at the receipt before.
    fn hold_pay(&mut self, before: &Lease, receipt: &Receipt, paid: &Paid) {
        let mut window = Window {
            lease: before.id,
            sequence: receipt.sequence,
            time: self.now(),
            committed: (before.committed, receipt.committed),
            commitments: receipt.commitments,
            rounds: (before.rounds, receipt.rounds),
            parameters: (before.parameters, receipt.parameters),
            samples: (before.samples, receipt.samples),
            pay: paid.payout,
            granted: paid.granted,
            mixes: self.ledger.beacon.mixes,
            is_drawn: false,
        };
        // Nothing to draw.
        window.is_drawn = !window.has_commitments() || self.ledger.jobs[&before.job].audit_permille == 0;
        self.hold(window);
    }

    /// Members of a job hold the same parameters after the same rounds. Who is wrong of two that don't, audits will show.
    fn compare_parameters(&mut self, id: LeaseId) {
        let lease = &self.ledger.leases[&id];
        let job = &self.ledger.jobs[&lease.job];
        if !self.ledger.has_audits() || job.audit_permille == 0 || !job.members.contains(&id) {
            return;
        }
        let others = job.members.iter().map(|other| &self.ledger.leases[other]);
        let differs = |other: &&Lease| other.took_part() && other.rounds == lease.rounds && other.parameters != lease.parameters;
        let differing: Vec<LeaseId> = others.filter(differs).map(|other| other.id).collect();
        if !differing.is_empty() && lease.took_part() {
            differing.into_iter().chain([id]).for_each(|lease| self.suspect(lease));
        }
    }

    /// A worker can't go on. Its job goes on without it, but not if the same would happen to every other worker too, nor after more
    /// failures than its spec tolerates. An end for a cause outside of the work is no failure. A machine that its owner took back
    /// gets no work until it is heard of again: its agent may have been stopped.
    fn fail(&mut self, job: JobId, lease: LeaseId, reason: FailureReason) {
        self.end_lease(lease, LeaseState::Failed(reason));
        if reason == FailureReason::OwnerReturned {
            self.machine(self.ledger.leases[&lease].machine, |machine| machine.heard = false);
        }
        // It would happen anywhere.
        let hopeless = reason == FailureReason::Diverged;
        let of_job = self.job(job);
        of_job.failures += u32::from(!reason.is_preemption());
        if hopeless || of_job.failures > of_job.restarts {
            of_job.blamed = Some(lease);
            self.close_job(job, JobState::Panic(PanicReason::Failed(reason)));
        } else {
            self.after_loss(job);
        }
    }

    /// A member did all rounds. All of them must tell the same model and parameters: the job is finished with the last of them, and
    /// stops at the first that differs.
    fn finish_lease(&mut self, job: JobId, lease: LeaseId, last: FinalModel) {
        self.lease(lease).result = Some(last.model);
        self.end_lease(lease, LeaseState::Finished);
        let of_job = self.job(job);
        if *of_job.finished.get_or_insert(last) == last {
            self.after_loss(job);
        } else {
            of_job.blamed = Some(lease);
            self.close_job(job, JobState::Panic(PanicReason::Disagreement));
        }
    }

    /// Learns from a finished job how fast its machines really were, with all that belongs to training together: what each worker
    /// trained on in its time as a member, up to its last receipt. Shares follow speed, so that nobody waits much for the others.
    /// The mean of each observation and those before it.
    pub fn observe_speeds(&mut self, id: JobId) {
        let multiply_adds = self.ledger.jobs[&id].multiply_adds;
        let finished = self.ledger.job_leases(id).filter(|lease| lease.state == LeaseState::Finished);
        let observations: Vec<(MachineId, u64)> = finished
            .map(|lease| {
                let trained_ms = lease.joined.map_or(0, |joined| lease.metered.since(joined)).max(1);
                // A thousand multiply-adds a millisecond are a million a second.
                let speed = training_work(multiply_adds, lease.samples) / (u128::from(trained_ms) * 1_000);
                (lease.machine, u64::try_from(speed).unwrap_or(u64::MAX))
            })
            .collect();
        for (machine, observed) in observations.into_iter().filter(|(_, observed)| *observed > 0) {
            self.machine(machine, |machine| {
                let before = if machine.observed_speed == 0 { observed } else { machine.observed_speed };
                machine.observed_speed = before.midpoint(observed);
            });
        }
    }
}
