//! Groups that are joined again, and who is named when it doesn't work.

mod common;

use std::time::{Duration, Instant};

use common::{TestNode, group, joined, nodes, noise};
use deepmarket_net::{Encoding::F32, Group, NetError, PeerAddress};
use futures::future::join_all;
use tokio::time::{sleep, timeout};

/// Joins again until an exchange with all others worked, as a worker does.
async fn until_it_works(node: &TestNode, name: &str, position: u32, peers: &[PeerAddress]) -> (Group, u32) {
    for attempts in 1.. {
        let mut spec = group(name, position, peers);
        spec.join_within = Duration::from_secs(20);
        let Ok(mut group) = node.net.join(spec).await else { continue };
        let mut values = [position as f32; 100];
        match group.average(0, &mut values, 1, F32).await {
            Ok(_) => return (group, attempts),
            Err(error) => assert!(!matches!(error, NetError::Refused { .. } | NetError::OutOfStep { .. }), "{error}"),
        }
    }
    unreachable!("it goes on until it works")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_leave_and_join_the_same_group_again_at_different_moments_end_up_in_one() {
    let (nodes, peers) = nodes(150, 4).await;
    for seed in 0..6_u64 {
        let name = format!("again {seed}");
        let moments = noise(seed, 4);
        let members = nodes.iter().zip(0..).map(|(node, position)| {
            let (peers, name, moment) = (&peers, &name, u64::from(moments[position as usize]));
            async move {
                // Two early attempts that are broken off: while joining, or just after.
                for pause in [moment * 2, 350 - moment] {
                    let early = async {
                        let joined = node.net.join(group(name, position, peers)).await;
                        sleep(Duration::from_millis(moment)).await;
                        drop(joined);
                    };
                    timeout(Duration::from_millis(pause), early).await.ok();
                }
                until_it_works(node, name, position, peers).await
            }
        });
        let began = Instant::now();
        let members = timeout(Duration::from_secs(60), join_all(members)).await.expect("they find each other");
        let (mut groups, attempts): (Vec<Group>, Vec<u32>) = members.into_iter().unzip();
        println!("moments {moments:?}: together after {:?}, attempts {attempts:?}", began.elapsed());
        for round in 1..4 {
            let mut values = [[1.0; 3], [2.0; 3], [3.0; 3], [6.0; 3]];
            let averages = groups.iter_mut().zip(&mut values).map(|(group, values)| group.average(round, values, 1, F32));
            join_all(averages).await.into_iter().for_each(|result| drop(result.unwrap()));
            assert_eq!(values, [[3.0; 3]; 4]);
        }
        join_all(groups.into_iter().map(Group::leave)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_again_while_the_others_still_wait_is_taken_in_its_new_place() {
    let (nodes, peers) = nodes(156, 3).await;
    for again in 0..3_u32 {
        let name = format!("second arrival of {again}");
        let waits = (again + 1) % 3;
        let late = (again + 2) % 3;
        let join = |position: u32| nodes[position as usize].net.join(group(&name, position, &peers));
        // One waits; another comes, goes, and comes again; only then the last one comes.
        let returns = async {
            timeout(Duration::from_millis(600), join(again)).await.map(drop).unwrap_err();
            join(again).await
        };
        let comes_last = async {
            sleep(Duration::from_millis(1200)).await;
            join(late).await
        };
        let (a, b, c) = tokio::join!(join(waits), returns, comes_last);
        let mut groups = [a.unwrap(), b.unwrap(), c.unwrap()];
        let notes = join_all(groups.iter_mut().map(|group| {
            let note = [group.position() as u8];
            async move { group.gather(0, &note).await.unwrap() }
        }))
        .await;
        assert!(notes.iter().all(|notes| *notes == [[0], [1], [2]]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_are_missing_are_named_and_nobody_that_is_there() {
    let (nodes, peers) = nodes(160, 5).await;
    let short = |position: u32, millis| {
        let mut spec = group("two never come", position, &peers);
        spec.join_within = Duration::from_millis(millis);
        nodes[position as usize].net.join(spec)
    };
    // Their patience ends at different moments: who goes first isn't counted as missing by the others.
    let (a, b, c) = tokio::join!(short(0, 1200), short(2, 1500), short(3, 1800));
    for result in [a, b, c] {
        let Err(NetError::Missing { positions, why }) = result else { panic!("they came together") };
        assert_eq!(positions, [1, 4], "{why}");
        assert!(why.contains("member 1: ") && why.contains("member 4: "), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_late_is_named_by_those_that_wait_for_it_and_a_slow_one_is_seen() {
    let (nodes, peers) = nodes(166, 4).await;
    let mut groups = joined("late", &nodes, &peers).await;
    let slow = groups.iter_mut().map(|group| async move {
        if group.position() == 2 {
            sleep(Duration::from_millis(400)).await;
        }
        group.average(0, &mut [1.0; 64], 1, F32).await.unwrap()
    });
    for (exchange, position) in join_all(slow).await.into_iter().zip(0..) {
        let slowest = (0..4).max_by_key(|at| exchange.behind[*at]).unwrap();
        if position != 2 {
            assert_eq!(slowest, 2, "{exchange:?}");
            assert!(exchange.behind[2] > Duration::from_millis(300) && exchange.waited == exchange.behind[2], "{exchange:?}");
        } else {
            assert!(exchange.waited < Duration::from_millis(300), "{exchange:?}");
        }
    }
    // Whose patience ends first leaves; the others judge for themselves.
    let waiting = groups.iter_mut().filter(|group| group.position() != 1).map(|group| {
        let patience = Duration::from_millis(500 + 100 * u64::from(group.position()));
        group.set_patience(patience);
        async move { (group.average(1, &mut [1.0; 64], 1, F32).await.unwrap_err(), patience) }
    });
    for (error, patience) in join_all(waiting).await {
        assert!(matches!(error, NetError::Late { position: 1, after } if after == patience), "{error}");
        assert_eq!(error.position(), Some(1));
    }
    // Who was late finds that the others are gone.
    let error = groups[1].average(1, &mut [1.0; 64], 1, F32).await.unwrap_err();
    assert!(matches!(error, NetError::Left { because: Some(1), .. }) && error.position().is_none(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_says_good_bye_is_not_blamed() {
    let (nodes, peers) = nodes(172, 2).await;
    let mut groups = joined("good-bye", &nodes, &peers).await;
    groups.pop().unwrap().leave().await;
    let error = groups[0].gather(0, b"still here").await.unwrap_err();
    assert!(matches!(error, NetError::Left { position: 1, because: None }) && error.position().is_none(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lives_answers_whatever_it_is_busy_with_and_who_is_gone_does_not() {
    let (mut nodes, peers) = nodes(170, 3).await;
    let busy = joined("busy", &nodes[1..], &peers[1..]).await;
    let limit = Duration::from_secs(5);
    assert!(nodes[0].net.answers(&peers[0], limit).await && nodes[0].net.answers(&peers[1], limit).await);
    drop(nodes.pop());
    drop(busy);
    let gone = async {
        while nodes[0].net.answers(&peers[2], Duration::from_secs(1)).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("it is noticed");
}
