use deepmarket_job::{
    DatasetManifest, JobSpec, Mode, Outer, Schedule, permutation,
    protocol::{Part, bytes_to_floats},
    tensor_file::{STATE_FACTS, fact_of, with_tensors},
};
use deepmarket_types::Hash;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use safetensors::SafeTensors;

use crate::{
    Failure,
    batch::{BatchResult, mean_loss, outputs, train_batch},
    graph::TrainingPass,
    initial::initial_values,
    model_file,
    network::{Network, to_vec},
    optimizer::{OptimizerState, float},
    samples::Samples,
};

/// The names of a saved state's tensors beside the model's: the optimizer's vectors, and the outer optimizer's momentum.
const STATE_TENSORS: [&str; 3] = ["optimizer.first", "optimizer.second", "outer.momentum"];
/// The most samples evaluated at once; fewer where the spec's steps are smaller, as memory was sized for those.
const MAX_EVALUATED_AT_ONCE: u32 = 256;

/// One worker of one job: its model, its samples, and where it is in the schedule.
#[derive(Debug)]
pub struct Trainer {
    spec: JobSpec,
    manifest: DatasetManifest,
    seed: Hash,
    schedule: Schedule,
    network: Network,
    /// Parameters, then batch-norm statistics.
    values: Vec<f32>,
    optimizer: OptimizerState,
    /// The optimizer as a local round left it, until the round is applied.
    pending: Option<OptimizerState>,
    /// The outer optimizer's momentum; empty without one.
    outer: Vec<f32>,
    /// The next round.
    round: u64,
    train: Samples,
    validate: Samples,
    /// Shards of the whole training split.
    shards: u32,
}

/// What a round gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Gradients (`sync`, `async`) or changes of the parameters (`local`), then changes of the statistics.
    pub values: Vec<f32>,
    /// Samples used.
    pub samples: u64,
    /// Sum of the loss over them.
    pub loss_sum: f64,
    /// Binds the result to job seed, round and inputs.
    pub commitment: Hash,
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
        spec.check_with(&manifest)?;
        let network = Network::new(&spec.model)?;
        let values = initial_values(&network, spec.training.seed);
        Ok(Trainer {
            schedule: Schedule::new(&spec, train_samples, world),
            optimizer: OptimizerState::new(&spec.training.optimizer, network.parameters),
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
        hash_floats("deepmarket/v1/parameters", &self.values)
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

    /// Computes the next round (or in `async` one of those that may be ahead of it) without changing anything: asked again, it
    /// gives the same bytes.
    pub fn compute_round(&mut self, round: u64) -> Result<Update, Failure> {
        let ahead = match self.spec.training.mode {
            Mode::Async { staleness } => u64::from(staleness),
            _ => 0,
        };
        if !(self.round..=self.round + ahead).contains(&round) || round >= self.schedule.rounds {
            let next = self.round;
            return Err(Failure::crashed(format!(
                "round {round} was asked for, and round {next} of {} is next",
                self.schedule.rounds
            )));
        }
        let samples = self.samples_of(round);
        let mut update = match self.spec.training.mode {
            Mode::Sync | Mode::Async { .. } => self.shared_step(round, &samples),
            Mode::Local { .. } => self.local_steps(round, &samples),
        };
        if !update.loss_sum.is_finite() || update.values.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged(format!("round {round} gave numbers that are not finite; lower the learning rate")));
        }
        // Gradients don't depend on the optimizer's state; parameters after local steps do.
        let state = match self.pending {
            Some(_) => self.optimizer.hash(),
            None => Hash::default(),
        };
        let batch: Vec<u8> = self.train.shards().flat_map(|(shard, _)| shard.to_le_bytes()).collect();
        let output = hash_floats("deepmarket/v1/update", &update.values);
        let parts: [&[u8]; 6] = [&self.seed.0, &round.to_le_bytes(), &batch, &self.parameters_hash().0, &state.0, &output.0];
        update.commitment = Hash::tagged("deepmarket/v1/round", &parts);
        Ok(update)
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

    /// One step's mean gradient over this worker's samples of it.
    fn shared_step(&mut self, round: u64, batch: &[u32]) -> Update {
        let mut values = vec![0.0; self.network.floats];
        if batch.is_empty() {
            return Update { values, samples: 0, loss_sum: 0.0, commitment: Hash::default() };
        }
        let (result, statistics) = self.gradient(self.schedule.steps_of_round(round).start, &self.values, batch);
        values[..self.network.parameters].copy_from_slice(&result.gradients);
        let changes = values[self.network.parameters..].iter_mut().zip(&statistics).zip(&self.values[self.network.parameters..]);
        changes.for_each(|((change, after), before)| *change = after - before);
        let samples = batch.len() as u64;
        Update { values, samples, loss_sum: f64::from(result.loss) * samples as f64, commitment: Hash::default() }
    }

    /// Some steps of this worker's own over its samples of a round, in an order that mixes its shards; what they changed.
    fn local_steps(&mut self, round: u64, samples: &[u32]) -> Update {
        let mut values = self.values.clone();
        let mut optimizer = self.optimizer.clone();
        let (count, batch) = (samples.len() as u64, u64::from(self.spec.training.batch));
        // A faster machine holds more shards, and takes more steps.
        let steps = ((count + batch / 2) / batch).max(u64::from(count > 0));
        let first = self.train.shards().next().map_or(0, |(shard, _)| shard);
        let order = permutation(&Hash::tagged("deepmarket/v1/local-order", &[&self.seed.0]), first, round, count as u32);
        let mut loss_sum = 0.0;
        for number in 0..steps {
            let range = (count * number / steps) as usize..(count * (number + 1) / steps) as usize;
            let batch: Vec<u32> = order[range].iter().map(|place| samples[*place as usize]).collect();
            let step = self.schedule.step_of(round, number, steps);
            let (result, statistics) = self.gradient(step, &values, &batch);
            values[self.network.parameters..].copy_from_slice(&statistics);
            let lr = self.schedule.learning_rate(&self.spec.training, step);
            optimizer.step(&self.spec.training.optimizer, lr, &mut values[..self.network.parameters], &result.gradients);
            loss_sum += f64::from(result.loss) * batch.len() as f64;
        }
        self.pending = Some(optimizer);
        values.iter_mut().zip(&self.values).for_each(|(value, before)| *value -= before);
        Update { values, samples: count, loss_sum, commitment: Hash::default() }
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

    /// The whole state: the model's file, with the optimizer's vectors and the next round.
    pub fn save(&self, trained: u64) -> Vec<u8> {
        let vectors = [&self.optimizer.first, &self.optimizer.second, &self.outer].map(Vec::as_slice);
        let tensors: Vec<(&str, &[f32])> =
            STATE_TENSORS.into_iter().zip(vectors).filter(|(_, vector)| !vector.is_empty()).collect();
        let facts: Vec<(&str, u64)> = STATE_FACTS.into_iter().zip([self.round, self.optimizer.steps, trained]).collect();
        with_tensors(&self.export(), &tensors, &facts).expect("an exported model is a safetensors file")
    }

    /// Goes back to a state that [`Trainer::save`] gave for the same spec; returns the samples of the running epoch that were
    /// trained on. A state that can't be used changes nothing.
    pub fn restore(&mut self, file: &[u8]) -> Result<u64, Failure> {
        let refuse = |why: &str| Failure::data(format!("the saved state can't be used: {why}"));
        let [round, steps, trained] = STATE_FACTS.map(|name| fact_of(file, name));
        let (Some(round), Some(steps), Some(trained)) = (round, steps, trained) else {
            return Err(refuse("it doesn't say after how many rounds it was saved"));
        };
        if round > self.schedule.rounds {
            return Err(refuse("its round is after the job's end"));
        }
        let values = model_file::read(&self.network, file)?;
        let tensors = SafeTensors::deserialize(file).map_err(|e| refuse(&e.to_string()))?;
        let mut vectors = Vec::new();
        for (name, own) in STATE_TENSORS.into_iter().zip([&self.optimizer.first, &self.optimizer.second, &self.outer]) {
            let stored = tensors.tensor(name).ok().and_then(|tensor| bytes_to_floats(tensor.data())).unwrap_or_default();
            if stored.len() != own.len() || stored.iter().any(|value| !value.is_finite()) {
                return Err(refuse(&format!("{name} has {} values, and {} are expected", stored.len(), own.len())));
            }
            vectors.push(stored);
        }
        let [first, second, outer] = vectors.try_into().expect("three vectors were read");
        self.values = values;
        self.optimizer = OptimizerState { steps, first, second };
        (self.outer, self.round, self.pending) = (outer, round, None);
        Ok(trained)
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

    /// Decided by the seed, the step and the shards that are worked on.
    fn dropout_rng(&self, step: u64) -> ChaCha8Rng {
        let first = self.train.shards().next().map_or(0, |(shard, _)| shard);
        let parts: [&[u8]; 3] = [&self.seed.0, &first.to_le_bytes(), &step.to_le_bytes()];
        ChaCha8Rng::from_seed(Hash::tagged("deepmarket/v1/dropout", &parts).0)
    }
}

impl OptimizerState {
    fn hash(&self) -> Hash {
        let parts = [hash_floats("first", &self.first), hash_floats("second", &self.second)];
        Hash::tagged("deepmarket/v1/optimizer", &[&self.steps.to_le_bytes(), &parts[0].0, &parts[1].0])
    }
}

/// `Hash::tagged` over the little-endian bytes of floats, without a copy of them all.
fn hash_floats(tag: &str, floats: &[f32]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(tag.len() as u64).to_le_bytes());
    hasher.update(tag.as_bytes());
    hasher.update(&(floats.len() as u64 * 4).to_le_bytes());
    let mut bytes = [0; 16 * 1024];
    for floats in floats.chunks(bytes.len() / 4) {
        for (bytes, float) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(floats) {
            *bytes = float.to_le_bytes();
        }
        hasher.update(&bytes[..floats.len() * 4]);
    }
    Hash(*hasher.finalize().as_bytes())
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
    use crate::testing::{run, spec, trainer};

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
            assert_ne!(trainer.compute_round(3).unwrap().commitment, first.commitment);
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

    #[test]
    fn floats_are_hashed_as_their_bytes() {
        for length in [0, 1, 4095, 4096, 4097, 10_000] {
            let floats: Vec<f32> = (0..length).map(|i| i as f32 * 0.1).collect();
            let bytes = deepmarket_job::protocol::floats_to_bytes(&floats);
            assert_eq!(hash_floats("tag", &floats), Hash::tagged("tag", &[&bytes]));
        }
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
