//! From the ledger's state to the shapes of the REST interface. Pure.

use deepmarket_api::{
    AccountView, Assignment, JobView, LeaseView, LedgerView, MachineView, PricesView, Quote, RankView, SlotQuote,
};
use deepmarket_job::JobSpec;
use deepmarket_ledger::{Account, Job, Lease, Ledger, Machine};
use deepmarket_types::{MachineId, PublicKey, SlotPrices};

/// The most jobs in an account's view.
const ACCOUNT_JOBS: usize = 100;
/// The names of a day's four slots, as job specs write them.
const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];

pub(crate) fn account(ledger: &Ledger, account: &Account) -> AccountView {
    AccountView {
        id: account.id,
        key: account.key,
        nonce: account.nonce,
        granted: account.granted,
        earned: account.earned,
        escrow: ledger.escrow_of(account.id),
        jobs: ledger.jobs_of(account.id).rev().take(ACCOUNT_JOBS).map(|job| job.id).collect(),
        machines: ledger.machines_of(account.id).map(|machine| machine.id).collect(),
    }
}

pub(crate) fn machine(machine: &Machine) -> MachineView {
    MachineView {
        id: machine.id,
        owner: machine.owner,
        key: machine.key,
        nonce: machine.nonce,
        config: machine.config.clone(),
        offer: machine.offer,
        state: machine.state,
        reason: machine.reason().to_owned(),
        leases: machine.leases.iter().copied().collect(),
        earned: machine.earned,
    }
}

fn lease(lease: &Lease) -> LeaseView {
    LeaseView {
        id: lease.id,
        job: lease.job,
        rank: lease.rank,
        machine: lease.machine,
        owner: lease.owner,
        state: lease.state,
        started: lease.started,
        sequence: lease.sequence,
        rounds: lease.rounds,
        samples: lease.samples,
        cpu_ms: lease.cpu_ms,
        paid: lease.paid,
        paid_ms: lease.paid_ms,
        parameters: lease.parameters,
    }
}

pub(crate) fn job(ledger: &Ledger, job: &Job) -> JobView {
    JobView {
        id: job.id,
        owner: job.owner,
        name: job.name.clone(),
        state: job.state,
        status: job.state.to_string(),
        spec: spec_text(ledger, job),
        submitted: job.submitted,
        started: job.started,
        ended: job.ended,
        budget: job.budget,
        escrow: job.escrow(),
        paid: job.paid,
        leases: ledger.job_leases(job.id).map(lease).collect(),
        result: job.result(),
    }
}

/// The spec as TOML. The ledger let no other in; one of a later release is shown as a comment.
fn spec_text(ledger: &Ledger, job: &Job) -> String {
    match JobSpec::from_bytes(ledger.spec(job.id).unwrap_or_default()) {
        Ok(spec) => spec.to_toml(),
        Err(error) => format!("# this release can't show the spec: {error}\n"),
    }
}

/// The active leases of a machine with all that a worker needs to serve them.
pub(crate) fn assignments(ledger: &Ledger, machine: MachineId) -> Vec<Assignment> {
    let assignment = |lease: &Lease| {
        let job = ledger.job(lease.job)?;
        let rank = |other: &Lease| {
            let machine = ledger.machine(other.machine)?;
            Some(RankView {
                rank: other.rank,
                lease: other.id,
                machine: other.machine,
                key: machine.key,
                addresses: machine.addresses.clone(),
            })
        };
        Some(Assignment {
            lease: lease.id,
            job: lease.job,
            rank: lease.rank,
            sequence: lease.sequence,
            spec: hex::encode(ledger.spec(lease.job)?),
            seed: job.seed?,
            resources: lease.resources,
            ranks: ledger.job_leases(lease.job).filter_map(rank).collect(),
        })
    };
    ledger.machine_leases(machine).filter_map(assignment).collect()
}

pub(crate) fn quote(quote: deepmarket_ledger::Quote) -> Quote {
    let slot = |slot: deepmarket_ledger::SlotQuote| SlotQuote {
        slot: slot.slot,
        prices: slot.prices,
        cost_per_hour: slot.cost_per_hour,
        expected_cost: slot.expected_cost,
    };
    Quote {
        workers: quote.workers,
        machines: quote.machines,
        enough: quote.enough,
        expected_start: quote.expected_start,
        expected_ms: quote.expected_ms,
        expected_cost: quote.expected_cost,
        budget: quote.budget,
        current_slot: quote.current_slot,
        slots: quote.slots.into_iter().map(slot).collect(),
        parameters: quote.parameters,
        ram_mib: quote.ram_mib,
    }
}

/// Today's prices; before the first block the floor, which is what the ledger then reckons with.
pub(crate) fn prices(ledger: &Ledger) -> PricesView {
    let clock = ledger.params().slots;
    let (day, slot) = clock.slot_at(ledger.time());
    let floor = || SlotPrices { day, slots: [ledger.params().price_floor; 4] };
    PricesView {
        prices: ledger.prices().copied().unwrap_or_else(floor),
        current_slot: slot as u8,
        slot_names: SLOT_NAMES.map(str::to_owned).into(),
        slot_ends: clock.slot_end(ledger.time()),
    }
}

pub(crate) fn totals(ledger: &Ledger) -> LedgerView {
    let totals = ledger.totals();
    LedgerView {
        height: ledger.height(),
        minted: totals.minted,
        purses: totals.purses,
        escrow: totals.escrow,
        held: totals.held,
        treasury: totals.treasury,
        conserved: totals.conserved(),
    }
}

/// Does the chain know this key, as an account's or as a machine's?
pub(crate) fn knows_key(ledger: &Ledger, key: &PublicKey) -> bool {
    ledger.account_of_key(key).is_some() || ledger.machine_of_key(key).is_some()
}

#[cfg(test)]
mod tests {
    use deepmarket_genesis::{Genesis, Validator};
    use deepmarket_types::{
        AccountId, Action, Availability, Block, Credits, Hash, Header, Height, JobId, JobState, LeaseState, MachineConfig,
        MachineState, Offer, Resources, SecretKey, TimeMs, Transaction, Voucher, machine_proof,
    };

    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    /// A ledger that takes blocks of one validator, which is the registrar too.
    struct Script(Ledger);

    impl Script {
        fn new() -> Script {
            let validator = Validator {
                name: "v0".into(),
                key: key(9).public(),
                consensus: "/ip4/127.0.0.1/tcp/27000".into(),
                gateway: "http://127.0.0.1:7700".into(),
            };
            let genesis = Genesis::from_toml(include_str!("../../../genesis/networks/local.toml")).unwrap();
            let genesis = genesis.complete(TimeMs(1_700_000_000_000), vec![validator], vec![key(9).public()]).unwrap();
            Script(Ledger::genesis(&genesis.ledger_state()).0)
        }

        /// One block, a second later, in which everything succeeds.
        fn block(&mut self, actions: Vec<(SecretKey, u64, Action)>) {
            let ledger = &mut self.0;
            let (chain, height, parent) = (ledger.chain(), ledger.height().next(), ledger.tip());
            let time = ledger.time().plus(1_000);
            let price = ledger.price_due(time, &parent).map(|prices| (key(9), 0, Action::Price(prices)));
            let transactions: Vec<Transaction> = price
                .into_iter()
                .chain(actions)
                .map(|(key, nonce, action)| Transaction::sign(&key, &chain, nonce, Height(1_000), action))
                .collect();
            let header = Header {
                version: Header::VERSION,
                chain,
                height,
                time,
                parent,
                state_root: Hash::default(),
                transactions: Block::transactions_hash(&transactions),
                proposer: key(9).public(),
            };
            let verified: Vec<_> = transactions.into_iter().map(|t| t.verify(&chain).unwrap()).collect();
            ledger.check_block(&header, &verified).unwrap();
            let applied = ledger.apply(&header, &verified);
            assert!(applied.results.iter().all(|result| result.code == 0), "{:?}", applied.results);
        }

        fn open(&self, seed: u8) -> (SecretKey, u64, Action) {
            let (chain, expires) = (self.0.chain(), self.0.time().plus(60_000));
            let voucher = Voucher::sign(&key(9), &chain, Hash::of(&[seed]), key(seed).public(), expires);
            (key(seed), 0, Action::OpenAccount { voucher })
        }
    }

    #[test]
    fn before_the_first_block_prices_are_the_floor_and_nothing_was_minted() {
        let Script(ledger) = Script::new();
        let view = prices(&ledger);
        assert_eq!(view.prices.slots, [ledger.params().price_floor; 4]);
        assert_eq!(view.slot_names, ["00-06", "06-12", "12-18", "18-24"]);
        assert!(view.slot_ends > ledger.time());
        let view = totals(&ledger);
        assert_eq!((view.height, view.minted, view.conserved), (Height(0), Credits::ZERO, true));
    }

    #[test]
    fn every_view_says_what_the_ledger_holds() {
        let mut script = Script::new();
        script.block(vec![script.open(1), script.open(2)]);
        let resources = Resources { cores: 2, gpus: 0, ram_mib: 8192, disk_mib: 8192 };
        let config = MachineConfig {
            name: "m".into(),
            platform: "linux x86_64".into(),
            cpu: "cpu".into(),
            resources,
            speed: 1_000,
            trainer: "0".into(),
        };
        let proof = machine_proof(&key(3), &script.0.chain(), &key(1).public(), &config);
        let id = MachineId::from_key(&key(3).public());
        let offer = Offer { resources, availability: Availability::Always, min_core_hour: Credits::ZERO };
        let addresses = vec!["/ip4/127.0.0.1/tcp/4001".to_owned()];
        script.block(vec![
            (key(1), 0, Action::RegisterMachine { machine_key: key(3).public(), config: config.clone(), proof }),
            (key(1), 1, Action::Lend { machine: id, offer }),
            (key(3), 0, Action::Heartbeat { addresses: Some(addresses.clone()) }),
        ]);
        let text = include_str!("../../../examples/mlp.toml");
        let mut spec = JobSpec::from_toml(text, &|_| Some(Hash::of(b"manifest"))).unwrap();
        (spec.workers.min, spec.workers.max) = (1, 1);
        script.block(vec![(key(2), 0, Action::Borrow { spec: spec.to_bytes() })]);
        let ledger = &script.0;

        let lender = account(ledger, ledger.account_of_key(&key(1).public()).unwrap());
        assert_eq!((lender.nonce, lender.granted, &lender.machines), (2, Credits::from_credits(50), &vec![id]));
        let borrower = account(ledger, ledger.account_of_key(&key(2).public()).unwrap());
        assert_eq!((borrower.escrow, borrower.jobs), (spec.budget.max, vec![JobId(1)]));
        assert_eq!(Credits::from_credits(50), [borrower.granted, borrower.escrow].into_iter().sum());

        let view = machine(ledger.machine(id).unwrap());
        assert_eq!((view.owner, view.nonce, view.state, view.offer), (lender.id, 1, MachineState::InUse, Some(offer)));
        assert_eq!((view.config, view.reason.as_str()), (config, "works for at least one lease"));

        let view = job(ledger, ledger.job(JobId(1)).unwrap());
        assert_eq!((view.owner, view.state, view.status.as_str()), (borrower.id, JobState::Matched, "matched"));
        assert_eq!(JobSpec::from_toml(&view.spec, &|_| None).unwrap(), spec);
        let [lease] = &view.leases[..] else { panic!("{:?}", view.leases) };
        assert_eq!((lease.machine, lease.owner, lease.state, lease.paid), (id, lender.id, LeaseState::Active, Credits::ZERO));

        let [assigned] = &assignments(ledger, id)[..] else { panic!("one lease, one assignment") };
        assert_eq!((assigned.lease, assigned.job, assigned.rank), (lease.id, JobId(1), 0));
        assert_eq!((hex::decode(&assigned.spec).unwrap(), assigned.resources), (spec.to_bytes(), spec.demand()));
        assert_eq!(Some(assigned.seed), ledger.job(JobId(1)).unwrap().seed);
        assert_eq!((assigned.ranks[0].key, &assigned.ranks[0].addresses), (key(3).public(), &addresses));

        let asked = quote(ledger.quote(&spec, &spec.check().unwrap(), 60_000, 10_000));
        assert_eq!((asked.machines, asked.slots.len(), asked.budget), (1, 4, spec.budget.max));
        assert!(totals(ledger).conserved && knows_key(ledger, &key(1).public()) && knows_key(ledger, &key(3).public()));
        assert!(!knows_key(ledger, &key(4).public()));
        assert!(
            ledger.account(AccountId::from_key(&key(4).public())).is_none() && assignments(ledger, MachineId([0; 20])).is_empty()
        );
    }
}
