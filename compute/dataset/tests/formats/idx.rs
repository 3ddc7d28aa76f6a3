use std::{fs, io::Write as _};

use deepmarket_dataset::{Options, import_idx};
use deepmarket_job::{Features, Targets};

use crate::support::{imported, refused};

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

fn two() -> Options {
    Options { shard_samples: Some(2), ..Options::new("tiny") }
}

#[test]
fn idx_files_become_shards_that_hold_each_sample_once() {
    let dir = folder();
    let done = imported(dir.path(), &two());
    let manifest = &done.import.manifest;
    assert_eq!((manifest.name.as_str(), manifest.shape.as_slice()), ("tiny", &[1, 2, 2][..]));
    assert_eq!(manifest.y, Targets::Class { classes: 10 });
    let counts = |split: usize| manifest.splits[split].shards.iter().map(|shard| shard.samples).collect::<Vec<_>>();
    assert_eq!((counts(0), counts(1)), (vec![2, 2, 1], vec![2, 1]));
    // Dealt out like cards: the second of three shards has samples 1 and 4.
    let second = safetensors::SafeTensors::deserialize(&done.shards[1].1).unwrap();
    assert_eq!(second.tensor("x").unwrap().shape(), [2, 1, 2, 2]);
    assert_eq!(second.tensor("x").unwrap().data(), [4, 5, 6, 7, 16, 17, 18, 19]);
    assert_eq!(second.tensor("y").unwrap().data(), [1, 4]);
    let in_memory = import_idx(dir.path(), "tiny", 2).unwrap();
    assert_eq!((&in_memory.manifest, &in_memory.shards), (manifest, &done.shards));
}

#[test]
fn mean_and_deviation_are_the_training_splits() {
    let dir = folder();
    let Features::U8 { mean, std } = imported(dir.path(), &two()).import.manifest.x else { panic!("bytes") };
    // 0 to 19: mean 9.5, deviation 5.7663, over 255.
    assert_eq!((mean.to_string().as_str(), std.to_string().as_str()), ("0.0373", "0.0226"));
}

#[test]
fn packed_files_and_names_with_a_dot_are_the_same() {
    let (dir, packed) = (folder(), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().replace("-idx", ".idx");
        let file = fs::File::create(packed.path().join(format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&fs::read(&path).unwrap()).unwrap();
        encoder.finish().unwrap();
    }
    assert_eq!(imported(dir.path(), &two()).shards, imported(packed.path(), &two()).shards);
}

/// Imports the folder with one file replaced, which must be refused.
fn replaced(file: &str, content: Option<&[u8]>, code: u16, says: &str) {
    let dir = folder();
    match content {
        Some(content) => fs::write(dir.path().join(file), content).unwrap(),
        None => fs::remove_file(dir.path().join(file)).unwrap(),
    }
    refused(dir.path(), &two(), code, &[file, says]);
}

#[test]
fn a_missing_file_is_named_with_all_that_are_needed() {
    replaced("t10k-labels-idx1-ubyte", None, 3030, "train-images-idx3-ubyte");
}

#[test]
fn truncated_compressed_and_odd_files_are_refused() {
    let images = "train-images-idx3-ubyte";
    for (content, expected) in [
        (vec![0, 0, 8], "within its header"),
        (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "gunzip"),
        (idx(&[5, 4], &[0; 20]), "begins with"),
        (idx(&[5, 2, 2], &[0; 19]), "19 follow"),
        (idx(&[5, 2, 2], &[0; 21]), "more bytes follow"),
        (idx(&[0, 2, 2], &[]), "no samples"),
    ] {
        replaced(images, Some(&content), 3031, expected);
    }
}

#[test]
fn partners_that_disagree_are_refused() {
    replaced("train-labels-idx1-ubyte", Some(&idx(&[4], &[0; 4])), 3032, "4 labels");
    replaced("t10k-images-idx3-ubyte", Some(&idx(&[3, 2, 3], &[0; 18])), 3032, "[1, 2, 3]");
}

#[test]
fn a_shard_has_at_least_one_sample_and_a_dataset_a_name() {
    let dir = folder();
    assert_eq!(import_idx(dir.path(), "tiny", 0).unwrap_err().code(), 3033);
    assert_eq!(import_idx(dir.path(), "", 2).unwrap_err().code(), 3021);
}
