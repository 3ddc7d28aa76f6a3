//! Keeps every blob at two gateways at least, so that losing one loses nothing.
//!
//! Each gateway asks the others now and then what they hold. A blob that only one of those that answer holds, twice in a row, is
//! fetched by one of the others, chosen by hash so that all agree without speaking. A gateway that is down doesn't count as a
//! holder; when it comes back there is a copy more, which does no harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use deepmarket_api::{ApiError, Client, MAX_BLOB_BYTES, client::BlobEntry};
use deepmarket_net::PeerAddress;
use deepmarket_types::Hash;
use tokio::time::sleep;

use crate::app::App;

/// How often the others are asked.
const EVERY: Duration = Duration::from_secs(10);
/// Gateways that hold each blob.
const COPIES: usize = 2;
/// Blobs that are listed at once by the others, and the most of one gateway in a pass: 32 bytes each, and their places.
const PAGE: usize = 10_000;
const MAX_LISTED: usize = 500_000;
/// Blobs that are fetched in one pass: the others' users come first.
const MAX_PULLS: usize = 256;

/// One gateway's blobs.
struct Holder {
    address: String,
    blobs: BTreeMap<Hash, u64>,
}

/// Begins to repair until the gateway stops.
pub(crate) fn start(app: &App, own: String, others: Vec<String>) {
    let clients: Vec<(String, Client)> =
        others.into_iter().filter_map(|address| Some((address.clone(), Client::new(vec![address]).ok()?))).collect();
    if own.is_empty() || clients.is_empty() {
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        let mut short_before = BTreeSet::new();
        loop {
            tokio::select! {
                () = app.stop.cancelled() => return,
                () = sleep(EVERY) => {}
            }
            tokio::select! {
                () = app.stop.cancelled() => return,
                short = pass(&app, &own, &clients, &short_before) => short_before = short,
            }
        }
    });
}

/// One pass; returns the blobs that are ours to fetch and were seen for the first time.
async fn pass(app: &App, own: &str, clients: &[(String, Client)], short_before: &BTreeSet<Hash>) -> BTreeSet<Hash> {
    let Ok(here) = app.net.blobs().list() else { return BTreeSet::new() };
    let mut holders = Vec::new();
    for (address, client) in clients {
        match listed(client).await {
            Ok(blobs) => holders.push(Holder { address: address.clone(), blobs }),
            Err(error) => tracing::debug!(address, %error, "a gateway doesn't say which blobs it holds"),
        }
    }
    let here: BTreeMap<Hash, u64> = here.into_iter().collect();
    let wanted = wanted(own, &here, &holders);
    let mut pulled = 0;
    for (hash, bytes, from) in &wanted {
        if !short_before.contains(hash) || pulled == MAX_PULLS {
            continue;
        }
        pulled += 1;
        let (address, client) = &clients[clients.iter().position(|(address, _)| address == from).expect("it is one of them")];
        if let Err(why) = pull(app, *hash, *bytes, client).await {
            tracing::warn!(%hash, address, "a blob has one copy only, and couldn't be fetched: {why}");
        }
    }
    wanted.into_iter().map(|(hash, _, _)| hash).collect()
}

/// The blobs that this gateway should fetch, with their lengths and who has them.
fn wanted(own: &str, here: &BTreeMap<Hash, u64>, others: &[Holder]) -> Vec<(Hash, u64, String)> {
    let mut wanted = Vec::new();
    for (number, holder) in others.iter().enumerate() {
        for (hash, bytes) in &holder.blobs {
            let first = others.iter().position(|other| other.blobs.contains_key(hash)) == Some(number);
            if !first || here.contains_key(hash) || *bytes > MAX_BLOB_BYTES {
                continue;
            }
            let copies = others.iter().filter(|other| other.blobs.contains_key(hash)).count();
            let lacking = others.iter().filter(|other| !other.blobs.contains_key(hash)).map(|other| other.address.as_str());
            // As many as copies lack, those with the least number.
            let better = lacking.filter(|address| number_of(hash, address) < number_of(hash, own)).count();
            if copies + better < COPIES {
                wanted.push((*hash, *bytes, holder.address.clone()));
            }
        }
    }
    wanted
}

/// A number that tells gateways apart, in another order for each blob.
fn number_of(hash: &Hash, address: &str) -> Hash {
    Hash::of(&[&hash.0[..], address.trim_end_matches('/').as_bytes()].concat())
}

async fn listed(client: &Client) -> Result<BTreeMap<Hash, u64>, ApiError> {
    let mut blobs = BTreeMap::new();
    loop {
        let page: Vec<BlobEntry> = client.blobs(blobs.keys().next_back().copied(), PAGE).await?;
        let before = blobs.len();
        blobs.extend(page.iter().map(|entry| (entry.hash, entry.bytes)));
        if page.len() < PAGE || blobs.len() == before || blobs.len() >= MAX_LISTED {
            return Ok(blobs);
        }
    }
}

/// Fetches a blob from a gateway's blob peer; it is checked as it streams.
async fn pull(app: &App, hash: Hash, bytes: u64, from: &Client) -> Result<(), String> {
    let peer = from.network().await.map_err(|e| e.to_string())?.peer;
    let peer = PeerAddress { peer_id: peer.peer_id, addresses: peer.addresses };
    let _turn = app.quota.upload(bytes).await.map_err(|e| e.to_string())?;
    app.net.fetch(&hash, bytes, &[peer], &|_| {}).await.map_err(|e| e.to_string())?;
    app.quota.stored(bytes);
    tracing::info!(%hash, bytes, "keeps a second copy of a blob");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(names: &[u8]) -> BTreeMap<Hash, u64> {
        names.iter().map(|name| (Hash::of(&[*name]), 1)).collect()
    }

    #[test]
    fn each_blob_of_one_holder_is_fetched_by_exactly_one_other_gateway() {
        let all: Vec<u8> = (0..40).collect();
        // Blobs 0 to 19 are at a only, 20 to 29 at a and b, 30 to 39 at c only; d holds nothing.
        let held = [("a", blobs(&all[..30])), ("b", blobs(&all[20..30])), ("c", blobs(&all[30..])), ("d", blobs(&[]))];
        let mut copies: BTreeMap<Hash, usize> = BTreeMap::new();
        for (own, here) in &held {
            here.keys().for_each(|hash| *copies.entry(*hash).or_default() += 1);
            let others: Vec<Holder> = held
                .iter()
                .filter(|(address, _)| address != own)
                .map(|(address, blobs)| Holder { address: (*address).into(), blobs: blobs.clone() })
                .collect();
            for (hash, _, from) in wanted(own, here, &others) {
                assert!(!here.contains_key(&hash));
                assert!(others.iter().any(|other| other.address == from && other.blobs.contains_key(&hash)));
                *copies.entry(hash).or_default() += 1;
            }
        }
        assert_eq!(copies.len(), 40);
        assert!(copies.values().all(|copies| *copies == 2), "{copies:?}");
    }

    #[test]
    fn a_blob_whose_other_holder_is_gone_is_fetched_again() {
        // Of a, b and c, b no longer answers: c fetches what a and b had.
        let others = [Holder { address: "a".into(), blobs: blobs(&[1, 2]) }];
        assert_eq!(wanted("c", &blobs(&[2]), &others), [(Hash::of(&[1]), 1, "a".to_owned())]);
    }
}
