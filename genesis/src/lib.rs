//! Genesis documents: what a market's validators agree on before its first block.
//!
//! A document enters as TOML ([`Genesis::from_toml`], strict: unknown keys are refused) and leaves as three things: the chain's
//! id, the hash of its canonical bytes, which every signature is bound to; the ledger's first state; and the list of
//! validators with their addresses. Two kinds of documents exist: a *network* as this folder's `networks/` has them, whose
//! validators, registrars and time are still open, and a complete one, made of a network by [`Genesis::complete`].
//!
//! ```text
//!  networks/local.toml ─► from_toml ─► complete(time, validators, registrars) ─► check ─► chain_id, ledger_state
//! ```
//!
//! A comment or another order of keys makes no other chain: the id is over values, not over text. This crate never reads a
//! file, a clock or a key.

mod document;
mod error;

pub use document::{Genesis, Validator};
pub use error::GenesisError;

/// The network for one machine: `networks/local.toml`.
pub const LOCAL: &str = include_str!("../networks/local.toml");
/// Portland State University's network: `networks/psu.toml`.
pub const PSU: &str = include_str!("../networks/psu.toml");
