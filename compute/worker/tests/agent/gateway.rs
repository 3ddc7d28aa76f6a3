//! The stand-in gateway: one job, three leases, the rules about receipts that matter to an agent, and switches to break it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use deepmarket_api::{
    Assignment, CheckpointView, ErrorBody, JobView, LeaseView, MachineView, Network, Peer, Progress, ProgressBatch, ProgressKind,
    RankView, Status, TransactionStatus, progress_content,
};
use deepmarket_job::{DatasetManifest, Features, JobSpec, Shard, Split, Targets};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{
    AccountId, Action, ChainId, Credits, Domain, Hash, Height, JobId, JobReason, JobState, LeaseId, LeaseOutcome, LeaseState,
    MachineConfig, MachineId, MachineReason, MachineState, Receipt, Resources, SecretKey, TimeMs, Transaction,
};
use serde::Serialize;

const JOB: JobId = JobId(7);

pub fn chain() -> ChainId {
    Hash::of(b"stand-in chain")
}

#[derive(Clone)]
pub struct Gateway {
    pub url: String,
    net: Net,
    shared: Arc<Mutex<Fake>>,
}

/// What the stand-in knows.
pub struct Fake {
    url: String,
    peer: Peer,
    machines: Vec<SecretKey>,
    nonces: BTreeMap<MachineId, u64>,
    pub addresses: BTreeMap<MachineId, Vec<String>>,
    assignments: Vec<Assignment>,
    pub leases: Vec<LeaseView>,
    pub receipts: Vec<Receipt>,
    pub progress: Vec<Progress>,
    reported: BTreeSet<(u32, u64)>,
    pub blobs: BTreeMap<Hash, Bytes>,
    manifest: Hash,
    /// The last checkpoint that receipts named.
    checkpoint: Option<CheckpointView>,
    /// Has no room for blobs, and how many it refused.
    pub full: bool,
    pub refused: usize,
    /// Answers nothing.
    pub down: bool,
    /// Knows nothing of the job, as if it were catching up.
    pub lags: bool,
}

impl Gateway {
    pub async fn start(machines: &[SecretKey], folder: &Path) -> Gateway {
        let key = SecretKey::from_seed([99; 32]);
        let net = Net::start(NetConfig { key, listen: vec![], blobs: folder.to_owned(), chain: chain() }).await.unwrap();
        let manifest = put_data(&net);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake {
            url: url.clone(),
            peer: Peer { peer_id: net.peer_id(), addresses: net.addresses() },
            machines: machines.to_vec(),
            nonces: BTreeMap::new(),
            addresses: BTreeMap::new(),
            assignments: Vec::new(),
            leases: Vec::new(),
            receipts: Vec::new(),
            progress: Vec::new(),
            reported: BTreeSet::new(),
            blobs: BTreeMap::new(),
            manifest,
            checkpoint: None,
            full: false,
            refused: 0,
            down: false,
            lags: false,
        };
        let shared = Arc::new(Mutex::new(fake));
        let app = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Gateway { url, net, shared }
    }

    pub fn state(&self) -> MutexGuard<'_, Fake> {
        self.shared.lock().unwrap()
    }

    /// Nobody has the data any more.
    pub fn lose_data(&self) {
        for (hash, _) in self.net.blobs().list().unwrap() {
            self.net.blobs().remove(&hash).unwrap();
        }
    }

    /// Matches a job with the three machines. Its name says how the stand-in trainers behave.
    pub fn submit_job(&self, name: &str) {
        let mut state = self.state();
        let toml = format!(
            r#"
            name = "{name}"
            kind = "train"
            [workers]
            min = 3
            max = 3
            cores = 1
            ram_mib = 512
            [budget]
            max_credits = 1
            [data]
            manifest = "{}"
            train = "train"
            validate = "test"
            [model]
            input = [4]
            layers = [{{ linear = {{ out = 2 }} }}]
            [training]
            loss = "cross_entropy"
            optimizer = {{ sgd = {{ lr = 1e-2 }} }}
            batch = 6
            epochs = 3
            seed = 1
            mode = "sync"
            [recovery]
            checkpoint_rounds = 4
            "#,
            state.manifest
        );
        let spec = JobSpec::from_toml(&toml, &|_| None).unwrap();
        let ids: Vec<MachineId> = state.machines.iter().map(|key| MachineId::from_key(&key.public())).collect();
        let ranks: Vec<RankView> = ids
            .iter()
            .enumerate()
            .map(|(rank, machine)| RankView {
                rank: rank as u32,
                lease: LeaseId(rank as u64 + 1),
                machine: *machine,
                key: state.machines[rank].public(),
                addresses: state.addresses[machine].clone(),
            })
            .collect();
        for rank in &ranks {
            state.assignments.push(Assignment {
                lease: rank.lease,
                job: JOB,
                rank: rank.rank,
                sequence: 0,
                spec: hex::encode(spec.to_bytes()),
                seed: Hash::of(b"seed"),
                resources: Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 0 },
                ranks: ranks.clone(),
            });
            state.leases.push(LeaseView {
                id: rank.lease,
                job: JOB,
                rank: rank.rank,
                machine: rank.machine,
                owner: AccountId([0; 20]),
                state: LeaseState::Active,
                started: TimeMs(0),
                sequence: 0,
                rounds: 0,
                samples: 0,
                cpu_ms: 0,
                paid: Credits::ZERO,
                paid_ms: 0,
                parameters: None,
            });
        }
    }
}

/// 60 samples in 5 shards to train on, 40 in 4 to evaluate on.
fn put_data(net: &Net) -> Hash {
    let split = |name: &str, shards: u64, samples: u64| {
        let shards: Vec<Shard> = (0..shards)
            .map(|number| {
                let bytes = vec![number as u8 + name.len() as u8; 16 * samples as usize + 100];
                Shard { hash: net.blobs().put(&bytes).unwrap(), bytes: bytes.len() as u64, samples }
            })
            .collect();
        Split { name: name.into(), samples: samples * shards.len() as u64, shards }
    };
    let manifest = DatasetManifest {
        name: "stand-in".into(),
        shape: vec![4],
        x: Features::F32,
        y: Targets::Class { classes: 2 },
        splits: vec![split("train", 5, 12), split("test", 4, 10)],
    };
    net.blobs().put(&manifest.to_bytes()).unwrap()
}

impl Fake {
    pub fn receipts_of_each_rank(&self, count: usize) -> bool {
        (0..3).all(|rank| self.receipts.iter().filter(|r| r.rank == rank && r.rounds > 0).count() >= count)
    }

    pub fn progress_of(&self, wanted: impl Fn(&ProgressKind) -> bool) -> usize {
        self.progress.iter().filter(|entry| wanted(&entry.kind)).count()
    }

    /// The different checkpoints that receipts named, in order.
    pub fn checkpoints(&self) -> Vec<Hash> {
        let mut named: Vec<Hash> = self.receipts.iter().filter_map(|receipt| receipt.checkpoint).collect();
        named.dedup();
        named
    }

    pub fn closed(&self) -> bool {
        !self.leases.is_empty() && self.leases.iter().all(|lease| lease.state != LeaseState::Active)
    }

    pub fn close(&mut self) {
        self.leases.iter_mut().filter(|l| l.state == LeaseState::Active).for_each(|lease| lease.state = LeaseState::Ended);
    }

    fn assignments_of(&self, machine: MachineId) -> Vec<Assignment> {
        let active = |a: &&Assignment| {
            let lease = self.leases.iter().find(|lease| lease.id == a.lease).unwrap();
            lease.machine == machine && lease.state == LeaseState::Active
        };
        let named = self.assignments.iter().filter(active).filter(|_| !self.lags);
        named.map(|a| Assignment { sequence: self.leases[a.rank as usize].sequence, ..a.clone() }).collect()
    }

    fn apply(&mut self, transaction: Transaction) -> u16 {
        let machine = MachineId::from_key(&transaction.body.signer);
        match transaction.body.action {
            Action::Heartbeat { addresses } => {
                let nonce = self.nonces.entry(machine).or_default();
                if transaction.body.nonce != *nonce {
                    return 2004;
                }
                *nonce += 1;
                if let Some(addresses) = addresses {
                    self.addresses.insert(machine, addresses);
                }
                0
            }
            Action::Receipt(receipt) => self.receipt(machine, receipt),
            other => panic!("{}", other.name()),
        }
    }

    /// As the ledger does it (`chain/ledger/src/receipt.rs`).
    fn receipt(&mut self, machine: MachineId, receipt: Receipt) -> u16 {
        let lease = self.leases.iter_mut().find(|lease| lease.id == receipt.lease).unwrap();
        assert_eq!(lease.machine, machine);
        if receipt.sequence <= lease.sequence {
            let same = self.receipts.contains(&receipt);
            assert!(same || receipt.sequence < lease.sequence, "an agent never equivocates");
            return if same { 2073 } else { 2075 };
        }
        if lease.state != LeaseState::Active {
            return 2077;
        }
        assert!(receipt.rounds >= lease.rounds && receipt.samples >= lease.samples && receipt.cpu_ms >= lease.cpu_ms);
        (lease.sequence, lease.rounds, lease.samples) = (receipt.sequence, receipt.rounds, receipt.samples);
        if let Some(model) = receipt.checkpoint {
            self.checkpoint = Some(CheckpointView { model, rounds: receipt.rounds });
        }
        self.receipts.push(receipt);
        match receipt.outcome {
            LeaseOutcome::Running => {}
            LeaseOutcome::Finished(_) => lease.state = LeaseState::Finished,
            LeaseOutcome::Failed(reason) => {
                lease.state = LeaseState::Failed(reason);
                self.close();
            }
        }
        0
    }

    fn job(&self) -> JobView {
        JobView {
            id: JOB,
            owner: AccountId([0; 20]),
            name: "job".into(),
            state: JobState::Running,
            status: String::new(),
            why: JobReason::Preparing,
            reason: String::new(),
            spec: String::new(),
            submitted: TimeMs(0),
            started: None,
            ended: None,
            budget: Credits::ZERO,
            escrow: Credits::ZERO,
            paid: Credits::ZERO,
            leases: self.leases.clone(),
            result: None,
            checkpoint: self.checkpoint.clone(),
        }
    }

    fn machine(&self, id: MachineId) -> MachineView {
        let key = self.machines.iter().find(|key| MachineId::from_key(&key.public()) == id).unwrap();
        let text = String::new;
        MachineView {
            id,
            owner: AccountId([0; 20]),
            key: key.public(),
            nonce: self.nonces.get(&id).copied().unwrap_or(0),
            config: MachineConfig {
                name: text(),
                platform: text(),
                cpu: text(),
                gpu: text(),
                host: Hash::default(),
                resources: Resources::default(),
                speed: 1,
                trainer: text(),
            },
            offer: None,
            pending: None,
            state: MachineState::Idle,
            why: MachineReason::Ready,
            reason: text(),
            used: Resources::default(),
            reliability: 1_000,
            observed_speed: 0,
            leases_finished: 0,
            leases_lost: 0,
            leases: vec![],
            earned: Credits::ZERO,
        }
    }
}

async fn answer(State(shared): State<Arc<Mutex<Fake>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut fake = shared.lock().unwrap();
    let path = uri.path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    if fake.down {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "busy", true);
    }
    match (method, &parts[..]) {
        (Method::GET, ["network"]) => {
            json(Network { peer: fake.peer.clone(), gateways: vec![fake.url.clone()], heartbeat_ms: 300, receipt_ms: 400 })
        }
        (Method::GET, ["status"]) => json(Status {
            name: "stand-in".into(),
            chain: chain(),
            height: Height(fake.receipts.len() as u64),
            time: TimeMs(0),
            block: Hash::default(),
            state_root: Hash::default(),
            validator: "v".into(),
            validators: 1,
            mempool: 0,
            version: "0".into(),
        }),
        (Method::GET, ["machines", id]) => json(fake.machine(id.parse().unwrap())),
        (Method::GET, ["machines", id, "leases"]) => json(fake.assignments_of(id.parse().unwrap())),
        (Method::GET, ["jobs", _]) if fake.lags => refuse(StatusCode::NOT_FOUND, "unknown_job", false),
        (Method::GET, ["jobs", _]) => json(fake.job()),
        (Method::POST, ["transactions"]) => {
            let verified = Transaction::verify_bytes(&body, &chain()).unwrap();
            let id = verified.id();
            let code = fake.apply(verified.into_inner());
            let message = if code == 0 { String::new() } else { format!("code {code}") };
            json(TransactionStatus { id, height: Some(Height(1)), index: Some(0), code: Some(code), message, transaction: None })
        }
        (Method::POST, ["jobs", _, "progress"]) => {
            let batch: ProgressBatch = serde_json::from_slice(&body).unwrap();
            let key = fake.machines.iter().find(|key| MachineId::from_key(&key.public()) == batch.machine).unwrap().public();
            key.verify(Domain::Request, &chain(), &progress_content(JOB, &batch.entries), &batch.signature).unwrap();
            for entry in serde_json::from_str::<Vec<Progress>>(&batch.entries).unwrap() {
                if fake.reported.insert((entry.rank, entry.sequence)) {
                    fake.progress.push(entry);
                }
            }
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::PUT, ["blobs", hash]) => {
            let hash: Hash = hash.parse().unwrap();
            assert_eq!(Hash::of(&body), hash);
            if fake.full {
                fake.refused += 1;
                return refuse(StatusCode::INSUFFICIENT_STORAGE, "storage_full", true);
            }
            fake.blobs.insert(hash, body);
            StatusCode::NO_CONTENT.into_response()
        }
        (method, _) => panic!("{method} {path}"),
    }
}

fn json(value: impl Serialize) -> Response {
    Json(value).into_response()
}

fn refuse(status: StatusCode, name: &str, retryable: bool) -> Response {
    let (message, hint) = ("refused".into(), String::new());
    (status, Json(ErrorBody { code: 5000, name: name.into(), message, hint, retryable })).into_response()
}
