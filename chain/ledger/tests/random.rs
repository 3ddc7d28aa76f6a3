//! Millions of random operations on the ledger and on a naive second one: both must always agree, and nothing may be created,
//! lost or paid twice.

#[path = "support/naive.rs"]
mod naive;
mod support;

use std::{cmp::Ordering, collections::BTreeMap, time::Instant};

use deepmarket_ledger::{DynamicPricing, Ledger, Params, PricePolicy};
use deepmarket_types::*;
use naive::Naive;
use support::*;

/// Operations of a default run; `DEEPMARKET_RANDOM_OPERATIONS` asks for more.
const OPERATIONS: u64 = 2_000_000;
/// Operations in one market before the next one begins, so that what is closed doesn't slow the comparison down.
const OPERATIONS_OF_A_MARKET: u64 = 2_500;

/// Few starting credits: borrowers soon spend earned ones too, and escrows hold both.
const STARTING_CREDITS: u64 = 300_000;

impl Random {
    fn person(&mut self) -> u8 {
        1 + self.below(6) as u8
    }

    fn machine(&mut self) -> u8 {
        1 + self.below(10) as u8
    }

    /// Mostly a registered one.
    fn machine_of(&mut self, market: &Market) -> u8 {
        (0..5).map(|_| self.machine()).find(|number| market.ledger.machine(machine(*number)).is_some()).unwrap_or(1)
    }

    fn resources(&mut self) -> Resources {
        let mut resources = cores(self.below(5) as u32);
        if self.percent(10) {
            resources.ram_mib /= 2;
        }
        resources
    }

    fn change_mode(&mut self) -> ChangeMode {
        if self.percent(40) { ChangeMode::AtOnce } else { ChangeMode::AfterLease }
    }

    /// Mostly without limits; else with hours, on some days, until soon, at some price, in any mixture.
    fn offer(&mut self, now: TimeMs) -> Offer {
        let mut offer = offer(self.resources());
        if self.percent(30) {
            let from_minute = self.below(1_440) as u16;
            let to_minute = (from_minute + 1 + self.below(1_439) as u16) % 1_440;
            offer.availability.hours = Some(DailyHours { from_minute, to_minute });
        }
        if self.percent(15) {
            offer.availability.weekdays = Weekdays(1 + self.below(127) as u8);
        }
        if self.percent(25) {
            offer.availability.until = Some(TimeMs(now.0 + self.below(60_000)));
        }
        if self.percent(25) {
            let minimum = Credits::from_micro(self.below(5_000_000));
            match self.below(3) {
                0 => offer.minimum.core_hour = minimum,
                1 => offer.minimum.ram_gib_hour = Credits::from_micro(minimum.micro() / 4),
                _ => offer.minimum.gpu_hour = minimum,
            }
        }
        offer.at_close = self.change_mode();
        offer
    }

    /// Sometimes another number's physical machine.
    fn config(&mut self, number: u8) -> MachineConfig {
        let mut config = config(number, cores(1 + self.below(4) as u32), self.below(3) * 100);
        if self.percent(10) {
            config.host = host(self.machine());
        }
        config
    }

    fn code(&mut self) -> PublicKey {
        code(self.below(12) as u8)
    }
}

fn random_action(random: &mut Random, market: &Market) -> (PublicKey, Action) {
    let ledger = &market.ledger;
    let now = ledger.time();
    let signer = random.person();
    let number = random.machine_of(market);
    let id = machine(number);
    // Mostly the owner acts on a machine.
    let owner = |random: &mut Random| match ledger.machine(id) {
        Some(machine) if random.percent(90) => ledger.account(machine.owner).expect("it exists").key,
        _ => person(signer),
    };
    match random.below(100) {
        0..2 => {
            let number = random.person();
            let mut voucher = voucher(number, TimeMs(now.0 + random.below(100_000)));
            match random.below(20) {
                0 => voucher.registrar = person(1),
                1 => voucher.identity = Hash::of(&[random.person()]),
                _ => {}
            }
            let key = if random.percent(90) { person(number) } else { person(signer) };
            (key, Action::OpenAccount { voucher })
        }
        2..13 => {
            let have = ledger.account(account(signer)).map_or(0, |account| account.earned.micro());
            let amount = match random.below(10) {
                0 => 0,
                1 => have + 1 + random.below(1_000),
                2 => have,
                _ => random.below(have / 4 + 2),
            };
            (person(signer), Action::Transfer { to: account(random.person()), amount: Credits::from_micro(amount) })
        }
        13..18 => {
            if random.percent(70) {
                (owner(random), register(number, random.config(number)))
            } else {
                let number = random.machine();
                (person(signer), register(number, random.config(number)))
            }
        }
        18..26 => (owner(random), Action::Lend { machine: id, offer: random.offer(now), mode: random.change_mode() }),
        26..28 => (owner(random), Action::Withdraw { machine: id, mode: random.change_mode() }),
        28..30 => {
            let offer = if random.percent(60) { Some(random.offer(now)) } else { None };
            let expires = match random.below(20) {
                0 => now,
                1 => TimeMs(now.0 + 8 * 24 * 3_600_000),
                _ => now.plus(random.below(100_000)),
            };
            (person(signer), Action::Invite { code: random.code(), offer, expires })
        }
        30..33 => {
            let number = if random.percent(50) { number } else { random.machine() };
            let open = |code: &PublicKey| ledger.invite(code).is_some();
            match (0..8).map(|_| random.code()).find(open) {
                None if random.percent(80) => (machine_key(number), Action::Heartbeat { addresses: None }),
                found => (machine_key(number), join(found.unwrap_or(code(0)), random.config(number))),
            }
        }
        33..52 => {
            let addresses = match random.below(30) {
                0 => Some(vec![]),
                1..15 => Some(vec!["/ip4/10.0.0.1/tcp/4001".to_string()]),
                _ => None,
            };
            let number = if random.percent(98) { number } else { random.machine() };
            (machine_key(number), Action::Heartbeat { addresses })
        }
        52..66 => {
            let min = 1 + random.below(3) as u32;
            let have = ledger.account(account(signer)).map_or(0, |account| account.spendable().micro());
            let budget = match random.below(10) {
                0 => random.below(2 * have + 1),
                1..3 => have,
                3..5 => random.below(have + 1),
                _ => random.below(60_000),
            };
            let mut spec = spec(min, min + random.below(3) as u32, budget);
            spec.workers.cores = 1 + random.below(3) as u32;
            spec.workers.ram_mib = 256 * (1 + random.below(6));
            spec.workers.share_machine = random.percent(30);
            spec.recovery.restarts = random.below(3) as u32;
            spec.training.seed = random.below(3);
            if random.percent(20) {
                spec.budget.slots = (0..4).filter(|_| random.percent(50)).collect();
            }
            let mut bytes = spec.to_bytes();
            if random.percent(2) {
                bytes.pop();
            }
            (person(signer), Action::Borrow { spec: bytes })
        }
        66..70 => {
            let jobs = ledger.jobs().len() as u64;
            let recent = jobs.saturating_sub(random.below(12));
            let owner = match ledger.job(JobId(recent)) {
                Some(job) if random.percent(80) => ledger.account(job.owner).expect("it exists").key,
                _ => person(signer),
            };
            (owner, Action::Cancel { job: JobId(recent) })
        }
        _ => random_receipt(random, market),
    }
}

fn random_receipt(random: &mut Random, market: &Market) -> (PublicKey, Action) {
    let ledger = &market.ledger;
    let recent = LeaseId((ledger.leases().len() as u64).saturating_sub(random.below(8)));
    let working: Vec<LeaseId> = ledger.machines().flat_map(|machine| machine.leases.iter().copied()).collect();
    let id = match working.len() as u64 {
        count if count > 0 && random.percent(95) => working[random.below(count) as usize],
        0 if random.percent(80) => {
            let number = random.machine_of(market);
            return (machine_key(number), Action::Heartbeat { addresses: None });
        }
        _ => recent,
    };
    let Some(lease) = ledger.lease(id) else {
        let nothing = receipt_of_nothing(id);
        return (machine_key(random.machine()), Action::Receipt(nothing));
    };
    let outcome = match random.below(60) {
        0 => LeaseOutcome::Failed(FailureReason::OutOfMemory),
        1 => LeaseOutcome::Failed(FailureReason::DataUnavailable),
        2 => LeaseOutcome::Failed(FailureReason::OwnerReturned),
        3 => LeaseOutcome::Failed(FailureReason::PeerLost),
        4 if random.percent(30) => LeaseOutcome::Failed(FailureReason::Diverged),
        // Only one that trains with the others has anything to say of the end.
        5..17 if lease.joined.is_some() || random.percent(5) => LeaseOutcome::Finished(Hash::of(&lease.job.0.to_le_bytes())),
        17 if random.percent(30) => LeaseOutcome::Finished(Hash::of(b"another model")),
        _ => LeaseOutcome::Running,
    };
    let mut receipt = receipt(lease, lease.sequence + 1, outcome);
    if lease.joined.is_none() && random.percent(90) {
        // It took part in nothing yet.
        receipt.rounds = random.below(30);
        receipt.from = receipt.rounds;
    } else if lease.took_part() {
        receipt.from = lease.from;
        receipt.rounds = lease.rounds + random.below(10);
    }
    receipt.checkpoint = random.percent(20).then(|| {
        let too_many = u64::from(random.percent(5));
        let rounds = random.below(receipt.rounds + 1 + too_many);
        Checkpoint { state: Hash::of(&random.below(3).to_le_bytes()), rounds }
    });
    let job = ledger.job(lease.job).expect("it has a lease");
    receipt.missing = match random.below(100) {
        // Often the same one, so that there are majorities.
        0..25 if lease.joined.is_some() => job.members.last().copied(),
        25..35 if job.members.len() > 1 => Some(job.members[random.below(job.members.len() as u64) as usize]),
        35..37 => Some(job.leases[random.below(job.leases.len() as u64) as usize]),
        37 => Some(recent),
        _ => None,
    };
    if receipt.missing == Some(id) && random.percent(95) {
        receipt.missing = None;
    }
    if let LeaseOutcome::Finished(_) = outcome {
        receipt.parameters = Hash::of(if random.percent(98) { b"same" } else { b"not the same" });
    }
    match random.below(40) {
        0 => receipt.rank += 1,
        1 => receipt.job = JobId(random.below(10)),
        2 => receipt.sequence = lease.sequence,
        3 => receipt.sequence = random.below(3) as u32,
        4 => receipt.sequence += 1 + random.below(3) as u32,
        5 => receipt.samples = random.below(100),
        6 => receipt.rounds = random.below(30),
        7 if random.percent(50) => receipt.from = random.below(30),
        _ => {}
    }
    let key = ledger.machine(lease.machine).expect("it exists").key;
    (if random.percent(98) { key } else { machine_key(random.machine()) }, Action::Receipt(receipt))
}

fn receipt_of_nothing(lease: LeaseId) -> Receipt {
    Receipt {
        job: JobId(1),
        lease,
        rank: 0,
        sequence: 1,
        from: 0,
        rounds: 0,
        samples: 0,
        cpu_ms: 0,
        parameters: Hash::default(),
        commitments: Hash::default(),
        committed: 0,
        loss_micro: 0,
        checkpoint: None,
        missing: None,
        outcome: LeaseOutcome::Running,
    }
}

/// A block of up to 12 operations, some of them wrong, some of them sent before.
fn random_block(random: &mut Random, market: &Market, sent: &mut Vec<VerifiedTransaction>) -> Vec<VerifiedTransaction> {
    let mut block: Vec<VerifiedTransaction> = vec![];
    let mut nonces: BTreeMap<PublicKey, u64> = BTreeMap::new();
    for _ in 0..random.below(13) {
        if random.percent(3) && !sent.is_empty() {
            let again = sent[random.below(sent.len() as u64) as usize].clone();
            if block.iter().all(|other| other.id() != again.id()) {
                block.push(again);
            }
            continue;
        }
        let (signer, action) = random_action(random, market);
        // A machine that signs two receipts of one number is a rare one.
        if let Action::Receipt(receipt) = &action
            && block.iter().any(|other| matches!(&other.body().action, Action::Receipt(other) if other.lease == receipt.lease))
            && random.percent(90)
        {
            continue;
        }
        let good = market.next(signer, action.clone()).body().nonce;
        let counts = !matches!(action, Action::OpenAccount { .. } | Action::Receipt(_) | Action::Join { .. });
        let expected = if counts { *nonces.entry(signer).or_insert(good) } else { 0 };
        let nonce = match random.below(50) {
            0 => expected + 1,
            1 => expected.saturating_sub(1),
            _ => expected,
        };
        let lifetime = if random.percent(2) { 0 } else { 1 + random.below(50) };
        if counts && nonce == expected && lifetime > 0 {
            nonces.insert(signer, expected + 1);
        }
        let transaction = transaction(signer, nonce, Height(market.ledger.height().0 + lifetime), action);
        if block.iter().all(|other| other.id() != transaction.id()) {
            block.push(transaction);
        }
    }
    for transaction in &block {
        if sent.len() < 64 {
            sent.push(transaction.clone());
        } else {
            sent[random.below(64) as usize] = transaction.clone();
        }
    }
    block
}

/// Every balance, escrow, state and count of both ledgers.
fn compare(market: &Market, naive: &Naive) {
    let ledger = &market.ledger;
    assert_eq!(i128::from(ledger.time().0), naive.time);
    assert_eq!(ledger.accounts().len(), naive.people.len());
    for person in &naive.people {
        let account = ledger.account_of_key(&person.key).expect("both have it");
        assert_eq!(account.nonce, person.nonce);
        assert_eq!((i128::from(account.granted.micro()), i128::from(account.earned.micro())), (person.granted, person.earned));
        assert_eq!(i128::from(account.reliability), person.trust, "{}", account.id);
    }
    assert_eq!(ledger.machines().len(), naive.hosts.len());
    for (i, host) in naive.hosts.iter().enumerate() {
        let machine = ledger.machine_of_key(&host.key).expect("both have it");
        assert_eq!(machine.state, naive.host_state(i), "{}", machine.id);
        assert_eq!((machine.nonce, &machine.config), (host.nonce, &host.config), "{}", machine.id);
        assert_eq!((machine.offer, machine.pending), (host.offer, host.next), "{}", machine.id);
        assert_eq!(machine.open, naive.open(i), "{}", machine.id);
        let merits = (i128::from(machine.reliability), i128::from(machine.observed_speed));
        assert_eq!(merits, (host.trust, host.shown_speed), "{}", machine.id);
        let used = machine.used;
        let numbers: [i128; 4] = [used.cores.into(), used.gpus.into(), used.ram_mib.into(), used.disk_mib.into()];
        assert_eq!(numbers, naive.used(i), "{}", machine.id);
        let counts = (i128::from(machine.leases_finished), i128::from(machine.leases_lost));
        assert_eq!(counts, (host.good, host.bad), "{}", machine.id);
    }
    let mut paid = vec![0_i128; naive.tasks.len()];
    assert_eq!(ledger.leases().len(), naive.shares.len());
    for (lease, share) in ledger.leases().zip(&naive.shares) {
        paid[share.job] += share.paid;
        assert_eq!((lease.job.0 as usize, lease.rank, lease.state), (share.job + 1, share.rank, share.state), "{}", lease.id);
        assert_eq!(lease.machine, MachineId::from_key(&naive.hosts[share.host].key), "{}", lease.id);
        assert_eq!(i128::from(lease.paid.micro()), share.paid, "{}", lease.id);
        assert_eq!((i128::from(lease.paid_ms), i128::from(lease.metered.0)), (share.paid_ms, share.metered), "{}", lease.id);
        assert_eq!(i128::from(lease.minimum.core_hour.micro()), share.least[0], "{}", lease.id);
        assert_eq!(lease.sequence, share.last.map_or(0, |receipt| receipt.sequence), "{}", lease.id);
        let moments = [lease.ready, lease.joined].map(|moment| moment.map(|time| i128::from(time.0)));
        assert_eq!(moments, [share.ready, share.joined], "{}", lease.id);
        let missing = share.misses.map(|missed| LeaseId(missed as u64 + 1));
        assert_eq!((lease.missing, lease.from), (missing, share.last.map_or(0, |receipt| receipt.from)), "{}", lease.id);
    }
    let mut escrow = 0;
    assert_eq!(ledger.jobs().len(), naive.tasks.len());
    for (i, ((job, task), paid)) in ledger.jobs().zip(&naive.tasks).zip(&paid).enumerate() {
        assert_eq!(job.state, task.state, "{}", job.id);
        assert_eq!(job.blamed, task.blamed.map(|share| LeaseId(share as u64 + 1)), "{}", job.id);
        assert_eq!((job.checkpoint, job.failures), (task.kept, task.failures), "{}", job.id);
        assert_eq!(job.started.map(|time| i128::from(time.0)), task.began, "{}", job.id);
        assert_eq!(job.finished.map(|last| (last.model, last.parameters)), task.done, "{}", job.id);
        let members: Vec<LeaseId> = naive.members(i).iter().map(|share| LeaseId(*share as u64 + 1)).collect();
        assert_eq!((job.generation, &job.members), (task.generation, &members), "{}", job.id);
        assert_eq!(job.is_waiting(), naive.waits(i), "{}", job.id);
        let rest = if task.state.is_closed() { 0 } else { i128::from(task.spec.budget.max.micro()) - paid };
        assert_eq!((i128::from(job.escrow().micro()), i128::from(job.paid.micro())), (rest, *paid), "{}", job.id);
        assert_eq!(i128::from(job.refunded.micro()), task.refunded, "{}", job.id);
        let granted = if task.state.is_closed() { 0 } else { (task.granted - paid).max(0) };
        assert_eq!(i128::from(job.escrow_granted.micro()), granted, "{}: starting credits are spent first", job.id);
        escrow += rest;
    }
    for number in 0..12 {
        let invite = ledger.invite(&code(number));
        let expected = naive.codes.iter().find(|other| other.key == code(number));
        assert_eq!(invite.map(|invite| invite.offer), expected.map(|code| code.offer), "code {number}");
    }
    for slot in 0..4 {
        assert_eq!(i128::from(ledger.utilisation_permille(slot)), naive.core_use(slot), "slot {slot}");
    }
    // Nothing is created or lost: what was minted is in purses and escrow.
    let purses: i128 = naive.people.iter().map(|person| person.granted + person.earned).sum();
    assert!(naive.people.iter().all(|person| person.granted >= 0 && person.earned >= 0));
    assert_eq!(purses + escrow, naive.people.len() as i128 * i128::from(STARTING_CREDITS));
    let totals = ledger.totals();
    let numbers = (totals.purses, totals.escrow, totals.minted);
    let micro = |micro: i128| Credits::from_micro(u64::try_from(micro).expect("not negative"));
    assert_eq!(numbers, (micro(purses), micro(escrow), micro(purses + escrow)));
}

#[derive(Default)]
struct Seen {
    operations: u64,
    blocks: u64,
    codes: BTreeMap<u16, u64>,
    jobs: BTreeMap<String, u64>,
    leases: BTreeMap<String, u64>,
    /// Blocks after which a changed offer waited for leases.
    waiting_offers: u64,
    /// Leases that ended because hours did.
    ended_by_hours: u64,
    /// Changes of members, members that the others outvoted, jobs that recovered, workers that jobs got later on, and jobs that
    /// were finished by the loss of those that had not done all rounds.
    generations: u64,
    outvoted: u64,
    recoveries: u64,
    later_workers: u64,
    finished_by_loss: u64,
    /// Prices that demand and supply raised, and that they lowered.
    moved_prices: (u64, u64),
}

impl Seen {
    /// Counts what a block did by itself, after its transactions.
    fn watch(&mut self, after: &Ledger, by_itself: &[Event]) {
        for event in by_itself {
            match event {
                Event::Lease { job, state: LeaseState::Ended, .. } => {
                    self.ended_by_hours += u64::from(!after.job(*job).expect("it has a lease").state.is_closed());
                }
                Event::Lease { machine, state: LeaseState::Lost, .. } => {
                    self.outvoted += u64::from(after.machine(*machine).expect("it has a lease").heard);
                }
                Event::Lease { lease, job, state: LeaseState::Active, .. } => {
                    let first = after.job_leases(*job).next().expect("it has a lease").started;
                    self.later_workers += u64::from(after.lease(*lease).expect("it began").started > first);
                }
                Event::Members { .. } => self.generations += 1,
                Event::Job { job, state: JobState::Running, .. } => {
                    self.recoveries += u64::from(after.job(*job).expect("it was told of").generation > 1);
                }
                Event::Job { state: JobState::Finished(_), .. } => self.finished_by_loss += 1,
                _ => {}
            }
        }
    }
}

/// Every second market has dynamic prices, all with other numbers, and every third one lets a physical machine be lent twice.
fn random_params(random: &mut Random, seed: u64) -> Params {
    let pricing = DynamicPricing {
        target_permille: 1 + random.below(1_500) as u32,
        gain_permille: random.below(3_000) as u32,
        weight_permille: 1 + random.below(1_000) as u32,
        max_change_permille: random.below(1_001) as u32,
        first: random
            .percent(20)
            .then(|| [params().price_ceiling, params().price_floor, params().price_floor, params().price_ceiling]),
    };
    Params {
        starting_credits: Credits::from_micro(STARTING_CREDITS),
        price_policy: if seed.is_multiple_of(2) { PricePolicy::Random } else { PricePolicy::Dynamic(pricing) },
        unique_hosts: !seed.is_multiple_of(3),
        max_machines_per_account: 3,
        max_queued_jobs: 10,
        ..params()
    }
}

fn live(seed: u64, seen: &mut Seen) {
    let mut random = Random(seed);
    let params = random_params(&mut random, seed);
    let mut market = Market::new(params.clone());
    market.thorough = false;
    let mut naive = Naive::new(params, REGISTRAR, START);
    let mut sent = vec![];
    let mut operations = 0;
    while operations < OPERATIONS_OF_A_MARKET {
        let time = TimeMs(
            market.ledger.time().0
                + match random.below(200) {
                    0 => 1 + random.below(1_000_000),
                    1..5 => 10_000 + random.below(80_000),
                    5..20 => 2_000 + random.below(12_000),
                    _ => 1 + random.below(2_000),
                },
        );
        let mut block = random_block(&mut random, &market, &mut sent);
        block.splice(0..0, market.price(time));
        let header = market.header(time, &block);
        let prices = market.ledger.prices().copied();
        let expected = naive.block(time, &block);
        let applied = market.apply_block(&header, &block);
        let codes: Vec<u16> = applied.results.iter().map(|result| result.code).collect();
        assert_eq!(codes, expected, "seed {seed}, block {}", header.height);
        compare(&market, &naive);
        seen.waiting_offers += u64::from(market.ledger.machines().any(|machine| machine.pending.is_some()));
        let caused: usize = applied.results.iter().map(|result| result.events as usize).sum();
        seen.watch(&market.ledger, &applied.events[caused..]);
        if let (Some(old), Some(new)) = (prices, market.ledger.prices())
            && seed % 2 == 1
        {
            let of_cores = old.slots.iter().zip(&new.slots).map(|(old, new)| new.core_hour.cmp(&old.core_hour));
            let (raised, lowered) = &mut seen.moved_prices;
            of_cores.for_each(|change| match change {
                Ordering::Greater => *raised += 1,
                Ordering::Less => *lowered += 1,
                Ordering::Equal => {}
            });
        }
        operations += block.len() as u64;
        seen.blocks += 1;
        codes.into_iter().for_each(|code| *seen.codes.entry(code).or_default() += 1);
        if seen.blocks.is_multiple_of(64) {
            market.ledger.check_invariants().expect("an invariant is broken");
        }
    }
    market.check();
    seen.operations += operations;
    for job in market.ledger.jobs() {
        let state = match job.state {
            JobState::Finished(_) => "finished".to_string(),
            state => state.to_string().chars().take(24).collect(),
        };
        *seen.jobs.entry(state).or_default() += 1;
    }
    for lease in market.ledger.leases() {
        *seen.leases.entry(format!("{:?}", lease.state).chars().take(12).collect()).or_default() += 1;
    }
}

#[test]
fn two_ledgers_agree_on_millions_of_random_operations() {
    let wanted = std::env::var("DEEPMARKET_RANDOM_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(OPERATIONS);
    let begun = Instant::now();
    let mut seen = Seen::default();
    let mut seed = 0;
    while seen.operations < wanted {
        live(seed, &mut seen);
        seed += 1;
    }
    println!("{} operations in {} blocks of {seed} markets: {:?}", seen.operations, seen.blocks, begun.elapsed());
    println!(
        "{} offers waited, hours ended {} leases, prices moved {:?}",
        seen.waiting_offers, seen.ended_by_hours, seen.moved_prices
    );
    println!(
        "members changed {} times, {} were outvoted, {} jobs recovered, {} workers came later, {} jobs finished by a loss",
        seen.generations, seen.outvoted, seen.recoveries, seen.later_workers, seen.finished_by_loss
    );
    println!("codes {:?}\njobs {:?}\nleases {:?}", seen.codes, seen.jobs, seen.leases);
    assert!(seen.operations >= wanted);
    // The run is worth something only if it meets everything: successes, every rejection, every end of a job and of a lease.
    let every_code = [
        0, 2001, 2002, 2003, 2004, 2010, 2011, 2012, 2013, 2014, 2020, 2021, 2022, 2023, 2030, 2031, 2032, 2033, 2034, 2036,
        2037, 2038, 2039, 2040, 2041, 2042, 2043, 2050, 2052, 2053, 2054, 2055, 2056, 2057, 2058, 2070, 2071, 2072, 2073, 2074,
        2075, 2076, 2077, 2078, 2079, 2080,
    ];
    for code in every_code {
        assert!(seen.codes.contains_key(&code), "no operation met {code}");
    }
    assert!(seen.codes[&0] * 2 > seen.operations, "most operations should succeed");
    assert!(seen.jobs.len() >= 9, "not every end of a job was met: {:?}", seen.jobs);
    assert_eq!(seen.leases.len(), 9, "not every end of a lease was met: {:?}", seen.leases);
    let (raised, lowered) = seen.moved_prices;
    assert!([seen.waiting_offers, seen.ended_by_hours, raised, lowered].iter().all(|times| *times > 0));
    let churn = [seen.generations, seen.outvoted, seen.recoveries, seen.later_workers, seen.finished_by_loss];
    assert!(churn.iter().all(|times| *times > 0), "not every change of workers was met: {churn:?}");
}
