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
    let (new_root, batch) = put_entries(&Nodes(store), version, writes)?;
    // Where nothing changed (only absent entries were removed) the tree may make no new root node: the next update then
    // follows on the old one.
    if version > 0 && new_root.0 == root.0 {
        return Ok(unchanged);
    }
    Ok(Update { root: Hash(new_root.0), next_version: version + 1, batch })
}

fn put_entries(nodes: &impl TreeReader, version: u64, writes: &Writes) -> Result<(RootHash, TreeUpdateBatch), StoreError> {
    let entries = writes.iter().map(|(key, value)| (key_hash(key), value.clone()));
    let put = JellyfishMerkleTree::<_, Blake3>::new(nodes).put_value_set(entries, version);
    put.map_err(|e| StoreError::Corrupt(format!("the state tree: {e:#}")))
}

/// The tree over a state that nobody stores: for who follows a chain only to check it.
#[derive(Default)]
pub struct MemoryTree {
    nodes: KeptNodes,
    version: u64,
    root: Hash,
}

#[derive(Default)]
struct KeptNodes(HashMap<NodeKey, Node>);

impl TreeReader for KeptNodes {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.0.get(key).cloned())
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        anyhow::bail!("the tree keeps no values")
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is never restored from parts")
    }
}

impl MemoryTree {
    /// The root after the last change.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Takes over changed entries; gives the new root.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the tree contradicts itself, which is a bug.
    pub fn put(&mut self, writes: &Writes) -> Result<Hash, StoreError> {
        if writes.is_empty() && self.version > 0 {
            return Ok(self.root);
        }
        let (root, batch) = put_entries(&self.nodes, self.version, writes)?;
        // As on disk: where nothing changed there may be no new root node, and the next change follows on the old one.
        if self.version > 0 && root.0 == self.root.0 {
            return Ok(self.root);
        }
        for stale in &batch.stale_node_index_batch {
            self.nodes.0.remove(&stale.node_key);
        }
        self.nodes.0.extend(batch.node_batch.nodes().iter().map(|(key, node)| (key.clone(), node.clone())));
        (self.root, self.version) = (Hash(root.0), self.version + 1);
        Ok(self.root)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_in_memory_has_the_root_of_its_entries_after_every_change() {
        let (mut tree, mut entries) = (MemoryTree::default(), Writes::new());
        for step in 0..60_u8 {
            let key = |n: u8| vec![n % 17];
            let mut writes = Writes::from([(key(step), Some(vec![step; 3])), (key(step / 2), Some(vec![step]))]);
            if step % 3 == 0 {
                writes.insert(key(step + 5), None);
            }
            entries.extend(writes.clone());
            let left = entries.iter().filter_map(|(key, value)| Some((key.as_slice(), value.as_deref()?)));
            assert_eq!(tree.put(&writes).unwrap(), state_root_of(left), "step {step}");
        }
        let root = tree.root();
        assert_eq!(tree.put(&Writes::from([(vec![200], None)])).unwrap(), root, "an absent entry that is removed");
        assert_eq!(tree.put(&Writes::new()).unwrap(), root);
        assert!(tree.nodes.0.len() < 60, "stale nodes are dropped");
    }
}
