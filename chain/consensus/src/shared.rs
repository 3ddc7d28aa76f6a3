use std::sync::{
    Arc, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

use deepmarket_engine::Validators;
use deepmarket_genesis::Genesis;
use deepmarket_ledger::{Ledger, Rejection};
use deepmarket_store::Store;
use deepmarket_types::{Hash, SecretKey, Transaction};
use tokio::sync::{Notify, broadcast};

use crate::{CommittedBlock, SubmitError, mempool::Mempool};

/// Decided blocks that a slow subscriber may lag behind.
const COMMITTED_BACKLOG: usize = 256;
/// Accepted transactions that a slow subscriber may lag behind.
const ACCEPTED_BACKLOG: usize = 4_096;

/// What the host's thread and the node's handles share.
pub struct Shared {
    pub genesis: Genesis,
    pub key: SecretKey,
    pub validators: Validators,
    pub store: Arc<Store>,
    pub ledger: Arc<RwLock<Ledger>>,
    pub mempool: Mempool,
    pub committed: broadcast::Sender<Arc<CommittedBlock>>,
    pub accepted: broadcast::Sender<Arc<Vec<u8>>>,
    /// Wakes the host: a transaction came.
    pub work: Notify,
    pub stopping: AtomicBool,
}

impl Shared {
    pub fn new(genesis: Genesis, key: SecretKey, store: Arc<Store>, ledger: Ledger, mempool: Mempool) -> Self {
        let validators = Validators::new(genesis.validators.iter().map(|validator| validator.key));
        Shared {
            genesis,
            key,
            validators,
            store,
            ledger: Arc::new(RwLock::new(ledger)),
            mempool,
            committed: broadcast::channel(COMMITTED_BACKLOG).0,
            accepted: broadcast::channel(ACCEPTED_BACKLOG).0,
            work: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The ledger after the last block.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().expect("a ledger whose invariants broke is never read again")
    }

    /// Takes a transaction; see [`crate::Node::submit`].
    pub fn submit(&self, bytes: &[u8], announce: bool) -> Result<Hash, SubmitError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(SubmitError::Stopping);
        }
        let id = Hash::of(bytes);
        if self.mempool.contains(&id) || self.is_decided(&id)? {
            return Ok(id);
        }
        let chain = self.read().chain();
        let transaction = Transaction::verify_bytes(bytes, &chain)?;
        {
            // Inserting under the ledger's lock: a block that decides the same transaction is either seen by the precheck or
            // removes it from the mempool afterwards.
            let ledger = self.read();
            if let Err(rejection) = ledger.precheck(&transaction) {
                drop(ledger);
                // It may have been decided since the first look.
                return if self.is_decided(&id)? { Ok(id) } else { Err(rejection.into()) };
            }
            if !self.mempool.insert(transaction)? {
                return Ok(id);
            }
        }
        self.work.notify_one();
        if announce {
            // Nobody listening is fine: a market of one validator forwards to nobody.
            let _ = self.accepted.send(Arc::new(bytes.to_vec()));
        }
        Ok(id)
    }

    /// Was the transaction decided, and not rejected only because its turn had not come?
    fn is_decided(&self, id: &Hash) -> Result<bool, SubmitError> {
        let found = self.store.transaction(id).map_err(|e| SubmitError::Unavailable(e.to_string()))?;
        Ok(found.is_some_and(|(_, _, _, result)| !Rejection::retryable(result.code)))
    }
}
