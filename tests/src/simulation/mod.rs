//! Thousands of days on the real ledger, without a network: what do `random` and `dynamic` prices do to the same people?
//!
//! ```text
//!  seed ─► people (lenders, needs) ─┬─► days under random ──► Outcome ─┐
//!                                   └─► days under dynamic ─► Outcome ─┴─► table, plot
//! ```
//!
//! Every price, match, payment and refund is the ledger's own; only the people are imagined, and their clock. A block comes
//! every virtual hour, and one more a second later where people act on what they see in it. Both policies meet the same
//! people: who needs what when, and who lends what for how much, follows from the seed alone.
//!
//! # The people, and why they are like that
//!
//! Nobody in here knows which policy is at work, and nobody acts against his own interest.
//!
//! - **Lenders** ([`people::Lender`]) have a machine of one to four cores in some hours: half of them at night and until the
//!   morning (an office machine), three in ten always (a server in a laboratory), the others by day (a machine at home). Each
//!   has a *reserve*: what an hour of a core costs him in electricity and trouble. It is his offer's minimum. Asking for more
//!   would gain him nothing, because the market's price pays him and he doesn't move it; asking for less would lose money.
//!   One whose hours paid less than his reserve for a week withdraws, and comes back after two days of good prices.
//! - **Borrowers** ([`people::Need`]) need one to three workers for one to six hours, most of them in the afternoon, few at
//!   night, half as many at weekends. A need has a *worth*: who finds the ledger's quote above it doesn't submit, and the budget
//!   of a job is its worth. *Urgent* needs (half of them) want to run now and are worth more; they wait four hours.
//!   *Flexible* ones may run within a day: they ask for a quote and take the cheapest slot that it shows, where each hour of
//!   waiting counts as costing nothing to 4 % of the worth: nobody waits until the night to save a microcredit. Who waits asks
//!   again whenever a slot begins, and takes his job back where another slot is better now. So everybody reacts to prices
//!   exactly as far as the ledger shows them: tomorrow's are not known, today's are what a quote reckons with.
//! - All machines are equally fast and hold twice the memory that their cores' workers need: speed and memory are not what is
//!   compared. Everybody has credits enough: whether people can pay is not what is compared either. A job's team is of one size.
//!
//! The rules' numbers (floor, ceiling, and what `dynamic` is made of) are those of `networks/psu.toml`; only the periods are
//! longer, so that an hour needs one receipt.

pub mod market;
pub mod outcome;
pub mod people;
pub mod plot;
pub mod report;

use std::sync::atomic::{AtomicU64, Ordering};

use deepmarket_genesis::{Genesis, PSU};
use deepmarket_ledger::{DynamicPricing, Params, PricePolicy};
use deepmarket_types::{Credits, Transaction, VerifiedTransaction};

pub use outcome::Outcome;
use people::People;

/// How an unsigned transaction becomes a verified one. Millions are made here: signing them would measure ed25519. Only tests
/// and examples can name a function that does this (`deepmarket-types`, feature `test-utils`).
pub type Trust = fn(Transaction) -> VerifiedTransaction;

/// One hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;

/// The rules of Portland State University's market with hours for seconds, and with these prices.
pub fn params(policy: PricePolicy) -> Params {
    Params {
        starting_credits: Credits::from_credits(1_000_000),
        price_policy: policy,
        receipt_ms: HOUR_MS,
        // Nobody loses contact here: the clock of contact hardly moves, and one heartbeat is enough.
        heartbeat_ms: HOUR_MS,
        contact_timeout_ms: 24 * HOUR_MS,
        contact_step_ms: 1,
        unique_hosts: false,
        // Prices are looked at here, and nobody trains: there is nothing to audit.
        audit: Default::default(),
        max_open_jobs_per_account: 10_000,
        max_queued_jobs: 10_000,
        ..network()
    }
}

fn network() -> Params {
    Genesis::from_toml(PSU).expect("a network of this release is valid").params
}

/// What `dynamic` is made of on that market.
pub fn dynamic_pricing() -> DynamicPricing {
    match network().price_policy {
        PricePolicy::Dynamic(pricing) => pricing,
        PricePolicy::Random => panic!("networks/psu.toml has dynamic prices"),
    }
}

/// One seed's people under both policies.
pub struct Pair {
    /// What `random` prices made of them.
    pub random: Outcome,
    /// What `dynamic` prices made of them.
    pub dynamic: Outcome,
}

/// Some markets that differ by their seeds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One market for each.
    pub seeds: std::ops::Range<u64>,
    /// How long each lives.
    pub days: u64,
    /// How much is needed: 1 is usual.
    pub demand: f64,
}

/// Lets every market of a plan live under both policies, on as many threads as the machine has cores.
pub fn compare(plan: &Plan, pricing: DynamicPricing, trust: Trust) -> Vec<Pair> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(plan.seeds.start);
    let work = || {
        let mut pairs = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= plan.seeds.end {
                return pairs;
            }
            let people = People::draw(seed, plan.days, plan.demand);
            let random = market::live(people.clone(), plan.days, PricePolicy::Random, trust);
            let dynamic = market::live(people, plan.days, PricePolicy::Dynamic(pricing), trust);
            pairs.push((seed, Pair { random, dynamic }));
        }
    };
    let mut pairs: Vec<(u64, Pair)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a simulation panicked")).collect()
    });
    pairs.sort_by_key(|(seed, _)| *seed);
    pairs.into_iter().map(|(_, pair)| pair).collect()
}
