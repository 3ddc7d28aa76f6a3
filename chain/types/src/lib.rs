//! The vocabulary of the credit ledger: money, names, keys, transactions, blocks.
//!
//! Everything that two processes must agree on to the byte is defined here: canonical bytes (borsh), what is hashed, what
//! is signed and under which domain tag. Data enters through [`decode`] (strict: one value has one encoding) and
//! [`Transaction::verify`]; it leaves as bytes and hashes.
//!
//! This crate never applies a rule of the market: whether a well-formed, well-signed transaction *succeeds* is decided in
//! `deepmarket-ledger`. It does no IO and knows no clock and no float.

mod audit;
mod block;
mod canonical;
mod commitments;
mod credits;
mod event;
mod ids;
mod keys;
mod market;
mod state;
mod transaction;

pub use audit::{AuditState, AuditVerdict, Disclosure, Finding, RoundTrace};
pub use block::{Block, Header, TransactionResult};
pub use canonical::{FormError, MAX_BLOCK_BYTES, MAX_TRANSACTION_BYTES, decode, encode};
pub use commitments::{
    CommitmentPlace, LeafProof, MountainRange, RoundCommitment, RoundOutcome, blind, exchange_root, seal, steps_root,
};
pub use credits::{Credits, CreditsParseError, MICROCREDITS};
pub use event::{Event, Posting, Purse};
pub use ids::{AccountId, AuditId, ChainId, Hash, Height, IdParseError, JobId, LeaseId, MachineId, TimeMs};
pub use keys::{Domain, PublicKey, SecretKey, Signature};
pub use market::{
    Availability, ChangeMode, DailyHours, MachineConfig, Offer, Resources, SlotClock, SlotPrices, UnitPrices, Weekdays,
};
pub use state::{JobReason, JobState, LeaseState, MachineReason, MachineState, PanicReason};
pub use transaction::{
    Action, Checkpoint, FailureReason, LeaseOutcome, Receipt, Transaction, TransactionBody, VerifiedTransaction, Voucher,
    invite_key, join_proof, machine_proof,
};
