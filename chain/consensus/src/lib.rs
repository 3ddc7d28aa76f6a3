//! A validator: it takes transactions, proposes and checks blocks, commits what the validators decided, and catches up.
//!
//! It is the host of the BFT engine (`deepmarket-engine`). The engine decides *hashes*; everything a hash stands for is
//! handled here. Transactions enter through [`Node::submit`]; decided blocks leave through [`Node::subscribe`], the
//! [`Store`](deepmarket_store::Store) and the [`Ledger`](deepmarket_ledger::Ledger).
//!
//! ```text
//!  submit ─► mempool ─► build ─► own proposal ─┐                          ┌─► store (one synced batch)
//!                                              ├─► engine ─► decided ─► commit ─► ledger
//!  peers' parts ─► parts ─► validate ─► vote ──┘   (host)                 └─► subscribers
//!  peers' decided blocks ─► validate (value sync) ─┘
//! ```
//!
//! What is promised:
//!
//! - A proposal is voted for only where *everything* about it was checked ([`validate`]), and a body is on disk, synced,
//!   before the engine may vote for it or propose it: after a crash the same round gets the same proposal.
//! - A block is acknowledged to the engine only when it is committed with all that follows from it. A commit that fails, or a
//!   broken invariant of the ledger, ends the node loudly: [`Node::ended`] says why.
//! - Blocks are made only where there is something to do: see [`pace`].
//!
//! `validate`, `build`, `commit` and the mempool know no type of the engine; `host` and `parts` translate. [`replay`] checks a chain
//! from its genesis document alone, as anybody can who is no validator.

mod build;
mod candidate;
mod commit;
mod error;
mod host;
mod mempool;
mod node;
pub mod pace;
mod parts;
pub mod replay;
mod shared;
pub mod validate;

pub use build::Tamper;
pub use commit::CommittedBlock;
pub use error::{ConsensusError, SubmitError};
pub use mempool::Limits as MempoolLimits;
pub use node::{Node, NodeStatus, ValidatorConfig, start, start_with_tamper};

/// What a log filter should say about the engine's own crates by default: they narrate every step.
pub const ENGINE_LOG_FILTER: &str = deepmarket_engine::LOG_FILTER;
