//! A gateway is flooded: by connections that say nothing, bodies that are too large, senders that are slow, and transactions that
//! are signed for nobody. The chain goes on at its pace, and who is honest gets answers, from that very gateway.
//!
//! In life the flood comes from other machines. Here it is a process of the lowest priority, so that what it costs to make isn't
//! taken for what it costs to bear; and it comes from addresses of its own, 127.0.0.2 and on.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use deepmarket_api::{Client, VoucherRequest};
use deepmarket_tests::{Market, my_turn};
use deepmarket_types::{
    AccountId, Action, Credits, Hash, Height, MachineConfig, Resources, SecretKey, Transaction, encode, machine_proof,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Names the gateway for the process that floods it.
const TARGET: &str = "DEEPMARKET_TEST_FLOOD";
/// Blocks of each measurement, and measurements of each kind: they alternate, so that whatever else the machine does meets both.
const BLOCKS: u64 = 40;
const ROUNDS: usize = 3;
/// Honest users who always have something to submit: a block is made as soon as the last one is decided.
const USERS: usize = 3;

#[test]
fn blocks_of_a_flooded_market_take_less_than_twice_as_long_and_honest_users_get_answers() {
    let _turn = my_turn();
    let market = Market::up(0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateways = market.gateways();
    let users: Vec<User> = (0..USERS).map(|number| runtime.block_on(User::open(&gateways[0], number))).collect();
    let judge = Client::new(vec![gateways[1].clone()]).unwrap();
    let measure = || runtime.block_on(block_times(&users, &judge));

    measure();
    let (mut idle, mut flooded, mut tally) = (Vec::new(), Vec::new(), BTreeMap::<String, u64>::new());
    for _ in 0..ROUNDS {
        idle.extend(measure());
        let flood = Flood::start(&gateways[0]);
        flooded.extend(measure());
        for (what, count) in flood.end() {
            *tally.entry(what).or_default() += count;
        }
    }
    let (idle, flooded) = (median(idle), median(flooded));
    println!("median time between blocks: idle {idle} ms, flooded {flooded} ms; the flood met {tally:?}");
    for met in ["connection 429", "large 413", "slow open", "invalid 400", "invalid 429"] {
        assert!(tally.get(met).is_some_and(|count| *count > 0), "nothing of the flood met '{met}': {tally:?}");
    }
    assert!(flooded < 2 * idle, "blocks take {flooded} ms under the flood, {idle} ms without");
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Somebody honest, who knows the flooded gateway only.
struct User {
    client: Client,
    key: SecretKey,
    machine: SecretKey,
    register: Action,
}

impl User {
    async fn open(gateway: &str, number: usize) -> User {
        let client = Client::new(vec![gateway.to_owned()]).unwrap();
        let (key, machine) = (SecretKey::generate(), SecretKey::generate());
        let request = VoucherRequest { identity: format!("user{number}@pdx.example"), key: key.public() };
        let voucher = client.voucher(&request).await.unwrap();
        client.act(&key, Action::OpenAccount { voucher }).await.unwrap();
        let text = |text: &str| text.to_owned();
        let config = MachineConfig {
            name: text("scripted"),
            platform: text("scripted"),
            cpu: text("scripted"),
            gpu: String::new(),
            host: Hash::of(&number.to_le_bytes()),
            resources: Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 512 },
            speed: 1,
            trainer: text("scripted"),
        };
        let chain = client.status().await.unwrap().chain;
        let proof = machine_proof(&machine, &chain, &key.public(), &config);
        let register = Action::RegisterMachine { machine_key: machine.public(), config, proof };
        User { client, key, machine, register }
    }

    /// Registers its machine again, which may be done at any time, until a height is reached. Each must succeed.
    async fn work_until(&self, height: u64) {
        loop {
            let status = self.client.act(&self.key, self.register.clone()).await.expect("an honest user gets an answer");
            if status.height.expect("it is decided").0 >= height {
                return;
            }
            let machine = self.client.machine(deepmarket_types::MachineId::from_key(&self.machine.public())).await;
            assert_eq!(machine.unwrap().unwrap().owner, AccountId::from_key(&self.key.public()));
        }
    }
}

/// The milliseconds from block to block while all users are at work.
async fn block_times(users: &[User], judge: &Client) -> Vec<u64> {
    let first = judge.status().await.unwrap().height.0 + 2;
    let last = first + BLOCKS;
    futures::future::join_all(users.iter().map(|user| user.work_until(last))).await;
    let mut times = Vec::new();
    for height in first..=last {
        let block = loop {
            match judge.block(Some(Height(height))).await {
                Ok(Some(block)) => break block,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        times.push(block.header.time.0);
    }
    times.windows(2).map(|two| two[1] - two[0]).collect()
}

/// The process that floods.
struct Flood {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Flood {
    /// Starts it, and waits until it is in full swing.
    fn start(gateway: &str) -> Flood {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "the_flood_itself"]).env(TARGET, gateway);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut flood = Flood { child, said };
        flood.line("in full swing");
        flood
    }

    fn line(&mut self, with: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the flood ended");
            if line.contains(with) {
                return line;
            }
        }
    }

    /// Ends it; tells what it met.
    fn end(mut self) -> BTreeMap<String, u64> {
        drop(self.child.stdin.take());
        let line = self.line("{");
        let met = serde_json::from_str(line.trim()).unwrap();
        assert!(self.child.wait().unwrap().success());
        met
    }
}

/// What the flood met, by its kind and the answer.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    fn count(&self, kind: &str, answer: impl std::fmt::Display) {
        *self.0.lock().unwrap().entry(format!("{kind} {answer}")).or_default() += 1;
    }

    fn has(&self, what: &[&str]) -> bool {
        what.iter().all(|what| self.0.lock().unwrap().contains_key(*what))
    }
}

#[test]
#[ignore = "a part of the test above, in a process of its own"]
fn the_flood_itself() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let target: SocketAddr = target.strip_prefix("http://").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tally = Tally::default();
    runtime.spawn(hoard(target, tally.clone()));
    for _ in 0..2 {
        runtime.spawn(send_large(target, tally.clone()));
    }
    for _ in 0..100 {
        runtime.spawn(send_slowly(target, tally.clone()));
    }
    for number in 0..8 {
        runtime.spawn(send_invalid(target, 5 + number % 2, tally.clone()));
    }
    let swing = ["connection 429", "large 413", "slow open", "invalid 400", "invalid 429"];
    while !tally.has(&swing) {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("in full swing");
    let mut end = String::new();
    std::io::stdin().read_line(&mut end).unwrap();
    println!("{}", serde_json::to_string(&*tally.0.lock().unwrap()).unwrap());
    std::process::exit(0);
}

async fn connect(target: SocketAddr, number: u8) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, number], 0).into()).unwrap();
    socket.connect(target).await.ok()
}

/// The status of the next answer, which is read to its end.
async fn answer(stream: &mut TcpStream) -> Option<u16> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let missing = (end + 4 + length.unwrap_or(0)).saturating_sub(bytes.len());
            stream.read_exact(&mut vec![0; missing]).await.ok()?;
            return head.split(' ').nth(1)?.parse().ok();
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Takes as many connections as it gets, and keeps them.
async fn hoard(target: SocketAddr, tally: Tally) {
    let mut kept = Vec::new();
    loop {
        let Some(mut stream) = connect(target, 2).await else { continue };
        // One that is refused is told so at once; the others hear nothing.
        match tokio::time::timeout(Duration::from_millis(20), answer(&mut stream)).await {
            Ok(Some(status)) => tally.count("connection", status),
            Ok(None) => tally.count("connection", "closed"),
            Err(_) => kept.push(stream),
        }
        if kept.len() < 256 {
            // Faster at first: until there are many, each is made without a look at the one before.
            for _ in 0..256 {
                kept.extend(connect(target, 2).await);
            }
        }
    }
}

async fn send_large(target: SocketAddr, tally: Tally) {
    let head = "POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 1500000\r\n\r\n";
    let body = vec![7; 1_500_000];
    loop {
        let Some(mut stream) = connect(target, 3).await else { continue };
        let (mut reads, mut writes) = stream.split();
        let sending = async {
            writes.write_all(head.as_bytes()).await?;
            writes.write_all(&body).await
        };
        // An answer may come before all is sent.
        let mut first = [0; 12];
        let (_, got) = tokio::join!(sending, reads.read_exact(&mut first));
        match got.ok().and_then(|_| String::from_utf8_lossy(&first[9..12]).parse::<u16>().ok()) {
            Some(status) => tally.count("large", status),
            None => tally.count("large", "closed"),
        }
    }
}

/// A byte now and then, never a whole request.
async fn send_slowly(target: SocketAddr, tally: Tally) {
    loop {
        let Some(mut stream) = connect(target, 4).await else { continue };
        tally.count("slow", "open");
        let _ = stream.write_all(b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tally.count("slow", "closed");
    }
}

/// Transactions of the right form whose signatures are for another market, as fast as they are answered.
async fn send_invalid(target: SocketAddr, from: u8, tally: Tally) {
    let key = SecretKey::generate();
    loop {
        let Some(mut stream) = connect(target, from).await else { continue };
        for nonce in 0.. {
            let action = Action::Transfer { to: AccountId::from_key(&key.public()), amount: Credits::from_credits(1) };
            let body = encode(&Transaction::sign(&key, &Hash::of(b"another market"), nonce, Height(1_000_000), action));
            let head = format!("POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all(&[head.into_bytes(), body].concat()).await.is_err() {
                break;
            }
            match answer(&mut stream).await {
                Some(status) => tally.count("invalid", status),
                None => break,
            }
        }
        tally.count("invalid", "closed");
    }
}
