//! The smallest job that the ledger accepts: what it trains doesn't matter where only the market is looked at.

use deepmarket_job::{
    Budget, Data, Decimal, JobSpec, Kind, Layer, LearningRate, Loss, Mode, Model, Optimizer, Recovery, Training, Workers,
};
use deepmarket_types::{Credits, Hash};

/// Multiply-adds of its model's forward pass.
pub const MULTIPLY_ADDS: u64 = 8;

/// A job of these workers with a budget, for some slots of the day or (none) for any.
pub fn spec(name: &str, workers: Workers, budget: Credits, slots: Vec<u8>) -> JobSpec {
    JobSpec {
        name: name.into(),
        kind: Kind::Train,
        workers,
        budget: Budget { max: budget, slots },
        data: Data { manifest: Hash::default(), train: "train".into(), validate: "test".into() },
        model: Model { input: vec![4], layers: vec![Layer::Linear { out: 2 }] },
        training: Training {
            loss: Loss::CrossEntropy,
            optimizer: Optimizer::Sgd {
                lr: Decimal::from_nanos(1_000_000),
                momentum: Decimal::ZERO,
                weight_decay: Decimal::ZERO,
                nesterov: false,
            },
            schedule: LearningRate::Constant { warmup_steps: 0 },
            batch: 8,
            epochs: 1,
            seed: 7,
            mode: Mode::Sync,
        },
        recovery: Recovery { checkpoint_rounds: 0 },
    }
}
