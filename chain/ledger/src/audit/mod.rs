//! Audits: rounds that are computed again by somebody else (DESIGN section 7).
//!
//! ```text
//!  Disclosing ─▶ Waiting ⇄ Computing ─▶ Revealing ─▶ Closed(Passed)
//!      │ late       │ late     │           │ two of three agree on another answer
//!      ▼            ▼          │           ▼
//!   Silent         Void        │        Tracing ─▶ Judging ─▶ Closed(False | Passed | Void)
//!                              └─ excused auditors are replaced
//! ```
//!
//! Who has to say something and doesn't, loses by it: a worker its held pay, an auditor its reward and some of its reliability.

mod answers;
mod deadlines;
mod dispute;
mod draw;
mod duties;
mod index;
mod verdict;

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, AuditId, AuditState, Credits, Event, Finding, Hash, JobId, LeaseId, MachineId, PublicKey, RoundCommitment,
    RoundOutcome, RoundTrace, TimeMs, seal,
};

use crate::{AuditParams, Ledger, StateKey, Window, change::Change};

pub use duties::{Duty, Task};
pub(crate) use index::AuditIndex;
use index::AuditPlaces;

/// One audit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Audit {
    /// Its number.
    pub id: AuditId,
    /// The job.
    pub job: JobId,
    /// The audited lease.
    pub lease: LeaseId,
    /// Its machine.
    pub machine: MachineId,
    /// The machine's owner.
    pub lender: AccountId,
    /// The window's receipt.
    pub sequence: u32,
    /// What the receipt claims.
    pub window: Window,
    /// The commitment that has to be opened: its index in the receipt's tree.
    pub index: u64,
    /// When it was drawn.
    pub drawn: TimeMs,
    /// How it stands.
    pub state: AuditState,
    /// When the present state began.
    pub since: TimeMs,
    /// What the worker opened.
    pub disclosed: Option<Disclosed>,
    /// All auditors that it was given to, in order.
    pub auditors: Vec<Auditor>,
    /// How many auditors have to answer: one, two where a canary was drawn or the first isn't of the worker's class, three where
    /// one of them contradicts the worker.
    pub wanted: u32,
    /// Beacon mixes at which the draw for a second auditor is due, where the first one found the worker right.
    pub canary_at: Option<u64>,
    /// The worker's steps, in a dispute.
    pub worker_trace: Option<RoundTrace>,
    /// The accusing auditor's steps, and the blob of the state before the first step on which they disagree.
    pub auditor_trace: Option<(RoundTrace, Option<Hash>)>,
    /// The first step on which they disagree.
    pub disputed_step: Option<u32>,
    /// What validators computed for it.
    pub judgements: BTreeMap<PublicKey, Option<Hash>>,
    /// When it was closed.
    pub closed: Option<TimeMs>,
}

/// What a worker opened.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Disclosed {
    /// The audited round's commitment.
    pub commitment: RoundCommitment,
    /// The salt of its seal.
    pub salt: Hash,
    /// The blob of the round's inputs.
    pub evidence: Hash,
}

/// A machine that computes an audited round again.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Auditor {
    /// The machine.
    pub machine: MachineId,
    /// Its owner.
    pub owner: AccountId,
    /// When it was given the audit.
    pub since: TimeMs,
    /// Is it of the worker's determinism class?
    pub same_class: bool,
    /// What it found.
    pub finding: Option<Finding>,
    /// What it showed.
    pub outcome: Option<RoundOutcome>,
    /// It said that it can't, or didn't answer in time, and another one took its place.
    pub is_excused: bool,
    /// Its answer turned out to be wrong.
    pub is_false: bool,
    /// What it was paid.
    pub paid: Credits,
}

impl Auditor {
    /// Does it count: neither excused nor found to be false?
    pub fn counts(&self) -> bool {
        !self.is_excused && !self.is_false
    }

    /// Is it expected to compute the round now?
    pub fn works(&self) -> bool {
        self.counts() && self.finding.is_none()
    }

    /// Did it say all that it has to say about its answer? One that found the inputs unusable has none to show.
    pub fn has_shown(&self) -> bool {
        self.outcome.is_some() || self.finding == Some(Finding::Unusable)
    }
}

impl Audit {
    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, AuditState::Closed(_))
    }

    /// Is this what the worker committed to: the sealed answer, with the samples that the commitment states in the open?
    pub fn is_committed(&self, outcome: &RoundOutcome) -> bool {
        self.disclosed.as_ref().is_some_and(|Disclosed { commitment, salt, .. }| {
            outcome.samples == commitment.samples && seal(&outcome.answer(), salt) == commitment.sealed
        })
    }

    /// Auditors that count, in order.
    pub fn counting(&self) -> impl Iterator<Item = &Auditor> {
        self.auditors.iter().filter(|auditor| auditor.counts())
    }

    /// Does it need more machines than it was given?
    pub fn wants_auditor(&self) -> bool {
        let gathers = matches!(self.state, AuditState::Waiting | AuditState::Computing);
        gathers && self.canary_at.is_none() && self.counting().count() < self.wanted as usize
    }

    /// An answer that two auditors gave and that isn't the worker's.
    pub(crate) fn accusation(&self) -> Option<Hash> {
        let honest = self.auditors.iter().filter(|auditor| !auditor.is_false);
        let against = honest.filter_map(|auditor| auditor.outcome).filter(|outcome| !self.is_committed(outcome));
        let mut answers: Vec<Hash> = against.map(|outcome| outcome.answer()).collect();
        answers.sort_unstable();
        answers.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// In a dispute: the auditor that has to show its steps, the first of those that gave the same answer against the worker's.
    pub fn accuser(&self) -> Option<&Auditor> {
        let answer = self.accusation()?;
        self.counting().find(|auditor| auditor.outcome.is_some_and(|outcome| outcome.answer() == answer))
    }

    /// Until when somebody has to say something, or a machine has to be found; none once it is over.
    pub fn deadline(&self, params: &AuditParams) -> Option<TimeMs> {
        let given_up = self.drawn.plus(params.wait_ms);
        match self.state {
            AuditState::Closed(_) => None,
            AuditState::Waiting => Some(given_up),
            AuditState::Computing => {
                let answers =
                    self.auditors.iter().filter(|auditor| auditor.works()).map(|auditor| auditor.since.plus(params.answer_ms));
                let canary = self.canary_at.map(|_| self.since.plus(params.answer_ms));
                let wants = self.wants_auditor().then_some(given_up);
                Some(answers.chain(canary).chain(wants).min().unwrap_or(given_up))
            }
            AuditState::Disclosing | AuditState::Revealing | AuditState::Tracing | AuditState::Judging => {
                Some(self.since.plus(params.answer_ms))
            }
        }
    }
}

impl Ledger {
    /// Is work checked on this market, and pay held until it is?
    pub fn has_audits(&self) -> bool {
        self.params().audit.floor_permille > 0
    }

    /// An audit by id.
    pub fn audit(&self, id: AuditId) -> Option<&Audit> {
        self.audits.get(&id)
    }

    /// All audits, in the order in which they were drawn.
    pub fn audits(&self) -> impl DoubleEndedIterator<Item = &Audit> {
        self.audits.values()
    }

    /// Audits that are not over; the one with the first deadline first.
    pub fn open_audits(&self) -> impl Iterator<Item = &Audit> {
        self.index.audits.deadlines.iter().map(|(_, id)| &self.audits[id])
    }

    /// Disputes that wait for the validators' word.
    pub fn judging(&self) -> impl Iterator<Item = &Audit> {
        self.index.audits.judging.iter().map(|id| &self.audits[id])
    }

    /// All audits of a job's leases, in the order in which they were drawn.
    pub fn audits_of_job(&self, job: JobId) -> impl DoubleEndedIterator<Item = &Audit> {
        let range = (job, AuditId(0))..=(job, AuditId(u64::MAX));
        self.index.audits.of_job.range(range).map(|(_, id)| &self.audits[id])
    }

    /// All audits of a machine's work, in the order in which they were drawn.
    pub fn audits_of_machine(&self, machine: MachineId) -> impl DoubleEndedIterator<Item = &Audit> {
        let range = (machine, AuditId(0))..=(machine, AuditId(u64::MAX));
        self.index.audits.of_machine.range(range).map(|(_, id)| &self.audits[id])
    }

    /// The audit of a lease's receipt.
    pub fn audit_of(&self, lease: LeaseId, sequence: u32) -> Option<&Audit> {
        self.index.audits.of_window.get(&(lease, sequence)).map(|id| &self.audits[id])
    }

    /// Is one of a machine's receipts being audited?
    pub(crate) fn is_audited_now(&self, machine: MachineId) -> bool {
        let first = (machine, LeaseId(0), AuditId(0));
        let last = (machine, LeaseId(u64::MAX), AuditId(u64::MAX));
        self.index.audits.open.range(first..=last).next().is_some()
    }

    /// Open audits of a lease.
    pub(crate) fn open_audits_of(&self, machine: MachineId, lease: LeaseId) -> usize {
        self.index.audits.open.range((machine, lease, AuditId(0))..=(machine, lease, AuditId(u64::MAX))).count()
    }
}

impl Change<'_> {
    /// Changes an audit and all that follows: its places in the index, and an event and a new beginning where its state changed.
    fn audit(&mut self, id: AuditId, change: impl FnOnce(&mut Audit)) {
        let now = self.now();
        let ledger = &mut *self.ledger;
        let audit = ledger.audits.get_mut(&id).expect("the audit was found before it is changed");
        let params = ledger.constitution.params.audit;
        let (before, state) = (AuditPlaces::of(audit, &params), audit.state);
        change(audit);
        if state != audit.state {
            audit.since = now;
            let Audit { job, lease, machine, lender, state, .. } = *audit;
            self.events.push(Event::Audit { audit: id, job, lease, machine, lender, state });
        }
        let after = AuditPlaces::of(audit, &params);
        ledger.reassign |= after.is_waiting();
        ledger.index.audits.move_audit(before, after);
        self.touch(StateKey::Audit(id));
    }

    /// Gives an audit a new state.
    fn set_audit_state(&mut self, id: AuditId, state: AuditState) {
        self.audit(id, |audit| audit.state = state);
    }
}
