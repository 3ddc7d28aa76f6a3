//! Turns other people's files into datasets of the market: a manifest and shards, named by hash.
//!
//! ```text
//! https, s3, hdfs ──fetch──▶ files here ──import──▶ samples (a temporary file) ──dealt out──▶ shards ──▶ the blob store
//!                            idx csv parquet npy npz images safetensors text                └▶ manifest
//! ```
//!
//! A shard is a safetensors file with `x` and `y` (see [`deepmarket_job::DatasetManifest`]); equal files give equal bytes, so
//! that importing twice stores nothing new. Sample *i* goes to shard *i* mod *K*, so that files sorted by class give shards that
//! hold all classes. What comes in is bounded and checked: a truncated or odd file is an error that says which file, where in it,
//! what was found and what was expected.
//!
//! This crate never keeps more than one shard of a dataset in memory, whatever its size ([`import_idx`] is the exception, for
//! small ones), and never runs what it reads.

mod arrays;
mod collect;
mod error;
mod files;
mod generate;
mod idx;
mod images;
mod import;
mod options;
mod shard;
mod source;
mod table;
mod text;
mod transport;

pub use collect::Sink;
pub use error::ImportError;
pub use generate::{Generator, generate};
pub use idx::import_idx;
pub use import::{Import, import};
pub use options::{Colour, DEFAULT_SHARD_SAMPLES, Format, Holdout, Input, Options, Task};
pub use shard::shard_bytes;
pub use source::{Progress, S3Access, fetch, is_url, local_path};

use deepmarket_job::DatasetManifest;
use deepmarket_types::Hash;

/// An imported dataset in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it holds; its canonical bytes are a blob too.
    pub manifest: DatasetManifest,
    /// All shards with their hashes, split by split.
    pub shards: Vec<(Hash, Vec<u8>)>,
}
