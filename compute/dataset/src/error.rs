use std::path::PathBuf;

use deepmarket_job::DataError;

/// Why files can't be imported. Codes 303x are stable.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that can't be read.
    #[error("{path} can't be read: {source}; the folder needs {needed}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// The files that the folder needs.
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
            ImportError::Refused(error) => error.code(),
        }
    }
}
