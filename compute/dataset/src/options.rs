use std::{fmt, path::PathBuf, str::FromStr};

use crate::ImportError;

/// Samples of one shard at the most, where nobody says otherwise.
pub const DEFAULT_SHARD_SAMPLES: usize = 1000;
/// The most samples of one shard.
pub(crate) const MAX_SHARD_SAMPLES: usize = 100_000;

/// A kind of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Byte images and classes: MNIST and its kin.
    Idx,
    /// Tables with commas, semicolons or tabs.
    Csv,
    /// Tables by columns.
    Parquet,
    /// Arrays of NumPy, one a file.
    Npy,
    /// Arrays of NumPy, several a file.
    Npz,
    /// Folders of PNG and JPEG images, one a class.
    Images,
    /// Tensors.
    Safetensors,
    /// Text as bytes.
    Text,
}

impl Format {
    const ALL: [(Format, &str, &[&str]); 8] = [
        (Format::Idx, "idx", &["ubyte"]),
        (Format::Csv, "csv", &["csv", "tsv", "data"]),
        (Format::Parquet, "parquet", &["parquet", "pq"]),
        (Format::Npy, "npy", &["npy"]),
        (Format::Npz, "npz", &["npz"]),
        (Format::Images, "images", &["png", "jpg", "jpeg"]),
        (Format::Safetensors, "safetensors", &["safetensors"]),
        (Format::Text, "text", &["txt", "md"]),
    ];

    /// The format that a file's name suggests; `.gz` at its end is looked through.
    pub(crate) fn of_name(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let fits = |ending: &&str| name.strip_suffix(*ending).is_some_and(|stem| stem.ends_with(['.', '-']));
        Format::ALL.iter().find(|(_, _, endings)| endings.iter().any(&fits)).map(|(format, _, _)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, _) = Format::ALL.iter().find(|(format, _, _)| format == self).expect("all formats are listed");
        f.write_str(name)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let known: Vec<&str> = Format::ALL.iter().map(|(_, name, _)| *name).collect();
        Format::ALL
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(format, _, _)| *format)
            .ok_or_else(|| format!("'{text}' is none of {}", known.join(", ")))
    }
}

/// What is to be learnt of a table or of arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A class.
    Classification,
    /// A value.
    Regression,
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Task, String> {
        match text {
            "classification" => Ok(Task::Classification),
            "regression" => Ok(Task::Regression),
            _ => Err(format!("'{text}' is neither classification nor regression")),
        }
    }
}

/// The colours of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// One channel.
    Grey,
    /// Three channels.
    Rgb,
}

impl Colour {
    pub(crate) fn channels(self) -> u32 {
        match self {
            Colour::Grey => 1,
            Colour::Rgb => 3,
        }
    }
}

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Colour, String> {
        match text {
            "grey" | "gray" => Ok(Colour::Grey),
            "rgb" => Ok(Colour::Rgb),
            _ => Err(format!("'{text}' is neither grey nor rgb")),
        }
    }
}

/// Which part of the samples becomes the split `test`, where the files don't say: `test=0.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdout {
    /// The part, in thousandths; 1 to 999.
    pub permille: u32,
}

impl FromStr for Holdout {
    type Err = String;

    fn from_str(text: &str) -> Result<Holdout, String> {
        let part = text.strip_prefix("test=").and_then(|part| part.parse::<f64>().ok());
        let permille = part.map_or(0.0, |part| (part * 1000.0).round());
        if !(1.0..=999.0).contains(&permille) {
            return Err(format!("'{text}' is not a part between 0.001 and 0.999; write for example test=0.2"));
        }
        Ok(Holdout { permille: permille as u32 })
    }
}

/// How files are to be read. The default is what most want.
#[derive(Clone, Debug)]
pub struct Options {
    /// The dataset's name, for people.
    pub name: String,
    /// The kind of files; `None`: guessed from their names.
    pub format: Option<Format>,
    /// Samples of a shard; `None`: at most [`DEFAULT_SHARD_SAMPLES`], and few enough for 60 shards and 32 MiB each.
    pub shard_samples: Option<usize>,
    /// Which part is for testing, where the files don't say.
    pub holdout: Holdout,
    /// Chooses that part.
    pub seed: u64,
    /// Tables: the column to learn.
    pub target: Option<String>,
    /// Tables and arrays: whether it is a class or a value.
    pub task: Option<Task>,
    /// Tables: features as they are, not standardised.
    pub raw: bool,
    /// Tables: columns to leave out.
    pub drop: Vec<String>,
    /// Tables: columns of categories, each of which becomes a feature of 0 or 1.
    pub one_hot: Vec<String>,
    /// CSV: the first row holds data, and columns are named by their numbers from 1.
    pub no_header: bool,
    /// Images: width and height to scale to.
    pub resize: Option<(u32, u32)>,
    /// Images: the colours; `None`: those of the first image.
    pub colour: Option<Colour>,
    /// Text: tokens of one sample.
    pub length: u32,
    /// Arrays: the names of features and targets.
    pub arrays: (String, String),
}

impl Options {
    /// The defaults, with a name.
    pub fn new(name: impl Into<String>) -> Options {
        Options {
            name: name.into(),
            format: None,
            shard_samples: None,
            holdout: Holdout { permille: 200 },
            seed: 1,
            target: None,
            task: None,
            raw: false,
            drop: Vec::new(),
            one_hot: Vec::new(),
            no_header: false,
            resize: None,
            colour: None,
            length: 128,
            arrays: ("x".into(), "y".into()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ImportError> {
        match self.shard_samples {
            Some(samples) if !(1..=MAX_SHARD_SAMPLES).contains(&samples) => Err(ImportError::ShardSamples(samples)),
            _ => Ok(()),
        }
    }
}

/// Where the files are on this machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// One file or folder, which may hold both splits.
    One(PathBuf),
    /// A file or folder for each split.
    Two {
        /// Of the split `train`.
        train: PathBuf,
        /// Of the split `test`.
        test: PathBuf,
    },
}
