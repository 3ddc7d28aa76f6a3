//! Blocks, state and history on disk: the only crate that knows RocksDB.
//!
//! A decided block enters through [`Store::commit`], which writes everything that follows from it (the block, its
//! certificate, the state entries, the state tree, the indexes) in **one batch, synced** before it returns. So a block is there
//! with all its consequences or not at all, and what was acknowledged survives the loss of power.
//!
//! ```text
//!   Decided ──► commit ──► blocks    height → block, results, certificate
//!                          index     transaction id → place · account and job → events, oldest first · account → sums by
//!                                    cause and by day
//!                          state     ledger key → value
//!                          tree      nodes of the authenticated tree over the state (only the newest version)
//!                          undecided bodies of proposals, until their height is decided
//!                          default   tip, chain, disk format
//! ```
//!
//! The state root is that of a Jellyfish Merkle tree (blake3) with a leaf for every state entry, at the hash of its key. It
//! depends on the entries only, not on the order in which they came: [`state_root_of`] computes it again from nothing, and
//! [`Store::load`] does so at every start.
//!
//! Reads may come from any thread at any time. This crate never judges a block: whoever commits has checked it.

mod commit;
mod error;
mod history;
mod keys;
mod lines;
mod open;
mod read;
mod tree;
mod undecided;

pub use commit::Decided;
pub use error::StoreError;
pub use history::HistoryEvent;
pub use lines::{Cause, CauseSum, DayItem, DaySum};
pub use open::{Loaded, Store, Tip};
pub use read::{Certificate, StoredBlock, StoredTransaction};
pub use tree::{MemoryTree, state_root_of};

use std::collections::BTreeMap;

/// State entries that change: canonical key to canonical value, or to nothing where the entry goes away.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
