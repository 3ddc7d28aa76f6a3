use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use deepmarket_api::{ApiError, Client, JobEvent, JobView, Progress, ProgressKind};
use deepmarket_types::{Event, JobId, JobState};
use deepmarket_wallet::jobs;
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    error::Outcome,
    output::{self, Output},
    verbs::job::record::{Record, Story},
};

/// Shows a job's progress on standard error until it is closed; gives the job as it ended.
pub async fn until_closed(client: &Client, job: JobId, output: Output) -> Outcome<JobView> {
    listen(client, job, output, &mut Record::default()).await?;
    jobs::fetch(client, job).await
}

/// Like [`until_closed`], and keeps what was heard.
pub async fn listen(client: &Client, job: JobId, output: Output, record: &mut Record) -> Outcome {
    let mut board = Board::new(output);
    let mut story = Story::default();
    let mut state = None;
    let mut sight = Sight::default();
    let mut stream = client.progress_stream(job);
    while let Some(event) = stream.next().await {
        match event {
            Ok(JobEvent::State { state: new, status }) => {
                if state != Some(new) {
                    board.say(format!("{job} is {status}"));
                }
                state = Some(new);
            }
            Ok(JobEvent::Progress { entry, .. }) => {
                sight.is_back();
                record.add(entry.clone());
                board.show(&entry);
                board.sum_up(record, &story);
            }
            Ok(JobEvent::Chain { entry }) => {
                story.tell(&entry.event).into_iter().for_each(|line| board.say(line));
                if let Event::Lease { rank, state, .. } = &entry.event
                    && *state != deepmarket_types::LeaseState::Active
                {
                    board.end(*rank);
                }
            }
            Ok(JobEvent::End) => break,
            Err(error) => sight.fails(job, error, |words| board.say(words))?,
        }
    }
    board.clear();
    Ok(())
}

/// What a follower says of a stream that fails: once, until something comes again.
#[derive(Default)]
pub struct Sight {
    is_lost: bool,
}

impl Sight {
    /// The stream failed. It tries again by itself, or the error is the end of it.
    pub fn fails(&mut self, job: JobId, error: ApiError, say: impl FnOnce(String)) -> Outcome {
        if !error.retryable() {
            return Err(error.into());
        }
        if !std::mem::replace(&mut self.is_lost, true) {
            say(format!("lost sight of {job}, the job itself goes on; trying again ({error})"));
        }
        Ok(())
    }

    /// Something came.
    pub fn is_back(&mut self) {
        self.is_lost = false;
    }
}

/// How often the line that sums up changes at the most.
const SUM_UP_EVERY: Duration = Duration::from_millis(400);
/// Blocks of the small picture in it.
const BLOCKS: usize = 24;

/// Progress bars, one for each worker, and a line below them that sums up. Nothing of it is drawn where standard error is no
/// terminal; lines for people are written there too.
struct Board {
    output: Output,
    bars: MultiProgress,
    workers: BTreeMap<u32, ProgressBar>,
    summary: ProgressBar,
    summed_up: Option<Instant>,
}

impl Board {
    fn new(output: Output) -> Board {
        let bars = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg}").expect("a fixed template");
        let summary = bars.add(ProgressBar::new(0).with_style(style));
        Board { output, bars, workers: BTreeMap::new(), summary, summed_up: None }
    }

    fn say(&self, text: String) {
        self.bars.suspend(|| self.output.say(text));
    }

    fn bar(&mut self, rank: u32) -> &ProgressBar {
        let (bars, summary) = (&self.bars, &self.summary);
        self.workers.entry(rank).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:10} {bar:32} {pos:>6}/{len:6} {msg}").expect("a fixed template");
            bars.insert_before(summary, ProgressBar::new(0).with_style(style).with_prefix(format!("worker {rank}")))
        })
    }

    fn show(&mut self, entry: &Progress) {
        match &entry.kind {
            ProgressKind::Fetching { done_bytes, total_bytes } => {
                let message = format!("fetching data: {} of {}", output::bytes(*done_bytes), output::bytes(*total_bytes));
                self.bar(entry.rank).set_message(message);
            }
            ProgressKind::Round { round, rounds, epoch, loss, .. } => {
                let bar = self.bar(entry.rank);
                bar.set_length(*rounds);
                bar.set_position(*round);
                bar.set_message(format!("epoch {} loss {loss:.4}", epoch + 1));
            }
            ProgressKind::Epoch { .. } | ProgressKind::Log { .. } => self.say(line(entry)),
            ProgressKind::Trained { .. } | ProgressKind::Done { .. } => {}
        }
    }

    /// How the job as a whole does.
    fn sum_up(&mut self, record: &Record, story: &Story) {
        if self.summary.is_hidden() || self.summed_up.is_some_and(|at| at.elapsed() < SUM_UP_EVERY) {
            return;
        }
        self.summed_up = Some(Instant::now());
        let points: Vec<_> = record.points().into_iter().filter(|point| !point.replaced).collect();
        let Some(last) = points.last() else { return };
        let losses: Vec<f64> = points.iter().map(|point| point.loss).collect();
        let mut parts = vec![format!("loss {:.4} {}", last.loss, self.output.canvas().sparkline(&losses, BLOCKS))];
        if let Some(epoch) = record.epochs().last() {
            parts.push(match epoch.accuracy {
                Some(accuracy) => {
                    format!("accuracy {:.2} % after epoch {} of {}", accuracy * 100.0, epoch.epoch + 1, epoch.epochs)
                }
                None => format!("validation loss {:.4} after epoch {} of {}", epoch.loss, epoch.epoch + 1, epoch.epochs),
            });
        }
        if let Some(speed) = points.iter().rev().find_map(|point| point.samples_per_s) {
            parts.push(format!("{speed:.0} samples/s"));
        }
        parts.push(format!("{} train", story.training().len()));
        self.summary.set_message(parts.join(" | "));
    }

    /// A worker ended: its bar goes.
    fn end(&mut self, rank: u32) {
        if let Some(bar) = self.workers.remove(&rank) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn clear(&self) {
        self.workers.values().for_each(ProgressBar::finish);
        self.summary.finish();
    }
}

/// One line of a job's log, with the time of day.
pub fn line(entry: &Progress) -> String {
    format!("{} worker {}: {}", &output::time(entry.time)[11..19], entry.rank, words(&entry.kind))
}

/// What a worker reported, in words.
pub fn words(kind: &ProgressKind) -> String {
    match kind {
        ProgressKind::Fetching { done_bytes, total_bytes } => {
            format!("fetched {} of {}", output::bytes(*done_bytes), output::bytes(*total_bytes))
        }
        ProgressKind::Round { round, rounds, epoch, loss, .. } => {
            format!("epoch {}, round {round} of {rounds}: loss {loss:.4}", epoch + 1)
        }
        ProgressKind::Trained { from, to, epoch, samples, ranks, .. } => {
            let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
            let (first, ranks) = (from + 1, ranks.join(", "));
            format!("epoch {}, rounds {first} to {to}: {samples} samples were trained by workers {ranks}", epoch + 1)
        }
        ProgressKind::Epoch { epoch, epochs, trained, correct, samples, loss } => {
            let accuracy = correct.map(|c| format!(" accuracy {:.2} % ({c} of {samples}),", percent(c, *samples)));
            let accuracy = accuracy.unwrap_or_default();
            format!("epoch {} of {epochs} done, {trained} samples:{accuracy} validation loss {loss:.4}", epoch + 1)
        }
        ProgressKind::Log { line } => line.clone(),
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
            format!(
                "done: computing {}, exchanging {}, waiting {}, CPU {}, at most {peak_ram_mib} MiB, sent {}, received {}, data {}",
                output::duration(*compute_ms),
                output::duration(*exchange_ms),
                output::duration(*wait_ms),
                output::duration(*cpu_ms),
                output::bytes(*sent_bytes),
                output::bytes(*received_bytes),
                output::bytes(*fetched_bytes)
            )
        }
    }
}

/// `part` of `whole` in percent.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Did the job end as its owner wished?
pub fn finished(job: &JobView) -> bool {
    matches!(job.state, JobState::Finished(_))
}
