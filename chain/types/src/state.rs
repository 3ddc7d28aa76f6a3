use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{FailureReason, Hash};

/// Why a job was aborted ("panic" is the paper's word).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PanicReason {
    /// The escrow can't pay for the next interval.
    Budget,
    /// A machine that worked for the job lost contact, or its owner withdrew it.
    MachineLost,
    /// A worker reported that it can't go on.
    Failed(FailureReason),
    /// The workers reported different results.
    Disagreement,
}

impl fmt::Display for PanicReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PanicReason::Budget => {
                f.write_str("budget: the escrow can't pay for the next interval; submit again with a larger budget")
            }
            PanicReason::MachineLost => f.write_str("machine lost: a machine that worked for the job went away; submit again"),
            PanicReason::Failed(reason) => write!(f, "worker failed: {reason}"),
            PanicReason::Disagreement => f.write_str("disagreement: the workers reported different results"),
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum JobState {
    /// Waits for machines (or for its slot).
    Queued,
    /// Has its leases; no receipt came yet.
    Matched,
    /// Its workers send receipts.
    Running,
    /// Continues after the loss of workers.
    Recovering,
    /// All rounds are done; the model is the blob of this hash.
    Finished(Hash),
    /// Stopped by its owner.
    Cancelled,
    /// Aborted.
    Panic(PanicReason),
}

impl JobState {
    /// Will nothing happen to the job any more?
    pub fn is_closed(&self) -> bool {
        matches!(self, JobState::Finished(_) | JobState::Cancelled | JobState::Panic(_))
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobState::Queued => f.write_str("queued"),
            JobState::Matched => f.write_str("matched"),
            JobState::Running => f.write_str("running"),
            JobState::Recovering => f.write_str("recovering"),
            JobState::Finished(_) => f.write_str("finished"),
            JobState::Cancelled => f.write_str("cancelled"),
            JobState::Panic(reason) => write!(f, "panic: {reason}"),
        }
    }
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Registered, not offered.
    Withdrawn,
    /// Offered and in contact; nothing runs.
    Idle,
    /// Works for at least one lease.
    InUse,
    /// Its owner is using it.
    Paused,
    /// Finishes its leases and takes no new one.
    Draining,
    /// Offered, but its heartbeats stopped.
    Panic,
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            MachineState::Withdrawn => "withdrawn",
            MachineState::Idle => "idle",
            MachineState::InUse => "in use",
            MachineState::Paused => "paused",
            MachineState::Draining => "draining",
            MachineState::Panic => "panic: lost contact",
        })
    }
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum LeaseState {
    /// The worker works, or is expected to.
    Active,
    /// The worker did all rounds.
    Finished,
    /// The worker reported that it can't go on.
    Failed(FailureReason),
    /// The machine lost contact.
    Lost,
    /// The job ended (cancelled, out of budget, another worker failed) or the owner withdrew the machine.
    Ended,
}
