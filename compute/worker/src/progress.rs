//! What people see of a lease while it runs: queued here without ever waiting, sent about once a second, off the chain.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deepmarket_api::{Client, MAX_PROGRESS_BYTES, Progress, ProgressBatch, ProgressKind, progress_content};
use deepmarket_types::{ChainId, Domain, JobId, MachineId, SecretKey, TimeMs};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// Entries that wait at most; beyond, the oldest of the least worth goes.
const MAX_WAITING: usize = 500;
/// The most entries of one batch.
const MAX_BATCH: usize = 200;
/// How often a batch is sent.
const EVERY: Duration = Duration::from_millis(900);
/// The most characters of a line for people.
const MAX_LINE_CHARS: usize = 1_000;

/// This machine's clock.
pub(crate) fn now() -> TimeMs {
    TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// Entries that wait to be sent. Pure.
#[derive(Debug)]
pub(crate) struct Queue {
    rank: u32,
    next: u64,
    waiting: VecDeque<Progress>,
    /// Entries up to this number were handed out and may not be changed any more.
    handed_out: u64,
}

impl Queue {
    /// Numbers go up from `first` on.
    pub fn new(rank: u32, first: u64) -> Queue {
        Queue { rank, next: first, waiting: VecDeque::new(), handed_out: 0 }
    }

    pub fn push(&mut self, time: TimeMs, kind: ProgressKind) {
        // Of a state that goes on, only the latest unsent report is of interest.
        let replaces = |last: &Progress| {
            use ProgressKind::{Fetching, Round};
            let same = matches!((&last.kind, &kind), (Fetching { .. }, Fetching { .. }) | (Round { .. }, Round { .. }));
            same && last.sequence > self.handed_out
        };
        if self.waiting.back().is_some_and(replaces) {
            self.waiting.pop_back();
        }
        if self.waiting.len() >= MAX_WAITING {
            let is_minor = |p: &Progress| !matches!(p.kind, ProgressKind::Epoch { .. } | ProgressKind::Done { .. });
            let least = self.waiting.iter().position(is_minor).unwrap_or(0);
            self.waiting.remove(least);
        }
        self.waiting.push_back(Progress { time, rank: self.rank, sequence: self.next, kind });
        self.next += 1;
    }

    /// The next entries as the text that is signed, with the number of the last of them. `None`: nothing waits.
    pub fn batch(&mut self) -> Option<(String, u64)> {
        let mut text = String::from("[");
        let mut last = None;
        for entry in self.waiting.iter().take(MAX_BATCH) {
            let json = serde_json::to_string(entry).expect("progress is plain data");
            if text.len() + json.len() + 2 > MAX_PROGRESS_BYTES {
                break;
            }
            if last.is_some() {
                text.push(',');
            }
            text.push_str(&json);
            last = Some(entry.sequence);
        }
        text.push(']');
        self.handed_out = last?.max(self.handed_out);
        Some((text, self.handed_out))
    }

    /// Takes out what was sent.
    pub fn settle(&mut self, sequence: u64) {
        self.waiting.retain(|entry| entry.sequence > sequence);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The progress of one lease. Reporting never waits and never fails.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    client: Client,
    chain: ChainId,
    key: SecretKey,
    job: JobId,
    queue: Mutex<Queue>,
    hurry: Notify,
    emptied: Notify,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reporter {
    /// `again`: an earlier life of the agent may have reported for this lease.
    pub fn start(client: Client, chain: ChainId, key: SecretKey, job: JobId, rank: u32, again: bool) -> Reporter {
        let first = if again { now().0 } else { 1 };
        let queue = Mutex::new(Queue::new(rank, first));
        let shared = Shared { client, chain, key, job, queue, hurry: Notify::new(), emptied: Notify::new() };
        let shared = Arc::new(shared);
        let task = tokio::spawn(send(shared.clone()));
        Reporter { shared, task }
    }

    pub fn report(&self, kind: ProgressKind) {
        self.shared.queue().push(now(), kind);
    }

    /// A line for people.
    pub fn log(&self, line: impl AsRef<str>) {
        let printable = line.as_ref().chars().filter(|c| !c.is_control());
        self.report(ProgressKind::Log { line: printable.take(MAX_LINE_CHARS).collect() });
    }

    /// Sends what waits, for at most some time.
    pub async fn flush(&self, limit: Duration) {
        self.shared.flush(limit).await;
    }

    /// The same for a task of its own.
    pub fn flushing(&self) -> impl Fn(Duration) -> BoxFuture<'static, ()> + Clone + Send + 'static {
        let shared = self.shared.clone();
        move |limit| {
            let shared = shared.clone();
            async move { shared.flush(limit).await }.boxed()
        }
    }
}

impl Shared {
    async fn flush(&self, limit: Duration) {
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.queue().is_empty() {
                    return;
                }
                self.hurry.notify_one();
                emptied.await;
            }
        };
        timeout(limit, empty).await.ok();
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics while queueing progress")
    }
}

async fn send(shared: Arc<Shared>) {
    let machine = MachineId::from_key(&shared.key.public());
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = sleep(next.saturating_duration_since(Instant::now())) => {}
            () = shared.hurry.notified() => {}
        }
        next = Instant::now() + EVERY;
        let batch = shared.queue().batch();
        let Some((entries, last)) = batch else {
            shared.emptied.notify_waiters();
            continue;
        };
        let signature = shared.key.sign(Domain::Request, &shared.chain, &progress_content(shared.job, &entries));
        let outcome = shared.client.post_progress(shared.job, &ProgressBatch { machine, entries, signature }).await;
        match outcome {
            Ok(()) => shared.queue().settle(last),
            Err(e) if e.retryable() => tracing::debug!(job = %shared.job, "progress waits: {e}"),
            Err(e) => {
                tracing::debug!(job = %shared.job, "progress was refused: {e}");
                shared.queue().settle(last);
            }
        }
        if shared.queue().is_empty() {
            shared.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> ProgressKind {
        ProgressKind::Log { line: format!("line {n}") }
    }

    fn fetching(done_bytes: u64) -> ProgressKind {
        ProgressKind::Fetching { done_bytes, total_bytes: 100 }
    }

    fn epoch(epoch: u64) -> ProgressKind {
        ProgressKind::Epoch { epoch, epochs: 5, trained: 1, correct: None, samples: 1, loss: 0.5 }
    }

    fn numbers(batch: &str) -> Vec<u64> {
        serde_json::from_str::<Vec<Progress>>(batch).unwrap().iter().map(|p| p.sequence).collect()
    }

    #[test]
    fn entries_are_numbered_batched_in_order_and_kept_until_they_are_sent() {
        let mut queue = Queue::new(2, 1);
        assert_eq!(queue.batch(), None);
        (0..450).for_each(|n| queue.push(TimeMs(7), line(n)));
        let (text, last) = queue.batch().unwrap();
        assert_eq!((numbers(&text), last), ((1..=200).collect(), 200));
        assert_eq!(queue.batch().unwrap().1, 200, "not sent: the same ones again");
        queue.settle(last);
        assert_eq!(numbers(&queue.batch().unwrap().0), (201..=400).collect::<Vec<_>>());
        queue.settle(450);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newer_state_replaces_an_unsent_older_one() {
        let mut queue = Queue::new(0, 1);
        queue.push(TimeMs(1), fetching(10));
        queue.push(TimeMs(2), fetching(20));
        let (text, last) = queue.batch().unwrap();
        assert_eq!(numbers(&text), [2]);
        // Handed out: it may have arrived, so its number can't be dropped silently.
        queue.push(TimeMs(3), fetching(30));
        assert_eq!(numbers(&queue.batch().unwrap().0), [2, 3]);
        queue.settle(last);
        assert_eq!(numbers(&queue.batch().unwrap().0), [3]);
    }

    #[test]
    fn a_full_queue_forgets_lines_before_epochs() {
        let mut queue = Queue::new(0, 1);
        queue.push(TimeMs(1), epoch(0));
        (0..2 * MAX_WAITING).for_each(|n| queue.push(TimeMs(1), line(n)));
        assert_eq!(queue.waiting.len(), MAX_WAITING);
        assert_eq!(queue.waiting[0].sequence, 1);
        assert_eq!(queue.waiting.back().unwrap().sequence, 2 * MAX_WAITING as u64 + 1);
    }

    #[test]
    fn a_batch_has_a_bounded_length() {
        let mut queue = Queue::new(0, 1);
        (0..200).for_each(|_| queue.push(TimeMs(1), ProgressKind::Log { line: "x".repeat(4_000) }));
        let (text, last) = queue.batch().unwrap();
        assert!(text.len() <= MAX_PROGRESS_BYTES && last < 200);
        assert_eq!(numbers(&text).len() as u64, last);
    }
}
