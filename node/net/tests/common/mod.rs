//! Nodes on loopback in one process.

#![allow(dead_code, missing_docs)]

use deepmarket_net::{GroupSpec, Net, NetConfig, PeerAddress};
use deepmarket_types::{ChainId, Hash, JobId, SecretKey};
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

pub fn group(name: &str, rank: u32, peers: &[PeerAddress]) -> GroupSpec {
    GroupSpec::new(JobId(1), Hash::of(name.as_bytes()), rank, peers.to_vec())
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
