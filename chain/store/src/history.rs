use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, Event, Hash, Height, JobId, TimeMs};
use rocksdb::{Direction, IteratorMode};

use crate::{
    Store, StoreError,
    keys::{self, column},
    open::stored,
};

/// An event as it is kept.
#[derive(BorshSerialize, BorshDeserialize)]
pub(crate) struct StoredEvent {
    pub time: TimeMs,
    pub transaction: Option<Hash>,
    pub event: Event,
}

/// An event and its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEvent {
    /// The block.
    pub height: Height,
    /// The block's time.
    pub time: TimeMs,
    /// The event's number in the block.
    pub index: u32,
    /// The transaction that caused it; none for what happens at a block's end.
    pub transaction: Option<Hash>,
    /// What happened.
    pub event: Event,
}

impl Store {
    /// An account's events, newest first, at most `limit`; with `before`, those before that place.
    pub fn account_history(
        &self,
        id: AccountId,
        before: Option<(Height, u32)>,
        limit: usize,
    ) -> Result<Vec<HistoryEvent>, StoreError> {
        self.history(&keys::account(&id), before, limit)
    }

    /// A job's events, newest first, at most `limit`; with `before`, those before that place.
    pub fn job_history(&self, id: JobId, before: Option<(Height, u32)>, limit: usize) -> Result<Vec<HistoryEvent>, StoreError> {
        self.history(&keys::job(id), before, limit)
    }

    fn history(&self, prefix: &[u8], before: Option<(Height, u32)>, limit: usize) -> Result<Vec<HistoryEvent>, StoreError> {
        let (height, index) = before.unwrap_or((Height(u64::MAX), u32::MAX));
        let from = keys::event(prefix, height, index);
        let mode = IteratorMode::From(&from, Direction::Reverse);
        let mut events = Vec::new();
        for entry in self.db.iterator_cf(self.column(column::INDEX), mode) {
            let (key, value) = entry?;
            if !key.starts_with(prefix) || events.len() >= limit {
                break;
            }
            if *key == *from {
                continue; // `before` is not part of the answer
            }
            let place = keys::event_place(&key).ok_or_else(|| StoreError::Corrupt("a key of a history".into()))?;
            let StoredEvent { time, transaction, event } = stored(&value, "an event")?;
            events.push(HistoryEvent { height: place.0, time, index: place.1, transaction, event });
        }
        Ok(events)
    }
}
