//! Turns other people's files into datasets of the market: a manifest and shards, named by hash.
//!
//! ```text
//! IDX files ──import_idx──▶ Imported { manifest, shards }  ──▶ the blob store
//! ```
//!
//! A shard is a safetensors file with `x` and `y` (see [`deepmarket_job::DatasetManifest`]); equal files give equal bytes, so
//! that importing twice stores nothing new. What comes in is bounded and checked: a truncated or odd file is an error that
//! says which file, what was found and what was expected.
//!
//! This crate never keeps more than one file in memory beside the shards, and never fetches anything.

mod error;
mod idx;
mod shard;

pub use error::ImportError;
pub use idx::{DEFAULT_SHARD_SAMPLES, import_idx};
pub use shard::shard_bytes;

use deepmarket_job::DatasetManifest;
use deepmarket_types::Hash;

/// An imported dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it holds; its canonical bytes are a blob too.
    pub manifest: DatasetManifest,
    /// All shards with their hashes, split by split.
    pub shards: Vec<(Hash, Vec<u8>)>,
}
