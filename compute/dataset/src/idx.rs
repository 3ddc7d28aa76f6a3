use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use deepmarket_job::{DatasetManifest, Decimal, Features, Shard, Split, Targets};
use deepmarket_types::Hash;

use crate::{ImportError, Imported, shard_bytes};

/// Samples of one shard where nobody says otherwise: MNIST's 60 training shards are even for 2, 3, 4, 5 and 6 ranks.
pub const DEFAULT_SHARD_SAMPLES: usize = 1000;

/// The most bytes of one file: MNIST has 47 MB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// The most samples of one shard.
const MAX_SHARD_SAMPLES: usize = 100_000;
/// MNIST's mean and standard deviation, over pixels from 0 to 1.
const MEAN: Decimal = Decimal::from_nanos(130_700_000);
const STD: Decimal = Decimal::from_nanos(308_100_000);
/// MNIST-like datasets have ten classes, whether or not each occurs.
const CLASSES: u32 = 10;

/// The files' stems by split: the names of the original MNIST files.
const SPLITS: [(&str, &str); 2] = [("train", "train"), ("test", "t10k")];
const NEEDED: &str =
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked";

/// Imports the four IDX files of MNIST (or of a dataset in its format: byte images and classes 0 to 9) from a folder, in
/// shards of `shard_samples` samples. Splits are `train` and `test`; file names with a dot (`train-images.idx3-ubyte`) are
/// taken too.
pub fn import_idx(dir: &Path, name: &str, shard_samples: usize) -> Result<Imported, ImportError> {
    if !(1..=MAX_SHARD_SAMPLES).contains(&shard_samples) {
        return Err(ImportError::ShardSamples(shard_samples));
    }
    let mut manifest = DatasetManifest {
        name: name.to_owned(),
        shape: Vec::new(),
        x: Features::U8 { mean: MEAN, std: STD },
        y: Targets::Class { classes: CLASSES },
        splits: Vec::new(),
    };
    let mut shards = Vec::new();
    for (split, stem) in SPLITS {
        let images = Idx::<3>::read(find(dir, stem, "images", 3))?;
        let labels = Idx::<1>::read(find(dir, stem, "labels", 1))?;
        let [samples, height, width] = images.dimensions;
        if labels.dimensions[0] != samples {
            let why = format!("it has {} labels, and there are {samples} images", labels.dimensions[0]);
            return Err(ImportError::Mismatch { path: labels.path, why });
        }
        if let Some(index) = labels.values.iter().position(|class| u32::from(*class) >= CLASSES) {
            let why = format!("label {index} is {}, and classes are 0 to {}", labels.values[index], CLASSES - 1);
            return Err(ImportError::Malformed { path: labels.path, why });
        }
        let shape = vec![1, height, width];
        if !manifest.shape.is_empty() && manifest.shape != shape {
            let why = format!("its images have shape {shape:?}, and those of the training split {:?}", manifest.shape);
            return Err(ImportError::Mismatch { path: images.path, why });
        }
        let sample_bytes = height as usize * width as usize;
        let mut listed = Vec::new();
        for (x, y) in images.values.chunks(shard_samples * sample_bytes).zip(labels.values.chunks(shard_samples)) {
            let bytes = shard_bytes(x, y, &shape);
            let shard = Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: y.len() as u64 };
            listed.push(shard);
            shards.push((shard.hash, bytes));
        }
        manifest.shape = shape;
        manifest.splits.push(Split { name: split.to_owned(), samples: samples.into(), shards: listed });
    }
    manifest.check()?;
    Ok(Imported { manifest, shards })
}

/// A file of the IDX format: two zeros, the type (8: bytes), the number of dimensions, each dimension as a big-endian
/// `u32`, and the values.
struct Idx<const D: usize> {
    path: PathBuf,
    dimensions: [u32; D],
    values: Vec<u8>,
}

impl<const D: usize> Idx<D> {
    fn read(path: PathBuf) -> Result<Self, ImportError> {
        let malformed = |why: String| ImportError::Malformed { path: path.clone(), why };
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source, needed: NEEDED };
        let mut file = File::open(&path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(malformed(format!("it has {bytes} bytes; at most {MAX_FILE_BYTES} are allowed")));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(unreadable)?;
        let header = 4 + 4 * D;
        if content.len() < header {
            return Err(malformed(format!("it ends after {} bytes, within its header of {header}", content.len())));
        }
        if content[..2] == [0x1f, 0x8b] {
            return Err(malformed("it is compressed; unpack it first, for example with gunzip".into()));
        }
        if content[..4] != [0, 0, 8, D as u8] {
            let expected = [0, 0, 8, D as u8];
            return Err(malformed(format!("it begins with {:?}; an IDX file of bytes begins with {expected:?}", &content[..4])));
        }
        let mut dimensions = [0; D];
        for (dimension, four) in dimensions.iter_mut().zip(content[4..header].as_chunks::<4>().0) {
            *dimension = u32::from_be_bytes(*four);
        }
        if dimensions.contains(&0) {
            return Err(malformed(format!("its dimensions are {dimensions:?}: there are no samples")));
        }
        let values: u128 = dimensions.iter().map(|d| u128::from(*d)).product();
        let found = content.len() - header;
        if values != found as u128 {
            return Err(malformed(format!("it says {dimensions:?}, which is {values} bytes, and {found} follow its header")));
        }
        content.drain(..header);
        Ok(Idx { path, dimensions, values: content })
    }
}

/// The path of a file, under the name with a dash or the one with a dot.
fn find(dir: &Path, stem: &str, kind: &str, rank: u8) -> PathBuf {
    let dotted = dir.join(format!("{stem}-{kind}.idx{rank}-ubyte"));
    if fs::exists(&dotted).unwrap_or(false) { dotted } else { dir.join(format!("{stem}-{kind}-idx{rank}-ubyte")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    /// A folder with 5 training and 3 test images of 2 × 2.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (stem, samples) in [("train", 5_u8), ("t10k", 3)] {
            let images: Vec<u8> = (0..samples * 4).collect();
            let labels: Vec<u8> = (0..samples).collect();
            fs::write(dir.path().join(format!("{stem}-images-idx3-ubyte")), idx(&[samples.into(), 2, 2], &images)).unwrap();
            fs::write(dir.path().join(format!("{stem}-labels-idx1-ubyte")), idx(&[samples.into()], &labels)).unwrap();
        }
        dir
    }

    #[test]
    fn idx_files_become_shards_that_hold_each_sample_once() {
        let dir = folder();
        let imported = import_idx(dir.path(), "tiny", 2).unwrap();
        let manifest = &imported.manifest;
        assert_eq!((manifest.name.as_str(), manifest.shape.as_slice()), ("tiny", &[1, 2, 2][..]));
        let counts = |split: usize| manifest.splits[split].shards.iter().map(|shard| shard.samples).collect::<Vec<_>>();
        assert_eq!((counts(0), counts(1)), (vec![2, 2, 1], vec![2, 1]));
        assert_eq!(imported.shards.len(), 5);
        let listed = manifest.splits.iter().flat_map(|split| &split.shards);
        for (shard, (hash, bytes)) in listed.zip(&imported.shards) {
            assert_eq!((shard.hash, shard.bytes, *hash), (*hash, bytes.len() as u64, Hash::of(bytes)));
        }
        let second = safetensors::SafeTensors::deserialize(&imported.shards[1].1).unwrap();
        assert_eq!(second.tensor("x").unwrap().shape(), [2, 1, 2, 2]);
        assert_eq!(second.tensor("x").unwrap().data(), [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(second.tensor("y").unwrap().data(), [2, 3]);
        assert_eq!(DatasetManifest::from_bytes(&manifest.to_bytes()).unwrap(), *manifest);
        assert_eq!(import_idx(dir.path(), "tiny", 2).unwrap(), imported, "importing again gives the same bytes");
    }

    /// Imports the folder with one file replaced; returns the error's code and words.
    fn refused(file: &str, content: Option<&[u8]>) -> (u16, String) {
        let dir = folder();
        match content {
            Some(content) => fs::write(dir.path().join(file), content).unwrap(),
            None => fs::remove_file(dir.path().join(file)).unwrap(),
        }
        let error = import_idx(dir.path(), "tiny", 2).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        (error.code(), error.to_string())
    }

    #[test]
    fn a_missing_file_is_named_with_all_that_are_needed() {
        let (code, words) = refused("t10k-labels-idx1-ubyte", None);
        assert!(code == 3030 && words.contains("train-images-idx3-ubyte"), "{words}");
    }

    #[test]
    fn truncated_compressed_and_odd_files_are_refused() {
        let images = "train-images-idx3-ubyte";
        for (content, expected) in [
            (vec![0, 0, 8], "within its header"),
            (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "gunzip"),
            (idx(&[5, 4], &[0; 20]), "begins with"),
            (idx(&[5, 2, 2], &[0; 19]), "19 follow"),
            (idx(&[5, 2, 2], &[0; 21]), "21 follow"),
            (idx(&[0, 2, 2], &[]), "no samples"),
            (idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 21]), "21 follow"),
        ] {
            let (code, words) = refused(images, Some(&content));
            assert!(code == 3031 && words.contains(expected), "{words}");
        }
    }

    #[test]
    fn files_that_do_not_fit_together_are_refused() {
        let (code, words) = refused("train-labels-idx1-ubyte", Some(&idx(&[4], &[0; 4])));
        assert!(code == 3032 && words.contains("4 labels"), "{words}");
        let (code, words) = refused("train-labels-idx1-ubyte", Some(&idx(&[5], &[0, 1, 2, 3, 10])));
        assert!(code == 3031 && words.contains("label 4 is 10"), "{words}");
        let (code, words) = refused("t10k-images-idx3-ubyte", Some(&idx(&[3, 2, 3], &[0; 18])));
        assert!(code == 3032 && words.contains("[1, 2, 3]"), "{words}");
    }

    #[test]
    fn a_shard_has_at_least_one_sample() {
        let dir = folder();
        assert_eq!(import_idx(dir.path(), "tiny", 0).unwrap_err().code(), 3033);
        assert_eq!(import_idx(dir.path(), "", 2).unwrap_err().code(), 3021);
    }
}
