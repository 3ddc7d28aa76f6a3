//! Evaluates a finished model on this machine.

use std::path::Path;

use deepmarket_job::{
    DatasetManifest, JobSpec,
    protocol::{Part, Request},
};
use deepmarket_types::Hash;

use crate::{TrainerLimits, TrainerProcess, WorkerError, trainer::EvaluationSums};

/// How well a model does on a validation split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Samples evaluated.
    pub samples: u64,
    /// Right answers (datasets with classes).
    pub correct: Option<u64>,
    /// Mean loss.
    pub loss: f64,
}

/// Computes a model's accuracy and loss on shards of its job's validation split, in a trainer of its own.
pub async fn evaluate_model(
    trainer: &Path,
    spec: &JobSpec,
    manifest: &DatasetManifest,
    model: Vec<u8>,
    shards: Vec<Vec<u8>>,
) -> Result<Evaluation, WorkerError> {
    let train_samples = manifest.split(&spec.data.train)?.samples;
    let (spec, data) = (spec.to_bytes(), manifest.to_bytes());
    let mut trainer = TrainerProcess::spawn(trainer, &TrainerLimits::default())?;
    trainer.start(Request::Start { spec, seed: Hash::default(), world: 1, train_samples, data }).await?;
    trainer.load_model(model).await?;
    for (index, shard) in (0..).zip(shards) {
        trainer.shard(Part::Validate, index, shard).await?;
    }
    let EvaluationSums { samples, correct, loss_sum } = trainer.evaluate().await?;
    trainer.stop().await;
    Ok(Evaluation { samples, correct, loss: loss_sum / samples.max(1) as f64 })
}
