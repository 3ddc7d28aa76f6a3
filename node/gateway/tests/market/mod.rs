//! A market of one validator with its gateway, in this process, on loopback.

#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::time::Duration;

use deepmarket_api::{Client, ErrorBody, VoucherRequest};
use deepmarket_consensus::{Node, ValidatorConfig};
use deepmarket_gateway::{Gateway, GatewayConfig, GatewayLimits, Registrar};
use deepmarket_genesis::{Genesis, LOCAL, Validator};
use deepmarket_job::JobSpec;
use deepmarket_ledger::{AuditParams, PricePolicy};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{
    AccountId, Action, Availability, ChainId, ChangeMode, Credits, Hash, LeaseOutcome, MachineConfig, MachineId, Offer, Receipt,
    Resources, SecretKey, TimeMs, UnitPrices, machine_proof,
};
use tokio_util::sync::CancellationToken;

/// The longest that anything here may take.
pub const SOON: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A market of one validator with its gateway.
pub struct Market {
    pub folder: tempfile::TempDir,
    pub genesis: Genesis,
    pub chain: ChainId,
    pub node: Node,
    pub net: Net,
    pub stop: CancellationToken,
    pub gateway: Option<Gateway>,
    pub url: String,
    pub client: Client,
    pub limits: GatewayLimits,
    /// Is work audited? Then reports claim no samples: these would need commitments, and somebody who opens them.
    pub audits: bool,
}

pub fn validator_key() -> SecretKey {
    SecretKey::from_seed([9; 32])
}

pub const RESOURCES: Resources = Resources { cores: 2, gpus: 0, ram_mib: 8192, disk_mib: 8192 };

pub fn config(name: &str) -> MachineConfig {
    MachineConfig {
        name: name.into(),
        platform: "linux x86_64".into(),
        cpu: "cpu".into(),
        gpu: String::new(),
        host: Hash::of(name.as_bytes()),
        resources: RESOURCES,
        speed: 1_000,
        trainer: "0".into(),
    }
}

pub fn offer() -> Offer {
    Offer {
        resources: RESOURCES,
        availability: Availability::default(),
        minimum: UnitPrices::default(),
        at_close: ChangeMode::AfterLease,
    }
}

fn fiftyfold(prices: UnitPrices) -> UnitPrices {
    let times = |price: Credits| Credits::from_micro(50 * price.micro());
    UnitPrices {
        core_hour: times(prices.core_hour),
        gpu_hour: times(prices.gpu_hour),
        ram_gib_hour: times(prices.ram_gib_hour),
        disk_gib_hour: times(prices.disk_gib_hour),
    }
}

impl Market {
    pub async fn start() -> Market {
        Market::start_with(true, vec![]).await
    }

    pub async fn start_with(registrar: bool, others: Vec<String>) -> Market {
        Market::start_whole(registrar, others, false, GatewayLimits::default()).await
    }

    /// With audits pay is held for a while.
    pub async fn start_with_audits() -> Market {
        Market::start_whole(true, vec![], true, GatewayLimits::default()).await
    }

    pub async fn start_limited(registrar: bool, others: Vec<String>, limits: GatewayLimits) -> Market {
        Market::start_whole(registrar, others, false, limits).await
    }

    async fn start_whole(registrar: bool, others: Vec<String>, audits: bool, limits: GatewayLimits) -> Market {
        let folder = tempfile::tempdir().unwrap();
        let (consensus, port) = (free_port(), free_port());
        let validator = Validator {
            name: "v0".into(),
            key: validator_key().public(),
            consensus: format!("/ip4/127.0.0.1/tcp/{consensus}"),
            gateway: format!("http://127.0.0.1:{port}"),
        };
        let mut genesis = Genesis::from_toml(LOCAL).unwrap();
        genesis.params.idle_block_ms = 500;
        genesis.params.contact_timeout_ms = 600_000;
        if !audits {
            genesis.params.audit = AuditParams::default();
        }
        // Other prices in each slot, and high ones: a receipt a millisecond after the one before is paid microcredits.
        genesis.params.price_policy = PricePolicy::Random;
        genesis.params.price_floor = fiftyfold(genesis.params.price_floor);
        genesis.params.price_ceiling = fiftyfold(genesis.params.price_ceiling);
        let registrars = vec![validator_key().public()];
        let genesis = genesis.complete(TimeMs(1_700_000_000_000), vec![validator.clone()], registrars).unwrap();
        let chain = genesis.chain_id();
        let node = deepmarket_consensus::start(ValidatorConfig {
            name: "v0".into(),
            home: folder.path().join("chain"),
            genesis: genesis.clone(),
            key: validator_key(),
            consensus_listen: validator.consensus,
        })
        .await
        .unwrap();
        let net = NetConfig { key: validator_key(), listen: vec![], blobs: folder.path().join("blobs"), chain };
        let net = Net::start(net).await.unwrap();
        let url = validator.gateway;
        let client = Client::new(vec![url.clone()]).unwrap();
        let stop = CancellationToken::new();
        let mut market = Market { folder, genesis, chain, node, net, stop, gateway: None, url, client, limits, audits };
        market.open_gateway(registrar, others).await;
        market
    }

    pub async fn open_gateway(&mut self, registrar: bool, others: Vec<String>) {
        self.stop = CancellationToken::new();
        let config = GatewayConfig {
            listen: self.url.strip_prefix("http://").unwrap().into(),
            validator: "v0".into(),
            genesis: self.genesis.to_toml(),
            market: self.genesis.name.clone(),
            chain: self.chain,
            node: self.node.clone(),
            net: self.net.clone(),
            data: self.folder.path().join("gateway"),
            registrar: registrar.then(|| Registrar::open(validator_key())),
            own: self.url.clone(),
            gateways: [vec![self.url.clone()], others].concat(),
            limits: self.limits,
        };
        self.gateway = Some(Gateway::start(config, self.stop.clone()).await.unwrap());
    }

    pub async fn close_gateway(&mut self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.gateway.take().unwrap().ended()).await.unwrap().unwrap();
    }

    pub async fn end(mut self) {
        self.close_gateway().await;
        tokio::time::timeout(SOON, self.node.stop()).await.unwrap();
    }

    pub async fn open_account(&self, seed: u8) -> SecretKey {
        let key = SecretKey::from_seed([seed; 32]);
        let request = VoucherRequest { identity: format!("user{seed}@pdx.edu"), key: key.public() };
        let voucher = self.client.voucher(&request).await.unwrap();
        self.client.act(&key, Action::OpenAccount { voucher }).await.unwrap();
        key
    }

    /// Registers a machine, offers it and sends its first heartbeat.
    pub async fn lend(&self, owner: &SecretKey, seed: u8) -> SecretKey {
        self.lend_as(owner, seed, config(&format!("machine {seed}")), offer()).await
    }

    pub async fn lend_as(&self, owner: &SecretKey, seed: u8, config: MachineConfig, offer: Offer) -> SecretKey {
        let key = SecretKey::from_seed([seed; 32]);
        let proof = machine_proof(&key, &self.chain, &owner.public(), &config);
        let machine = machine_of(&key);
        self.client.act(owner, Action::RegisterMachine { machine_key: key.public(), config, proof }).await.unwrap();
        self.client.act(owner, Action::Lend { machine, offer, mode: ChangeMode::AfterLease }).await.unwrap();
        let addresses = Some(vec!["/ip4/127.0.0.1/tcp/4001".to_owned()]);
        self.client.act(&key, Action::Heartbeat { addresses }).await.unwrap();
        key
    }

    /// Reports work of the first lease that a machine serves.
    pub async fn report(&self, machine: &SecretKey, sequence: u32, outcome: LeaseOutcome) {
        let assigned = self.client.assignments(machine_of(machine)).await.unwrap().remove(0);
        let work = u64::from(sequence) * 1_000;
        let receipt = Receipt {
            job: assigned.job,
            lease: assigned.lease,
            rank: assigned.rank,
            sequence,
            from: 0,
            rounds: work,
            samples: if self.audits { 0 } else { work * 64 },
            cpu_ms: work,
            parameters: Hash::of(&sequence.to_le_bytes()),
            commitments: Hash::of(b"commitments"),
            committed: 0,
            loss_micro: 1_000_000,
            checkpoint: None,
            missing: None,
            outcome,
        };
        self.client.act(machine, Action::Receipt(receipt)).await.unwrap();
    }

    /// Asks with any method and body; gives the status and the error body.
    pub async fn refused(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, ErrorBody) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = http().request(method, format!("{}{path}", self.url)).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {status} {e}: {text}")))
    }
}

pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap()
}

pub fn account_of(key: &SecretKey) -> AccountId {
    AccountId::from_key(&key.public())
}

pub fn machine_of(key: &SecretKey) -> MachineId {
    MachineId::from_key(&key.public())
}

pub fn spec() -> JobSpec {
    let text = include_str!("../../../../examples/mlp.toml");
    let mut spec = JobSpec::from_toml(text, &|_| Some(Hash::of(b"manifest"))).unwrap();
    (spec.workers.min, spec.workers.max) = (1, 1);
    spec.budget.slots = vec![];
    spec
}
