use std::ops::Range;

use deepmarket_job::{Mode, permutation};
use deepmarket_types::{Hash, RoundTrace};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    Failure, Trainer,
    batch::{BatchResult, train_batch},
    graph::TrainingPass,
    hashing::{hash_floats, hash_state, parameters_hash},
    optimizer::OptimizerState,
};

/// What a round gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Gradients (`sync`, `async`) or changes of the parameters (`local`), then changes of the statistics.
    pub values: Vec<f32>,
    /// Samples used.
    pub samples: u64,
    /// Sum of the loss over them.
    pub loss_sum: f64,
    /// Hash of what the round was computed from: job seed, round, shards, and the state before it.
    pub inputs: Hash,
    /// Hashes of the state after each traced step: a local one, or a few where a net has few operations for each parameter; of a
    /// shared step, of the update. Empty where a rank had nothing to do in `local`.
    pub steps: Vec<Hash>,
    /// Hash of `values`.
    pub output: Hash,
}

/// What one step gave, for who has to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// Of the first step of a round, what [`Update::inputs`] of the round must be.
    pub inputs: Option<Hash>,
    /// Hash of the state before the step.
    pub before: Hash,
    /// What [`Update::steps`] must hold for the step.
    pub after: Hash,
}

/// What a hashed float costs, in multiply-adds of one sample's forward pass, where hashing may cost a thirtieth of a step: blake3 takes
/// 1.3 ns a float, and a step 0.25 ns for each multiply-add of a sample.
const MULTIPLY_ADDS_PER_FLOAT: u64 = 160;
/// The most local steps from one hashed state to the next, but for rounds of very many steps: a judge computes them all.
const MAX_STRETCH: u64 = 32;

/// Local steps from one hashed state to the next: one, but for nets with few operations for each parameter, where hashing the state
/// after each step would cost a good part of it.
pub(crate) fn stretch(multiply_adds: u64, batch: u32, floats: usize) -> u64 {
    let step = multiply_adds.saturating_mul(batch.into()).max(1);
    (floats as u64 * MULTIPLY_ADDS_PER_FLOAT).div_ceil(step).clamp(1, MAX_STRETCH)
}

/// The samples of a rank's own steps in a round, step after step.
struct LocalPlan {
    samples: Vec<u32>,
    /// The rank's own steps.
    steps: u64,
    /// How many of them make one traced step.
    stretch: u64,
}

impl LocalPlan {
    fn batch(&self, number: u64) -> &[u32] {
        let count = self.samples.len() as u64;
        &self.samples[(count * number / self.steps) as usize..(count * (number + 1) / self.steps) as usize]
    }

    /// Traced steps.
    fn traced(&self) -> u64 {
        self.steps.div_ceil(self.stretch)
    }

    /// The rank's own steps of a traced one.
    fn stretch_of(&self, traced: u64) -> Range<u64> {
        traced * self.stretch..((traced + 1) * self.stretch).min(self.steps)
    }
}

impl Trainer {
    /// Computes the next round (or in `async` one of those that may be ahead of it) without changing anything: asked again, it
    /// gives the same bytes.
    pub fn compute_round(&mut self, round: u64) -> Result<Update, Failure> {
        self.check_round(round, self.round)?;
        let inputs = self.inputs_hash(round, &self.values, &self.optimizer);
        let (values, samples, loss_sum, steps) = match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => {
                let batch = self.samples_of(round);
                let (values, loss_sum) = self.shared_step(round, &self.values, &batch);
                (values, batch.len() as u64, loss_sum, None)
            }
            Mode::Local { .. } => {
                let plan = self.local_plan(round);
                let (mut values, mut optimizer) = (self.values.clone(), self.optimizer.clone());
                let (mut steps, mut loss_sum) = (Vec::new(), 0.0);
                for traced in 0..plan.traced() {
                    for number in plan.stretch_of(traced) {
                        loss_sum += self.local_step(round, &plan, number, &mut values, &mut optimizer);
                    }
                    steps.push(hash_state(&values, &optimizer));
                }
                self.pending = Some(optimizer);
                values.iter_mut().zip(&self.values).for_each(|(value, before)| *value -= before);
                (values, plan.samples.len() as u64, loss_sum, Some(steps))
            }
        };
        if !loss_sum.is_finite() || values.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged(format!("round {round} gave numbers that are not finite; lower the learning rate")));
        }
        let output = update_hash(&values);
        Ok(Update { values, samples, loss_sum, inputs, steps: steps.unwrap_or_else(|| vec![output]), output })
    }

    /// The state before a step of the next round, as [`Trainer::save`] gives it; changes nothing. Of a shared step that is the state
    /// as it is, which in `async` may be asked for a round ahead. With the hash of its parameters and statistics.
    pub fn save_step(&mut self, round: u64, step: u32) -> Result<(Vec<u8>, Hash), Failure> {
        self.check_round(round, self.round)?;
        let Some(plan) = self.checked_plan(round, step)? else {
            return Ok((self.save(0), self.parameters_hash()));
        };
        let (mut values, mut optimizer) = (self.values.clone(), self.optimizer.clone());
        for number in 0..plan.stretch_of(step.into()).start {
            self.local_step(round, &plan, number, &mut values, &mut optimizer);
        }
        Ok((self.file_of(&values, &optimizer, 0), parameters_hash(&values)))
    }

    /// Computes one step of a round from the state that [`Trainer::save_step`] gave of it. Changes nothing: where this trainer is in
    /// the schedule doesn't matter.
    pub fn step(&mut self, round: u64, step: u32, file: &[u8]) -> Result<Stepped, Failure> {
        let mut state = self.state_of(file)?;
        self.check_round(round, state.round)?;
        let plan = self.checked_plan(round, step)?;
        let inputs = (step == 0).then(|| self.inputs_hash(round, &state.values, &state.optimizer));
        let before = hash_state(&state.values, &state.optimizer);
        let after = match plan {
            Some(plan) => {
                for number in plan.stretch_of(step.into()) {
                    self.local_step(round, &plan, number, &mut state.values, &mut state.optimizer);
                }
                hash_state(&state.values, &state.optimizer)
            }
            None => {
                let batch = self.samples_of(round);
                update_hash(&self.shared_step(round, &state.values, &batch).0)
            }
        };
        Ok(Stepped { inputs, before, after })
    }

    /// Whether a round may be computed where `next` rounds are applied.
    fn check_round(&self, round: u64, next: u64) -> Result<(), Failure> {
        let ahead = match self.spec.training.mode {
            Mode::Async { staleness } => u64::from(staleness),
            _ => 0,
        };
        if !(next..=next + ahead).contains(&round) || round >= self.schedule.rounds {
            let rounds = self.schedule.rounds;
            return Err(Failure::crashed(format!("round {round} was asked for, and round {next} of {rounds} is next")));
        }
        Ok(())
    }

    /// The plan of a round of local steps, none of a shared step; refuses a step that the round doesn't have.
    fn checked_plan(&mut self, round: u64, step: u32) -> Result<Option<LocalPlan>, Failure> {
        let plan = match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => None,
            Mode::Local { .. } => Some(self.local_plan(round)),
        };
        let steps = plan.as_ref().map_or(1, LocalPlan::traced);
        match u64::from(step) < steps {
            true => Ok(plan),
            false => Err(Failure::crashed(format!("step {step} of round {round} was asked for, and it has {steps}"))),
        }
    }

    /// Gradients don't depend on the optimizer's state; parameters after local steps do.
    fn inputs_hash(&self, round: u64, values: &[f32], optimizer: &OptimizerState) -> Hash {
        let shards: Vec<u8> = self.train.shards().flat_map(|(shard, _)| shard.to_le_bytes()).collect();
        let parameters = parameters_hash(values);
        let state = match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => Hash::default(),
            Mode::Local { .. } => optimizer.hash(),
        };
        let parts: [&[u8]; 5] = [&self.seed.0, &round.to_le_bytes(), &shards, &parameters.0, &state.0];
        Hash::tagged("deepmarket/v1/inputs", &parts)
    }

    /// What this worker's shards give to a round, shard by shard.
    fn samples_of(&mut self, round: u64) -> Vec<u32> {
        let epoch = self.schedule.epoch_of_round(round);
        let shards: Vec<(u32, usize)> = self.train.shards().collect();
        let mut samples = Vec::new();
        for (shard, size) in shards {
            let slice = self.schedule.slice(round, shard, self.shards, size as u64);
            samples.extend(self.train.in_order(&self.seed, shard, epoch, slice));
        }
        samples
    }

    /// Mean gradient and changed statistics of some samples at some values.
    fn gradient(&self, step: u64, values: &[f32], batch: &[u32]) -> (BatchResult, Vec<f32>) {
        let mut statistics = values[self.network.parameters..].to_vec();
        let mut pass = TrainingPass { rng: self.dropout_rng(step), statistics: &mut statistics };
        let result = train_batch(&self.network, self.spec.training.loss, values, &self.train, batch, &mut pass);
        (result, statistics)
    }

    /// One step's mean gradient over this worker's samples of it, with the changes of the statistics; and the sum of the loss.
    fn shared_step(&self, round: u64, before: &[f32], batch: &[u32]) -> (Vec<f32>, f64) {
        let mut values = vec![0.0; self.network.floats];
        if batch.is_empty() {
            return (values, 0.0);
        }
        let (result, statistics) = self.gradient(self.schedule.steps_of_round(round).start, before, batch);
        values[..self.network.parameters].copy_from_slice(&result.gradients);
        let changes = values[self.network.parameters..].iter_mut().zip(&statistics).zip(&before[self.network.parameters..]);
        changes.for_each(|((change, after), before)| *change = after - before);
        (values, f64::from(result.loss) * batch.len() as f64)
    }

    /// This worker's samples of a round in an order that mixes its shards. A faster machine holds more shards, and takes more steps.
    fn local_plan(&mut self, round: u64) -> LocalPlan {
        let samples = self.samples_of(round);
        let (count, batch) = (samples.len() as u64, u64::from(self.spec.training.batch));
        let steps = ((count + batch / 2) / batch).max(u64::from(count > 0));
        let first = self.train.shards().next().map_or(0, |(shard, _)| shard);
        let order = permutation(&Hash::tagged("deepmarket/v1/local-order", &[&self.seed.0]), first, round, count as u32);
        let stretch = self.stretch.max(steps.div_ceil(RoundTrace::MAX_STEPS as u64));
        LocalPlan { stretch, samples: order.iter().map(|place| samples[*place as usize]).collect(), steps }
    }

    /// One of a worker's own steps, which changes values and optimizer; the sum of the loss over its samples.
    fn local_step(&self, round: u64, plan: &LocalPlan, number: u64, values: &mut [f32], optimizer: &mut OptimizerState) -> f64 {
        let batch = plan.batch(number);
        let step = self.schedule.step_of(round, number, plan.steps);
        let (result, statistics) = self.gradient(step, values, batch);
        let (parameters, of_statistics) = values.split_at_mut(self.network.parameters);
        of_statistics.copy_from_slice(&statistics);
        let lr = self.schedule.learning_rate(&self.spec.training, step);
        optimizer.step(&self.spec.training.optimizer, lr, parameters, &result.gradients);
        f64::from(result.loss) * batch.len() as f64
    }

    /// Decided by the seed, the step and the shards that are worked on.
    fn dropout_rng(&self, step: u64) -> ChaCha8Rng {
        let first = self.train.shards().next().map_or(0, |(shard, _)| shard);
        let parts: [&[u8]; 3] = [&self.seed.0, &first.to_le_bytes(), &step.to_le_bytes()];
        ChaCha8Rng::from_seed(Hash::tagged("deepmarket/v1/dropout", &parts).0)
    }
}

fn update_hash(values: &[f32]) -> Hash {
    hash_floats("deepmarket/v1/update", values)
}

#[cfg(test)]
mod tests {
    use super::stretch;

    #[test]
    fn states_are_hashed_after_each_step_where_that_costs_little() {
        // Parameters and Adam's two moments; batches of 64. A small convolutional net, "basic MNIST" and a perceptron.
        assert_eq!(stretch(1_031_744, 64, 3 * 20_490), 1);
        assert_eq!(stretch(11_990_000, 64, 3 * 1_199_882), 1);
        assert_eq!(stretch(101_632, 64, 3 * 101_770), 8);
        assert_eq!(stretch(0, 64, 3), 32);
        assert_eq!(stretch(1, 1, usize::MAX / 1_000), 32);
    }
}
