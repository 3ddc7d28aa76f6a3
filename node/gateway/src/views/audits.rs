//! Audits: what everybody sees of them, and what a machine or a validator has to do in them.

use deepmarket_api::{AuditDuty, AuditTask, AuditView, AuditorView, DisclosedView, DisputedStep, HeldView};
use deepmarket_ledger::{Audit, Auditor, Duty, Ledger, Task, Window};
use deepmarket_types::{Credits, Hash, MachineId, TimeMs};

pub(crate) fn audit(ledger: &Ledger, audit: &Audit) -> AuditView {
    AuditView {
        id: audit.id,
        job: audit.job,
        lease: audit.lease,
        rank: ledger.lease(audit.lease).map_or(0, |lease| lease.rank),
        machine: audit.machine,
        lender: audit.lender,
        sequence: audit.sequence,
        rounds: audit.window.rounds,
        round: audit.disclosed.as_ref().map(|disclosed| disclosed.commitment.round),
        index: audit.index,
        state: audit.state,
        status: audit.state.to_string(),
        drawn: audit.drawn,
        since: audit.since,
        closed: audit.closed,
        auditors: audit.auditors.iter().map(auditor).collect(),
        disputed_step: audit.disputed_step,
        judgements: audit.judgements.len() as u32,
    }
}

fn auditor(auditor: &Auditor) -> AuditorView {
    AuditorView {
        machine: auditor.machine,
        owner: auditor.owner,
        same_class: auditor.same_class,
        finding: auditor.finding.as_ref().map(Into::into),
        shown: auditor.outcome.is_some(),
        is_false: auditor.is_false,
        is_excused: auditor.is_excused,
        paid: auditor.paid,
    }
}

/// What a machine has to do now, as a worker and as an auditor; the first deadline first.
pub(crate) fn duties(ledger: &Ledger, machine: MachineId) -> Vec<AuditDuty> {
    let duty = |duty: Duty| {
        let audit = ledger.audit(duty.audit)?;
        let task = match duty.task {
            Task::Disclose => AuditTask::Disclose,
            Task::Compute => AuditTask::Compute,
            Task::Reveal => AuditTask::Reveal,
            Task::Trace => AuditTask::Trace,
        };
        describe(ledger, audit, task, duty.deadline, audit.counting().find(|auditor| auditor.machine == machine))
    };
    ledger.duties(machine).into_iter().filter_map(duty).collect()
}

/// What any validator's helper has to do now.
pub(crate) fn judging(ledger: &Ledger) -> Vec<AuditDuty> {
    let duty = |audit: &Audit| {
        let deadline = audit.deadline(&ledger.params().audit)?;
        describe(ledger, audit, AuditTask::Judge, deadline, None)
    };
    ledger.judging().filter_map(duty).collect()
}

fn describe(ledger: &Ledger, audit: &Audit, task: AuditTask, deadline: TimeMs, auditor: Option<&Auditor>) -> Option<AuditDuty> {
    let (job, lease) = (ledger.job(audit.job)?, ledger.lease(audit.lease)?);
    let Window { committed, commitments, rounds, samples, parameters, .. } = audit.window;
    let mut leases: Vec<_> = ledger.job_leases(audit.job).map(|lease| (lease.rank, lease.id)).collect();
    leases.sort_unstable();
    Some(AuditDuty {
        audit: audit.id,
        task,
        deadline,
        job: audit.job,
        lease: audit.lease,
        rank: lease.rank,
        machine: audit.machine,
        sequence: audit.sequence,
        index: audit.index,
        committed,
        commitments,
        rounds,
        samples,
        parameters,
        same_class: auditor.is_none_or(|auditor| auditor.same_class),
        resources: lease.resources,
        spec: hex::encode(ledger.spec(audit.job)?),
        seed: job.seed?,
        world: ledger.began_with(job),
        leases,
        disclosed: audit.disclosed.as_ref().map(|disclosed| DisclosedView {
            commitment: disclosed.commitment,
            salt: disclosed.salt,
            evidence: disclosed.evidence,
        }),
        finding: auditor.and_then(|auditor| auditor.finding),
        worker_trace: audit.worker_trace.clone().filter(|_| matches!(task, AuditTask::Trace | AuditTask::Judge)),
        disputed: disputed(audit).filter(|_| task == AuditTask::Judge),
    })
}

/// The step on which both sides disagree, and what each says about it.
fn disputed(audit: &Audit) -> Option<DisputedStep> {
    let step = audit.disputed_step?;
    let ((theirs, state), ours) = (audit.auditor_trace.as_ref()?, audit.worker_trace.as_ref()?);
    let after = |steps: &[Hash], step: u32| steps.get(step as usize).copied();
    Some(DisputedStep {
        step,
        before: step.checked_sub(1).and_then(|before| after(&ours.steps, before)),
        worker: after(&ours.steps, step),
        auditor: after(&theirs.steps, step),
        state: *state,
    })
}

/// What is held of a window, and until when.
pub(crate) fn held(ledger: &Ledger, window: &Window) -> HeldView {
    HeldView { pay: window.pay, vests: ledger.vests(window), is_drawn: window.is_drawn }
}

/// What is held of some windows together, and when the last of it vests.
pub(super) fn held_together<'a>(ledger: &Ledger, windows: impl Iterator<Item = &'a Window>) -> (Credits, Option<TimeMs>) {
    let held: Vec<HeldView> = windows.filter(|window| !window.pay.is_zero()).map(|window| held(ledger, window)).collect();
    (held.iter().map(|held| held.pay).sum(), held.iter().map(|held| held.vests).max())
}
