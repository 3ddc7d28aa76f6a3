use std::collections::BTreeSet;

use deepmarket_types::Hash;
use serde::{Deserialize, Serialize};

use crate::{Decimal, JobSpec, Layer, Loss, MAX_DIMENSION, Size, SpecError, SpecProblem::DataMismatch, schedule::MAX_SAMPLES};

/// The most bytes of a manifest.
const MAX_MANIFEST_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of one shard: below what one blob or frame may have.
pub(crate) const MAX_SHARD_BYTES: u64 = 128 * 1024 * 1024;
/// The most samples of one shard.
pub(crate) const MAX_SHARD_SAMPLES: u64 = 1 << 24;
/// The most splits of a dataset.
const MAX_SPLITS: usize = 16;
/// The most characters of a name.
const MAX_NAME_CHARS: usize = 64;

/// What a dataset holds: shapes, types, and the hashes of its shards. Stored as canonical JSON in a blob, whose hash is the
/// dataset's name to the chain.
///
/// A shard is a safetensors file with `x` of shape `[samples, shape…]` and `y` of shape `[samples]` (classes, `U8` or `I64`)
/// or `[samples, shape…]` (values, `F32`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetManifest {
    /// A name for people.
    pub name: String,
    /// The shape of one sample: `[features]`, `[length]` tokens, `[length, features]`, or `[channels, height, width]`.
    pub shape: Vec<u32>,
    /// How `x` is stored.
    pub x: Features,
    /// What `y` is.
    pub y: Targets,
    /// The splits, for example `train` and `test`.
    pub splits: Vec<Split>,
}

/// How the features of samples are stored, and what the model sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Features {
    /// Bytes `v`; the model sees `(v / 255 - mean) / std`.
    U8 {
        /// The mean to take away.
        mean: Decimal,
        /// The standard deviation to divide by; more than 0.
        std: Decimal,
    },
    /// Floats as they are.
    F32,
    /// Numbers of tokens, stored as `U16`, of shape `[length]`.
    Tokens {
        /// How many tokens there are.
        vocabulary: u32,
    },
}

/// How `x` is stored in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Bytes.
    U8,
    /// Floats.
    F32,
    /// Tokens.
    U16,
}

impl Features {
    /// The type of `x` in shards.
    pub fn dtype(&self) -> Dtype {
        match self {
            Features::U8 { .. } => Dtype::U8,
            Features::F32 => Dtype::F32,
            Features::Tokens { .. } => Dtype::U16,
        }
    }
}

/// What is to be learnt of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Targets {
    /// A class from 0 to `classes - 1`.
    Class {
        /// How many classes there are.
        classes: u32,
    },
    /// Values of a shape.
    Values {
        /// The shape of one sample's values.
        shape: Vec<u32>,
    },
    /// A token for each position of `x`, as numbers of type `U16` and of the same shape: the next one, for a language model.
    Tokens {
        /// How many tokens there are.
        vocabulary: u32,
    },
}

/// A part of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Its name, for example `train`.
    pub name: String,
    /// Its samples in all.
    pub samples: u64,
    /// Its shards in order.
    pub shards: Vec<Shard>,
}

/// One file of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its hash: the blob's name.
    pub hash: Hash,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its samples.
    pub samples: u64,
}

/// Why a manifest or a shard is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not the canonical JSON of a manifest.
    #[error("the dataset's manifest can't be read: {0}; import the dataset again with `deepmarket data add`")]
    NotAManifest(String),
    /// A manifest that contradicts itself or exceeds a limit.
    #[error("the dataset's manifest is refused: {place}: {why}; import the dataset again with `deepmarket data add`")]
    BadManifest {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
    /// A split that isn't there.
    #[error("the dataset has no split '{name}'; it has {known}")]
    NoSplit {
        /// The missing split.
        name: String,
        /// The splits that there are.
        known: String,
    },
}

impl DataError {
    /// The stable code that REST and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            DataError::NotAManifest(_) => 3020,
            DataError::BadManifest { .. } => 3021,
            DataError::NoSplit { .. } => 3022,
        }
    }
}

impl DatasetManifest {
    /// The canonical bytes: JSON without spaces, keys in the order of the fields.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has text keys and no floats")
    }

    /// The hash of the canonical bytes: what [`Data::manifest`](crate::Data::manifest) names.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.to_bytes())
    }

    /// Reads and checks a manifest. Strict: one manifest has one encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<DatasetManifest, DataError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            let found = format!("it has {} bytes; at most {MAX_MANIFEST_BYTES} are allowed", bytes.len());
            return Err(DataError::NotAManifest(found));
        }
        let manifest: DatasetManifest = serde_json::from_slice(bytes).map_err(|e| DataError::NotAManifest(e.to_string()))?;
        if manifest.to_bytes() != bytes {
            return Err(DataError::NotAManifest("it is another encoding of the same manifest".into()));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks limits and sums.
    pub fn check(&self) -> Result<(), DataError> {
        check_name("name", &self.name)?;
        check_shape("shape", &self.shape)?;
        if let Features::U8 { std, .. } = self.x
            && std <= Decimal::ZERO
        {
            return Err(bad("x.std", format!("{std} is not more than 0")));
        }
        match &self.y {
            Targets::Class { classes } if !(2..=MAX_DIMENSION).contains(classes) => {
                return Err(bad("y.classes", format!("{classes} is not 2 to {MAX_DIMENSION}")));
            }
            Targets::Class { .. } => {}
            Targets::Values { shape } => check_shape("y.shape", shape)?,
            Targets::Tokens { vocabulary } => check_vocabulary("y.vocabulary", *vocabulary)?,
        }
        if let Features::Tokens { vocabulary } = self.x {
            check_vocabulary("x.vocabulary", vocabulary)?;
        }
        let tokens = matches!(self.x, Features::Tokens { .. }) || matches!(self.y, Targets::Tokens { .. });
        if tokens && self.shape.len() != 1 {
            return Err(bad("shape", format!("tokens are of shape [length], not {:?}", self.shape)));
        }
        if self.splits.is_empty() || self.splits.len() > MAX_SPLITS {
            return Err(bad("splits", format!("there are {}, not 1 to {MAX_SPLITS}", self.splits.len())));
        }
        let mut names = BTreeSet::new();
        for split in &self.splits {
            check_name("splits.name", &split.name)?;
            if !names.insert(&split.name) {
                return Err(bad("splits", format!("'{}' is there twice", split.name)));
            }
            self.check_split(split)?;
        }
        Ok(())
    }

    fn check_split(&self, split: &Split) -> Result<(), DataError> {
        let place = format!("splits.{}", split.name);
        let mut samples = 0_u64;
        for (index, shard) in split.shards.iter().enumerate() {
            let place = || format!("{place}.shards[{index}]");
            if !(1..=MAX_SHARD_SAMPLES).contains(&shard.samples) {
                return Err(bad(place(), format!("{} samples are not 1 to {MAX_SHARD_SAMPLES}", shard.samples)));
            }
            // Shape and samples are bounded: at most 2^48 values of 4 bytes, 2^24 times, in 128 bits.
            let least = u128::from(self.sample_bytes()) * u128::from(shard.samples);
            if u128::from(shard.bytes) < least || shard.bytes > MAX_SHARD_BYTES {
                return Err(bad(place(), format!("{} bytes are not {least} to {MAX_SHARD_BYTES}", shard.bytes)));
            }
            samples += shard.samples; // A manifest of 8 MiB holds fewer than 2^17 shards of 2^24 samples.
        }
        if samples != split.samples || samples == 0 || samples > MAX_SAMPLES {
            return Err(bad(place, format!("its shards hold {samples} samples and it says {}", split.samples)));
        }
        Ok(())
    }

    /// Bytes of one sample's `x` in a shard.
    pub fn sample_bytes(&self) -> u64 {
        let values: u64 = self.shape.iter().map(|d| u64::from(*d)).product();
        match self.x.dtype() {
            Dtype::U8 => values,
            Dtype::F32 => values * 4,
            Dtype::U16 => values * 2,
        }
    }

    /// A split by name.
    pub fn split(&self, name: &str) -> Result<&Split, DataError> {
        self.splits.iter().find(|split| split.name == name).ok_or_else(|| DataError::NoSplit {
            name: name.chars().take(MAX_NAME_CHARS).collect(),
            known: self.splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl JobSpec {
    /// [`JobSpec::check`], and that the dataset fits the model: shape, targets, splits.
    pub fn check_with(&self, manifest: &DatasetManifest) -> Result<Size, SpecError> {
        let size = self.check()?;
        if manifest.shape != self.model.input {
            let found =
                format!("the model takes {:?}, and dataset '{}' has {:?}", self.model.input, manifest.name, manifest.shape);
            return Err(SpecError::new(DataMismatch, "model.input", found, format!("set input = {:?}", manifest.shape)));
        }
        for (place, name) in [("data.train", &self.data.train), ("data.validate", &self.data.validate)] {
            manifest
                .split(name)
                .map_err(|e| SpecError::new(DataMismatch, place, e.to_string(), "name one of the dataset's splits"))?;
        }
        self.check_tokens(manifest)?;
        self.check_targets(manifest, &size)?;
        Ok(size)
    }

    /// Tokens need embeddings that know them all, and nothing else does.
    fn check_tokens(&self, manifest: &DatasetManifest) -> Result<(), SpecError> {
        let embeddings = self.model.layers.iter().enumerate().filter_map(|(index, layer)| match layer {
            Layer::Embedding { vocabulary, .. } => Some((format!("model.layers[{index}].embedding"), *vocabulary)),
            _ => None,
        });
        let mut embeddings = embeddings.peekable();
        let name = &manifest.name;
        match (manifest.x, embeddings.peek()) {
            (Features::Tokens { vocabulary }, None) => {
                let found = format!("dataset '{name}' holds tokens, and no layer embeds them");
                let hint = format!("begin with {{ embedding = {{ vocabulary = {vocabulary}, out = 64 }} }}");
                Err(SpecError::new(DataMismatch, "model.layers[0]", found, hint))
            }
            (Features::Tokens { vocabulary }, Some(_)) => match embeddings.find(|(_, known)| *known < vocabulary) {
                Some((place, known)) => {
                    let found = format!("dataset '{name}' has {vocabulary} tokens, and this layer knows {known}");
                    Err(SpecError::new(DataMismatch, place, found, format!("set vocabulary = {vocabulary}")))
                }
                None => Ok(()),
            },
            (_, Some((place, _))) => {
                let found = format!("an embedding takes tokens, and dataset '{name}' holds numbers");
                Err(SpecError::new(DataMismatch, place, found, "use { linear = { out = 64 } }"))
            }
            (_, None) => Ok(()),
        }
    }

    /// The model puts out what the loss compares with the dataset's targets.
    fn check_targets(&self, manifest: &DatasetManifest, size: &Size) -> Result<(), SpecError> {
        let wrong_loss = |found: String, hint: &str| Err(SpecError::new(DataMismatch, "training.loss", found, hint));
        let name = &manifest.name;
        let expected = match (&manifest.y, self.training.loss) {
            (Targets::Class { classes }, _) => vec![*classes],
            (Targets::Values { shape }, Loss::Mse) => shape.clone(),
            (Targets::Tokens { vocabulary }, Loss::CrossEntropy) => manifest.shape.iter().copied().chain([*vocabulary]).collect(),
            (Targets::Values { .. }, Loss::CrossEntropy) => {
                return wrong_loss(format!("cross_entropy needs classes, and dataset '{name}' has values"), "use loss = \"mse\"");
            }
            (Targets::Tokens { .. }, Loss::Mse) => {
                return wrong_loss(format!("mse needs values, and dataset '{name}' has tokens"), "use loss = \"cross_entropy\"");
            }
        };
        if size.output != expected {
            let place = format!("model.layers[{}]", self.model.layers.len() - 1);
            let found = format!("the model puts out {:?}, and dataset '{name}' needs {expected:?}", size.output);
            let outputs = expected.last().copied().unwrap_or(1);
            return Err(SpecError::new(DataMismatch, place, found, format!("end with {{ linear = {{ out = {outputs} }} }}")));
        }
        Ok(())
    }
}

fn check_name(place: &str, name: &str) -> Result<(), DataError> {
    let characters = name.chars().count();
    if characters == 0 || characters > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(bad(place, format!("a name has 1 to {MAX_NAME_CHARS} printable characters")));
    }
    Ok(())
}

fn check_shape(place: &str, shape: &[u32]) -> Result<(), DataError> {
    if !matches!(shape.len(), 1..=3) || shape.iter().any(|d| !(1..=MAX_DIMENSION).contains(d)) {
        let why =
            format!("{shape:?} is not [features], [length, features] or [channels, height, width] of 1 to {MAX_DIMENSION} each");
        return Err(bad(place, why));
    }
    Ok(())
}

fn check_vocabulary(place: &str, vocabulary: u32) -> Result<(), DataError> {
    match (2..=MAX_DIMENSION).contains(&vocabulary) {
        true => Ok(()),
        false => Err(bad(place, format!("{vocabulary} is not 2 to {MAX_DIMENSION}"))),
    }
}

fn bad(place: impl Into<String>, why: impl Into<String>) -> DataError {
    DataError::BadManifest { place: place.into(), why: why.into() }
}
