use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, RwLock, atomic::Ordering},
};

use deepmarket_engine::{EngineConfig, EnginePeer};
use deepmarket_genesis::Genesis;
use deepmarket_ledger::Ledger;
use deepmarket_store::Store;
use deepmarket_types::{Hash, Height, SecretKey, TimeMs};
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{error, info};

use crate::{CommittedBlock, ConsensusError, MempoolLimits, SubmitError, Tamper, host::Host, mempool::Mempool, shared::Shared};

/// What a validator needs to run.
#[derive(Clone, Debug)]
pub struct ValidatorConfig {
    /// Its name, for logs and metrics.
    pub name: String,
    /// Its folder: database and the engine's log. One process at a time uses it.
    pub home: PathBuf,
    /// The genesis document, complete.
    pub genesis: Genesis,
    /// Its key: one of the genesis document's validators.
    pub key: SecretKey,
    /// Where it listens for the other validators: a multiaddress such as `/ip4/0.0.0.0/tcp/27000`.
    pub consensus_listen: String,
}

/// How a validator stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The last committed block's height; 0 before the first.
    pub height: Height,
    /// Its time.
    pub time: TimeMs,
    /// Its hash; at height 0 the chain id.
    pub block: Hash,
    /// The root of the state after it.
    pub state_root: Hash,
    /// Transactions that wait.
    pub mempool: usize,
    /// Number of validators.
    pub validators: usize,
}

/// A running validator. Clones share it; [`Node::stop`] ends it.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    stop: Arc<watch::Sender<bool>>,
    ended: watch::Receiver<Option<Result<(), ConsensusError>>>,
}

impl Node {
    /// Takes the canonical bytes of a transaction into the mempool and gives its id. Cheap, from any thread, never waits. One
    /// that waits or was decided already is known, not an error. Whether it succeeds is decided by a block:
    /// [`Store::transaction`](deepmarket_store::Store::transaction), [`Node::subscribe`].
    pub fn submit(&self, bytes: &[u8]) -> Result<Hash, SubmitError> {
        self.shared.submit(bytes, true)
    }

    /// Like [`Node::submit`], for a transaction that another validator forwarded: it isn't told by [`Node::accepted`], so that
    /// it doesn't go around in circles.
    pub fn submit_forwarded(&self, bytes: &[u8]) -> Result<Hash, SubmitError> {
        self.shared.submit(bytes, false)
    }

    /// Does this transaction wait in the mempool?
    pub fn is_waiting(&self, id: &Hash) -> bool {
        self.shared.mempool.contains(id)
    }

    /// The ledger after the last committed block. Hold the lock for reading only, and briefly: a commit waits for it.
    pub fn ledger(&self) -> Arc<RwLock<Ledger>> {
        self.shared.ledger.clone()
    }

    /// Blocks, transactions and histories.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// The genesis document.
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// Blocks as they are committed here, from now on. A receiver that lags more than 256 behind misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<CommittedBlock>> {
        self.shared.committed.subscribe()
    }

    /// The bytes of transactions as [`Node::submit`] takes them, to be forwarded to the other validators.
    pub fn accepted(&self) -> broadcast::Receiver<Arc<Vec<u8>>> {
        self.shared.accepted.subscribe()
    }

    /// How it stands.
    pub fn status(&self) -> NodeStatus {
        let tip = self.shared.store.tip().expect("a started node has at least genesis");
        NodeStatus {
            height: tip.height,
            time: tip.time,
            block: tip.block,
            state_root: tip.state_root,
            mempool: self.shared.mempool.len(),
            validators: self.shared.genesis.validators.len(),
        }
    }

    /// Stops it and waits until engine and host have ended. The database is closed with the last clone of this.
    pub async fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        let _ = self.ended().await;
    }

    /// Waits until the node has ended: `Ok` after [`Node::stop`], else why it couldn't go on. A program should end then.
    pub async fn ended(&self) -> Result<(), ConsensusError> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("just waited for"),
            Err(_) => Err(ConsensusError::Panicked("its supervisor is gone".into())),
        }
    }
}

/// Starts a validator: opens its database, checks the state against the last block's root, starts the engine and goes on from
/// there. Must be called within a tokio runtime.
pub async fn start(config: ValidatorConfig) -> Result<Node, ConsensusError> {
    start_with_tamper(config, None).await
}

/// Like [`start`], with a validator that changes the blocks that it proposes. For tests of the others.
#[doc(hidden)]
pub async fn start_with_tamper(config: ValidatorConfig, tamper: Option<Tamper>) -> Result<Node, ConsensusError> {
    let ValidatorConfig { name, home, genesis, key, consensus_listen } = config;
    genesis.check().map_err(|e| ConsensusError::Genesis(e.to_string()))?;
    if genesis.validator(&key.public()).is_none() {
        return Err(ConsensusError::NotAValidator(key.public()));
    }
    let chain = genesis.chain_id();
    let (store, ledger) = open(&home, &genesis)?;
    let peers = genesis.validators.iter().filter(|validator| validator.key != key.public());
    let peers = peers.map(|peer| EnginePeer { key: peer.key, address: peer.consensus.clone() }).collect();
    let engine = EngineConfig {
        name: name.clone(),
        chain,
        key: key.clone(),
        listen: consensus_listen,
        peers,
        wal: home.join("wal").join("consensus.wal"),
    };
    let shared = Arc::new(Shared::new(genesis, key, store, ledger, Mempool::new(MempoolLimits::default())));
    let (channels, engine) = deepmarket_engine::start(engine).await?;
    info!(validator = %name, %chain, height = %shared.read().height(), "validator started");

    let (stop, stopped) = watch::channel(false);
    let (done, host_ended) = oneshot::channel();
    let host = Host::new(shared.clone(), channels.network.clone(), tamper);
    // A thread of its own: checking, applying and syncing to disk would block an async worker.
    let spawned = std::thread::Builder::new().name("consensus".into()).spawn(move || {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.map_err(|e| ConsensusError::Panicked(format!("no runtime: {e}")))?;
            runtime.block_on(host.run(channels, stopped))
        };
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(ConsensusError::Panicked(text_of(&*panic))));
        let _ = done.send(result);
    });
    let (tell, ended) = watch::channel(None);
    tokio::spawn(async move {
        let lost = || Err(ConsensusError::Panicked("its thread is gone".into()));
        let result = match spawned {
            Ok(_) => host_ended.await.unwrap_or_else(|_| lost()),
            Err(e) => Err(ConsensusError::Panicked(format!("no thread for it: {e}"))),
        };
        if let Err(reason) = &result {
            error!(validator = %name, "THE VALIDATOR STOPS: {reason}");
        }
        engine.stop().await;
        let _ = tell.send(Some(result));
    });
    Ok(Node { shared, stop: Arc::new(stop), ended })
}

fn open(home: &std::path::Path, genesis: &Genesis) -> Result<(Arc<Store>, Ledger), ConsensusError> {
    for folder in [home.join("db"), home.join("wal")] {
        let failed = |e: std::io::Error| ConsensusError::Home { path: folder.display().to_string(), reason: e.to_string() };
        fs::create_dir_all(&folder).map_err(failed)?;
    }
    let store = Store::open(home.join("db"))?;
    let (_, writes) = Ledger::genesis(&genesis.ledger_state());
    store.init(genesis.chain_id(), genesis.time, &writes)?;
    let loaded = store.load()?.ok_or_else(|| ConsensusError::Store("the database lost its first state".into()))?;
    let ledger = Ledger::from_entries(loaded.entries)?;
    if (ledger.height(), ledger.tip()) != (loaded.tip.height, loaded.tip.block) {
        let (height, tip) = (ledger.height(), loaded.tip.height);
        return Err(ConsensusError::Store(format!("the stored state is of block {height}, but the last block is {tip}")));
    }
    Ok((Arc::new(store), ledger))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".into())
}
