//! Who is near: how soon peers answered and how fast they sent, so that a blob is taken from the nearest that has it.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::PeerAddress;

/// The most peers that are remembered; when there are more, all are forgotten.
const MAX_PEERS: usize = 1024;
/// A new measurement counts for this part; older ones for the rest.
const WEIGHT: f64 = 0.3;
/// A peer that nothing is known of counts as one that answers in this time and sends at this rate (bytes a second): it is asked
/// after those that are surely near, and before those that are surely far.
const UNKNOWN_ANSWER: Duration = Duration::from_millis(20);
const UNKNOWN_RATE: f64 = 10e6;
/// A peer that failed is asked last for so long.
const FAULT_COUNTS: Duration = Duration::from_secs(60);
/// A transfer of fewer bytes says nothing about the rate.
const LEAST_BYTES: u64 = 256 * 1024;

/// What is known of peers.
#[derive(Default)]
pub(crate) struct Nearness {
    peers: Mutex<HashMap<String, Record>>,
}

#[derive(Clone, Copy, Default)]
struct Record {
    /// Seconds until an answer began.
    answer: Option<f64>,
    /// Bytes a second.
    rate: Option<f64>,
    failed: Option<Instant>,
}

impl Nearness {
    /// Providers in the order in which to ask them for a blob of about so many bytes. Peers whose times are of the same power of
    /// two keep their order: the caller spreads them.
    pub(crate) fn order<'a>(&self, providers: &'a [PeerAddress], bytes: u64) -> Vec<&'a PeerAddress> {
        let peers = self.peers.lock().expect("nobody panics while ordering peers");
        let mut order: Vec<&PeerAddress> = providers.iter().collect();
        order.sort_by_cached_key(|provider| {
            let record = peers.get(&provider.peer_id).copied().unwrap_or_default();
            let failed = record.failed.is_some_and(|failed| failed.elapsed() < FAULT_COUNTS);
            let answer = record.answer.unwrap_or(UNKNOWN_ANSWER.as_secs_f64());
            let milliseconds = 1000.0 * (answer + bytes as f64 / record.rate.unwrap_or(UNKNOWN_RATE));
            (failed, (milliseconds as u64).max(1).ilog2())
        });
        order
    }

    /// A peer began to answer after this time.
    pub(crate) fn answered(&self, peer: &str, after: Duration) {
        self.update(peer, |record| record.answer = Some(mixed(record.answer, after.as_secs_f64())));
    }

    /// A peer sent so many bytes in this time.
    pub(crate) fn sent(&self, peer: &str, bytes: u64, within: Duration) {
        self.update(peer, |record| {
            record.failed = None;
            if bytes >= LEAST_BYTES {
                record.rate = Some(mixed(record.rate, bytes as f64 / within.as_secs_f64().max(1e-6)));
            }
        });
    }

    /// A peer was not reached, stood still, or sent what it shouldn't.
    pub(crate) fn failed(&self, peer: &str) {
        self.update(peer, |record| record.failed = Some(Instant::now()));
    }

    fn update(&self, peer: &str, change: impl FnOnce(&mut Record)) {
        let mut peers = self.peers.lock().expect("nobody panics while noting a time");
        if peers.len() >= MAX_PEERS && !peers.contains_key(peer) {
            peers.clear();
        }
        change(peers.entry(peer.to_owned()).or_default());
    }
}

fn mixed(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + WEIGHT * (new - old))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Vec<PeerAddress> {
        names.iter().map(|name| PeerAddress { peer_id: (*name).to_owned(), addresses: Vec::new() }).collect()
    }

    fn names(order: Vec<&PeerAddress>) -> Vec<&str> {
        order.into_iter().map(|peer| peer.peer_id.as_str()).collect()
    }

    #[test]
    fn near_peers_come_first_then_unknown_ones_then_far_ones_and_failed_ones_last() {
        let near = Nearness::default();
        let all = peers(&["failed", "far", "unknown", "near", "near too"]);
        near.answered("far", Duration::from_millis(300));
        near.answered("near", Duration::from_micros(900));
        near.answered("near too", Duration::from_micros(700));
        near.answered("failed", Duration::from_micros(100));
        near.failed("failed");
        assert_eq!(names(near.order(&all, 1000)), ["near", "near too", "unknown", "far", "failed"]);
    }

    #[test]
    fn for_large_blobs_the_rate_counts_and_success_wipes_a_failure() {
        let near = Nearness::default();
        let all = peers(&["slow", "fast"]);
        near.answered("slow", Duration::from_millis(1));
        near.answered("fast", Duration::from_millis(30));
        near.sent("slow", 1 << 20, Duration::from_secs(1));
        near.sent("fast", 1 << 20, Duration::from_millis(20));
        assert_eq!(names(near.order(&all, 1000)), ["slow", "fast"]);
        assert_eq!(names(near.order(&all, 30 << 20)), ["fast", "slow"]);
        near.failed("slow");
        assert_eq!(names(near.order(&all, 1000)), ["fast", "slow"]);
        near.sent("slow", 10, Duration::from_secs(1));
        assert_eq!(names(near.order(&all, 1000)), ["slow", "fast"]);
    }
}
