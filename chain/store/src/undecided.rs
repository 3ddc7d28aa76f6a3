//! Bodies of proposals. The consensus engine's own log keeps only hashes: what this node proposed or voted for must be here,
//! synced, before the engine hears of it.

use deepmarket_types::{Hash, Height};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use crate::{
    Store, StoreError,
    keys::{self, column},
    open::{stored, synced},
};

impl Store {
    /// Keeps the body of a proposal (a block's canonical bytes).
    pub fn put_undecided(&self, height: Height, hash: &Hash, body: &[u8]) -> Result<(), StoreError> {
        self.db.put_cf_opt(self.column(column::UNDECIDED), keys::body(height, hash), body, &synced())?;
        Ok(())
    }

    /// The body of a proposal.
    pub fn undecided(&self, height: Height, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get_cf(self.column(column::UNDECIDED), keys::body(height, hash))?)
    }

    /// Hashes of all kept proposals of a height.
    pub fn undecided_hashes(&self, height: Height) -> Result<Vec<Hash>, StoreError> {
        let prefix = [&height.0.to_be_bytes()[..], b"b"].concat();
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let mut hashes = Vec::new();
        for entry in self.db.iterator_cf(self.column(column::UNDECIDED), mode) {
            let (key, _) = entry?;
            let Some(hash) = key.strip_prefix(&prefix[..]) else { break };
            hashes.push(Hash(hash.try_into().map_err(|_| StoreError::Corrupt("a key of a proposal".into()))?));
        }
        Ok(hashes)
    }

    /// Drops one kept proposal.
    pub fn delete_undecided(&self, height: Height, hash: &Hash) -> Result<(), StoreError> {
        Ok(self.db.delete_cf(self.column(column::UNDECIDED), keys::body(height, hash))?)
    }

    /// Keeps what this validator proposes in a round, body and all, so that it proposes the very same again after a crash.
    pub fn put_proposed(&self, height: Height, round: u32, hash: &Hash, body: &[u8]) -> Result<(), StoreError> {
        let undecided = self.column(column::UNDECIDED);
        let mut batch = WriteBatch::default();
        batch.put_cf(undecided, keys::body(height, hash), body);
        batch.put_cf(undecided, keys::proposed(height, round), hash.0);
        Ok(self.db.write_opt(batch, &synced())?)
    }

    /// The hash of what this validator proposed in a round.
    pub fn proposed(&self, height: Height, round: u32) -> Result<Option<Hash>, StoreError> {
        let bytes = self.db.get_cf(self.column(column::UNDECIDED), keys::proposed(height, round))?;
        bytes.map(|bytes| stored(&bytes, "a proposal")).transpose()
    }

    /// Removes all proposals up to a height.
    pub(crate) fn forget_undecided(&self, batch: &mut WriteBatch, height: Height) -> Result<(), StoreError> {
        let undecided = self.column(column::UNDECIDED);
        let end = height.next().0.to_be_bytes();
        for entry in self.db.iterator_cf(undecided, IteratorMode::Start) {
            let (key, _) = entry?;
            if *key >= end[..] {
                break;
            }
            batch.delete_cf(undecided, key);
        }
        Ok(())
    }
}
