//! From samples to shards. Samples of one size are written to a temporary file as they are read, and dealt out to the shards
//! like cards when all are there: a file that is sorted by class gives shards that hold all classes, and nothing but one
//! shard is in memory at a time.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
};

use deepmarket_job::{DatasetManifest, Decimal, Features, Shard, Split, Targets};
use deepmarket_types::Hash;
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _, rand_core::SeedableRng as _};

use crate::{
    ImportError, Options,
    options::DEFAULT_SHARD_SAMPLES,
    shard::{Tensor, safetensors},
};

/// A split has at least so many shards where it has so many samples: workers share out whole shards.
const SHARDS: u64 = 60;
/// The most bytes of a shard.
const SHARD_BYTES: u64 = 32 * 1024 * 1024;

/// Takes a shard; what it can't keep is an error of the disk.
pub type Sink<'a> = &'a mut dyn FnMut(Hash, Vec<u8>) -> io::Result<()>;

/// The two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Test,
}

/// How `x` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum X {
    /// Bytes; the manifest tells their mean and deviation in the training split.
    Bytes,
    /// `f32`, little-endian.
    Floats,
    /// `u16`, little-endian.
    Tokens { vocabulary: u32 },
}

/// How `y` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Y {
    /// A `u32`, little-endian; there are at least so many classes.
    Class { at_least: u32 },
    /// `f32`, little-endian.
    Values { shape: Vec<u32> },
    /// `u16` of the shape of `x`, little-endian.
    Tokens { vocabulary: u32 },
}

/// Collects samples, then gives shards and a manifest.
pub(crate) struct Collector {
    shape: Vec<u32>,
    x: X,
    y: Y,
    x_bytes: usize,
    y_bytes: usize,
    train: Spool,
    test: Spool,
    /// How often each byte occurs in the training split's `x`.
    histogram: [u64; 256],
    highest_class: u32,
}

impl Collector {
    pub(crate) fn new(shape: Vec<u32>, x: X, y: Y) -> Result<Collector, ImportError> {
        let values = |shape: &[u32]| shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d as usize));
        let x_values = values(&shape);
        let x_bytes = x_values.and_then(|n| {
            n.checked_mul(if x == X::Bytes {
                1
            } else if x == X::Floats {
                4
            } else {
                2
            })
        });
        let y_bytes = match &y {
            Y::Class { .. } => Some(4),
            Y::Values { shape } => values(shape).and_then(|n| n.checked_mul(4)),
            Y::Tokens { .. } => x_values.and_then(|n| n.checked_mul(2)),
        };
        match (x_bytes, y_bytes) {
            (Some(x_bytes @ 1..), Some(y_bytes @ 1..)) if (x_bytes + y_bytes) as u64 <= SHARD_BYTES => {
                let (train, test) = (Spool::new()?, Spool::new()?);
                Ok(Collector { shape, x, y, x_bytes, y_bytes, train, test, histogram: [0; 256], highest_class: 0 })
            }
            _ => Err(ImportError::unclear(
                format!("samples of shape {shape:?} are empty or have more than {} MiB each", SHARD_BYTES >> 20),
                "make them smaller (images: --resize)",
            )),
        }
    }

    /// Adds a sample. Both slices have the lengths that shape and types say.
    pub(crate) fn push(&mut self, part: Part, x: &[u8], y: &[u8]) -> Result<(), ImportError> {
        assert_eq!((x.len(), y.len()), (self.x_bytes, self.y_bytes), "readers give whole samples");
        if self.x == X::Bytes && part == Part::Train {
            x.iter().for_each(|byte| self.histogram[usize::from(*byte)] += 1);
        }
        if let (Y::Class { .. }, &[a, b, c, d]) = (&self.y, y) {
            self.highest_class = self.highest_class.max(u32::from_le_bytes([a, b, c, d]));
        }
        let spool = if part == Part::Train { &mut self.train } else { &mut self.test };
        spool.push(x, y).map_err(ImportError::Disk)
    }

    /// Deals the samples out to shards.
    pub(crate) fn finish(self, options: &Options, sink: Sink<'_>) -> Result<DatasetManifest, ImportError> {
        let x = match self.x {
            X::Bytes => brightness(&self.histogram),
            X::Floats => Features::F32,
            X::Tokens { vocabulary } => Features::Tokens { vocabulary },
        };
        let y = match &self.y {
            Y::Class { at_least } => Targets::Class { classes: (self.highest_class + 1).max(*at_least).max(2) },
            Y::Values { shape } => Targets::Values { shape: shape.clone() },
            Y::Tokens { vocabulary } => Targets::Tokens { vocabulary: *vocabulary },
        };
        let encoder = Encoder { shape: &self.shape, x: &x, y: &y, x_bytes: self.x_bytes, y_bytes: self.y_bytes };
        let mut splits = Vec::new();
        for (name, spool) in [("train", self.train), ("test", self.test)] {
            if spool.samples == 0 {
                return Err(ImportError::unclear(
                    format!("the split '{name}' has no samples"),
                    "give both splits samples: --split test=0.2, or --train and --test",
                ));
            }
            splits.push(encoder.deal(name, spool, options.shard_samples, sink)?);
        }
        let manifest = DatasetManifest { name: options.name.clone(), shape: self.shape, x, y, splits };
        manifest.check()?;
        Ok(manifest)
    }
}

/// Samples in a temporary file, each as `x ‖ y`.
struct Spool {
    file: BufWriter<File>,
    samples: u64,
}

impl Spool {
    fn new() -> Result<Spool, ImportError> {
        let file = tempfile::tempfile().map_err(ImportError::Disk)?;
        Ok(Spool { file: BufWriter::with_capacity(1 << 17, file), samples: 0 })
    }

    fn push(&mut self, x: &[u8], y: &[u8]) -> io::Result<()> {
        self.samples += 1;
        self.file.write_all(x)?;
        self.file.write_all(y)
    }
}

/// What shards look like.
struct Encoder<'a> {
    shape: &'a [u32],
    x: &'a Features,
    y: &'a Targets,
    x_bytes: usize,
    y_bytes: usize,
}

impl Encoder<'_> {
    /// Shard *k* of *K* gets the samples *k, k + K, k + 2K …*.
    fn deal(&self, name: &str, spool: Spool, asked: Option<usize>, sink: Sink<'_>) -> Result<Split, ImportError> {
        let (samples, record) = (spool.samples, self.x_bytes + self.y_bytes);
        let most = (SHARD_BYTES / record as u64).max(1);
        let default = samples.div_ceil(SHARDS).min(DEFAULT_SHARD_SAMPLES as u64);
        let count = samples.div_ceil(asked.map_or(default, |asked| asked as u64).min(most));
        let mut file = spool.file.into_inner().map_err(|e| ImportError::Disk(e.into_error()))?;
        let mut listed = Vec::new();
        for first in 0..count {
            let own = (samples - first).div_ceil(count) as usize;
            let (mut x, mut y) = (vec![0; own * self.x_bytes], vec![0; own * self.y_bytes]);
            let places = x.chunks_exact_mut(self.x_bytes).zip(y.chunks_exact_mut(self.y_bytes));
            for (number, (x, y)) in (0..).zip(places) {
                let place = (first + number * count) * record as u64;
                file.seek(SeekFrom::Start(place)).map_err(ImportError::Disk)?;
                file.read_exact(x).and_then(|()| file.read_exact(y)).map_err(ImportError::Disk)?;
            }
            let bytes = self.encode(own, &x, &y);
            let shard = Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: own as u64 };
            listed.push(shard);
            sink(shard.hash, bytes).map_err(ImportError::Disk)?;
        }
        Ok(Split { name: name.to_owned(), samples, shards: listed })
    }

    fn encode(&self, samples: usize, x: &[u8], y: &[u8]) -> Vec<u8> {
        let dtype = match self.x {
            Features::U8 { .. } => "U8",
            Features::F32 => "F32",
            Features::Tokens { .. } => "U16",
        };
        let x = Tensor { dtype, shape: self.shape, bytes: x };
        let classes = || y.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four));
        match self.y {
            Targets::Class { classes: 0..=256 } => {
                let bytes: Vec<u8> = classes().map(|class| class as u8).collect();
                safetensors(samples, x, Tensor { dtype: "U8", shape: &[], bytes: &bytes })
            }
            Targets::Class { .. } => {
                let bytes: Vec<u8> = classes().flat_map(|class| i64::from(class).to_le_bytes()).collect();
                safetensors(samples, x, Tensor { dtype: "I64", shape: &[], bytes: &bytes })
            }
            Targets::Values { shape } => safetensors(samples, x, Tensor { dtype: "F32", shape, bytes: y }),
            Targets::Tokens { .. } => safetensors(samples, x, Tensor { dtype: "U16", shape: self.shape, bytes: y }),
        }
    }
}

/// Mean and standard deviation of bytes over 255, rounded to four digits: those that people quote for MNIST.
fn brightness(histogram: &[u64; 256]) -> Features {
    let sum = |power: u32| -> f64 {
        let exact: u128 = (0_u128..).zip(histogram).map(|(byte, count)| byte.pow(power) * u128::from(*count)).sum();
        exact as f64
    };
    let count = sum(0).max(1.0);
    let mean = sum(1) / count;
    let deviation = (sum(2) / count - mean * mean).max(0.0).sqrt();
    let rounded = |value: f64| Decimal::from_nanos((value / 255.0 * 10_000.0).round() as i64 * 100_000);
    let std = if rounded(deviation) > Decimal::ZERO { rounded(deviation) } else { Decimal::ONE };
    Features::U8 { mean: rounded(mean), std }
}

/// Chooses exactly a part of a known number of samples, one by one, from a seed (Knuth, TAOCP 3.4.2, algorithm S).
pub(crate) struct Chooser {
    left: u64,
    wanted: u64,
    random: ChaCha8Rng,
}

impl Chooser {
    /// For so many samples; each split gets one at least, where there are two.
    pub(crate) fn new(options: &Options, samples: u64) -> Chooser {
        let part = (u128::from(samples) * u128::from(options.holdout.permille) + 500) / 1000;
        let wanted = (part as u64).clamp(1, samples.saturating_sub(1).max(1));
        Chooser { left: samples, wanted, random: ChaCha8Rng::seed_from_u64(options.seed) }
    }

    /// Where the next sample belongs.
    pub(crate) fn next(&mut self) -> Part {
        let below = ((u128::from(self.random.next_u64()) * u128::from(self.left)) >> 64) as u64;
        self.left = self.left.saturating_sub(1);
        if below < self.wanted {
            self.wanted -= 1;
            return Part::Test;
        }
        Part::Train
    }
}
