//! What becomes of an audit by what was said, and what follows for those who said it.

use deepmarket_types::{
    AccountId, AuditId, AuditState, AuditVerdict, Credits, FailureReason, Finding, JobId, LeaseId, LeaseState, MachineId,
    Posting, Purse,
};

use super::{Audit, Auditor, deadlines::auditor};
use crate::{Account, Lease, Ledger, beacon::MIXES_LATER, change::Change, machine::weigh_reliability, window::shrink};

/// What the auditors' words so far make of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tally {
    /// Somebody computes, or a canary is drawn.
    Compute,
    /// A machine is missing.
    Wait,
    /// The only auditor found the worker right: a canary is drawn.
    Canary,
    /// Answers have to be shown.
    Show,
    /// The worker is right.
    Passed,
    /// Two agree on another answer than the worker's.
    Disputed,
    /// Two found that the inputs can't be used.
    Useless,
    /// All say something else.
    Void,
}

impl Audit {
    fn tally(&self, canary_permille: u32) -> Tally {
        let counting: Vec<&Auditor> = self.counting().collect();
        if self.canary_at.is_some() || counting.iter().any(|auditor| auditor.works()) {
            return Tally::Compute;
        }
        let is_short = counting.len() < self.wanted as usize;
        if !counting.iter().all(|auditor| auditor.has_shown()) {
            return match self.state {
                AuditState::Revealing => Tally::Show,
                _ if is_short => Tally::Wait,
                _ if self.wanted == 1 && canary_permille > 0 => Tally::Canary,
                _ => Tally::Show,
            };
        }
        let is_right = |auditor: &&&Auditor| auditor.outcome.is_some_and(|outcome| self.is_committed(&outcome));
        let for_worker = counting.iter().filter(is_right).count();
        let unusable = counting.iter().filter(|auditor| auditor.finding == Some(Finding::Unusable)).count();
        let nobody_contradicts = self.wanted < 3 && for_worker == counting.len();
        // One of the worker's class is enough where the second one doesn't show its answer.
        let is_enough = !is_short || counting.iter().any(|auditor| auditor.same_class);
        match self.wanted {
            _ if for_worker >= 2 || (nobody_contradicts && for_worker > 0 && is_enough) => Tally::Passed,
            3.. if unusable >= 2 => Tally::Useless,
            3.. if self.accusation().is_some() => Tally::Disputed,
            _ if is_short => Tally::Wait,
            _ => Tally::Void,
        }
    }

    /// Was an auditor's answer the right one, by the verdict? An audit that nobody could decide has no wrong ones.
    fn agrees(&self, verdict: AuditVerdict, auditor: &Auditor) -> bool {
        let is_committed = auditor.outcome.map(|outcome| self.is_committed(&outcome));
        match verdict {
            AuditVerdict::Passed => is_committed == Some(true),
            AuditVerdict::False => is_committed != Some(true),
            AuditVerdict::Silent | AuditVerdict::Void => true,
        }
    }

    /// Auditors whose shown answer the verdict contradicts. Not those of another class, who can't be sure; nor one that found the
    /// inputs unusable where others could use them, or the other way round: what a gateway gave to whom nobody can show.
    fn wrong(&self, verdict: AuditVerdict) -> Vec<MachineId> {
        let is_false_worker = verdict == AuditVerdict::False && self.accusation().is_some();
        let can_tell = verdict == AuditVerdict::Passed || is_false_worker;
        let wrong = self
            .counting()
            .filter(|auditor| can_tell && auditor.same_class && auditor.outcome.is_some() && !self.agrees(verdict, auditor));
        wrong.map(|auditor| auditor.machine).collect()
    }
}

impl Ledger {
    /// May an account lend no more?
    pub fn is_barred(&self, account: &Account) -> bool {
        self.has_audits() && account.strikes >= self.params().audit.strikes
    }

    /// What an auditor is paid for an audit of a lease now: `pay_permille` of the price of `audit_ms` of the lease's resources, rounded
    /// down; at most what the treasury has.
    fn audit_pay(&self, lease: LeaseId) -> Credits {
        let (lease, audit) = (&self.leases[&lease], &self.params().audit);
        let price = self.current_prices().at_least(&lease.minimum).cost(&lease.resources, audit.audit_ms);
        let pay = u128::from(price.micro()) * u128::from(audit.pay_permille) / 1_000;
        Credits::from_micro(u64::try_from(pay).unwrap_or(u64::MAX)).min(self.tip.totals.treasury)
    }
}

impl Change<'_> {
    /// Draws the consequences of what an auditor said, or didn't.
    pub(super) fn advance(&mut self, id: AuditId) {
        let now = self.now();
        let (canary_permille, mixes) = (self.ledger.params().audit.canary_permille, self.ledger.beacon.mixes);
        let audit = &self.ledger.audits[&id];
        if audit.is_closed() {
            return;
        }
        match audit.tally(canary_permille) {
            Tally::Compute => self.set_audit_state(id, AuditState::Computing),
            Tally::Wait => self.set_audit_state(id, AuditState::Waiting),
            Tally::Canary => self.audit(id, |audit| {
                audit.state = AuditState::Computing;
                (audit.canary_at, audit.since) = (Some(mixes + MIXES_LATER), now);
            }),
            Tally::Show => self.set_audit_state(id, AuditState::Revealing),
            Tally::Disputed => self.set_audit_state(id, AuditState::Tracing),
            Tally::Passed => self.close_audit(id, AuditVerdict::Passed, true),
            Tally::Useless => self.close_audit(id, AuditVerdict::False, true),
            Tally::Void => self.close_audit(id, AuditVerdict::Void, true),
        }
    }

    /// Ends an audit; with `pays`, those that answered and weren't wrong are paid.
    pub(super) fn close_audit(&mut self, id: AuditId, verdict: AuditVerdict, pays: bool) {
        let audit = &self.ledger.audits[&id];
        assert!(!audit.is_closed(), "invariant broken: {id} ends twice");
        let Audit { machine, lease, job, lender, .. } = *audit;
        let working: Vec<MachineId> = audit.auditors.iter().filter(|a| a.works()).map(|a| a.machine).collect();
        working.into_iter().for_each(|machine| self.excuse(id, machine));

        let audit = &self.ledger.audits[&id];
        let wrong = audit.wrong(verdict);
        let is_right = |auditor: &&Auditor| auditor.has_shown() && audit.agrees(verdict, auditor);
        let right: Vec<(MachineId, AccountId)> = audit.counting().filter(is_right).map(|a| (a.machine, a.owner)).collect();
        let finder = right.first().map(|(_, owner)| *owner);
        let now = self.now();
        self.audit(id, |audit| {
            (audit.state, audit.closed, audit.canary_at) = (AuditState::Closed(verdict), Some(now), None);
            wrong.iter().for_each(|machine| auditor(audit, *machine).is_false = true);
        });
        self.released.insert(machine);
        match verdict {
            AuditVerdict::Passed => {
                let account = self.account(lender);
                account.audits_passed = account.audits_passed.saturating_add(1);
            }
            AuditVerdict::False => {
                self.punish(machine, job, finder, id);
                self.expel(machine, job);
            }
            AuditVerdict::Silent => {
                self.return_windows(lease);
                self.weigh(machine, |reliability| weigh_reliability(reliability, false));
            }
            AuditVerdict::Void => {}
        }
        wrong.into_iter().for_each(|machine| self.punish(machine, job, finder, id));
        if pays {
            right.into_iter().for_each(|(machine, owner)| self.pay_auditor(id, machine, owner));
        }
    }

    fn pay_auditor(&mut self, id: AuditId, machine: MachineId, owner: AccountId) {
        let pay = self.ledger.audit_pay(self.ledger.audits[&id].lease);
        shrink(&mut self.ledger.tip.totals.treasury, pay);
        self.audit(id, |audit| auditor(audit, machine).paid = pay);
        self.credit(owner, Purse::Earned, pay, Posting::Audit(id));
    }

    /// A machine's word was false: it loses what is held of its pay, half of its and its owner's reliability, and after some strikes
    /// its owner the right to lend.
    pub(super) fn punish(&mut self, machine: MachineId, job: JobId, finder: Option<AccountId>, audit: AuditId) {
        self.forfeit_windows(machine, job, finder, audit);
        self.weigh(machine, |reliability| reliability / 2);
        let owner = self.ledger.machines[&machine].owner;
        let account = self.account(owner);
        account.strikes = account.strikes.saturating_add(1);
        if self.ledger.is_barred(&self.ledger.accounts[&owner]) {
            let machines: Vec<MachineId> =
                self.ledger.machines_of(owner).filter(|machine| !machine.barred).map(|machine| machine.id).collect();
            machines.into_iter().for_each(|id| self.machine(id, |machine| machine.barred = true));
        }
    }

    /// A machine that faked work works no more for the job that it was meant for. That is nobody's failure but its owner's: the job
    /// goes on without it.
    fn expel(&mut self, machine: MachineId, job: JobId) {
        let leases: Vec<LeaseId> =
            self.ledger.machine_leases(machine).filter(|lease| lease.job == job).map(|lease| lease.id).collect();
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            self.end_lease(lease, LeaseState::Failed(FailureReason::Disagreement));
        }
        self.after_loss(job);
    }

    /// Something is odd about a lease: its last receipt, or else the next one, is audited for sure.
    pub fn suspect(&mut self, lease: LeaseId) {
        let Lease { suspect_from, sequence, .. } = self.ledger.leases[&lease];
        if self.ledger.has_audits() && suspect_from.is_none() {
            self.lease(lease).suspect_from = Some(sequence);
        }
    }
}
