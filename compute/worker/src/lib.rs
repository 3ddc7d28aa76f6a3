//! The lender's agent: it serves the leases of one machine.
//!
//! ```text
//! chain (through gateways)                     agent                                   other machines
//!   assignments ──────────────▶ one task for each lease ◀─ shards, verified ── gateways' and ranks' blob peers
//!   members     ──────────────▶ │  who works together: a team for each generation
//!   heartbeats  ◀────────────── │
//!   receipts    ◀── latest ──── │  rounds:  trainer ─ Update ▶ average ◀──────▶ the other members
//!   progress    ◀── batches ─── │           trainer ◀ Apply ──    │
//!   checkpoints ◀── first ───── │           parameter hashes ◀────┴─▶ must be equal on all members
//!   result blob ◀── first ───── │
//!   duties      ──────────────▶ audits: opens what was drawn of its own work, computes others' rounds again ◀▶ kept on disk
//!                               └─ pipes ─ `deepmarket-trainer`, a confined child process (`compute/SANDBOX.md`)
//! ```
//!
//! A team whose member is lost breaks up; the chain names the next one, its members bring each other to the same place, share out
//! the data, and go on. Training waits for the chain only then: receipts, progress and checkpoints are handed to tasks that send
//! them when somebody listens, and receipts are cumulative, so that only the latest matters. Gateways may die and the chain may
//! stand still; the rounds go on. Only the final receipt is waited for, because it is what finishes the job.
//!
//! This crate never computes a gradient (the trainer does), never decides about money (the ledger does), and never runs
//! anything that a borrower sent except through the trainer.

mod agent;
mod answers;
mod archive;
mod auditor;
mod checkpoints;
mod committer;
mod data;
mod duties;
mod error;
mod evaluate;
mod heartbeat;
mod holdings;
mod journal;
mod judge;
mod keeper;
mod lease;
mod measure;
mod members;
mod passes;
mod progress;
mod receipts;
mod replay;
mod rounds;
mod standing;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod testing;
pub mod tolerance;
mod trainer;
mod watch;

pub use agent::{WorkerConfig, run};
pub use deepmarket_sandbox::{Guard, GuardName, GuardState, Means, guards};
pub use error::WorkerError;
pub use evaluate::{Evaluation, evaluate_model};
pub use judge::{JudgeConfig, judge, judge_disputes};
pub use measure::measure;
pub use trainer::{TrainerError, TrainerLimits, TrainerProcess, TrainerProgram};
