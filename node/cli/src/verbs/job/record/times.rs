use std::collections::BTreeMap;

use deepmarket_api::{LeaseView, Progress, ProgressKind};
use deepmarket_types::TimeMs;
use deepmarket_wallet::words;
use serde::Serialize;

use crate::output;

/// Where one worker's time went, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerTimes {
    /// The worker.
    pub rank: u32,
    /// From its first report to its last one.
    pub span_ms: u64,
    /// Computing rounds and evaluations.
    pub compute_ms: u64,
    /// Sending and receiving updates.
    pub exchange_ms: u64,
    /// Waiting for other workers.
    pub wait_ms: u64,
    /// Fetching data before it began.
    pub fetch_ms: u64,
    /// What is left: starting the trainer, joining, storing checkpoints, and what it did after its last report of rounds.
    pub other_ms: u64,
    /// CPU time of its trainer, once it ended.
    pub cpu_ms: Option<u64>,
    /// Peak memory of its trainer in MiB, once it ended.
    pub peak_ram_mib: Option<u64>,
    /// Bytes sent to and received from other workers.
    pub exchanged_bytes: u64,
    /// Bytes of data fetched.
    pub fetched_bytes: u64,
    /// Did it report its totals at its end? Else these are those of its last report: it works yet, or was lost.
    pub complete: bool,
}

/// Of every worker that reported something.
pub(super) fn of(reports: &BTreeMap<(u32, u64), Progress>) -> Vec<WorkerTimes> {
    let mut workers: BTreeMap<u32, (TimeMs, WorkerTimes)> = BTreeMap::new();
    for report in reports.values() {
        let rank = report.rank;
        let (first, times) = workers.entry(rank).or_insert((report.time, WorkerTimes { rank, ..WorkerTimes::default() }));
        times.span_ms = report.time.since(*first).max(times.span_ms);
        match report.kind {
            ProgressKind::Fetching { done_bytes, .. } => {
                // Shards that it takes over later are fetched while it computes.
                if times.compute_ms == 0 {
                    times.fetch_ms = report.time.since(*first);
                }
                times.fetched_bytes = times.fetched_bytes.max(done_bytes);
            }
            ProgressKind::Round { compute_ms, exchange_ms, wait_ms, exchanged_bytes, .. } if !times.complete => {
                (times.compute_ms, times.exchange_ms, times.wait_ms) = (compute_ms, exchange_ms, wait_ms);
                times.exchanged_bytes = exchanged_bytes;
            }
            ProgressKind::Done {
                peak_ram_mib,
                cpu_ms,
                compute_ms,
                exchange_ms,
                wait_ms,
                sent_bytes,
                received_bytes,
                fetched_bytes,
            } => {
                (times.compute_ms, times.exchange_ms, times.wait_ms) = (compute_ms, exchange_ms, wait_ms);
                (times.cpu_ms, times.peak_ram_mib) = (Some(cpu_ms), Some(peak_ram_mib));
                (times.exchanged_bytes, times.fetched_bytes) = (sent_bytes + received_bytes, fetched_bytes);
                times.complete = true;
            }
            _ => {}
        }
    }
    let finish = |(_, mut times): (TimeMs, WorkerTimes)| {
        let known = times.compute_ms + times.exchange_ms + times.wait_ms + times.fetch_ms;
        times.other_ms = times.span_ms.saturating_sub(known);
        times
    };
    workers.into_values().map(finish).collect()
}

/// Where the time went, for people; a row for each worker that reported something, those that left included.
pub fn table(times: &[WorkerTimes], leases: &[LeaseView]) -> String {
    let rows = times.iter().map(|worker| {
        let lease = leases.iter().find(|lease| lease.rank == worker.rank);
        let state = lease.map_or("?".into(), |lease| words::lease_state(&lease.state));
        let all = worker.compute_ms + worker.exchange_ms + worker.wait_ms + worker.fetch_ms + worker.other_ms;
        let share = |ms: u64| match all {
            0 => output::duration(ms),
            _ => format!("{}, {:.0} %", output::duration(ms), 100.0 * ms as f64 / all as f64),
        };
        vec![
            worker.rank.to_string(),
            if worker.complete { state } else { format!("{state}; up to its last report") },
            share(worker.compute_ms),
            share(worker.exchange_ms),
            share(worker.wait_ms),
            share(worker.fetch_ms),
            share(worker.other_ms),
            worker.cpu_ms.map_or("?".into(), output::duration),
            output::bytes(worker.exchanged_bytes),
            worker.peak_ram_mib.map_or("?".into(), |mib| format!("{mib} MiB")),
        ]
    });
    let header =
        ["worker", "lease", "computing", "exchanging", "waiting", "fetching data", "other", "CPU", "exchanged", "peak memory"];
    output::table(&header, &[0, 2, 3, 4, 5, 6, 7, 8, 9], rows)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Record,
            testing::{done, report, round},
        },
        *,
    };

    #[test]
    fn a_workers_time_is_what_it_reported_at_its_end_and_else_what_it_reported_last() {
        let fetched = |done_bytes| ProgressKind::Fetching { done_bytes, total_bytes: 100 };
        let record = Record::of([
            report(0, 0, 1, ProgressKind::Log { line: "begins".into() }),
            report(1, 0, 2, fetched(10)),
            report(2, 0, 3, fetched(100)),
            report(5, 0, 4, round(20, 1.0)),
            report(6, 0, 6, fetched(100)),
            report(10, 0, 7, done()),
            report(3, 1, 1, fetched(50)),
            report(9, 1, 2, round(30, 1.0)),
        ]);
        let times = record.times();
        let whole = WorkerTimes {
            rank: 0,
            span_ms: 10_000,
            compute_ms: 6_000,
            exchange_ms: 1_000,
            wait_ms: 500,
            fetch_ms: 2_000,
            other_ms: 500,
            cpu_ms: Some(5_500),
            peak_ram_mib: Some(64),
            exchanged_bytes: 6_144,
            fetched_bytes: 1_048_576,
            complete: true,
        };
        assert_eq!(times[0], whole);
        let lost = &times[1];
        assert_eq!((lost.compute_ms, lost.exchange_ms, lost.wait_ms, lost.fetch_ms), (3_000, 300, 30, 0));
        assert_eq!((lost.other_ms, lost.exchanged_bytes, lost.complete), (2_670, 30_000, false));
        let text = table(&times, &[]);
        for part in ["6.0 s, 60 %", "2.0 s, 20 %", "64 MiB", "up to its last report"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
