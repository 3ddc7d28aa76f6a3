use std::collections::{BTreeMap, BTreeSet};

use deepmarket_types::{AuditId, AuditState, JobId, LeaseId, MachineId, TimeMs};

use crate::{Audit, AuditParams};

/// Where audits are found. Follows from the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditIndex {
    /// All audits of a job.
    pub of_job: BTreeSet<(JobId, AuditId)>,
    /// All audits of a machine's work.
    pub of_machine: BTreeSet<(MachineId, AuditId)>,
    /// The audit of a receipt.
    pub of_window: BTreeMap<(LeaseId, u32), AuditId>,
    /// Open ones by the worker's machine and its lease.
    pub open: BTreeSet<(MachineId, LeaseId, AuditId)>,
    /// Open ones by when somebody has to say something.
    pub deadlines: BTreeSet<(TimeMs, AuditId)>,
    /// Those that need a machine.
    pub waiting: BTreeSet<AuditId>,
    /// Those for which a canary is drawn, by beacon mixes.
    pub canaries: BTreeSet<(u64, AuditId)>,
    /// Those that wait for the validators' word.
    pub judging: BTreeSet<AuditId>,
    /// Open ones by the machines that compute, or computed, them.
    pub auditing: BTreeSet<(MachineId, AuditId)>,
}

/// Where the index has an audit now.
pub(super) struct AuditPlaces {
    open: Option<(MachineId, LeaseId, AuditId)>,
    deadline: Option<(TimeMs, AuditId)>,
    waiting: Option<AuditId>,
    canary: Option<(u64, AuditId)>,
    judging: Option<AuditId>,
    auditing: Vec<(MachineId, AuditId)>,
}

impl AuditPlaces {
    pub fn of(audit: &Audit, params: &AuditParams) -> AuditPlaces {
        let id = audit.id;
        let is_open = !audit.is_closed();
        let auditors = audit.counting().filter(|_| is_open).map(|auditor| (auditor.machine, id));
        AuditPlaces {
            open: is_open.then_some((audit.machine, audit.lease, id)),
            deadline: audit.deadline(params).map(|deadline| (deadline, id)),
            waiting: audit.wants_auditor().then_some(id),
            canary: audit.canary_at.filter(|_| is_open).map(|mixes| (mixes, id)),
            judging: (audit.state == AuditState::Judging).then_some(id),
            auditing: auditors.collect(),
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

fn replace<T: Ord>(set: &mut BTreeSet<T>, before: impl IntoIterator<Item = T>, after: impl IntoIterator<Item = T>) {
    for place in before {
        set.remove(&place);
    }
    set.extend(after);
}

impl AuditIndex {
    /// Adds an audit.
    pub fn add(&mut self, audit: &Audit, params: &AuditParams) {
        self.of_job.insert((audit.job, audit.id));
        self.of_machine.insert((audit.machine, audit.id));
        self.of_window.insert((audit.lease, audit.sequence), audit.id);
        let nowhere =
            AuditPlaces { open: None, deadline: None, waiting: None, canary: None, judging: None, auditing: Vec::new() };
        self.move_audit(nowhere, AuditPlaces::of(audit, params));
    }

    /// Brings in line what a changed audit follows to.
    pub(super) fn move_audit(&mut self, before: AuditPlaces, after: AuditPlaces) {
        replace(&mut self.open, before.open, after.open);
        replace(&mut self.deadlines, before.deadline, after.deadline);
        replace(&mut self.waiting, before.waiting, after.waiting);
        replace(&mut self.canaries, before.canary, after.canary);
        replace(&mut self.judging, before.judging, after.judging);
        replace(&mut self.auditing, before.auditing, after.auditing);
    }
}
