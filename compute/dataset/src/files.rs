//! Files and folders on this machine: what kind they are, which belong to which split, and opening them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use crate::{Format, ImportError, Input, Task, collect::Part};

/// The most files of a dataset.
const MAX_FILES: usize = 5_000_000;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 4;
/// Names of folders and beginnings of files for each split.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 4] = ["test", "testing", "val", "valid"];

/// A file for reading from its beginning; `.gz` is unpacked on the way.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, ImportError> {
    let file = File::open(path).map_err(ImportError::unreadable(path))?;
    let reader = BufReader::with_capacity(1 << 17, file);
    Ok(if is_gz(path) { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

pub(crate) fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// All files of a folder and the folders in it, in order of their names; hidden ones are left out. A file is itself.
pub(crate) fn list(path: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut files = Vec::new();
    if fs::metadata(path).map_err(ImportError::unreadable(path))?.is_file() {
        files.push(path.to_owned());
    } else {
        walk(path, 0, &mut files)?;
    }
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ImportError> {
    for path in entries(folder)? {
        if path.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, files)?;
        } else if path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(ImportError::unclear(
                format!("{} holds more than {MAX_FILES} files", folder.display()),
                "pack them, for example as Parquet",
            ));
        }
    }
    Ok(())
}

/// What is in a folder, in order of the names; hidden entries are left out.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImportError::unreadable(folder))? {
        let path = entry.map_err(ImportError::unreadable(folder))?.path();
        if !name_of(&path).starts_with('.') {
            entries.push(path);
        }
    }
    entries.sort();
    Ok(entries)
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The kind of files that there are.
pub(crate) fn guess(input: &Input) -> Result<Format, ImportError> {
    let path = match input {
        Input::One(path) => path,
        Input::Two { train, .. } => train,
    };
    let formats: BTreeSet<Format> = list(path)?.iter().filter_map(|file| Format::of_name(&name_of(file))).collect();
    // Folders of tables, arrays or images often hold a README.
    let telling =
        if formats.len() > 1 { formats.iter().filter(|f| **f != Format::Text).collect() } else { Vec::from_iter(&formats) };
    match telling.as_slice() {
        [format] => Ok(**format),
        [] => Err(ImportError::unclear(
            format!(
                "no file in {} has a name that tells its format: train-images-idx3-ubyte and its partners, .csv, .parquet, .npy, \
                 .npz, .safetensors, .png, .jpg or .txt",
                path.display()
            ),
            "say it with --format",
        )),
        several => {
            let names: Vec<String> = several.iter().map(|format| format.to_string()).collect();
            Err(ImportError::unclear(
                format!("{} holds files of several formats: {}", path.display(), names.join(", ")),
                "say which with --format",
            ))
        }
    }
}

/// Files by split; `whole` ones are to be split.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub train: Vec<PathBuf>,
    pub test: Vec<PathBuf>,
    pub whole: Vec<PathBuf>,
}

impl Parts {
    /// Sorts files of one format by split: by what was said, by the folder they are in, by their names' beginnings.
    pub(crate) fn of(input: &Input, format: Format) -> Result<Parts, ImportError> {
        let of_format = |path: &Path| -> Result<Vec<PathBuf>, ImportError> {
            let files = list(path)?;
            if files.len() == 1 && files[0] == path {
                return Ok(files);
            }
            Ok(files.into_iter().filter(|file| Format::of_name(&name_of(file)) == Some(format)).collect())
        };
        let parts = match input {
            Input::Two { train, test } => Parts { train: of_format(train)?, test: of_format(test)?, whole: Vec::new() },
            Input::One(path) => {
                let mut parts = Parts::default();
                for file in of_format(path)? {
                    let list = match part_of(path, &file) {
                        Some(Part::Train) => &mut parts.train,
                        Some(Part::Test) => &mut parts.test,
                        None => &mut parts.whole,
                    };
                    list.push(file);
                }
                // A single split by name (`train.csv` alone) is still to be split.
                if parts.train.is_empty() || parts.test.is_empty() {
                    let (train, test) = (std::mem::take(&mut parts.train), std::mem::take(&mut parts.test));
                    parts.whole.extend(train.into_iter().chain(test));
                }
                parts
            }
        };
        parts.check(input, format)?;
        Ok(parts)
    }

    fn check(&self, input: &Input, format: Format) -> Result<(), ImportError> {
        let missing = |path: &Path| {
            Err(ImportError::unclear(
                format!("{} holds no {format} file", path.display()),
                "check the path, or say another --format",
            ))
        };
        match input {
            Input::Two { train, .. } if self.train.is_empty() => missing(train),
            Input::Two { test, .. } if self.test.is_empty() => missing(test),
            Input::One(path) if self.train.is_empty() && self.whole.is_empty() => missing(path),
            Input::One(path) if !self.train.is_empty() && !self.whole.is_empty() => Err(ImportError::unclear(
                format!("{} belongs to no split, and others in {} do", self.whole[0].display(), path.display()),
                "name the two splits with --train and --test",
            )),
            _ => Ok(()),
        }
    }

    /// All files with the split that they are of.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Option<Part>, &PathBuf)> {
        let train = self.train.iter().map(|file| (Some(Part::Train), file));
        let test = self.test.iter().map(|file| (Some(Part::Test), file));
        train.chain(test).chain(self.whole.iter().map(|file| (None, file)))
    }
}

/// The split that the path of a file tells, below `root`.
fn part_of(root: &Path, file: &Path) -> Option<Part> {
    let below = file.strip_prefix(root).ok()?;
    below.components().find_map(|component| {
        let name = component.as_os_str().to_string_lossy().to_ascii_lowercase();
        part_of_name(&name)
    })
}

/// `train`, `train.csv`, `train-00000.parquet`, but not `trainers.csv`.
pub(crate) fn part_of_name(name: &str) -> Option<Part> {
    let named = |word: &&str| name.strip_prefix(*word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    if TRAIN.iter().any(&named) {
        return Some(Part::Train);
    }
    (TEST.iter().any(named) || name == "validation").then_some(Part::Test)
}

/// `--task` was needed.
pub(crate) fn needs_task(what: &str) -> ImportError {
    ImportError::unclear(what, "say what to learn: --task classification or --task regression")
}

/// The task that was asked for must be the one that the targets allow.
pub(crate) fn agree(asked: Option<Task>, found: Task, what: &str) -> Result<Task, ImportError> {
    match asked {
        Some(asked) if asked != found => {
            let wanted = if asked == Task::Classification { "classes" } else { "values" };
            Err(ImportError::unclear(
                format!("{what}, which are not {wanted}"),
                "ask for the other --task, or name other targets",
            ))
        }
        _ => Ok(found),
    }
}
