//! What the page may ask for: one function for each of `ui/src/rust.ts`.

pub mod account;
pub mod jobs;
pub mod machines;
pub mod market;
pub mod wallet;
