//! The stand-in gateway: one machine, and jobs of one worker each.

use std::{
    collections::BTreeSet,
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
    Assignment, JobView, LeaseView, MachineView, Network, Peer, Progress, ProgressBatch, ProgressKind, RankView, Status,
    TransactionStatus,
};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{
    AccountId, Action, ChainId, Credits, Hash, Height, JobId, JobReason, JobState, LeaseId, LeaseOutcome, LeaseState,
    MachineConfig, MachineId, MachineReason, MachineState, PublicKey, Receipt, Resources, SecretKey, TimeMs, Transaction,
};

pub fn chain() -> ChainId {
    Hash::of(b"stand-in chain")
}

pub struct Gateway {
    pub url: String,
    net: Net,
    shared: Arc<Mutex<Fake>>,
}

/// What the stand-in knows.
struct Fake {
    url: String,
    net: Net,
    key: PublicKey,
    nonce: u64,
    addresses: Vec<String>,
    leases: Vec<Lease>,
    results: BTreeSet<Hash>,
}

/// A job and its only lease; both have the number of their place, from 1.
struct Lease {
    spec: String,
    receipts: Vec<Receipt>,
    logs: Vec<String>,
}

impl Lease {
    fn sequence(&self) -> u32 {
        self.receipts.last().map_or(0, |receipt| receipt.sequence)
    }

    fn outcome(&self) -> Option<LeaseOutcome> {
        self.receipts.last().map(|receipt| receipt.outcome).filter(|outcome| *outcome != LeaseOutcome::Running)
    }

    fn state(&self) -> LeaseState {
        match self.outcome() {
            None | Some(LeaseOutcome::Running) => LeaseState::Active,
            Some(LeaseOutcome::Finished(_)) => LeaseState::Finished,
            Some(LeaseOutcome::Failed(reason)) => LeaseState::Failed(reason),
        }
    }
}

impl Gateway {
    pub async fn start(machine: &SecretKey, folder: &Path) -> Gateway {
        let key = SecretKey::from_seed([99; 32]);
        let net = Net::start(NetConfig { key, listen: vec![], blobs: folder.to_owned(), chain: chain() }).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake {
            url: url.clone(),
            net: net.clone(),
            key: machine.public(),
            nonce: 0,
            addresses: Vec::new(),
            leases: Vec::new(),
            results: BTreeSet::new(),
        };
        let shared = Arc::new(Mutex::new(fake));
        let app = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Gateway { url, net, shared }
    }

    fn state(&self) -> MutexGuard<'_, Fake> {
        self.shared.lock().unwrap()
    }

    /// Stores a blob.
    pub fn put(&self, blob: &[u8]) -> Hash {
        self.net.blobs().put(blob).unwrap()
    }

    /// Gives the machine a lease of a new job.
    pub fn lease(&self, spec: &[u8]) -> usize {
        let mut state = self.state();
        state.leases.push(Lease { spec: hex::encode(spec), receipts: Vec::new(), logs: Vec::new() });
        state.leases.len()
    }

    pub fn receipts(&self, lease: usize) -> Vec<Receipt> {
        self.state().leases[lease - 1].receipts.clone()
    }

    pub fn outcome(&self, lease: usize) -> Option<LeaseOutcome> {
        self.state().leases[lease - 1].outcome()
    }

    pub fn logs(&self, lease: usize) -> Vec<String> {
        self.state().leases[lease - 1].logs.clone()
    }

    /// Different results of jobs.
    pub fn results(&self) -> usize {
        self.state().results.len()
    }
}

impl Fake {
    fn machine_id(&self) -> MachineId {
        MachineId::from_key(&self.key)
    }

    fn assignments(&self) -> Vec<Assignment> {
        let numbered = (1..).zip(&self.leases).filter(|(_, lease)| lease.state() == LeaseState::Active);
        let assignment = |(number, lease): (u64, &Lease)| {
            let member = RankView {
                rank: 0,
                lease: LeaseId(number),
                machine: self.machine_id(),
                key: self.key,
                addresses: self.addresses.clone(),
                speed: 1,
            };
            let is_ready = lease.sequence() > 0;
            Assignment {
                lease: LeaseId(number),
                job: JobId(number),
                rank: 0,
                sequence: lease.sequence(),
                spec: lease.spec.clone(),
                seed: Hash::of(b"seed"),
                resources: Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 0 },
                generation: u32::from(is_ready),
                members: is_ready.then_some(member).into_iter().collect(),
                world: 1,
                checkpoint: None,
            }
        };
        numbered.map(assignment).collect()
    }

    fn apply(&mut self, transaction: Transaction) -> u16 {
        match transaction.body.action {
            Action::Heartbeat { addresses } => {
                if transaction.body.nonce != self.nonce {
                    return 2004;
                }
                self.nonce += 1;
                self.addresses = addresses.unwrap_or(std::mem::take(&mut self.addresses));
                0
            }
            Action::Receipt(receipt) => {
                let lease = &mut self.leases[receipt.lease.0 as usize - 1];
                if receipt.sequence <= lease.sequence() {
                    return if lease.receipts.contains(&receipt) { 2073 } else { 2075 };
                }
                assert_eq!(lease.state(), LeaseState::Active);
                if let LeaseOutcome::Finished(result) = receipt.outcome {
                    self.results.insert(result);
                }
                lease.receipts.push(receipt);
                0
            }
            other => panic!("{}", other.name()),
        }
    }

    fn job(&self, id: JobId) -> JobView {
        let lease = &self.leases[id.0 as usize - 1];
        let view = LeaseView {
            id: LeaseId(id.0),
            job: id,
            rank: 0,
            machine: self.machine_id(),
            owner: AccountId([0; 20]),
            state: lease.state(),
            started: TimeMs(0),
            sequence: lease.sequence(),
            rounds: 0,
            samples: 0,
            cpu_ms: 0,
            paid: Credits::ZERO,
            paid_ms: 0,
            held: Credits::ZERO,
            forfeited: Credits::ZERO,
            parameters: None,
        };
        JobView {
            id,
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
            leases: vec![view],
            result: None,
            checkpoint: None,
            generation: 1,
            members: vec![LeaseId(id.0)],
            failures: 0,
            audit_permille: 0,
            fees: Credits::ZERO,
        }
    }

    fn machine(&self) -> MachineView {
        let text = String::new;
        MachineView {
            id: self.machine_id(),
            owner: AccountId([0; 20]),
            key: self.key,
            nonce: self.nonce,
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
            held: Credits::ZERO,
            vests: None,
            auditing: None,
            audits_passed: 0,
            strikes: 0,
        }
    }
}

async fn answer(State(shared): State<Arc<Mutex<Fake>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut fake = shared.lock().unwrap();
    let path = uri.path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (method, &parts[..]) {
        (Method::GET, ["network"]) => {
            let peer = Peer { peer_id: fake.net.peer_id(), addresses: fake.net.addresses() };
            Json(Network { peer, gateways: vec![fake.url.clone()], heartbeat_ms: 300, receipt_ms: 400 }).into_response()
        }
        (Method::GET, ["status"]) => Json(Status {
            name: "stand-in".into(),
            chain: chain(),
            height: Height(1),
            time: TimeMs(0),
            block: Hash::default(),
            state_root: Hash::default(),
            validator: "v".into(),
            validators: 1,
            mempool: 0,
            version: "0".into(),
        })
        .into_response(),
        (Method::GET, ["machines", _]) => Json(fake.machine()).into_response(),
        (Method::GET, ["machines", _, "leases"]) => Json(fake.assignments()).into_response(),
        (Method::GET, ["jobs", id]) => Json(fake.job(id.parse().unwrap())).into_response(),
        (Method::POST, ["transactions"]) => {
            let verified = Transaction::verify_bytes(&body, &chain()).unwrap();
            let id = verified.id();
            let code = fake.apply(verified.into_inner());
            let message = if code == 0 { String::new() } else { format!("code {code}") };
            let status =
                TransactionStatus { id, height: Some(Height(1)), index: Some(0), code: Some(code), message, transaction: None };
            Json(status).into_response()
        }
        (Method::POST, ["jobs", id, "progress"]) => {
            let batch: ProgressBatch = serde_json::from_slice(&body).unwrap();
            let id: JobId = id.parse().unwrap();
            for entry in serde_json::from_str::<Vec<Progress>>(&batch.entries).unwrap() {
                if let ProgressKind::Log { line } = entry.kind {
                    fake.leases[id.0 as usize - 1].logs.push(line);
                }
            }
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::HEAD, ["blobs", hash]) => match fake.net.blobs().bytes(&hash.parse().unwrap()) {
            Some(_) => StatusCode::OK.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        (Method::PUT, ["blobs", hash]) => {
            fake.net.blobs().put_verified(&hash.parse().unwrap(), &body).unwrap();
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::GET, ["machines", _, "audits"]) => Json(Vec::<u8>::new()).into_response(),
        (method, _) => panic!("{method} {path}"),
    }
}
