//! The stand-in gateway: one job, its leases and members, the rules about receipts that matter to an agent, and switches to break
//! it.

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
    Assignment, AuditDuty, AuditTask, DisclosedView, ErrorBody, JobView, LeaseView, MachineView, Network, Peer, Progress,
    ProgressBatch, ProgressKind, RankView, Status, TransactionStatus, progress_content,
};
use deepmarket_job::{DatasetManifest, Features, JobSpec, Shard, Split, Targets};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{
    AccountId, Action, AuditId, Availability, ChainId, ChangeMode, Checkpoint, CommitmentPlace, Credits, Disclosure, Domain,
    Hash, Height, JobId, JobReason, JobState, LeaseId, LeaseOutcome, LeaseState, MachineConfig, MachineId, MachineReason,
    MachineState, Offer, Receipt, Resources, SecretKey, TimeMs, Transaction, UnitPrices,
};
use serde::Serialize;

pub const JOB: JobId = JobId(7);
/// How long a duty waits.
const DUTY_MS: u64 = 60_000;

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
    net: Net,
    url: String,
    peer: Peer,
    machines: Vec<SecretKey>,
    nonces: BTreeMap<MachineId, u64>,
    pub addresses: BTreeMap<MachineId, Vec<String>>,
    spec: String,
    generation: u32,
    /// Indexes of leases.
    members: Vec<usize>,
    /// Whom the members' last receipts named.
    missing: BTreeMap<usize, LeaseId>,
    /// What the first finished one reported.
    result: Option<Hash>,
    pub leases: Vec<LeaseView>,
    pub receipts: Vec<Receipt>,
    pub progress: Vec<Progress>,
    reported: BTreeSet<(u32, u64)>,
    pub blobs: BTreeMap<Hash, Bytes>,
    manifest: Hash,
    /// So many of a thousand receipts are audited: rounds are kept.
    pub audit_permille: u32,
    /// The last checkpoint that receipts named.
    checkpoint: Option<Checkpoint>,
    /// All audits that were drawn, as what the worker has to do in them, and what machines have to do now.
    pub audits: BTreeMap<AuditId, AuditDuty>,
    pub duties: Vec<(MachineId, AuditDuty)>,
    /// What machines said in audits.
    pub said: Vec<(MachineId, Action)>,
    /// Machines that compute other bits than the others.
    pub other_class: BTreeSet<MachineId>,
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
        let manifest = put_data(&net, &[4], 12);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake {
            net: net.clone(),
            url: url.clone(),
            peer: Peer { peer_id: net.peer_id(), addresses: net.addresses() },
            machines: machines.to_vec(),
            nonces: BTreeMap::new(),
            addresses: BTreeMap::new(),
            spec: String::new(),
            generation: 0,
            members: Vec::new(),
            missing: BTreeMap::new(),
            result: None,
            leases: Vec::new(),
            receipts: Vec::new(),
            progress: Vec::new(),
            reported: BTreeSet::new(),
            blobs: BTreeMap::new(),
            manifest,
            audit_permille: 50,
            checkpoint: None,
            audits: BTreeMap::new(),
            duties: Vec::new(),
            said: Vec::new(),
            other_class: BTreeSet::new(),
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

    /// Matches a job with the first machines. Its name says how the stand-in trainers behave, and what kind it is.
    pub fn submit_job(&self, name: &str, workers: usize) {
        let mut state = self.state();
        let mode = match name {
            "real-local" => "{ local = { steps = 2 } }",
            "real-async" => "{ async = { staleness = 2 } }",
            _ => "\"sync\"",
        };
        // The demo's network, with two classes.
        let (input, layers, batch, epochs) = match name {
            "real-cnn" | "real-local" => {
                state.manifest = put_data(&self.net, &[1, 28, 28], 240);
                let of = |out: u32| format!("{{ conv2d = {{ out = {out}, kernel = 3, padding = 1 }} }}, {{ relu = {{}} }}");
                let pool = "{ max_pool2d = { kernel = 2 } }";
                let layers = format!("{}, {pool}, {}, {pool}, {{ flatten = {{}} }}, ", of(16), of(32));
                // Of rounds of so many multiply-adds each step is traced.
                if name == "real-cnn" { ("[1, 28, 28]", layers, 192, 8) } else { ("[1, 28, 28]", layers, 16, 3) }
            }
            _ => ("[4]", String::new(), 6, 3),
        };
        let kind = if name == "predict" { "predict" } else { "train" };
        let model = match kind {
            "predict" => format!("parameters = \"{}\"", self.net.blobs().put(&[0; 200]).unwrap()),
            _ => String::new(),
        };
        let toml = format!(
            r#"
            name = "{name}"
            kind = "{kind}"
            [workers]
            min = 1
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
            input = {input}
            layers = [{layers}{{ linear = {{ out = 2 }} }}]
            {model}
            [training]
            loss = "cross_entropy"
            optimizer = {{ sgd = {{ lr = 1e-2 }} }}
            batch = {batch}
            epochs = {epochs}
            seed = 1
            mode = {mode}
            [recovery]
            checkpoint_rounds = 4
            "#,
            state.manifest
        );
        let spec = JobSpec::from_toml(&toml, &|_| None).unwrap();
        state.spec = hex::encode(spec.to_bytes());
        (0..workers).for_each(|machine| state.lease(machine));
    }
}

/// Samples of a shape in 5 shards to train on, 40 in 4 to evaluate on.
fn put_data(net: &Net, shape: &[u32], samples: u64) -> Hash {
    let split = |name: &str, shards: u64, samples: u64| {
        let shards: Vec<Shard> = (0..shards)
            .map(|number| {
                let bytes = shard(number + 10 * name.len() as u64, samples, shape);
                Shard { hash: net.blobs().put(&bytes).unwrap(), bytes: bytes.len() as u64, samples }
            })
            .collect();
        Split { name: name.into(), samples: samples * shards.len() as u64, shards }
    };
    let manifest = DatasetManifest {
        name: "stand-in".into(),
        shape: shape.to_vec(),
        x: Features::F32,
        y: Targets::Class { classes: 2 },
        splits: vec![split("train", 5, samples), split("test", 4, 10)],
    };
    net.blobs().put(&manifest.to_bytes()).unwrap()
}

/// A safetensors file of some samples of two classes.
fn shard(number: u64, samples: u64, shape: &[u32]) -> Vec<u8> {
    let floats = samples * shape.iter().map(|length| u64::from(*length)).product::<u64>();
    let x = (0..floats).flat_map(|n| (((n * 37 + number * 11) % 64) as f32 / 32.0 - 1.0).to_le_bytes());
    let y = (0..samples).map(|n| ((n + number) % 2) as u8);
    let of_x: Vec<u64> = [samples].into_iter().chain(shape.iter().map(|length| u64::from(*length))).collect();
    let header = serde_json::json!({
        "x": { "dtype": "F32", "shape": of_x, "data_offsets": [0, 4 * floats] },
        "y": { "dtype": "U8", "shape": [samples], "data_offsets": [4 * floats, 4 * floats + samples] },
    });
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    (header.len() as u64).to_le_bytes().into_iter().chain(header).chain(x).chain(y).collect()
}

impl Fake {
    /// Gives a machine a lease of the job.
    pub fn lease(&mut self, machine: usize) {
        let rank = self.leases.len() as u32;
        self.leases.push(LeaseView {
            id: LeaseId(u64::from(rank) + 1),
            job: JOB,
            rank,
            machine: MachineId::from_key(&self.machines[machine].public()),
            owner: AccountId([0; 20]),
            state: LeaseState::Active,
            started: TimeMs(0),
            sequence: 0,
            rounds: 0,
            samples: 0,
            cpu_ms: 0,
            paid: Credits::ZERO,
            held: Credits::ZERO,
            forfeited: Credits::ZERO,
            paid_ms: 0,
            parameters: None,
        });
    }

    /// The ledger's rules in short: ready leases become members, at the start once all are ready.
    fn admit(&mut self) {
        let active: Vec<usize> = (0..self.leases.len()).filter(|i| self.leases[*i].state == LeaseState::Active).collect();
        let ready = |i: &usize| self.leases[*i].sequence > 0;
        if self.members.is_empty() && !active.iter().all(ready) {
            return;
        }
        let new: Vec<usize> = active.iter().copied().filter(ready).filter(|i| !self.members.contains(i)).collect();
        if !new.is_empty() {
            self.members.extend(new);
            self.generation += 1;
        }
    }

    /// Ends a lease.
    pub fn leave(&mut self, index: usize, state: LeaseState) {
        self.leases[index].state = state;
        if self.members.contains(&index) {
            self.members.retain(|member| *member != index);
            self.generation += 1;
        }
        self.missing.remove(&index);
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    pub fn receipts_of_each_rank(&self, count: usize) -> bool {
        (0..3).all(|rank| self.receipts.iter().filter(|r| r.rank == rank && r.rounds > 0).count() >= count)
    }

    pub fn progress_of(&self, wanted: impl Fn(&ProgressKind) -> bool) -> usize {
        self.progress.iter().filter(|entry| wanted(&entry.kind)).count()
    }

    /// The different checkpoints that receipts named, in order.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let mut named: Vec<Checkpoint> = self.receipts.iter().filter_map(|receipt| receipt.checkpoint).collect();
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
        let member = |index: &usize| {
            let lease = &self.leases[*index];
            let key = self.machines.iter().find(|key| MachineId::from_key(&key.public()) == lease.machine).unwrap().public();
            let addresses = self.addresses[&lease.machine].clone();
            RankView { rank: lease.rank, lease: lease.id, machine: lease.machine, key, addresses, speed: 1 }
        };
        let active = self.leases.iter().filter(|lease| lease.machine == machine && lease.state == LeaseState::Active);
        let assignment = |lease: &LeaseView| Assignment {
            lease: lease.id,
            job: JOB,
            rank: lease.rank,
            sequence: lease.sequence,
            spec: self.spec.clone(),
            seed: Hash::of(b"seed"),
            resources: Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 0 },
            generation: self.generation,
            members: self.members.iter().map(member).collect(),
            world: 3,
            checkpoint: self.checkpoint,
        };
        active.filter(|_| !self.lags).map(assignment).collect()
    }

    fn apply(&mut self, transaction: Transaction) -> u16 {
        let machine = MachineId::from_key(&transaction.body.signer);
        match transaction.body.action.clone() {
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
            Action::Disclose(disclosure) => {
                self.disclose(machine, &disclosure);
                self.hear(machine, disclosure.audit, Action::Disclose(disclosure));
                0
            }
            Action::Commit { audit, .. } | Action::Reveal { audit, .. } | Action::Trace { audit, .. } => {
                self.hear(machine, audit, transaction.body.action);
                0
            }
            other => panic!("{}", other.name()),
        }
    }

    fn hear(&mut self, machine: MachineId, audit: AuditId, action: Action) {
        self.duties.retain(|(of, duty)| (*of, duty.audit) != (machine, audit));
        self.said.push((machine, action));
    }

    /// Draws a commitment of a rank's receipts: its machine has to open it.
    pub fn draw(&mut self, rank: u32, index: u64) -> AuditId {
        let of_rank: Vec<Receipt> = self.receipts.iter().filter(|r| r.rank == rank).copied().collect();
        let at = of_rank.iter().position(|r| r.committed > index).expect("a receipt covers it");
        let (with, before) = (of_rank[at], at.checked_sub(1).map(|before| of_rank[before]));
        let lease = self.leases[with.lease.0 as usize - 1].clone();
        let audit = AuditId(self.audits.len() as u64 + 1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let duty = AuditDuty {
            audit,
            task: AuditTask::Disclose,
            deadline: TimeMs(now + DUTY_MS),
            job: JOB,
            lease: with.lease,
            rank,
            machine: lease.machine,
            sequence: with.sequence,
            index,
            committed: (before.map_or(0, |r| r.committed), with.committed),
            commitments: with.commitments,
            rounds: (before.map_or(0, |r| r.rounds), with.rounds),
            samples: (before.map_or(0, |r| r.samples), with.samples),
            parameters: (before.map(|r| r.parameters), with.parameters),
            same_class: true,
            resources: Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 0 },
            spec: self.spec.clone(),
            seed: Hash::of(b"seed"),
            world: 3,
            leases: self.leases.iter().map(|lease| (lease.rank, lease.id)).collect(),
            disclosed: None,
            finding: None,
            worker_trace: None,
            disputed: None,
        };
        self.audits.insert(audit, duty.clone());
        self.duties.push((lease.machine, duty));
        audit
    }

    /// As the ledger does it.
    fn disclose(&mut self, machine: MachineId, disclosure: &Disclosure) {
        assert!(self.blobs.contains_key(&disclosure.evidence), "it is stored before it is told");
        let duty = self.audits.get_mut(&disclosure.audit).unwrap();
        let (place, count) = (CommitmentPlace { chain: chain(), job: JOB, lease: duty.lease, rank: duty.rank }, duty.committed.1);
        assert_eq!(duty.machine, machine);
        let Disclosure { commitment, proof, last, salt, evidence, .. } = disclosure;
        assert_eq!(proof.root(&commitment.leaf(&place), duty.index, count), Some(duty.commitments));
        assert_eq!(last.is_none(), duty.index + 1 == count);
        let total = match last {
            Some((last, proof)) => {
                assert_eq!(proof.root(&last.leaf(&place), count - 1, count), Some(duty.commitments));
                last.total_samples
            }
            None => commitment.total_samples,
        };
        assert_eq!(total, duty.samples.1, "the receipt's samples");
        duty.disclosed = Some(DisclosedView { commitment: *commitment, salt: *salt, evidence: *evidence });
    }

    /// As the ledger does it (`chain/ledger/src/receipt.rs`).
    fn receipt(&mut self, machine: MachineId, receipt: Receipt) -> u16 {
        let index = receipt.lease.0 as usize - 1;
        let lease = &mut self.leases[index];
        assert_eq!((lease.machine, lease.rank), (machine, receipt.rank));
        if receipt.sequence <= lease.sequence {
            let same = self.receipts.contains(&receipt);
            assert!(same || receipt.sequence < lease.sequence, "an agent never equivocates");
            return if same { 2073 } else { 2075 };
        }
        if lease.state != LeaseState::Active {
            return 2077;
        }
        assert!(receipt.rounds >= lease.rounds && receipt.samples >= lease.samples && receipt.cpu_ms >= lease.cpu_ms);
        assert!(receipt.from <= receipt.rounds);
        (lease.sequence, lease.rounds, lease.samples) = (receipt.sequence, receipt.rounds, receipt.samples);
        if let Some(checkpoint) = receipt.checkpoint.filter(|_| self.members.first() == Some(&index)) {
            self.checkpoint = self.checkpoint.filter(|kept| kept.rounds >= checkpoint.rounds).or(Some(checkpoint));
        }
        self.receipts.push(receipt);
        match receipt.missing {
            Some(missing) => self.missing.insert(index, missing),
            None => self.missing.remove(&index),
        };
        match receipt.outcome {
            LeaseOutcome::Running => self.admit(),
            LeaseOutcome::Finished(result) => {
                assert_eq!(*self.result.get_or_insert(result), result, "all report the same result");
                self.leave(index, LeaseState::Finished);
                if self.members.is_empty() {
                    self.close();
                }
            }
            LeaseOutcome::Failed(reason) => self.leave(index, LeaseState::Failed(reason)),
        }
        if let Some(missing) = receipt.missing {
            let blamed = self.missing.values().filter(|lease| **lease == missing).count();
            if 2 * blamed > self.members.len() {
                self.leave(missing.0 as usize - 1, LeaseState::Lost);
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
            fees: Credits::ZERO,
            audit_permille: self.audit_permille,
            leases: self.leases.clone(),
            result: None,
            checkpoint: self.checkpoint,
            generation: self.generation,
            members: self.members.iter().map(|index| self.leases[*index].id).collect(),
            failures: 0,
        }
    }

    fn machine(&self, id: MachineId) -> MachineView {
        let key = self.machines.iter().find(|key| MachineId::from_key(&key.public()) == id).unwrap();
        let text = String::new;
        let number = self.machines.iter().position(|other| other.public() == key.public()).unwrap() as u8;
        let class = if self.other_class.contains(&id) { "another class" } else { "class" };
        MachineView {
            id,
            owner: AccountId([number; 20]),
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
                trainer: class.into(),
            },
            offer: Some(Offer {
                resources: Resources::default(),
                availability: Availability::default(),
                minimum: UnitPrices::default(),
                at_close: ChangeMode::default(),
            }),
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
        (Method::GET, ["machines"]) => {
            let all = fake.machines.iter().map(|key| fake.machine(MachineId::from_key(&key.public())));
            json(all.collect::<Vec<_>>())
        }
        (Method::GET, ["machines", id, "audits"]) => {
            let machine: MachineId = id.parse().unwrap();
            let of_machine = fake.duties.iter().filter(|(of, _)| *of == machine);
            json(of_machine.map(|(_, duty)| duty.clone()).collect::<Vec<_>>())
        }
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
        (Method::GET, ["blobs", hash]) => {
            let hash: Hash = hash.parse().unwrap();
            match fake.blobs.get(&hash).cloned().or_else(|| fake.net.blobs().get(&hash).ok().flatten().map(Bytes::from)) {
                Some(bytes) => bytes.into_response(),
                None => refuse(StatusCode::NOT_FOUND, "unknown_blob", false),
            }
        }
        (Method::HEAD, ["blobs", hash]) => match fake.blobs.contains_key(&hash.parse().unwrap()) {
            true => StatusCode::OK.into_response(),
            false => StatusCode::NOT_FOUND.into_response(),
        },
        (Method::PUT, ["blobs", hash]) => {
            let hash: Hash = hash.parse().unwrap();
            assert_eq!(Hash::of(&body), hash);
            if fake.full {
                fake.refused += 1;
                return refuse(StatusCode::INSUFFICIENT_STORAGE, "storage_full", true);
            }
            fake.net.blobs().put_verified(&hash, &body).unwrap();
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
