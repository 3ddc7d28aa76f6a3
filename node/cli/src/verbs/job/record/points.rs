use std::collections::{BTreeMap, BTreeSet};

use deepmarket_api::{Progress, ProgressKind};
use deepmarket_types::TimeMs;
use serde::Serialize;

use super::batches::Batches;

/// What one worker reported of its rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// When, by the worker's clock.
    pub time: TimeMs,
    /// The worker.
    pub rank: u32,
    /// Rounds done.
    pub round: u64,
    /// Rounds in all.
    pub rounds: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Mean training loss since the worker's report before.
    pub loss: f64,
    /// Samples that all workers together trained in a second since the worker's report before.
    pub samples_per_s: Option<f64>,
    /// Since the worker began: time spent computing, in milliseconds.
    pub compute_ms: u64,
    /// Time spent sending and receiving updates.
    pub exchange_ms: u64,
    /// Time spent waiting for other workers.
    pub wait_ms: u64,
    /// Bytes sent to and received from other workers.
    pub exchanged_bytes: u64,
    /// The job went back to a checkpoint before this round: it was trained again.
    pub replaced: bool,
}

/// All reports of rounds, by round and then by time.
pub(super) fn of(reports: &BTreeMap<(u32, u64), Progress>, batches: &Batches) -> Vec<Point> {
    let mut points: Vec<Point> = reports.values().filter_map(|report| point(report, batches)).collect();
    // A newcomer that had no sample yet has no loss to tell.
    let mut has_loss = BTreeSet::new();
    points.retain(|point| (point.loss != 0.0 && has_loss.insert(point.rank)) || has_loss.contains(&point.rank));
    // By rank and number: a worker that reports fewer rounds than before was set back.
    let mut least: BTreeMap<u32, u64> = BTreeMap::new();
    for point in points.iter_mut().rev() {
        let least = least.entry(point.rank).or_insert(u64::MAX);
        point.replaced |= point.round >= *least;
        *least = point.round.min(*least);
    }
    let mut before: BTreeMap<u32, (u64, TimeMs)> = BTreeMap::new();
    for point in points.iter_mut().filter(|point| !point.replaced) {
        let now = (point.round, point.time);
        let Some((round, time)) = before.insert(point.rank, now) else { continue };
        let (rounds, ms) = (point.round.saturating_sub(round), point.time.since(time));
        let samples = batches.samples_per_round(point.round.saturating_sub(1));
        point.samples_per_s = samples.filter(|_| ms > 0).map(|samples| rounds as f64 * samples * 1000.0 / ms as f64);
    }
    points.sort_by_key(|point| (point.round, point.time, point.rank));
    points
}

fn point(report: &Progress, batches: &Batches) -> Option<Point> {
    let ProgressKind::Round { round, rounds, epoch, loss, compute_ms, exchange_ms, wait_ms, exchanged_bytes } = report.kind
    else {
        return None;
    };
    // Who counts for the last of these rounds didn't train it with this worker: it was trained again.
    let last = round.saturating_sub(1);
    let by_others = batches.counted().find(|batch| (batch.from..batch.to).contains(&last));
    let replaced = by_others.is_some_and(|batch| !batch.ranks.contains(&report.rank));
    Some(Point {
        time: report.time,
        rank: report.rank,
        round,
        rounds,
        epoch,
        loss,
        samples_per_s: None,
        compute_ms,
        exchange_ms,
        wait_ms,
        exchanged_bytes,
        replaced,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Record,
        testing::{report, round, trained},
    };

    #[test]
    fn the_speed_is_of_all_workers_together_between_two_reports_of_one() {
        let record = Record::of([
            report(10, 0, 1, round(2, 2.0)),
            report(11, 1, 1, round(3, 2.0)),
            report(12, 0, 2, round(6, 1.0)),
            report(12, 0, 3, trained(1, 0..6, &[0, 1])),
        ]);
        let speeds: Vec<_> = record.points().iter().map(|point| (point.round, point.samples_per_s)).collect();
        assert_eq!(speeds, [(2, None), (3, None), (6, Some(40.0))]);
    }

    #[test]
    fn a_newcomer_without_samples_yet_has_no_loss() {
        let record =
            Record::of([report(10, 1, 1, round(5, 0.0)), report(11, 1, 2, round(6, 0.5)), report(12, 1, 3, round(7, 0.0))]);
        assert_eq!(record.points().iter().map(|point| point.loss).collect::<Vec<_>>(), [0.5, 0.0]);
    }

    #[test]
    fn rounds_that_were_trained_again_are_marked_whoever_trained_them_again() {
        let record = Record::of([
            report(10, 0, 1, round(5, 2.0)),
            report(11, 0, 2, round(8, 1.5)),
            report(11, 1, 1, round(8, 1.5)),
            report(12, 0, 3, trained(1, 0..8, &[0, 1])),
            // All are lost; worker 0 goes on from the checkpoint of round 6, together with a new one.
            report(20, 0, 4, round(7, 1.7)),
            report(21, 2, 1, round(9, 1.4)),
            report(22, 2, 2, trained(3, 6..9, &[0, 2])),
            // Worker 3 was lost with all that it had not told.
            report(12, 3, 1, round(7, 1.6)),
        ]);
        let kept: Vec<(u32, u64)> = record.points().iter().filter(|p| !p.replaced).map(|p| (p.rank, p.round)).collect();
        assert_eq!(kept, [(0, 5), (0, 7), (2, 9)]);
        assert_eq!(record.points().len(), 6);
    }
}
