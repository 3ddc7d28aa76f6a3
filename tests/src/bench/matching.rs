use std::{collections::HashMap, time::Instant};

use deepmarket_genesis::{Genesis, PSU};
use deepmarket_job::{JobSpec, Workers};
use deepmarket_ledger::{GenesisState, Ledger, Params};
use deepmarket_tests::virtual_chain::VirtualChain;
use deepmarket_types::{
    Action, Availability, ChangeMode, Credits, Hash, JobState, MachineConfig, MachineId, Offer, PublicKey, Resources, SecretKey,
    TimeMs, Transaction, TransactionBody, UnitPrices, VerifiedTransaction, Voucher, machine_proof,
};
use serde_json::{Value, json};

/// A midnight of the market.
const MIDNIGHT: TimeMs = TimeMs(20_003 * 24 * 3_600_000);
const SLOT_MS: u64 = 6 * 3_600_000;
/// Transactions in a block while the market is set up: far below the limit of its bytes.
const BLOCK: usize = 2_000;
/// The bench's lender and borrower; machines have seeds of their own.
const OWNER: [u8; 32] = [1; 32];
const REGISTRAR: [u8; 32] = [2; 32];
const VALIDATOR: [u8; 32] = [3; 32];

/// How long the ledger needs for a block that matches many queued jobs with many machines, and how that grows. The ledger
/// is the real one and every transaction is signed and verified; only the block's applying is timed, without disk and tree.
pub fn measure(quick: bool) -> Value {
    let (jobs, machines): (&[usize], &[usize]) =
        if quick { (&[100, 1_000], &[1_000]) } else { (&[100, 1_000, 4_000], &[1_000, 10_000, 40_000]) };
    let mut report = serde_json::Map::new();
    for &machines in machines {
        let market = Market::with_machines(machines);
        let one_heartbeat = market.time(&market.chain.ledger, 1_000, vec![market.heartbeat(0)]);
        let slot_begins = market.time(&market.chain.ledger, SLOT_MS, Vec::new());
        let mut at = json!({ "one_heartbeat_ms": one_heartbeat, "slot_begins_ms": slot_begins });
        for &jobs in jobs {
            at[format!("{jobs}_jobs")] = market.match_many(&mixed(jobs));
        }
        if !quick {
            at["1000_jobs_unmet_each_in_its_own_way"] = market.match_many(&unmet(1_000));
        }
        report.insert(format!("{machines}_machines"), at);
    }
    Value::Object(report)
}

struct Market {
    chain: VirtualChain,
    machines: usize,
}

fn public(seed: [u8; 32]) -> PublicKey {
    SecretKey::from_seed(seed).public()
}

/// The key of a machine.
fn machine_key(number: usize) -> SecretKey {
    let mut seed = [77; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

/// What a machine has: from one to sixteen cores, two or four GiB of memory for each.
fn resources(number: usize) -> Resources {
    let cores = [1, 2, 4, 4, 8, 16][number % 6];
    let ram_mib = u64::from(cores) * [2_048, 4_096][number % 2];
    Resources { cores, gpus: 0, ram_mib, disk_mib: 100_000 }
}

impl Market {
    /// A market in its first slot, with so many machines in contact.
    fn with_machines(machines: usize) -> Market {
        let network = Genesis::from_toml(PSU).expect("a network of this release is valid");
        let params = Params {
            starting_credits: Params::MAX_STARTING_CREDITS,
            slots: deepmarket_types::SlotClock { slot_ms: SLOT_MS, utc_offset_ms: 0 },
            contact_step_ms: 1,
            unique_hosts: false,
            max_open_jobs_per_account: Params::MAX_COUNT,
            max_machines_per_account: Params::MAX_COUNT,
            max_queued_jobs: Params::MAX_COUNT,
            ..network.params
        };
        let genesis = GenesisState {
            chain: Hash::of(b"bench"),
            time: MIDNIGHT,
            params,
            validators: vec![public(VALIDATOR)],
            registrars: vec![public(REGISTRAR)],
        };
        let keys = (0..machines).map(machine_key).chain([OWNER, REGISTRAR, VALIDATOR].map(SecretKey::from_seed));
        let keys: HashMap<[u8; 32], SecretKey> = keys.map(|key| (key.public().0, key)).collect();
        let chain = genesis.chain;
        let seal = move |TransactionBody { signer, nonce, expires, action }: TransactionBody| {
            let signed = Transaction::sign(&keys[&signer.0], &chain, nonce, expires, action);
            signed.verify(&chain).expect("a right signature")
        };
        let mut market = Market { chain: VirtualChain::new(&genesis, Box::new(seal)), machines };
        market.settle_in();
        market
    }

    fn settle_in(&mut self) {
        let (owner, chain) = (public(OWNER), self.chain.ledger.chain());
        let expires = MIDNIGHT.plus(SLOT_MS);
        let voucher = Voucher::sign(&SecretKey::from_seed(REGISTRAR), &chain, Hash::of(b"owner"), owner, expires);
        self.blocks(owner, vec![(owner, Action::OpenAccount { voucher })]);
        let register = (0..self.machines).map(|number| {
            let text = |text: &str| text.to_owned();
            let config = MachineConfig {
                name: text("bench"),
                platform: text("none"),
                cpu: text("none"),
                gpu: String::new(),
                host: Hash::of(&number.to_le_bytes()),
                resources: resources(number),
                speed: 500 + (number * 7_919 % 1_000) as u64,
                trainer: text("none"),
            };
            let key = machine_key(number);
            let proof = machine_proof(&key, &chain, &owner, &config);
            (owner, Action::RegisterMachine { machine_key: key.public(), config, proof })
        });
        let register = register.collect();
        self.blocks(owner, register);
        let lend = (0..self.machines).map(|number| {
            let minimum = UnitPrices::default();
            let (availability, at_close) = (Availability::default(), ChangeMode::AfterLease);
            let offer = Offer { resources: resources(number), availability, minimum, at_close };
            let machine = MachineId::from_key(&machine_key(number).public());
            (owner, Action::Lend { machine, offer, mode: ChangeMode::AfterLease })
        });
        let lend = lend.collect();
        self.blocks(owner, lend);
        let beats = (0..self.machines).map(|number| {
            let addresses = Some(vec!["/ip4/127.0.0.1/tcp/4001".to_owned()]);
            (machine_key(number).public(), Action::Heartbeat { addresses })
        });
        let beats = beats.collect();
        self.blocks(owner, beats);
    }

    /// Applies actions in as many blocks as they need; those of `owner` with its nonces in order.
    fn blocks(&mut self, owner: PublicKey, actions: Vec<(PublicKey, Action)>) {
        let mut actions = actions.into_iter().peekable();
        while actions.peek().is_some() {
            let chunk = actions.by_ref().take(BLOCK).enumerate();
            let chunk = chunk.map(|(at, (signer, action))| {
                self.chain.transaction(signer, if signer == owner { at as u64 } else { 0 }, action)
            });
            let transactions: Vec<_> = chunk.collect();
            let time = self.chain.ledger.time().plus(1);
            self.chain.apply(time, transactions);
        }
    }

    fn heartbeat(&self, number: usize) -> VerifiedTransaction {
        self.chain.transaction(machine_key(number).public(), 0, Action::Heartbeat { addresses: None })
    }

    fn borrow(&self, specs: &[JobSpec], slot: u8) -> Vec<VerifiedTransaction> {
        let specs = specs.iter().cloned().map(|mut spec| {
            spec.budget.slots = vec![slot];
            spec
        });
        let actions = specs
            .enumerate()
            .map(|(at, spec)| self.chain.transaction(public(OWNER), at as u64, Action::Borrow { spec: spec.to_bytes() }));
        actions.collect()
    }

    /// The time of a block that begins the slot which all these jobs waited for; and of one that submits them all, for now
    /// and, to compare, for later.
    fn match_many(&self, specs: &[JobSpec]) -> Value {
        let now = self.time(&self.chain.ledger, 1_000, self.borrow(specs, 0));
        let later = self.borrow(specs, 1);
        let for_later = self.time(&self.chain.ledger, 1_000, later.clone());
        let (header, transactions) = self.chain.block(self.chain.ledger.time().plus(1_000), later);
        let mut queued = self.chain.ledger.clone();
        let applied = queued.apply(&header, &transactions);
        assert!(applied.results.iter().all(|result| result.code == 0), "{:?}", applied.results[0]);
        let slot_begins = self.time(&queued, SLOT_MS, Vec::new());

        let (header, _) = self.block_after(&queued, SLOT_MS, Vec::new());
        queued.apply(&header, &[]);
        let matched = queued.jobs().filter(|job| job.state == JobState::Matched).count();
        json!({
            "slot_begins_ms": slot_begins,
            "submitted_now_ms": now,
            "submitted_for_later_ms": for_later,
            "matched": matched,
            "leases": queued.leases().len(),
        })
    }

    /// The block after another state of this market.
    fn block_after(
        &self,
        ledger: &Ledger,
        ms: u64,
        transactions: Vec<VerifiedTransaction>,
    ) -> (deepmarket_types::Header, Vec<VerifiedTransaction>) {
        let (mut header, transactions) = self.chain.block(ledger.time().plus(ms), transactions);
        (header.height, header.parent) = (ledger.height().next(), ledger.tip());
        (header, transactions)
    }

    /// The median time of applying a block `ms` after a state, in milliseconds.
    fn time(&self, ledger: &Ledger, ms: u64, transactions: Vec<VerifiedTransaction>) -> f64 {
        let (header, transactions) = self.block_after(ledger, ms, transactions);
        let times = (0..5).map(|_| {
            let mut copy = ledger.clone();
            let began = Instant::now();
            let applied = copy.apply(&header, &transactions);
            let took = began.elapsed().as_secs_f64() * 1000.0;
            let refused = applied.results.iter().find(|result| result.code != 0);
            assert!(refused.is_none(), "{refused:?}");
            took
        });
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        times[2]
    }
}

/// Jobs of many kinds: small and large, of one worker, of a fixed team, of one to eight; three of twenty ask for more cores,
/// memory or disk than any machine has.
fn mixed(count: usize) -> Vec<JobSpec> {
    let job = |number: usize| {
        let (min, max) = [(1, 8), (1, 1), (4, 4), (2, 3), (1, 2)][number % 5];
        let cores = [1, 1, 2, 4][number / 5 % 4];
        let ram_mib = [1_024, 2_048, 4_096, 7_000][number / 20 % 4];
        match number % 10 {
            3 if number % 20 == 3 => spec(min, max, 32, ram_mib + number as u64, 1_024),
            3 => spec(1, 1, 1, 100_000 - number as u64, 1_024),
            7 if number % 20 == 7 => spec(min, max, 1, 1_024, 200_000),
            _ => spec(min, max, cores, ram_mib, 1_024),
        }
    };
    (0..count).map(job).collect()
}

/// Jobs none of which can be met, and none of which is harder than another in everything: matching must look for each.
fn unmet(count: usize) -> Vec<JobSpec> {
    (0..count as u64).map(|number| spec(1, 1, 1, 70_000 + number, 90_000 - number)).collect()
}

fn spec(min: u32, max: u32, cores: u32, ram_mib: u64, disk_mib: u64) -> JobSpec {
    let workers = Workers { min, max, cores, gpus: 0, ram_mib, disk_mib, share_machine: false };
    deepmarket_tests::spec::spec("bench", workers, Credits::from_credits(100), Vec::new())
}
