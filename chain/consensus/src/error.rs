use deepmarket_engine::EngineError;
use deepmarket_ledger::{LedgerCorrupt, Rejection};
use deepmarket_store::StoreError;
use deepmarket_types::{FormError, Hash, Height, PublicKey};

/// Why a transaction wasn't taken. Codes 4xxx, or those of the form (1xxx) or of the ledger (2xxx).
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Bytes that are no well-formed, well-signed transaction of this chain.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The ledger would reject it.
    #[error(transparent)]
    Ledger(#[from] Rejection),
    /// Too many transactions wait.
    #[error("{waiting} transactions with {bytes} bytes are waiting; no more are taken")]
    Full {
        /// How many wait.
        waiting: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// Too many transactions of this signer wait.
    #[error("{waiting} transactions of this signer are waiting; no more are taken")]
    SignerFull {
        /// How many wait.
        waiting: usize,
    },
    /// Another transaction with this signer and nonce waits.
    #[error("another transaction of this signer with number {nonce} is waiting: {other}")]
    NonceTaken {
        /// The nonce.
        nonce: u64,
        /// The one that waits.
        other: Hash,
    },
    /// The database failed.
    #[error("the node can't look the transaction up: {0}")]
    Unavailable(String),
    /// The node stops.
    #[error("this validator is stopping")]
    Stopping,
}

impl SubmitError {
    /// The stable code that REST and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            SubmitError::Form(error) => error.code(),
            SubmitError::Ledger(rejection) => rejection.code(),
            SubmitError::Full { .. } => 4001,
            SubmitError::SignerFull { .. } => 4002,
            SubmitError::NonceTaken { .. } => 4003,
            SubmitError::Unavailable(_) => 4004,
            SubmitError::Stopping => 4005,
        }
    }

    /// A stable short name.
    pub fn name(&self) -> &'static str {
        match self {
            SubmitError::Form(_) => "malformed_transaction",
            SubmitError::Ledger(rejection) => rejection.name(),
            SubmitError::Full { .. } => "mempool_full",
            SubmitError::SignerFull { .. } => "signer_queue_full",
            SubmitError::NonceTaken { .. } => "nonce_taken",
            SubmitError::Unavailable(_) => "store_unavailable",
            SubmitError::Stopping => "stopping",
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            SubmitError::Form(_) => "sign the transaction for this chain with this release",
            SubmitError::Ledger(rejection) => rejection.hint(),
            SubmitError::Full { .. } => "send it again in a few seconds",
            SubmitError::SignerFull { .. } => "wait until some of them are decided",
            SubmitError::NonceTaken { .. } => "wait for that one, or use the next number",
            SubmitError::Unavailable(_) => "try another gateway; its operator should look at this node's log",
            SubmitError::Stopping => "try another gateway",
        }
    }

    /// May the very same transaction be taken later?
    pub fn retryable(&self) -> bool {
        match self {
            SubmitError::Form(_) | SubmitError::NonceTaken { .. } => false,
            SubmitError::Ledger(rejection) => rejection.is_retryable(),
            SubmitError::Full { .. } | SubmitError::SignerFull { .. } | SubmitError::Unavailable(_) | SubmitError::Stopping => {
                true
            }
        }
    }
}

/// Why a node doesn't start, or ended. All are the operator's to solve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The key isn't one of the genesis document's validators.
    #[error("the key {0} is no validator of this chain; use the key that the genesis document names")]
    NotAValidator(PublicKey),
    /// The genesis document can't be used.
    #[error("the genesis document can't be used: {0}")]
    Genesis(String),
    /// A folder can't be made.
    #[error("the folder {path} can't be used: {reason}")]
    Home {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The database failed.
    #[error("{0}")]
    Store(String),
    /// The stored state can't be read.
    #[error("{0}")]
    Ledger(String),
    /// The engine failed.
    #[error("{0}")]
    Engine(String),
    /// A block was decided whose body this node doesn't have.
    #[error("block {hash} of height {height} was decided, but its body is missing; restart the node: it will fetch it")]
    MissingBody {
        /// The height.
        height: Height,
        /// The block.
        hash: Hash,
    },
    /// A block was decided that this node finds wrong: too many validators are faulty, or this one is.
    #[error(
        "block {hash} of height {height} was decided, but is wrong: {reason}; compare this node's release and state with others'"
    )]
    DecidedInvalid {
        /// The height.
        height: Height,
        /// The block.
        hash: Hash,
        /// What is wrong.
        reason: String,
    },
    /// The host's thread ended unexpectedly: a broken invariant.
    #[error("the validator stopped itself: {0}")]
    Panicked(String),
}

impl From<StoreError> for ConsensusError {
    fn from(error: StoreError) -> Self {
        ConsensusError::Store(error.to_string())
    }
}

impl From<EngineError> for ConsensusError {
    fn from(error: EngineError) -> Self {
        ConsensusError::Engine(error.to_string())
    }
}

impl From<LedgerCorrupt> for ConsensusError {
    fn from(error: LedgerCorrupt) -> Self {
        ConsensusError::Ledger(error.to_string())
    }
}
