use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Credits, FailureReason, Hash, LeaseId, MachineId, TimeMs};

/// Why a job was aborted ("panic" is the paper's word).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PanicReason {
    /// The escrow can't pay for the next interval.
    Budget,
    /// Workers failed more often than the spec tolerates, or in a way in which every worker would fail; this was the last time.
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
    /// Its workers train.
    Running,
    /// All its workers were lost: it waits for machines and goes on from its last checkpoint.
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

/// Why a machine stands where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum MachineReason {
    /// It is registered, and nothing is offered of it.
    NotOffered,
    /// It was offered, and its worker has not been heard of yet.
    NotHeardYet,
    /// Its owner may lend no more: too many of its receipts or answers were false.
    Barred,
    /// It gave no address at which other workers reach it.
    NoAddress,
    /// It is outside its hours or weekdays.
    OutsideHours {
        /// When they begin; none where the offer ends before.
        opens: Option<TimeMs>,
    },
    /// The present prices are below its minimum.
    PriceBelowMinimum,
    /// It waits for work.
    Ready,
    /// It works.
    Serving,
    /// It takes no new lease: its owner withdrew it, or the offer's end has come.
    Ending,
    /// It takes no new lease until a change of its offer can take effect.
    OfferChanging,
    /// Its heartbeats stopped.
    LostContact,
}

impl fmt::Display for MachineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MachineReason::NotOffered => "not offered",
            MachineReason::NotHeardYet => "offered; its worker was not heard of yet: start it with `deepmarket lend start`",
            MachineReason::Barred => "takes no work: too many receipts or answers of its owner's machines were false",
            MachineReason::NoAddress => "offered, but it gave no address at which other workers reach it",
            MachineReason::OutsideHours { opens: Some(_) } => "outside its hours",
            MachineReason::OutsideHours { opens: None } => "outside its hours, which don't begin again before its offer ends",
            MachineReason::PriceBelowMinimum => "the price of this slot is below its minimum",
            MachineReason::Ready => "ready; nothing runs",
            MachineReason::Serving => "works for at least one lease",
            MachineReason::Ending => "finishes its leases and takes no new one",
            MachineReason::OfferChanging => "finishes its leases before its changed offer holds",
            MachineReason::LostContact => "its heartbeats stopped: start its worker again",
        })
    }
}

/// Why a job stands where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum JobReason {
    /// It waits for a slot that its spec names.
    WaitsForSlot {
        /// When that begins.
        starts: TimeMs,
    },
    /// Fewer machines than its minimum of workers are free and fit.
    WaitsForMachines {
        /// Machines that are free and fit now.
        free: u32,
        /// Its minimum of workers.
        needed: u32,
    },
    /// Its budget doesn't pay for one interval of its workers at the present prices.
    WaitsForLowerPrices {
        /// The least budget at the present prices.
        needed: Credits,
    },
    /// It can start with the next block.
    Next,
    /// Its workers fetch data and build the model.
    Preparing,
    /// Its workers train and send receipts.
    Training {
        /// How many.
        workers: u32,
        /// Workers that are getting ready to join them.
        preparing: u32,
    },
    /// All its workers were lost; it goes on from its last checkpoint, or begins anew without one, as soon as machines are there.
    Recovering {
        /// Workers that are getting ready.
        preparing: u32,
    },
    /// All rounds are done.
    Finished,
    /// Its owner stopped it.
    Cancelled,
    /// It was aborted.
    Aborted {
        /// Why.
        why: PanicReason,
        /// The lease that was the cause; none where no single one was.
        lease: Option<LeaseId>,
        /// That lease's machine.
        machine: Option<MachineId>,
    },
}

impl fmt::Display for JobReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobReason::WaitsForSlot { .. } => f.write_str("waits for a slot that it may start in"),
            JobReason::WaitsForMachines { free, needed } => {
                write!(f, "waits for machines: {free} that fit are free, {needed} are needed")
            }
            JobReason::WaitsForLowerPrices { needed } => {
                write!(f, "waits for lower prices: one interval of its workers costs {needed} credits now, more than its budget")
            }
            JobReason::Next => f.write_str("starts with the next block"),
            JobReason::Preparing => f.write_str("its workers fetch data and build the model"),
            JobReason::Training { workers, preparing } => {
                match workers {
                    1 => f.write_str("1 worker trains")?,
                    _ => write!(f, "{workers} workers train")?,
                }
                match preparing {
                    0 => Ok(()),
                    1 => f.write_str(", 1 gets ready to join"),
                    _ => write!(f, ", {preparing} get ready to join"),
                }
            }
            JobReason::Recovering { preparing: 0 } => {
                f.write_str("all its workers were lost; when machines are free it goes on from its last checkpoint, or begins anew without one")
            }
            JobReason::Recovering { preparing } => {
                write!(f, "all its workers were lost; new ones ({preparing}) take it up")
            }
            JobReason::Finished => f.write_str("all rounds are done"),
            JobReason::Cancelled => f.write_str("stopped by its owner"),
            JobReason::Aborted { why, lease, machine } => {
                write!(f, "{why}")?;
                match (lease, machine) {
                    (Some(lease), Some(machine)) => write!(f, " (by {lease} on {machine})"),
                    _ => Ok(()),
                }
            }
        }
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
    /// The machine lost contact, or the job's other workers could not reach it or waited for it too long.
    Lost,
    /// The job ended (cancelled, out of budget, failed, finished without it) or the owner withdrew the machine.
    Ended,
}
