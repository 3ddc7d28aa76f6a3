//! A job's data: its manifest and the shards that a worker works on, fetched by hash and verified while they stream.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use deepmarket_api::{Client, ProgressKind};
use deepmarket_job::{DatasetManifest, JobSpec, Shard, protocol::Part};
use deepmarket_net::{Net, NetError, PeerAddress};
use deepmarket_types::{FailureReason, Hash};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::time::sleep;

use crate::{error::LeaseFailure, progress::Reporter};

/// The most bytes of a manifest.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 8 * 1024 * 1024;
/// The most bytes of a state.
pub(crate) const MAX_STATE_BYTES: u64 = 1 << 30;
/// Shards that are fetched at the same time; they wait in memory for the trainer, in order.
const AT_ONCE: usize = 3;
/// How often all providers are asked before the data counts as unavailable: a gateway may be on its way back.
const TRIES: u32 = 5;
/// The pause between.
const PAUSE: Duration = Duration::from_secs(2);
/// The shortest time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(300);

/// A shard of one of the job's splits, by its index there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub part: Part,
    pub index: u32,
    pub shard: Shard,
}

/// Where a worker gets its data.
#[derive(Clone)]
pub(crate) struct Source {
    pub net: Net,
    pub client: Client,
    /// The job's other workers: they may have what the gateways lost.
    pub peers: Vec<PeerAddress>,
    /// Our rank: gateways are asked in an order that differs from rank to rank.
    pub rank: u32,
}

impl Source {
    async fn providers(&self) -> Vec<PeerAddress> {
        let networks = self.client.networks().await;
        let mut providers: Vec<PeerAddress> = networks
            .into_iter()
            .map(|network| PeerAddress { peer_id: network.peer.peer_id, addresses: network.peer.addresses })
            .collect();
        // Their order depends on which gateway answered last: sort, then rotate, so that ranks spread over gateways.
        providers.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
        providers.dedup_by(|a, b| a.peer_id == b.peer_id);
        let turn = self.rank as usize % providers.len().max(1);
        providers.rotate_left(turn);
        providers.extend(self.peers.iter().cloned());
        providers
    }

    /// A blob from whoever has it.
    pub async fn fetch(&self, hash: &Hash, limit: u64, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Vec<u8>, LeaseFailure> {
        for attempt in 1.. {
            let providers = self.providers().await;
            match self.net.fetch(hash, limit, &providers, progress).await {
                Ok(bytes) => return Ok(bytes),
                Err(e @ NetError::Unavailable { .. }) if attempt < TRIES => {
                    tracing::warn!("{e}; trying again");
                    sleep(PAUSE).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// A job's state that was stored.
    pub async fn fetch_state(&self, hash: &Hash) -> Result<Vec<u8>, LeaseFailure> {
        self.fetch(hash, MAX_STATE_BYTES, &|_| {}).await
    }

    /// The job's manifest, checked against its spec.
    pub async fn manifest(&self, spec: &JobSpec) -> Result<DatasetManifest, LeaseFailure> {
        let bytes = self.fetch(&spec.data.manifest, MAX_MANIFEST_BYTES, &|_| {}).await?;
        let unusable = |e: String| LeaseFailure::new(FailureReason::DataUnavailable, e);
        let manifest = DatasetManifest::from_bytes(&bytes).map_err(|e| unusable(e.to_string()))?;
        spec.check_with(&manifest).map_err(|e| unusable(e.to_string()))?;
        Ok(manifest)
    }

    /// Fetches shards, some at the same time, and hands them over one by one in order. Returns their bytes in all.
    pub async fn shards<F>(
        &self,
        pieces: &[Piece],
        reporter: &Reporter,
        mut take: impl FnMut(Piece, Vec<u8>) -> F,
    ) -> Result<u64, LeaseFailure>
    where
        F: Future<Output = Result<(), LeaseFailure>>,
    {
        let total_bytes: u64 = pieces.iter().map(|piece| piece.shard.bytes).sum();
        let counter = Counter { total_bytes, done: AtomicU64::new(0), last: std::sync::Mutex::new(Instant::now()), reporter };
        // Boxed and collected: the compiler can't see otherwise that a stream of borrowing futures may change threads.
        let fetches: Vec<BoxFuture<'_, _>> = pieces
            .iter()
            .map(|piece| {
                let (counter, shard) = (&counter, &piece.shard);
                let fetch = async move {
                    let seen = AtomicU64::new(0);
                    let bytes = self.fetch(&shard.hash, shard.bytes, &|so_far| counter.moved(&seen, so_far)).await?;
                    if bytes.len() as u64 != shard.bytes {
                        let what =
                            format!("shard {} has {} bytes where the manifest says {}", shard.hash, bytes.len(), shard.bytes);
                        return Err(LeaseFailure::new(FailureReason::DataUnavailable, what));
                    }
                    Ok((*piece, bytes))
                };
                fetch.boxed()
            })
            .collect();
        let mut fetched = stream::iter(fetches).buffered(AT_ONCE);
        while let Some(shard) = fetched.next().await {
            let (piece, bytes) = shard?;
            take(piece, bytes).await?;
        }
        reporter.report(ProgressKind::Fetching { done_bytes: total_bytes, total_bytes });
        Ok(total_bytes)
    }
}

/// Adds up the progress of several transfers and reports it now and then.
struct Counter<'a> {
    total_bytes: u64,
    done: AtomicU64,
    last: std::sync::Mutex<Instant>,
    reporter: &'a Reporter,
}

impl Counter<'_> {
    /// One transfer has `so_far` bytes; `seen` is what it had before. It goes back when another provider is tried.
    fn moved(&self, seen: &AtomicU64, so_far: u64) {
        let before = seen.swap(so_far, Ordering::Relaxed);
        let done_bytes =
            self.done.fetch_add(so_far.wrapping_sub(before), Ordering::Relaxed).wrapping_add(so_far.wrapping_sub(before));
        let mut last = self.last.lock().expect("nobody panics while counting");
        if last.elapsed() >= REPORT_EVERY {
            *last = Instant::now();
            let (done_bytes, total_bytes) = (done_bytes.min(self.total_bytes), self.total_bytes);
            self.reporter.report(ProgressKind::Fetching { done_bytes, total_bytes });
        }
    }
}
