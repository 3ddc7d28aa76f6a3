//! Arrays: one of features and one of targets, whose first dimensions are the samples. From `.npy` files, from an `.npz` file,
//! or from a safetensors file; each is read from its beginning, sample by sample.

mod numpy;
mod tensors;

use std::{io::Read, path::PathBuf};

use crate::{
    Format, ImportError, Input, Options, Task,
    collect::{Chooser, Collector, Part, X, Y},
    files::{self, Parts, agree, part_of_name},
    idx::fill,
};

/// The most dimensions of an array.
const MAX_DIMENSIONS: usize = 8;
/// The most classes.
const MAX_CLASSES: f64 = 65_536.0;

/// Takes a sample's number and bytes.
type Take<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), ImportError>;

/// The type of an array's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Unsigned(u8),
    Signed(u8),
    Float(u8),
}

impl Kind {
    /// Bytes of a value.
    fn bytes(self) -> usize {
        match self {
            Kind::Bool => 1,
            Kind::Unsigned(bytes) | Kind::Signed(bytes) | Kind::Float(bytes) => bytes.into(),
        }
    }

    /// A value from its bytes, the least one first. Integers beyond 2^53 are rounded.
    fn value(self, bytes: &[u8]) -> f64 {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(eight);
        match self {
            Kind::Bool => f64::from(u8::from(unsigned != 0)),
            Kind::Unsigned(_) => unsigned as f64,
            Kind::Signed(size) => {
                let unused = 64 - 8 * u32::from(size);
                ((unsigned << unused) as i64 >> unused) as f64
            }
            Kind::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Kind::Float(_) => f64::from_bits(unsigned),
        }
    }
}

/// An array that can be read from its beginning.
pub(crate) struct Array {
    path: PathBuf,
    name: String,
    kind: Kind,
    big_endian: bool,
    shape: Vec<u64>,
    content: Content,
}

/// Where an array's values begin.
pub(crate) enum Content {
    /// So many bytes into the file.
    File { offset: u64 },
    /// So many bytes into a member of a zip archive.
    Member { member: String, offset: u64 },
}

impl Array {
    fn samples(&self) -> u64 {
        self.shape.first().copied().unwrap_or(0)
    }

    /// The shape of one sample.
    fn sample_shape(&self) -> Result<Vec<u32>, ImportError> {
        let shape = self.shape[1..].iter().map(|d| u32::try_from(*d)).collect::<Result<Vec<_>, _>>();
        shape.map_err(|_| self.error(format!("its shape {:?} is too large", self.shape), "make it smaller"))
    }

    fn error(&self, why: impl Into<String>, hint: impl Into<String>) -> ImportError {
        let place = format!("array '{}'", self.name);
        ImportError::Content { path: self.path.clone(), place, why: why.into(), hint: hint.into() }
    }

    /// Gives each sample's bytes, the least byte of each value first.
    fn each(&self, take: Take<'_>) -> Result<(), ImportError> {
        match &self.content {
            Content::File { offset } => {
                let mut reader = files::open(&self.path)?;
                self.each_of(&mut *reader, *offset, take)
            }
            Content::Member { member, offset } => {
                numpy::member(&self.path, member, &mut |reader| self.each_of(reader, *offset, take))
            }
        }
    }

    fn each_of(&self, reader: &mut dyn Read, offset: u64, take: Take<'_>) -> Result<(), ImportError> {
        std::io::copy(&mut reader.take(offset), &mut std::io::sink()).map_err(ImportError::unreadable(&self.path))?;
        let size = self.shape[1..].iter().try_fold(self.kind.bytes() as u64, |size, d| size.checked_mul(*d));
        let Some(size @ 1..=0x0200_0000) = size else {
            return Err(
                self.error(format!("a sample of shape {:?} is empty or has more than 32 MiB", &self.shape[1..]), "cut it")
            );
        };
        let mut sample = vec![0; size as usize];
        for number in 0..self.samples() {
            let got = fill(reader, &mut sample).map_err(ImportError::unreadable(&self.path))?;
            if got < sample.len() {
                let why = format!("it ends within sample {number} of {}", self.samples());
                return Err(self.error(why, "fetch or write the file again"));
            }
            if self.big_endian {
                sample.chunks_exact_mut(self.kind.bytes()).for_each(<[u8]>::reverse);
            }
            take(number, &sample)?;
        }
        Ok(())
    }

    /// A sample's values.
    fn values<'a>(&self, sample: &'a [u8]) -> impl Iterator<Item = f64> + use<'a> {
        let kind = self.kind;
        sample.chunks_exact(kind.bytes()).map(move |bytes| kind.value(bytes))
    }

    /// A sample's values as floats of a shard.
    fn floats(&self, number: u64, sample: &[u8], into: &mut Vec<u8>) -> Result<(), ImportError> {
        into.clear();
        for value in self.values(sample) {
            if !(value as f32).is_finite() {
                return Err(self.error(format!("sample {number} holds {value}, and values must be finite"), "clean it first"));
            }
            into.extend((value as f32).to_le_bytes());
        }
        Ok(())
    }
}

/// Features and targets of one split, or of what is to be split.
struct Pair {
    part: Option<Part>,
    x: Array,
    y: Array,
}

/// Reads arrays: `x` and `y` to be split, or `x_train`, `y_train`, `x_test` and `y_test`, under the names that were asked for.
pub(crate) fn read(input: &Input, format: Format, options: &Options) -> Result<Collector, ImportError> {
    let pairs = pairs(input, format, options)?;
    let first = &pairs[0];
    let (x, order) = features(&first.x)?;
    let shape = order.shape.clone();
    let (task, y_shape) = targets(&first.y, options)?;
    for pair in &pairs {
        if pair.x.samples() != pair.y.samples() {
            let why = format!("it has {} samples, and '{}' has {}", pair.y.samples(), pair.x.name, pair.x.samples());
            return Err(pair.y.error(why, "give features and targets equally many"));
        }
        for (array, other) in [(&pair.x, &first.x), (&pair.y, &first.y)] {
            if array.shape[1..] != other.shape[1..] || array.kind != other.kind {
                let why = format!(
                    "its samples are {:?} {:?}, and those of '{}' {:?} {:?}",
                    array.kind,
                    &array.shape[1..],
                    other.name,
                    other.kind,
                    &other.shape[1..]
                );
                return Err(array.error(why, "give both splits the same type and shape"));
            }
        }
    }
    let whole: u64 = pairs.iter().filter(|pair| pair.part.is_none()).map(|pair| pair.x.samples()).sum();
    let y = match task {
        Task::Classification => Y::Class { at_least: 2 },
        Task::Regression => Y::Values { shape: y_shape },
    };
    let mut collector = Collector::new(shape, x, y)?;
    let mut chooser = Chooser::new(options, whole);
    for pair in &pairs {
        pair.read(x, &order, task, &mut chooser, &mut collector)?;
    }
    Ok(collector)
}

impl Pair {
    /// Targets are read first and kept on disk: two arrays of one archive can't be read at once.
    fn read(&self, x: X, order: &Order, task: Task, chooser: &mut Chooser, collector: &mut Collector) -> Result<(), ImportError> {
        use std::io::{BufReader, BufWriter, Seek as _, Write as _};
        let mut targets = BufWriter::new(tempfile::tempfile().map_err(ImportError::Disk)?);
        let mut floats = Vec::new();
        let mut width = 4;
        self.y.each(&mut |number, sample| {
            if task == Task::Classification {
                let class = self.y.values(sample).next().unwrap_or(-1.0);
                if !(0.0..MAX_CLASSES).contains(&class) || class.fract() != 0.0 {
                    let why = format!(
                        "sample {number} has class {class}, and classes are whole numbers from 0 to {}",
                        MAX_CLASSES - 1.0
                    );
                    return Err(self.y.error(why, "number the classes from 0, or use --task regression"));
                }
                return targets.write_all(&(class as u32).to_le_bytes()).map_err(ImportError::Disk);
            }
            self.y.floats(number, sample, &mut floats)?;
            width = floats.len();
            targets.write_all(&floats).map_err(ImportError::Disk)
        })?;
        let mut targets = targets.into_inner().map_err(|e| ImportError::Disk(e.into_error()))?;
        targets.rewind().map_err(ImportError::Disk)?;
        let (mut targets, mut target) = (BufReader::new(targets), vec![0; width]);
        let mut ordered = Vec::new();
        self.x.each(&mut |number, sample| {
            targets.read_exact(&mut target).map_err(ImportError::Disk)?;
            let part = self.part.unwrap_or_else(|| chooser.next());
            if x == X::Bytes {
                order.apply(sample, 1, &mut ordered);
            } else {
                self.x.floats(number, sample, &mut floats)?;
                order.apply(&floats, 4, &mut ordered);
            }
            collector.push(part, &ordered, &target)
        })
    }
}

/// How a sample of an array becomes one of a shard: images may have their channels last.
struct Order {
    shape: Vec<u32>,
    channels_last: bool,
}

impl Order {
    fn apply(&self, sample: &[u8], size: usize, into: &mut Vec<u8>) {
        into.clear();
        if !self.channels_last {
            into.extend_from_slice(sample);
            return;
        }
        let channels = self.shape[0] as usize;
        for channel in 0..channels {
            for pixel in sample.chunks_exact(channels * size) {
                into.extend_from_slice(&pixel[channel * size..(channel + 1) * size]);
            }
        }
    }
}

/// How features are stored, and in which shape: numbers `[n]`, `[n, features]`; sequences `[n, length, features]`; images of
/// bytes `[n, height, width]`, images `[n, channels, height, width]` or `[n, height, width, channels]`.
fn features(x: &Array) -> Result<(X, Order), ImportError> {
    let kind = if x.kind == Kind::Unsigned(1) { X::Bytes } else { X::Floats };
    let image = |channels: u32| matches!(channels, 1 | 3);
    let (shape, channels_last) = match *x.sample_shape()? {
        [] => (vec![1], false),
        [features] => (vec![features], false),
        [height, width] if kind == X::Bytes => (vec![1, height, width], false),
        [length, features] => (vec![length, features], false),
        [height, width, channels] if image(channels) && !image(height) => (vec![channels, height, width], true),
        [channels, height, width] => (vec![channels, height, width], false),
        _ => {
            let why = format!("its shape is {:?}", x.shape);
            let hint = "give it the shape [samples, features], [samples, length, features] or [samples, channels, height, width]";
            return Err(x.error(why, hint));
        }
    };
    Ok((kind, Order { shape, channels_last }))
}

/// What is learnt, and the shape of one target.
fn targets(y: &Array, options: &Options) -> Result<(Task, Vec<u32>), ImportError> {
    let shape = y.sample_shape()?;
    let single = matches!(*shape, [] | [1]);
    let found = if single && !matches!(y.kind, Kind::Float(_)) { Task::Classification } else { Task::Regression };
    let task = match options.task {
        // Whole numbers may be values as well; floats may hold classes, which is checked one by one.
        Some(task) if single => task,
        asked => agree(asked, found, &format!("array '{}' has targets of shape {shape:?}", y.name))?,
    };
    let shape = match *shape {
        [] => vec![1],
        _ => shape,
    };
    Ok((task, shape))
}

/// The arrays that are there, sorted by split.
fn pairs(input: &Input, format: Format, options: &Options) -> Result<Vec<Pair>, ImportError> {
    let parts = Parts::of(input, format)?;
    let mut arrays: Vec<(Option<Part>, Array)> = Vec::new();
    // The files of single arrays have the arrays' names: `x_train.npy` begins with no split's name.
    for (part, path) in parts.all() {
        let found = match format {
            Format::Npy => vec![numpy::npy(path)?],
            Format::Npz => numpy::npz(path)?,
            _ => tensors::tensors(path)?,
        };
        arrays.extend(found.into_iter().map(|array| (part, array)));
    }
    let known: Vec<String> = arrays.iter().map(|(_, array)| format!("'{}' {:?}", array.name, array.shape)).collect();
    let (x, y) = (&options.arrays.0, &options.arrays.1);
    let mut pairs = Vec::new();
    for part in [Some(Part::Train), Some(Part::Test), None] {
        let mut take = |name: &str| {
            let fits = |found: &(Option<Part>, Array)| match (found.0, part) {
                // A file that belongs to a split may name its arrays with or without it.
                (Some(of_file), Some(part)) => of_file == part && (found.1.name == name || is_named(&found.1.name, name, part)),
                (None, Some(part)) => is_named(&found.1.name, name, part),
                (None, None) => found.1.name == name,
                (Some(_), None) => false,
            };
            arrays.iter().position(fits).map(|place| arrays.swap_remove(place).1)
        };
        match (take(x), take(y)) {
            (Some(x), Some(y)) => {
                for array in [&x, &y] {
                    if array.shape.is_empty() || array.shape.len() > MAX_DIMENSIONS || array.samples() == 0 {
                        return Err(array.error(format!("its shape is {:?}", array.shape), "the first dimension is the samples"));
                    }
                }
                pairs.push(Pair { part, x, y });
            }
            (None, None) => {}
            (Some(lonely), None) | (None, Some(lonely)) => {
                return Err(lonely.error("it has no partner", format!("there are {}", known.join(", "))));
            }
        }
    }
    let split: Vec<Option<Part>> = pairs.iter().map(|pair| pair.part).collect();
    if split == [None] || split == [Some(Part::Train), Some(Part::Test)] {
        return Ok(pairs);
    }
    Err(ImportError::unclear(
        format!("the arrays are {}", known.join(", ")),
        format!("have '{x}' and '{y}', or '{x}_train', '{y}_train', '{x}_test' and '{y}_test'; --x and --y name others"),
    ))
}

/// `x_train`, `X_train`, `train_x`, `x-test` and so on.
fn is_named(found: &str, name: &str, part: Part) -> bool {
    let (found, name) = (found.to_ascii_lowercase(), name.to_ascii_lowercase());
    let after = found.strip_prefix(&name).map(|rest| rest.trim_start_matches(['_', '-', '.', '/']));
    let before = found.strip_suffix(&name).map(|rest| rest.trim_end_matches(['_', '-', '.', '/']));
    [after, before].into_iter().flatten().any(|word| !word.is_empty() && part_of_name(word) == Some(part))
}
