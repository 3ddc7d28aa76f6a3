//! Averaging between real nodes on loopback.

mod common;

use std::time::{Duration, Instant};

use common::{TestNode, bits, chain, group, joined, node, node_of_chain, nodes, noise_floats};
use deepmarket_net::{Encoding::F32, Group, MAX_NOTE_BYTES, NetError};
use deepmarket_types::{Hash, JobId};
use futures::future::join_all;

/// The definition, written down naively: sum in rank order over ranks that have samples, then divide.
fn naive_mean(vectors: &[Vec<f32>], weights: &[u64]) -> Vec<f32> {
    let counting: Vec<_> = vectors.iter().zip(weights).filter(|(_, w)| **w > 0).collect();
    let total = weights.iter().sum::<u64>() as f32;
    (0..vectors[0].len())
        .map(|i| {
            if let [(only, _)] = counting[..] {
                return only[i];
            }
            let mut sum = *counting[0].1 as f32 * counting[0].0[i];
            for (vector, weight) in &counting[1..] {
                sum += **weight as f32 * vector[i];
            }
            sum / total
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_get_the_same_bits_as_the_naive_sum_whatever_the_world_weights_and_length() {
    for world in 1..=5_u32 {
        let (nodes, peers) = nodes(20, world).await;
        let mut groups = joined(&format!("world {world}"), &nodes, &peers).await;
        for (round, length) in [0, 1, 2, 3, 4, 5, 1_000, 20_490, 300_007].into_iter().enumerate() {
            let round = round as u64;
            let vectors: Vec<_> = (0..world).map(|rank| noise_floats(round * 10 + u64::from(rank), length)).collect();
            let weights: Vec<u64> =
                (0..u64::from(world)).map(|rank| if round == 4 { 1 } else { (rank * 37 + round) % 65 }).collect();
            let mut values = vectors.clone();
            let averages = groups.iter_mut().zip(&mut values).zip(&weights);
            let averages = averages.map(|((group, values), weight)| group.average(round, values, *weight, F32));
            for (rank, exchange) in join_all(averages).await.into_iter().enumerate() {
                let exchange = exchange.unwrap();
                assert_eq!(exchange.weights, weights);
                // Values out and means out: about twice the vector, less the own share; a header for each frame.
                let others = u64::from(world) - 1;
                let own = deepmarket_net::share_of(length, world, rank as u32).len();
                let bytes = (length - own) as u64 * 4 + own as u64 * 4 * others + others * 2 * 32;
                assert_eq!((exchange.sent, exchange.received), (bytes, bytes));
            }
            if weights.iter().any(|w| *w > 0) {
                let mean = naive_mean(&vectors, &weights);
                assert!(values.iter().all(|v| bits(v) == bits(&mean)), "world {world}, length {length}");
            }
        }
        for notes in join_all(groups.iter_mut().map(|g| {
            let note = vec![g.position() as u8; g.position() as usize];
            async move { g.gather(9, &note).await }
        }))
        .await
        {
            let expected: Vec<Vec<u8>> = (0..world).map(|rank| vec![rank as u8; rank as usize]).collect();
            assert_eq!(notes.unwrap(), expected);
        }
        join_all(groups.into_iter().map(Group::leave)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_far_larger_than_any_buffer_do_not_deadlock() {
    let (nodes, peers) = nodes(30, 3).await;
    let mut groups = joined("large", &nodes, &peers).await;
    let mut values: Vec<_> = (0..3).map(|rank| vec![rank as f32; 6_000_000]).collect();
    let work = join_all(groups.iter_mut().zip(&mut values).map(|(group, values)| group.average(0, values, 5, F32)));
    for result in tokio::time::timeout(Duration::from_secs(60), work).await.unwrap() {
        result.unwrap();
    }
    assert!(values.iter().flatten().all(|v| *v == 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_on_one_machine_exchange_without_the_network() {
    let (nodes, peers) = nodes(34, 2).await;
    let peers = [peers[0].clone(), peers[1].clone(), peers[0].clone()];
    let joins = [0, 1, 0].into_iter().enumerate().map(|(rank, node)| {
        let nodes: &Vec<TestNode> = &nodes;
        nodes[node as usize].net.join(group("shared machine", rank as u32, &peers))
    });
    let mut groups: Vec<Group> = join_all(joins).await.into_iter().map(Result::unwrap).collect();
    let mut values = [[1.0; 1000], [2.0; 1000], [6.0; 1000]];
    for result in join_all(groups.iter_mut().zip(&mut values).map(|(group, values)| group.average(0, values, 5, F32))).await {
        result.unwrap();
    }
    assert_eq!(values, [[3.0; 1000]; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_late_is_waited_for_and_one_that_never_comes_is_named() {
    let (nodes, peers) = nodes(40, 2).await;
    let late = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        nodes[1].net.join(group("late", 1, &peers)).await
    };
    let (early, late) = tokio::join!(nodes[0].net.join(group("late", 0, &peers)), late);
    assert!(early.is_ok() && late.is_ok());

    let short = |rank| {
        let mut spec = group("alone", rank, &peers);
        spec.join_within = Duration::from_millis(600);
        spec
    };
    for rank in [0, 1] {
        let Err(NetError::Missing { positions, why }) = nodes[rank].net.join(short(rank as u32)).await else {
            panic!("joined alone");
        };
        assert_eq!(positions, [1 - rank as u32], "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_or_falls_silent_is_noticed_and_the_group_is_broken() {
    let (nodes, peers) = nodes(44, 3).await;
    let mut groups = joined("leaves", &nodes, &peers).await;
    drop(groups.pop());
    let started = Instant::now();
    let mut values = [1.0; 100];
    let error = groups[0].average(0, &mut values, 1, F32).await.unwrap_err();
    assert!(matches!(error, NetError::PeerLost { position: 2, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "closing is noticed at once, not at the deadline");
    assert!(matches!(groups[0].average(0, &mut values, 1, F32).await, Err(NetError::Broken)));

    let mut groups = joined("silent", &nodes, &peers).await;
    groups[1].set_patience(Duration::from_millis(500));
    let error = groups[1].gather(0, b"anybody?").await.unwrap_err();
    assert!(matches!(error, NetError::Late { .. }) && error.to_string().contains("silent for 0.5 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_is_noticed() {
    let (mut nodes, peers) = nodes(50, 2).await;
    let mut groups = joined("vanishes", &nodes, &peers).await;
    drop((groups.pop(), nodes.pop()));
    let lost = tokio::time::timeout(Duration::from_secs(10), groups[0].average(0, &mut [1.0], 1, F32)).await.unwrap();
    assert!(matches!(lost, Err(NetError::PeerLost { position: 1, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_out_of_step_find_out() {
    let (nodes, peers) = nodes(54, 2).await;
    let mut groups = joined("rounds differ", &nodes, &peers).await;
    let (mut one, mut two) = ([1.0; 8], [1.0; 8]);
    let [a, b] = &mut groups[..] else { unreachable!() };
    let (a, _) = tokio::join!(a.average(1, &mut one, 1, F32), b.average(2, &mut two, 1, F32));
    assert!(matches!(a, Err(NetError::OutOfStep { position: 1, .. })));

    let mut groups = joined("lengths differ", &nodes, &peers).await;
    let mut three = [1.0; 3];
    let [a, b] = &mut groups[..] else { unreachable!() };
    let (_, b) = tokio::join!(a.average(1, &mut one, 1, F32), b.average(1, &mut three, 1, F32));
    assert!(matches!(b, Err(NetError::OutOfStep { position: 0, .. })));

    let mut groups = joined("notes", &nodes, &peers).await;
    assert!(matches!(groups[0].gather(0, &vec![0; MAX_NOTE_BYTES + 1]).await, Err(NetError::NoteTooLong { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_members_with_other_facts_are_kept_out() {
    let (nodes, peers) = nodes(60, 2).await;
    let stranger = node(63).await;
    let other_chain = node_of_chain(60, Hash::of(b"another chain")).await;
    let within = |spec: &mut deepmarket_net::GroupSpec| spec.join_within = Duration::from_millis(1500);

    // Rank 1 waits for rank 0; a stranger claims to be rank 0.
    let mut waiting = group("private", 1, &peers);
    within(&mut waiting);
    let mut posing = group("private", 0, &[stranger.address(), peers[1].clone()]);
    within(&mut posing);
    let (waiting, posing) = tokio::join!(nodes[1].net.join(waiting), stranger.net.join(posing));
    assert!(matches!(waiting, Err(NetError::Missing { .. })));
    assert!(matches!(posing, Err(NetError::Missing { .. })), "it isn't even told that the group exists");

    // The right key on another chain.
    let mut waiting = group("private", 1, &peers);
    within(&mut waiting);
    let mut foreign = group("private", 0, &[other_chain.address(), peers[1].clone()]);
    within(&mut foreign);
    let (waiting, foreign) = tokio::join!(nodes[1].net.join(waiting), other_chain.net.join(foreign));
    assert!(waiting.is_err() && foreign.is_err());

    // The right peer with another job.
    let mut waiting = group("private", 1, &peers);
    within(&mut waiting);
    let mut confused = group("private", 0, &peers);
    confused.job = JobId(2);
    let (waiting, confused) = tokio::join!(nodes[1].net.join(waiting), nodes[0].net.join(confused));
    assert!(waiting.is_err());
    assert!(matches!(confused, Err(NetError::Refused { position: 1 })));

    // A group that isn't about this process.
    assert!(matches!(nodes[0].net.join(group("x", 1, &peers)).await, Err(NetError::BadGroup(_))));
    assert!(matches!(nodes[0].net.join(group("x", 2, &peers)).await, Err(NetError::BadGroup(_))));
    let _ = chain();
}

/// Prints what a round costs; asserts nothing about a noisy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_rounds_of_an_80_kb_model_on_loopback() {
    for world in [2, 3] {
        let (nodes, peers) = nodes(70, world).await;
        let groups = joined("latency", &nodes, &peers).await;
        let started = Instant::now();
        let tasks = groups.into_iter().map(|mut group| {
            tokio::spawn(async move {
                let (mut values, mut waited) = (vec![group.position() as f32; 20_490], Duration::ZERO);
                for round in 0..500 {
                    waited += group.average(round, &mut values, 21, F32).await.unwrap().waited;
                    group.gather(round, &[7; 32]).await.unwrap();
                }
                group.leave().await;
                waited
            })
        });
        let waited: Vec<Duration> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let each = started.elapsed() / 500;
        println!("{world} ranks: {each:?} a round (averaging and a gathering of hashes); rank 0 waited {:?}", waited[0] / 500);
    }
}
