//! Averaging in fewer bytes: the same bits everywhere, and nothing lost over many rounds.

mod common;

use common::{bits, joined, nodes, noise_floats};
use deepmarket_net::{Encoding, Group, NetError, combine, share_of};
use futures::future::join_all;

async fn average(groups: &mut [Group], round: u64, vectors: &[Vec<f32>], weights: &[u64], encoding: Encoding) -> Vec<Vec<f32>> {
    let mut values = vectors.to_vec();
    let averages = groups.iter_mut().zip(&mut values).zip(weights);
    let averages = averages.map(|((group, values), weight)| group.average(round, values, *weight, encoding));
    join_all(averages).await.into_iter().for_each(|exchange| drop(exchange.unwrap()));
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_hold_the_same_bits_in_every_encoding_and_the_traffic_is_twice_the_model_at_most() {
    const LENGTH: usize = 100_003;
    let (all_nodes, all_peers) = nodes(100, 8).await;
    for world in 2..=8_usize {
        let (nodes, peers) = (&all_nodes[..world], &all_peers[..world]);
        for encoding in Encoding::ALL {
            let mut groups = joined(&format!("{encoding:?} {world}"), nodes, peers).await;
            let vectors: Vec<Vec<f32>> = (0..world).map(|member| noise_floats(member as u64, LENGTH)).collect();
            let weights: Vec<u64> = (0..world as u64).map(|member| 5 + member).collect();
            let mut exact = vec![0.0; LENGTH];
            let parts: Vec<_> = vectors.iter().zip(&weights).map(|(v, w)| (v.as_slice(), *w)).collect();
            combine(&parts, &mut exact);
            let mut values = vectors.clone();
            let averages = groups.iter_mut().zip(&mut values).zip(&weights);
            let averages = averages.map(|((group, values), weight)| group.average(3, values, *weight, encoding));
            let exchanges: Vec<_> = join_all(averages).await.into_iter().map(Result::unwrap).collect();

            // Noise lies within ±2.15: a step of int8 is at most 2.15 / 127, half of it is cut off, once on each way.
            let most_off = match encoding {
                Encoding::F32 => 0.0,
                Encoding::Bf16 => 2.15 / 256.0 * 2.0,
                Encoding::Int8 => 2.15 / 127.0,
            };
            assert!(values.iter().all(|v| bits(v) == bits(&values[0])), "{encoding:?}, {world} members");
            assert!(values[0].iter().zip(&exact).all(|(v, e)| (v - e).abs() <= most_off), "{encoding:?}, {world} members");

            let model = encoding.bytes(LENGTH) as f64;
            let ideal = 2.0 * (world as f64 - 1.0) / world as f64;
            for exchange in &exchanges {
                for bytes in [exchange.sent, exchange.received] {
                    let ratio = bytes as f64 / model;
                    assert!((ratio / ideal - 1.0).abs() < 0.03, "{encoding:?}: {world} members, {ratio} instead of {ideal}");
                }
                assert!(exchange.behind.len() == world && exchange.behind.iter().max() == Some(&exchange.waited));
            }
            let of_f32 = encoding.bytes(LENGTH) as f64 / Encoding::F32.bytes(LENGTH) as f64;
            let promised = match encoding {
                Encoding::F32 => 1.0,
                Encoding::Bf16 => 0.5,
                Encoding::Int8 => 0.254,
            };
            assert!((of_f32 - promised).abs() < 1e-3, "{encoding:?}: {of_f32}");
            println!(
                "{world} members, {encoding:?}: each sends {:.3} x the vector of {} bytes",
                exchanges[0].sent as f64 / (LENGTH * 4) as f64,
                LENGTH * 4
            );
            join_all(groups.into_iter().map(Group::leave)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_many_rounds_the_mean_of_what_is_applied_becomes_the_exact_mean() {
    const LENGTH: usize = 1_000;
    let (nodes, peers) = nodes(110, 3).await;
    for encoding in [Encoding::Bf16, Encoding::Int8] {
        let mut groups = joined(&format!("many {encoding:?}"), &nodes, &peers).await;
        // The same updates in every round: without feedback the error of each round would be the same too.
        let vectors: Vec<Vec<f32>> = (0..3).map(|member| noise_floats(member, LENGTH)).collect();
        let mut exact = vec![0.0; LENGTH];
        combine(&vectors.iter().map(|v| (v.as_slice(), 1)).collect::<Vec<_>>(), &mut exact);
        let mut sum = vec![0.0_f64; LENGTH];
        let mut off = Vec::new();
        for round in 0..128_u64 {
            let values = average(&mut groups, round, &vectors, &[1, 1, 1], encoding).await;
            assert!(values.iter().all(|v| bits(v) == bits(&values[0])));
            sum.iter_mut().zip(&values[0]).for_each(|(sum, v)| *sum += f64::from(*v));
            let mean = sum.iter().map(|sum| sum / (round + 1) as f64);
            off.push(mean.zip(&exact).map(|(m, e)| (m - f64::from(*e)).abs()).fold(0.0, f64::max));
        }
        println!("{encoding:?}: off by {:.6} after one round, by {:.6} after {} rounds", off[0], off[127], off.len());
        assert!(off[127] < off[0] / 40.0, "{encoding:?}: {off:?}");
        join_all(groups.into_iter().map(Group::leave)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finite_reaches_everybody_and_a_member_without_samples_does_not_count() {
    let (nodes, peers) = nodes(114, 3).await;
    for encoding in Encoding::ALL {
        let mut groups = joined(&format!("odd {encoding:?}"), &nodes, &peers).await;
        let mut vectors = vec![vec![1.0; 600]; 3];
        vectors[1][10] = f32::NAN;
        vectors[2][599] = f32::INFINITY;
        let values = average(&mut groups, 0, &vectors, &[1, 1, 1], encoding).await;
        for values in &values {
            assert!(!values[10].is_finite() && !values[599].is_finite(), "{encoding:?}");
        }
        // It doesn't linger in what is kept back, and a member without samples counts for nothing.
        let vectors = [vec![2.0; 600], vec![4.0; 600], vec![f32::NAN; 600]];
        let values = average(&mut groups, 1, &vectors, &[1, 1, 0], encoding).await;
        assert!(values.iter().flatten().all(|v| (v - 3.0).abs() < 0.02), "{encoding:?}");
        // Nobody has samples: everybody counts, nobody fails.
        let vectors = vec![vec![2.0; 600]; 3];
        let values = average(&mut groups, 2, &vectors, &[0, 0, 0], encoding).await;
        assert!(values.iter().flatten().all(|v| (v - 2.0).abs() < 0.02), "{encoding:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_encode_differently_find_out() {
    let (nodes, peers) = nodes(118, 2).await;
    let mut groups = joined("differ", &nodes, &peers).await;
    let [a, b] = &mut groups[..] else { unreachable!() };
    let (mut one, mut two) = ([1.0; 8], [1.0; 8]);
    let (a, b) = tokio::join!(a.average(1, &mut one, 1, Encoding::Bf16), b.average(1, &mut two, 1, Encoding::Int8));
    assert!([a, b].iter().any(|result| matches!(result, Err(NetError::OutOfStep { .. }))));
    assert_eq!(share_of(8, 2, 1), 4..8);
}
