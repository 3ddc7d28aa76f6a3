use deepmarket_job::{DatasetManifest, Dtype, Features, Targets};
use safetensors::SafeTensors;

use crate::{Failure, optimizer::float};

/// The longest header of a shard, in bytes (DESIGN section 8).
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// The samples of some shards, kept as they are stored: bytes stay bytes and become floats one batch at a time.
#[derive(Debug)]
pub(crate) struct Samples {
    x: Values,
    y: Labels,
    /// Values of one sample's `x`.
    width: usize,
    /// What a byte means to the model.
    scale: Box<[f32; 256]>,
}

#[derive(Debug)]
enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

#[derive(Debug)]
enum Labels {
    Classes { classes: u32, of_samples: Vec<u32> },
    Values { width: usize, of_samples: Vec<f32> },
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
        Samples {
            x: match manifest.x.dtype() {
                Dtype::U8 => Values::Bytes(Vec::new()),
                Dtype::F32 => Values::Floats(Vec::new()),
            },
            y: match &manifest.y {
                Targets::Class { classes } => Labels::Classes { classes: *classes, of_samples: Vec::new() },
                Targets::Values { shape } => Labels::Values { width: width(shape), of_samples: Vec::new() },
            },
            width: width(&manifest.shape),
            scale,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match &self.x {
            Values::Bytes(x) => x.len() / self.width,
            Values::Floats(x) => x.len() / self.width,
        }
    }

    /// Adds a shard: a safetensors file with `x` and `y` as the manifest says.
    pub(crate) fn add(&mut self, manifest: &DatasetManifest, shard: &[u8]) -> Result<(), Failure> {
        let refuse = |why: String| Failure::data(format!("a shard of dataset '{}' can't be used: {why}", manifest.name));
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
        let y_shape = match &manifest.y {
            Targets::Class { .. } => vec![samples],
            Targets::Values { shape } => expected_shape(shape),
        };
        if y.shape() != y_shape {
            return Err(refuse(format!("y has shape {:?}, and {y_shape:?} is expected", y.shape())));
        }
        // Everything is checked before anything is taken over.
        let new_x = match (&self.x, x.dtype()) {
            (Values::Bytes(_), safetensors::Dtype::U8) => None,
            (Values::Floats(_), safetensors::Dtype::F32) => Some(floats(x.data())),
            (_, dtype) => return Err(refuse(format!("x is {dtype:?}, and the manifest says otherwise"))),
        };
        match &mut self.y {
            Labels::Classes { classes, of_samples } => {
                let labels: Vec<u64> = match y.dtype() {
                    safetensors::Dtype::U8 => y.data().iter().map(|label| u64::from(*label)).collect(),
                    safetensors::Dtype::I64 => y.data().as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect(),
                    dtype => return Err(refuse(format!("y is {dtype:?}; classes are U8 or I64"))),
                };
                if let Some(wrong) = labels.iter().find(|label| **label >= u64::from(*classes)) {
                    return Err(refuse(format!("it has class {wrong}, and there are {classes} classes")));
                }
                of_samples.extend(labels.iter().map(|label| *label as u32));
            }
            Labels::Values { of_samples, .. } => match y.dtype() {
                safetensors::Dtype::F32 => of_samples.extend(floats(y.data())),
                dtype => return Err(refuse(format!("y is {dtype:?}; values are F32"))),
            },
        }
        match (&mut self.x, new_x) {
            (Values::Bytes(all), _) => all.extend_from_slice(x.data()),
            (Values::Floats(all), new) => all.extend(new.unwrap_or_default()),
        }
        Ok(())
    }

    /// The features of some samples, one after the other, as the model sees them.
    pub(crate) fn features(&self, indexes: &[u32]) -> Vec<f32> {
        let mut features = Vec::with_capacity(indexes.len() * self.width);
        for index in indexes {
            let range = *index as usize * self.width..(*index as usize + 1) * self.width;
            match &self.x {
                Values::Bytes(x) => features.extend(x[range].iter().map(|byte| self.scale[usize::from(*byte)])),
                Values::Floats(x) => features.extend_from_slice(&x[range]),
            }
        }
        features
    }

    /// The targets of some samples, one after the other: values, or classes as one-hot vectors.
    pub(crate) fn targets(&self, indexes: &[u32]) -> Vec<f32> {
        match &self.y {
            Labels::Classes { classes, of_samples } => {
                let classes = *classes as usize;
                let mut one_hot = vec![0.0; indexes.len() * classes];
                for (row, index) in indexes.iter().enumerate() {
                    one_hot[row * classes + of_samples[*index as usize] as usize] = 1.0;
                }
                one_hot
            }
            Labels::Values { width, of_samples } => indexes
                .iter()
                .flat_map(|index| &of_samples[*index as usize * width..(*index as usize + 1) * width])
                .copied()
                .collect(),
        }
    }

    /// The classes of all samples, where they have classes.
    pub(crate) fn classes(&self) -> Option<&[u32]> {
        match &self.y {
            Labels::Classes { of_samples, .. } => Some(of_samples),
            Labels::Values { .. } => None,
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
