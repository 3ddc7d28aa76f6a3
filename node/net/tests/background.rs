//! Averagings that go on while the members do something else.

mod common;

use std::time::{Duration, Instant};

use common::{bits, joined, nodes, noise_floats};
use deepmarket_net::{Encoding, Group, MAX_STARTED, NetError};
use futures::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn averagings_that_overlap_give_what_they_give_one_after_the_other() {
    const STALENESS: u64 = 4;
    let (nodes, peers) = nodes(130, 3).await;
    for encoding in Encoding::ALL {
        let mut one_by_one = joined(&format!("one by one {encoding:?}"), &nodes, &peers).await;
        let mut overlapping = joined(&format!("overlapping {encoding:?}"), &nodes, &peers).await;
        let update = |round: u64, position: u32| noise_floats(round * 10 + u64::from(position), 3_000);
        let first = one_by_one.iter_mut().map(|group| async move {
            let mut means = Vec::new();
            for round in 0..20 {
                let mut values = update(round, group.position());
                group.average(round, &mut values, round % 3, encoding).await.unwrap();
                means.push(bits(&values));
            }
            means
        });
        let second = overlapping.iter_mut().map(|group| async move {
            let mut means = Vec::new();
            for round in 0..20 + STALENESS {
                if round < 20 {
                    group.start(round, update(round, group.position()), round % 3, encoding).unwrap();
                    // Notes may be exchanged at any time; members that are slower are waited for.
                    let notes = group.gather(round, &[group.position() as u8]).await.unwrap();
                    assert_eq!(notes, [[0], [1], [2]]);
                }
                if let Some(oldest) = round.checked_sub(STALENESS) {
                    means.push(bits(&group.finish(oldest).await.unwrap().0));
                }
            }
            means
        });
        let (first, second) = (join_all(first).await, join_all(second).await);
        assert!(first == second && first.iter().all(|means| *means == first[0]), "{encoding:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_averaging_is_done_while_nobody_waits_for_it() {
    let (nodes, peers) = nodes(134, 2).await;
    let mut groups = joined("while computing", &nodes, &peers).await;
    for group in &mut groups {
        group.start(0, vec![group.position() as f32; 500_000], 1, Encoding::F32).unwrap();
    }
    // Only one of them asks: the other one's part is done all the same.
    let (mean, exchange) = groups[0].finish(0).await.unwrap();
    assert!(mean.iter().all(|v| *v == 0.5));
    assert_eq!(exchange.weights, [1, 1]);
    let asked = Instant::now();
    groups[1].finish(0).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(matches!(groups[1].finish(0).await, Err(NetError::BadGroup(_))), "it was finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_far_ahead_waits_for_the_others_without_filling_their_memory() {
    let (nodes, peers) = nodes(136, 2).await;
    let mut groups = joined("ahead", &nodes, &peers).await;
    // 40 vectors of 4 MB, half of each is the other's: more than a reader keeps for a member that is ahead.
    let vector = |group: &Group| vec![group.position() as f32; 1_000_000];
    for round in 0..40 {
        let values = vector(&groups[0]);
        groups[0].start(round, values, 1, Encoding::F32).unwrap();
    }
    for round in 0..40 {
        let values = vector(&groups[1]);
        groups[1].start(round, values, 1, Encoding::F32).unwrap();
    }
    for round in 0..40 {
        let [a, b] = &mut groups[..] else { unreachable!() };
        let (a, b) = tokio::join!(a.finish(round), b.finish(round));
        assert!(a.unwrap().0 == b.unwrap().0);
    }
    for round in 100..100 + MAX_STARTED as u64 {
        groups[0].start(round, vec![], 1, Encoding::F32).unwrap();
    }
    assert!(matches!(groups[0].start(99, vec![], 1, Encoding::F32), Err(NetError::BadGroup(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_half_way_is_done_for_the_others() {
    let (nodes, peers) = nodes(138, 2).await;
    let mut groups = joined("dropped", &nodes, &peers).await;
    let [a, b] = &mut groups[..] else { unreachable!() };
    let mut values = [1.0];
    assert!(tokio::time::timeout(Duration::from_millis(50), a.average(0, &mut values, 1, Encoding::F32)).await.is_err());
    let mut other = [3.0];
    b.average(0, &mut other, 1, Encoding::F32).await.unwrap();
    assert_eq!(other, [2.0]);
    assert_eq!(a.finish(0).await.unwrap().0, [2.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failure_the_first_call_tells_why_and_the_others_that_the_group_is_broken() {
    let (nodes, peers) = nodes(140, 3).await;
    let mut groups = joined("fails", &nodes, &peers).await;
    for round in 0..3 {
        groups[0].start(round, vec![1.0; 10], 1, Encoding::F32).unwrap();
    }
    drop(groups.pop());
    assert!(matches!(groups[0].finish(1).await, Err(NetError::PeerLost { position: 2, .. })));
    assert!(matches!(groups[0].finish(0).await, Err(NetError::Broken)));
    assert!(matches!(groups[0].gather(0, b"").await, Err(NetError::Broken)));
    assert!(matches!(groups[0].start(9, vec![], 1, Encoding::F32), Err(NetError::Broken)));
    // Whoever is left behind hears of it, and blames nobody that is still there.
    let error = groups[1].average(0, &mut [1.0; 10], 1, Encoding::F32).await.unwrap_err();
    match error {
        NetError::PeerLost { position: 2, .. } => assert_eq!(error.position(), Some(2)),
        NetError::Left { position: 0, because: Some(2) } => assert_eq!(error.position(), None),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_after_its_last_exchange_disturbs_nobody() {
    let (nodes, peers) = nodes(144, 3).await;
    for attempt in 0..20 {
        let groups = joined(&format!("last {attempt}"), &nodes, &peers).await;
        let tasks = groups.into_iter().map(|mut group| {
            tokio::spawn(async move {
                group.start(0, vec![group.position() as f32; 50_000], 1, Encoding::F32).unwrap();
                group.gather(7, b"the last word").await.unwrap();
                let (mean, _) = group.finish(0).await.unwrap();
                group.leave().await;
                mean[0]
            })
        });
        assert!(join_all(tasks).await.into_iter().all(|mean| mean.unwrap() == 1.0));
    }
}
