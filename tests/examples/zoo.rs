//! `make zoo`: a thousand cheats on simulated markets, and what audits cost on honest ones. Writes `docs/zoo.md`, or a file of this
//! name in the folder that is given.

use std::path::PathBuf;

use deepmarket_tests::{
    checkout,
    zoo::{Plan, live, newcomers, report, steady, thousand},
};
use deepmarket_types::VerifiedTransaction;

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(|| checkout().join("docs"), PathBuf::from);
    let sum_of = |plan: &Plan, what: &str| {
        eprintln!("living: {what}");
        report::sum(&live(plan, VerifiedTransaction::assume_verified))
    };
    let plan = thousand();
    let cheats = sum_of(&plan, "a thousand cheats");
    let (newcomers, steady) =
        (sum_of(&newcomers(), "honest newcomers"), sum_of(&steady(), "an honest market in its steady state"));
    let path = folder.join("zoo.md");
    let text = report::markdown(&plan, &cheats, &newcomers, &steady);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    eprintln!("written: {}", path.display());
}
