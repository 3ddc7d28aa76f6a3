//! What travels between a gateway and its users: the shapes of the REST interface `/v1`, and a typed client for it.
//!
//! Shapes live in [`types`] and [`audits`], the client in [`client`]; the gateway serves exactly these types and documents them as
//! OpenAPI. The client tries each gateway that it was given until one answers, and submits a transaction until it is in a
//! block: a transaction's id makes that safe to repeat.
//!
//! This crate never keeps a key (a caller lends one to [`Client::act`] for one signature) and never decides what is valid.

pub mod audits;
pub mod client;
pub mod types;

pub use audits::*;
pub use client::{ApiError, Client};
pub use types::*;
