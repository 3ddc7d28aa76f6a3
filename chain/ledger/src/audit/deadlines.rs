use deepmarket_types::{AuditId, AuditState, AuditVerdict, MachineId};

use super::Audit;
use crate::{beacon::Draw, change::Change, machine::weigh_reliability};

impl Change<'_> {
    /// At the block's end: the draws that are due, and audits whose time is over. The first deadline first, then by id.
    pub fn move_audits(&mut self, draws: &[Draw]) {
        draws.iter().for_each(|draw| self.draw(draw));
        self.replace_leaving();
        while let Some(&(deadline, id)) = self.ledger.index.audits.deadlines.first() {
            if deadline > self.now() {
                return;
            }
            self.expire(id);
        }
    }

    /// Machines that were lost or withdrawn while they audit are excused.
    fn replace_leaving(&mut self) {
        while let Some(machine) = self.leaving.pop_first() {
            if let Some((id, _)) = self.ledger.machines[&machine].auditing {
                self.excuse(id, machine);
                self.advance(id);
            }
        }
    }

    /// Somebody didn't say in time what an audit waits for.
    fn expire(&mut self, id: AuditId) {
        let audit = &self.ledger.audits[&id];
        let params = self.ledger.params().audit;
        let now = self.now();
        match audit.state {
            AuditState::Closed(_) => unreachable!("what is over has no deadline"),
            AuditState::Disclosing => self.close_audit(id, AuditVerdict::Silent, false),
            AuditState::Waiting => self.close_audit(id, AuditVerdict::Void, false),
            AuditState::Computing => {
                let late = audit.auditors.iter().filter(|auditor| auditor.works() && auditor.since.plus(params.answer_ms) <= now);
                let late: Vec<MachineId> = late.map(|auditor| auditor.machine).collect();
                let is_canary_late = audit.canary_at.is_some() && audit.since.plus(params.answer_ms) <= now;
                let is_given_up = audit.wants_auditor() && audit.drawn.plus(params.wait_ms) <= now;
                if is_canary_late {
                    return self.decide_canary(id, false);
                }
                late.into_iter().for_each(|machine| self.excuse_late(id, machine));
                match is_given_up {
                    true => self.close_audit(id, AuditVerdict::Void, false),
                    false => self.advance(id),
                }
            }
            AuditState::Revealing => {
                let late: Vec<MachineId> =
                    audit.counting().filter(|auditor| !auditor.has_shown()).map(|auditor| auditor.machine).collect();
                late.into_iter().for_each(|machine| self.excuse_late(id, machine));
                self.advance(id);
            }
            AuditState::Tracing if audit.worker_trace.is_none() => self.close_audit(id, AuditVerdict::False, true),
            AuditState::Tracing => {
                // Without steps nothing can be judged: the next one who accuses the worker is asked, and in the end nobody was right.
                let late = audit.accuser().map(|auditor| auditor.machine);
                late.into_iter().for_each(|machine| self.excuse_late(id, machine));
                match self.ledger.audits[&id].accuser().is_some() {
                    true => self.audit(id, |audit| audit.since = now),
                    false => self.close_audit(id, AuditVerdict::Void, false),
                }
            }
            AuditState::Judging => self.close_audit(id, AuditVerdict::False, true),
        }
    }

    /// Another auditor takes the place of one that can't say, or is gone.
    pub(super) fn excuse(&mut self, id: AuditId, machine: MachineId) {
        self.audit(id, |audit| auditor(audit, machine).is_excused = true);
        self.free_auditor(id, machine);
    }

    fn excuse_late(&mut self, id: AuditId, machine: MachineId) {
        self.excuse(id, machine);
        self.weigh(machine, |reliability| weigh_reliability(reliability, false));
    }

    /// What was kept free on a machine for an audit is free again.
    pub(super) fn free_auditor(&mut self, id: AuditId, machine: MachineId) {
        if self.ledger.machines[&machine].auditing.is_some_and(|(auditing, _)| auditing == id) {
            self.machine(machine, |machine| machine.auditing = None);
        }
    }

    /// Changes the reliability of a machine and of its owner.
    pub(super) fn weigh(&mut self, machine: MachineId, weigh: impl Fn(u32) -> u32) {
        let owner = self.ledger.machines[&machine].owner;
        self.machine(machine, |machine| machine.reliability = weigh(machine.reliability));
        let account = self.account(owner);
        account.reliability = weigh(account.reliability);
    }
}

/// The auditor of a machine that counts: a machine audits the same round once only.
pub(super) fn auditor(audit: &mut Audit, machine: MachineId) -> &mut super::Auditor {
    let auditor = audit.auditors.iter_mut().find(|auditor| auditor.machine == machine);
    auditor.expect("the auditor was found before it is changed")
}
