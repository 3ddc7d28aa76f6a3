use std::collections::BTreeMap;

use deepmarket_api::{Client, JobEvent, JobView, Progress, ProgressKind};
use deepmarket_types::{JobId, JobState};
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    error::Outcome,
    output::{self, Output},
    verbs::job,
};

/// What was heard of a job while it was followed.
#[derive(Default)]
pub struct Heard {
    /// Of each epoch: correct answers, samples, mean loss.
    pub epochs: BTreeMap<u64, (Option<u64>, u64, f64)>,
    /// Of each rank: its totals.
    pub done: BTreeMap<u32, ProgressKind>,
}

/// Shows a job's progress on standard error until it is closed; gives the job as it ended.
pub async fn until_closed(client: &Client, job: JobId, output: Output) -> Outcome<JobView> {
    let mut heard = Heard::default();
    listen(client, job, output, &mut heard).await?;
    job::fetch(client, job).await
}

/// Like [`until_closed`], and keeps what was heard.
pub async fn listen(client: &Client, job: JobId, output: Output, heard: &mut Heard) -> Outcome {
    let mut board = Board::default();
    let mut state = None;
    let mut complained = false;
    let mut stream = client.progress_stream(job);
    while let Some(event) = stream.next().await {
        match event {
            Ok(JobEvent::State { state: new, status }) => {
                if state != Some(new) {
                    board.say(output, format!("{job} is {status}"));
                }
                state = Some(new);
            }
            Ok(JobEvent::Progress { entry, .. }) => {
                complained = false;
                board.show(output, &entry);
                match &entry.kind {
                    ProgressKind::Epoch { epoch, correct, samples, loss, .. } => {
                        heard.epochs.insert(*epoch, (*correct, *samples, *loss));
                    }
                    ProgressKind::Done { .. } => {
                        heard.done.insert(entry.rank, entry.kind);
                    }
                    _ => {}
                }
            }
            Ok(JobEvent::End) => break,
            Err(error) if error.retryable() => {
                if !complained {
                    board.say(output, format!("lost sight of {job}, the job itself goes on; trying again ({error})"));
                }
                complained = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    board.clear();
    Ok(())
}

/// Progress bars, one for each worker.
#[derive(Default)]
struct Board {
    bars: MultiProgress,
    workers: BTreeMap<u32, ProgressBar>,
}

impl Board {
    fn say(&self, output: Output, text: String) {
        self.bars.suspend(|| output.say(text));
    }

    fn bar(&mut self, rank: u32) -> &ProgressBar {
        self.workers.entry(rank).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:10} {bar:32} {pos:>6}/{len:6} {msg}").expect("a fixed template");
            self.bars.add(ProgressBar::new(0).with_style(style).with_prefix(format!("worker {rank}")))
        })
    }

    fn show(&mut self, output: Output, entry: &Progress) {
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
            ProgressKind::Epoch { .. } | ProgressKind::Log { .. } => self.say(output, line(entry)),
            ProgressKind::Done { .. } => {}
        }
    }

    fn clear(&self) {
        for bar in self.workers.values() {
            bar.finish();
        }
    }
}

/// One line of a job's log.
pub fn line(entry: &Progress) -> String {
    let text = match &entry.kind {
        ProgressKind::Fetching { done_bytes, total_bytes } => {
            format!("fetched {} of {}", output::bytes(*done_bytes), output::bytes(*total_bytes))
        }
        ProgressKind::Round { round, rounds, epoch, loss, .. } => {
            format!("epoch {}, round {round} of {rounds}: loss {loss:.4}", epoch + 1)
        }
        ProgressKind::Epoch { epoch, epochs, correct, samples, loss } => {
            let accuracy = correct.map(|c| format!("accuracy {:.2} % ({c} of {samples})", percent(c, *samples)));
            format!("epoch {} of {epochs} done: {} loss {loss:.4}", epoch + 1, accuracy.map_or(String::new(), |a| a + ","))
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
    };
    format!("{} worker {}: {text}", &output::time(entry.time)[11..19], entry.rank)
}

/// `part` of `whole` in percent.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Did the job end as its owner wished?
pub fn finished(job: &JobView) -> bool {
    matches!(job.state, JobState::Finished(_))
}
