//! The pure state transition of the credit ledger and the market: what a block does to accounts, machines, jobs and prices.
//!
//! Data enters as decided blocks of verified transactions and leaves as three values: a result for every transaction, events
//! in words that history and wallets use, and the state entries that changed.
//!
//! ```text
//!  GenesisState ─► Ledger::genesis ─┐
//!                                   ▼                  ┌─► results  (0 or a stable code 2xxx, in words)
//!  header, [VerifiedTransaction] ─► Ledger::apply ─────┼─► events   (every purse change has one)
//!                                   ▲                  └─► writes   (only the entries that changed)
//!  entries of a store ─► Ledger::from_entries
//! ```
//!
//! One block is applied in this order (DESIGN sections 2 and 3):
//!
//! 1. demand and supply since the last block are added up, height, block time and the *contact clock* advance
//!    ([`Params::contact_step_ms`] says why there is such a clock);
//! 2. the transactions, each whole or not at all, see *How a transaction is judged* below;
//! 3. at the block's end: offers whose hours began or ended, or that a new slot's prices open or close; machines that lost
//!    contact; audits that the beacon draws, and those whose time is over; members of jobs that the others can't work with; workers
//!    that got ready join their jobs' members; void invitations; jobs whose escrow can't pay for the next interval; pay that vests;
//!    audits that get a machine; and then matching;
//! 4. the invariants. A broken one stops the process loudly: a ledger that guesses is worse than one that stopped.
//!
//! # How a transaction is judged
//!
//! 1. Expiry: the block's height is not after [`expires`](deepmarket_types::TransactionBody::expires).
//! 2. The signer is known: an account, or for heartbeats and receipts a machine. (`OpenAccount` brings its own.)
//! 3. The nonce is exactly the signer's next one. `OpenAccount`, `Join`, `Receipt` and the words of an audit, which can't be
//!    applied twice by what they contain, carry 0.
//! 4. **From here on the nonce is used, whatever follows:** a transaction that is then rejected by a rule can't be replayed
//!    later, when it might succeed to everybody's surprise. One that was rejected by 1 to 3 used nothing: an expired one stays
//!    expired, a used nonce stays used, and one that came too early is still what its signer wants, once its turn comes.
//! 5. The rules of its action, in the order that the rustdoc of each rule's function states. Then the change, which can't
//!    fail.
//!
//! The order and the codes are promises: [`Rejection`].
//!
//! This crate never reads a clock, never does IO, holds no float and draws no randomness but hashes of the parent block. It
//! never checks a signature: [`VerifiedTransaction`](deepmarket_types::VerifiedTransaction) remembers that this was done.

mod account;
mod audit;
mod beacon;
mod block;
mod change;
mod entries;
mod evaluate;
mod invariants;
mod invite;
mod job;
mod lease;
mod machine;
mod matching;
mod members;
mod params;
mod prices;
mod quote;
mod reasons;
mod receipt;
mod rejection;
mod settlement;
mod state;
mod statistics;
mod window;

pub use account::Account;
pub use audit::{Audit, Auditor, Disclosed, Duty, Task};
pub use beacon::{Beacon, ChainOfHashes, LINKS, next_link};
pub use block::{Applied, BlockError};
pub use entries::{LedgerCorrupt, StateKey, Writes};
pub use evaluate::{Estimate, SlotEarning};
pub use invite::Invite;
pub use job::{FinalModel, Job};
pub use lease::Lease;
pub use machine::Machine;
pub use params::{AuditParams, DynamicPricing, GenesisState, Params, ParamsError, PricePolicy};
pub use quote::{Quote, SlotQuote};
pub use rejection::Rejection;
pub use state::{Ledger, Totals};
pub use window::Window;
