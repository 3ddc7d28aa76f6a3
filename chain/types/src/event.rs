use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{AccountId, AuditId, AuditState, Credits, JobId, JobState, LeaseId, LeaseState, MachineId, MachineState, SlotPrices};

/// Where credits of an account are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purse {
    /// Starting credits: can be spent on jobs, never transferred.
    Granted,
    /// Earned credits: can be spent and transferred.
    Earned,
}

/// A change of one purse of one account, with its cause: what a balance is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posting {
    /// Starting credits were minted.
    StartingCredits,
    /// Received from another account.
    TransferFrom(AccountId),
    /// Sent to another account.
    TransferTo(AccountId),
    /// Put into a job's escrow.
    Escrow(JobId),
    /// Came back from a job's escrow.
    Refund(JobId),
    /// Paid for the work of a lease.
    Payout {
        /// The job that paid.
        job: JobId,
        /// The lease that was served.
        lease: LeaseId,
        /// The machine that served it.
        machine: MachineId,
        /// The receipt's number.
        sequence: u32,
    },
    /// Paid for an audit.
    Audit(AuditId),
    /// A part of what a false receipt lost: for the borrower, or for the auditor who found it.
    Forfeit(AuditId),
}

/// What a block changed, in words that history, streams and wallets use. The variants' order is part of stored bytes:
/// append only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A purse changed.
    Posted {
        /// Whose.
        account: AccountId,
        /// Which purse.
        purse: Purse,
        /// By how much.
        amount: Credits,
        /// What the purse holds after it.
        balance: Credits,
        /// True where it grew.
        incoming: bool,
        /// Why.
        cause: Posting,
    },
    /// A machine's state changed, or it was registered.
    Machine {
        /// Which machine.
        machine: MachineId,
        /// Its owner.
        owner: AccountId,
        /// The new state.
        state: MachineState,
    },
    /// A job's state changed, or it was submitted.
    Job {
        /// Which job.
        job: JobId,
        /// Its owner.
        owner: AccountId,
        /// The new state.
        state: JobState,
    },
    /// A lease's state changed, or it began.
    Lease {
        /// Which lease.
        lease: LeaseId,
        /// For which job.
        job: JobId,
        /// The worker's rank.
        rank: u32,
        /// On which machine.
        machine: MachineId,
        /// The new state.
        state: LeaseState,
    },
    /// The workers that train a job together changed.
    Members {
        /// Which job.
        job: JobId,
        /// Counts the changes.
        generation: u32,
        /// The leases that train from now on, in order; none: the job waits for machines.
        members: Vec<LeaseId>,
    },
    /// A receipt was accepted.
    Receipt {
        /// For which job.
        job: JobId,
        /// For which lease.
        lease: LeaseId,
        /// On which machine.
        machine: MachineId,
        /// Who is paid.
        lender: AccountId,
        /// Who pays.
        borrower: AccountId,
        /// The worker's rank.
        rank: u32,
        /// The receipt's number.
        sequence: u32,
        /// Rounds done so far.
        rounds: u64,
        /// Samples trained on so far.
        samples: u64,
        /// Block time that this receipt is paid for, in milliseconds.
        paid_ms: u64,
        /// What it released. It is held until it vests.
        payout: Credits,
    },
    /// The prices of a day were set.
    Prices(SlotPrices),
    /// An audit was drawn or its state changed.
    Audit {
        /// Which audit.
        audit: AuditId,
        /// Of which job.
        job: JobId,
        /// Of which lease.
        lease: LeaseId,
        /// The worker's machine.
        machine: MachineId,
        /// The worker's owner.
        lender: AccountId,
        /// The new state.
        state: AuditState,
    },
}

impl Event {
    /// The account whose history shows this event.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Event::Posted { account, .. } => Some(*account),
            Event::Machine { owner, .. } | Event::Job { owner, .. } => Some(*owner),
            Event::Lease { .. } | Event::Members { .. } | Event::Receipt { .. } | Event::Prices(_) => None,
            Event::Audit { lender, .. } => Some(*lender),
        }
    }

    /// The job whose history shows this event.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Event::Job { job, .. } | Event::Lease { job, .. } | Event::Members { job, .. } | Event::Receipt { job, .. } => {
                Some(*job)
            }
            Event::Audit { job, .. } => Some(*job),
            Event::Posted { cause, .. } => match cause {
                Posting::Escrow(job) | Posting::Refund(job) | Posting::Payout { job, .. } => Some(*job),
                _ => None,
            },
            Event::Machine { .. } | Event::Prices(_) => None,
        }
    }
}
