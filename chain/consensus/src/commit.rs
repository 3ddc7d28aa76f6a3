use std::sync::Arc;

use deepmarket_store::{Certificate, Decided};
use deepmarket_types::{Block, Event, Hash, TransactionResult};

use crate::{ConsensusError, candidate::Candidate, shared::Shared};

/// A block that is committed here, with what it did.
#[derive(Clone, Debug)]
pub struct CommittedBlock {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub hash: Hash,
    /// What became of each transaction, in order.
    pub results: Vec<TransactionResult>,
    /// What changed, in words.
    pub events: Vec<Event>,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The round that decided it.
    pub round: u32,
}

/// Applies a decided block and stores it with all that follows from it; only then anybody sees it. Readers of the ledger wait
/// meanwhile, so that they never see what the disk doesn't have.
///
/// # Panics
/// Where the ledger's invariants break: see `Ledger::apply`.
pub fn commit(shared: &Shared, candidate: Candidate, certificate: Certificate) -> Result<Arc<CommittedBlock>, ConsensusError> {
    let mut ledger = shared.ledger.write().expect("a ledger whose invariants broke is never written again");
    let hash = candidate.hash();
    let applied = ledger.apply(&candidate.block().header, candidate.transactions());
    let (day, _) = ledger.params().slots.slot_at(ledger.time());
    let decided = Decided {
        block: candidate.into_block(),
        block_hash: hash,
        certificate: certificate.bytes,
        round: certificate.round,
        signers: certificate.signers,
        results: applied.results,
        events: applied.events,
        writes: applied.writes,
        day,
    };
    let state_root = shared.store.commit(&decided)?;
    shared.mempool.committed(decided.results.iter().map(|result| &result.id), &ledger);
    drop(ledger);

    let Decided { block, results, events, round, .. } = decided;
    let committed = Arc::new(CommittedBlock { block, hash, results, events, state_root, round });
    let _ = shared.committed.send(committed.clone());
    Ok(committed)
}
