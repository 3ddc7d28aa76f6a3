//! How much the users of a gateway may store there, and how many uploads it takes at once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Refusal;

/// The most bytes of all blobs here: MNIST is 0.05 GB, and every disk has this.
const STORE_BYTES: u64 = 32 * 1024 * 1024 * 1024;
/// Uploads at once. Each holds its blob in memory, at most 256 MiB.
const UPLOADS: usize = 4;

/// The room for blobs.
pub(crate) struct Quota {
    stored: AtomicU64,
    uploads: Arc<Semaphore>,
}

impl Quota {
    /// With so many bytes stored already.
    pub(crate) fn new(stored: u64) -> Quota {
        Quota { stored: AtomicU64::new(stored), uploads: Arc::new(Semaphore::new(UPLOADS)) }
    }

    /// Waits for one's turn to upload; refuses where there is no room for so many bytes.
    pub(crate) async fn upload(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.stored.load(Ordering::Relaxed).saturating_add(bytes) > STORE_BYTES {
            return Err(Refusal::StorageFull);
        }
        self.uploads.clone().acquire_owned().await.map_err(|_| Refusal::Stopping)
    }

    /// So many bytes were stored.
    pub(crate) fn stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_store_refuses_uploads() {
        let quota = Quota::new(STORE_BYTES - 10);
        assert!(quota.upload(10).await.is_ok());
        assert_eq!(quota.upload(11).await.unwrap_err(), Refusal::StorageFull);
        quota.stored(10);
        assert_eq!(quota.upload(1).await.unwrap_err(), Refusal::StorageFull);
    }
}
