//! Receipts of one lease: written on time, sent when a gateway listens, only the latest one, the final one for sure.
//!
//! ```text
//! rounds ── record(tally) ──▶ Book ── every receipt_ms / 2 ──▶ [ latest unsent ] ──▶ delivery task ──▶ chain
//! end    ── finish(outcome) ▶ Book ─────── at once ──────────▶ [ final        ]        │
//!            ▲──────────────────── the chain has it, or closed the lease ──────────────┘
//! ```

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use deepmarket_api::{ApiError, Client};
use deepmarket_types::{
    Action, ChainId, Checkpoint, Hash, Height, JobId, LeaseId, LeaseOutcome, Receipt, SecretKey, Transaction,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;

/// How long one attempt waits for a block.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
/// How many blocks a receipt stays valid.
const VALID_BLOCKS: u64 = 1_000;
/// The pause after a failed attempt; doubles up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// How far the numbering jumps when the chain says that a number was used for something else.
const JUMP: u32 = 1_000;

/// What the ledger says about receipts (the codes are stable).
mod code {
    pub const EXPIRED: u16 = 2001;
    pub const EXISTS: u16 = 2073;
    pub const EQUIVOCATES: u16 = 2074;
    pub const SUPERSEDED: u16 = 2075;
    pub const CLOSED: u16 = 2077;
}

/// The work of a lease so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The first round that this worker took part in.
    pub from: u64,
    /// Rounds of the job that are done.
    pub rounds: u64,
    /// Samples trained on.
    pub samples: u64,
    /// CPU time of the trainer in milliseconds.
    pub cpu_ms: u64,
    /// Hash of the parameters after the last round.
    pub parameters: Hash,
    /// Root of the rounds' commitments, and how many there are.
    pub commitments: Hash,
    pub committed: u64,
    /// Mean loss of the last round in millionths.
    pub loss_micro: u64,
}

/// Numbers receipts. Pure.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    job: JobId,
    lease: LeaseId,
    rank: u32,
    sequence: u32,
    tally: Option<Tally>,
    /// The last state that was stored on the way.
    checkpoint: Option<Checkpoint>,
    /// Another worker that can't be reached.
    missing: Option<LeaseId>,
    last: Option<LeaseOutcome>,
}

impl Book {
    /// A book that goes on after the receipts that the chain has, and after the last one that was ever signed.
    pub fn new(job: JobId, lease: LeaseId, rank: u32, accepted: u32, signed: Option<Receipt>) -> Book {
        let tally = signed.map(|r| Tally {
            from: r.from,
            rounds: r.rounds,
            samples: r.samples,
            cpu_ms: r.cpu_ms,
            parameters: r.parameters,
            commitments: r.commitments,
            committed: r.committed,
            loss_micro: r.loss_micro,
        });
        let sequence = accepted.max(signed.map_or(0, |r| r.sequence));
        let checkpoint = signed.and_then(|r| r.checkpoint);
        Book { job, lease, rank, sequence, tally, checkpoint, missing: None, last: None }
    }

    /// Takes note of work done.
    pub fn record(&mut self, tally: Tally) {
        self.tally = Some(tally);
    }

    /// Takes note of a stored checkpoint: all receipts name it from now on.
    pub fn keep(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = Some(checkpoint);
    }

    /// The next receipt. `None` after the final one, and while there is no work to speak of yet.
    pub fn write(&mut self, outcome: LeaseOutcome) -> Option<Receipt> {
        let is_final = outcome != LeaseOutcome::Running;
        if self.is_closed() || (self.tally.is_none() && !is_final) {
            return None;
        }
        self.last = Some(outcome);
        self.sequence = self.sequence.checked_add(1)?;
        let Tally { from, rounds, samples, cpu_ms, parameters, commitments, committed, loss_micro } =
            self.tally.unwrap_or_default();
        Some(Receipt {
            job: self.job,
            lease: self.lease,
            rank: self.rank,
            sequence: self.sequence,
            from,
            rounds,
            samples,
            cpu_ms,
            parameters,
            commitments,
            committed,
            loss_micro,
            checkpoint: self.checkpoint,
            missing: self.missing.filter(|_| !is_final),
            outcome,
        })
    }

    /// The last receipt again under a number that was certainly never used.
    pub fn write_again(&mut self) -> Option<Receipt> {
        let outcome = self.last.take()?;
        self.sequence = self.sequence.saturating_add(JUMP);
        self.write(outcome)
    }

    fn is_closed(&self) -> bool {
        self.last.is_some_and(|outcome| outcome != LeaseOutcome::Running)
    }
}

/// What is to be sent: the latest receipt only. Pure.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outbox {
    waiting: Option<Receipt>,
}

impl Outbox {
    /// Puts a receipt in the place of an older unsent one.
    pub fn put(&mut self, receipt: Receipt) {
        if self.waiting.is_none_or(|waiting| receipt.sequence > waiting.sequence) {
            self.waiting = Some(receipt);
        }
    }

    /// The receipt to send.
    pub fn peek(&self) -> Option<Receipt> {
        self.waiting
    }

    /// Takes out what the chain has (or never will have) up to a number.
    pub fn settle(&mut self, sequence: u32) {
        if self.waiting.is_some_and(|waiting| waiting.sequence <= sequence) {
            self.waiting = None;
        }
    }
}

/// What the chain said about a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It has it, or a later one.
    Accepted,
    /// The lease is closed: no receipt counts any more.
    Closed,
    /// Its number was used for another receipt.
    NumberUsed,
    /// It became invalid with time and must be signed again.
    SignAgain,
    /// Nobody answered, or it isn't decided yet.
    Later(String),
    /// Refused for good.
    Refused(String),
}

impl Verdict {
    fn of(error: ApiError) -> Verdict {
        match error {
            ApiError::Rejected { code: code::EXISTS | code::SUPERSEDED, .. } => Verdict::Accepted,
            ApiError::Rejected { code: code::CLOSED, .. } => Verdict::Closed,
            ApiError::Rejected { code: code::EQUIVOCATES, .. } => Verdict::NumberUsed,
            ApiError::Rejected { code: code::EXPIRED, .. } => Verdict::SignAgain,
            // 4xxx: the mempool has no room or has it already. It will be decided, or there will be room.
            ApiError::Rejected { code: 4000..5000, message, .. } => Verdict::Later(message),
            error if error.retryable() => Verdict::Later(error.to_string()),
            error => Verdict::Refused(error.to_string()),
        }
    }
}

/// The receipts of one lease. Nothing here waits, except [`Receipts::finish`].
pub(crate) struct Receipts {
    shared: Arc<Shared>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

struct Shared {
    client: Client,
    chain: ChainId,
    key: SecretKey,
    journal: Journal,
    book: Mutex<Book>,
    outbox: watch::Sender<Outbox>,
    /// The lease was closed on the chain.
    ended: CancellationToken,
    /// The greatest number that is settled.
    settled: watch::Sender<u32>,
}

impl Drop for Receipts {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// What receipts of a lease need to know.
pub(crate) struct ReceiptsSetup {
    pub client: Client,
    pub chain: ChainId,
    pub key: SecretKey,
    pub journal: Journal,
    pub book: Book,
    /// Cancelled when the lease is closed on the chain, by this or by whoever notices first.
    pub ended: CancellationToken,
    /// The longest time that one receipt is paid for.
    pub receipt_ms: u64,
}

impl Receipts {
    pub fn start(setup: ReceiptsSetup) -> Receipts {
        let ReceiptsSetup { client, chain, key, journal, book, ended, receipt_ms } = setup;
        let (outbox, settled) = (watch::Sender::new(Outbox::default()), watch::Sender::new(0));
        let shared = Shared { client, chain, key, journal, book: Mutex::new(book), outbox, ended, settled };
        let shared = Arc::new(shared);
        let every = Duration::from_millis((receipt_ms / 2).clamp(100, 3_600_000));
        let tasks = [tokio::spawn(write_regularly(shared.clone(), every)), tokio::spawn(deliver(shared.clone()))];
        Receipts { shared, tasks }
    }

    /// Takes note of work done; the next receipt will say it.
    pub fn record(&self, tally: Tally) {
        self.shared.book().record(tally);
    }

    /// Takes note of work done, and tells the chain at once: the first receipt says that the worker is ready.
    pub fn tell(&self, tally: Tally) {
        self.record(tally);
        self.shared.issue(LeaseOutcome::Running);
    }

    /// Names another worker that can't be reached, or takes that back; tells the chain at once where it is news.
    pub fn miss(&self, lease: Option<LeaseId>) {
        let before = std::mem::replace(&mut self.shared.book().missing, lease);
        if before != lease {
            self.shared.issue(LeaseOutcome::Running);
        }
    }

    /// Where stored checkpoints are told: the next receipt will name the last one.
    pub fn checkpoint_notes(&self) -> impl Fn(Checkpoint) + Send + 'static {
        let shared = self.shared.clone();
        move |checkpoint| shared.book().keep(checkpoint)
    }

    /// Writes the final receipt and waits until the chain has it, has closed the lease, or the time is over (without a limit
    /// it tries for ever). True where nothing is left to be said.
    pub async fn finish(&self, outcome: LeaseOutcome, limit: Option<Duration>) -> bool {
        let began = Instant::now();
        let mut settled = self.shared.settled.subscribe();
        self.shared.issue(outcome);
        loop {
            // Read anew: the final receipt may have got another number.
            let number = self.shared.book().sequence;
            if *settled.borrow_and_update() >= number || self.shared.ended.is_cancelled() {
                return true;
            }
            let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
            tokio::select! {
                _ = settled.changed() => {}
                () = self.shared.ended.cancelled() => {}
                () = sleep(left) => return false,
            }
        }
    }
}

impl Shared {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics while writing receipts")
    }

    fn issue(&self, outcome: LeaseOutcome) {
        let receipt = self.book().write(outcome);
        self.send(receipt);
    }

    fn send(&self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        if let Err(e) = self.journal.note(&receipt) {
            tracing::warn!(lease = %receipt.lease, "the receipt can't be noted on disk: {e}");
        }
        self.outbox.send_modify(|outbox| outbox.put(receipt));
    }

    async fn submit(&self, receipt: &Receipt, signed: &mut Option<(u32, Transaction)>) -> Verdict {
        if signed.as_ref().is_none_or(|(sequence, _)| *sequence != receipt.sequence) {
            let height = match self.client.status().await {
                Ok(status) => status.height.0,
                Err(e) => return Verdict::Later(e.to_string()),
            };
            let expires = Height(height.saturating_add(VALID_BLOCKS));
            let transaction = Transaction::sign(&self.key, &self.chain, 0, expires, Action::Receipt(*receipt));
            *signed = Some((receipt.sequence, transaction));
        }
        let (_, transaction) = signed.as_ref().expect("signed above");
        match self.client.submit(transaction, SUBMIT_WITHIN).await {
            Ok(status) if status.height.is_some() => Verdict::Accepted,
            Ok(_) => Verdict::Later("it is not in a block yet".into()),
            Err(error) => Verdict::of(error),
        }
    }
}

async fn write_regularly(shared: Arc<Shared>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.issue(LeaseOutcome::Running);
    }
}

/// Sends the latest receipt until it is settled; then the latest one of that time; and so on.
async fn deliver(shared: Arc<Shared>) {
    let mut outbox = shared.outbox.subscribe();
    let (mut signed, mut pause) = (None, PAUSE.0);
    loop {
        let Some(receipt) = outbox.borrow_and_update().peek() else {
            if outbox.changed().await.is_err() {
                return;
            }
            continue;
        };
        let Receipt { lease, sequence, .. } = receipt;
        let verdict = shared.submit(&receipt, &mut signed).await;
        match verdict {
            Verdict::Accepted => tracing::debug!(%lease, sequence, "the chain has the receipt"),
            Verdict::Closed => {
                tracing::info!(%lease, sequence, "the lease is closed on the chain");
                shared.ended.cancel();
            }
            Verdict::Refused(why) => tracing::warn!(%lease, sequence, "a receipt was refused: {why}"),
            Verdict::NumberUsed => {
                tracing::warn!(%lease, sequence, "another receipt had this number; numbering jumps ahead");
                let receipt = shared.book().write_again();
                shared.send(receipt);
            }
            Verdict::SignAgain | Verdict::Later(_) => {
                tracing::debug!(%lease, sequence, ?verdict, "the receipt waits");
                if verdict == Verdict::SignAgain {
                    signed = None;
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
        }
        pause = PAUSE.0;
        shared.outbox.send_modify(|outbox| outbox.settle(sequence));
        shared.settled.send_modify(|settled| *settled = sequence.max(*settled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(accepted: u32, signed: Option<Receipt>) -> Book {
        Book::new(JobId(1), LeaseId(2), 0, accepted, signed)
    }

    fn tally(rounds: u64) -> Tally {
        Tally { rounds, samples: rounds * 64, ..Tally::default() }
    }

    #[test]
    fn receipts_are_numbered_without_gaps_from_one_and_end_with_the_final_one() {
        let mut book = book(0, None);
        assert_eq!(book.write(LeaseOutcome::Running), None, "nothing was done yet");
        book.record(tally(3));
        let first = book.write(LeaseOutcome::Running).unwrap();
        assert_eq!((first.sequence, first.rounds, first.samples), (1, 3, 192));
        book.record(tally(9));
        let last = book.write(LeaseOutcome::Finished(Hash::of(b"model"))).unwrap();
        assert_eq!((last.sequence, last.rounds), (2, 9));
        assert_eq!(book.write(LeaseOutcome::Running), None);
        assert_eq!(book.write(LeaseOutcome::Failed(deepmarket_types::FailureReason::PeerLost)), None);
    }

    #[test]
    fn a_failure_before_the_first_round_can_be_told() {
        let failed = LeaseOutcome::Failed(deepmarket_types::FailureReason::DataUnavailable);
        let receipt = book(0, None).write(failed).unwrap();
        assert_eq!((receipt.sequence, receipt.rounds, receipt.outcome), (1, 0, failed));
    }

    #[test]
    fn after_a_restart_no_number_is_used_twice_and_no_total_shrinks() {
        let mut before = book(0, None);
        before.record(tally(50));
        before.write(LeaseOutcome::Running);
        let signed = before.write(LeaseOutcome::Running).unwrap();
        // The chain had only the first of them when the agent came back.
        let mut after = book(1, Some(signed));
        let failed = after.write(LeaseOutcome::Failed(deepmarket_types::FailureReason::TrainerCrashed)).unwrap();
        assert_eq!((failed.sequence, failed.rounds), (3, 50));
        assert_eq!(book(7, None).write(failed.outcome).unwrap().sequence, 8);
    }

    #[test]
    fn a_stored_checkpoint_is_named_by_all_receipts_from_then_on_also_after_a_restart() {
        let [one, two] = [(b"one", 1), (b"two", 2)].map(|(state, rounds)| Checkpoint { state: Hash::of(state), rounds });
        let mut before = book(0, None);
        before.record(tally(1));
        assert_eq!(before.write(LeaseOutcome::Running).unwrap().checkpoint, None);
        before.keep(one);
        before.record(tally(2));
        assert_eq!(before.write(LeaseOutcome::Running).unwrap().checkpoint, Some(one));
        before.keep(two);
        assert_eq!(before.write(LeaseOutcome::Running).unwrap().checkpoint, Some(two));
        assert_eq!(before.write_again().unwrap().checkpoint, Some(two));
        let signed = before.write(LeaseOutcome::Running).unwrap();
        let failed = LeaseOutcome::Failed(deepmarket_types::FailureReason::TrainerCrashed);
        assert_eq!(book(1, Some(signed)).write(failed).unwrap().checkpoint, Some(two));
    }

    #[test]
    fn a_missing_worker_is_named_until_it_is_there_again_and_not_in_the_last_word() {
        let mut book = book(0, None);
        book.record(tally(1));
        book.missing = Some(LeaseId(9));
        assert_eq!(book.write(LeaseOutcome::Running).unwrap().missing, Some(LeaseId(9)));
        assert_eq!(book.clone().write(LeaseOutcome::Finished(Hash::of(b"model"))).unwrap().missing, None);
        book.missing = None;
        assert_eq!(book.write(LeaseOutcome::Running).unwrap().missing, None);
    }

    #[test]
    fn a_number_that_was_used_is_jumped_over_with_the_same_outcome() {
        let mut book = book(0, None);
        book.record(tally(1));
        let last = book.write(LeaseOutcome::Finished(Hash::of(b"model"))).unwrap();
        let again = book.write_again().unwrap();
        assert!(again.sequence > last.sequence + 100);
        assert_eq!(again, Receipt { sequence: again.sequence, ..last });
    }

    #[test]
    fn the_latest_receipt_replaces_older_ones_and_the_final_one_stays() {
        let mut book = book(0, None);
        book.record(tally(1));
        let one = book.write(LeaseOutcome::Running).unwrap();
        let two = book.write(LeaseOutcome::Running).unwrap();
        let last = book.write(LeaseOutcome::Finished(Hash::of(b"model"))).unwrap();
        let mut outbox = Outbox::default();
        outbox.put(one);
        outbox.put(two);
        assert_eq!(outbox.peek(), Some(two));
        outbox.put(one);
        assert_eq!(outbox.peek(), Some(two), "an older one never comes back");
        outbox.put(last);
        // While `two` was on its way the final one came: settling `two` leaves it.
        outbox.settle(two.sequence);
        assert_eq!(outbox.peek(), Some(last));
        outbox.settle(last.sequence);
        assert_eq!(outbox.peek(), None);
    }

    #[test]
    fn what_the_chain_says_is_understood() {
        let rejected =
            |code| ApiError::Rejected { code, name: "x".into(), message: "m".into(), hint: String::new(), id: Hash::default() };
        assert_eq!(Verdict::of(rejected(2073)), Verdict::Accepted);
        assert_eq!(Verdict::of(rejected(2075)), Verdict::Accepted);
        assert_eq!(Verdict::of(rejected(2077)), Verdict::Closed);
        assert_eq!(Verdict::of(rejected(2074)), Verdict::NumberUsed);
        assert_eq!(Verdict::of(rejected(2001)), Verdict::SignAgain);
        assert!(matches!(Verdict::of(rejected(4001)), Verdict::Later(_)));
        assert!(matches!(Verdict::of(rejected(2076)), Verdict::Refused(_)));
        assert!(matches!(Verdict::of(ApiError::Unreachable { tried: vec![] }), Verdict::Later(_)));
    }
}
