use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{ChainId, Hash, Height, PublicKey, TimeMs, Transaction, encode};

/// What the validators decide: the hash of a header is a block's hash.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Format version, [`Header::VERSION`].
    pub version: u8,
    /// The chain.
    pub chain: ChainId,
    /// The block's number.
    pub height: Height,
    /// The proposer's clock; later than the parent's.
    pub time: TimeMs,
    /// Hash of the parent's header; of height 1, the chain id.
    pub parent: Hash,
    /// Root of the authenticated tree over the state **before** this block (after its parent).
    pub state_root: Hash,
    /// Hash over the ids of the block's transactions in order.
    pub transactions: Hash,
    /// The validator that built the block.
    pub proposer: PublicKey,
    /// The next link of the proposer's hash chain, which feeds the beacon that draws audits; zero where it is held back.
    pub link: Hash,
}

impl Header {
    /// The format version that this release writes and reads.
    pub const VERSION: u8 = 1;

    /// The block's hash.
    pub fn hash(&self) -> Hash {
        Hash::tagged("deepmarket/v1/block", &[&encode(self)])
    }
}

/// A header and its transactions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// What is decided.
    pub header: Header,
    /// The transactions in the order in which they are applied.
    pub transactions: Vec<Transaction>,
}

impl Block {
    /// The value of [`Header::transactions`] for some transactions.
    pub fn transactions_hash<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> Hash {
        let ids: Vec<Hash> = transactions.into_iter().map(Transaction::id).collect();
        Hash::tagged("deepmarket/v1/transactions", &[&encode(&ids)])
    }

    /// The block's hash.
    pub fn hash(&self) -> Hash {
        self.header.hash()
    }
}

/// What became of a transaction in a block. Code 0 is success; a rejection has a stable code and its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionResult {
    /// The transaction.
    pub id: Hash,
    /// 0, or a code of the ledger (2xxx).
    pub code: u16,
    /// Empty, or what was wrong and what to do.
    pub message: String,
    /// How many of the block's events it caused: they stand in the transactions' order, those of the block's end last.
    pub events: u32,
}
