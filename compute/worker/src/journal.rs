//! What must survive the agent: the last receipt that was signed for each lease. Signing another one of the same number after
//! a restart would be equivocation.

use std::{fs, io, path::PathBuf};

use deepmarket_types::{LeaseId, Receipt, decode, encode};

use crate::WorkerError;

/// The folder of last receipts.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
}

impl Journal {
    pub fn open(folder: PathBuf) -> Result<Journal, WorkerError> {
        fs::create_dir_all(&folder).map_err(WorkerError::home(&folder))?;
        Ok(Journal { folder })
    }

    fn path(&self, lease: LeaseId) -> PathBuf {
        self.folder.join(format!("{lease}.receipt"))
    }

    /// The last receipt that this machine signed for a lease, also in an earlier life of the agent.
    pub fn last(&self, lease: LeaseId) -> Option<Receipt> {
        let bytes = fs::read(self.path(lease)).ok()?;
        let receipt = decode::<Receipt>(&bytes);
        if let Err(e) = &receipt {
            tracing::warn!(%lease, "the lease's last receipt can't be read: {e}");
        }
        receipt.ok()
    }

    /// Notes a receipt before it is sent.
    pub fn note(&self, receipt: &Receipt) -> io::Result<()> {
        let path = self.path(receipt.lease);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, encode(receipt))?;
        fs::rename(unfinished, path)
    }
}
