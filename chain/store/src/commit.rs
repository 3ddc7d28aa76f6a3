use std::collections::BTreeMap;

use deepmarket_types::{Block, Event, Hash, PublicKey, TransactionResult, encode};
use rocksdb::WriteBatch;

use crate::{
    Certificate, Store, StoreError, Tip, Writes,
    history::StoredEvent,
    keys::{self, column},
    read::StoredBody,
    tree,
};

/// A decided block and all that follows from it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub block_hash: Hash,
    /// The commit certificate as the engine's bytes.
    pub certificate: Vec<u8>,
    /// The round that decided it.
    pub round: u32,
    /// Who signed the certificate.
    pub signers: Vec<PublicKey>,
    /// What became of each transaction.
    pub results: Vec<TransactionResult>,
    /// What changed, in words.
    pub events: Vec<Event>,
    /// The state entries that changed.
    pub writes: Writes,
    /// The market's day of the block's time, for sums by day.
    pub day: u64,
}

impl Store {
    /// Stores a decided block with all its consequences in one synced batch and returns the new state root. The bodies of
    /// proposals up to its height go away with it.
    ///
    /// # Errors
    /// [`StoreError::WrongHeight`] unless it is the next block. On any error nothing of the block is stored.
    pub fn commit(&self, decided: &Decided) -> Result<Hash, StoreError> {
        let _one = self.committing.lock().expect("no commit panicked");
        let last = self.tip().ok_or(StoreError::Empty)?;
        let header = &decided.block.header;
        let (height, expected) = (header.height, last.height.next());
        if height != expected {
            return Err(StoreError::WrongHeight { given: height, expected });
        }
        let mut batch = WriteBatch::default();

        let blocks = self.column(column::BLOCKS);
        let update = tree::update(self, last.tree_version, last.state_root, &decided.writes)?;
        let body = StoredBody {
            hash: decided.block_hash,
            block: decided.block.clone(),
            results: decided.results.clone(),
            events: decided.events.clone(),
            state_root: update.root,
        };
        batch.put_cf(blocks, keys::block(height), encode(&body));
        let certificate =
            Certificate { round: decided.round, signers: decided.signers.clone(), bytes: decided.certificate.clone() };
        batch.put_cf(blocks, keys::certificate(height), encode(&certificate));

        let index = self.column(column::INDEX);
        for (place, result) in decided.results.iter().enumerate() {
            let key = keys::transaction(&result.id);
            // A transaction succeeds at most once. One that is decided again (a faulty proposer can do that) is rejected, and
            // must not hide its first result; one that came too early may succeed later, and then that is what counts.
            if result.code == 0 || self.db.get_pinned_cf(index, &key)?.is_none() {
                batch.put_cf(index, key, encode(&(height, place as u32)));
            }
        }
        let mut causes = decided.results.iter().flat_map(|result| (0..result.events).map(|_| result.id));
        for (number, event) in decided.events.iter().enumerate() {
            let number = number as u32;
            // Those that no transaction caused come last.
            let transaction = causes.next();
            let value = encode(&StoredEvent { time: header.time, transaction, event: event.clone() });
            if let Some(account) = event.account() {
                batch.put_cf(index, keys::event(&keys::account(&account), height, number), &value);
            }
            if let Some(job) = event.job() {
                batch.put_cf(index, keys::event(&keys::job(job), height, number), &value);
            }
        }

        self.put_sums(&mut batch, decided.day, &decided.events)?;
        self.put_state(&mut batch, &decided.writes);
        tree::put(self, &mut batch, &update);
        self.forget_undecided(&mut batch, height)?;

        let tip = Tip {
            height,
            block: decided.block_hash,
            time: header.time,
            state_root: update.root,
            tree_version: update.next_version,
        };
        self.finish(batch, tip)?;
        Ok(update.root)
    }

    /// Replaces the certificate of a stored block by a fuller one.
    pub fn put_certificate(&self, height: deepmarket_types::Height, certificate: &Certificate) -> Result<(), StoreError> {
        self.db.put_cf(self.column(column::BLOCKS), keys::certificate(height), encode(certificate))?;
        Ok(())
    }

    /// Counts keys of every column, for tests and people.
    pub fn counts(&self) -> Result<BTreeMap<&'static str, usize>, StoreError> {
        let mut counts = BTreeMap::new();
        for name in column::ALL {
            let mut count = 0;
            for entry in self.db.iterator_cf(self.column(name), rocksdb::IteratorMode::Start) {
                entry?;
                count += 1;
            }
            counts.insert(name, count);
        }
        Ok(counts)
    }
}
