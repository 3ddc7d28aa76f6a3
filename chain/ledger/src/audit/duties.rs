use deepmarket_types::{AuditId, AuditState, LeaseId, MachineId, TimeMs};

use super::Audit;
use crate::Ledger;

/// What an audit expects of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The worker opens its commitment and hands over the round's inputs.
    Disclose,
    /// An auditor computes the round and gives its answer, hidden.
    Compute,
    /// An auditor shows its answer.
    Reveal,
    /// The worker, and then the accusing auditor, shows the steps of a disputed round.
    Trace,
}

/// Something that an audit expects of a machine until some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The audit.
    pub audit: AuditId,
    /// What is to be done.
    pub task: Task,
    /// From this moment on it is too late.
    pub deadline: TimeMs,
}

impl Audit {
    /// What is expected of a machine now; none where it has no part in the audit, or has done its part.
    pub fn task(&self, machine: MachineId) -> Option<Task> {
        let is_worker = machine == self.machine;
        match self.state {
            AuditState::Disclosing => is_worker.then_some(Task::Disclose),
            AuditState::Computing => self.counting().find(|a| a.machine == machine && a.works()).map(|_| Task::Compute),
            AuditState::Revealing => self.counting().find(|a| a.machine == machine && !a.has_shown()).map(|_| Task::Reveal),
            AuditState::Tracing => {
                let is_asked = match self.worker_trace {
                    None => is_worker,
                    Some(_) => self.accuser().is_some_and(|accuser| accuser.machine == machine),
                };
                is_asked.then_some(Task::Trace)
            }
            AuditState::Waiting | AuditState::Judging | AuditState::Closed(_) => None,
        }
    }
}

impl Ledger {
    /// What audits expect of a machine, as the worker and as an auditor; the first deadline first.
    pub fn duties(&self, machine: MachineId) -> Vec<Duty> {
        let open = (machine, LeaseId(0), AuditId(0))..=(machine, LeaseId(u64::MAX), AuditId(u64::MAX));
        let as_worker = self.index.audits.open.range(open).map(|(.., id)| *id);
        let auditing = (machine, AuditId(0))..=(machine, AuditId(u64::MAX));
        let as_auditor = self.index.audits.auditing.range(auditing).map(|(_, id)| *id);
        let params = self.params().audit;
        let duty = |id: AuditId| {
            let audit = &self.audits[&id];
            let task = audit.task(machine)?;
            let deadline = match (task, audit.counting().find(|auditor| auditor.machine == machine)) {
                (Task::Compute, Some(auditor)) => auditor.since.plus(params.answer_ms),
                _ => audit.deadline(&params)?,
            };
            Some(Duty { audit: id, task, deadline })
        };
        let mut duties: Vec<Duty> = as_worker.chain(as_auditor).filter_map(duty).collect();
        duties.sort_by_key(|duty| (duty.deadline, duty.audit));
        duties
    }
}
