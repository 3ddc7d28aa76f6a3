use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_tests::{Market, wait_for};
use deepmarket_types::{
    Action, Availability, ChainId, ChangeMode, Hash, Height, MachineConfig, MachineId, Offer, Resources, SecretKey, Transaction,
    UnitPrices, machine_proof,
};
use serde_json::{Value, json};

use crate::percentiles;

/// How long a single transaction may take to be decided.
const PATIENCE: Duration = Duration::from_secs(60);

/// Transactions per second and latency of four validators on this machine. The load is heartbeats: the transaction that a
/// real market decides most.
pub fn measure(quick: bool) -> Value {
    let market = Market::up(0);
    market.cli(&["account", "open", "--name", "bench", "--identity", "bench@pdx.example"]);
    let owner = read_key(&market.home().join("accounts/bench.json"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let report = runtime.block_on(load(&market, &owner, quick));
    let conserved = market.cli(&["chain", "status"])["ledger"]["conserved"].clone();
    let mut report = report;
    report["conserved"] = conserved;
    report
}

async fn load(market: &Market, owner: &SecretKey, quick: bool) -> Value {
    let client = Client::new(market.gateways()).expect("addresses of gateways");
    let chain = client.status().await.expect("a status").chain;
    let (machines, beats) = if quick { (8, 20) } else { (16, 600) };
    let mut keys = Vec::new();
    for _ in 0..=machines {
        keys.push(register(&client, &chain, owner).await);
    }
    let probe = keys.pop().expect("one more than the load has");

    let idle = latencies(&client, &chain, &probe, 0, if quick { 20 } else { 200 }, || true).await;
    let probes = idle.len() as u64;

    // The load is signed beforehand: signing is the clients' work, not the ledger's.
    let expires = Height(client.status().await.expect("a status").height.0 + 5_000);
    let loads: Vec<Vec<Transaction>> = keys
        .iter()
        .map(|key| {
            (0..beats).map(|n| Transaction::sign(key, &chain, n, expires, Action::Heartbeat { addresses: None })).collect()
        })
        .collect();
    let total = loads.iter().map(Vec::len).sum::<usize>();
    let running = AtomicBool::new(true);
    let began = Instant::now();
    let sending = async {
        let each = loads.into_iter().enumerate().map(|(index, load)| {
            // Each sender has a gateway of its own, so that all four take part.
            let gateways = market.gateways();
            let own = Client::new(vec![gateways[index % gateways.len()].clone()]).expect("an address");
            async move {
                let last = load.len() - 1;
                for (n, transaction) in load.iter().enumerate() {
                    let wait = if n == last { PATIENCE } else { Duration::ZERO };
                    while let Err(error) = own.submit(transaction, wait).await {
                        assert!(error.retryable() || (4000..5000).contains(&error.code()), "{error}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        futures::future::join_all(each).await;
        running.store(false, Ordering::Relaxed);
        began.elapsed()
    };
    let probing = latencies(&client, &chain, &probe, probes, usize::MAX, || running.load(Ordering::Relaxed));
    let (took, loaded) = futures::join!(sending, probing);
    wait_for("all gateways to agree", PATIENCE, || {
        let heights: Vec<Option<u64>> = (0..4).map(|gateway| market.height(gateway)).collect();
        heights.iter().all(|h| h.is_some()).then_some(())
    });
    json!({
        "load_transactions": total,
        "transactions_per_s": total as f64 / took.as_secs_f64(),
        "latency_idle": percentiles(idle),
        "latency_loaded": percentiles(loaded),
    })
}

/// Submits one heartbeat after the other and times each until it is final, in milliseconds.
async fn latencies(
    client: &Client,
    chain: &ChainId,
    key: &SecretKey,
    first_nonce: u64,
    most: usize,
    go_on: impl Fn() -> bool,
) -> Vec<f64> {
    let mut times = Vec::new();
    while times.len() < most && go_on() {
        let expires = Height(client.status().await.expect("a status").height.0 + 500);
        let nonce = first_nonce + times.len() as u64;
        let transaction = Transaction::sign(key, chain, nonce, expires, Action::Heartbeat { addresses: None });
        let began = Instant::now();
        client.submit(&transaction, PATIENCE).await.expect("a heartbeat is accepted");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times
}

/// Registers and offers a machine that exists only as a key: what is measured is the ledger.
async fn register(client: &Client, chain: &ChainId, owner: &SecretKey) -> SecretKey {
    let key = SecretKey::generate();
    let resources = Resources { cores: 1, gpus: 0, ram_mib: 1024, disk_mib: 1024 };
    let config = MachineConfig {
        name: "bench".into(),
        platform: "none".into(),
        cpu: "none".into(),
        gpu: String::new(),
        host: Hash::of(&key.public().0),
        resources,
        speed: 1,
        trainer: "none".into(),
    };
    let proof = machine_proof(&key, chain, &owner.public(), &config);
    let register = Action::RegisterMachine { machine_key: key.public(), config, proof };
    client.act(owner, register).await.expect("a machine is registered");
    let (availability, minimum, at_close) = (Availability::default(), UnitPrices::default(), ChangeMode::AfterLease);
    let offer = Offer { resources, availability, minimum, at_close };
    let lend = Action::Lend { machine: MachineId::from_key(&key.public()), offer, mode: ChangeMode::AfterLease };
    client.act(owner, lend).await.expect("it is offered");
    key
}

fn read_key(path: &std::path::Path) -> SecretKey {
    let text = std::fs::read_to_string(path).expect("a key file");
    let file: Value = serde_json::from_str(&text).expect("a key file is JSON");
    let hex = file["secret"].as_str().expect("a secret").to_owned();
    let bytes = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex digits"));
    SecretKey::from_seed(bytes.collect::<Vec<u8>>().try_into().expect("32 bytes"))
}
