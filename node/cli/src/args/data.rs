use std::path::PathBuf;

use clap::{Args, Subcommand};
use deepmarket_dataset::{Colour, Format, Generator, Holdout, Task};

#[derive(Subcommand)]
pub enum Data {
    /// Import a dataset, cut it into shards, and store them in the market by hash.
    ///
    /// The source is a file, a folder, or an address: file://, http(s)://, s3://bucket/folder (keys and endpoint from the usual
    /// AWS_ variables), hdfs:// where it was built in. Run it again after a failure: what is stored already is skipped.
    #[command(
        after_help = "Example:\n  deepmarket data add data/mnist --name mnist\n  deepmarket data add houses.csv --name houses --target price --task regression --split test=0.2 --seed 1\n  deepmarket data add s3://bucket/pets/ --name pets --resize 64x64\n  deepmarket data add --train train.parquet --test test.parquet --name clicks --target clicked --task classification"
    )]
    Add(Box<Add>),
    /// Make up a dataset, for examples without any download.
    #[command(after_help = "Example:\n  deepmarket data generate digits --name digits --samples 6000")]
    Generate {
        /// What: digits (images like MNIST's), regression (8 features), text (tokens).
        kind: Generator,
        /// Name for job files on this machine.
        #[arg(long)]
        name: String,
        /// How many samples; a fifth is for testing.
        #[arg(long, default_value_t = 6000)]
        samples: u64,
        /// The same seed gives the same dataset.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Tokens of a sample of text.
        #[arg(long, default_value_t = 128)]
        length: u32,
    },
    /// Fetch a dataset's manifest and shards into a folder. Run it again after a failure: it goes on where it was.
    #[command(after_help = "Example:\n  deepmarket data get mnist --out mnist-shards")]
    Get {
        /// A name on this machine, or a manifest's hash (blake3:…).
        dataset: String,
        /// The folder.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// List the datasets that were added from this machine.
    #[command(after_help = "Example:\n  deepmarket data ls")]
    Ls,
}

#[derive(Args)]
pub struct Add {
    /// Where the files are: a path or an address.
    #[arg(required_unless_present = "train")]
    pub source: Option<String>,
    /// Name for job files on this machine.
    #[arg(long)]
    pub name: String,
    /// Kind of files: idx, csv, parquet, npy, npz, images, safetensors or text [default: guessed from the names].
    #[arg(long)]
    pub format: Option<Format>,
    /// Source of the split `train`, where each split has its own.
    #[arg(long, value_name = "SOURCE", requires = "test", conflicts_with = "source")]
    pub train: Option<String>,
    /// Source of the split `test`.
    #[arg(long, value_name = "SOURCE", requires = "train")]
    pub test: Option<String>,
    /// The part that becomes the split `test`, where the files don't say.
    #[arg(long, value_name = "test=PART", default_value = "test=0.2")]
    pub split: Holdout,
    /// Chooses the samples of that part.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Tables: the column to learn.
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// Tables and arrays: classification or regression.
    #[arg(long)]
    pub task: Option<Task>,
    /// Tables: columns to leave out.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub drop: Vec<String>,
    /// Tables: columns of categories, each of which becomes a feature of 0 or 1.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub one_hot: Vec<String>,
    /// Tables: keep features as they are, instead of subtracting the training split's mean and dividing by its deviation.
    #[arg(long)]
    pub no_standardise: bool,
    /// CSV: the first line holds data; columns are named 1, 2 and so on.
    #[arg(long)]
    pub no_header: bool,
    /// Images: scale all to this size.
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub resize: Option<(u32, u32)>,
    /// Images: grey or rgb [default: as the first image].
    #[arg(long)]
    pub colour: Option<Colour>,
    /// Text: tokens of a sample.
    #[arg(long, default_value_t = 128)]
    pub length: u32,
    /// Arrays: name of the features.
    #[arg(long, value_name = "ARRAY", default_value = "x")]
    pub x: String,
    /// Arrays: name of the targets.
    #[arg(long, value_name = "ARRAY", default_value = "y")]
    pub y: String,
    /// Samples of a shard [default: at most 1000, and at least 60 shards where there are so many samples].
    #[arg(long, value_name = "N")]
    pub shard_samples: Option<usize>,
}

/// `64x48`: width and height in pixels.
fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width @ 1..=4096, height @ 1..=4096)) => Ok((width, height)),
        _ => Err(format!("'{text}' is no size of 1x1 to 4096x4096; write for example 64x48")),
    }
}
