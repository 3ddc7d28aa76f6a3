use deepmarket_types::{Block, Hash, VerifiedTransaction, encode};

/// A block that may be decided at the next height: built here, or validated in full. Only those two make one.
#[derive(Clone, Debug)]
pub struct Candidate {
    block: Block,
    hash: Hash,
    transactions: Vec<VerifiedTransaction>,
    bytes: Vec<u8>,
}

impl Candidate {
    pub(crate) fn new(block: Block, transactions: Vec<VerifiedTransaction>) -> Self {
        let (hash, bytes) = (block.hash(), encode(&block));
        Candidate { block, hash, transactions, bytes }
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its hash: what the engine decides.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its transactions, verified.
    pub fn transactions(&self) -> &[VerifiedTransaction] {
        &self.transactions
    }

    /// The block's canonical bytes: what peers get.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_block(self) -> Block {
        self.block
    }
}
