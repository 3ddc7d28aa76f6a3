//! The full check of a proposed block. A validator votes for nothing that fails it.

use std::sync::Arc;

use deepmarket_ledger::{BlockError, Ledger};
use deepmarket_types::{Block, FormError, Hash, Header, MAX_BLOCK_BYTES, TimeMs, Transaction, VerifiedTransaction, decode};

pub use crate::candidate::Candidate;

/// The most transactions of a block, its prices included: their signatures must be checked within a round's patience.
pub const MAX_TRANSACTIONS: usize = 2_000;

/// The most bytes of a block with its header.
pub const MAX_BODY_BYTES: usize = MAX_BLOCK_BYTES + 1024;

/// How far a proposal's time may be ahead of this node's clock.
pub const MAX_AHEAD_MS: u64 = 10_000;

/// Why a proposed block is voted down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// Too long, or not canonical.
    #[error("the block can't be read: {0}")]
    Form(#[from] FormError),
    /// Too many transactions.
    #[error("the block has {0} transactions; at most {MAX_TRANSACTIONS} are allowed")]
    TooMany(usize),
    /// Another state than ours after the same parent.
    #[error("the block builds on the state {given}, ours after its parent is {expected}")]
    StateRoot {
        /// The block's.
        given: Hash,
        /// Ours.
        expected: Hash,
    },
    /// Too far in the future.
    #[error("the block's time is {0} ms ahead of this validator's clock")]
    Ahead(u64),
    /// A transaction that isn't well-formed or well-signed.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Its place.
        index: usize,
        /// What is wrong.
        error: FormError,
    },
    /// Not a block that can follow on the ledger.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// What a block is checked against: the state after its parent.
pub struct Parent<'a> {
    /// The ledger after the parent.
    pub ledger: &'a Ledger,
    /// The root of its state.
    pub state_root: Hash,
    /// This node's clock, for proposals; none for blocks that a quorum decided already.
    pub clock: Option<TimeMs>,
}

/// Checks the canonical bytes of a block that should follow on `parent`.
///
/// Order: length, canonical form, number of transactions, height and parent (so that a stray block costs no signatures), state
/// root, time against the clock, each transaction's form and signatures, and the ledger's part ([`Ledger::check_block`]).
/// `known` gives transactions that were verified before, by id.
pub fn validate(
    bytes: &[u8],
    parent: &Parent<'_>,
    known: impl Fn(&Hash) -> Option<Arc<VerifiedTransaction>>,
) -> Result<Candidate, InvalidBlock> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(FormError::TooLong { what: "the block", bytes: bytes.len(), limit: MAX_BODY_BYTES }.into());
    }
    let block: Block = decode(bytes)?;
    if block.transactions.len() > MAX_TRANSACTIONS {
        return Err(InvalidBlock::TooMany(block.transactions.len()));
    }
    check_header(&block.header, parent)?;
    let verify = |(index, transaction): (usize, &Transaction)| match known(&transaction.id()) {
        Some(verified) => Ok((*verified).clone()),
        None => transaction.clone().verify(&block.header.chain).map_err(|error| InvalidBlock::Transaction { index, error }),
    };
    let transactions = block.transactions.iter().enumerate().map(verify).collect::<Result<Vec<_>, _>>()?;
    parent.ledger.check_block(&block.header, &transactions)?;
    Ok(Candidate::new(block, transactions))
}

fn check_header(header: &Header, parent: &Parent<'_>) -> Result<(), InvalidBlock> {
    let ledger = parent.ledger;
    if header.chain != ledger.chain() {
        return Err(BlockError::WrongChain(header.chain).into());
    }
    let expected = ledger.height().next();
    if header.height != expected {
        return Err(BlockError::WrongHeight { given: header.height, expected }.into());
    }
    if header.parent != ledger.tip() {
        return Err(BlockError::WrongParent { given: header.parent, expected: ledger.tip() }.into());
    }
    if header.state_root != parent.state_root {
        return Err(InvalidBlock::StateRoot { given: header.state_root, expected: parent.state_root });
    }
    let ahead_ms = parent.clock.map_or(0, |clock| header.time.since(clock));
    if ahead_ms > MAX_AHEAD_MS {
        return Err(InvalidBlock::Ahead(ahead_ms));
    }
    Ok(())
}
