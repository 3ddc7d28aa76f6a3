//! Four validators in one process: real engines, real sockets on loopback, real databases.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::Mutex,
    time::{Duration, Instant},
};

use deepmarket_consensus::{Node, Tamper, ValidatorConfig, start_with_tamper};
use deepmarket_genesis::{Genesis, LOCAL, Validator};
use deepmarket_types::{AccountId, Action, Credits, Hash, Height, SecretKey, TimeMs, Transaction, Voucher, encode};
use tempfile::TempDir;

/// How long anything may take before a test fails: generous, since machines that run tests are loaded.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Each test's market runs alone: four engines keep two cores busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Market {
    pub genesis: Genesis,
    pub registrar: SecretKey,
    keys: Vec<SecretKey>,
    nodes: Vec<Option<Node>>,
    folder: TempDir,
    _turn: std::sync::MutexGuard<'static, ()>,
}

pub fn now() -> TimeMs {
    TimeMs(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// Ports that are free now, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Waits until a condition holds; fails the test where it doesn't within the deadline.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Market {
    /// A market of some validators, none running yet.
    pub fn new(count: usize, adjust: impl FnOnce(&mut Genesis)) -> Market {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into()))
            .with_test_writer()
            .try_init();
        let keys: Vec<SecretKey> = (0..count).map(|n| SecretKey::from_seed([n as u8 + 1; 32])).collect();
        let validator = |(n, (key, port)): (usize, (&SecretKey, u16))| Validator {
            name: format!("validator-{n}"),
            key: key.public(),
            consensus: format!("/ip4/127.0.0.1/tcp/{port}"),
            gateway: format!("http://127.0.0.1:{}", 1 + n),
        };
        let validators = keys.iter().zip(free_ports(count)).enumerate().map(validator).collect();
        let registrar = SecretKey::from_seed([200; 32]);
        let mut open = Genesis::from_toml(LOCAL).unwrap();
        // Idle markets make no blocks in a test unless it wants them.
        open.params.idle_block_ms = 600_000;
        adjust(&mut open);
        let genesis = open.complete(now(), validators, vec![registrar.public()]).unwrap();
        let nodes = keys.iter().map(|_| None).collect();
        Market { genesis, registrar, keys, nodes, folder: tempfile::tempdir().unwrap(), _turn: turn }
    }

    pub async fn start(&mut self, index: usize) {
        self.start_tampering(index, None).await;
    }

    pub async fn start_tampering(&mut self, index: usize, tamper: Option<Tamper>) {
        let config = ValidatorConfig {
            name: format!("validator-{index}"),
            home: self.folder.path().join(index.to_string()),
            genesis: self.genesis.clone(),
            key: self.keys[index].clone(),
            consensus_listen: self.genesis.validators[index].consensus.clone(),
        };
        self.nodes[index] = Some(start_with_tamper(config, tamper).await.unwrap());
    }

    pub async fn start_all(&mut self) {
        for index in 0..self.keys.len() {
            self.start(index).await;
        }
    }

    /// Stops a validator; its folder stays.
    pub async fn stop(&mut self, index: usize) {
        self.nodes[index].take().expect("runs").stop().await;
    }

    pub async fn stop_all(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_some() {
                self.stop(index).await;
            }
        }
    }

    pub fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("runs")
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    pub fn chain(&self) -> Hash {
        self.genesis.chain_id()
    }

    /// Opens an account for a user.
    pub fn open(&self, user: &SecretKey) -> Transaction {
        let chain = self.chain();
        let identity = Hash::of(&user.public().0);
        let expires = now().plus(3_600_000);
        let voucher = Voucher::sign(&self.registrar, &chain, identity, user.public(), expires);
        Transaction::sign(user, &chain, 0, Height(1_000_000), Action::OpenAccount { voucher })
    }

    pub fn transfer(&self, user: &SecretKey, nonce: u64, to: &SecretKey) -> Transaction {
        let to = AccountId::from_key(&to.public());
        let action = Action::Transfer { to, amount: Credits::from_micro(1) };
        Transaction::sign(user, &self.chain(), nonce, Height(1_000_000), action)
    }

    /// Gives a transaction to every running validator, as gateways do.
    pub fn submit(&self, transaction: &Transaction) -> Hash {
        let bytes = encode(transaction);
        for node in self.running() {
            node.submit_forwarded(&bytes).unwrap();
        }
        transaction.id()
    }

    /// Waits until a transaction is decided on all running validators; gives its result code.
    pub async fn decided(&self, id: Hash) -> u16 {
        let mut codes = BTreeSet::new();
        for node in self.running() {
            let found = eventually("the transaction is decided", || node.store().transaction(&id).unwrap()).await;
            codes.insert(found.3.code);
        }
        assert_eq!(codes.len(), 1, "validators disagree about a transaction's result");
        codes.pop_first().unwrap()
    }

    /// Submits and waits.
    pub async fn decide(&self, transaction: &Transaction) -> u16 {
        let id = self.submit(transaction);
        self.decided(id).await
    }

    /// Waits until all running validators hold a height, and asserts that they hold the same block and state there.
    pub async fn agree(&self, height: Height) {
        let mut seen = BTreeSet::new();
        for node in self.running() {
            let block = eventually("the height is reached", || node.store().block(height).unwrap()).await;
            seen.insert((block.hash, block.state_root));
            assert_eq!(block.hash, block.block.hash());
            assert!(3 * block.certificate.signers.len() > 2 * self.keys.len(), "too few signatures");
        }
        assert_eq!(seen.len(), 1, "validators disagree at height {height}");
    }

    /// The highest block of any running validator.
    pub fn height(&self) -> Height {
        self.running().map(|node| node.status().height).max().unwrap()
    }

    pub fn user(n: u8) -> SecretKey {
        SecretKey::from_seed([100 + n; 32])
    }
}
