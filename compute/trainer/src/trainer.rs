use deepmarket_job::{
    DatasetManifest, JobSpec, Mode, Schedule, permutation,
    protocol::{Part, bytes_to_floats},
};
use deepmarket_types::Hash;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    Failure,
    batch::{mean_loss, outputs, train_batch},
    initial::initial_values,
    model_file,
    network::{Network, TrainingPass, to_vec},
    optimizer::OptimizerState,
    samples::Samples,
};

/// The format version that precedes a saved state.
const STATE_VERSION: u8 = 1;
/// The most samples evaluated at once; fewer where the spec's steps are smaller, as memory was sized for those.
const MAX_EVALUATED_AT_ONCE: u32 = 256;

/// One rank of one job: its model, its samples, and where it is in the schedule.
#[derive(Debug)]
pub struct Trainer {
    spec: JobSpec,
    manifest: DatasetManifest,
    seed: Hash,
    rank: u32,
    schedule: Schedule,
    network: Network,
    /// Parameters, then batch-norm statistics.
    values: Vec<f32>,
    optimizer: OptimizerState,
    /// The optimizer as a local round left it, until the round is applied.
    pending: Option<OptimizerState>,
    /// The next round.
    round: u64,
    train: Samples,
    validate: Samples,
    /// This rank's order of samples in one epoch.
    order: Option<(u64, Vec<u32>)>,
}

/// What a round gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Gradients (`sync`) or parameters (`local`), then statistics.
    pub values: Vec<f32>,
    /// Samples used.
    pub samples: u64,
    /// Sum of the loss over them.
    pub loss_sum: f64,
    /// Binds the result to job seed, rank, round and inputs.
    pub commitment: Hash,
}

/// What an evaluation gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Samples evaluated.
    pub samples: u64,
    /// Right answers, where the dataset has classes.
    pub correct: Option<u64>,
    /// Sum of the loss.
    pub loss_sum: f64,
}

impl Trainer {
    /// A job's rank with its initial parameters and no samples yet. `manifest` is the dataset's.
    pub fn new(
        spec: JobSpec,
        manifest: DatasetManifest,
        seed: Hash,
        rank: u32,
        world: u32,
        train_samples: u64,
    ) -> Result<Trainer, Failure> {
        spec.check_with(&manifest)?;
        let network = Network::new(&spec.model)?;
        let values = initial_values(&network.layers, &network.slots, spec.training.seed, network.floats);
        Ok(Trainer {
            schedule: Schedule::new(&spec, train_samples, world),
            optimizer: OptimizerState::new(&spec.training.optimizer, network.parameters),
            pending: None,
            round: 0,
            train: Samples::new(&manifest),
            validate: Samples::new(&manifest),
            order: None,
            spec,
            manifest,
            seed,
            rank,
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

    /// Adds a shard; returns the samples of its part so far.
    pub fn add_shard(&mut self, part: Part, shard: &[u8]) -> Result<u64, Failure> {
        let samples = match part {
            Part::Train => &mut self.train,
            Part::Validate => &mut self.validate,
        };
        samples.add(&self.manifest, shard)?;
        self.order = None;
        Ok(samples.len() as u64)
    }

    /// Computes the next round without changing anything: asked again, it gives the same bytes.
    pub fn compute_round(&mut self, round: u64) -> Result<Update, Failure> {
        if round != self.round || round >= self.schedule.rounds {
            let next = self.round;
            return Err(Failure::crashed(format!(
                "round {round} was asked for, and round {next} of {} is next",
                self.schedule.rounds
            )));
        }
        let mut update = match self.spec.training.mode {
            Mode::Sync => self.sync_round(round),
            _ => self.local_round(round),
        };
        if !update.loss_sum.is_finite() || update.values.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged(format!("round {round} gave numbers that are not finite; lower the learning rate")));
        }
        let (rank, round) = (self.rank.to_le_bytes(), round.to_le_bytes());
        // Gradients don't depend on the optimizer's state; parameters after local steps do.
        let state = match self.pending {
            Some(_) => self.optimizer.hash(),
            None => Hash::default(),
        };
        let output = hash_floats("deepmarket/v1/update", &update.values);
        let parts: [&[u8]; 6] = [&self.seed.0, &rank, &round, &self.parameters_hash().0, &state.0, &output.0];
        update.commitment = Hash::tagged("deepmarket/v1/round", &parts);
        Ok(update)
    }

    /// One step's mean gradient over this rank's share of its samples.
    fn sync_round(&mut self, round: u64) -> Update {
        let mut statistics = self.values[self.network.parameters..].to_vec();
        let step = self.schedule.steps_of_round(round).start;
        let batch = self.batch(step);
        if batch.is_empty() {
            let mut values = vec![0.0; self.network.parameters];
            values.extend(statistics);
            return Update { values, samples: 0, loss_sum: 0.0, commitment: Hash::default() };
        }
        let mut pass = TrainingPass { rng: self.dropout_rng(step), statistics: &mut statistics };
        let result = train_batch(&self.network, self.spec.training.loss, &self.values, &self.train, &batch, &mut pass);
        let mut values = result.gradients;
        values.extend(statistics);
        let samples = batch.len() as u64;
        Update { values, samples, loss_sum: f64::from(result.loss) * samples as f64, commitment: Hash::default() }
    }

    /// Some steps of this rank's own; the parameters after them.
    fn local_round(&mut self, round: u64) -> Update {
        let mut values = self.values.clone();
        let mut optimizer = self.optimizer.clone();
        let (mut samples, mut loss_sum) = (0, 0.0);
        for step in self.schedule.steps_of_round(round) {
            let batch = self.batch(step);
            if batch.is_empty() {
                continue;
            }
            let mut statistics = values[self.network.parameters..].to_vec();
            let mut pass = TrainingPass { rng: self.dropout_rng(step), statistics: &mut statistics };
            let result = train_batch(&self.network, self.spec.training.loss, &values, &self.train, &batch, &mut pass);
            values[self.network.parameters..].copy_from_slice(&statistics);
            let lr = self.schedule.learning_rate(&self.spec.training, step);
            optimizer.step(&self.spec.training.optimizer, lr, &mut values[..self.network.parameters], &result.gradients);
            samples += batch.len() as u64;
            loss_sum += f64::from(result.loss) * batch.len() as f64;
        }
        self.pending = Some(optimizer);
        Update { values, samples, loss_sum, commitment: Hash::default() }
    }

    /// Takes over the ranks' average: steps along averaged gradients, or continues from averaged parameters.
    pub fn apply(&mut self, average: &[f32]) -> Result<Hash, Failure> {
        if average.len() != self.network.floats {
            let (expected, found) = (self.network.floats, average.len());
            return Err(Failure::crashed(format!("an average of {expected} floats is expected, and {found} came")));
        }
        if average.iter().any(|value| !value.is_finite()) {
            return Err(Failure::diverged("the average of all ranks is not finite"));
        }
        let step = self.schedule.steps_of_round(self.round).start;
        match self.spec.training.mode {
            Mode::Sync => {
                let (gradients, statistics) = average.split_at(self.network.parameters);
                let (parameters, own) = self.values.split_at_mut(self.network.parameters);
                own.copy_from_slice(statistics);
                let lr = self.schedule.learning_rate(&self.spec.training, step);
                self.optimizer.step(&self.spec.training.optimizer, lr, parameters, gradients);
                if parameters.iter().any(|parameter| !parameter.is_finite()) {
                    return Err(Failure::diverged("parameters are not finite after a step; lower the learning rate"));
                }
            }
            _ => {
                let Some(optimizer) = self.pending.take() else {
                    return Err(Failure::crashed(format!("round {} was not computed before it was applied", self.round)));
                };
                self.optimizer = optimizer;
                self.values.copy_from_slice(average);
            }
        }
        self.round += 1;
        Ok(self.parameters_hash())
    }

    /// Evaluates the model on the validation shards.
    pub fn evaluate(&self) -> Evaluation {
        let samples = self.validate.len() as u32;
        let at_once = self.spec.training.batch.div_ceil(match self.spec.training.mode {
            Mode::Sync => self.spec.workers.min.max(1),
            _ => 1,
        });
        let at_once = at_once.clamp(1, MAX_EVALUATED_AT_ONCE);
        let (mut correct, mut loss_sum) = (0, 0.0);
        let indexes: Vec<u32> = (0..samples).collect();
        for batch in indexes.chunks(at_once as usize) {
            let outputs = outputs(&self.network, &self.values, self.validate.features(batch), batch.len());
            let loss = mean_loss(self.spec.training.loss, outputs.clone(), self.validate.targets(batch));
            loss_sum += f64::from(to_vec(loss)[0]) * batch.len() as f64;
            if let Some(classes) = self.validate.classes() {
                let width = outputs.dims()[1];
                let outputs = to_vec(outputs);
                correct +=
                    outputs.chunks(width).zip(batch).filter(|(row, i)| argmax(row) == classes[**i as usize]).count() as u64;
            }
        }
        Evaluation { samples: u64::from(samples), correct: self.validate.classes().map(|_| correct), loss_sum }
    }

    /// The whole state in canonical bytes: version ‖ next round ‖ optimizer steps ‖ three vectors, each with its length.
    pub fn save(&self) -> Vec<u8> {
        let vectors = [&self.values, &self.optimizer.first, &self.optimizer.second];
        let floats: usize = vectors.iter().map(|vector| vector.len()).sum();
        let mut bytes = Vec::with_capacity(1 + 16 + vectors.len() * 8 + floats * 4);
        bytes.push(STATE_VERSION);
        bytes.extend(self.round.to_le_bytes());
        bytes.extend(self.optimizer.steps.to_le_bytes());
        for vector in vectors {
            bytes.extend((vector.len() as u64).to_le_bytes());
            vector.iter().for_each(|float| bytes.extend(float.to_le_bytes()));
        }
        bytes
    }

    /// Goes back to a state that [`Trainer::save`] gave for the same spec. A state that can't be used changes nothing.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let refuse = |why: &str| Failure::data(format!("the saved state can't be used: {why}"));
        let Some((&STATE_VERSION, mut rest)) = bytes.split_first() else {
            return Err(refuse("its version is not known to this release"));
        };
        let number = |rest: &mut &[u8]| {
            let (number, behind) = rest.split_first_chunk::<8>().ok_or_else(|| refuse("it is cut off"))?;
            *rest = behind;
            Ok::<u64, Failure>(u64::from_le_bytes(*number))
        };
        let (round, steps) = (number(&mut rest)?, number(&mut rest)?);
        let mut vectors = Vec::new();
        for own in [&self.values, &self.optimizer.first, &self.optimizer.second] {
            if number(&mut rest)? != own.len() as u64 || rest.len() < own.len() * 4 {
                return Err(refuse("it is of another model, or cut off"));
            }
            let (vector, behind) = rest.split_at(own.len() * 4);
            vectors.push(bytes_to_floats(vector).ok_or_else(|| refuse("it is cut off"))?);
            rest = behind;
        }
        if round > self.schedule.rounds || !rest.is_empty() {
            return Err(refuse("its round is after the job's end, or it is too long"));
        }
        let [values, first, second] = vectors.try_into().expect("three vectors were read");
        self.values = values;
        self.optimizer = OptimizerState { steps, first, second };
        (self.round, self.pending) = (round, None);
        Ok(())
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

    /// The samples that this rank uses in a step.
    fn batch(&mut self, step: u64) -> Vec<u32> {
        let epoch = self.schedule.epoch_of_step(step);
        let samples = self.train.len();
        if self.order.as_ref().is_none_or(|(of_epoch, _)| *of_epoch != epoch) {
            self.order = Some((epoch, permutation(&self.seed, self.rank, epoch, samples as u32)));
        }
        let range = self.schedule.batch_of(step, samples as u64);
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        order[range.start as usize..range.end as usize].to_vec()
    }

    fn dropout_rng(&self, step: u64) -> ChaCha8Rng {
        let parts: [&[u8]; 3] = [&self.seed.0, &self.rank.to_le_bytes(), &step.to_le_bytes()];
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
            let state = straight.save();
            run(&mut straight, 6);
            let mut restored = new();
            restored.restore(&state).unwrap();
            run(&mut restored, 6);
            assert_eq!(restored.save(), straight.save(), "{mode}");
            assert_eq!(restored.export(), straight.export(), "{mode}");
        }
    }

    #[test]
    fn a_state_of_another_model_is_refused_and_changes_nothing() {
        let mut one = trainer(spec(HEAD, ADAM));
        let before = one.save();
        let other = trainer(spec(&format!("{{ batch_norm = {{}} }}, {HEAD}"), ADAM)).save();
        for state in [&other[..], &[], &[9, 9], &before[..before.len() - 1]] {
            assert_eq!(one.restore(state).unwrap_err().reason, FailureReason::DataUnavailable);
        }
        assert_eq!(one.save(), before);
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
            (shard(&[0, 2], &[1, 8, 8]), "class 2"),
            (shard(&[0, 1], &[1, 8, 9]), "shape"),
            (shard(&[], &[1, 8, 8]), "shape"),
            (vec![255; 100], "header"),
            (vec![1, 2], "header"),
            (shard(&[0, 1], &[1, 8, 8])[..100].to_vec(), ""),
        ] {
            let failure = one.add_shard(Part::Train, &bytes).unwrap_err();
            assert!(failure.reason == FailureReason::DataUnavailable && failure.message.contains(words), "{failure}");
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

    #[test]
    fn a_rank_without_samples_weighs_nothing() {
        let (manifest, _) = crate::testing::dataset();
        let samples = crate::testing::SAMPLES as u64;
        let mut empty = Trainer::new(spec(HEAD, ADAM), manifest, Hash::of(b"job"), 1, 2, samples).unwrap();
        let update = empty.compute_round(0).unwrap();
        assert_eq!((update.samples, update.values.len() as u64), (0, empty.floats()));
        empty.apply(&update.values).unwrap();
    }
}
