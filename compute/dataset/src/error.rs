use std::{io, path::PathBuf};

use deepmarket_job::DataError;

/// Why files can't be imported. Codes 303x are stable.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that can't be read.
    #[error("{path} can't be read: {source}{}", needs(.needed), path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// The files that the folder needs; empty where only this one is meant.
        needed: &'static str,
    },
    /// A file that isn't what its name says.
    #[error("{path} is not the file it should be: {why}; fetch it again", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
    /// Files that don't belong together.
    #[error("{path} doesn't fit its partner: {why}; fetch both again", path = path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
    /// A number of samples that no shard can have.
    #[error("a shard can't have {0} samples; use 1 to 100000, for example 1000")]
    ShardSamples(usize),
    /// One row, image or array that can't be used.
    #[error("{path}, {place}: {why}; {hint}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where in it: `row 17, column 'age'`.
        place: String,
        /// What was found and what was expected.
        why: String,
        /// What to do.
        hint: String,
    },
    /// What was asked for doesn't say enough, or contradicts the files.
    #[error("{what}; {hint}")]
    Unclear {
        /// What is missing or contradicts.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A source that can't be reached or listed.
    #[error("{url} can't be fetched: {why}; {hint}")]
    Source {
        /// The source, without credentials.
        url: String,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// What was read can't be kept on this machine until it is stored.
    #[error("the samples can't be put on this machine's disk: {0}; make room (or set TMPDIR to a folder that has it)")]
    Disk(io::Error),
    /// The result is beyond what a manifest may say.
    #[error(transparent)]
    Refused(#[from] DataError),
}

impl ImportError {
    /// The stable code that the CLI shows.
    pub fn code(&self) -> u16 {
        match self {
            ImportError::Unreadable { .. } => 3030,
            ImportError::Malformed { .. } => 3031,
            ImportError::Mismatch { .. } => 3032,
            ImportError::ShardSamples(_) => 3033,
            ImportError::Content { .. } => 3034,
            ImportError::Unclear { .. } => 3035,
            ImportError::Source { .. } => 3036,
            ImportError::Disk(_) => 3037,
            ImportError::Refused(error) => error.code(),
        }
    }

    /// What was asked for doesn't say enough.
    pub(crate) fn unclear(what: impl Into<String>, hint: impl Into<String>) -> ImportError {
        ImportError::Unclear { what: what.into(), hint: hint.into() }
    }

    /// A file can't be read.
    pub(crate) fn unreadable(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ImportError {
        let path = path.into();
        move |source| ImportError::Unreadable { path, source, needed: "" }
    }
}

fn needs(needed: &str) -> String {
    if needed.is_empty() { String::new() } else { format!("; the folder needs {needed}") }
}
