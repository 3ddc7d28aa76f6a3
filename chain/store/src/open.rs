use std::{
    path::Path,
    sync::{Mutex, RwLock},
};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{ChainId, Hash, Height, TimeMs, decode, encode};
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use crate::{
    StoreError, Writes,
    keys::{self, column},
    tree,
};

/// The disk format that this release reads and writes.
const FORMAT: u8 = 2;

/// The last block that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tip {
    /// Its height; 0 where only genesis is there.
    pub height: Height,
    /// Its hash; of height 0, the chain id.
    pub block: Hash,
    /// Its time.
    pub time: TimeMs,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The version of the tree's newest root: it counts blocks that changed any entry.
    pub(crate) tree_version: u64,
}

/// What a node needs to go on after a start.
#[derive(Debug)]
pub struct Loaded {
    /// All of the ledger's entries, ordered by key.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The last block.
    pub tip: Tip,
}

/// The database of one validator. Shared as `Arc<Store>`; one process at a time opens a folder.
pub struct Store {
    pub(crate) db: DB,
    pub(crate) tip: RwLock<Option<Tip>>,
    /// Commits one at a time.
    pub(crate) committing: Mutex<()>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.db.path()).field("tip", &self.tip()).finish()
    }
}

impl Store {
    /// Opens the database in a folder, or makes an empty one there.
    ///
    /// # Errors
    /// [`StoreError::Database`] (also where another process uses the folder), [`StoreError::Format`], [`StoreError::Corrupt`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // A validator of a small market lives beside other programs: bounded files and logs.
        options.set_max_open_files(256);
        options.set_max_total_wal_size(64 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        let columns = column::ALL.map(|name| {
            let mut options = Options::default();
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_write_buffer_size(8 << 20);
            ColumnFamilyDescriptor::new(name, options)
        });
        let db = DB::open_cf_descriptors(&options, path, columns)?;
        match db.get(keys::FORMAT)?.as_deref() {
            None => db.put_opt(keys::FORMAT, [FORMAT], &synced())?,
            Some([FORMAT]) => {}
            Some(other) => return Err(StoreError::Format(other.first().copied().unwrap_or(0))),
        }
        let tip = match db.get(keys::TIP)? {
            Some(bytes) => Some(stored(&bytes, "the tip")?),
            None => None,
        };
        Ok(Store { db, tip: RwLock::new(tip), committing: Mutex::new(()) })
    }

    /// Writes the state of height 0 into an empty database. Where the same chain is there already, nothing happens.
    ///
    /// # Errors
    /// [`StoreError::OtherChain`] where the folder holds another chain.
    pub fn init(&self, chain: ChainId, time: TimeMs, writes: &Writes) -> Result<Tip, StoreError> {
        let _one = self.committing.lock().expect("no commit panicked");
        if let Some(found) = self.chain()? {
            if found != chain {
                return Err(StoreError::OtherChain { found, expected: chain });
            }
            return self.tip().ok_or_else(|| StoreError::Corrupt("a chain without a tip".into()));
        }
        let mut batch = WriteBatch::default();
        let update = tree::update(self, 0, Hash::default(), writes)?;
        self.put_state(&mut batch, writes);
        tree::put(self, &mut batch, &update);
        let tip = Tip { height: Height(0), block: chain, time, state_root: update.root, tree_version: update.next_version };
        batch.put(keys::CHAIN, encode(&chain));
        self.finish(batch, tip)?;
        Ok(tip)
    }

    /// The chain, once initialised.
    pub fn chain(&self) -> Result<Option<ChainId>, StoreError> {
        self.db.get(keys::CHAIN)?.map(|bytes| stored(&bytes, "the chain")).transpose()
    }

    /// The last stored block, once initialised.
    pub fn tip(&self) -> Option<Tip> {
        *self.tip.read().expect("nobody panics while holding the tip")
    }

    /// The root of the state after the last block, once initialised.
    pub fn state_root(&self) -> Option<Hash> {
        self.tip().map(|tip| tip.state_root)
    }

    /// Reads the whole state, computes its root from nothing and compares it with the tip's. `None` in an empty database.
    pub fn load(&self) -> Result<Option<Loaded>, StoreError> {
        let Some(tip) = self.tip() else { return Ok(None) };
        let iterator = self.db.iterator_cf(self.column(column::STATE), rocksdb::IteratorMode::Start);
        let entries =
            iterator.map(|entry| entry.map(|(key, value)| (key.into_vec(), value.into_vec()))).collect::<Result<Vec<_>, _>>()?;
        let found = crate::state_root_of(entries.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
        if found != tip.state_root {
            return Err(StoreError::WrongRoot { height: tip.height, found, expected: tip.state_root });
        }
        Ok(Some(Loaded { entries, tip }))
    }

    pub(crate) fn column(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every column is opened with the database")
    }

    pub(crate) fn put_state(&self, batch: &mut WriteBatch, writes: &Writes) {
        let state = self.column(column::STATE);
        for (key, value) in writes {
            match value {
                Some(value) => batch.put_cf(state, key, value),
                None => batch.delete_cf(state, key),
            }
        }
    }

    /// Writes a batch that leads to a new tip, synced, and makes the tip known only then.
    pub(crate) fn finish(&self, mut batch: WriteBatch, tip: Tip) -> Result<(), StoreError> {
        batch.put(keys::TIP, encode(&tip));
        self.db.write_opt(batch, &synced())?;
        *self.tip.write().expect("nobody panics while holding the tip") = Some(tip);
        Ok(())
    }
}

/// Writes wait until the disk has them.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// Reads a value that this crate wrote.
pub(crate) fn stored<T: BorshSerialize + BorshDeserialize>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    decode(bytes).map_err(|e| StoreError::Corrupt(format!("{what}: {e}")))
}
