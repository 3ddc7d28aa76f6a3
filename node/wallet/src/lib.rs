//! What the programs of a person do with a market: keys, accounts, invitations, datasets, jobs. The command line and PLUTO are
//! two faces of it.
//!
//! ```text
//! key files ─▶ keys, vault ─┐
//! typed by people ──────────┼─▶ accounts, offers, datasets, jobs ─▶ the REST client ─▶ a market
//! what the market answers ──┴─▶ words
//! ```
//!
//! Every failure is a [`failure::Failure`]: what is wrong, what to do, and who has to. This crate never prints and never asks.

pub mod accounts;
pub mod answers;
pub mod calendar;
pub mod datasets;
pub mod failure;
pub mod files;
pub mod invite_code;
pub mod jobs;
pub mod keys;
pub mod offers;
pub mod this_computer;
pub mod vault;
pub mod verification;
pub mod words;
