//! What a finished job teaches about its machines' speed, and how the next quote uses it.

mod support;

use deepmarket_types::{Action, Hash, Height, JobId, JobState, LeaseOutcome, Receipt, VerifiedTransaction};
use support::{Market, spec, transaction};

/// Samples of the data set: enough for a model of eight multiply-adds to take its time.
const SAMPLES: u64 = 40_000_000_000;
const EPOCHS: u64 = 2;

/// The last receipt of a rank that used `samples`.
fn last_receipt(market: &Market, job: JobId, rank: usize, samples: u64) -> VerifiedTransaction {
    let lease = market.lease(job, rank);
    let key = market.ledger.machine(lease.machine).expect("it exists").key;
    let receipt = support::receipt(lease, 2, LeaseOutcome::Finished(Hash::of(b"model")));
    let receipt = Receipt { samples, ..receipt };
    transaction(key, 0, Height(u64::MAX), Action::Receipt(receipt))
}

#[test]
fn a_second_run_is_quoted_by_what_the_first_one_took_however_unlike_its_machines_are() {
    let mut market = Market::with_machines(2);
    let asked = spec(2, 2, 10_000_000);
    let size = asked.check().expect("a sound spec");
    let by_benchmark = market.ledger.quote(&asked, &size, SAMPLES, 0).expected_ms.expect("measured machines");

    let job = market.submit(9, &asked);
    market.train(1_000, job);
    let trains_since = market.ledger.time();
    market.beat(30_000, &[1, 2]);
    // One machine is three times as fast as the other, and so is its share of the data.
    let last = [(0, SAMPLES / 4 * 3), (1, SAMPLES / 4)].map(|(rank, held)| last_receipt(&market, job, rank, held * EPOCHS));
    assert_eq!(market.block(30_000, last.to_vec()), [0, 0]);
    assert!(matches!(market.state(job), JobState::Finished(_)));
    let took_ms = market.ledger.time().since(trains_since);
    assert!(by_benchmark > 2 * took_ms, "the benchmark's quote was another: {by_benchmark} ms");

    let quoted_ms = market.ledger.quote(&asked, &size, SAMPLES, 0).expected_ms.expect("measured machines");
    assert!(quoted_ms.abs_diff(took_ms) * 100 <= took_ms, "quoted {quoted_ms} ms, took {took_ms} ms");
    let mut half = asked.clone();
    half.training.epochs = 1;
    let half_ms = market.ledger.quote(&half, &size, SAMPLES, 0).expected_ms.expect("measured machines");
    assert!((2 * half_ms).abs_diff(quoted_ms) <= 2, "half the work, half the time: {half_ms} ms");
}
