//! Blobs between real nodes on loopback.

mod common;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bao_tree::{BlockSize, ChunkRanges, io::outboard::PreOrderMemOutboard, io::sync::encode_ranges_validated};
use common::{node, noise};
use deepmarket_net::{BlobFault, NetError, PeerAddress};
use deepmarket_types::Hash;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{StreamProtocol, SwarmBuilder, noise as libp2p_noise, swarm::SwarmEvent, tcp, yamux};

const LIMIT: u64 = 64 << 20;

fn tries(error: NetError) -> Vec<BlobFault> {
    match error {
        NetError::Unavailable { tries, .. } => tries.into_iter().map(|(_, fault)| fault).collect(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_of_all_sizes_are_fetched_checked_and_kept() {
    let (giver, taker) = (node(1).await, node(2).await);
    for (seed, length) in [0, 1, 1023, 1024, 16 * 1024, 16 * 1024 + 1, 100_000, 5_000_001].into_iter().enumerate() {
        let bytes = noise(seed as u64, length);
        let hash = giver.net.blobs().put(&bytes).unwrap();
        let seen = AtomicU64::new(0);
        let note = |done| seen.store(done, Ordering::Relaxed);
        let fetched = taker.net.fetch(&hash, LIMIT, &[giver.address()], &note).await.unwrap();
        assert!(fetched == bytes, "{length} bytes");
        assert_eq!(seen.load(Ordering::Relaxed), length as u64);
        assert!(taker.net.blobs().has(&hash));
        // Now it is here: no provider is needed.
        assert!(taker.net.fetch(&hash, LIMIT, &[], &|_| {}).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_blob_and_a_blob_over_the_limit_are_refused_with_the_reason() {
    let (giver, taker) = (node(3).await, node(4).await);
    let hash = giver.net.blobs().put(&noise(1, 100_000)).unwrap();
    let unknown = taker.net.fetch(&Hash::of(b"nowhere"), LIMIT, &[giver.address()], &|_| {}).await.unwrap_err();
    assert!(unknown.to_string().contains("doesn't have it"), "{unknown}");
    assert_eq!(tries(unknown), [BlobFault::Unknown]);
    let large = taker.net.fetch(&hash, 99_999, &[giver.address()], &|_| {}).await.unwrap_err();
    assert_eq!(tries(large), [BlobFault::TooLarge(100_000)]);
    let nobody = taker.net.fetch(&hash, LIMIT, &[], &|_| {}).await.unwrap_err();
    assert_eq!(tries(nobody), []);
    assert!(!taker.net.blobs().has(&hash));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_or_unknown_addresses_cost_only_a_try() {
    let (giver, taker) = (node(5).await, node(6).await);
    let gone = node(7).await;
    let mut address_of_gone = gone.address();
    drop(gone);
    // One dead address beside the right one is no harm either.
    let mut address = giver.address();
    address.addresses.insert(0, "/ip4/127.0.0.1/tcp/9".into());
    address_of_gone.addresses.push("/ip4/127.0.0.1/tcp/9".into());
    let hash = giver.net.blobs().put(b"bytes").unwrap();
    let fetched = taker.net.fetch(&hash, LIMIT, &[address_of_gone, address], &|_| {}).await.unwrap();
    assert_eq!(fetched, b"bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_whose_disk_rotted_says_unknown() {
    let (giver, taker) = (node(8).await, node(9).await);
    let mut bytes = noise(2, 50_000);
    let hash = giver.net.blobs().put(&bytes).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(giver.net.blobs().path(&hash), &bytes).unwrap();
    let error = taker.net.fetch(&hash, LIMIT, &[giver.address()], &|_| {}).await.unwrap_err();
    assert_eq!(tries(error), [BlobFault::Unknown]);
}

/// How a provider lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    FlippedBit { at: usize },
    Length(u64),
    OtherBlob,
    EndsEarly,
    Hangs,
}

/// A provider of our protocol that lies; written against the wire format, not with the crate.
async fn liar(bytes: Vec<u8>, lie: Lie) -> PeerAddress {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new(), libp2p_noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .build();
    let mut incoming = swarm.behaviour().new_control().accept(StreamProtocol::new("/deepmarket/blob/2")).unwrap();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let peer_id = swarm.local_peer_id().to_string();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.to_string();
        }
    };
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let mut request = [0; 4 + 32 + 8 + 8];
            stream.read_exact(&mut request).await.unwrap();
            let (length, content) = match lie {
                Lie::Length(length) => (length, bytes.clone()),
                Lie::OtherBlob => (bytes.len() as u64, bytes.iter().map(|b| b ^ 1).collect()),
                _ => (bytes.len() as u64, bytes.clone()),
            };
            let hashes = PreOrderMemOutboard::create(&content, BlockSize::from_chunk_log(4));
            let mut encoded = Vec::new();
            encode_ranges_validated(content.as_slice(), &hashes, &ChunkRanges::all(), &mut encoded).unwrap();
            match lie {
                Lie::FlippedBit { at } => encoded[at] ^= 1,
                Lie::EndsEarly => encoded.truncate(encoded.len() / 2),
                _ => {}
            }
            let mut answer = 9_u32.to_le_bytes().to_vec();
            answer.push(0);
            answer.extend(length.to_le_bytes());
            if !matches!(lie, Lie::Hangs) {
                answer.extend(encoded);
            }
            // The receiver hangs up when it notices.
            stream.write_all(&answer).await.ok();
            if matches!(lie, Lie::Hangs) {
                stream.flush().await.ok();
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            stream.close().await.ok();
        }
    });
    PeerAddress { peer_id, addresses: vec![address] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_provider_is_named_and_the_next_one_is_asked() {
    let (giver, taker) = (node(10).await, node(11).await);
    let lies = [
        (Lie::FlippedBit { at: 3 }, BlobFault::Corrupted { offset: 0 }),
        (Lie::FlippedBit { at: 60_000 }, BlobFault::Corrupted { offset: 3 * 16 * 1024 }),
        // The tree has the same form: only that a byte is missing at the end tells.
        (Lie::Length(100_001), BlobFault::Short),
        (Lie::Length(200_000), BlobFault::Corrupted { offset: 0 }),
        (Lie::Length(5), BlobFault::Corrupted { offset: 0 }),
        (Lie::Length(0), BlobFault::Corrupted { offset: 0 }),
        (Lie::Length(u64::MAX), BlobFault::TooLarge(u64::MAX)),
        (Lie::OtherBlob, BlobFault::Corrupted { offset: 0 }),
        (Lie::EndsEarly, BlobFault::Short),
    ];
    for (seed, (lie, fault)) in lies.into_iter().enumerate() {
        let bytes = noise(100 + seed as u64, 100_000);
        let hash = Hash::of(&bytes);
        let liar = liar(bytes.clone(), lie).await;
        let error = taker.net.fetch(&hash, LIMIT, &[liar.clone(), giver.address()], &|_| {}).await.unwrap_err();
        assert!(error.to_string().contains(&liar.peer_id), "{error}");
        assert_eq!(tries(error), [fault, BlobFault::Unknown], "{lie:?}");
        assert!(!taker.net.blobs().has(&hash), "nothing unchecked is kept");
        giver.net.blobs().put(&bytes).unwrap();
        assert!(taker.net.fetch(&hash, LIMIT, &[liar, giver.address()], &|_| {}).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_stops_sending_is_given_up() {
    let (giver, taker) = (node(12).await, node(13).await);
    let bytes = noise(7, 100_000);
    let hash = giver.net.blobs().put(&bytes).unwrap();
    let liar = liar(bytes.clone(), Lie::Hangs).await;
    let from = [liar, giver.address()];
    let fetch = taker.net.fetch(&hash, LIMIT, &from, &|_| {});
    assert!(tokio::time::timeout(Duration::from_secs(40), fetch).await.unwrap().unwrap() == bytes);
    // It is asked last from now on: the next blob doesn't wait for it.
    let other = giver.net.blobs().put(&noise(9, 100_000)).unwrap();
    let fetch = taker.net.fetch(&other, LIMIT, &from, &|_| {});
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), fetch).await.unwrap().unwrap().len(), 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_provider_gave_is_kept_and_the_next_one_goes_on_from_there() {
    let (giver, taker) = (node(17).await, node(18).await);
    let bytes = noise(8, 1_000_000);
    let hash = giver.net.blobs().put(&bytes).unwrap();
    let liar = liar(bytes.clone(), Lie::EndsEarly).await;
    let seen = std::sync::Mutex::new(Vec::new());
    let from = [liar, giver.address()];
    let fetched = taker.net.fetch(&hash, LIMIT, &from, &|done| seen.lock().unwrap().push(done)).await.unwrap();
    assert!(fetched == bytes && taker.net.blobs().get(&hash).unwrap().unwrap() == bytes);
    let seen = seen.into_inner().unwrap();
    let middle = seen.iter().position(|done| *done > 400_000).unwrap();
    assert!(seen[middle..].iter().all(|done| *done > 400_000), "it never began anew: {seen:?}");
    assert_eq!(seen.last(), Some(&1_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_fetches_at_once_all_succeed() {
    let (giver, one, two) = (node(14).await, node(15).await, node(16).await);
    let hashes: Vec<Hash> = (0..40).map(|seed| giver.net.blobs().put(&noise(1000 + seed, 300_000)).unwrap()).collect();
    let from = [giver.address()];
    let fetches =
        [&one, &two].into_iter().flat_map(|taker| hashes.iter().map(|hash| taker.net.fetch(hash, LIMIT, &from, &|_| {})));
    for result in futures::future::join_all(fetches).await {
        assert_eq!(result.unwrap().len(), 300_000);
    }
}
