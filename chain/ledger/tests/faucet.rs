//! The faucet: one verified identity opens one account, once; and starting credits pay for work of others, whatever their
//! owner tries to make money of them.

mod support;

use deepmarket_ledger::{GenesisState, Ledger};
use deepmarket_types::*;
use support::*;

/// How often one person tries to get a second account.
const TRIES: u64 = 10_000;
/// Transactions of a block: blocks of one would make no difference but last longer.
const BLOCK: usize = 250;

/// A key that nobody else has.
fn fresh(number: u64) -> SecretKey {
    SecretKey::from_seed(Hash::tagged("the faucet's tests", &[&number.to_le_bytes()]).0)
}

/// A market whose registrar has a real key: here signatures are made and checked.
fn market_of(registrar: &SecretKey) -> Market {
    let mut market = Market::new(params());
    let genesis = GenesisState { registrars: vec![registrar.public()], ..genesis(params()) };
    let (ledger, writes) = Ledger::genesis(&genesis);
    market.ledger = ledger;
    market.entries = writes.into_iter().map(|(key, value)| (key, value.expect("genesis removes nothing"))).collect();
    market.thorough = false;
    market
}

fn open(chain: &ChainId, key: &SecretKey, voucher: &Voucher) -> Transaction {
    open_until(Height(u64::MAX), chain, key, voucher)
}

fn open_until(expires: Height, chain: &ChainId, key: &SecretKey, voucher: &Voucher) -> Transaction {
    Transaction::sign(key, chain, 0, expires, Action::OpenAccount { voucher: voucher.clone() })
}

/// What a try must end in: refused for its form before it reaches a block, or by the ledger with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Form,
    Code(u16),
}

const KEY_TAKEN: End = End::Code(2010);
const ANOTHERS_VOUCHER: End = End::Code(2011);
const UNKNOWN_REGISTRAR: End = End::Code(2012);
const VOUCHER_EXPIRED: End = End::Code(2013);
const IDENTITY_TAKEN: End = End::Code(2014);

/// Somebody who has an account and wants another one.
struct Greedy<'a> {
    registrar: &'a SecretKey,
    chain: ChainId,
    identity: Hash,
    key: SecretKey,
    voucher: Voucher,
}

impl Greedy<'_> {
    /// The `number`th try, at a time of the chain.
    fn attempt(&self, number: u64, now: TimeMs) -> (Transaction, End) {
        let (chain, identity, key) = (self.chain, self.identity, fresh(number));
        let soon = now.plus(1 + number * 7_919 % MINUTE);
        // What the registrar gives to whoever proves to be this person, for another key.
        let honest = Voucher::sign(self.registrar, &chain, identity, key.public(), soon.plus(MINUTE));
        let with = |voucher: &Voucher, end| (open(&chain, &key, voucher), end);
        match number % 14 {
            0 => with(&honest, IDENTITY_TAKEN),
            // The voucher that opened the account: for its key again, for another key, as another key's.
            1 => (open_until(Height(u64::MAX - number), &chain, &self.key, &self.voucher), KEY_TAKEN),
            2 => with(&self.voucher, ANOTHERS_VOUCHER),
            3 => with(&Voucher { key: key.public(), ..self.voucher.clone() }, End::Form),
            // A good voucher with another salted hash, a longer life, another registrar's name, another signature.
            4 => with(&Voucher { identity: Hash::of(&number.to_le_bytes()), ..honest }, End::Form),
            5 => with(&Voucher { expires: TimeMs(u64::MAX), ..honest }, End::Form),
            6 => with(&Voucher { registrar: self.key.public(), ..honest }, End::Form),
            7 => with(&Voucher { signature: self.voucher.signature, ..honest }, End::Form),
            // Void since long ago, or since this moment, of an identity that has no account.
            8 => {
                let void = TimeMs(now.0 - number % 5 * number);
                with(&Voucher::sign(self.registrar, &chain, Hash::of(b"nobody"), key.public(), void), VOUCHER_EXPIRED)
            }
            // One's own registrar, under one's own name and under that of the market's.
            9 => with(&Voucher::sign(&self.key, &chain, Hash::of(b"me"), key.public(), soon), UNKNOWN_REGISTRAR),
            10 => {
                let forged = Voucher::sign(&self.key, &chain, Hash::of(b"me"), key.public(), soon);
                with(&Voucher { registrar: self.registrar.public(), ..forged }, End::Form)
            }
            // Another market's: the voucher, and the whole transaction.
            11 => {
                let other = Hash::of(b"another market");
                with(&Voucher::sign(self.registrar, &other, Hash::of(b"me"), key.public(), soon), End::Form)
            }
            12 => (open(&Hash::of(b"another market"), &key, &honest), End::Form),
            // Somebody else signs for the key that the voucher is for.
            _ => {
                let mut stolen = open(&chain, &self.key, &honest);
                stolen.body.signer = key.public();
                (stolen, End::Form)
            }
        }
    }
}

#[test]
fn one_identity_gets_one_account_in_ten_thousand_tries() {
    let registrar = fresh(u64::MAX);
    let mut market = market_of(&registrar);
    let (chain, key, identity) = (market.ledger.chain(), fresh(u64::MAX - 1), Hash::of(b"the salted hash of ada@pdx.edu"));
    let voucher = Voucher::sign(&registrar, &chain, identity, key.public(), market.ledger.time().plus(MINUTE));
    let first = open(&chain, &key, &voucher).verify(&chain).expect("it is well signed");
    assert_eq!(market.block(1_000, vec![first]), [0]);

    let greedy = Greedy { registrar: &registrar, chain, identity, key, voucher };
    let mut ends = std::collections::BTreeMap::<End, u64>::new();
    let numbers: Vec<u64> = (0..TRIES).collect();
    for numbers in numbers.chunks(BLOCK) {
        // Vouchers are judged at the time of the block that they come in.
        let now = market.ledger.time().plus(1_000);
        let mut block = Vec::new();
        let mut expected = Vec::new();
        for number in numbers {
            let (transaction, end) = greedy.attempt(*number, now);
            *ends.entry(end).or_default() += 1;
            match (transaction.verify(&chain), end) {
                (Err(FormError::BadSignature), End::Form) => {}
                (Ok(verified), End::Code(code)) => {
                    block.push(verified);
                    expected.push(code);
                }
                (verified, end) => panic!("try {number} should have ended in {end:?}: {verified:?}"),
            }
        }
        assert_eq!(market.block(1_000, block), expected);
    }
    assert_eq!(ends.len(), 6, "each kind of refusal was met: {ends:?}");

    assert_eq!(market.ledger.accounts().len(), 1);
    assert_eq!(market.ledger.totals().minted, Credits::from_credits(50));
    market.check();
    // Other people are let in all the while.
    let other = fresh(TRIES);
    let voucher = Voucher::sign(&registrar, &chain, Hash::of(b"grace"), other.public(), market.ledger.time().plus(1_001));
    let other = open(&chain, &other, &voucher).verify(&chain).expect("it is well signed");
    assert_eq!(market.block(1_000, vec![other]), [0]);
}

#[test]
fn of_many_keys_of_one_identity_in_one_block_the_first_one_gets_the_account() {
    let registrar = fresh(0);
    let mut market = market_of(&registrar);
    let (chain, expires) = (market.ledger.chain(), market.ledger.time().plus(MINUTE));
    let attempt = |number| {
        let key = fresh(number);
        let voucher = Voucher::sign(&registrar, &chain, Hash::of(b"ada"), key.public(), expires);
        open(&chain, &key, &voucher).verify(&chain).expect("it is well signed")
    };
    let mut codes = market.block(1_000, (1..=100).map(attempt).collect()).into_iter();
    assert_eq!(codes.next(), Some(0));
    assert!(codes.all(|code| code == 2014));
    assert_eq!(market.ledger.totals().minted, Credits::from_credits(50));
}

/// What an account could call its own: the starting credits in its purse and in its jobs' escrow, and the earned ones.
fn wealth(market: &Market, number: u8) -> (u64, u64) {
    let (mut granted, mut earned) = market.purses(number);
    for job in market.ledger.jobs_of(account(number)) {
        granted += job.escrow_granted.micro();
        earned += job.escrow_earned.micro();
    }
    (granted, earned)
}

/// Heartbeats of all machines, and then a receipt of each worker of a job.
fn work(market: &mut Market, ms: u64, job: JobId) {
    let machines: Vec<u8> = (1..=3).filter(|number| market.ledger.machine(machine(*number)).is_some()).collect();
    market.beat(500, &machines);
    market.train(ms, job);
}

/// Can an account send even the least amount to somebody?
fn can_cash(market: &mut Market, number: u8, to: u8) -> bool {
    market.send(person(number), Action::Transfer { to: account(to), amount: Credits::from_micro(1) }) == 0
}

/// Account 1 with two machines of its own and nobody else's on the market; account 9 is there to be sent something.
fn alone() -> Market {
    Market::with_machines(2)
}

const ALL: u64 = 50_000_000;

#[test]
fn who_borrows_the_own_machines_earns_nothing_however_the_job_ends() {
    let mut market = alone();
    let nothing_gained = |market: &mut Market, how: &str| {
        assert_eq!(wealth(market, 1), (ALL, 0), "{how}");
        assert!(!can_cash(market, 1, 9), "{how}");
        market.beat(1_000, &[1, 2]);
    };

    // To the end, on both machines.
    let job = market.submit(1, &spec(2, 2, 20_000_000));
    for _ in 0..5 {
        work(&mut market, 2_000, job);
        assert_eq!(wealth(&market, 1), (ALL, 0));
    }
    let model = LeaseOutcome::Finished(Hash::of(b"model"));
    let finished = vec![market.receipt(job, 0, model), market.receipt(job, 1, model)];
    // Which parameters they report doesn't matter here, but they must report the same ones.
    assert_eq!(market.block(1_000, finished), [0, 0]);
    assert!(market.state(job).is_closed() && market.ledger.job(job).unwrap().paid > Credits::ZERO);
    nothing_gained(&mut market, "served to the end");

    // Cancelled before anything was paid, right after a receipt, and in the block of a receipt, before and after it.
    for receipts in 0..3 {
        let job = market.submit(1, &spec(1, 1, ALL));
        for _ in 0..receipts {
            work(&mut market, 3_000, job);
        }
        assert_eq!(market.send(person(1), Action::Cancel { job }), 0);
        nothing_gained(&mut market, "cancelled between receipts");
    }
    for cancel_first in [true, false] {
        let job = market.submit(1, &spec(1, 1, ALL));
        work(&mut market, 3_000, job);
        let mut block = vec![market.receipt(job, 0, LeaseOutcome::Running), market.next(person(1), Action::Cancel { job })];
        if cancel_first {
            block.reverse();
        }
        let codes = market.block(3_000, block);
        assert_eq!(codes, if cancel_first { [0, 2077] } else { [0, 0] });
        nothing_gained(&mut market, "cancelled in the block of a receipt");
    }

    // Until the escrow is used up, whose last interval is paid in part.
    let job = market.submit(1, &spec(1, 1, 40_000));
    while !market.state(job).is_closed() {
        work(&mut market, 2_500, job);
        assert_eq!(wealth(&market, 1), (ALL, 0));
    }
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Budget));
    nothing_gained(&mut market, "the budget is used up");

    // A worker fails; its owner takes it back; its machine goes silent.
    for reason in [FailureReason::Diverged, FailureReason::OwnerReturned] {
        let job = market.submit(1, &spec(1, 1, ALL));
        work(&mut market, 3_000, job);
        let failed = market.receipt(job, 0, LeaseOutcome::Failed(reason));
        assert_eq!(market.block(2_000, vec![failed]), [0]);
        if !market.state(job).is_closed() {
            assert_eq!(market.send(person(1), Action::Cancel { job }), 0);
        }
        nothing_gained(&mut market, "failed");
    }
    let job = market.submit(1, &spec(1, 1, ALL));
    work(&mut market, 3_000, job);
    for _ in 0..8 {
        market.beat(2_000, &[]);
    }
    assert_eq!(market.send(person(1), Action::Cancel { job }), 0);
    nothing_gained(&mut market, "lost contact");
}

#[test]
fn a_high_minimum_price_of_ones_own_makes_no_credits_of_starting_ones() {
    let mut market = alone();
    let minimum = per_second(500);
    for number in [1, 2] {
        market.offer(1, number, Offer { minimum, ..offer(cores(1)) });
    }
    let job = market.submit(1, &spec(1, 2, 30_000_000));
    market.beat(1_000, &[1, 2]);
    for _ in 0..6 {
        if !market.ledger.job(job).unwrap().active.is_empty() {
            work(&mut market, 3_000, job);
        }
        assert_eq!(wealth(&market, 1), (ALL, 0));
    }
    assert!(!can_cash(&mut market, 1, 9));
}

#[test]
fn what_strangers_pay_is_earned_and_ones_own_work_adds_nothing_to_it() {
    // Account 1 lends to 9, then spends both purses on its own machines.
    let mut market = alone();
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    work(&mut market, 4_000, job);
    assert_eq!(market.send(person(9), Action::Cancel { job }), 0);
    let (_, earned) = market.purses(1);
    assert!(earned > 0);
    assert_eq!(market.purses(9).0 + earned, ALL);

    let job = market.submit(1, &spec(2, 2, ALL + earned));
    assert_eq!(market.purses(1), (0, 0));
    for _ in 0..6 {
        work(&mut market, 3_000, job);
        assert_eq!(wealth(&market, 1), (ALL, earned));
        assert_eq!(market.purses(1).1, 0, "as long as starting credits are in escrow only they come back");
    }
    assert_eq!(market.send(person(1), Action::Cancel { job }), 0);
    assert_eq!(market.purses(1), (ALL, earned));

    // A stranger's machine in the same job: what it gets is gone, what the own one gets comes back.
    market.lend(9, 3, cores(1), 100);
    market.beat(1_000, &[1, 2, 3]);
    let job = market.submit(1, &spec(3, 3, 30_000_000));
    let before = market.purses(9).1;
    work(&mut market, 3_000, job);
    work(&mut market, 3_000, job);
    let to_stranger = market.purses(9).1 - before;
    assert!(to_stranger > 0);
    assert_eq!(wealth(&market, 1), (ALL - to_stranger, earned));
}

#[test]
fn a_machine_that_joined_by_a_code_is_ones_own_too() {
    let mut market = Market::new(params());
    market.open(1);
    market.open(9);
    let expires = market.ledger.time().plus(MINUTE);
    let invite = Action::Invite { code: code(1), offer: Some(offer(cores(1))), expires };
    assert_eq!(market.send(person(1), invite), 0);
    assert_eq!(market.send(machine_key(1), join(code(1), config(1, cores(1), 100))), 0);
    market.beat(1_000, &[1]);
    let job = market.submit(1, &spec(1, 1, ALL));
    for _ in 0..4 {
        work(&mut market, 3_000, job);
        assert_eq!(wealth(&market, 1), (ALL, 0));
    }
    assert!(!can_cash(&mut market, 1, 9));
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn no_sequence_of_borrowing_lending_and_cancelling_moves_a_starting_credit_into_the_earned_purse() {
    let mut paid_jobs = 0;
    for episode in 0..60 {
        let mut dice = Dice(episode);
        let mut market = alone();
        for _ in 0..40 {
            let open: Vec<JobId> = market.ledger.jobs_of(account(1)).filter(|job| !job.state.is_closed()).map(|j| j.id).collect();
            let job = open.get(dice.below(1 + open.len() as u64) as usize).copied();
            match (dice.below(8), job) {
                (0..=1, _) => {
                    let budget = 20_000 + dice.below(ALL / 4);
                    let workers = 1 + dice.below(2) as u32;
                    let borrow = Action::Borrow { spec: spec(workers, 2, budget).to_bytes() };
                    market.send(person(1), borrow);
                }
                (2, Some(job)) => drop(market.send(person(1), Action::Cancel { job })),
                (3, _) => {
                    let machine = machine(1 + dice.below(2) as u8);
                    let mode = if dice.below(2) == 0 { ChangeMode::AtOnce } else { ChangeMode::AfterLease };
                    market.send(person(1), Action::Withdraw { machine, mode });
                }
                (4, _) => {
                    let minimum = per_second(dice.below(3) * 300);
                    let offer = Offer { minimum, ..offer(cores(1)) };
                    let lend = Action::Lend { machine: machine(1 + dice.below(2) as u8), offer, mode: ChangeMode::AtOnce };
                    market.send(person(1), lend);
                }
                (5..=7, Some(job)) => {
                    let active: Vec<usize> =
                        market.ledger.job_leases(job).filter(|l| l.is_active()).map(|l| l.rank as usize).collect();
                    let outcome = match dice.below(12) {
                        0 => LeaseOutcome::Failed(FailureReason::OwnerReturned),
                        1 => LeaseOutcome::Failed(FailureReason::TrainerCrashed),
                        2 => LeaseOutcome::Finished(Hash::of(b"model")),
                        _ => LeaseOutcome::Running,
                    };
                    let receipts: Vec<_> = active.iter().map(|rank| market.receipt(job, *rank, outcome)).collect();
                    market.block(dice.below(6_000), receipts);
                }
                _ => {}
            }
            let heartbeats = [1, 2].map(|number| market.heartbeat(number)).into();
            market.block(500 + dice.below(2_500), heartbeats);
            assert_eq!(wealth(&market, 1), (ALL, 0), "episode {episode}");
        }
        paid_jobs += market.ledger.jobs().filter(|job| job.paid > Credits::ZERO).count();
        assert!(!can_cash(&mut market, 1, 9), "episode {episode}");
    }
    assert!(paid_jobs > 50, "only {paid_jobs} jobs paid anything");
}
