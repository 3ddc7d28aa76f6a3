use std::str::FromStr;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::{
    Format, Import, ImportError, Options, Sink,
    collect::{Chooser, Collector, X, Y},
};

/// A kind of made-up data, for examples and tests without any download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// Digits as MNIST has them: 28 × 28 pixels, ten classes, each drawn in a slightly other way.
    Digits,
    /// Eight features, and a value that depends on them in part linearly.
    Regression,
    /// Sentences of a small grammar, as tokens of one byte.
    Text,
}

impl FromStr for Generator {
    type Err = String;

    fn from_str(text: &str) -> Result<Generator, String> {
        match text {
            "digits" => Ok(Generator::Digits),
            "regression" => Ok(Generator::Regression),
            "text" => Ok(Generator::Text),
            _ => Err(format!("'{text}' is none of digits, regression, text")),
        }
    }
}

/// The most samples that are made up.
const MAX_SAMPLES: u64 = 10_000_000;
/// The side of a digit's image.
const SIDE: usize = 28;
/// Digits of 5 × 7 pixels, a row a number.
const FONT: [[u8; 7]; 10] = [
    [14, 17, 19, 21, 25, 17, 14],
    [4, 12, 4, 4, 4, 4, 14],
    [14, 17, 1, 2, 4, 8, 31],
    [31, 2, 4, 2, 1, 17, 14],
    [2, 6, 10, 18, 31, 2, 2],
    [31, 16, 30, 1, 1, 17, 14],
    [6, 8, 16, 30, 17, 17, 14],
    [31, 1, 2, 4, 8, 8, 8],
    [14, 17, 17, 14, 17, 17, 14],
    [14, 17, 17, 15, 1, 2, 12],
];
/// Features of a made-up regression.
const FEATURES: usize = 8;

/// Makes up a dataset of so many samples. Equal seeds give equal bytes.
pub fn generate(kind: Generator, samples: u64, options: &Options, sink: Sink<'_>) -> Result<Import, ImportError> {
    options.check()?;
    if !(2..=MAX_SAMPLES).contains(&samples) {
        return Err(ImportError::unclear(format!("{samples} samples can't be made"), format!("ask for 2 to {MAX_SAMPLES}")));
    }
    let mut random = Random(ChaCha8Rng::seed_from_u64(options.seed));
    let mut chooser = Chooser::new(options, samples);
    let mut features = Vec::new();
    let collector = match kind {
        Generator::Digits => {
            let side = SIDE as u32;
            let mut collector = Collector::new(vec![1, side, side], X::Bytes, Y::Class { at_least: 10 })?;
            for _ in 0..samples {
                let digit = random.below(10);
                collector.push(chooser.next(), &draw(digit as usize, &mut random), &(digit as u32).to_le_bytes())?;
            }
            collector
        }
        Generator::Regression => {
            features = (1..=FEATURES).map(|number| format!("x{number}")).collect();
            let mut collector = Collector::new(vec![FEATURES as u32], X::Floats, Y::Values { shape: vec![1] })?;
            let weights: Vec<f32> = (0..FEATURES).map(|_| random.signed()).collect();
            for _ in 0..samples {
                let x: Vec<f32> = (0..FEATURES).map(|_| 2.0 * random.signed()).collect();
                let linear: f32 = x.iter().zip(&weights).map(|(x, w)| x * w).sum();
                // A product bends it: a linear model can't explain all. Additions and products are the same on every machine.
                let y = linear + 0.5 * x[0] * x[1] + 0.1 * random.signed();
                let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
                collector.push(chooser.next(), &bytes, &y.to_le_bytes())?;
            }
            collector
        }
        Generator::Text => {
            let length = options.length.max(1) as usize;
            let (x, y) = (X::Tokens { vocabulary: 256 }, Y::Tokens { vocabulary: 256 });
            let mut collector = Collector::new(vec![length as u32], x, y)?;
            let mut text = Vec::new();
            let tokens = |bytes: &[u8]| -> Vec<u8> { bytes.iter().flat_map(|byte| u16::from(*byte).to_le_bytes()).collect() };
            for _ in 0..samples {
                while text.len() <= length {
                    text.extend(sentence(&mut random).bytes());
                }
                collector.push(chooser.next(), &tokens(&text[..length]), &tokens(&text[1..=length]))?;
                text.drain(..length);
            }
            collector
        }
    };
    let manifest = collector.finish(options, sink)?;
    Ok(Import { manifest, format: Format::Idx, classes: Vec::new(), features })
}

struct Random(ChaCha8Rng);

impl Random {
    /// A whole number from 0 to `limit - 1`.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A float from -1 to 1.
    fn signed(&mut self) -> f32 {
        (self.below(1 << 20) as f32 / (1 << 19) as f32) - 1.0
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A digit at a size and a place of its own, with grain.
fn draw(digit: usize, random: &mut Random) -> Vec<u8> {
    let mut image = vec![0; SIDE * SIDE];
    let (wide, tall) = (3 + random.below(2) as usize, 2 + random.below(2) as usize);
    let left = 1 + random.below((SIDE - 5 * wide - 1) as u64) as usize;
    let top = 1 + random.below((SIDE - 7 * tall - 1) as u64) as usize;
    let ink = 160 + random.below(80);
    for (row, bits) in FONT[digit].iter().enumerate() {
        for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
            for y in 0..tall {
                for x in 0..wide {
                    let at = (top + row * tall + y) * SIDE + left + column * wide + x;
                    image[at] = (ink + random.below(16)) as u8;
                }
            }
        }
    }
    for _ in 0..12 {
        let at = random.below((SIDE * SIDE) as u64) as usize;
        image[at] = random.below(256) as u8;
    }
    image
}

fn sentence(random: &mut Random) -> String {
    let noun = |random: &mut Random| {
        let size = random.one_of(&["small", "large", "old", "new", "quiet", "idle"]);
        format!("the {size} {}", random.one_of(&["machine", "lender", "market", "model", "student", "river"]))
    };
    let (one, other) = (noun(random), noun(random));
    let verb = random.one_of(&["lends", "trains", "watches", "pays", "follows", "remembers"]);
    format!("{one} {verb} {other}.\n")
}
