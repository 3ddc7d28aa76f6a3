//! Other people's files, as `data add` reads them. Each input becomes files in a temporary folder.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
};

use deepmarket_dataset::{Colour, Format, Input, Options, Task, import};
use deepmarket_job::DatasetManifest;
use deepmarket_types::Hash;

use crate::check::said;

/// A temporary folder for each thread.
pub(crate) struct Folder;

impl Folder {
    pub(crate) fn with(work: impl FnOnce(&Path)) {
        thread_local! {
            static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
        }
        FOLDER.with(|folder| work(folder.get_or_init(|| tempfile::tempdir().expect("a temporary folder")).path()));
    }
}

/// Writes parts of the data to files, imports them, and checks what came out. All parts but the last stand after their length as
/// two bytes.
fn imported(data: &[u8], names: &[&str], options: &Options) {
    Folder::with(|folder| {
        let mut rest = data;
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        for (index, path) in paths.iter().enumerate() {
            let mut part = rest;
            if index + 1 < paths.len() {
                let Some((length, after)) = rest.split_first_chunk::<2>() else { return };
                (part, rest) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
            }
            if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
                fs::create_dir_all(parent).expect("a temporary folder");
            }
            fs::write(path, part).expect("a temporary file");
        }
        let input = if let [path] = &paths[..] { Input::One(path.clone()) } else { Input::One(folder.to_owned()) };
        let mut shards = Vec::new();
        let result = import(&input, options, &mut |hash, bytes| {
            shards.push((hash, Hash::of(&bytes), bytes.len() as u64));
            Ok(())
        });
        for path in &paths {
            fs::remove_file(path).expect("it was written");
            if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
                fs::remove_dir(parent).ok();
            }
        }
        match result {
            Ok(import) => {
                let bytes = import.manifest.to_bytes();
                assert_eq!(DatasetManifest::from_bytes(&bytes).as_ref(), Ok(&import.manifest));
                let listed: Vec<_> = import.manifest.splits.iter().flat_map(|split| &split.shards).collect();
                assert_eq!(listed.len(), shards.len());
                for (shard, (hash, content, bytes)) in listed.into_iter().zip(shards) {
                    assert!(hash == content && shard.hash == hash && shard.bytes == bytes);
                }
            }
            Err(error) => said(&error),
        }
    });
}

fn options(format: Format, flags: u8) -> Options {
    let task = [None, Some(Task::Classification), Some(Task::Regression)][usize::from(flags) % 3];
    Options { format: Some(format), task, ..Options::new("fuzz") }
}

/// Arrays: `.npy` files, an `.npz` archive, safetensors.
pub(crate) fn arrays(data: &[u8]) {
    let [kind, flags, data @ ..] = data else { return };
    match kind % 3 {
        0 => imported(data, &["x.npy", "y.npy"], &options(Format::Npy, *flags)),
        1 => imported(data, &["all.npz"], &options(Format::Npz, *flags)),
        _ => imported(data, &["all.safetensors"], &options(Format::Safetensors, *flags)),
    }
}

/// Tables: CSV (also packed) and Parquet.
pub(crate) fn table(data: &[u8]) {
    let [kind, flags, data @ ..] = data else { return };
    let (name, format) = match kind % 3 {
        0 => ("all.csv", Format::Csv),
        1 => ("all.csv.gz", Format::Csv),
        _ => ("all.parquet", Format::Parquet),
    };
    let mut options = options(format, *flags);
    (options.no_header, options.raw) = (flags & 0x10 != 0, flags & 0x20 != 0);
    options.target = Some(if options.no_header { "1" } else { "y" }.into());
    if flags & 0x40 != 0 {
        options.one_hot = vec![if options.no_header { "2" } else { "colour" }.into()];
    }
    imported(data, &[name], &options);
}

/// Images: two PNG or JPEG files, each of a class.
pub(crate) fn images(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let mut options = Options { format: Some(Format::Images), ..Options::new("fuzz") };
    options.resize = (flags & 1 != 0).then_some((6, 5));
    options.colour = [None, Some(Colour::Grey), Some(Colour::Rgb)][usize::from(flags >> 1) % 3];
    imported(data, &["cat/1.png", "dog/1.png"], &options);
}

/// MNIST's format, plain and packed, and text.
pub(crate) fn idx(data: &[u8]) {
    let [kind, length, data @ ..] = data else { return };
    let plain = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let packed = plain.map(|name| format!("{name}.gz"));
    match kind % 3 {
        0 => imported(data, &plain, &options(Format::Idx, 0)),
        1 => imported(data, &packed.each_ref().map(String::as_str), &options(Format::Idx, 0)),
        _ => {
            let options = Options { length: u32::from(*length), ..options(Format::Text, 0) };
            imported(data, &["all.txt"], &options);
        }
    }
}
