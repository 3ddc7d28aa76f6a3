//! The smallest job that the ledger accepts: what it trains doesn't matter where only the market is looked at.

use std::sync::LazyLock;

use deepmarket_job::{JobSpec, Workers};
use deepmarket_types::{Credits, Hash};

/// Multiply-adds of its model's forward pass.
pub const MULTIPLY_ADDS: u64 = 8;

static SPEC: LazyLock<JobSpec> = LazyLock::new(|| {
    let text = r#"
        name = "job"
        kind = "train"
        [workers]
        min = 1
        max = 1
        ram_mib = 1024
        [budget]
        max_credits = 1
        [data]
        manifest = "data"
        train = "train"
        validate = "test"
        [model]
        input = [4]
        layers = [{ linear = { out = 2 } }]
        [training]
        loss = "cross_entropy"
        optimizer = { sgd = { lr = 0.001 } }
        batch = 8
        epochs = 1
        seed = 7
    "#;
    JobSpec::from_toml(text, &|_| Some(Hash::default())).expect("a sound spec")
});

/// A job of these workers with a budget, for some slots of the day or (none) for any.
pub fn spec(name: &str, workers: Workers, budget: Credits, slots: Vec<u8>) -> JobSpec {
    let mut spec = JobSpec { name: name.into(), workers, ..SPEC.clone() };
    (spec.budget.max, spec.budget.slots) = (budget, slots);
    spec
}
