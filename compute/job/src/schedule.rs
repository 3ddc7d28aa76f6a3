use std::ops::Range;

use crate::{Decimal, JobSpec, LearningRate, MAX_EPOCHS, Mode, Training};

/// The most samples of a split.
pub(crate) const MAX_SAMPLES: u64 = 1 << 40;

/// How a job's samples are cut into steps, rounds and epochs. The same on every rank: it follows from the spec, the size of
/// the training split and the number of ranks.
///
/// - `sync`: all ranks take one step together and share its samples; a round is one step.
/// - `local`: each rank takes its own steps; a round is [`Schedule::steps_per_round`] of them and never crosses an epoch's end.
///
/// In step *k* of an epoch of *S* steps, a rank that holds *n* samples uses the positions *⌊n·k/S⌋ .. ⌊n·(k+1)/S⌋* of its own
/// permutation of that epoch: each sample is used exactly once an epoch, however unevenly the shards lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Steps of one epoch; at least 1.
    pub steps_per_epoch: u64,
    /// Steps of the job.
    pub steps: u64,
    /// Steps of one round; an epoch's last round may have fewer.
    pub steps_per_round: u64,
    /// Rounds of the job.
    pub rounds: u64,
}

impl Schedule {
    /// The schedule of a job over `train_samples` samples on `world` ranks (0 counts as 1).
    pub fn new(spec: &JobSpec, train_samples: u64, world: u32) -> Schedule {
        let training = &spec.training;
        // Clamped, so that no product below can overflow: 2^40 · 10,000 epochs fit in 64 bits.
        let train_samples = train_samples.min(MAX_SAMPLES);
        let (batch, epochs) = (u64::from(training.batch.max(1)), u64::from(training.epochs.min(MAX_EPOCHS)));
        let (per_step, steps_per_round) = match training.mode {
            Mode::Sync => (batch, 1),
            Mode::Local { steps } | Mode::Async { staleness: steps } => {
                (batch.saturating_mul(world.max(1).into()), u64::from(steps.max(1)))
            }
        };
        let steps_per_epoch = train_samples.div_ceil(per_step).max(1);
        Schedule {
            steps_per_epoch,
            steps: steps_per_epoch * epochs,
            steps_per_round,
            rounds: steps_per_epoch.div_ceil(steps_per_round) * epochs,
        }
    }

    /// The rounds of one epoch.
    pub fn rounds_per_epoch(&self) -> u64 {
        self.steps_per_epoch.div_ceil(self.steps_per_round)
    }

    /// The steps of a round, counted over the whole job; empty after the last round.
    pub fn steps_of_round(&self, round: u64) -> Range<u64> {
        if round >= self.rounds {
            return self.steps..self.steps;
        }
        let (epoch, round_of_epoch) = (round / self.rounds_per_epoch(), round % self.rounds_per_epoch());
        let first = round_of_epoch * self.steps_per_round;
        let end = first.saturating_add(self.steps_per_round).min(self.steps_per_epoch);
        epoch * self.steps_per_epoch + first..epoch * self.steps_per_epoch + end
    }

    /// The epoch that a step belongs to.
    pub fn epoch_of_step(&self, step: u64) -> u64 {
        step / self.steps_per_epoch
    }

    /// The epoch that a round belongs to.
    pub fn epoch_of_round(&self, round: u64) -> u64 {
        round / self.rounds_per_epoch()
    }

    /// The positions in a rank's permutation that a step uses; may be empty where a rank holds fewer samples than an epoch
    /// has steps.
    pub fn batch_of(&self, step: u64, own_samples: u64) -> Range<u64> {
        let position = |k: u64| (u128::from(own_samples) * u128::from(k) / u128::from(self.steps_per_epoch)) as u64;
        let k = step % self.steps_per_epoch;
        position(k)..position(k + 1)
    }

    /// The epoch that ends with this round, if one does.
    pub fn epoch_ended_by(&self, round: u64) -> Option<u64> {
        ((round + 1).is_multiple_of(self.rounds_per_epoch()) && round < self.rounds).then(|| self.epoch_of_round(round))
    }

    /// The learning rate of a step.
    pub fn learning_rate(&self, training: &Training, step: u64) -> Decimal {
        let lr = training.optimizer.lr();
        let warmup = match training.schedule {
            LearningRate::Constant { warmup_steps }
            | LearningRate::Step { warmup_steps, .. }
            | LearningRate::Cosine { warmup_steps, .. } => u64::from(warmup_steps),
        };
        if step < warmup {
            return lr.scaled(step + 1, warmup);
        }
        match training.schedule {
            LearningRate::Constant { .. } => lr,
            LearningRate::Step { every_epochs, factor, .. } => {
                let changes = self.epoch_of_step(step) / u64::from(every_epochs.max(1));
                (0..changes).fold(lr, |lr, _| lr.times(factor))
            }
            LearningRate::Cosine { final_lr, .. } => {
                let (done, all) = (step - warmup, self.steps.saturating_sub(warmup).max(1));
                let range = lr.nanos().saturating_sub(final_lr.nanos());
                let share = Decimal::from_nanos((Decimal::ONE.nanos() + cosine(done.min(all), all).nanos()) / 2);
                Decimal::from_nanos(final_lr.nanos() + Decimal::from_nanos(range).times(share).nanos())
            }
        }
    }
}

/// cos(π · `part` / `whole`) for `part` ≤ `whole`, by its power series in integers of 1e-15: the same on every machine,
/// which a float's cosine isn't.
fn cosine(part: u64, whole: u64) -> Decimal {
    const ONE: i128 = 1_000_000_000_000_000;
    const PI: i128 = 3_141_592_653_589_793;
    // cos(π - x) = -cos(x): the series is used up to π/2 only, where twelve terms are exact to 1e-15.
    let mirrored = u128::from(part) * 2 > u128::from(whole);
    let part = if mirrored { whole - part } else { part };
    let x = PI * i128::from(part) / i128::from(whole.max(1));
    let square = x * x / ONE;
    let (mut term, mut sum) = (ONE, ONE);
    for n in 1..=12 {
        term = -term * square / ONE / ((2 * n - 1) * (2 * n));
        sum += term;
    }
    let sum = if mirrored { -sum } else { sum };
    Decimal::from_nanos((sum / 1_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{permutation, spec_for_tests};

    fn spec(batch: u32, epochs: u32, mode: Mode) -> JobSpec {
        let mut spec = spec_for_tests();
        (spec.training.batch, spec.training.epochs, spec.training.mode) = (batch, epochs, mode);
        spec
    }

    proptest! {
        #[test]
        fn each_sample_is_used_exactly_once_an_epoch_whatever_the_world_and_the_shards(
            ranks in proptest::collection::vec(0_u32..300, 1..7),
            batch in 1_u32..200,
            steps in 1_u32..20,
            local: bool,
        ) {
            let samples: u64 = ranks.iter().map(|n| u64::from(*n)).sum();
            prop_assume!(samples > 0);
            let mode = if local { Mode::Local { steps } } else { Mode::Sync };
            let schedule = Schedule::new(&spec(batch, 2, mode), samples, ranks.len() as u32);
            for (rank, own) in ranks.iter().enumerate() {
                for epoch in 0..2 {
                    let order = permutation(&deepmarket_types::Hash::default(), rank as u32, epoch, *own);
                    let mut used = vec![0; *own as usize];
                    for round in 0..schedule.rounds {
                        for step in schedule.steps_of_round(round).filter(|step| schedule.epoch_of_step(*step) == epoch) {
                            for position in schedule.batch_of(step, u64::from(*own)) {
                                used[order[position as usize] as usize] += 1;
                            }
                        }
                    }
                    prop_assert!(used.iter().all(|times| *times == 1));
                }
            }
        }

        #[test]
        fn rounds_cover_all_steps_in_order_and_never_cross_an_epochs_end(
            samples in 1_u64..5000, world in 1_u32..9, batch in 1_u32..300, epochs in 1_u32..5, steps in 1_u32..70, local: bool,
        ) {
            let mode = if local { Mode::Local { steps } } else { Mode::Sync };
            let schedule = Schedule::new(&spec(batch, epochs, mode), samples, world);
            let mut next = 0;
            let mut ended = Vec::new();
            for round in 0..schedule.rounds {
                let range = schedule.steps_of_round(round);
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty());
                prop_assert_eq!(schedule.epoch_of_step(range.start), schedule.epoch_of_step(range.end - 1));
                prop_assert_eq!(schedule.epoch_of_step(range.start), schedule.epoch_of_round(round));
                next = range.end;
                if let Some(epoch) = schedule.epoch_ended_by(round) {
                    prop_assert_eq!(next % schedule.steps_per_epoch, 0);
                    ended.push(epoch);
                }
            }
            prop_assert_eq!(next, schedule.steps);
            prop_assert_eq!(ended, (0..u64::from(epochs)).collect::<Vec<_>>());
            prop_assert!(schedule.steps_of_round(schedule.rounds).is_empty());
            prop_assert_eq!(schedule.epoch_ended_by(schedule.rounds), None);
        }

        #[test]
        fn the_integer_cosine_is_the_cosine(part in 0_u64..=1_000_000) {
            let expected = (std::f64::consts::PI * part as f64 / 1e6).cos();
            prop_assert!((cosine(part, 1_000_000).nanos() as f64 / 1e9 - expected).abs() < 3e-9);
        }

        #[test]
        fn no_schedule_overflows(samples: u64, world: u32, batch: u32, epochs: u32, steps: u32, round: u64, own: u64) {
            let schedule = Schedule::new(&spec(batch, epochs, Mode::Local { steps }), samples, world);
            let steps = schedule.steps_of_round(round.min(u64::MAX - 1));
            prop_assert!(steps.start <= steps.end);
            let batch = schedule.batch_of(round, own);
            prop_assert!(batch.end <= own);
        }
    }

    #[test]
    fn learning_rates_warm_up_then_follow_their_curve() {
        let mut spec = spec(10, 10, Mode::Sync);
        let lr = spec.training.optimizer.lr();
        let schedule = Schedule::new(&spec, 100, 1);
        assert_eq!(schedule.steps, 100);
        spec.training.schedule = LearningRate::Constant { warmup_steps: 4 };
        let rate = |spec: &JobSpec, step| schedule.learning_rate(&spec.training, step);
        assert_eq!([0, 1, 3, 4, 99].map(|step| rate(&spec, step)), [lr.scaled(1, 4), lr.scaled(1, 2), lr, lr, lr]);
        spec.training.schedule =
            LearningRate::Step { every_epochs: 2, factor: Decimal::from_nanos(500_000_000), warmup_steps: 0 };
        assert_eq!([0, 19, 20, 40].map(|step| rate(&spec, step)), [lr, lr, lr.scaled(1, 2), lr.scaled(1, 4)]);
        spec.training.schedule = LearningRate::Cosine { final_lr: Decimal::ZERO, warmup_steps: 0 };
        assert_eq!([0, 50, 100].map(|step| rate(&spec, step)), [lr, lr.scaled(1, 2), Decimal::ZERO]);
        assert!(rate(&spec, 99) > Decimal::ZERO && rate(&spec, 99) < lr.scaled(1, 1000));
    }

    #[test]
    fn sync_shares_a_steps_samples_and_local_does_not() {
        let sync = Schedule::new(&spec(64, 5, Mode::Sync), 60_000, 3);
        assert_eq!((sync.steps_per_epoch, sync.rounds), (938, 4690));
        let local = Schedule::new(&spec(64, 5, Mode::Local { steps: 64 }), 60_000, 3);
        assert_eq!((local.steps_per_epoch, local.rounds_per_epoch(), local.rounds), (313, 5, 25));
        assert_eq!(local.steps_of_round(4), 256..313);
        assert_eq!(local.steps_of_round(5), 313..377);
    }
}
