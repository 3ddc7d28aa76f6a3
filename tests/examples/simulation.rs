//! `make simulation`: thousands of virtual days under `random` and `dynamic` prices. Writes `docs/prices.md` and
//! `docs/prices.svg`, or files of these names in the folder that is given.

use std::path::PathBuf;

use deepmarket_tests::{
    checkout,
    simulation::{Plan, compare, dynamic_pricing, plot::plot, report::markdown},
};
use deepmarket_types::VerifiedTransaction;

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(|| checkout().join("docs"), PathBuf::from);
    let pricing = dynamic_pricing();
    let live = |demand, seeds, days| {
        let plan = Plan { seeds, days, demand };
        eprintln!("living: {} markets, {days} days each, with a demand of {demand}", plan.seeds.end);
        compare(&plan, pricing, VerifiedTransaction::assume_verified)
    };
    let pairs = live(1.0, 0..20, 120);
    let others = [0.5, 1.5, 2.0].map(|demand| (demand, live(demand, 0..4, 100)));
    for (name, text) in [("prices.md", markdown(&pairs, &others, &pricing)), ("prices.svg", plot(&pairs))] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        eprintln!("written: {}", path.display());
    }
}
