//! Checks a chain from its genesis document alone. Nobody is believed: neither the gateway that gives the blocks nor any single
//! validator.
//!
//! ```text
//!  genesis ─▶ the first state ─┐
//!  block ──────────────────────┼─▶ a quorum signed its hash ─▶ validate (parent, state root, every signature) ─▶ apply ─▶ events
//!  certificate ────────────────┘                                                                              └─▶ next state
//! ```
//!
//! Each block names the root of the state before it, so that a block which is followed by another one also says what it did: a
//! quorum of validators and this replay agree on every balance, receipt and audit.

use deepmarket_engine::wire::{CommitForm, VoteForm};
use deepmarket_genesis::{Genesis, GenesisError};
use deepmarket_ledger::Ledger;
use deepmarket_store::{MemoryTree, StoreError};
use deepmarket_types::{
    Block, Domain, Event, FormError, Hash, Header, Height, PublicKey, Transaction, TransactionResult, decode, encode,
};

use crate::validate::{InvalidBlock, Parent, validate};

/// Why a chain is no chain.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The genesis document isn't complete.
    #[error("the genesis document: {0}")]
    Genesis(#[from] GenesisError),
    /// Bytes that are no block or no certificate.
    #[error("block {height} can't be read: {error}")]
    Form {
        /// Where.
        height: Height,
        /// What is wrong.
        error: FormError,
    },
    /// The certificate isn't one of this block.
    #[error("block {height} was not decided: {why}")]
    Undecided {
        /// Where.
        height: Height,
        /// What is wrong.
        why: String,
    },
    /// The block can't follow on the one before.
    #[error("block {height} can't be right: {error}")]
    Invalid {
        /// Where.
        height: Height,
        /// What is wrong.
        error: InvalidBlock,
    },
    /// A bug of this program.
    #[error("the state can't be kept: {0}")]
    Tree(#[from] StoreError),
}

/// A chain that is checked block by block.
pub struct Replay {
    ledger: Ledger,
    tree: MemoryTree,
}

/// A block that was checked, and what it did.
pub struct Replayed {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub hash: Hash,
    /// What became of each transaction, in order.
    pub results: Vec<TransactionResult>,
    /// What it changed.
    pub events: Vec<Event>,
    /// Validators that signed for it.
    pub signers: usize,
}

impl Replay {
    /// Begins with the state of height 0.
    pub fn new(genesis: &Genesis) -> Result<Replay, ReplayError> {
        genesis.check()?;
        let (ledger, writes) = Ledger::genesis(&genesis.ledger_state());
        let mut tree = MemoryTree::default();
        tree.put(&writes)?;
        Ok(Replay { ledger, tree })
    }

    /// The state after the last block.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The root of the state after the last block.
    pub fn state_root(&self) -> Hash {
        self.tree.root()
    }

    /// Checks and applies the next block: canonical bytes of it and of its commit certificate.
    pub fn next(&mut self, block: &[u8], certificate: &[u8]) -> Result<Replayed, ReplayError> {
        let height = self.ledger.height().next();
        let form = |error| ReplayError::Form { height, error };
        // Before any of its transactions is looked at: only what a quorum decided is worth that.
        let Block { header, .. } = decode(block).map_err(form)?;
        let signers = self.check_certificate(&header, certificate)?;
        let parent = Parent { ledger: &self.ledger, state_root: self.tree.root(), clock: None };
        let candidate = validate(block, &parent, |_| None).map_err(|error| ReplayError::Invalid { height, error })?;
        let applied = self.ledger.apply(&candidate.block().header, candidate.transactions());
        self.tree.put(&applied.writes)?;
        let hash = candidate.hash();
        Ok(Replayed { block: candidate.into_block(), hash, results: applied.results, events: applied.events, signers })
    }

    /// More than two thirds of the validators signed for this block; gives their number.
    fn check_certificate(&self, header: &Header, certificate: &[u8]) -> Result<usize, ReplayError> {
        let height = self.ledger.height().next();
        let undecided = |why: String| ReplayError::Undecided { height, why };
        let (of_height, round, hash, signatures): CommitForm =
            decode(certificate).map_err(|error| ReplayError::Form { height, error })?;
        if of_height != height.0 || hash != header.hash() {
            return Err(undecided(format!("its certificate is of block {of_height} with the hash {hash}")));
        }
        let validators = self.ledger.validators();
        let mut signers: Vec<PublicKey> = Vec::new();
        for (key, signature) in signatures {
            if !validators.contains(&key) || signers.contains(&key) {
                return Err(undecided(format!("{key} is no validator, or signs twice")));
            }
            let vote: VoteForm = (true, of_height, round, Some(hash), key);
            key.verify(Domain::Vote, &self.ledger.chain(), &encode(&vote), &signature)
                .map_err(|error| undecided(format!("the signature of {key}: {error}")))?;
            signers.push(key);
        }
        match 3 * signers.len() > 2 * validators.len() {
            true => Ok(signers.len()),
            false => Err(undecided(format!("{} of {} validators signed", signers.len(), validators.len()))),
        }
    }
}

impl Replayed {
    /// Its transactions that were accepted.
    pub fn accepted(&self) -> impl Iterator<Item = &Transaction> {
        self.block
            .transactions
            .iter()
            .zip(&self.results)
            .filter(|(_, result)| result.code == 0)
            .map(|(transaction, _)| transaction)
    }
}
