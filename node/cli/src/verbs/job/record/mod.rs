//! What is known of a job from what its workers reported. Pure: reports go in, in any order and any number of times, and what
//! they say together comes out.
//!
//! ```text
//! reports ──add──▶ Record ─┬─ epochs()  how good the model was after each epoch
//!                          ├─ batches() which workers trained which rounds: each sample once an epoch
//!                          ├─ points()  the training loss and the speed, round by round
//!                          └─ times()   where each worker's time went
//! the chain's events ──▶ Story ─ who joined, left, was lost
//! ```

mod batches;
pub mod csv;
mod curve;
mod points;
mod story;
mod times;

use std::{collections::BTreeMap, ops::Range};

use deepmarket_api::{Progress, ProgressKind};
use deepmarket_types::TimeMs;
use serde::Serialize;

pub use batches::{Batches, Fate};
pub use curve::Canvas;
pub use points::Point;
pub use story::Story;
pub use times::{WorkerTimes, table as times_table};

/// Every report of a job's workers, each once.
#[derive(Clone, Default)]
pub struct Record {
    /// By rank and number.
    reports: BTreeMap<(u32, u64), Progress>,
}

/// How good the model was after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// When it was reported, by the worker's clock.
    pub time: TimeMs,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
    /// Samples that were trained on in it, by all workers together.
    pub trained: u64,
    /// Right answers on the validation split (classification only).
    pub correct: Option<u64>,
    /// Samples of the validation split.
    pub samples: u64,
    /// The share of right answers, from 0 to 1.
    pub accuracy: Option<f64>,
    /// Mean loss on the validation split.
    pub loss: f64,
    /// Mean training loss of the epoch's rounds; none where no round was reported.
    pub training_loss: Option<f64>,
    /// From the epoch before (or from the first round) to this one, in milliseconds.
    pub took_ms: Option<u64>,
}

impl Epoch {
    /// Samples trained in a second, by all workers together, the evaluation included.
    pub fn samples_per_s(&self) -> Option<f64> {
        self.took_ms.filter(|ms| *ms > 0).map(|ms| self.trained as f64 * 1000.0 / ms as f64)
    }
}

impl Record {
    /// Of some reports.
    pub fn of(reports: impl IntoIterator<Item = Progress>) -> Record {
        let mut record = Record::default();
        for report in reports {
            record.add(report);
        }
        record
    }

    /// Takes a report in; false where it was known.
    pub fn add(&mut self, report: Progress) -> bool {
        self.reports.insert((report.rank, report.sequence), report).is_none()
    }

    /// All reports, in the order of the workers' clocks.
    pub fn by_time(&self) -> Vec<&Progress> {
        let mut all: Vec<&Progress> = self.reports.values().collect();
        all.sort_by_key(|report| (report.time, report.rank, report.sequence));
        all
    }

    /// How good the model was after each epoch. Of an epoch that was trained again only the last time counts.
    pub fn epochs(&self) -> Vec<Epoch> {
        let mut epochs = BTreeMap::new();
        for report in self.by_time() {
            if let ProgressKind::Epoch { epoch, epochs: all, trained, correct, samples, loss } = report.kind {
                let accuracy = correct.map(|correct| correct as f64 / samples.max(1) as f64);
                let (time, training_loss, took_ms) = (report.time, None, None);
                epochs.insert(
                    epoch,
                    Epoch { time, epoch, epochs: all, trained, correct, samples, accuracy, loss, training_loss, took_ms },
                );
            }
        }
        let mut epochs: Vec<Epoch> = epochs.into_values().collect();
        let points: Vec<Point> = self.points().into_iter().filter(|point| !point.replaced).collect();
        let mut begin = points.iter().map(|point| point.time).min();
        for epoch in &mut epochs {
            let losses: Vec<f64> = points.iter().filter(|point| point.epoch == epoch.epoch).map(|point| point.loss).collect();
            epoch.training_loss = (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
            epoch.took_ms = begin.map(|begin| epoch.time.since(begin));
            begin = Some(epoch.time);
        }
        epochs
    }

    /// Which workers trained which rounds. `samples_of` says how many samples some rounds of the job use, where that is known: it is
    /// asked where only a part of what was reported together counts.
    pub fn batches(&self, samples_of: &dyn Fn(Range<u64>) -> Option<u64>) -> Batches {
        Batches::of(self.reports.values(), samples_of)
    }

    /// The training loss and the speed, round by round.
    pub fn points(&self) -> Vec<Point> {
        points::of(&self.reports, &self.batches(&|_| None))
    }

    /// What the workers reported at their ends, by rank.
    pub fn totals(&self) -> Vec<ProgressKind> {
        let ends = self.reports.values().filter(|report| matches!(report.kind, ProgressKind::Done { .. }));
        ends.map(|report| report.kind.clone()).collect()
    }

    /// Where each worker's time went.
    pub fn times(&self) -> Vec<WorkerTimes> {
        times::of(&self.reports)
    }
}

/// Reports for tests.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// A report of something at some second.
    pub fn report(second: u64, rank: u32, sequence: u64, kind: ProgressKind) -> Progress {
        Progress { time: TimeMs(second * 1000), rank, sequence, kind }
    }

    /// Rounds done, of 100 rounds of 10 an epoch.
    pub fn round(done: u64, loss: f64) -> ProgressKind {
        let (compute_ms, exchange_ms, wait_ms, exchanged_bytes) = (done * 100, done * 10, done, done * 1_000);
        let epoch = done.saturating_sub(1) / 10;
        ProgressKind::Round { round: done, rounds: 100, epoch, loss, compute_ms, exchange_ms, wait_ms, exchanged_bytes }
    }

    /// Some rounds of 20 samples each, trained together.
    pub fn trained(generation: u32, rounds: Range<u64>, ranks: &[u32]) -> ProgressKind {
        let (from, to, samples) = (rounds.start, rounds.end, (rounds.end - rounds.start) * 20);
        ProgressKind::Trained { generation, from, to, epoch: from / 10, samples, ranks: ranks.to_vec() }
    }

    /// An epoch's end.
    pub fn epoch(epoch: u64, correct: u64, loss: f64) -> ProgressKind {
        ProgressKind::Epoch { epoch, epochs: 10, trained: 200, correct: Some(correct), samples: 50, loss }
    }

    /// A worker's totals.
    pub fn done() -> ProgressKind {
        ProgressKind::Done {
            peak_ram_mib: 64,
            cpu_ms: 5_500,
            compute_ms: 6_000,
            exchange_ms: 1_000,
            wait_ms: 500,
            sent_bytes: 2_048,
            received_bytes: 4_096,
            fetched_bytes: 1_048_576,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    #[test]
    fn reports_count_once_in_whatever_order_they_come() {
        let reports = [
            report(10, 0, 1, round(5, 2.0)),
            report(12, 1, 1, round(6, 1.0)),
            report(20, 0, 2, epoch(0, 25, 0.5)),
            report(30, 0, 3, epoch(1, 40, 0.4)),
        ];
        let record = Record::of(reports.iter().rev().chain(&reports).cloned());
        let epochs = record.epochs();
        let shown = |epoch: &Epoch| (epoch.epoch, epoch.accuracy, epoch.training_loss, epoch.took_ms, epoch.samples_per_s());
        assert_eq!(shown(&epochs[0]), (0, Some(0.5), Some(1.5), Some(10_000), Some(20.0)));
        assert_eq!(shown(&epochs[1]), (1, Some(0.8), None, Some(10_000), Some(20.0)));
        assert_eq!(record.by_time().len(), 4);
    }

    #[test]
    fn an_epoch_that_was_trained_again_counts_as_it_was_the_last_time() {
        let record = Record::of([report(20, 0, 1, epoch(0, 25, 0.5)), report(30, 3, 1, epoch(0, 26, 0.4))]);
        let epochs = record.epochs();
        assert_eq!((epochs.len(), epochs[0].correct, epochs[0].took_ms), (1, Some(26), None));
    }
}
