use std::{fs, path::Path};

use deepmarket_dataset::{Import, ImportError, Input, Options, import};
use deepmarket_job::DatasetManifest;
use deepmarket_types::Hash;
use safetensors::SafeTensors;

/// What an import gave.
pub struct Done {
    pub import: Import,
    pub shards: Vec<(Hash, Vec<u8>)>,
}

pub fn try_import(input: &Input, options: &Options) -> Result<Done, ImportError> {
    let mut shards = Vec::new();
    let import = import(input, options, &mut |hash, bytes| {
        shards.push((hash, bytes));
        Ok(())
    })?;
    Ok(Done { import, shards })
}

/// Imports, and checks what holds for all datasets.
pub fn imported(path: &Path, options: &Options) -> Done {
    let input = Input::One(path.to_owned());
    let done = try_import(&input, options).unwrap_or_else(|e| panic!("{e}"));
    let again = try_import(&input, options).unwrap();
    assert_eq!(done.import, again.import, "importing again gives the same");
    assert_eq!(done.shards, again.shards, "importing again gives the same bytes");
    let manifest = &done.import.manifest;
    assert_eq!(DatasetManifest::from_bytes(&manifest.to_bytes()).unwrap(), *manifest);
    let listed = manifest.splits.iter().flat_map(|split| &split.shards);
    assert_eq!(listed.clone().count(), done.shards.len());
    for (shard, (hash, bytes)) in listed.zip(&done.shards) {
        assert_eq!((shard.hash, shard.bytes, *hash), (*hash, bytes.len() as u64, Hash::of(bytes)));
        assert_eq!(SafeTensors::deserialize(bytes).unwrap().tensor("x").unwrap().shape()[0] as u64, shard.samples);
    }
    done
}

impl Done {
    pub fn samples(&self) -> (u64, u64) {
        (self.import.manifest.splits[0].samples, self.import.manifest.splits[1].samples)
    }

    /// The samples of a split in the order of its shards: bytes of `x` and of `y`.
    pub fn split(&self, index: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let before: usize = self.import.manifest.splits[..index].iter().map(|split| split.shards.len()).sum();
        let own = self.import.manifest.splits[index].shards.len();
        let mut samples = Vec::new();
        for (_, bytes) in &self.shards[before..before + own] {
            let tensors = SafeTensors::deserialize(bytes).unwrap();
            let (x, y) = (tensors.tensor("x").unwrap(), tensors.tensor("y").unwrap());
            let count = x.shape()[0];
            let cut = |data: &[u8]| data.chunks(data.len() / count).map(<[u8]>::to_vec).collect::<Vec<_>>();
            samples.extend(cut(x.data()).into_iter().zip(cut(y.data())));
        }
        samples
    }

    /// All samples, in no particular order.
    pub fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all: Vec<_> = (0..self.import.manifest.splits.len()).flat_map(|index| self.split(index)).collect();
        all.sort();
        all
    }
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// The error of an import, which must have this code and say all of these.
pub fn refused(path: &Path, options: &Options, code: u16, says: &[&str]) {
    let Err(error) = try_import(&Input::One(path.to_owned()), options) else { panic!("{} was imported", path.display()) };
    let words = error.to_string();
    assert_eq!(error.code(), code, "{words}");
    for part in says {
        assert!(words.contains(part), "'{words}' doesn't say '{part}'");
    }
}

/// A folder with files.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}
