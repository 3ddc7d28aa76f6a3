//! Audits: rounds that are computed again by somebody else (DESIGN section 7).

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, AuditId, AuditState, Credits, Finding, Hash, JobId, LeaseId, MachineId, PublicKey, RoundCommitment, RoundOutcome,
    RoundTrace, TimeMs,
};

use crate::Ledger;

/// What one receipt added to a lease, while its pay is held.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Window {
    /// The lease.
    pub lease: LeaseId,
    /// The receipt's number.
    pub sequence: u32,
    /// The block time of the receipt.
    pub time: TimeMs,
    /// Committed rounds before it, and with it.
    pub committed: (u64, u64),
    /// The root of the commitments with it.
    pub commitments: Hash,
    /// Rounds of the job that were done before it, and with it.
    pub rounds: (u64, u64),
    /// Hash of the parameters at the receipt before (none for the first one), and at this one.
    pub parameters: (Option<Hash>, Hash),
    /// Samples since the lease began, before it and with it.
    pub samples: (u64, u64),
    /// What is held.
    pub pay: Credits,
    /// The part of it that goes to the purse of starting credits: the lender's own job paid it out of these.
    pub granted: Credits,
    /// How often the beacon had been mixed when it came. It is drawn from two mixes later.
    pub mixes: u64,
    /// It went through the draw.
    pub is_drawn: bool,
}

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

impl Audit {
    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, AuditState::Closed(_))
    }
}

impl Ledger {
    /// An audit by id.
    pub fn audit(&self, id: AuditId) -> Option<&Audit> {
        self.audits.get(&id)
    }

    /// All audits, in the order in which they were drawn.
    pub fn audits(&self) -> impl DoubleEndedIterator<Item = &Audit> {
        self.audits.values()
    }

    /// Windows whose pay is held, by lease and receipt.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.values()
    }

    /// Windows of a lease whose pay is held.
    pub fn lease_windows(&self, lease: LeaseId) -> impl Iterator<Item = &Window> {
        self.windows.range((lease, 0)..=(lease, u32::MAX)).map(|(_, window)| window)
    }
}
