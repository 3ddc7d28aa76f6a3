//! Metrics as comma-separated values, for spreadsheets and data frames: one table, a row for each report, in the order of time.
//! `what` says what a row is about; columns that don't belong to it are empty.

use deepmarket_api::{Progress, ProgressKind};

use super::{Epoch, Point, Record, batches::Fate};

/// The first line.
pub const HEADER: &str = "time_ms,what,worker,generation,round,epoch,loss,accuracy,correct,samples,samples_per_s,computing_ms,exchanging_ms,waiting_ms,exchanged_bytes,replaced";

/// All that is known, with the header.
pub fn whole(record: &Record) -> String {
    let mut rows: Vec<(u64, String)> = Vec::new();
    rows.extend(record.points().iter().map(|point| (point.time.0, of_point(point))));
    rows.extend(record.epochs().iter().map(|epoch| (epoch.time.0, of_epoch(epoch))));
    rows.sort_by_key(|(time, _)| *time);
    // Batches have no time of their own: several workers may have told of one.
    let batches = record.batches(&|_| None);
    let of_batches = batches.batches.iter().map(|batch| {
        let workers: Vec<String> = batch.ranks.iter().map(u32::to_string).collect();
        Row {
            what: "trained",
            worker: workers.join(" "),
            generation: batch.generation.to_string(),
            round: format!("{}-{}", batch.from + 1, batch.to),
            epoch: (batch.epoch + 1).to_string(),
            samples: batch.samples.to_string(),
            replaced: u8::from(batch.fate != Fate::Counted).to_string(),
            ..Row::default()
        }
        .line()
    });
    let lines: Vec<String> = rows.into_iter().map(|(_, line)| line).chain(of_batches).collect();
    std::iter::once(HEADER.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

/// A row of a single report, as it comes; none where it has no numbers to follow.
pub fn row(report: &Progress, record: &Record) -> Option<String> {
    match report.kind {
        ProgressKind::Round { round, .. } => {
            let points = record.points();
            let point = points.iter().find(|p| (p.rank, p.time, p.round) == (report.rank, report.time, round))?;
            Some(of_point(point))
        }
        ProgressKind::Epoch { epoch, .. } => record.epochs().iter().find(|e| e.epoch == epoch).map(of_epoch),
        _ => None,
    }
}

#[derive(Default)]
struct Row {
    time: String,
    what: &'static str,
    worker: String,
    generation: String,
    round: String,
    epoch: String,
    loss: String,
    accuracy: String,
    correct: String,
    samples: String,
    samples_per_s: String,
    times: [String; 3],
    exchanged_bytes: String,
    replaced: String,
}

impl Row {
    fn line(self) -> String {
        let Row { time, what, worker, generation, round, epoch, loss, accuracy, correct, samples, samples_per_s, .. } = self;
        let [computing, exchanging, waiting] = self.times;
        let what = what.to_owned();
        [
            time,
            what,
            worker,
            generation,
            round,
            epoch,
            loss,
            accuracy,
            correct,
            samples,
            samples_per_s,
            computing,
            exchanging,
            waiting,
            self.exchanged_bytes,
            self.replaced,
        ]
        .join(",")
    }
}

fn of_point(point: &Point) -> String {
    Row {
        time: point.time.0.to_string(),
        what: "round",
        worker: point.rank.to_string(),
        round: point.round.to_string(),
        epoch: (point.epoch + 1).to_string(),
        loss: point.loss.to_string(),
        samples_per_s: point.samples_per_s.map_or(String::new(), |speed| format!("{speed:.1}")),
        times: [point.compute_ms, point.exchange_ms, point.wait_ms].map(|ms| ms.to_string()),
        exchanged_bytes: point.exchanged_bytes.to_string(),
        replaced: u8::from(point.replaced).to_string(),
        ..Row::default()
    }
    .line()
}

fn of_epoch(epoch: &Epoch) -> String {
    Row {
        time: epoch.time.0.to_string(),
        what: "epoch",
        epoch: (epoch.epoch + 1).to_string(),
        loss: epoch.loss.to_string(),
        accuracy: epoch.accuracy.map_or(String::new(), |accuracy| accuracy.to_string()),
        correct: epoch.correct.map_or(String::new(), |correct| correct.to_string()),
        samples: epoch.trained.to_string(),
        samples_per_s: epoch.samples_per_s().map_or(String::new(), |speed| format!("{speed:.1}")),
        ..Row::default()
    }
    .line()
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{epoch, report, round, trained},
        *,
    };

    #[test]
    fn every_row_has_the_headers_columns() {
        let reports = [
            report(10, 0, 1, round(5, 2.5)),
            report(12, 0, 2, round(10, 1.5)),
            report(12, 0, 3, trained(1, 0..10, &[0, 1])),
            report(13, 1, 1, epoch(0, 25, 0.5)),
        ];
        let record = Record::of(reports.clone());
        let text = whole(&record);
        let expected = [
            HEADER,
            "10000,round,0,,5,1,2.5,,,,,500,50,5,5000,0",
            "12000,round,0,,10,1,1.5,,,,50.0,1000,100,10,10000,0",
            "13000,epoch,,,,1,0.5,0.5,25,200,66.7,,,,,",
            ",trained,0 1,1,1-10,1,,,,200,,,,,,0",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let columns = HEADER.split(',').count();
        assert!(text.lines().all(|line| line.split(',').count() == columns));
        assert_eq!(row(&reports[1], &record).as_deref(), Some(expected[2]));
        assert_eq!(row(&reports[2], &record), None);
    }
}
