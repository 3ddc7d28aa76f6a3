//! The days of one market: what people do, hour by hour, and what the ledger makes of it.

use std::collections::BTreeMap;

use deepmarket_job::{JobSpec, Size, Workers};
use deepmarket_ledger::{Applied, GenesisState, Lease, PricePolicy};
use deepmarket_types::{
    Action, ChangeMode, Credits, Event, Hash, JobId, JobState, LeaseOutcome, MachineConfig, MachineId, MachineState, Offer,
    PublicKey, Receipt, Resources, Signature, TimeMs, Transaction, UnitPrices, VerifiedTransaction, Voucher,
};

use super::{
    HOUR_MS, Outcome, Trust,
    outcome::Lost,
    params,
    people::{Lender, Need, People},
};
use crate::{spec::MULTIPLY_ADDS, virtual_chain::VirtualChain};

/// The first midnight: of a Monday.
const START: TimeMs = TimeMs(20_003 * 24 * HOUR_MS);
/// Million multiply-adds a second of each core.
const SPEED: u64 = 1_000;
/// Samples that a worker trains on in an hour, so that the ledger's quotes come out in whole hours: training passes three
/// times over the model.
const SAMPLES_AN_HOUR: u64 = SPEED * 1_000_000 * 3_600 / (3 * MULTIPLY_ADDS);
/// A lender gives up after so many days on which no hour of his paid his reserve, and comes back after so many that did.
const BAD_DAYS: u32 = 7;
const GOOD_DAYS: u32 = 2;
/// The accounts that borrow; needs are theirs in turn.
const BORROWERS: u8 = 20;
const REGISTRAR: PublicKey = PublicKey([200; 32]);
const VALIDATOR: PublicKey = PublicKey([201; 32]);

/// What one worker uses.
fn demand() -> Resources {
    Resources { cores: 1, gpus: 0, ram_mib: 1024, disk_mib: 1024 }
}

fn borrower(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn lender_key(number: usize) -> PublicKey {
    PublicKey([100 + number as u8; 32])
}

fn machine_key(number: usize) -> PublicKey {
    let mut bytes = [77; 32];
    bytes[0] = number as u8;
    PublicKey(bytes)
}

/// A need that arose and is neither served nor given up.
struct Open {
    need: Need,
    /// The hour in which it arose.
    arose: u64,
    borrower: PublicKey,
    /// The job that stands for it, and the slot that was chosen for it.
    job: Option<(JobId, Option<u8>)>,
    /// The hour from which the job could have run: submitted, and its slot begun.
    ready: u64,
    /// Hours of work done.
    done: u32,
    /// When the job started.
    started: Option<u64>,
}

/// How a lender feels about prices.
#[derive(Clone, Copy, Default)]
struct Mood {
    withdrawn: bool,
    /// Days in a row that were bad (or, for one who withdrew, good).
    days: u32,
}

struct Market {
    chain: VirtualChain,
    people: People,
    moods: Vec<Mood>,
    open: Vec<Open>,
    outcome: Outcome,
    size: Size,
    next_borrower: u8,
    /// How many transactions of a signer are in the block that is being made.
    before: BTreeMap<PublicKey, u64>,
}

/// Lets some days pass.
pub fn live(people: People, days: u64, policy: PricePolicy, trust: Trust) -> Outcome {
    let mut market = Market::open(people, policy, trust);
    for hour in 0..days * 24 {
        market.pass(hour);
    }
    market.chain.ledger.check_invariants().expect("the rules that always hold hold");
    market.outcome
}

impl Market {
    /// Opens everybody's accounts and offers all machines, in the hour before the first midnight.
    fn open(people: People, policy: PricePolicy, trust: Trust) -> Market {
        let genesis = GenesisState {
            chain: people.name,
            time: TimeMs(START.0 - HOUR_MS),
            params: params(policy),
            validators: vec![VALIDATOR],
            registrars: vec![REGISTRAR],
        };
        let seal = move |body| trust(Transaction { version: Transaction::VERSION, body, signature: Signature([0; 64]) });
        let mut market = Market {
            chain: VirtualChain::new(&genesis, Box::new(seal)),
            moods: vec![Mood::default(); people.lenders.len()],
            people,
            open: Vec::new(),
            outcome: Outcome::new(&genesis.params),
            size: spec(&Need { workers: 1, hours: 1, value: 1_000_000, flexible: false, patience: 1, haste_permille: 0 }, None)
                .check()
                .expect("the simulation's model is sound"),
            next_borrower: 1,
            before: BTreeMap::new(),
        };
        market.settle_in();
        market
    }

    fn settle_in(&mut self) {
        let expires = START;
        let people = (1..=BORROWERS).map(borrower).chain((0..self.people.lenders.len()).map(lender_key));
        let opening: Vec<_> = people
            .map(|key| {
                let identity = Hash::of(&key.0);
                let voucher = Voucher { registrar: REGISTRAR, identity, key, expires, signature: Signature([0; 64]) };
                self.transaction(key, Action::OpenAccount { voucher })
            })
            .collect();
        self.apply(TimeMs(START.0 - HOUR_MS + 1), opening);
        let mut lending = Vec::new();
        for (number, lender) in self.people.lenders.clone().into_iter().enumerate() {
            let (owner, machine_key) = (lender_key(number), machine_key(number));
            let proof = Signature([0; 64]);
            lending.push(self.transaction(owner, Action::RegisterMachine { machine_key, config: config(&lender), proof }));
            lending.push(self.transaction(owner, lend(number, &lender)));
        }
        self.apply(TimeMs(START.0 - HOUR_MS + 2), lending);
        let beats = (0..self.people.lenders.len()).map(|number| {
            let addresses = Some(vec![format!("/ip4/10.0.0.{number}/tcp/4001")]);
            (machine_key(number), Action::Heartbeat { addresses })
        });
        let beats: Vec<_> = beats.map(|(key, action)| self.transaction(key, action)).collect();
        self.apply(TimeMs(START.0 - HOUR_MS + 3), beats);
    }

    /// One hour: what was worked is paid, prices change at midnight, people act on them, and jobs start.
    fn pass(&mut self, hour: u64) {
        let time = TimeMs(START.0 + hour * HOUR_MS);
        let receipts = self.receipts();
        let applied = self.apply(time, receipts);
        self.follow(&applied, hour);
        self.begin(time.plus(1), hour);
        if hour.is_multiple_of(24) {
            self.outcome.see_prices(self.chain.ledger.prices().expect("a block of this day was applied"));
        }
        let mut actions = Vec::new();
        if hour.is_multiple_of(24) {
            self.lenders_look(&mut actions);
        }
        self.needs_arise(hour);
        self.borrowers_look(hour, &mut actions);
        if !actions.is_empty() {
            let applied = self.apply(time.plus(1_000), actions);
            self.follow(&applied, hour);
            self.begin(time.plus(1_001), hour);
        }
        self.measure(hour);
    }

    fn transaction(&mut self, signer: PublicKey, action: Action) -> VerifiedTransaction {
        let before = self.before.entry(signer).or_default();
        let transaction = self.chain.transaction(signer, *before, action);
        *before += 1;
        transaction
    }

    fn apply(&mut self, time: TimeMs, transactions: Vec<VerifiedTransaction>) -> Applied {
        self.before.clear();
        self.chain.apply(time, transactions)
    }

    /// The first receipts of workers that began just now: they are ready, and train together from now on. At once, so that they pay
    /// next to nothing.
    fn begin(&mut self, time: TimeMs, hour: u64) {
        let mut receipts = Vec::new();
        for (job, _) in self.open.iter().filter(|open| open.started == Some(hour)).filter_map(|open| open.job) {
            for lease in self.chain.ledger.job_leases(job).filter(|lease| lease.sequence == 0) {
                let machine = self.chain.ledger.machine(lease.machine).expect("a lease has a machine");
                receipts.push((machine.key, Action::Receipt(receipt(lease, 0, LeaseOutcome::Running))));
            }
        }
        if !receipts.is_empty() {
            let receipts = receipts.into_iter().map(|(key, action)| self.transaction(key, action)).collect();
            let applied = self.apply(time, receipts);
            self.follow(&applied, hour);
        }
    }

    /// The receipts of all workers for the last hour.
    fn receipts(&mut self) -> Vec<VerifiedTransaction> {
        let mut all = Vec::new();
        for open in self.open.iter_mut().filter(|open| open.started.is_some()) {
            let Some((job, _)) = open.job else { continue };
            open.done += 1;
            let (done, last) = (u64::from(open.done), open.done == open.need.hours);
            for lease in self.chain.ledger.job_leases(job) {
                let outcome = if last { LeaseOutcome::Finished(Hash::default()) } else { LeaseOutcome::Running };
                let receipt = receipt(lease, done, outcome);
                let machine = self.chain.ledger.machine(lease.machine).expect("a lease has a machine");
                all.push((machine.key, Action::Receipt(receipt)));
            }
        }
        all.into_iter().map(|(key, action)| self.transaction(key, action)).collect()
    }

    /// Draws the consequences of a block for the needs.
    fn follow(&mut self, applied: &Applied, hour: u64) {
        for event in &applied.events {
            let Event::Job { job, state, .. } = *event else { continue };
            let Some(at) = self.open.iter().position(|open| open.job.is_some_and(|(id, _)| id == job)) else { continue };
            match state {
                JobState::Matched => self.open[at].started = Some(hour),
                JobState::Finished(_) => {
                    let Open { need, arose, ready, started, .. } = self.open.swap_remove(at);
                    let paid = self.chain.ledger.job(job).expect("it closed just now").paid;
                    let started = started.expect("a finished job was started");
                    self.outcome.serve(&need, arose, ready, started, paid);
                }
                JobState::Panic(_) => {
                    let Open { need, arose, .. } = self.open.swap_remove(at);
                    let paid = self.chain.ledger.job(job).expect("it closed just now").paid;
                    self.outcome.lose(&need, Lost::OutOfBudget, hour - arose, paid);
                }
                JobState::Queued | JobState::Running | JobState::Recovering | JobState::Cancelled => {}
            }
        }
    }

    /// Lenders judge the day's prices: one whose hours pay too little for too long withdraws, and comes back when they pay.
    fn lenders_look(&mut self, actions: &mut Vec<VerifiedTransaction>) {
        let prices = self.chain.ledger.prices().expect("they were set at midnight").slots;
        for number in 0..self.moods.len() {
            let lender = self.people.lenders[number].clone();
            let clock = self.chain.ledger.params().slots;
            let midnight = self.chain.ledger.time();
            let lends_in = |slot: u64| {
                let begins = midnight.plus(slot * clock.slot_ms);
                (0..6).any(|hour| lender.availability.holds(&clock, begins.plus(hour * HOUR_MS)))
            };
            let good = (0..4).any(|slot| lends_in(slot) && prices[slot as usize].core_hour.micro() >= lender.reserve);
            let mood = &mut self.moods[number];
            mood.days = if good == mood.withdrawn { mood.days + 1 } else { 0 };
            let action = match mood.withdrawn {
                false if mood.days >= BAD_DAYS => {
                    Action::Withdraw { machine: MachineId::from_key(&machine_key(number)), mode: ChangeMode::AfterLease }
                }
                true if mood.days >= GOOD_DAYS => lend(number, &lender),
                _ => continue,
            };
            *mood = Mood { withdrawn: !mood.withdrawn, days: 0 };
            let machine = self.chain.ledger.machine(MachineId::from_key(&machine_key(number))).expect("it was registered");
            // One that still finishes its leases is offered as before; one that has none left is not offered any more.
            if matches!(action, Action::Withdraw { .. }) && machine.offer.is_none() {
                continue;
            }
            let transaction = self.transaction(lender_key(number), action);
            actions.push(transaction);
        }
    }

    fn needs_arise(&mut self, hour: u64) {
        for need in std::mem::take(&mut self.people.needs[hour as usize]) {
            self.outcome.ask(&need);
            let borrower = borrower(self.next_borrower);
            self.next_borrower = self.next_borrower % BORROWERS + 1;
            self.open.push(Open { need, arose: hour, borrower, job: None, ready: hour, done: 0, started: None });
        }
    }

    /// Everybody who waits looks at prices when a need arises and whenever a slot begins; who waited too long gives up.
    fn borrowers_look(&mut self, hour: u64, actions: &mut Vec<VerifiedTransaction>) {
        let mut next_job = self.chain.ledger.jobs().next_back().map_or(1, |job| job.id.0 + 1);
        let slot_begins = hour.is_multiple_of(6);
        let mut at = 0;
        while at < self.open.len() {
            let open = &self.open[at];
            let waited = hour - open.arose;
            if open.started.is_some_and(|started| started < hour) || !(waited == 0 || slot_begins || waited > open.need.patience)
            {
                at += 1;
                continue;
            }
            if open.started.is_some() {
                // It began with this very block, at prices that nobody knew before.
                if !self.can_be_finished(at) {
                    let (job, _) = self.open[at].job.expect("it was started");
                    let cancel = self.transaction(self.open[at].borrower, Action::Cancel { job });
                    actions.push(cancel);
                    (self.open[at].job, self.open[at].started) = (None, None);
                }
                at += 1;
                continue;
            }
            let (need, owner, job) = (open.need, open.borrower, open.job);
            let choice = if waited > need.patience { None } else { self.choose(&need, open.arose) };
            if let Some((job, slot)) = job
                && choice != Some(slot)
            {
                let cancel = self.transaction(owner, Action::Cancel { job });
                actions.push(cancel);
                self.open[at].job = None;
            }
            if waited > need.patience {
                let open = self.open.swap_remove(at);
                let why = if job.is_some() { Lost::NoMachine } else { Lost::TooDear };
                self.outcome.lose(&open.need, why, waited, Credits::ZERO);
                continue;
            }
            if let Some(slot) = choice
                && self.open[at].job.is_none()
            {
                let spec = spec(&need, slot);
                let borrow = self.transaction(owner, Action::Borrow { spec: spec.to_bytes() });
                actions.push(borrow);
                let (_, now) = self.chain.ledger.params().slots.slot_at(self.chain.ledger.time());
                let slots_ahead = slot.map_or(0, |slot| (u64::from(slot) + 4 - now as u64) % 4);
                let begins = if slots_ahead == 0 { hour } else { (hour / 6 + slots_ahead) * 6 };
                (self.open[at].job, self.open[at].ready) = (Some((JobId(next_job), slot)), begins);
                next_job += 1;
            }
            at += 1;
        }
    }

    /// The slot that a borrower would have the job run in: `Some(None)` for at once, `None` where it isn't worth it.
    fn choose(&self, need: &Need, arose: u64) -> Option<Option<u8>> {
        let spec = spec(need, None);
        let quote = self.chain.ledger.quote(&spec, &self.size, need.worker_hours() * SAMPLES_AN_HOUR, 0);
        let too_late = TimeMs(START.0 + (arose + need.patience) * HOUR_MS);
        let slots = quote.slots.iter().filter(|slot| match need.flexible {
            true => slot.enough && slot.begins <= too_late,
            false => slot.slot == quote.current_slot,
        });
        let now = self.chain.ledger.time();
        let delay = |begins: TimeMs| need.worth() * need.haste_permille / 1_000 * (begins.since(now) / HOUR_MS);
        let best = slots.min_by_key(|slot| (slot.expected_cost.micro() + delay(slot.begins), slot.begins))?;
        let chosen = if need.flexible { Some(best.slot) } else { None };
        (best.expected_cost.micro() <= need.worth()).then_some(chosen)
    }

    /// Do the day's prices let a job that began just now be finished within its worth?
    fn can_be_finished(&self, at: usize) -> bool {
        let need = self.open[at].need;
        let now = self.chain.ledger.time();
        let hours = (0..u64::from(need.hours))
            .map(|hour| self.chain.ledger.unit_prices_at(now.plus(hour * HOUR_MS)).cost(&demand(), HOUR_MS).micro());
        hours.sum::<u64>() * u64::from(need.workers) <= need.worth()
    }

    /// What the hour that begins now sees of supply and use.
    fn measure(&mut self, hour: u64) {
        let slot = (hour % 24 / 6) as usize;
        for (number, lender) in self.people.lenders.iter().enumerate() {
            let machine = self.chain.ledger.machine(MachineId::from_key(&machine_key(number))).expect("it was registered");
            let takes_work = machine.open && matches!(machine.state, MachineState::Idle | MachineState::InUse);
            let offered = if takes_work { lender.cores } else { machine.used.cores };
            self.outcome.see_machine(slot, offered, machine.used.cores, lender.reserve);
        }
    }
}

/// A lease's next receipt, after some hours of work.
fn receipt(lease: &Lease, hours: u64, outcome: LeaseOutcome) -> Receipt {
    Receipt {
        job: lease.job,
        lease: lease.id,
        rank: lease.rank,
        sequence: lease.sequence + 1,
        from: 0,
        rounds: hours,
        samples: hours * SAMPLES_AN_HOUR,
        cpu_ms: hours * HOUR_MS,
        parameters: Hash::default(),
        commitments: Hash::default(),
        committed: 0,
        loss_micro: 0,
        checkpoint: None,
        missing: None,
        outcome,
    }
}

fn config(lender: &Lender) -> MachineConfig {
    let text = |text: &str| text.to_owned();
    let (platform, cpu, gpu, trainer) = (text("simulated"), text("simulated"), String::new(), text("1"));
    let resources = resources(lender);
    MachineConfig { name: text("machine"), platform, cpu, gpu, host: Hash::default(), resources, speed: SPEED, trainer }
}

fn resources(lender: &Lender) -> Resources {
    let cores = u64::from(lender.cores);
    Resources { cores: lender.cores, gpus: 0, ram_mib: 2 * 1024 * cores, disk_mib: 2 * 1024 * cores }
}

fn lend(number: usize, lender: &Lender) -> Action {
    let minimum = UnitPrices { core_hour: Credits::from_micro(lender.reserve), ..UnitPrices::default() };
    let offer =
        Offer { resources: resources(lender), availability: lender.availability, minimum, at_close: ChangeMode::AfterLease };
    Action::Lend { machine: MachineId::from_key(&machine_key(number)), offer, mode: ChangeMode::AfterLease }
}

/// The job of a need: its budget is its worth.
fn spec(need: &Need, slot: Option<u8>) -> JobSpec {
    let workers = need.workers;
    let Resources { cores, gpus, ram_mib, disk_mib } = demand();
    let workers = Workers { min: workers, max: workers, cores, gpus, ram_mib, disk_mib, share_machine: true };
    crate::spec::spec("need", workers, Credits::from_micro(need.worth()), slot.into_iter().collect())
}
