//! Computes training rounds: the only crate that knows burn.
//!
//! ```text
//! stdin ──Request──▶ serve ──▶ Trainer ──▶ Network (burn: forward, backward)
//! stdout ◀──Reply──            │  ├──▶ Samples    (shards, kept as bytes, turned into floats per batch)
//!                              │  └──▶ Optimizer  (flat vectors)
//!                              └──▶ model file (safetensors with PyTorch's names)
//! ```
//!
//! One round is a pure function of (spec, job seed, round, parameters, optimizer state, shards): the same inputs give
//! the same bytes in every process of a determinism class, so that a round can be computed again and compared by hash
//! (DESIGN sections 6 and 7). What burn would keep to itself is therefore kept here, in flat vectors on the host: initial
//! parameters, dropout masks, batch-norm statistics and optimizer moments come from seeded generators and plain loops; burn
//! computes a batch's outputs and gradients.
//!
//! So three others can do what a worker did, each from less:
//!
//! ```text
//! auditor  Restore(state) ─ Apply(averages)… ─ Round(r)   the whole round: inputs, steps, output
//!          Trace(r), SaveStep(r, k)                       what it says of each step, and the state before one
//! judge    Step(r, k, state)                              exactly that step, on a trainer that is nowhere in the schedule
//! anybody  Probe                                          which class this machine is of
//! ```
//!
//! A class is named by what is computed, not by what is believed about the machine ([`determinism_class`]; `compute/DETERMINISM.md`
//! says what makes classes and what doesn't).
//!
//! The binary `deepmarket-trainer` serves this over pipes with one thread. Before it reads a job it gives up every right to open a
//! socket or a file (`compute/SANDBOX.md`), and it dies with its parent. It never decides anything about a job: what to compute, and
//! what to do with it, the worker says.

mod batch;
mod blocking;
mod convolution;
mod failure;
mod graph;
mod hashing;
mod initial;
mod measure;
mod model_file;
mod network;
mod optimizer;
mod pooling;
mod probe;
#[cfg(test)]
mod pytorch;
mod recurrent;
#[cfg(test)]
mod replay;
mod round;
mod samples;
mod sandbox;
mod saved;
mod serve;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod testing;
mod trainer;

pub use blocking::fix_blocking;
pub use failure::Failure;
pub use measure::{bench, measure};
pub use probe::{determinism_class, probe};
pub use round::{Stepped, Update};
pub use sandbox::{confine, cpu_ms, peak_ram_mib};
pub use serve::serve;
pub use trainer::{Evaluation, Trainer};
