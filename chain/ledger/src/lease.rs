use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, Credits, Hash, JobId, LeaseId, LeaseState, MachineId, Resources, TimeMs, UnitPrices};

/// One worker of one job on one machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Lease {
    /// The lease.
    pub id: LeaseId,
    /// The job.
    pub job: JobId,
    /// The worker's rank: its number among all leases that the job ever had.
    pub rank: u32,
    /// The machine.
    pub machine: MachineId,
    /// The machine's owner, who is paid.
    pub owner: AccountId,
    /// What the worker may use and the borrower pays for.
    pub resources: Resources,
    /// The least unit prices that its owner is paid, as the offer said when it began.
    pub minimum: UnitPrices,
    /// Its machine's determinism class when it began: what computes its rounds again bit by bit.
    pub class: String,
    /// How it stands.
    pub state: LeaseState,
    /// When it began.
    pub started: TimeMs,
    /// The block time up to which receipts have been metered; `started` before the first.
    pub metered: TimeMs,
    /// The number of the last accepted receipt; 0 before the first.
    pub sequence: u32,
    /// Hash of that receipt: tells the same one from an equivocation.
    pub receipt: Option<Hash>,
    /// When its first receipt was accepted: its data is loaded, and it can train.
    pub ready: Option<TimeMs>,
    /// When it became a member of those that train together.
    pub joined: Option<TimeMs>,
    /// The first round that it took part in; equal to `rounds` before that.
    pub from: u64,
    /// Rounds of the job that were done at the last receipt.
    pub rounds: u64,
    /// Samples trained on.
    pub samples: u64,
    /// CPU time of the trainer in milliseconds.
    pub cpu_ms: u64,
    /// Rounds that it committed to, by the last receipt.
    pub committed: u64,
    /// Hash of the parameters at the last receipt.
    pub parameters: Option<Hash>,
    /// Mean training loss at the last receipt, in millionths.
    pub loss_micro: u64,
    /// The member that it can't reach or that is far behind, by its last receipt.
    pub missing: Option<LeaseId>,
    /// The model that a finished lease reported.
    pub result: Option<Hash>,
    /// What it was paid: with what is held, and with what it lost again.
    pub paid: Credits,
    /// What of it is held until it vests.
    pub held: Credits,
    /// What of it was lost: by a false receipt or answer of its machine, or by an audit that it didn't answer.
    pub forfeited: Credits,
    /// Something is odd about it: from this receipt on the next one that goes through the draw is audited for sure.
    pub suspect_from: Option<u32>,
    /// Block time that was paid for, in milliseconds.
    pub paid_ms: u64,
}

impl Lease {
    /// Is the worker working, or expected to?
    pub fn is_active(&self) -> bool {
        self.state == LeaseState::Active
    }

    /// Is a receipt of it audited for sure, because something is odd?
    pub fn is_suspect(&self, sequence: u32) -> bool {
        self.suspect_from.is_some_and(|from| from <= sequence)
    }

    /// Did it take part in a round?
    pub fn took_part(&self) -> bool {
        self.rounds > self.from
    }
}
