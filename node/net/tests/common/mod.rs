//! Nodes on loopback in one process.

#![allow(dead_code, missing_docs)]

use deepmarket_net::{Group, GroupSpec, Net, NetConfig, PeerAddress};
use deepmarket_types::{ChainId, Hash, JobId, SecretKey};
use futures::future::join_all;
use tempfile::TempDir;

pub struct TestNode {
    pub net: Net,
    pub folder: TempDir,
}

pub fn chain() -> ChainId {
    Hash::of(b"test chain")
}

pub async fn node(seed: u8) -> TestNode {
    node_of_chain(seed, chain()).await
}

pub async fn node_of_chain(seed: u8, chain: ChainId) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let config = NetConfig { key: SecretKey::from_seed([seed; 32]), listen: vec![], blobs, chain };
    TestNode { net: Net::start(config).await.unwrap(), folder }
}

impl TestNode {
    pub fn address(&self) -> PeerAddress {
        PeerAddress { peer_id: self.net.peer_id(), addresses: self.net.addresses() }
    }
}

pub async fn nodes(first_seed: u8, world: u32) -> (Vec<TestNode>, Vec<PeerAddress>) {
    let nodes = join_all((0..world).map(|position| node(first_seed + position as u8))).await;
    let peers = nodes.iter().map(TestNode::address).collect();
    (nodes, peers)
}

pub fn group(name: &str, position: u32, peers: &[PeerAddress]) -> GroupSpec {
    GroupSpec::new(JobId(1), Hash::of(name.as_bytes()), position, peers.to_vec())
}

pub async fn joined(name: &str, nodes: &[TestNode], peers: &[PeerAddress]) -> Vec<Group> {
    let joins = nodes.iter().enumerate().map(|(position, node)| node.net.join(group(name, position as u32, peers)));
    join_all(joins).await.into_iter().map(Result::unwrap).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Pseudo-random bytes from a seed: no two tests share content by chance.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn noise_floats(seed: u64, length: usize) -> Vec<f32> {
    let integers = noise(seed, length * 4);
    integers.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32 / 1e9).collect()
}
