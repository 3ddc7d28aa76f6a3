//! A market for tests: makes blocks, signs nothing, and checks after every block what must always hold.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use deepmarket_job::JobSpec;
use deepmarket_ledger::{Applied, DynamicPricing, GenesisState, Ledger, Params, PricePolicy};
use deepmarket_types::*;

pub const REGISTRAR: PublicKey = PublicKey([200; 32]);
pub const VALIDATOR: PublicKey = PublicKey([201; 32]);
/// Block time of height 0: a midnight of the test market, whose day has four slots of a minute.
pub const START: u64 = 1_000_000 * 240_000;
pub const MINUTE: u64 = 60_000;

pub fn params() -> Params {
    let all = |micro| UnitPrices {
        core_hour: Credits::from_micro(micro),
        gpu_hour: Credits::from_micro(micro),
        ram_gib_hour: Credits::from_micro(micro / 4),
        disk_gib_hour: Credits::from_micro(micro / 100),
    };
    Params {
        starting_credits: Credits::from_credits(50),
        slots: SlotClock { slot_ms: MINUTE, utc_offset_ms: 0 },
        price_policy: PricePolicy::Random,
        price_floor: all(1_000_000),
        price_ceiling: all(4_000_000),
        receipt_ms: 10_000,
        heartbeat_ms: 3_000,
        contact_timeout_ms: 10_000,
        contact_step_ms: 2_000,
        idle_block_ms: 5_000,
        audit: Default::default(),
        unique_hosts: true,
        max_open_jobs_per_account: 4,
        max_machines_per_account: 3,
        max_queued_jobs: 6,
    }
}

/// What one core, one GiB of memory and one GiB of disk cost for one second: all of it, a fifth and a hundredth, in microcredits.
pub fn per_second(core: u64) -> UnitPrices {
    let hour = |micro: u64| Credits::from_micro(3_600 * micro);
    UnitPrices { core_hour: hour(core), gpu_hour: Credits::ZERO, ram_gib_hour: hour(core / 5), disk_gib_hour: hour(core / 100) }
}

/// The slots of every day at these prices of a core for one second: dynamic prices that nothing moves.
pub fn with_fixed_prices(cores: [u64; 4]) -> Params {
    let first = Some(cores.map(per_second));
    let still =
        DynamicPricing { target_permille: 1_000, gain_permille: 0, weight_permille: 1_000, max_change_permille: 0, first };
    Params {
        price_policy: PricePolicy::Dynamic(still),
        price_floor: UnitPrices::default(),
        price_ceiling: per_second(10_000),
        ..params()
    }
}

pub fn genesis(params: Params) -> GenesisState {
    let chain = Hash::of(b"the test market");
    GenesisState { chain, time: TimeMs(START), params, validators: vec![VALIDATOR], registrars: vec![REGISTRAR] }
}

/// The key of a person or of a machine. Nothing is verified in these tests, so any bytes will do.
pub fn person(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

pub fn machine_key(number: u8) -> PublicKey {
    let mut bytes = [77; 32];
    bytes[0] = number;
    PublicKey(bytes)
}

pub fn machine(number: u8) -> MachineId {
    MachineId::from_key(&machine_key(number))
}

pub fn account(number: u8) -> AccountId {
    AccountId::from_key(&person(number))
}

pub fn cores(cores: u32) -> Resources {
    Resources { cores, gpus: 0, ram_mib: 1024 * u64::from(cores), disk_mib: 4096 * u64::from(cores) }
}

/// The physical machine of a machine's number: one each.
pub fn host(number: u8) -> Hash {
    Hash::of(&[number])
}

pub fn config(number: u8, resources: Resources, speed: u64) -> MachineConfig {
    let text = |text: &str| text.to_string();
    let (platform, cpu, gpu, trainer) = (text("linux x86_64"), text("test"), String::new(), text("1"));
    MachineConfig { name: text("machine"), platform, cpu, gpu, host: host(number), resources, speed, trainer }
}

/// Always, at any price; leases go on to their end.
pub fn offer(resources: Resources) -> Offer {
    let (availability, minimum) = (Availability::default(), UnitPrices::default());
    Offer { resources, availability, minimum, at_close: ChangeMode::AfterLease }
}

/// Hours of every day of the test market, from a minute (of 1440) to another one.
pub fn hours(from_minute: u16, to_minute: u16) -> Availability {
    Availability { hours: Some(DailyHours { from_minute, to_minute }), ..Availability::default() }
}

/// The key of a one-time code.
pub fn code(number: u8) -> PublicKey {
    let mut bytes = [99; 32];
    bytes[0] = number;
    PublicKey(bytes)
}

pub fn join(code: PublicKey, config: MachineConfig) -> Action {
    Action::Join { code, config, proof: Signature([0; 64]) }
}

const SPEC: &str = r#"
name = "job"
kind = "train"
[workers]
min = 1
max = 1
ram_mib = 1024
disk_mib = 1024
[budget]
max_credits = 1
[data]
manifest = "data"
train = "train"
validate = "test"
[model]
input = [4]
layers = [{ linear = { out = 2 } }]
[training]
loss = "cross_entropy"
optimizer = { sgd = { lr = 0.001 } }
batch = 8
epochs = 2
seed = 7
"#;

/// A small job: `min` to `max` workers of one core; it survives two failures.
pub fn spec(min: u32, max: u32, budget_micro: u64) -> JobSpec {
    static READ: std::sync::LazyLock<JobSpec> =
        std::sync::LazyLock::new(|| JobSpec::from_toml(SPEC, &|_| Some(Hash::of(b"data"))).expect("a sound spec"));
    let mut spec = READ.clone();
    (spec.workers.min, spec.workers.max) = (min, max);
    spec.budget.max = Credits::from_micro(budget_micro);
    spec.recovery.restarts = 2;
    spec
}

pub fn transaction(signer: PublicKey, nonce: u64, expires: Height, action: Action) -> VerifiedTransaction {
    let body = TransactionBody { signer, nonce, expires, action };
    VerifiedTransaction::assume_verified(Transaction { version: Transaction::VERSION, body, signature: Signature([0; 64]) })
}

pub fn voucher(number: u8, expires: TimeMs) -> Voucher {
    let identity = Hash::of(&[number]);
    Voucher { registrar: REGISTRAR, identity, key: person(number), expires, signature: Signature([0; 64]) }
}

pub fn receipt(lease: &deepmarket_ledger::Lease, sequence: u32, outcome: LeaseOutcome) -> Receipt {
    Receipt {
        job: lease.job,
        lease: lease.id,
        rank: lease.rank,
        sequence,
        from: 0,
        rounds: 10 * u64::from(sequence),
        samples: 1_000_000 * u64::from(sequence),
        cpu_ms: 1_000 * u64::from(sequence),
        parameters: Hash::of(&sequence.to_le_bytes()),
        commitments: Hash::of(b"commitments"),
        committed: 0,
        loss_micro: 500_000,
        checkpoint: None,
        missing: None,
        outcome,
    }
}

/// A ledger, and what a validator beside it would hold: the stored entries, and the purses as the events tell them.
#[derive(Clone)]
pub struct Market {
    pub ledger: Ledger,
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    purses: BTreeMap<(AccountId, Purse), i128>,
    /// Check the whole state after each block.
    pub thorough: bool,
    /// Validators that take turns and show the beacon's links; none: blocks are [`VALIDATOR`]'s, which has no chain of hashes.
    pub keys: Vec<SecretKey>,
    /// The proposer of the next block holds its link back.
    pub holds_back: bool,
    /// The next validator makes the next block: that whose turn it is lets it pass.
    pub passes: bool,
}

impl Market {
    pub fn new(params: Params) -> Market {
        Market::validated(params, 0)
    }

    /// A market with so many validators that show the beacon's links.
    pub fn validated(params: Params, validators: u8) -> Market {
        let mut keys: Vec<SecretKey> = (0..validators).map(|number| SecretKey::from_seed([100 + number; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        let mut genesis = genesis(params);
        if !keys.is_empty() {
            genesis.validators = keys.iter().map(SecretKey::public).collect();
        }
        let (ledger, writes) = Ledger::genesis(&genesis);
        let entries = writes.into_iter().map(|(key, value)| (key, value.expect("genesis removes nothing"))).collect();
        Market { ledger, entries, purses: BTreeMap::new(), thorough: true, keys, holds_back: false, passes: false }
    }

    /// The key of the validator that makes the next block.
    fn turn(&self) -> Option<&SecretKey> {
        let turn = self.ledger.height().next().0 + u64::from(self.passes);
        self.keys.get(turn.checked_rem(self.keys.len() as u64)? as usize)
    }

    /// The validator that makes the next block.
    pub fn proposer(&self) -> PublicKey {
        self.turn().map_or(VALIDATOR, SecretKey::public)
    }

    pub fn header(&self, time: TimeMs, transactions: &[VerifiedTransaction]) -> Header {
        let link = self.turn().filter(|_| !self.holds_back).map(|key| self.ledger.next_link(key));
        Header {
            version: Header::VERSION,
            chain: self.ledger.chain(),
            height: self.ledger.height().next(),
            time,
            parent: self.ledger.tip(),
            state_root: Hash::default(),
            transactions: Block::transactions_hash(transactions.iter().map(VerifiedTransaction::transaction)),
            proposer: self.proposer(),
            link: link.unwrap_or_default(),
        }
    }

    /// The `Price` transaction that a block must open with now.
    pub fn price(&self, time: TimeMs) -> Option<VerifiedTransaction> {
        let prices = self.ledger.price_due(time, &self.ledger.tip())?;
        Some(transaction(self.proposer(), 0, self.ledger.height().next(), Action::Price(prices)))
    }

    /// Applies a block `ms` after the last one, opened by prices where they are due; tells the codes of the given
    /// transactions.
    pub fn block(&mut self, ms: u64, transactions: Vec<VerifiedTransaction>) -> Vec<u16> {
        let applied = self.apply(ms, transactions);
        applied.results.iter().map(|result| result.code).collect()
    }

    pub fn apply(&mut self, ms: u64, mut transactions: Vec<VerifiedTransaction>) -> Applied {
        let time = self.ledger.time().plus(ms);
        let price = self.price(time);
        let prices = usize::from(price.is_some());
        transactions.splice(0..0, price);
        let header = self.header(time, &transactions);
        let mut applied = self.apply_block(&header, &transactions);
        let opening: Vec<_> = applied.results.drain(..prices).collect();
        assert!(opening.iter().all(|result| result.code == 0));
        applied
    }

    /// Applies a block as it is.
    pub fn apply_block(&mut self, header: &Header, transactions: &[VerifiedTransaction]) -> Applied {
        let applied = self.ledger.apply(header, transactions);
        self.follow(&applied);
        applied
    }

    /// What must hold after every block.
    fn follow(&mut self, applied: &Applied) {
        for (key, value) in &applied.writes {
            match value {
                Some(value) => drop(self.entries.insert(key.clone(), value.clone())),
                None => drop(self.entries.remove(key)),
            }
        }
        for event in &applied.events {
            if let Event::Posted { account, purse, amount, balance, incoming, .. } = *event {
                assert!(!amount.is_zero());
                let sign = if incoming { 1 } else { -1 };
                let holds = self.purses.entry((account, purse)).or_default();
                *holds += sign * i128::from(amount.micro());
                assert_eq!(*holds, i128::from(balance.micro()), "an event states another balance than its purse has after it");
            }
        }
        let caused: usize = applied.results.iter().map(|result| result.events as usize).sum();
        assert!(caused <= applied.events.len(), "transactions caused more events than there are");
        let refused = applied.results.iter().filter(|result| result.code != 0);
        assert!(refused.into_iter().all(|result| result.events == 0), "a refused transaction caused something");
        assert!(self.ledger.totals().conserved());
        if self.thorough {
            self.check();
        }
    }

    /// Every invariant; every balance is what the events say; the written entries are the state, and restore it.
    pub fn check(&self) {
        self.ledger.check_invariants().expect("an invariant is broken");
        for account in self.ledger.accounts() {
            let told = |purse| self.purses.get(&(account.id, purse)).copied().unwrap_or(0);
            assert_eq!(told(Purse::Granted), i128::from(account.granted.micro()), "{}", account.id);
            assert_eq!(told(Purse::Earned), i128::from(account.earned.micro()), "{}", account.id);
        }
        let entries: BTreeMap<_, _> = self.ledger.entries().collect();
        assert!(entries == self.entries, "the writes of all blocks are not the state");
        let restored = Ledger::from_entries(self.entries.clone()).expect("the written entries are a ledger");
        assert!(restored == self.ledger, "the restored ledger differs");
    }

    /// A block with one transaction of an account or of a machine, with the right nonce.
    pub fn send(&mut self, signer: PublicKey, action: Action) -> u16 {
        self.result(signer, action).code
    }

    /// [`Market::send`] with the message.
    pub fn result(&mut self, signer: PublicKey, action: Action) -> TransactionResult {
        let transaction = self.next(signer, action);
        self.apply(1_000, vec![transaction]).results.remove(0)
    }

    /// A transaction with the right nonce.
    pub fn next(&self, signer: PublicKey, action: Action) -> VerifiedTransaction {
        let nonce = match action {
            Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) | Action::Join { .. } => 0,
            Action::Disclose(_) | Action::Commit { .. } | Action::Reveal { .. } | Action::Trace { .. } | Action::Judge { .. } => {
                0
            }
            Action::Heartbeat { .. } => self.ledger.machine_of_key(&signer).map_or(0, |machine| machine.nonce),
            _ => self.ledger.account_of_key(&signer).map_or(0, |account| account.nonce),
        };
        transaction(signer, nonce, Height(u64::MAX), action)
    }

    pub fn open(&mut self, number: u8) {
        let voucher = voucher(number, self.ledger.time().plus(MINUTE));
        assert_eq!(self.send(person(number), Action::OpenAccount { voucher }), 0);
    }

    /// Registers a machine and offers all of it.
    pub fn lend(&mut self, owner: u8, number: u8, resources: Resources, speed: u64) {
        let register = register(number, config(number, resources, speed));
        assert_eq!(self.send(person(owner), register), 0);
        self.offer(owner, number, offer(resources));
    }

    /// Offers a machine, or changes its offer, after running leases that are in the way.
    pub fn offer(&mut self, owner: u8, number: u8, offer: Offer) {
        let lend = Action::Lend { machine: machine(number), offer, mode: ChangeMode::AfterLease };
        assert_eq!(self.send(person(owner), lend), 0);
    }

    /// Beats until a block at exactly this time.
    pub fn beat_until(&mut self, time: TimeMs, machines: &[u8]) {
        while self.ledger.time() < time {
            self.beat(time.since(self.ledger.time()).min(1_500), machines);
        }
        assert_eq!(self.ledger.time(), time);
    }

    pub fn machine(&self, number: u8) -> &deepmarket_ledger::Machine {
        self.ledger.machine(machine(number)).expect("the machine exists")
    }

    pub fn machine_reason(&self, number: u8) -> MachineReason {
        self.ledger.machine_reason(self.machine(number))
    }

    pub fn reason(&self, job: JobId) -> JobReason {
        self.ledger.job_reason(self.ledger.job(job).expect("the job exists"))
    }

    /// A block with a heartbeat of each machine, `ms` after the last one.
    pub fn beat(&mut self, ms: u64, machines: &[u8]) {
        let heartbeats = machines.iter().map(|number| self.heartbeat(*number)).collect();
        assert!(self.block(ms, heartbeats).iter().all(|code| *code == 0));
    }

    pub fn heartbeat(&self, number: u8) -> VerifiedTransaction {
        let addresses = Some(vec![format!("/ip4/10.0.0.{number}/tcp/4001")]);
        self.next(machine_key(number), Action::Heartbeat { addresses })
    }

    pub fn submit(&mut self, owner: u8, spec: &JobSpec) -> JobId {
        assert_eq!(self.send(person(owner), Action::Borrow { spec: spec.to_bytes() }), 0);
        self.ledger.jobs().next_back().expect("it was just submitted").id
    }

    /// Account 1 with `count` machines of one core, in contact; account 9 to borrow.
    pub fn with_machines(count: u8) -> Market {
        Market::of(Params { max_machines_per_account: 10, ..params() }, count)
    }

    /// [`Market::with_machines`] with other numbers.
    pub fn of(params: Params, count: u8) -> Market {
        let mut market = Market::new(params);
        market.open(1);
        market.open(9);
        for number in 1..=count {
            market.lend(1, number, cores(1), 100);
        }
        market.beat(1_000, &(1..=count).collect::<Vec<_>>());
        market
    }

    pub fn state(&self, job: JobId) -> JobState {
        self.ledger.job(job).expect("the job exists").state
    }

    pub fn machine_state(&self, number: u8) -> MachineState {
        self.machine(number).state
    }

    /// A job's lease of a rank.
    pub fn lease(&self, job: JobId, rank: usize) -> &deepmarket_ledger::Lease {
        self.ledger.job_leases(job).nth(rank).expect("the job has this rank")
    }

    /// The machine's next receipt of a lease.
    pub fn receipt(&self, job: JobId, rank: usize, outcome: LeaseOutcome) -> VerifiedTransaction {
        let lease = self.lease(job, rank);
        let key = self.ledger.machine(lease.machine).expect("it exists").key;
        self.next(key, Action::Receipt(receipt(lease, lease.sequence + 1, outcome)))
    }

    /// A block with a receipt of each active lease of a job: those that are new begin to train.
    pub fn train(&mut self, ms: u64, job: JobId) {
        let leases: Vec<_> = self.ledger.job(job).expect("the job exists").active.iter().copied().collect();
        let ranks = leases.iter().map(|lease| self.ledger.lease(*lease).expect("it is active").rank as usize);
        let receipts: Vec<_> = ranks.map(|rank| self.receipt(job, rank, LeaseOutcome::Running)).collect();
        assert!(self.block(ms, receipts).iter().all(|code| *code == 0));
    }

    pub fn purses(&self, number: u8) -> (u64, u64) {
        let account = self.ledger.account(account(number)).expect("the account exists");
        (account.granted.micro(), account.earned.micro())
    }
}

pub fn register(number: u8, config: MachineConfig) -> Action {
    Action::RegisterMachine { machine_key: machine_key(number), config, proof: Signature([0; 64]) }
}

/// SplitMix64: small, seeded, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len() as u64) as usize])
    }
}
