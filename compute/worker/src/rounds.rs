//! The rounds of one lease: compute, average, apply, compare; evaluate at the end of each epoch, keep a model now and then.
//!
//! ```text
//! trainer   Round r ──▶ Apply ─▶ Round r+1 ──▶ Apply ─▶ …
//! ranks          average ▲  └ hashes of r ┘ average ▲      compared while the next round is computed
//! ```

use std::time::{Duration, Instant};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_api::ProgressKind;
use deepmarket_job::Schedule;
use deepmarket_net::{Group, NetError};
use deepmarket_types::{FailureReason, Hash, decode, encode};

use crate::{
    checkpoints::{self, Checkpoints},
    commitments::{Committer, MountainRange},
    error::LeaseFailure,
    progress::Reporter,
    receipts::{Receipts, Tally},
    trainer::{EvaluationSums, TrainerProcess, Update},
};

/// The shortest time between two reports of rounds.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The tag under which ranks compare their initial parameters; hashes of round r go under 2r, evaluations under 2r + 1.
const BEFORE_THE_FIRST: u64 = u64::MAX;

/// What a lease did and what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub tally: Tally,
    pub peak_ram_mib: u64,
    pub compute: Duration,
    pub exchange: Duration,
    pub wait: Duration,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub fetched_bytes: u64,
}

/// Everything that the rounds need.
pub(crate) struct Rounds<'a> {
    pub trainer: &'a mut TrainerProcess,
    pub group: &'a mut Group,
    pub schedule: Schedule,
    pub epochs: u64,
    /// Has this rank got validation shards?
    pub evaluates: bool,
    pub reporter: &'a Reporter,
    pub receipts: &'a Receipts,
    /// Where models are stored on the way, and after how many rounds each; 0 for never.
    pub checkpoints: (&'a Checkpoints, u32),
    pub committer: Committer,
}

impl Rounds<'_> {
    /// Runs all rounds. `parameters` is the hash of the initial ones.
    pub async fn run(mut self, parameters: Hash, mut totals: Totals) -> Result<Totals, LeaseFailure> {
        compare(self.group, BEFORE_THE_FIRST, parameters).await?;
        let mut commitments = MountainRange::default();
        let mut meter = Meter::new(self.schedule);
        let mut next = None;
        for round in 0..self.schedule.rounds {
            let Update { mut values, samples, loss_sum, cpu_ms, commitment, peak_ram_mib } = match next.take() {
                Some(update) => update,
                None => timed(&mut totals.compute, self.trainer.round(round)).await?,
            };
            if !loss_sum.is_finite() {
                return Err(LeaseFailure::new(FailureReason::Diverged, format!("the loss of round {round} is not finite")));
            }
            let exchange = self.group.average(round, &mut values, samples).await?;
            totals.wait += exchange.waited;
            totals.exchange += exchange.exchanged;
            totals.sent_bytes += exchange.sent;
            totals.received_bytes += exchange.received;
            let parameters = timed(&mut totals.compute, self.trainer.apply(&values)).await?;

            commitments.push(self.committer.commit(round, &commitment));
            totals.peak_ram_mib = peak_ram_mib;
            let tally = &mut totals.tally;
            tally.rounds = round + 1;
            tally.samples += samples;
            tally.cpu_ms += cpu_ms;
            tally.parameters = parameters;
            tally.commitments = commitments.root();
            if samples > 0 {
                tally.loss_micro = micro(loss_sum / samples as f64);
            }
            self.receipts.record(*tally);
            meter.add(loss_sum, samples);

            let ended_epoch = self.schedule.epoch_ended_by(round);
            let evaluates = ended_epoch.is_some() && self.evaluates;
            let last = round + 1 == self.schedule.rounds;
            let (checkpoints, every_rounds) = self.checkpoints;
            let keeps = checkpoints::is_due(every_rounds, round + 1, self.schedule.rounds);
            let (trainer, mut computing) = (&mut *self.trainer, Duration::ZERO);
            let go_on = timed(&mut computing, async {
                let sums = if evaluates { trainer.evaluate().await? } else { EvaluationSums::default() };
                if keeps {
                    checkpoints.offer(trainer.export().await?);
                }
                let update = if last { None } else { Some(trainer.round(round + 1).await?) };
                Ok::<_, LeaseFailure>((sums, update))
            });
            let began = Instant::now();
            let ((), (sums, update)) = futures::try_join!(compare(self.group, 2 * round, parameters), go_on)?;
            totals.compute += computing;
            totals.wait += began.elapsed().saturating_sub(computing);
            next = update;
            if let Some(epoch) = ended_epoch {
                self.report_epoch(round, epoch, sums).await?;
            }
            meter.report(self.reporter, round, &totals, ended_epoch.is_some());
        }
        Ok(totals)
    }

    /// Adds up all ranks' evaluations; rank 0 tells.
    async fn report_epoch(&mut self, round: u64, epoch: u64, own: EvaluationSums) -> Result<(), LeaseFailure> {
        let notes = self.group.gather(2 * round + 1, &EvaluationNote::from(own).encoded()).await?;
        let parts: Vec<EvaluationSums> = notes
            .iter()
            .zip(0..)
            .map(|(note, rank)| EvaluationNote::decoded(note, rank).map(EvaluationSums::from))
            .collect::<Result<_, _>>()?;
        let EvaluationSums { samples, correct, loss_sum } = add_up(&parts);
        if self.group.rank() == 0 && samples > 0 {
            let loss = loss_sum / samples as f64;
            self.reporter.report(ProgressKind::Epoch { epoch, epochs: self.epochs, correct, samples, loss });
        }
        Ok(())
    }
}

async fn timed<T>(sum: &mut Duration, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = work.await;
    *sum += began.elapsed();
    result
}

/// All ranks hold the same parameters, or nobody goes on.
async fn compare(group: &mut Group, tag: u64, parameters: Hash) -> Result<(), LeaseFailure> {
    let hashes = group.gather(tag, &parameters.0).await?;
    let differing: Vec<String> =
        hashes.iter().enumerate().filter(|(_, hash)| **hash != parameters.0).map(|(rank, _)| rank.to_string()).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let after = if tag == BEFORE_THE_FIRST { "before the first round".into() } else { format!("after round {}", tag / 2) };
    let what = format!("ranks {} hold other parameters than rank {} {after}", differing.join(", "), group.rank());
    Err(LeaseFailure::new(FailureReason::Disagreement, what))
}

/// A mean loss in millionths, saturating.
fn micro(loss: f64) -> u64 {
    (loss * 1e6).clamp(0.0, u64::MAX as f64) as u64
}

/// What ranks tell each other after an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
struct EvaluationNote {
    samples: u64,
    correct: Option<u64>,
    /// Bits of an `f64`.
    loss_sum: u64,
}

impl EvaluationNote {
    fn encoded(&self) -> Vec<u8> {
        encode(self)
    }

    fn decoded(bytes: &[u8], rank: u32) -> Result<EvaluationNote, NetError> {
        decode(bytes).map_err(|e| NetError::OutOfStep { rank, what: format!("its evaluation can't be read: {e}") })
    }
}

impl From<EvaluationSums> for EvaluationNote {
    fn from(sums: EvaluationSums) -> Self {
        EvaluationNote { samples: sums.samples, correct: sums.correct, loss_sum: sums.loss_sum.to_bits() }
    }
}

impl From<EvaluationNote> for EvaluationSums {
    fn from(note: EvaluationNote) -> Self {
        EvaluationSums { samples: note.samples, correct: note.correct, loss_sum: f64::from_bits(note.loss_sum) }
    }
}

/// Sums in rank order. Right answers are known where all ranks that have samples know theirs.
fn add_up(parts: &[EvaluationSums]) -> EvaluationSums {
    let mut sum = EvaluationSums { correct: Some(0), ..EvaluationSums::default() };
    for part in parts.iter().filter(|part| part.samples > 0) {
        sum.samples = sum.samples.saturating_add(part.samples);
        sum.loss_sum += part.loss_sum;
        sum.correct = sum.correct.zip(part.correct).map(|(a, b)| a.saturating_add(b));
    }
    sum
}

/// Reports rounds about once a second.
struct Meter {
    schedule: Schedule,
    reported: Option<Instant>,
    loss_sum: f64,
    samples: u64,
    last_loss: f64,
}

impl Meter {
    fn new(schedule: Schedule) -> Meter {
        Meter { schedule, reported: None, loss_sum: 0.0, samples: 0, last_loss: 0.0 }
    }

    fn add(&mut self, loss_sum: f64, samples: u64) {
        self.loss_sum += loss_sum;
        self.samples += samples;
    }

    fn report(&mut self, reporter: &Reporter, round: u64, totals: &Totals, at_once: bool) {
        if !at_once && self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        if self.samples > 0 {
            self.last_loss = self.loss_sum / self.samples as f64;
        }
        (self.loss_sum, self.samples) = (0.0, 0);
        reporter.report(ProgressKind::Round {
            round: round + 1,
            rounds: self.schedule.rounds,
            epoch: self.schedule.epoch_of_round(round),
            loss: self.last_loss,
            compute_ms: totals.compute.as_millis() as u64,
            exchange_ms: totals.exchange.as_millis() as u64,
            wait_ms: totals.wait.as_millis() as u64,
            exchanged_bytes: totals.sent_bytes + totals.received_bytes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_add_up_over_ranks_and_survive_the_way() {
        let part = |samples, correct, loss_sum| EvaluationSums { samples, correct, loss_sum };
        let sum = add_up(&[part(10, Some(9), 1.5), part(0, None, 0.0), part(5, Some(1), 0.25)]);
        assert_eq!(sum, part(15, Some(10), 1.75));
        assert_eq!(add_up(&[part(10, Some(9), 1.0), part(5, None, 1.0)]).correct, None);
        assert_eq!(add_up(&[]).samples, 0);
        let note = EvaluationNote::from(sum);
        assert_eq!(EvaluationSums::from(EvaluationNote::decoded(&note.encoded(), 0).unwrap()), sum);
        assert!(matches!(EvaluationNote::decoded(b"?", 3), Err(NetError::OutOfStep { rank: 3, .. })));
    }

    #[test]
    fn a_loss_in_millionths_saturates() {
        assert_eq!(micro(0.25), 250_000);
        assert_eq!(micro(-1.0), 0);
        assert_eq!(micro(f64::INFINITY), u64::MAX);
    }
}
