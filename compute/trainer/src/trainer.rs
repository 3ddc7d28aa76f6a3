use deepmarket_job::{DatasetManifest, JobSpec, Mode, Outer, Schedule, protocol::Part};
use deepmarket_types::Hash;

use crate::{
    Failure,
    batch::{mean_loss, outputs},
    hashing::parameters_hash,
    initial::initial_values,
    model_file,
    network::{Network, to_vec},
    optimizer::{OptimizerState, float},
    round::stretch,
    samples::Samples,
};

/// The most samples evaluated at once; fewer where the spec's steps are smaller, as memory was sized for those.
const MAX_EVALUATED_AT_ONCE: u32 = 256;

/// One worker of one job: its model, its samples, and where it is in the schedule.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) spec: JobSpec,
    pub(crate) manifest: DatasetManifest,
    pub(crate) seed: Hash,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    /// Parameters, then batch-norm statistics.
    pub(crate) values: Vec<f32>,
    pub(crate) optimizer: OptimizerState,
    /// The optimizer as a local round left it, until the round is applied.
    pub(crate) pending: Option<OptimizerState>,
    /// The outer optimizer's momentum; empty without one.
    pub(crate) outer: Vec<f32>,
    /// The next round.
    pub(crate) round: u64,
    pub(crate) train: Samples,
    pub(crate) validate: Samples,
    /// Shards of the whole training split.
    pub(crate) shards: u32,
    /// Local steps from one hashed state to the next.
    pub(crate) stretch: u64,
}

/// What an evaluation gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Samples evaluated; where each position of a sample has an answer (next-token prediction), positions.
    pub samples: u64,
    /// Right answers, where the dataset has classes.
    pub correct: Option<u64>,
    /// Sum of the loss.
    pub loss_sum: f64,
}

impl Trainer {
    /// A job's worker with its initial parameters and no samples yet. `manifest` is the dataset's; the schedule is made for `world`
    /// ranks.
    pub fn new(spec: JobSpec, manifest: DatasetManifest, seed: Hash, world: u32, train_samples: u64) -> Result<Trainer, Failure> {
        crate::fix_blocking();
        let size = spec.check_with(&manifest)?;
        let network = Network::new(&spec.model)?;
        let values = initial_values(&network, spec.training.seed);
        let optimizer = OptimizerState::new(&spec.training.optimizer, network.parameters);
        let state = values.len() + optimizer.first.len() + optimizer.second.len();
        Ok(Trainer {
            schedule: Schedule::new(&spec, train_samples, world),
            stretch: stretch(size.multiply_adds, spec.training.batch, state),
            optimizer,
            pending: None,
            outer: match spec.training.mode {
                Mode::Local { outer: Outer::Nesterov { .. }, .. } => vec![0.0; network.parameters],
                _ => Vec::new(),
            },
            round: 0,
            train: Samples::new(&manifest),
            validate: Samples::new(&manifest),
            shards: manifest.split(&spec.data.train).map_or(0, |split| split.shards.len() as u32),
            spec,
            manifest,
            seed,
            network,
            values,
        })
    }

    /// The length of the update vector: parameters and statistics.
    pub fn floats(&self) -> u64 {
        self.network.floats as u64
    }

    /// The next round.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// How the job is cut into rounds.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Hash of parameters and statistics.
    pub fn parameters_hash(&self) -> Hash {
        parameters_hash(&self.values)
    }

    /// Adds a shard by its index in its split; returns its samples. It must be what the manifest lists there: the schedule counts on it.
    pub fn add_shard(&mut self, part: Part, index: u32, shard: &[u8]) -> Result<u64, Failure> {
        let (samples, split) = match part {
            Part::Train => (&mut self.train, &self.spec.data.train),
            Part::Validate => (&mut self.validate, &self.spec.data.validate),
        };
        let listed = self.manifest.split(split).ok().and_then(|split| split.shards.get(index as usize));
        let listed = listed.ok_or_else(|| {
            Failure::data(format!("the split '{split}' of dataset '{}' has no shard {index}", self.manifest.name))
        })?;
        samples.add(&self.manifest, index, listed.samples, shard)
    }

    /// Works on these shards from now on, and forgets all others. Returns the samples to train and to evaluate on. A round that
    /// was computed and not applied is forgotten.
    pub fn assign(&mut self, train: &[u32], validate: &[u32]) -> Result<(u64, u64), Failure> {
        self.train.keep(train)?;
        self.validate.keep(validate)?;
        self.pending = None;
        Ok((self.train.len() as u64, self.validate.len() as u64))
    }

    /// Takes over the ranks' average: steps along averaged gradients, or changes the parameters as the ranks did on average.
    pub fn apply(&mut self, average: &[f32]) -> Result<Hash, Failure> {
        if average.len() != self.network.floats {
            let (expected, found) = (self.network.floats, average.len());
            return Err(Failure::crashed(format!("an average of {expected} floats is expected, and {found} came")));
        }
        if average.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged("the average of all ranks is not finite"));
        }
        if self.round >= self.schedule.rounds {
            return Err(Failure::crashed("all rounds are applied already"));
        }
        let (of_parameters, of_statistics) = average.split_at(self.network.parameters);
        let (parameters, statistics) = self.values.split_at_mut(self.network.parameters);
        match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => {
                let lr = self.schedule.learning_rate(&self.spec.training, self.schedule.steps_of_round(self.round).start);
                self.optimizer.step(&self.spec.training.optimizer, lr, parameters, of_parameters);
            }
            Mode::Local { outer, .. } => {
                let Some(optimizer) = self.pending.take() else {
                    return Err(Failure::crashed(format!("round {} was not computed before it was applied", self.round)));
                };
                self.optimizer = optimizer;
                match outer {
                    Outer::Average => parameters.iter_mut().zip(of_parameters).for_each(|(value, change)| *value += change),
                    Outer::Nesterov { lr, momentum } => {
                        let (lr, momentum) = (float(lr) as f32, float(momentum) as f32);
                        let momenta = &mut self.outer;
                        for ((value, change), velocity) in parameters.iter_mut().zip(of_parameters).zip(momenta) {
                            *velocity = momentum * *velocity + change;
                            *value += lr * (change + momentum * *velocity);
                        }
                    }
                }
            }
        }
        statistics.iter_mut().zip(of_statistics).for_each(|(value, change)| *value += change);
        if self.values.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged("parameters are not finite after a step; lower the learning rate"));
        }
        self.round += 1;
        Ok(self.parameters_hash())
    }

    /// Evaluates the model on the validation shards.
    pub fn evaluate(&self) -> Evaluation {
        let samples = self.validate.len() as u32;
        self.run(0..samples, |_| {})
    }

    /// The model's outputs for one validation shard, the shape of one sample's, and what the targets say of them.
    pub fn predict(&self, index: u32) -> Result<(Vec<f32>, Vec<u32>, Evaluation), Failure> {
        let samples = self.validate.samples_of(index);
        let samples = samples.ok_or_else(|| Failure::crashed(format!("shard {index} is to be predicted and was not given")))?;
        let mut outputs = Vec::new();
        let evaluation = self.run(samples, |of_batch| outputs.extend(of_batch));
        let shape = self.network.shapes.last().map_or(Vec::new(), |shape| shape.iter().map(|d| *d as u32).collect());
        Ok((outputs, shape, evaluation))
    }

    /// Runs the model over some samples of the validation shards, some at a time; hands on their outputs.
    fn run(&self, samples: std::ops::Range<u32>, mut keep: impl FnMut(Vec<f32>)) -> Evaluation {
        let at_once = self.spec.training.batch.div_ceil(match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => self.spec.workers.min.max(1),
            Mode::Local { .. } => 1,
        });
        let at_once = at_once.clamp(1, MAX_EVALUATED_AT_ONCE);
        let mut sums = Evaluation { samples: 0, correct: None, loss_sum: 0.0 };
        let indexes: Vec<u32> = samples.collect();
        for batch in indexes.chunks(at_once as usize) {
            let outputs = outputs(&self.network, &self.values, self.validate.features(batch), batch.len());
            let loss = mean_loss(self.spec.training.loss, outputs.clone(), &self.validate, batch);
            let width = outputs.dims()[1];
            let outputs = to_vec(outputs);
            let labels = self.validate.labels(batch);
            let counted = labels.as_ref().map_or(batch.len(), Vec::len);
            sums.samples += counted as u64;
            sums.loss_sum += f64::from(to_vec(loss)[0]) * counted as f64;
            if let Some(labels) = labels {
                let right = outputs.chunks(width).zip(&labels).filter(|(row, label)| argmax(row) == **label).count() as u64;
                sums.correct = Some(sums.correct.unwrap_or(0) + right);
            }
            keep(outputs);
        }
        sums
    }

    /// The model as a safetensors file that PyTorch's `nn.Sequential` loads, the spec in its metadata. The same on all ranks.
    pub fn export(&self) -> Vec<u8> {
        model_file::write(&self.network, &self.values, &self.spec)
    }

    /// Loads a model that [`Trainer::export`] wrote, or PyTorch with the same names and shapes. The optimizer stays.
    pub fn load_model(&mut self, file: &[u8]) -> Result<(), Failure> {
        self.values = model_file::read(&self.network, file)?;
        self.pending = None;
        Ok(())
    }
}

/// The index of the greatest value, the first of equal ones.
fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use deepmarket_types::FailureReason;

    use super::*;
    use crate::{
        Update,
        testing::{run, spec, trainer},
    };

    const ADAM: &str = "loss = \"cross_entropy\"\noptimizer = { adam = { lr = 0.01 } }\nbatch = 8\nepochs = 10";
    const HEAD: &str = "\"flatten\", { linear = { out = 2 } }";

    #[test]
    fn each_layer_learns() {
        for layer in [
            "\"relu\"",
            "{ conv2d = { out = 3, kernel = 3, stride = 2, padding = 2 } }",
            "{ max_pool2d = { kernel = 3, stride = 2, padding = 1 } }",
            "{ avg_pool2d = { kernel = 3, stride = 2, padding = 1 } }",
            "{ batch_norm = {} }",
            "{ flatten = {} }, { batch_norm = {} }, { linear = { out = 7 } }",
            "{ flatten = {} }, { layer_norm = {} }",
            "{ dropout = { rate = 0.5 } }",
            "\"gelu\"",
            "\"sigmoid\"",
            "\"tanh\"",
            "{ flatten = {} }, { linear = { out = 6 } }, \"softmax\"",
        ] {
            let mut trainer = trainer(spec(&format!("{layer}, {HEAD}"), ADAM));
            let losses = run(&mut trainer, 40);
            assert!(losses[39] < 0.9 * losses[0], "{layer}: {losses:?}");
            let evaluation = trainer.evaluate();
            assert!(evaluation.correct.unwrap() * 10 >= evaluation.samples * 9, "{layer}: {evaluation:?}");
        }
    }

    #[test]
    fn each_optimizer_and_loss_learns() {
        for optimizer in [
            "sgd = { lr = 0.005 }",
            "sgd = { lr = 0.001, momentum = 0.9, nesterov = true, weight_decay = 1e-4 }",
            "adam = { lr = 0.01 }",
            "adamw = { lr = 0.01 }",
        ] {
            for loss in ["cross_entropy", "mse"] {
                let training = format!("loss = \"{loss}\"\noptimizer = {{ {optimizer} }}\nbatch = 8\nepochs = 10");
                let losses = run(&mut trainer(spec(HEAD, &training)), 50);
                assert!(losses[49] < 0.5 * losses[0], "{optimizer}, {loss}: {losses:?}");
            }
        }
    }

    #[test]
    fn a_round_asked_for_twice_gives_the_same_and_rounds_come_in_order() {
        for mode in ["\"sync\"", "{ local = { steps = 3 } }"] {
            let layers = format!("{{ batch_norm = {{}} }}, {{ dropout = {{ rate = 0.5 }} }}, {HEAD}");
            let mut trainer = trainer(spec(&layers, &format!("{ADAM}\nmode = {mode}")));
            run(&mut trainer, 2);
            let first = trainer.compute_round(2).unwrap();
            assert_eq!(trainer.compute_round(2).unwrap(), first);
            assert_eq!(trainer.compute_round(3).unwrap_err().reason, FailureReason::TrainerCrashed);
            assert_eq!(trainer.apply(&first.values[1..]).unwrap_err().reason, FailureReason::TrainerCrashed);
            trainer.apply(&first.values).unwrap();
            let next = trainer.compute_round(3).unwrap();
            assert_ne!((next.inputs, next.output), (first.inputs, first.output));
        }
    }

    #[test]
    fn a_restored_trainer_goes_on_with_the_same_bytes() {
        for mode in ["\"sync\"", "{ local = { steps = 3 } }"] {
            let layers = format!("{{ batch_norm = {{}} }}, {{ dropout = {{ rate = 0.5 }} }}, {HEAD}");
            let new = || trainer(spec(&layers, &format!("{ADAM}\nmode = {mode}")));
            let mut straight = new();
            run(&mut straight, 3);
            let state = straight.save(5);
            run(&mut straight, 6);
            let mut restored = new();
            assert_eq!(restored.restore(&state).unwrap(), 5);
            run(&mut restored, 6);
            assert_eq!(restored.save(5), straight.save(5), "{mode}");
            assert_eq!(restored.export(), straight.export(), "{mode}");
        }
    }

    #[test]
    fn a_state_of_another_model_is_refused_and_changes_nothing() {
        let mut one = trainer(spec(HEAD, ADAM));
        let before = one.save(0);
        let other = trainer(spec(&format!("{{ batch_norm = {{}} }}, {HEAD}"), ADAM)).save(0);
        for state in [&other[..], &[], &[9, 9], &before[..before.len() - 1]] {
            assert_eq!(one.restore(state).unwrap_err().reason, FailureReason::DataUnavailable);
        }
        assert_eq!(one.save(0), before);
    }

    #[test]
    fn training_that_diverges_says_so() {
        let training = "loss = \"mse\"\noptimizer = { sgd = { lr = 1000 } }\nbatch = 8\nepochs = 100";
        let mut trainer = trainer(spec(HEAD, training));
        let failure = (0..500).find_map(|_| {
            let update = trainer.compute_round(trainer.round());
            update.and_then(|update| trainer.apply(&update.values)).err()
        });
        assert_eq!(failure.expect("it diverges").reason, FailureReason::Diverged);
    }

    #[test]
    fn a_model_file_has_pytorchs_names_and_comes_back() {
        let layers = format!("{{ conv2d = {{ out = 3, kernel = 3 }} }}, {{ batch_norm = {{}} }}, \"relu\", {HEAD}");
        let mut one = trainer(spec(&layers, ADAM));
        run(&mut one, 3);
        let file = one.export();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let mut names: Vec<String> = tensors.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
        names.sort_unstable();
        let expected = [
            "0.bias [3]",
            "0.weight [3, 1, 3, 3]",
            "1.bias [3]",
            "1.running_mean [3]",
            "1.running_var [3]",
            "1.weight [3]",
            "4.bias [2]",
            "4.weight [2, 108]",
        ];
        assert_eq!(names, expected);
        let mut other = trainer(spec(&layers, ADAM));
        other.load_model(&file).unwrap();
        assert_eq!((other.parameters_hash(), other.evaluate()), (one.parameters_hash(), one.evaluate()));
        let mut narrow = trainer(spec(HEAD, ADAM));
        assert!(narrow.load_model(&file).unwrap_err().message.contains("1.weight"));
        assert!(narrow.load_model(&file[..100]).is_err());
    }

    #[test]
    fn shards_that_are_not_what_the_manifest_says_are_refused() {
        let mut one = trainer(spec(HEAD, ADAM));
        let shard = |classes: &[u8], shape: &[u32]| {
            let pixels = vec![0; classes.len() * shape.iter().map(|d| *d as usize).product::<usize>()];
            deepmarket_dataset::shard_bytes(&pixels, classes, shape)
        };
        for (bytes, words) in [
            (shard(&[0, 2].repeat(20), &[1, 8, 8]), "class 2"),
            (shard(&[0, 1], &[1, 8, 9]), "shape"),
            (shard(&[], &[1, 8, 8]), "shape"),
            (shard(&[0, 1], &[1, 8, 8]), "2 samples"),
            (vec![255; 100], "header"),
            (vec![1, 2], "header"),
            (shard(&[0, 1], &[1, 8, 8])[..100].to_vec(), ""),
        ] {
            let failure = one.add_shard(Part::Train, 0, &bytes).unwrap_err();
            assert!(failure.reason == FailureReason::DataUnavailable && failure.message.contains(words), "{failure}");
        }
        for index in [1, u32::MAX] {
            let failure = one.add_shard(Part::Train, index, &shard(&[0, 1], &[1, 8, 8])).unwrap_err();
            assert!(failure.message.contains("no shard"), "{failure}");
        }
        assert_eq!(one.train.len(), crate::testing::SAMPLES);
    }

    /// Workers that hold shards of a dataset of five; they start equal.
    fn workers(spec: &JobSpec, shares: &[&[u32]]) -> Vec<Trainer> {
        let (manifest, shards) = crate::testing::sharded();
        let samples = manifest.splits[0].samples;
        let start = |share: &&[u32]| {
            let mut trainer = Trainer::new(spec.clone(), manifest.clone(), Hash::of(b"job"), 2, samples).unwrap();
            for (index, shard) in (0..).zip(&shards) {
                trainer.add_shard(Part::Train, index, shard).unwrap();
            }
            trainer.assign(share, &[]).unwrap();
            trainer
        };
        shares.iter().map(start).collect()
    }

    /// Computes a round on all workers and applies the mean; the samples of each.
    fn together(workers: &mut [Trainer], computed: u64, applied: u64) -> Vec<u64> {
        let updates: Vec<Update> = workers.iter_mut().map(|worker| worker.compute_round(computed).unwrap()).collect();
        let total: u64 = updates.iter().map(|update| update.samples).sum();
        let mut mean = vec![0.0; updates[0].values.len()];
        for update in &updates {
            let weight = update.samples as f32 / total as f32;
            mean.iter_mut().zip(&update.values).for_each(|(mean, value)| *mean += weight * value);
        }
        let hashes: Vec<Hash> = workers
            .iter_mut()
            .map(|worker| {
                assert_eq!(worker.round(), applied);
                worker.apply(&mean).unwrap()
            })
            .collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
        updates.iter().map(|update| update.samples).collect()
    }

    #[test]
    fn a_sync_curve_does_not_depend_on_who_holds_which_shard() {
        let spec = spec(HEAD, ADAM);
        let mut alone = workers(&spec, &[&[0, 1, 2, 3, 4]]);
        let mut changing = workers(&spec, &[&[0, 3], &[1, 2, 4]]);
        let (mut counted, per_epoch) = (0, alone[0].schedule().rounds_per_epoch());
        for round in 0..2 * per_epoch {
            together(&mut alone, round, round);
            if round == 3 {
                // The second worker is lost; the first had been given all shards.
                changing = workers(&spec, &[&[0, 1, 2, 3, 4], &[]]).into_iter().take(1).collect();
                let mut before = workers(&spec, &[&[0, 3], &[1, 2, 4]]);
                (0..3).for_each(|round| drop(together(&mut before, round, round)));
                changing[0].restore(&before[1].save(0)).unwrap();
            }
            counted += together(&mut changing, round, round).iter().sum::<u64>();
        }
        assert_eq!(counted, 2 * crate::testing::SHARDED_SAMPLES, "each sample once an epoch");
        let furthest = alone[0].values.iter().zip(&changing[0].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 2e-4, "they differ by rounding only, not by {furthest}");
    }

    #[test]
    fn in_local_a_worker_with_more_samples_takes_more_steps_and_an_outer_step_is_diloco_s() {
        let training = |outer: &str| {
            format!(
                "loss = \"cross_entropy\"\noptimizer = {{ sgd = {{ lr = 0.01 }} }}\nbatch = 4\nepochs = 3\nmode = {{ local = {{ steps = 3{outer} }} }}"
            )
        };
        let mut plain = workers(&spec(HEAD, &training("")), &[&[0, 1, 2, 3], &[4]]);
        let before = plain[0].values.clone();
        let samples = together(&mut plain, 0, 0);
        assert!(samples[0] > 2 * samples[1], "{samples:?}");
        let change: Vec<f32> = plain[0].values.iter().zip(&before).map(|(after, before)| after - before).collect();
        let mut nesterov = spec(HEAD, &training(""));
        let (lr, momentum) = (deepmarket_job::Decimal::from_nanos(500_000_000), deepmarket_job::Decimal::from_nanos(800_000_000));
        nesterov.training.mode = Mode::Local { steps: 3, outer: Outer::Nesterov { lr, momentum } };
        let mut outer = workers(&nesterov, &[&[0, 1, 2, 3], &[4]]);
        together(&mut outer, 0, 0);
        // The first step: velocity = change, value += lr · (change + momentum · velocity).
        for ((after, before), change) in outer[0].values.iter().zip(&before).zip(&change) {
            assert!((after - (before + 0.5 * 1.8 * change)).abs() < 1e-6);
        }
        let state = outer[0].save(9);
        together(&mut outer, 1, 1);
        let mut restored = workers(&nesterov, &[&[0, 1, 2, 3], &[4]]);
        restored.iter_mut().for_each(|worker| assert_eq!(worker.restore(&state).unwrap(), 9));
        together(&mut restored, 1, 1);
        assert_eq!(restored[1].values, outer[1].values);
    }

    #[test]
    fn in_async_rounds_may_be_computed_ahead_and_learn() {
        let mut spec = spec(HEAD, ADAM);
        spec.training.mode = Mode::Async { staleness: 2 };
        let mut trainer = trainer(spec);
        let mut ahead: std::collections::VecDeque<Update> = (0..2).map(|round| trainer.compute_round(round).unwrap()).collect();
        assert_eq!(trainer.compute_round(3).unwrap_err().reason, FailureReason::TrainerCrashed);
        let mut losses = Vec::new();
        for round in 2..40 {
            ahead.push_back(trainer.compute_round(round).unwrap());
            let due = ahead.pop_front().unwrap();
            losses.push(due.loss_sum / due.samples as f64);
            trainer.apply(&due.values).unwrap();
        }
        assert!(losses[37] < 0.5 * losses[0], "{losses:?}");
    }

    #[test]
    fn predictions_are_what_an_evaluation_counts() {
        let mut one = trainer(spec(HEAD, ADAM));
        run(&mut one, 20);
        let (outputs, shape, sums) = one.predict(0).unwrap();
        assert_eq!((shape, outputs.len(), sums), (vec![2], crate::testing::SAMPLES * 2, one.evaluate()));
        let right = outputs.chunks(2).enumerate().filter(|(i, row)| argmax(row) as usize == i % 2).count() as u64;
        assert_eq!(sums.correct, Some(right));
        assert!(one.predict(1).is_err() && one.assign(&[0, 1], &[]).is_err());
        one.assign(&[], &[]).unwrap();
        assert_eq!(one.evaluate(), Evaluation { samples: 0, correct: None, loss_sum: 0.0 });
    }

    #[test]
    fn a_rank_without_samples_weighs_nothing() {
        let (manifest, _) = crate::testing::dataset();
        let samples = crate::testing::SAMPLES as u64;
        let mut empty = Trainer::new(spec(HEAD, ADAM), manifest, Hash::of(b"job"), 2, samples).unwrap();
        let update = empty.compute_round(0).unwrap();
        assert_eq!((update.samples, update.values.len() as u64), (0, empty.floats()));
        empty.apply(&update.values).unwrap();
    }
}
