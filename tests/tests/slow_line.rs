//! The exchange between members over lines that are slow on purpose, counted at the line.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deepmarket_net::{Encoding, Group, GroupSpec, Net, NetConfig, PeerAddress, share_of};
use deepmarket_tests::my_turn;
use deepmarket_tests::proxy::{Line, Proxy};
use deepmarket_types::{Hash, JobId, SecretKey};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::time::sleep;

/// The demo's model.
const VALUES: usize = 20_490;

/// Members that reach each other through proxies only.
struct Members {
    groups: Vec<Group>,
    proxies: Vec<Proxy>,
    _folders: Vec<TempDir>,
}

async fn members(world: u32, line: Line) -> Members {
    let (mut nets, mut peers, mut proxies, mut folders) = (vec![], vec![], vec![], vec![]);
    for position in 0..world {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed([position as u8 + 1; 32]);
        let config = NetConfig { key, listen: vec![], blobs: folder.path().join("blobs"), chain: Hash::of(b"slow lines") };
        let net = Net::start(config).await.unwrap();
        let port: u16 = net.addresses()[0].split('/').nth(4).unwrap().parse().unwrap();
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)), line).unwrap();
        let addresses = vec![format!("/ip4/127.0.0.1/tcp/{}", proxy.address().port())];
        peers.push(PeerAddress { peer_id: net.peer_id(), addresses });
        nets.push(net);
        proxies.push(proxy);
        folders.push(folder);
    }
    let spec = |position| GroupSpec::new(JobId(1), Hash::of(b"slow"), position, peers.clone());
    let joins = nets.iter().zip(0..).map(|(net, position)| net.join(spec(position)));
    let groups = join_all(joins).await.into_iter().map(Result::unwrap).collect();
    Members { groups, proxies, _folders: folders }
}

/// Runs a test while no other one uses the machine.
fn in_turn(test: impl Future<Output = ()>) {
    let _turn = my_turn();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(test);
}

impl Members {
    async fn average(&mut self, round: u64, encoding: Encoding) {
        let averages = self.groups.iter_mut().map(|group| async move {
            group.average(round, &mut [0.5; VALUES], 1, encoding).await.unwrap();
        });
        join_all(averages).await;
    }

    fn bytes(&self) -> u64 {
        self.proxies.iter().map(Proxy::bytes).sum()
    }
}

#[test]
fn what_the_line_carries_is_twice_the_model_for_each_member_whatever_their_number() {
    in_turn(count_the_line());
}

async fn count_the_line() {
    const ROUNDS: u64 = 20;
    for world in [2, 3, 5, 8] {
        let mut members = members(world, Line::FAST).await;
        for encoding in Encoding::ALL {
            let before = members.bytes();
            for round in 0..ROUNDS {
                members.average(round, encoding).await;
            }
            let carried = (members.bytes() - before) as f64;
            let each = carried / (f64::from(world) * ROUNDS as f64) / encoding.bytes(VALUES) as f64;
            let ideal = 2.0 * f64::from(world - 1) / f64::from(world);
            println!("{world} members, {encoding:?}: {each:.3} x the model; ideal {ideal:.3}");
            assert!((each / ideal - 1.0).abs() < 0.08, "{world} members, {encoding:?}: {each} instead of {ideal}");
        }
        assert_eq!(share_of(VALUES, world, world - 1).end, VALUES);
    }
}

#[test]
fn averages_that_are_begun_ahead_hide_a_slow_line_behind_computing() {
    in_turn(measure_rounds());
}

async fn measure_rounds() {
    const ROUNDS: u64 = 16;
    const AHEAD: u64 = 4;
    let computing = Duration::from_millis(30);
    let mut members = members(3, Line::HOME).await;
    let began = Instant::now();
    for round in 0..ROUNDS {
        members.average(round, Encoding::F32).await;
        sleep(computing).await;
    }
    let one_by_one = began.elapsed() / ROUNDS as u32;
    // Two ways of 40 ms, and computing.
    assert!(one_by_one >= Duration::from_millis(80) + computing, "{one_by_one:?}");

    let began = Instant::now();
    let ahead = members.groups.iter_mut().map(|group| async move {
        for round in 0..ROUNDS {
            group.start(100 + round, vec![0.5; VALUES], 1, Encoding::F32).unwrap();
            sleep(computing).await;
            if round >= AHEAD {
                group.finish(100 + round - AHEAD).await.unwrap();
            }
        }
        for round in ROUNDS - AHEAD..ROUNDS {
            group.finish(100 + round).await.unwrap();
        }
    });
    join_all(ahead).await;
    let ahead = began.elapsed() / ROUNDS as u32;
    println!("a round over 80 ms and 20 Mbit/s with {computing:?} of computing: {one_by_one:?} one by one, {ahead:?} ahead");
    assert!(ahead < one_by_one * 2 / 3, "{ahead:?} instead of {one_by_one:?}");
}
