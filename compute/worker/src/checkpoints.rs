//! States that are stored while a job runs: what it goes on from when all its workers were lost, and what is kept of it when it
//! is stopped.
//!
//! ```text
//! rounds ── offer(state) ──▶ [ the newest ] ──▶ one upload at a time ──▶ gateways
//!                                                    └─ its name ─▶ all receipts from then on
//! ```
//!
//! The rounds never wait for an upload. One that failed is not tried again: by then a newer model is due.

use bytes::Bytes;
use deepmarket_api::ApiError;
use deepmarket_types::{Checkpoint, Hash, JobId};
use tokio::sync::watch;

use crate::{
    lease::{COPIES, Context, FLUSH_WITHIN},
    progress::Reporter,
    receipts::Receipts,
};

/// The checkpoints of one lease. It stops storing when this is dropped.
pub(crate) struct Checkpoints {
    newest: watch::Sender<Option<(Bytes, u64)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checkpoints {
    /// Stores states at gateways and has the lease's receipts name them.
    pub fn start(context: &Context, job: JobId, reporter: &Reporter, receipts: &Receipts) -> Checkpoints {
        let newest = watch::Sender::new(None);
        let (client, key, chain) = (context.client.clone(), context.key.clone(), context.chain);
        let flush = reporter.flushing();
        let store = move |state: Bytes| {
            let (client, key, flush) = (client.clone(), key.clone(), flush.clone());
            async move {
                let stored = client.put_blob(&key, &chain, state, COPIES).await;
                flush(FLUSH_WITHIN).await;
                stored
            }
        };
        let task = tokio::spawn(store_newest(newest.subscribe(), job, store, receipts.checkpoint_notes()));
        Checkpoints { newest, task }
    }

    /// Hands over the state after so many rounds. One that still waits for its upload gives way to it.
    pub fn offer(&self, state: Vec<u8>, rounds: u64) {
        self.newest.send_replace(Some((state.into(), rounds)));
    }
}

/// Is a checkpoint due after so many rounds? The last round gives the model itself.
pub(crate) fn is_due(every_rounds: u32, done: u64, rounds: u64) -> bool {
    every_rounds > 0 && done.is_multiple_of(every_rounds.into()) && done < rounds
}

/// Stores what is offered, always the newest, and tells the name of what was stored; until nobody offers any more.
async fn store_newest<F>(
    mut newest: watch::Receiver<Option<(Bytes, u64)>>,
    job: JobId,
    store: impl Fn(Bytes) -> F,
    note: impl Fn(Checkpoint),
) where
    F: Future<Output = Result<Hash, ApiError>>,
{
    while newest.changed().await.is_ok() {
        let Some((state, rounds)) = newest.borrow_and_update().clone() else { continue };
        let bytes = state.len();
        match store(state).await {
            Ok(state) => {
                tracing::info!(%job, %state, rounds, bytes, "a checkpoint is stored");
                note(Checkpoint { state, rounds });
            }
            Err(error) => tracing::warn!(%job, "a checkpoint could not be stored, the next one will be tried: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn checkpoints_are_due_at_multiples_and_never_after_the_last_round() {
        let due = |every| (1..=30).filter(|done| is_due(every, *done, 30)).collect::<Vec<_>>();
        assert_eq!(due(10), [10, 20]);
        assert_eq!(due(7), [7, 14, 21, 28]);
        assert_eq!(due(0), [0_u64; 0]);
        assert_eq!(due(31), [0_u64; 0]);
    }

    #[tokio::test]
    async fn one_upload_runs_at_a_time_the_newest_wins_and_a_failed_one_is_made_up_for_by_the_next() {
        let (begun, noted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (begins, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let store = {
            let (begun, begins, may_end) = (begun.clone(), begins.clone(), may_end.clone());
            move |model: Bytes| {
                begun.lock().unwrap().push(model[0]);
                begins.add_permits(1);
                let may_end = may_end.clone();
                async move {
                    may_end.acquire().await.unwrap().forget();
                    if model[0] == 3 { Err(ApiError::Unreachable { tried: vec![] }) } else { Ok(Hash::of(&model)) }
                }
            }
        };
        let newest = watch::Sender::new(None);
        let offer = |number: u8| newest.send_replace(Some((Bytes::from(vec![number]), number.into())));
        let note = {
            let noted = noted.clone();
            move |checkpoint| noted.lock().unwrap().push(checkpoint)
        };
        let task = tokio::spawn(store_newest(newest.subscribe(), JobId(1), store, note));
        let next_begins = async || begins.acquire().await.unwrap().forget();
        offer(1);
        next_begins().await;
        offer(2);
        offer(3);
        may_end.add_permits(1);
        next_begins().await;
        offer(4);
        may_end.add_permits(1);
        next_begins().await;
        may_end.add_permits(1);
        drop(newest);
        task.await.unwrap();
        assert_eq!(*begun.lock().unwrap(), [1, 3, 4], "2 gave way to 3");
        let stored = [1, 4].map(|number: u8| Checkpoint { state: Hash::of(&[number]), rounds: number.into() });
        assert_eq!(*noted.lock().unwrap(), stored, "3 failed");
    }
}
