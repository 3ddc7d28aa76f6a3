use deepmarket_job::{
    protocol::bytes_to_floats,
    tensor_file::{STATE_FACTS, fact_of, with_tensors},
};
use safetensors::SafeTensors;

use crate::{Failure, Trainer, model_file, optimizer::OptimizerState};

/// The names of a saved state's tensors beside the model's: the optimizer's vectors, and the outer optimizer's momentum.
const STATE_TENSORS: [&str; 3] = ["optimizer.first", "optimizer.second", "outer.momentum"];

/// All that a job's rank is, beside what follows from the spec, the seed and its shards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// Parameters, then batch-norm statistics.
    pub(crate) values: Vec<f32>,
    pub(crate) optimizer: OptimizerState,
    /// The outer optimizer's momentum.
    pub(crate) outer: Vec<f32>,
    /// The next round.
    pub(crate) round: u64,
    /// Samples of the running epoch that were trained on.
    pub(crate) trained: u64,
}

impl Trainer {
    /// The whole state: the model's file, with the optimizer's vectors and the next round.
    pub fn save(&self, trained: u64) -> Vec<u8> {
        self.file_of(&self.values, &self.optimizer, trained)
    }

    /// A state's file, with the outer optimizer's momentum and the next round as they are.
    pub(crate) fn file_of(&self, values: &[f32], optimizer: &OptimizerState, trained: u64) -> Vec<u8> {
        let vectors = [&optimizer.first, &optimizer.second, &self.outer].map(Vec::as_slice);
        let tensors: Vec<(&str, &[f32])> =
            STATE_TENSORS.into_iter().zip(vectors).filter(|(_, vector)| !vector.is_empty()).collect();
        let facts: Vec<(&str, u64)> = STATE_FACTS.into_iter().zip([self.round, optimizer.steps, trained]).collect();
        let model = model_file::write(&self.network, values, &self.spec);
        with_tensors(&model, &tensors, &facts).expect("an exported model is a safetensors file")
    }

    /// Goes back to a state that [`Trainer::save`] gave for the same spec; returns the samples of the running epoch that were
    /// trained on. A state that can't be used changes nothing.
    pub fn restore(&mut self, file: &[u8]) -> Result<u64, Failure> {
        let State { values, optimizer, outer, round, trained } = self.state_of(file)?;
        (self.values, self.optimizer, self.outer, self.round) = (values, optimizer, outer, round);
        self.pending = None;
        Ok(trained)
    }

    /// The state in a file.
    pub(crate) fn state_of(&self, file: &[u8]) -> Result<State, Failure> {
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
        Ok(State { values, optimizer: OptimizerState { steps, first, second }, outer, round, trained })
    }
}
