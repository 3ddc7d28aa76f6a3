//! What the gateway asks of the validator beside it: the only file that names the node and its store.

use std::{
    sync::{Arc, RwLock, RwLockReadGuard},
    time::Duration,
};

use deepmarket_api::{
    BlockEvent, BlockTransaction, BlockView, DayLine, ErrorBody, HistoryEntry, MAX_CHAIN_BYTES, RawBlock, ReceiptView,
    StatementCause, StatementLine, TransactionStatus,
};
use deepmarket_consensus::{Node, SubmitError};
use deepmarket_ledger::{Ledger, Rejection};
pub(crate) use deepmarket_store::DaySum;
use deepmarket_store::{Cause, CauseSum, DayItem, HistoryEvent, StoreError, StoredBlock};
use deepmarket_types::{AccountId, Action, Event, Hash, Height, JobId, encode};
use tokio::{
    sync::{broadcast, broadcast::error::RecvError, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{error::Refusal, views};

/// Entries of a history that are read at once.
const HISTORY_PAGE: usize = 500;

/// The validator's chain.
pub(crate) struct Chain {
    node: Node,
    ledger: Arc<RwLock<Ledger>>,
    height: watch::Receiver<Height>,
}

impl Chain {
    /// Follows a node's blocks until `stop`.
    pub(crate) fn follow(node: Node, stop: CancellationToken) -> Chain {
        let mut blocks = node.subscribe();
        let ledger = node.ledger();
        let (heights, height) = watch::channel(read(&ledger).height());
        let followed = ledger.clone();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    () = stop.cancelled() => return,
                    next = blocks.recv() => next,
                };
                match next {
                    Ok(_) | Err(RecvError::Lagged(_)) => drop(heights.send_replace(read(&followed).height())),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Chain { node, ledger, height }
    }

    /// Reads the state of the last block. Hold it shortly, never across an await, and never twice: a commit waits for it.
    pub(crate) fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        read(&self.ledger)
    }

    /// The height, and when it changes.
    pub(crate) fn heights(&self) -> watch::Receiver<Height> {
        self.height.clone()
    }

    /// Transactions that wait to be decided.
    pub(crate) fn waiting(&self) -> u64 {
        self.node.status().mempool as u64
    }

    /// The root of the state after the last block. Of the same block as the ledger, while that is held.
    pub(crate) fn state_root(&self) -> Hash {
        self.node.store().state_root().unwrap_or_default()
    }

    /// Gives bytes to the mempool. What is known already is fine. `forwarded`: they came from another gateway.
    pub(crate) fn submit(&self, bytes: &[u8], forwarded: bool) -> Result<Hash, Refusal> {
        let submitted = if forwarded { self.node.submit_forwarded(bytes) } else { self.node.submit(bytes) };
        submitted.map_err(|error| match error {
            SubmitError::Form(error) => Refusal::Form(error),
            error => Refusal::Passed(Box::new(ErrorBody {
                code: error.code(),
                name: error.name().to_owned(),
                message: error.to_string(),
                hint: error.hint().to_owned(),
                retryable: error.retryable(),
            })),
        })
    }

    /// Hears of every transaction that users gave to this validator.
    pub(crate) fn accepted(&self) -> broadcast::Receiver<Arc<Vec<u8>>> {
        self.node.accepted()
    }

    /// What became of a transaction: decided, waiting (no height), or not known.
    pub(crate) fn transaction(&self, id: Hash) -> Result<Option<TransactionStatus>, Refusal> {
        // In this order: a block is stored first and then leaves the mempool, so that one of the two always knows.
        let waits = self.node.is_waiting(&id);
        // A block is on disk a moment before the ledger shows what it did. Who reads after "decided" must see it.
        let height_now = self.ledger().height();
        let stored = self.node.store().transaction(&id).map_err(broken)?;
        Ok(match stored {
            Some((height, index, transaction, result)) if height <= height_now => Some(TransactionStatus {
                id,
                height: Some(height),
                index: Some(index),
                code: Some(result.code),
                message: result.message,
                transaction: Some(transaction),
            }),
            Some(_) => Some(waiting(id)),
            None => waits.then(|| waiting(id)),
        })
    }

    /// Like [`Chain::transaction`], and waits until it is decided in a block after `after`, for `wait` at most.
    pub(crate) async fn decided(&self, id: Hash, after: Height, wait: Duration) -> Result<Option<TransactionStatus>, Refusal> {
        let deadline = Instant::now() + wait;
        let mut heights = self.heights();
        loop {
            heights.mark_unchanged();
            let status = self.transaction(id)?;
            if status.as_ref().is_none_or(|status| status.height.is_some_and(|height| height > after)) {
                return Ok(status);
            }
            if !matches!(timeout_at(deadline, heights.changed()).await, Ok(Ok(()))) {
                return Ok(Some(waiting(id)));
            }
        }
    }

    /// May a transaction that a block rejected with this code succeed in a later one?
    pub(crate) fn may_come_again(code: u16) -> bool {
        Rejection::retryable(code)
    }

    fn stored(&self, height: Height) -> Result<Option<StoredBlock>, Refusal> {
        self.node.store().block(height).map_err(broken)
    }

    /// A block.
    pub(crate) fn block(&self, height: Height) -> Result<Option<BlockView>, Refusal> {
        Ok(self.stored(height)?.map(block_view))
    }

    /// Blocks from a height on with their certificates: one at least where there is one, and as many as fit into
    /// [`MAX_CHAIN_BYTES`].
    pub(crate) fn raw_blocks(&self, from: Height) -> Result<Vec<RawBlock>, Refusal> {
        let newest = self.ledger().height();
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for height in from.0.max(1)..=newest.0 {
            let Some(stored) = self.stored(Height(height))? else { break };
            let raw = RawBlock { block: encode(&stored.block), certificate: stored.certificate.bytes };
            bytes += raw.block.len() + raw.certificate.len();
            if bytes > MAX_CHAIN_BYTES && !blocks.is_empty() {
                break;
            }
            blocks.push(raw);
        }
        Ok(blocks)
    }

    /// A job's receipts before a place (or: the last ones), newest first, at most `limit`.
    pub(crate) fn receipts(&self, id: JobId, before: Option<(Height, u32)>, limit: usize) -> Result<Vec<ReceiptView>, Refusal> {
        let (mut receipts, mut before): (Vec<ReceiptView>, _) = (Vec::new(), before);
        loop {
            let page = self.node.store().job_history(id, before, HISTORY_PAGE).map_err(broken)?;
            let Some(last) = page.last() else { return Ok(receipts) };
            before = Some((last.height, last.index));
            for entry in page {
                receipts.extend(self.receipt(&entry)?);
                if receipts.len() >= limit {
                    return Ok(receipts);
                }
            }
        }
    }

    /// The receipt that a job's event is of, with what its transaction says.
    fn receipt(&self, entry: &HistoryEvent) -> Result<Option<ReceiptView>, Refusal> {
        let (Event::Receipt { lease, machine, sequence, payout, .. }, Some(id)) = (&entry.event, entry.transaction) else {
            return Ok(None);
        };
        let (lease, machine, sequence, payout) = (*lease, *machine, *sequence, *payout);
        let stored = self.node.store().transaction(&id).map_err(broken)?;
        let Some(Action::Receipt(receipt)) = stored.map(|(_, _, transaction, _)| transaction.body.action) else {
            return Err(Refusal::Internal(format!("transaction {id} of a receipt isn't stored")));
        };
        let held = {
            let ledger = self.ledger();
            ledger
                .lease_windows(lease)
                .find(|window| window.sequence == sequence)
                .map(|window| views::audits::held(&ledger, window))
        };
        Ok(Some(ReceiptView {
            height: entry.height,
            index: entry.index,
            time: entry.time,
            transaction: id,
            lease,
            rank: receipt.rank,
            machine,
            sequence,
            rounds: receipt.rounds,
            committed: receipt.committed,
            commitments: receipt.commitments,
            parameters: receipt.parameters,
            samples: receipt.samples,
            payout,
            held,
        }))
    }

    /// What a block changed.
    pub(crate) fn block_event(&self, height: Height) -> Result<Option<BlockEvent>, Refusal> {
        Ok(self.stored(height)?.map(|stored| BlockEvent {
            height,
            time: stored.block.header.time,
            hash: stored.hash,
            transactions: stored.block.transactions.len() as u32,
            events: stored.events,
        }))
    }

    /// An account's history.
    pub(crate) fn account_history(
        &self,
        id: AccountId,
        before: Option<(Height, u32)>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Refusal> {
        Ok(history(self.node.store().account_history(id, before, limit).map_err(broken)?))
    }

    /// A job's history.
    pub(crate) fn job_history(
        &self,
        id: JobId,
        before: Option<(Height, u32)>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Refusal> {
        Ok(history(self.node.store().job_history(id, before, limit).map_err(broken)?))
    }

    /// What an account's machines earned and its jobs cost on each day from a day on, oldest first.
    pub(crate) fn days(&self, id: AccountId, from_day: u64) -> Result<Vec<(u64, DayLine, DaySum)>, Refusal> {
        let line = |item| match item {
            DayItem::Profit(machine) => DayLine::Profit(machine),
            DayItem::Cost(job) => DayLine::Cost(job),
        };
        let days = self.node.store().days(id, from_day).map_err(broken)?;
        Ok(days.into_iter().map(|(day, item, sum)| (day, line(item), sum)).collect())
    }

    /// What caused an account's balance. Of the same block as the ledger, while that is held.
    pub(crate) fn statement(&self, id: AccountId) -> Result<Vec<StatementLine>, Refusal> {
        Ok(self.node.store().statement(id).map_err(broken)?.into_iter().map(statement_line).collect())
    }
}

fn read(ledger: &RwLock<Ledger>) -> RwLockReadGuard<'_, Ledger> {
    ledger.read().expect("a validator that panicked while it applied a block has stopped")
}

fn broken(error: StoreError) -> Refusal {
    Refusal::Internal(error.to_string())
}

fn waiting(id: Hash) -> TransactionStatus {
    TransactionStatus { id, height: None, index: None, code: None, message: String::new(), transaction: None }
}

fn history(events: Vec<HistoryEvent>) -> Vec<HistoryEntry> {
    let entry = |e: HistoryEvent| {
        let HistoryEvent { height, time, index, transaction, event } = e;
        HistoryEntry { height, time, index, transaction, event }
    };
    events.into_iter().map(entry).collect()
}

fn statement_line((cause, sum): (Cause, CauseSum)) -> StatementLine {
    let cause = match cause {
        Cause::StartingCredits => StatementCause::StartingCredits,
        Cause::Account(account) => StatementCause::Account(account),
        Cause::Job(job) => StatementCause::Job(job),
        Cause::Machine(machine) => StatementCause::Machine(machine),
        Cause::Audits => StatementCause::Audits,
    };
    StatementLine { cause, incoming: sum.incoming, outgoing: sum.outgoing, entries: sum.entries }
}

fn block_view(stored: StoredBlock) -> BlockView {
    let actions = stored.block.transactions.iter().map(|transaction| transaction.body.action.name());
    let transactions = stored.results.into_iter().zip(actions).map(|(result, action)| BlockTransaction {
        id: result.id,
        action: action.to_owned(),
        code: result.code,
        message: result.message,
    });
    BlockView {
        hash: stored.hash,
        transactions: transactions.collect(),
        header: stored.block.header,
        round: stored.certificate.round,
        signers: stored.certificate.signers,
    }
}
