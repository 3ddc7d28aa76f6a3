use std::{path::PathBuf, time::Duration};

use deepmarket_types::{ChainId, PublicKey, SecretKey};
use malachite_app::{
    ConsensusContext, EngineBuilder, EngineHandle, NetworkContext, NetworkIdentity, RequestContext, SyncContext, WalContext,
    app::{config::NodeConfig, net::Multiaddr, types::Keypair},
};
use malachite_codec::Codec as _;
use malachite_config::{ConsensusConfig, DiscoveryConfig, P2pConfig, ValuePayload, ValueSyncConfig};
use malachite_signing::Signer as _;

use crate::{Address, Market, VoteSigner, VoteVerifier, host::Channels, wire::MarketCodec};

/// Another validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePeer {
    /// Its key, which is its libp2p identity too.
    pub key: PublicKey,
    /// Where it listens: a multiaddress such as `/ip4/127.0.0.1/tcp/7000`, with or without `/p2p/…`.
    pub address: String,
}

/// What the engine needs to run.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// A name for logs and metrics.
    pub name: String,
    /// The chain.
    pub chain: ChainId,
    /// The validator's key.
    pub key: SecretKey,
    /// Where to listen: a multiaddress.
    pub listen: String,
    /// The other validators. Nobody else is talked to.
    pub peers: Vec<EnginePeer>,
    /// The write-ahead log's file. It must survive crashes: without it a validator could vote twice.
    pub wal: PathBuf,
}

/// Why the engine didn't start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An address that can't be one.
    #[error("'{address}' is not a multiaddress ({reason}); write it like /ip4/127.0.0.1/tcp/7000")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine refused.
    #[error("the consensus engine did not start: {0}")]
    Start(String),
}

/// A running engine. Dropping it doesn't stop it; [`Engine::stop`] does.
pub struct Engine {
    handle: EngineHandle,
}

impl Engine {
    /// Ends the engine: its connections, its log, its tasks.
    pub async fn stop(self) {
        let cell = self.handle.actor.get_cell();
        let patience = Some(Duration::from_secs(5));
        cell.stop_children_and_wait(Some("the node stops".into()), patience).await;
        let _ = self.handle.actor.stop_and_wait(Some("the node stops".into()), patience).await;
    }

    /// Has the engine ended by itself?
    pub fn ended(&self) -> bool {
        self.handle.handle.is_finished()
    }
}

struct Config {
    moniker: String,
    consensus: ConsensusConfig,
    value_sync: ValueSyncConfig,
}

impl NodeConfig for Config {
    fn moniker(&self) -> &str {
        &self.moniker
    }

    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.value_sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.value_sync
    }
}

/// The libp2p peer id of an ed25519 key: the identity multihash of the key's protobuf form (libp2p peer ids, section
/// "Keys").
fn peer_id_bytes(key: &PublicKey) -> Vec<u8> {
    let mut bytes = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    bytes.extend_from_slice(&key.0);
    bytes
}

fn multiaddr(address: &str) -> Result<Multiaddr, EngineError> {
    let error = |reason: String| EngineError::Address { address: address.chars().take(200).collect(), reason };
    let parsed: Multiaddr = address.parse().map_err(|e| error(format!("{e}")))?;
    if !address.contains("/tcp/") {
        return Err(error("it names no TCP port".into()));
    }
    Ok(parsed)
}

fn peer_multiaddr(peer: &EnginePeer) -> Result<Multiaddr, EngineError> {
    let bare = peer.address.split("/p2p/").next().unwrap_or_default();
    let id = malachite_sync::PeerId::from_bytes(&peer_id_bytes(&peer.key)).expect("a multihash of fixed form");
    multiaddr(&format!("{bare}/p2p/{id}"))
}

fn config(given: &EngineConfig) -> Result<Config, EngineError> {
    let persistent_peers = given.peers.iter().map(peer_multiaddr).collect::<Result<_, _>>()?;
    let p2p = P2pConfig {
        listen_addr: multiaddr(&given.listen)?,
        persistent_peers,
        persistent_peers_only: true,
        // All validators of a local market share one address: the limit by address would cut them off.
        discovery: DiscoveryConfig { enabled: false, max_connections_per_ip: 512, ..DiscoveryConfig::default() },
        ..P2pConfig::default()
    };
    let consensus = ConsensusConfig { p2p, value_payload: ValuePayload::ProposalAndParts, ..ConsensusConfig::default() };
    let value_sync = ValueSyncConfig {
        // How soon a validator that came back learns what it missed.
        status_update_interval: Duration::from_secs(1),
        request_timeout: Duration::from_secs(5),
        batch_size: 8,
        ..ValueSyncConfig::default()
    };
    Ok(Config { moniker: given.name.clone(), consensus, value_sync })
}

/// Starts the engine. It asks through `Channels::consensus`; the first question is where to begin.
pub async fn start(given: EngineConfig) -> Result<(Channels, Engine), EngineError> {
    let failed = |e: &dyn std::fmt::Display| EngineError::Start(e.to_string());
    let config = config(&given)?;
    let signer = VoteSigner { chain: given.chain, key: given.key.clone() };
    let key = given.key.public();
    let address = Address(key);
    let keypair = Keypair::ed25519_from_bytes(given.key.seed()).map_err(|e| failed(&e))?;
    let proof = signer.sign_validator_proof(key.0.to_vec(), peer_id_bytes(&key)).await.map_err(|e| failed(&e))?;
    let proof = MarketCodec.encode(&proof).map_err(|e| failed(&e))?;
    let identity = NetworkIdentity::new_validator(given.name, keypair, address.to_string(), proof);
    let verifier = VoteVerifier { chain: given.chain };

    let (channels, handle) = EngineBuilder::new(Market, config)
        .with_default_wal(WalContext::new(given.wal, MarketCodec))
        .with_default_network(NetworkContext::new(identity, MarketCodec))
        .with_default_sync(SyncContext::new(MarketCodec))
        .with_default_consensus(ConsensusContext::new_validator(address, Box::new(verifier), Box::new(signer)))
        .with_default_request(RequestContext::new(16))
        .build()
        .await
        .map_err(|e| EngineError::Start(format!("{e:#}")))?;
    Ok((channels, Engine { handle }))
}
