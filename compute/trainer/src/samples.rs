use deepmarket_job::{DatasetManifest, Dtype, Features, Targets, permutation};
use deepmarket_types::Hash;
use safetensors::SafeTensors;

use crate::{Failure, optimizer::float};

/// The longest header of a shard, in bytes (DESIGN section 8).
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// The samples of some shards of one split, kept as they are stored: bytes stay bytes and become floats one batch at a time.
///
/// A sample's index counts over all shards that are there, in the order of their own indexes; it changes when shards come or go.
#[derive(Debug)]
pub(crate) struct Samples {
    shards: Vec<Loaded>,
    /// Values of one sample's `x`, and of its `y`.
    width: usize,
    y_width: usize,
    /// What a byte means to the model.
    scale: Box<[f32; 256]>,
    classes: u32,
}

/// One shard.
#[derive(Debug)]
struct Loaded {
    index: u32,
    x: Values,
    y: Values,
    samples: usize,
    /// The index of its first sample.
    first: usize,
    /// The order of its samples in one epoch.
    order: Option<(u64, Vec<u32>)>,
}

#[derive(Debug)]
enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    /// Classes or tokens.
    Numbers(Vec<u32>),
}

impl Values {
    /// Some of the values as floats.
    fn append_to(&self, floats: &mut Vec<f32>, range: std::ops::Range<usize>, scale: &[f32; 256]) {
        match self {
            Values::Bytes(values) => floats.extend(values[range].iter().map(|byte| scale[usize::from(*byte)])),
            Values::Floats(values) => floats.extend_from_slice(&values[range]),
            Values::Numbers(values) => floats.extend(values[range].iter().map(|number| *number as f32)),
        }
    }
}

impl Samples {
    /// No samples yet, of a dataset.
    pub(crate) fn new(manifest: &DatasetManifest) -> Self {
        let width = |shape: &[u32]| shape.iter().map(|d| *d as usize).product();
        let mut scale = Box::new([0.0; 256]);
        if let Features::U8 { mean, std } = manifest.x {
            for (value, scaled) in scale.iter_mut().enumerate() {
                *scaled = ((value as f64 / 255.0 - float(mean)) / float(std)) as f32;
            }
        }
        let (y_width, classes) = match &manifest.y {
            Targets::Class { classes } => (1, *classes),
            Targets::Values { shape } => (width(shape), 0),
            Targets::Tokens { vocabulary } => (width(&manifest.shape), *vocabulary),
        };
        Samples { shards: Vec::new(), width: width(&manifest.shape), y_width, scale, classes }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.samples).sum()
    }

    /// The indexes of the shards, ascending, with their samples.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (u32, usize)> {
        self.shards.iter().map(|shard| (shard.index, shard.samples))
    }

    /// The samples of one shard.
    pub(crate) fn samples_of(&self, index: u32) -> Option<std::ops::Range<u32>> {
        let shard = self.shards.iter().find(|shard| shard.index == index)?;
        Some(shard.first as u32..(shard.first + shard.samples) as u32)
    }

    /// Forgets all shards but these. One that isn't there is an error, and changes nothing.
    pub(crate) fn keep(&mut self, indexes: &[u32]) -> Result<(), Failure> {
        if let Some(missing) = indexes.iter().find(|index| !self.shards.iter().any(|shard| shard.index == **index)) {
            return Err(Failure::crashed(format!("shard {missing} is to be worked on and was not given")));
        }
        self.shards.retain(|shard| indexes.contains(&shard.index));
        self.number();
        Ok(())
    }

    /// The samples at some positions of a shard's order in an epoch.
    pub(crate) fn in_order(&mut self, seed: &Hash, index: u32, epoch: u64, positions: std::ops::Range<u64>) -> Vec<u32> {
        let Some(shard) = self.shards.iter_mut().find(|shard| shard.index == index) else { return Vec::new() };
        if shard.order.as_ref().is_none_or(|(of_epoch, _)| *of_epoch != epoch) {
            shard.order = Some((epoch, permutation(seed, index, epoch, shard.samples as u32)));
        }
        let order = shard.order.as_ref().map_or(&[][..], |(_, order)| order);
        order[positions.start as usize..positions.end as usize].iter().map(|sample| shard.first as u32 + sample).collect()
    }

    fn number(&mut self) {
        let mut first = 0;
        for shard in &mut self.shards {
            shard.first = first;
            first += shard.samples;
        }
    }

    /// Adds a shard: a safetensors file with `x` and `y` as the manifest says, of as many samples as it `listed`. Returns these. One
    /// that is there already is replaced.
    pub(crate) fn add(&mut self, manifest: &DatasetManifest, index: u32, listed: u64, shard: &[u8]) -> Result<u64, Failure> {
        let refuse = |why: String| Failure::data(format!("shard {index} of dataset '{}' can't be used: {why}", manifest.name));
        let header = shard.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
        if header.is_none_or(|bytes| bytes > MAX_HEADER_BYTES) {
            return Err(refuse(format!("its header is missing or longer than {MAX_HEADER_BYTES} bytes")));
        }
        let file = SafeTensors::deserialize(shard).map_err(|e| refuse(e.to_string()))?;
        let tensor = |name| file.tensor(name).map_err(|e| refuse(format!("{name}: {e}")));
        let (x, y) = (tensor("x")?, tensor("y")?);

        let samples = x.shape().first().copied().unwrap_or(0);
        let expected_shape =
            |shape: &[u32]| [samples].into_iter().chain(shape.iter().map(|d| *d as usize)).collect::<Vec<usize>>();
        if samples == 0 || x.shape() != expected_shape(&manifest.shape) {
            return Err(refuse(format!("x has shape {:?}, and the manifest says {:?} a sample", x.shape(), manifest.shape)));
        }
        if samples as u64 != listed {
            return Err(refuse(format!("it has {samples} samples, and the manifest lists {listed}")));
        }
        let y_shape = match &manifest.y {
            Targets::Class { .. } => vec![samples],
            Targets::Values { shape } => expected_shape(shape),
            Targets::Tokens { .. } => expected_shape(&manifest.shape),
        };
        if y.shape() != y_shape {
            return Err(refuse(format!("y has shape {:?}, and {y_shape:?} is expected", y.shape())));
        }
        let numbers = |tensor: &safetensors::tensor::TensorView, limit: u32, what: &str| {
            let numbers: Vec<u64> = match tensor.dtype() {
                safetensors::Dtype::U8 => tensor.data().iter().map(|number| u64::from(*number)).collect(),
                safetensors::Dtype::U16 => {
                    tensor.data().as_chunks::<2>().0.iter().map(|two| u64::from(u16::from_le_bytes(*two))).collect()
                }
                safetensors::Dtype::I64 => {
                    tensor.data().as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect()
                }
                dtype => return Err(refuse(format!("it has a {what} of type {dtype:?}; they are U8, U16 or I64"))),
            };
            match numbers.iter().find(|number| **number >= u64::from(limit)) {
                Some(wrong) => Err(refuse(format!("it has {what} {wrong}; they are 0 to {}", limit.saturating_sub(1)))),
                None => Ok(Values::Numbers(numbers.iter().map(|number| *number as u32).collect())),
            }
        };
        // Everything is checked before anything is taken over.
        let x = match (manifest.x.dtype(), x.dtype(), manifest.x) {
            (Dtype::U8, safetensors::Dtype::U8, _) => Values::Bytes(x.data().to_vec()),
            (Dtype::F32, safetensors::Dtype::F32, _) => Values::Floats(floats(x.data())),
            (Dtype::U16, safetensors::Dtype::U16, Features::Tokens { vocabulary }) => numbers(&x, vocabulary, "token")?,
            (_, dtype, _) => return Err(refuse(format!("x is {dtype:?}, and the manifest says otherwise"))),
        };
        let y = match &manifest.y {
            Targets::Class { classes } => numbers(&y, *classes, "class")?,
            Targets::Tokens { vocabulary } => numbers(&y, *vocabulary, "token")?,
            Targets::Values { .. } => match y.dtype() {
                safetensors::Dtype::F32 => Values::Floats(floats(y.data())),
                dtype => return Err(refuse(format!("y is {dtype:?}; values are F32"))),
            },
        };
        self.shards.retain(|shard| shard.index != index);
        let place = self.shards.partition_point(|shard| shard.index < index);
        self.shards.insert(place, Loaded { index, x, y, samples, first: 0, order: None });
        self.number();
        Ok(samples as u64)
    }

    /// The shard that holds a sample, and the sample's place in it.
    fn find(&self, sample: u32) -> (&Loaded, usize) {
        let shard = &self.shards[self.shards.partition_point(|shard| shard.first <= sample as usize) - 1];
        (shard, sample as usize - shard.first)
    }

    /// The features of some samples, one after the other, as the model sees them; tokens as numbers.
    pub(crate) fn features(&self, indexes: &[u32]) -> Vec<f32> {
        let mut features = Vec::with_capacity(indexes.len() * self.width);
        for index in indexes {
            let (shard, place) = self.find(*index);
            shard.x.append_to(&mut features, place * self.width..(place + 1) * self.width, &self.scale);
        }
        features
    }

    /// The targets of some samples, one after the other: values, or classes (of each position, where they are tokens) as one-hot
    /// vectors.
    pub(crate) fn targets(&self, indexes: &[u32]) -> Vec<f32> {
        if let Some(labels) = self.labels(indexes) {
            let classes = self.classes as usize;
            let mut one_hot = vec![0.0; labels.len() * classes];
            for (row, label) in labels.iter().enumerate() {
                one_hot[row * classes + *label as usize] = 1.0;
            }
            return one_hot;
        }
        let mut targets = Vec::with_capacity(indexes.len() * self.y_width);
        for index in indexes {
            let (shard, place) = self.find(*index);
            shard.y.append_to(&mut targets, place * self.y_width..(place + 1) * self.y_width, &self.scale);
        }
        targets
    }

    /// The right answers of some samples, where there are such: a class of each sample, or a token of each position.
    pub(crate) fn labels(&self, indexes: &[u32]) -> Option<Vec<u32>> {
        if self.classes == 0 {
            return None;
        }
        let mut labels = Vec::with_capacity(indexes.len() * self.y_width);
        for index in indexes {
            let (shard, place) = self.find(*index);
            match &shard.y {
                Values::Numbers(numbers) => labels.extend_from_slice(&numbers[place * self.y_width..(place + 1) * self.y_width]),
                other => unreachable!("classes and tokens are numbers, not {other:?}"),
            }
        }
        Some(labels)
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
