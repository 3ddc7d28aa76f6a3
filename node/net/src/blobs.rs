//! Blobs between peers: `/deepmarket/blob/2`.
//!
//! One stream carries one request and its answer:
//! request = message of [`Request`]; answer = message of [`Answer`]; after `Found` comes the blob in bao encoding (hashes of
//! the tree in pre-order and between them the bytes, in groups of 16 KiB), so that the receiver checks each group against
//! the blob's hash before it believes it. A wrong byte is noticed within the 16 KiB that it is in: the provider is named with the
//! place, and what came before is kept, so that the next provider goes on from there.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRanges,
    io::{
        BaoContentItem, DecodeError,
        outboard::PreOrderMemOutboard,
        sync::{DecodeResponseIter, encode_ranges_validated, outboard},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::Hash;
use futures::StreamExt as _;
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    BlobFault, BlobStore, Net, NetError, PeerAddress,
    wire::{Blocking, receive, send, within},
};

/// The protocol's name and version. (Version 1 had no `from`: a transfer that broke off began anew.)
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/deepmarket/blob/2");

/// Bytes are checked in groups of 2^4 chunks of 1 KiB.
pub(crate) const GROUP: BlockSize = BlockSize::from_chunk_log(4);
const GROUP_BYTES: u64 = 16 * 1024;
/// How long a request may take to come, and an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a transfer may stand still.
const STALL: Duration = Duration::from_secs(20);
/// Blobs that are served at the same time: to all peers, and to one.
const MAX_SERVED: usize = 32;
const MAX_SERVED_PER_PEER: usize = 8;
/// A busy peer is asked again this often, after this long.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// A peer is asked again where the connection to it broke off, so often in all.
const BROKEN_TRIES: u32 = 3;
/// Where only a blob's limit is known, providers are ordered as for so many bytes.
const TYPICAL_BYTES: u64 = 32 * 1024 * 1024;
/// Memory that is set aside on a provider's mere word.
const TRUSTED_CAPACITY: u64 = 4 * 1024 * 1024;

/// What is asked.
#[derive(Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Request {
    /// The blob.
    pub hash: Hash,
    /// The most bytes that the asker takes.
    pub limit: u64,
    /// Where to begin: so many bytes are there already. A multiple of [`GROUP_BYTES`].
    pub from: u64,
}

/// What is answered.
#[derive(Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Answer {
    /// The blob follows, with this many bytes.
    Found(u64),
    /// It isn't here.
    Unknown,
    /// It has this many bytes, more than the asker takes.
    TooLarge(u64),
    /// Too many others are being served.
    Busy,
}

/// Answers requests until the network ends.
pub(crate) async fn serve(mut streams: libp2p_stream::IncomingStreams, store: BlobStore) {
    let places = Arc::new(Semaphore::new(MAX_SERVED));
    let mut served = tokio::task::JoinSet::new();
    let guests = Arc::new(Mutex::new(HashMap::<PeerId, usize>::new()));
    while let Some((peer, stream)) = streams.next().await {
        while served.try_join_next().is_some() {}
        // Refusals wait for requests too: bounded like everything that strangers start.
        if served.len() >= 4 * MAX_SERVED {
            continue;
        }
        let place = places.clone().try_acquire_owned().ok();
        let seat = Seat::take(&guests, peer);
        let store = store.clone();
        served.spawn(async move {
            if let Err(e) = serve_one(stream, store, place.zip(seat)).await {
                tracing::debug!(%peer, "serving a blob failed: {e}");
            }
        });
    }
}

/// One of the blobs that are served to one peer at the same time.
struct Seat {
    guests: Arc<Mutex<HashMap<PeerId, usize>>>,
    peer: PeerId,
}

impl Seat {
    fn take(guests: &Arc<Mutex<HashMap<PeerId, usize>>>, peer: PeerId) -> Option<Seat> {
        let mut counts = guests.lock().expect("nobody panics while counting guests");
        let count = counts.entry(peer).or_default();
        if *count >= MAX_SERVED_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Seat { guests: guests.clone(), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.guests.lock().expect("nobody panics while counting guests");
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

async fn serve_one(mut stream: Stream, store: BlobStore, place: Option<(OwnedSemaphorePermit, Seat)>) -> io::Result<()> {
    let request: Request = within(ANSWER_WITHIN, receive(&mut stream)).await?;
    let bytes = store.bytes(&request.hash);
    let answer = match bytes {
        None => Answer::Unknown,
        Some(bytes) if bytes > request.limit => Answer::TooLarge(bytes),
        Some(_) if place.is_none() => Answer::Busy,
        Some(bytes) => Answer::Found(bytes),
    };
    let Answer::Found(bytes) = answer else {
        within(ANSWER_WITHIN, send(&mut stream, &answer)).await?;
        return within(ANSWER_WITHIN, futures::AsyncWriteExt::close(&mut stream)).await;
    };
    let mut stream = Blocking::new(stream, STALL);
    spawn_blocking(move || {
        let _place = place;
        let file = File::open(store.path(&request.hash))?;
        let tree = BaoTree::new(bytes, GROUP);
        let mut hashes = PreOrderMemOutboard { root: [0; 32].into(), tree, data: vec![0; tree.outboard_size() as usize] };
        hashes.root = outboard(BufReader::with_capacity(1 << 17, &file), tree, &mut hashes)?;
        let sound = hashes.root.as_bytes() == &request.hash.0;
        let answer = deepmarket_types::encode(if sound { &answer } else { &Answer::Unknown });
        stream.write_all(&(answer.len() as u32).to_le_bytes())?;
        stream.write_all(&answer)?;
        if sound {
            let mut buffered = BufWriter::with_capacity(1 << 17, &mut stream);
            encode_ranges_validated(&file, &hashes, &chunks_from(request.from), &mut buffered).map_err(io::Error::other)?;
            buffered.flush()?;
        } else {
            tracing::warn!(hash = %request.hash, "a stored blob doesn't match its hash any more; removing it");
            store.remove(&request.hash).map_err(io::Error::other)?;
        }
        stream.close()
    })
    .await
    .map_err(io::Error::other)?
}

/// The chunks of 1 KiB from a byte on.
pub(crate) fn chunks_from(offset: u64) -> ChunkRanges {
    if offset == 0 { ChunkRanges::all() } else { ChunkRanges::from(ChunkNum(offset / 1024)..) }
}

/// See [`Net::fetch`].
pub(crate) async fn fetch(
    net: &Net,
    hash: &Hash,
    limit: u64,
    from: &[PeerAddress],
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Vec<u8>, NetError> {
    let (store, wanted) = (net.blobs().clone(), *hash);
    if let Some(bytes) = in_background(move || store.get(&wanted)).await? {
        let length = bytes.len() as u64;
        if length > limit {
            return Err(NetError::TooLarge { hash: wanted, bytes: length, limit });
        }
        progress(length);
        return Ok(bytes);
    }
    let mut tries = Vec::new();
    // What came and was checked so far, from whomever.
    let mut blob = Vec::new();
    for provider in net.inner().near.order(from, limit.min(TYPICAL_BYTES)) {
        if provider.peer_id == net.peer_id() {
            continue;
        }
        let mut outcome = fetch_from(net, hash, limit, provider, &mut blob, progress).await;
        // A connection that breaks off says little of the peer: it is asked for the rest.
        for _ in 1..BROKEN_TRIES {
            if matches!(outcome, Err(BlobFault::Broken(_))) {
                sleep(BUSY_PAUSE).await;
                outcome = fetch_from(net, hash, limit, provider, &mut blob, progress).await;
            }
        }
        let Err(fault) = outcome else {
            let store = net.blobs().clone();
            return in_background(move || store.put_verified(&wanted, &blob).map(|()| blob)).await;
        };
        // Not having a blob, or being busy, is no fault.
        if !matches!(fault, BlobFault::Unknown | BlobFault::Busy) {
            net.inner().near.failed(&provider.peer_id);
        }
        match fault {
            BlobFault::Corrupted { .. } => {
                tracing::warn!(%hash, peer = provider.peer_id, "the provider {fault}; trying the next")
            }
            _ => tracing::debug!(%hash, peer = provider.peer_id, "the provider {fault}; trying the next"),
        }
        tries.push((provider.peer_id.clone(), fault));
    }
    Err(NetError::Unavailable { hash: wanted, tries })
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T, NetError> + Send + 'static) -> Result<T, NetError> {
    spawn_blocking(work).await.map_err(|_| NetError::Closed)?
}

async fn fetch_from(
    net: &Net,
    hash: &Hash,
    limit: u64,
    provider: &PeerAddress,
    blob: &mut Vec<u8>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), BlobFault> {
    let (peer, addresses) = provider.parse().map_err(|e| BlobFault::Unreachable(e.to_string()))?;
    let from = blob.len() as u64;
    let request = Request { hash: *hash, limit, from };
    for _ in 0..BUSY_TRIES {
        let mut stream = net.open(peer, &addresses, PROTOCOL).await.map_err(|e| BlobFault::Unreachable(e.to_string()))?;
        let asked = Instant::now();
        let ask = async {
            send(&mut stream, &request).await?;
            receive::<Answer>(&mut stream).await
        };
        match within(ANSWER_WITHIN, ask).await {
            Ok(Answer::Found(bytes)) if bytes > limit => return Err(BlobFault::TooLarge(bytes)),
            Ok(Answer::Found(bytes)) => {
                net.inner().near.answered(&provider.peer_id, asked.elapsed());
                let began = Instant::now();
                receive_blob(stream, hash, bytes, blob, progress).await?;
                net.inner().near.sent(&provider.peer_id, bytes.saturating_sub(from), began.elapsed());
                return Ok(());
            }
            Ok(Answer::Unknown) => return Err(BlobFault::Unknown),
            Ok(Answer::TooLarge(bytes)) => return Err(BlobFault::TooLarge(bytes)),
            Ok(Answer::Busy) => {}
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(BlobFault::Stalled),
            // Also where libp2p-stream drops a stream that comes while the one before it is being handed over.
            Err(e) => return Err(BlobFault::Broken(e.to_string())),
        }
        sleep(BUSY_PAUSE).await;
    }
    Err(BlobFault::Busy)
}

/// Reads on and checks a blob of a stated length in a blocking thread, and reports progress from here. Where it fails, `blob`
/// keeps the groups that were right.
async fn receive_blob(
    stream: Stream,
    hash: &Hash,
    bytes: u64,
    blob: &mut Vec<u8>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), BlobFault> {
    let root = blake3::Hash::from_bytes(hash.0);
    let stream = Blocking::new(stream, STALL);
    let from = blob.len() as u64;
    if from > 0 && bytes <= from {
        return Err(BlobFault::Corrupted { offset: bytes });
    }
    let (done, mut so_far) = watch::channel(from);
    let mut growing = std::mem::take(blob);
    let mut work = spawn_blocking(move || {
        growing.reserve((bytes - from).min(TRUSTED_CAPACITY) as usize);
        let result = receive_groups(stream, root, bytes, &mut growing, &done);
        (growing, result)
    });
    loop {
        tokio::select! {
            result = &mut work => {
                let (mut grown, result) = result.map_err(|e| BlobFault::Broken(e.to_string()))?;
                if result.is_err() {
                    // A last group that is shorter could be the end of a lie about the length.
                    grown.truncate((grown.len() as u64 / GROUP_BYTES * GROUP_BYTES) as usize);
                }
                *blob = grown;
                progress(blob.len() as u64);
                return result;
            }
            Ok(()) = so_far.changed() => progress(*so_far.borrow_and_update()),
        }
    }
}

pub(crate) fn receive_groups(
    stream: impl Read,
    root: blake3::Hash,
    bytes: u64,
    blob: &mut Vec<u8>,
    done: &watch::Sender<u64>,
) -> Result<(), BlobFault> {
    let (tree, ranges) = (BaoTree::new(bytes, GROUP), chunks_from(blob.len() as u64));
    for item in DecodeResponseIter::new(root, tree, BufReader::with_capacity(1 << 17, stream), &ranges) {
        if let BaoContentItem::Leaf(leaf) = item.map_err(|e| fault_of(e, blob.len() as u64))? {
            blob.extend_from_slice(&leaf.data);
            // Nobody waits for the blob any more.
            done.send(blob.len() as u64).map_err(|_| BlobFault::Broken("given up".into()))?;
        }
    }
    Ok(())
}

/// What an error means that came after so many right bytes.
fn fault_of(error: DecodeError, offset: u64) -> BlobFault {
    match error {
        DecodeError::ParentHashMismatch(_) | DecodeError::LeafHashMismatch(_) => BlobFault::Corrupted { offset },
        DecodeError::ParentNotFound(_) | DecodeError::LeafNotFound(_) => BlobFault::Short,
        DecodeError::Io(e) if e.kind() == io::ErrorKind::TimedOut => BlobFault::Stalled,
        DecodeError::Io(e) => BlobFault::Broken(e.to_string()),
    }
}
