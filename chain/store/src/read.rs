use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{Block, Event, Hash, Height, PublicKey, Transaction, TransactionResult};

use crate::{
    Store, StoreError,
    keys::{self, column},
    open::stored,
};

/// A block as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct StoredBody {
    pub hash: Hash,
    pub block: Block,
    pub results: Vec<TransactionResult>,
    pub events: Vec<Event>,
    pub state_root: Hash,
}

/// The proof that a quorum of validators decided a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Certificate {
    /// The round that decided it.
    pub round: u32,
    /// Who signed.
    pub signers: Vec<PublicKey>,
    /// The engine's bytes.
    pub bytes: Vec<u8>,
}

/// A decided block with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its hash.
    pub hash: Hash,
    /// The block.
    pub block: Block,
    /// What became of each transaction, in order.
    pub results: Vec<TransactionResult>,
    /// What it changed, in words.
    pub events: Vec<Event>,
    /// The root of the state after it.
    pub state_root: Hash,
    /// Its certificate.
    pub certificate: Certificate,
}

/// A transaction's place in the chain: height, index in the block, itself, what became of it.
pub type StoredTransaction = (Height, u32, Transaction, TransactionResult);

impl Store {
    /// A decided block.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        let Some(body) = self.body_at(height)? else { return Ok(None) };
        let certificate = self.certificate(height)?;
        let certificate = certificate.ok_or_else(|| StoreError::Corrupt(format!("block {height} has no certificate")))?;
        let StoredBody { hash, block, results, events, state_root } = body;
        Ok(Some(StoredBlock { hash, block, results, events, state_root, certificate }))
    }

    /// A decided block's certificate.
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, StoreError> {
        let bytes = self.db.get_pinned_cf(self.column(column::BLOCKS), keys::certificate(height))?;
        bytes.map(|bytes| stored(&bytes, "a certificate")).transpose()
    }

    /// The root of the state after a block; of height 0 only while it is the tip.
    pub fn state_root_at(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        if let Some(tip) = self.tip().filter(|tip| tip.height == height) {
            return Ok(Some(tip.state_root));
        }
        Ok(self.body_at(height)?.map(|body| body.state_root))
    }

    /// A decided transaction by its id. One that was in several blocks (rejected, then accepted) is found at its latest place.
    pub fn transaction(&self, id: &Hash) -> Result<Option<StoredTransaction>, StoreError> {
        let Some(bytes) = self.db.get_pinned_cf(self.column(column::INDEX), keys::transaction(id))? else {
            return Ok(None);
        };
        let (height, index): (Height, u32) = stored(&bytes, "a transaction's place")?;
        let missing = || StoreError::Corrupt(format!("transaction {id} is not in block {height}"));
        let mut body = self.body_at(height)?.ok_or_else(missing)?;
        let at = index as usize;
        if at >= body.block.transactions.len() || at >= body.results.len() {
            return Err(missing());
        }
        Ok(Some((height, index, body.block.transactions.swap_remove(at), body.results.swap_remove(at))))
    }

    /// A value of the state as the last block left it.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get_cf(self.column(column::STATE), key)?)
    }

    fn body_at(&self, height: Height) -> Result<Option<StoredBody>, StoreError> {
        let bytes = self.db.get_pinned_cf(self.column(column::BLOCKS), keys::block(height))?;
        bytes.map(|bytes| stored(&bytes, "a block")).transpose()
    }
}
