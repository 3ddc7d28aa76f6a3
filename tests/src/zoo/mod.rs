//! The cheater's zoo: all ways of being paid for what wasn't done that we could think of, let loose on a market whose ledger and
//! trainer are the real ones.
//!
//! ```text
//!   people ── lenders, honest and not ──┐
//!   task ──── tiny jobs ─────────────── world ── every minute: rounds, receipts, a few blocks ──▶ outcome ──▶ report
//!   worker ── computes, lies, commits ──┤   ▲
//!   answers ─ opens, audits, judges ────┘   └── the ledger draws audits from its beacon
//! ```
//!
//! Left out are the network, processes and signatures (`tests/tests/cheats.rs` has them), and nothing else: teams average their
//! updates as over the network, evidence is handed over as bytes, and auditors know nothing but the chain and these. The rules
//! are those of `networks/psu.toml`; only contact is never lost here.

mod answers;
mod cheat;
mod computing;
mod dice;
mod outcome;
mod people;
pub mod report;
mod task;
mod worker;
mod world;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use deepmarket_genesis::{Genesis, PSU};
use deepmarket_ledger::Params;
use deepmarket_types::{Credits, Transaction, VerifiedTransaction};

pub use cheat::{Habit, Kind};
pub use outcome::{Fate, Outcome, Planted};
pub use world::World;

/// How an unsigned transaction becomes a verified one, see [`crate::simulation::Trust`].
pub type Trust = fn(Transaction) -> VerifiedTransaction;

/// Some worlds that differ by their seeds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules.
    pub params: Params,
    /// Worlds, of the seeds from this one on.
    pub first_seed: u64,
    /// How many.
    pub worlds: u32,
    /// Cheats that are planted in all of them together; each kind has its share.
    pub cheats: u32,
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// Do lying auditors agree on their lies?
    pub league: bool,
    /// Receipt intervals that a world lives at least.
    pub minutes: u64,
    /// From this one on its costs are counted.
    pub measured_from: u64,
    /// Rounds of one window.
    pub rounds: u64,
    /// Honest lenders of each world.
    pub honest: u32,
    /// Lenders who cheat as workers, at a time.
    pub cheating_workers: u32,
    /// Lenders who lie as auditors, at a time.
    pub cheating_auditors: u32,
    /// The audit rate that borrowers ask for, in percent; none: some this, some that.
    pub dial: Option<u8>,
}

/// The rules of Portland State University's market, on which nobody loses contact.
pub fn params() -> Params {
    let params = Genesis::from_toml(PSU).expect("a network of this release is valid").params;
    let receipt_ms = params.receipt_ms;
    Params {
        starting_credits: Credits::from_credits(1_000_000),
        heartbeat_ms: receipt_ms,
        contact_timeout_ms: 24 * 3_600_000,
        contact_step_ms: 1,
        max_open_jobs_per_account: 10_000,
        ..params
    }
}

/// A thousand cheats.
pub fn thousand() -> Plan {
    Plan {
        params: params(),
        first_seed: 1,
        worlds: 10,
        cheats: 1_000,
        kinds: Kind::ALL.to_vec(),
        league: false,
        minutes: 0,
        measured_from: 0,
        rounds: 3,
        honest: 8,
        cheating_workers: 4,
        cheating_auditors: 1,
        dial: None,
    }
}

/// Honest people only, at the market's own audit rate, from one minute of the market's life to another.
fn honest(from: u64, to: u64) -> Plan {
    let none = Plan { cheats: 0, cheating_workers: 0, cheating_auditors: 0, ..thousand() };
    Plan { first_seed: 101, worlds: 2, minutes: to, measured_from: from, rounds: 6, honest: 6, dial: Some(0), ..none }
}

/// Two lenders with many machines, who accuse honest workers and agree on what they say.
pub fn league() -> Plan {
    let kinds = vec![Kind::LyingAuditor];
    Plan { first_seed: 201, worlds: 2, cheats: 40, kinds, league: true, cheating_workers: 0, cheating_auditors: 2, ..thousand() }
}

/// A market's first hour: everybody is new, and audited often.
pub fn newcomers() -> Plan {
    honest(0, 60)
}

/// A market on which everybody has passed so many audits that the floor holds.
pub fn steady() -> Plan {
    honest(220, 420)
}

/// The quota of each kind in one of several worlds.
fn quota(plan: &Plan, world: u32) -> BTreeMap<Kind, u32> {
    let kinds = plan.kinds.len() as u32;
    let share = |of: u32, parts: u32, part: u32| of * (part + 1) / parts - of * part / parts;
    let mut quota: BTreeMap<Kind, u32> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    for (number, kind) in (0..).zip(&plan.kinds) {
        quota.insert(*kind, share(share(plan.cheats, kinds, number), plan.worlds, world));
    }
    quota
}

/// Lets all worlds of a plan live, on as many threads as the machine has cores.
pub fn live(plan: &Plan, trust: Trust) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(plan.worlds as usize);
    let next = AtomicU32::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= plan.worlds {
                return outcomes;
            }
            let seed = plan.first_seed + u64::from(number);
            let mut world = World::open(plan, seed, quota(plan, number), trust);
            let mut minutes = 0;
            while minutes < plan.minutes || world.has_cheats_left() {
                if minutes == plan.measured_from {
                    world.measure_from_here();
                }
                world.pass();
                minutes += 1;
                assert!(minutes < plan.minutes + 3_000, "seed {seed}: the cheats can't be planted");
            }
            outcomes.push(world.drain());
        }
    };
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a world ended badly: its words are above")).collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
