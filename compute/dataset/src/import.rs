use deepmarket_job::DatasetManifest;

use crate::{Format, ImportError, Input, Options, Sink, arrays, files, idx, images, table, text};

/// What was imported, beside the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What the dataset holds; its canonical bytes are a blob too.
    pub manifest: DatasetManifest,
    /// The kind of files that were read.
    pub format: Format,
    /// The classes' names in order of their numbers, where the files name them.
    pub classes: Vec<String>,
    /// The features' names in order, where the files name them.
    pub features: Vec<String>,
}

/// Reads files and gives their shards to `sink` one by one. Equal files and options give equal bytes.
pub fn import(input: &Input, options: &Options, sink: Sink<'_>) -> Result<Import, ImportError> {
    options.check()?;
    let format = match options.format {
        Some(format) => format,
        None => files::guess(input)?,
    };
    let (collector, classes, features) = match format {
        Format::Idx => match input {
            Input::One(folder) => (idx::read(folder)?, Vec::new(), Vec::new()),
            Input::Two { .. } => {
                let hint = "name the folder that holds all four files";
                return Err(ImportError::unclear("IDX files say by their names which split they are of", hint));
            }
        },
        Format::Csv | Format::Parquet => {
            let table = table::read(input, format, options)?;
            (table.collector, table.classes, table.features)
        }
        Format::Images => {
            let images = images::read(input, options)?;
            (images.collector, images.classes, Vec::new())
        }
        Format::Npy | Format::Npz | Format::Safetensors => (arrays::read(input, format, options)?, Vec::new(), Vec::new()),
        Format::Text => (text::read(input, options)?, Vec::new(), Vec::new()),
    };
    let manifest = collector.finish(options, sink)?;
    Ok(Import { manifest, format, classes, features })
}
