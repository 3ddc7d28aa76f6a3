//! Replays the corpus, and random changes of it, through the fuzz targets, in the ordinary test suite. `FUZZ_CHANGES` says how many
//! changes of each target; libFuzzer, which learns from coverage, does the long runs (`make fuzz`).

use std::{env, fs, path::Path};

use deepmarket_fuzz_targets::{TARGETS, memory::Counting, target};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

#[global_allocator]
static MEMORY: Counting = Counting;

/// Changes of each target, where nobody says otherwise: about a second.
const CHANGES: u64 = 3_000;
/// The longest input.
const MAX_BYTES: usize = 64 * 1024;

macro_rules! replayed {
    ($($name:ident)*) => {
        mod no_input_breaks_the_promises_of {
            $(#[test] fn $name() { super::replay(stringify!($name)) })*
        }

        #[test]
        fn every_target_is_replayed_and_has_a_corpus() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let folders = fs::read_dir(corpus()).expect("the corpus").map(|entry| entry.expect("a folder").file_name());
            let mut folders: Vec<String> = folders.map(|name| name.to_string_lossy().into_owned()).collect();
            let mut sorted = names.clone();
            folders.sort();
            sorted.sort();
            assert_eq!(folders, sorted);
        }
    };
}

replayed! {
    transaction block identifier genesis spec_toml spec_bytes manifest result tensor_file pipe frame message blob address
    rest_body rest_answer wallet arrays table images idx engine trainer
}

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus"))
}

fn replay(name: &str) {
    let target = target(name).expect("a target");
    let mut paths: Vec<_> =
        fs::read_dir(corpus().join(name)).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for path in paths {
        let seed = fs::read(&path).expect("a seed");
        told(&format!("{}", path.display()), &seed, |seed| target.run(seed));
        seeds.push(seed);
    }
    let changes = env::var("FUZZ_CHANGES").map_or(CHANGES, |text| text.parse().expect("FUZZ_CHANGES is a number"));
    for number in 0..changes {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let input = changed(&seeds, &mut random);
        told(&format!("change {number} of {name}"), &input, |input| target.run(input));
    }
}

/// Runs a target; where it panics, the input is told so that it can become a seed.
fn told(what: &str, input: &[u8], run: impl FnOnce(&[u8])) {
    struct Tell<'a>(&'a str, &'a [u8]);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let shown: String = self.1.iter().take(4096).map(|byte| format!("{byte:02x}")).collect();
                eprintln!("{}: {} bytes, in hex: {shown}", self.0, self.1.len());
            }
        }
    }
    let tell = Tell(what, input);
    run(input);
    drop(tell);
}

/// A seed, changed in some places as damage and malice change bytes.
fn changed(seeds: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut below = |limit: usize| (random.next_u64() % limit.max(1) as u64) as usize;
    let mut input = seeds[below(seeds.len())].clone();
    for _ in 0..=below(4) {
        let at = below(input.len());
        let length = 1 << below(7);
        let end = (at + length).min(input.len());
        match below(8) {
            0 if !input.is_empty() => input[at] ^= 1 << below(8),
            1 if !input.is_empty() => input[at] = below(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let repeated = input[at..end].to_vec();
                input.splice(at..at, repeated);
            }
            5 => {
                let other = &seeds[below(seeds.len())];
                let from = below(other.len());
                input.splice(at..end, other[from..(from + length).min(other.len())].iter().copied());
            }
            6 => {
                // Numbers at which programs break.
                let number = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX][below(9)];
                let bytes = &number.to_le_bytes()[..1 << below(4)];
                let end = (at + bytes.len()).min(input.len());
                input.splice(at..end, bytes.iter().copied());
            }
            _ => {
                let random: Vec<u8> = (0..length).map(|_| below(256) as u8).collect();
                input.splice(at..at, random);
            }
        }
    }
    input.truncate(MAX_BYTES);
    input
}
