use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    ImportError, Imported, Options,
    collect::{Collector, Part, X, Y},
    files,
};

/// MNIST-like datasets have ten classes at least, whether or not each occurs.
const CLASSES: u32 = 10;

/// The files' stems by split: the names of the original MNIST files.
const SPLITS: [(Part, &str); 2] = [(Part::Train, "train"), (Part::Test, "t10k")];
const NEEDED: &str = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte \
                      (names with a dot before idx, and files that end in .gz, are taken too)";

/// The names of the files that a folder holds, packed as they are published.
pub(crate) const FILES: [&str; 4] =
    ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];

/// Imports the four IDX files of MNIST (or of a dataset in its format: byte images and classes) from a folder into memory, in
/// shards of `shard_samples` samples at the most.
pub fn import_idx(dir: &Path, name: &str, shard_samples: usize) -> Result<Imported, ImportError> {
    let options = Options { shard_samples: Some(shard_samples), ..Options::new(name) };
    options.check()?;
    let mut shards = Vec::new();
    let manifest = read(dir)?.finish(&options, &mut |hash, bytes| {
        shards.push((hash, bytes));
        Ok(())
    })?;
    Ok(Imported { manifest, shards })
}

/// Reads a folder's four files, sample by sample. Splits are `train` and `test`.
pub(crate) fn read(dir: &Path) -> Result<Collector, ImportError> {
    let mut collector = None;
    let mut shape_of_train = Vec::new();
    for (part, stem) in SPLITS {
        let mut images = Idx::<3>::open(find(dir, stem, "images", 3))?;
        let mut labels = Idx::<1>::open(find(dir, stem, "labels", 1))?;
        let [samples, height, width] = images.dimensions;
        if labels.dimensions[0] != samples {
            let why = format!("it has {} labels, and there are {samples} images", labels.dimensions[0]);
            return Err(ImportError::Mismatch { path: labels.path, why });
        }
        let shape = vec![1, height, width];
        if part == Part::Train {
            shape_of_train.clone_from(&shape);
            collector = Some(Collector::new(shape, X::Bytes, Y::Class { at_least: CLASSES })?);
        } else if shape != shape_of_train {
            let why = format!("its images have shape {shape:?}, and those of the training split {shape_of_train:?}");
            return Err(ImportError::Mismatch { path: images.path, why });
        }
        let collector = collector.as_mut().expect("the training split is read first");
        let mut image = vec![0; height as usize * width as usize];
        let mut label = [0];
        for number in 0..samples {
            images.next(&mut image, u64::from(number))?;
            labels.next(&mut label, u64::from(number))?;
            collector.push(part, &image, &u32::from(label[0]).to_le_bytes())?;
        }
        images.end()?;
        labels.end()?;
    }
    Ok(collector.expect("there are two splits"))
}

/// A file of the IDX format: two zeros, the type (8: bytes), the number of dimensions, each dimension as a big-endian
/// `u32`, and the values.
struct Idx<const D: usize> {
    path: PathBuf,
    dimensions: [u32; D],
    reader: Box<dyn Read>,
}

impl<const D: usize> Idx<D> {
    fn open(path: PathBuf) -> Result<Self, ImportError> {
        let mut reader = files::open(&path).map_err(|error| match error {
            ImportError::Unreadable { path, source, .. } => ImportError::Unreadable { path, source, needed: NEEDED },
            other => other,
        })?;
        let malformed = |why: String| ImportError::Malformed { path: path.clone(), why };
        let mut header = vec![0; 4 + 4 * D];
        let got = fill(&mut reader, &mut header).map_err(ImportError::unreadable(&path))?;
        if got < header.len() {
            return Err(malformed(format!("it ends after {got} bytes, within its header of {}", header.len())));
        }
        if header[..2] == [0x1f, 0x8b] {
            return Err(malformed("it is compressed: unpack it with gunzip, or give its name the ending .gz".into()));
        }
        if header[..4] != [0, 0, 8, D as u8] {
            let expected = [0, 0, 8, D as u8];
            return Err(malformed(format!("it begins with {:?}; an IDX file of bytes begins with {expected:?}", &header[..4])));
        }
        let mut dimensions = [0; D];
        for (dimension, four) in dimensions.iter_mut().zip(header[4..].as_chunks::<4>().0) {
            *dimension = u32::from_be_bytes(*four);
        }
        if dimensions.contains(&0) {
            return Err(malformed(format!("its dimensions are {dimensions:?}: there are no samples")));
        }
        Ok(Idx { path, dimensions, reader })
    }

    /// The values of the next sample, which is the `number`-th.
    fn next(&mut self, values: &mut [u8], number: u64) -> Result<(), ImportError> {
        let got = fill(&mut self.reader, values).map_err(ImportError::unreadable(&self.path))?;
        if got < values.len() {
            let all: u128 = self.dimensions.iter().map(|d| u128::from(*d)).product();
            let follow = u128::from(number) * values.len() as u128 + got as u128;
            let why = format!("it says {:?}, which is {all} bytes, and {follow} follow its header", self.dimensions);
            return Err(ImportError::Malformed { path: self.path.clone(), why });
        }
        Ok(())
    }

    /// Nothing may follow.
    fn end(mut self) -> Result<(), ImportError> {
        match fill(&mut self.reader, &mut [0]).map_err(ImportError::unreadable(&self.path))? {
            0 => Ok(()),
            _ => {
                let why = format!("it says {:?}, and more bytes follow", self.dimensions);
                Err(ImportError::Malformed { path: self.path, why })
            }
        }
    }
}

/// Reads until the buffer is full or the file ends; returns the bytes read.
pub(crate) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(bytes) => got += bytes,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// The path of a file, under the name with a dash or the one with a dot, packed or not.
fn find(dir: &Path, stem: &str, kind: &str, rank: u8) -> PathBuf {
    let plain = dir.join(format!("{stem}-{kind}-idx{rank}-ubyte"));
    let dotted = dir.join(format!("{stem}-{kind}.idx{rank}-ubyte"));
    let packed = |path: &PathBuf| PathBuf::from(format!("{}.gz", path.display()));
    let candidates = [plain.clone(), dotted.clone(), packed(&plain), packed(&dotted)];
    candidates.into_iter().find(|path| path.is_file()).unwrap_or(plain)
}
