use std::ops::Range;

use crate::{Decimal, JobSpec, LearningRate, MAX_EPOCHS, Mode, Training};

/// The most samples of a split.
pub(crate) const MAX_SAMPLES: u64 = 1 << 40;

/// How a job's samples are cut into steps, rounds and epochs. The same on every rank: it follows from the spec, the size of
/// the training split and the number of ranks with which the job began.
///
/// - `sync`, `async`: all ranks take one step together and share its samples; a round is one step.
/// - `local`: each rank takes its own steps; a round is [`Schedule::steps_per_round`] of them, for ranks of equal speed, and never
///   crosses an epoch's end.
///
/// Which samples a round uses doesn't depend on who computes it: of an epoch of *S* steps, the steps *a* to *b* use the positions
/// *⌊(n·a + φ)/S⌋ .. ⌊(n·b + φ)/S⌋* of a shard of *n* samples, in that shard's own permutation of the epoch; *φ* differs from shard
/// to shard, so that not all of them give one more in the same step. So each sample is used exactly once an epoch, however often
/// the shards change hands, as long as each round counts exactly once.
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
            Mode::Sync | Mode::Async { .. } => (batch, 1),
            Mode::Local { steps, .. } => (batch.saturating_mul(world.max(1).into()), u64::from(steps.max(1))),
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

    /// The positions in a shard's permutation that a round uses. `shard` is its index among the split's `shards`; it has `samples`.
    /// May be empty where it has fewer samples than an epoch has steps.
    pub fn slice(&self, round: u64, shard: u32, shards: u32, samples: u64) -> Range<u64> {
        let (steps, all) = (self.steps_of_round(round), u128::from(self.steps_per_epoch));
        let phase = all * u128::from(shard) / u128::from(shards.max(shard + 1));
        let position = |k: u64| ((u128::from(samples) * u128::from(k) + phase) / all) as u64;
        let first = steps.start % self.steps_per_epoch;
        position(first)..position(first + (steps.end - steps.start))
    }

    /// The rounds from which on an epoch counts: its first one.
    pub fn first_round_of(&self, epoch: u64) -> u64 {
        epoch * self.rounds_per_epoch()
    }

    /// The step whose learning rate holds for the `number`-th of `of` steps that a rank takes in a round: a faster machine has more
    /// samples, and takes more steps.
    pub fn step_of(&self, round: u64, number: u64, of: u64) -> u64 {
        let steps = self.steps_of_round(round);
        steps.start + (u128::from(steps.end - steps.start) * u128::from(number) / u128::from(of.max(1))) as u64
    }

    /// The epoch that ends with this round, if one does.
    pub fn epoch_ended_by(&self, round: u64) -> Option<u64> {
        (round < self.rounds && (round + 1).is_multiple_of(self.rounds_per_epoch())).then(|| self.epoch_of_round(round))
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
    use crate::{Outer, permutation, spec_for_tests};

    fn spec(batch: u32, epochs: u32, mode: Mode) -> JobSpec {
        let mut spec = spec_for_tests();
        (spec.training.batch, spec.training.epochs, spec.training.mode) = (batch, epochs, mode);
        spec
    }

    fn mode(local: bool, steps: u32) -> Mode {
        if local { Mode::Local { steps, outer: Outer::Average } } else { Mode::Sync }
    }

    proptest! {
        #[test]
        fn each_sample_is_used_exactly_once_an_epoch_whatever_the_world_and_the_shards(
            shards in proptest::collection::vec(1_u32..300, 1..9),
            world in 1_u32..7,
            batch in 1_u32..200,
            steps in 1_u32..20,
            local: bool,
        ) {
            let samples: u64 = shards.iter().map(|n| u64::from(*n)).sum();
            let schedule = Schedule::new(&spec(batch, 2, mode(local, steps)), samples, world);
            for (shard, own) in (0..).zip(&shards) {
                for epoch in 0..2 {
                    let order = permutation(&deepmarket_types::Hash::default(), shard, epoch, *own);
                    let mut used = vec![0; *own as usize];
                    for round in (0..schedule.rounds).filter(|round| schedule.epoch_of_round(*round) == epoch) {
                        for position in schedule.slice(round, shard, shards.len() as u32, u64::from(*own)) {
                            used[order[position as usize] as usize] += 1;
                        }
                    }
                    prop_assert!(used.iter().all(|times| *times == 1));
                }
            }
        }

        #[test]
        fn the_rounds_of_equal_shards_are_equally_large(shards in 1_u32..80, own in 1_u64..300, batch in 1_u32..200) {
            let samples = u64::from(shards) * own;
            let schedule = Schedule::new(&spec(batch, 1, Mode::Sync), samples, 1);
            let sizes: Vec<u64> = (0..schedule.rounds)
                .map(|round| (0..shards).map(|shard| { let s = schedule.slice(round, shard, shards, own); s.end - s.start }).sum())
                .collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 2, "{least} to {most}");
        }

        #[test]
        fn rounds_cover_all_steps_in_order_and_never_cross_an_epochs_end(
            samples in 1_u64..5000, world in 1_u32..9, batch in 1_u32..300, epochs in 1_u32..5, steps in 1_u32..70, local: bool,
        ) {
            let schedule = Schedule::new(&spec(batch, epochs, mode(local, steps)), samples, world);
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
            prop_assert_eq!(schedule.epoch_ended_by(u64::MAX), None);
        }

        #[test]
        fn the_integer_cosine_is_the_cosine(part in 0_u64..=1_000_000) {
            let expected = (std::f64::consts::PI * part as f64 / 1e6).cos();
            prop_assert!((cosine(part, 1_000_000).nanos() as f64 / 1e9 - expected).abs() < 3e-9);
        }

        #[test]
        fn no_schedule_overflows(samples: u64, world: u32, batch: u32, epochs: u32, steps: u32, round: u64, own: u64) {
            let schedule = Schedule::new(&spec(batch, epochs, mode(true, steps)), samples, world);
            let steps = schedule.steps_of_round(round.min(u64::MAX - 1));
            prop_assert!(steps.start <= steps.end);
            let slice = schedule.slice(round.min(schedule.rounds.saturating_sub(1)), 0, 1, own);
            prop_assert!(slice.start <= slice.end && slice.end <= own);
            let step = schedule.step_of(round, own, own.saturating_add(1));
            prop_assert!(step <= schedule.steps);
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
        let local = Schedule::new(&spec(64, 5, mode(true, 64)), 60_000, 3);
        assert_eq!((local.steps_per_epoch, local.rounds_per_epoch(), local.rounds), (313, 5, 25));
        assert_eq!(local.steps_of_round(4), 256..313);
        assert_eq!(local.steps_of_round(5), 313..377);
    }
}
