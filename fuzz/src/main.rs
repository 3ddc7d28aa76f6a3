//! libFuzzer around the targets: the environment's `FUZZ_TARGET` names the one to run. Without it, their names are printed.

#![no_main]

use std::sync::LazyLock;

use deepmarket_fuzz_targets::{Target, memory::Counting, target};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Counting = Counting;

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        deepmarket_fuzz_targets::TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(if name.is_empty() { 0 } else { 2 })
    })
});

fuzz_target!(|data: &[u8]| CHOSEN.run(data));
