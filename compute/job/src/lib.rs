//! Jobs are data: what a borrower sends instead of code (DESIGN section 5).
//!
//! ```text
//! TOML ──from_toml──▶ JobSpec ──check──▶ Size        what it needs, before anything is allocated
//!                      │  ▲
//!               to_bytes  from_bytes                 how it travels on the chain
//!                      ▼
//!                   Schedule, Permutation            which samples each rank uses in which step
//! ```
//!
//! Beside the spec live the two other things that a worker and its trainer must agree on: the [`DatasetManifest`] (what the
//! shards of a dataset hold) and the [`protocol`] that they speak over pipes.
//!
//! Everything here is bounded, integer and deterministic: the ledger calls [`JobSpec::check`] inside the state transition,
//! so that two validators can't disagree about a job. Fractions are [`Decimal`]s of 1e-9.
//!
//! This crate never does IO, knows no clock, no thread and no float, and allocates nothing that a spec asks for.

mod decimal;
mod error;
mod evidence;
mod manifest;
mod permutation;
mod presets;
mod print;
pub mod protocol;
mod read;
mod read_model;
mod results;
mod schedule;
mod shapes;
mod shares;
mod size;
mod spec;
pub mod tensor_file;
mod toml_tree;

pub use decimal::{Decimal, DecimalError};
pub use error::{SpecError, SpecProblem};
pub use evidence::{Evidence, EvidenceError};
pub use manifest::{DataError, DatasetManifest, Dtype, Features, Shard, Split, Targets};
pub use permutation::permutation;
pub use read::{Name, Resolve};
pub use results::{EvaluationResult, PredictedShard, Predictions, ResultError};
pub use schedule::Schedule;
pub use shapes::layer_shapes;
pub use shares::share_out;
pub use size::{
    ACTIVATION_BYTES, BASELINE_MIB, MAX_BATCH, MAX_DIMENSION, MAX_EPOCHS, MAX_LAYERS, MAX_LOCAL_STEPS, MAX_MULTIPLY_ADDS,
    MAX_PARAMETERS, MAX_RAM_MIB, MAX_STALENESS, MAX_WORKERS, PARAMETER_BYTES, Size,
};
pub use spec::{
    Budget, Data, INPUT, JobSpec, Kind, Layer, LearningRate, Loss, MAX_SPEC_BYTES, Mode, Model, Named, Optimizer, Outer,
    Positions, Recovery, Training, Updates, Workers,
};

/// The spec that tests start from.
#[cfg(test)]
pub(crate) fn spec_for_tests() -> JobSpec {
    let resolve = |_: Name| Some(deepmarket_types::Hash::of(b"mnist"));
    JobSpec::from_toml(include_str!("../../../examples/mnist.toml"), &resolve).expect("the example is valid")
}
