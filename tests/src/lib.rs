//! What the end-to-end tests and the benchmarks share: a real market ([`deepmarket_test_market`], exported here), and what they
//! need beside it.

pub mod proxy;
pub mod simulation;
pub mod spec;
pub mod virtual_chain;
pub mod zoo;

pub use deepmarket_test_market::*;
