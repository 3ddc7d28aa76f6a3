//! The authenticated tree over the state.

use std::collections::HashMap;

use deepmarket_types::{Hash, encode};
use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, Version,
    storage::{LeafNode, Node, NodeKey, TreeReader, TreeUpdateBatch},
};
use rocksdb::WriteBatch;

use crate::{Store, StoreError, Writes, keys::column};

/// Blake3 for the tree.
struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Blake3(blake3::Hasher::new())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// The tree's nodes on disk. The values themselves are in the state column: the tree asks for nodes only.
struct Nodes<'a>(&'a Store);

impl TreeReader for Nodes<'_> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let bytes = self.0.db.get_pinned_cf(self.0.column(column::TREE), encode(key))?;
        bytes.map(|bytes| Ok(borsh::from_slice(&bytes)?)).transpose()
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        anyhow::bail!("the tree keeps no values")
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is never restored from parts")
    }
}

/// A tree of no nodes, to build one from nothing.
struct NoNodes;

impl TreeReader for NoNodes {
    fn get_node_option(&self, _: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(None)
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(*blake3::hash(key).as_bytes())
}

/// A new version of the tree, not yet written.
pub struct Update {
    /// The new root.
    pub root: Hash,
    /// The version after which the next update follows.
    pub next_version: u64,
    batch: TreeUpdateBatch,
}

/// Computes the tree after some entries changed. `version` counts the updates so far, `root` is the newest root.
pub fn update(store: &Store, version: u64, root: Hash, writes: &Writes) -> Result<Update, StoreError> {
    let unchanged = Update { root, next_version: version, batch: TreeUpdateBatch::default() };
    if writes.is_empty() && version > 0 {
        return Ok(unchanged);
    }
    let nodes = Nodes(store);
    let entries = writes.iter().map(|(key, value)| (key_hash(key), value.clone()));
    let (new_root, batch) = JellyfishMerkleTree::<_, Blake3>::new(&nodes)
        .put_value_set(entries, version)
        .map_err(|e| StoreError::Corrupt(format!("the state tree: {e:#}")))?;
    // Where nothing changed (only absent entries were removed) the tree may make no new root node: the next update then
    // follows on the old one.
    if version > 0 && new_root.0 == root.0 {
        return Ok(unchanged);
    }
    Ok(Update { root: Hash(new_root.0), next_version: version + 1, batch })
}

/// Writes the new nodes and removes those that the new version no longer reaches. Plain deletes: range tombstones per block
/// slow RocksDB down.
pub fn put(store: &Store, batch: &mut WriteBatch, update: &Update) {
    let tree = store.column(column::TREE);
    for stale in &update.batch.stale_node_index_batch {
        batch.delete_cf(tree, encode(&stale.node_key));
    }
    for (key, node) in update.batch.node_batch.nodes() {
        batch.put_cf(tree, encode(key), encode(node));
    }
}

/// The root over some entries, computed from nothing. No key may come twice.
pub fn state_root_of<'a>(entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Hash {
    // Later writes of one key win in the tree; the map only makes the order of insertion immaterial to memory.
    let entries: HashMap<KeyHash, &[u8]> = entries.into_iter().map(|(key, value)| (key_hash(key), value)).collect();
    let entries = entries.into_iter().map(|(key, value)| (key, Some(value.to_vec())));
    let result = JellyfishMerkleTree::<_, Blake3>::new(&NoNodes).put_value_set(entries, 0);
    let (RootHash(root), _) = result.expect("a tree in memory has all its nodes");
    Hash(root)
}
