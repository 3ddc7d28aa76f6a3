use deepmarket_types::{ChainId, Hash, Height};

/// Why the store can't do what was asked. None of these is a user's fault; a node stops on each of them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed: a full or broken disk, missing rights, or another process that holds the folder.
    #[error("the database failed: {0}; check free space and rights of its folder, and that no other node uses it")]
    Database(#[from] rocksdb::Error),
    /// Something on disk isn't what was written.
    #[error("the database is damaged: {0}; restore the folder from a copy, or remove it and let the node catch up")]
    Corrupt(String),
    /// The folder holds another chain.
    #[error("the database belongs to the chain {found}, not to {expected}; use another folder")]
    OtherChain {
        /// On disk.
        found: ChainId,
        /// Expected.
        expected: ChainId,
    },
    /// The folder was written by another release.
    #[error("the database has disk format {0}, which this release doesn't know; use the release that wrote it")]
    Format(u8),
    /// A commit out of order.
    #[error("block {given} can't be stored: the next height is {expected}")]
    WrongHeight {
        /// The block's.
        given: Height,
        /// The next.
        expected: Height,
    },
    /// The entries on disk don't have the root that the last block says.
    #[error("the state on disk has the root {found}, but block {height} says {expected}; restore the folder from a copy")]
    WrongRoot {
        /// The tip.
        height: Height,
        /// Computed from the entries.
        found: Hash,
        /// Stored with the tip.
        expected: Hash,
    },
    /// Nothing was initialised yet.
    #[error("the database is empty; initialise it from a genesis document first")]
    Empty,
}
