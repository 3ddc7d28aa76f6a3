//! Every rejection that a transaction can meet, with its code, and the order of checks where it matters.

mod support;

use deepmarket_ledger::{BlockError, Ledger, Params, Rejection};
use deepmarket_types::*;
use support::*;

/// The code of a transaction now, from the mempool's check and from a block: they must agree.
fn code_of(market: &mut Market, transaction: VerifiedTransaction) -> u16 {
    let checked = market.ledger.precheck(&transaction).err().map_or(0, |rejection| rejection.code());
    let applied = market.block(1_000, vec![transaction])[0];
    assert_eq!(checked, applied, "the mempool's check and the block disagree");
    applied
}

fn send(market: &mut Market, signer: PublicKey, action: Action) -> u16 {
    let transaction = market.next(signer, action);
    code_of(market, transaction)
}

#[test]
fn an_expired_transaction_is_refused_and_uses_nothing() {
    let mut market = Market::new(params());
    market.open(1);
    let action = Action::Transfer { to: account(2), amount: Credits::from_credits(1) };
    let height = market.ledger.height();
    let late = transaction(person(1), 0, height, action.clone());
    assert_eq!(code_of(&mut market, late), 2001);
    assert_eq!(market.ledger.account(account(1)).unwrap().nonce, 0);
    let just_in_time = transaction(person(1), 0, market.ledger.height().next(), action);
    assert_eq!(code_of(&mut market, just_in_time), 2022);
}

#[test]
fn a_nonce_is_used_once_even_where_the_rules_then_say_no() {
    let mut market = Market::new(params());
    market.open(1);
    market.open(2);
    let transfer = Action::Transfer { to: account(2), amount: Credits::from_credits(1) };
    let refused = market.next(person(1), transfer.clone());
    assert_eq!(code_of(&mut market, refused.clone()), 2023);
    assert_eq!(market.ledger.account(account(1)).unwrap().nonce, 1);
    assert_eq!(code_of(&mut market, refused), 2003, "a rejected transaction can't be replayed when it would succeed");
    assert_eq!(send(&mut market, person(3), transfer), 2002);
}

#[test]
fn a_mempool_takes_a_transaction_a_little_ahead_of_its_turn_and_a_block_does_not() {
    let mut market = Market::new(params());
    market.open(1);
    let ahead = |nonce| transaction(person(1), nonce, Height(1_000), Action::Cancel { job: JobId(1) });
    assert_eq!(market.ledger.precheck(&ahead(64)), Ok(()));
    assert_eq!(market.ledger.precheck(&ahead(65)), Err(Rejection::NonceAhead { given: 65, expected: 0 }));
    let again = transaction(person(1), 1, Height(1_001), Action::Cancel { job: JobId(1) });
    assert_eq!(market.block(1_000, vec![ahead(1), ahead(0), again]), [2004, 2056, 2056]);
}

#[test]
fn actions_without_a_nonce_carry_none() {
    let mut market = Market::with_machines(1);
    let voucher = voucher(3, market.ledger.time().plus(MINUTE));
    let open = transaction(person(3), 1, Height(1_000), Action::OpenAccount { voucher });
    assert_eq!(code_of(&mut market, open), 2005);
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    let receipt = receipt(market.lease(job, 0), 1, LeaseOutcome::Running);
    let receipt = transaction(machine_key(1), 1, Height(1_000), Action::Receipt(receipt));
    assert_eq!(code_of(&mut market, receipt), 2005);
}

#[test]
fn an_account_is_opened_once_per_key_and_identity_with_a_fresh_voucher_of_a_registrar() {
    let mut market = Market::new(params());
    market.open(1);
    let fresh = market.ledger.time().plus(MINUTE);
    let good = voucher(2, fresh);
    let open = |voucher: Voucher| Action::OpenAccount { voucher };
    assert_eq!(send(&mut market, person(1), open(voucher(1, fresh))), 2010);
    assert_eq!(send(&mut market, person(3), open(good.clone())), 2011);
    assert_eq!(send(&mut market, person(2), open(Voucher { registrar: person(5), ..good.clone() })), 2012);
    let now = market.ledger.time();
    assert_eq!(send(&mut market, person(2), open(voucher(2, now))), 2013);
    assert_eq!(send(&mut market, person(2), open(Voucher { identity: voucher(1, fresh).identity, ..good.clone() })), 2014);
    assert_eq!(market.ledger.totals().minted, Credits::from_credits(50));
    assert_eq!(send(&mut market, person(2), open(good)), 0);
    assert_eq!(market.purses(2), (50_000_000, 0));
}

#[test]
fn a_transfer_moves_earned_credits_to_another_existing_account() {
    let mut market = Market::with_machines(1);
    let transfer = |to, micro| Action::Transfer { to, amount: Credits::from_micro(micro) };
    assert_eq!(send(&mut market, person(1), transfer(account(1), 0)), 2020);
    assert_eq!(send(&mut market, person(1), transfer(account(1), 1)), 2021);
    assert_eq!(send(&mut market, person(1), transfer(account(7), 1)), 2022);
    assert_eq!(send(&mut market, person(1), transfer(account(9), 1)), 2023);
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    let paid = market.receipt(job, 0, LeaseOutcome::Running);
    assert_eq!(code_of(&mut market, paid), 0);
    let (_, earned) = market.purses(1);
    assert!(earned > 0);
    assert_eq!(send(&mut market, person(1), transfer(account(9), earned + 1)), 2023);
    assert_eq!(send(&mut market, person(1), transfer(account(9), earned)), 0);
    assert_eq!((market.purses(1).1, market.purses(9).1), (0, earned));
}

#[test]
fn a_machine_belongs_to_one_account_and_an_account_has_a_limit_of_machines() {
    let mut market = Market::new(params());
    market.open(1);
    market.open(2);
    for number in 1..=3 {
        assert_eq!(send(&mut market, person(1), register(number, config(number, cores(2), 100))), 0);
    }
    assert_eq!(send(&mut market, person(2), register(1, config(1, cores(2), 100))), 2030);
    assert_eq!(send(&mut market, person(1), register(4, config(4, cores(2), 100))), 2032);
    assert_eq!(send(&mut market, person(1), register(1, config(1, cores(8), 500))), 0);
    assert_eq!(market.ledger.machine(machine(1)).unwrap().config, config(1, cores(8), 500));
    assert_eq!(market.ledger.account(account(1)).unwrap().machines, 3);
}

#[test]
fn an_offer_is_the_owners_and_within_the_machine() {
    let mut market = Market::with_machines(0);
    assert_eq!(send(&mut market, person(1), register(1, config(1, cores(2), 100))), 0);
    let mode = ChangeMode::AtOnce;
    let lend = |offer| Action::Lend { machine: machine(1), offer, mode };
    assert_eq!(send(&mut market, person(1), Action::Lend { machine: machine(2), offer: offer(cores(1)), mode }), 2037);
    assert_eq!(send(&mut market, person(9), lend(offer(cores(1)))), 2038);
    assert_eq!(send(&mut market, person(1), lend(offer(Resources { cores: 0, ..cores(1) }))), 2034);
    assert_eq!(send(&mut market, person(1), lend(offer(cores(3)))), 2033);
    let past = Availability { until: Some(market.ledger.time()), ..Availability::default() };
    assert_eq!(send(&mut market, person(1), lend(Offer { availability: past, ..offer(cores(2)) })), 2036);
    let withdraw = Action::Withdraw { machine: machine(1), mode };
    assert_eq!(send(&mut market, person(1), withdraw.clone()), 2039);
    assert_eq!(send(&mut market, person(1), lend(offer(cores(2)))), 0);
    assert_eq!(send(&mut market, person(1), register(1, config(1, cores(1), 100))), 2033, "the offer would be too large");
    market.beat(1_000, &[1]);
    let big = {
        let mut spec = spec(1, 1, 1_000_000);
        spec.workers.cores = 2;
        spec
    };
    market.submit(9, &big);
    assert_eq!(send(&mut market, person(1), register(1, config(1, cores(2), 200))), 2031);
    let mode = ChangeMode::AfterLease;
    let less = Action::Lend { machine: machine(1), offer: offer(cores(1)), mode };
    assert_eq!(send(&mut market, person(1), less), 0, "less than is in use waits, and is no error");
    assert_eq!(Rejection::describe(2035), None, "the code that this once had is never used again");
    assert_eq!(send(&mut market, person(9), withdraw.clone()), 2038);
    assert_eq!(send(&mut market, person(1), Action::Withdraw { machine: machine(5), mode }), 2037);
    assert_eq!(send(&mut market, machine_key(5), Action::Heartbeat { addresses: None }), 2037);
    let stale = transaction(machine_key(1), 0, Height(1_000), Action::Heartbeat { addresses: None });
    assert_eq!(code_of(&mut market, stale), 2003);
}

#[test]
fn a_physical_machine_is_on_offer_once() {
    let mut market = Market::with_machines(1);
    let same = |number| MachineConfig { host: host(1), ..config(number, cores(1), 100) };
    let lend = |number, offer| Action::Lend { machine: machine(number), offer, mode: ChangeMode::AtOnce };
    assert_eq!(send(&mut market, person(9), register(2, same(2))), 0, "to have it registered twice harms nobody");
    let past = Availability { until: Some(market.ledger.time()), ..Availability::default() };
    assert_eq!(
        send(&mut market, person(9), lend(2, Offer { availability: past, ..offer(cores(1)) })),
        2036,
        "first its own faults"
    );
    let refused = market.result(person(9), lend(2, offer(cores(1))));
    assert_eq!(refused.code, 2040);
    assert!(refused.message.contains(&machine(1).to_string()), "{}", refused.message);
    assert_eq!(send(&mut market, person(1), lend(1, offer(cores(1)))), 0, "its own offer is no other one");
    market.lend(9, 3, cores(1), 100);
    assert_eq!(send(&mut market, person(9), register(3, same(3))), 2040, "an offered machine doesn't become another one");
    assert_eq!(send(&mut market, person(1), Action::Withdraw { machine: machine(1), mode: ChangeMode::AtOnce }), 0);
    assert_eq!(send(&mut market, person(9), lend(2, offer(cores(1)))), 0);
    assert_eq!(send(&mut market, person(1), lend(1, offer(cores(1)))), 2040);

    let mut market = Market::new(Params { unique_hosts: false, ..params() });
    market.open(1);
    for number in [1, 2] {
        assert_eq!(send(&mut market, person(1), register(number, same(number))), 0);
        assert_eq!(send(&mut market, person(1), lend(number, offer(cores(1)))), 0, "one machine plays several");
    }
}

#[test]
fn an_invitation_is_new_ends_within_a_week_and_has_room() {
    let mut market = Market::new(params());
    market.open(1);
    let week = 7 * 24 * 60 * MINUTE;
    let invite = |number, offer, expires| Action::Invite { code: code(number), offer, expires };
    let now = market.ledger.time();
    assert_eq!(send(&mut market, person(1), invite(1, None, now)), 2041);
    let now = market.ledger.time();
    assert_eq!(market.send(person(1), invite(1, None, now.plus(week + 1_001))), 2041, "a week after the block is the longest");
    let soon = market.ledger.time().plus(MINUTE);
    assert_eq!(send(&mut market, person(1), invite(1, Some(offer(Resources { cores: 0, ..cores(1) })), soon)), 2034);
    let now = market.ledger.time();
    assert_eq!(send(&mut market, person(1), invite(1, Some(offer(cores(1))), now.plus(week))), 0);
    assert_eq!(send(&mut market, person(1), invite(1, None, soon)), 2042);
    assert_eq!(send(&mut market, person(1), register(1, config(1, cores(1), 100))), 0);
    assert_eq!(send(&mut market, person(1), invite(2, None, soon)), 0);
    assert_eq!(send(&mut market, person(1), invite(3, None, soon)), 2032, "a machine and two invitations are three machines");
    assert_eq!(send(&mut market, person(2), invite(3, None, soon)), 2002);
}

#[test]
fn a_machine_joins_by_an_open_code_only_and_as_its_owner_could_have_brought_it_in() {
    let mut market = Market::new(params());
    market.open(1);
    market.open(2);
    let soon = market.ledger.time().plus(10 * MINUTE);
    let ends = market.ledger.time().plus(8_500);
    let short = Offer { availability: Availability { until: Some(ends), ..Availability::default() }, ..offer(cores(2)) };
    for (number, offer) in [(1, offer(cores(2))), (2, short)] {
        let invite = Action::Invite { code: code(number), offer: Some(offer), expires: soon };
        assert_eq!(send(&mut market, person(1), invite), 0);
    }
    let joins = |number, config| join(code(number), config);
    let numbered = transaction(machine_key(1), 1, Height(1_000), joins(1, config(1, cores(2), 100)));
    assert_eq!(code_of(&mut market, numbered), 2005);
    assert_eq!(send(&mut market, machine_key(1), joins(3, config(1, cores(2), 100))), 2043, "mistyped");
    assert_eq!(send(&mut market, machine_key(1), joins(1, config(1, cores(1), 100))), 2033, "less than is to be offered of it");
    market.lend(2, 5, cores(2), 100);
    assert_eq!(send(&mut market, machine_key(5), joins(1, config(5, cores(2), 100))), 2030, "somebody else's");
    let same = MachineConfig { host: host(5), ..config(1, cores(2), 100) };
    assert_eq!(send(&mut market, machine_key(1), joins(1, same)), 2040);
    assert!(market.ledger.time() >= ends, "what the second invitation offers has ended");
    assert_eq!(send(&mut market, machine_key(1), joins(2, config(1, cores(2), 100))), 2036);
    for number in [2, 3] {
        assert_eq!(send(&mut market, person(1), register(number, config(number, cores(2), 100))), 0);
    }
    assert_eq!(send(&mut market, machine_key(1), joins(1, config(1, cores(2), 100))), 0);
    assert_eq!(send(&mut market, machine_key(1), joins(1, config(1, cores(2), 100))), 2043, "it was used");
    assert_eq!(send(&mut market, machine_key(4), joins(2, config(4, cores(2), 100))), 2032, "the account has three machines");
    market.beat(1_000, &[1]);
    market.submit(2, &spec(1, 1, 1_000_000));
    assert_eq!(market.machine_state(1), MachineState::InUse);
    assert_eq!(send(&mut market, machine_key(1), joins(2, config(1, cores(2), 100))), 2031, "it works");
    market.block(10 * MINUTE, vec![]);
    assert_eq!(market.ledger.invite(&code(2)), None);
    assert_eq!(send(&mut market, machine_key(1), joins(2, config(1, cores(2), 100))), 2043, "the code is void");
}

#[test]
fn a_job_needs_a_sound_spec_room_and_a_covered_budget() {
    let mut market = Market::with_machines(0);
    let borrow = |spec: &deepmarket_job::JobSpec| Action::Borrow { spec: spec.to_bytes() };
    let result = market.result(person(9), Action::Borrow { spec: vec![1, 2, 3] });
    assert!(result.code == 2050 && result.message.starts_with("the job spec is refused: "), "{result:?}");
    let mut huge = spec(1, 1, 1_000_000);
    huge.workers.ram_mib = 10 * 1024 * 1024;
    assert_eq!(send(&mut market, person(9), borrow(&huge)), 2050, "10 TB");
    assert_eq!(send(&mut market, person(9), borrow(&spec(1, 1, 0))), 2050, "a budget of nothing");
    let one = market.ledger.current_prices().cost(&spec(3, 3, 1).demand(), 10_000).micro();
    let message = market.result(person(9), borrow(&spec(3, 3, 3 * one - 1))).message;
    assert!(message.contains(&format!("costs {}", Credits::from_micro(3 * one))), "{message}");
    assert_eq!(send(&mut market, person(9), borrow(&spec(3, 3, 3 * one - 1))), 2053);
    assert_eq!(send(&mut market, person(9), borrow(&spec(1, 1, 50_000_001))), 2052);
    for _ in 0..4 {
        market.submit(9, &spec(1, 1, 1_000_000));
    }
    assert_eq!(send(&mut market, person(9), borrow(&spec(1, 1, 1_000_000))), 2054);
    market.submit(1, &spec(1, 1, 1_000_000));
    market.submit(1, &spec(1, 1, 1_000_000));
    assert_eq!(send(&mut market, person(1), borrow(&spec(1, 1, 1_000_000))), 2055);
}

#[test]
fn only_an_open_job_is_cancelled_and_only_by_its_owner() {
    let mut market = Market::with_machines(0);
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    assert_eq!(send(&mut market, person(9), Action::Cancel { job: JobId(99) }), 2056);
    assert_eq!(send(&mut market, person(1), Action::Cancel { job }), 2057);
    assert_eq!(send(&mut market, person(9), Action::Cancel { job }), 0);
    assert_eq!(send(&mut market, person(9), Action::Cancel { job }), 2058);
    assert_eq!(market.purses(9), (50_000_000, 0));
}

#[test]
fn what_a_worker_heard_of_rounds_may_go_back_until_it_takes_part_in_one() {
    let mut market = Market::with_machines(1);
    let job = market.submit(9, &spec(1, 1, 10_000_000));
    let mut sequence = 0;
    let mut says = |market: &mut Market, from, rounds| {
        sequence += 1;
        let receipt = Receipt { from, rounds, ..receipt(market.lease(job, 0), sequence, LeaseOutcome::Running) };
        send(market, machine_key(1), Action::Receipt(receipt))
    };
    assert_eq!(says(&mut market, 8, 8), 0);
    assert_eq!(says(&mut market, 5, 5), 0, "the job went back to its last checkpoint");
    assert_eq!(says(&mut market, 6, 9), 0);
    assert_eq!(says(&mut market, 6, 8), 2076);
    assert_eq!(says(&mut market, 9, 9), 2079, "it took part from round 6 on");
    assert_eq!(says(&mut market, 6, 12), 0);
}

#[test]
fn a_receipt_is_of_its_machine_its_lease_and_a_new_number_and_never_shrinks() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 1_000_000));
    let lease = market.lease(job, 0).clone();
    let key = market.ledger.machine(lease.machine).unwrap().key;
    let other = market.ledger.machine(market.lease(job, 1).machine).unwrap().key;
    let good = receipt(&lease, 2, LeaseOutcome::Running);
    let act = Action::Receipt;
    assert_eq!(send(&mut market, key, act(Receipt { lease: LeaseId(99), ..good })), 2070);
    assert_eq!(send(&mut market, other, act(good)), 2071);
    assert_eq!(send(&mut market, key, act(Receipt { job: JobId(99), ..good })), 2072);
    assert_eq!(send(&mut market, key, act(Receipt { rank: 1, ..good })), 2072);
    assert_eq!(send(&mut market, key, act(Receipt { sequence: 0, ..good })), 2075);
    assert_eq!(send(&mut market, key, act(good)), 0, "number 1 was lost, which costs nothing");
    let paid = market.lease(job, 0).paid;
    assert_eq!(send(&mut market, key, act(good)), 2073);
    assert_eq!(send(&mut market, key, act(Receipt { loss_micro: 1, ..good })), 2074);
    assert_eq!(send(&mut market, key, act(Receipt { sequence: 1, ..good })), 2075);
    market.beat(1_000, &[1, 2]);
    for less in [Receipt { rounds: 19, ..good }, Receipt { samples: 199, ..good }, Receipt { cpu_ms: 1_999, ..good }] {
        assert_eq!(send(&mut market, key, act(Receipt { sequence: 3, ..less })), 2076);
    }
    let third = Receipt { sequence: 3, ..good };
    let kept = |rounds| Some(Checkpoint { state: Hash::of(b"state"), rounds });
    for wrong in [
        Receipt { from: 21, ..third },
        Receipt { from: 1, ..third },
        Receipt { from: 20, ..third },
        Receipt { checkpoint: kept(21), ..third },
    ] {
        assert_eq!(send(&mut market, key, act(wrong)), 2079);
    }
    let stranger = market.submit(1, &spec(1, 1, 1_000_000));
    market.lend(9, 3, cores(1), 100);
    market.beat(1_000, &[1, 2, 3]);
    for missing in [lease.id, LeaseId(99), market.lease(stranger, 0).id] {
        assert_eq!(send(&mut market, key, act(Receipt { missing: Some(missing), ..third })), 2078);
    }
    let finished = LeaseOutcome::Finished(Hash::of(b"model"));
    assert_eq!(send(&mut market, key, act(Receipt { outcome: finished, ..third })), 2080, "the other one isn't ready yet");
    assert_eq!(market.lease(job, 0).paid, paid, "no rejected receipt is paid");
    assert_eq!(send(&mut market, person(9), Action::Cancel { job }), 0);
    assert_eq!(send(&mut market, key, act(good)), 2073, "the last receipt again is known even after the end");
    assert_eq!(send(&mut market, key, act(Receipt { sequence: 3, ..good })), 2077);
}

#[test]
fn nobody_can_submit_prices_and_a_block_has_exactly_the_due_ones() {
    let mut market = Market::new(params());
    let time = market.ledger.time().plus(1_000);
    let price = market.price(time).expect("the first block sets prices");
    assert_eq!(market.ledger.precheck(&price).unwrap_err().code(), 2090);
    let check = |market: &Market, time, transactions: &[VerifiedTransaction]| {
        market.ledger.check_block(&market.header(time, transactions), transactions)
    };
    let due = market.ledger.price_due(time, &market.ledger.tip()).unwrap();
    let by = |signer, nonce, expires, prices| transaction(signer, nonce, expires, Action::Price(prices));
    let wrong = SlotPrices { slots: [params().price_floor; 4], ..due };
    let open = market.next(person(1), Action::OpenAccount { voucher: voucher(1, time.plus(1_000)) });
    assert_eq!(check(&market, time, std::slice::from_ref(&price)), Ok(()));
    assert_eq!(check(&market, time, &[]), Err(BlockError::PricesMissing(due.day)));
    assert_eq!(check(&market, time, &[open.clone(), price.clone()]), Err(BlockError::PricesNotDue(1)));
    assert_eq!(check(&market, time, &[price.clone(), by(person(1), 0, Height(9), due)]), Err(BlockError::PricesNotDue(1)));
    assert_eq!(check(&market, time, &[by(VALIDATOR, 0, Height(1), wrong)]), Err(BlockError::WrongPrices(due.day)));
    for bad in [by(person(1), 0, Height(1), due), by(VALIDATOR, 1, Height(1), due), by(VALIDATOR, 0, Height(0), due)] {
        assert_eq!(check(&market, time, &[bad]), Err(BlockError::PricesNotByProposer));
    }
    market.block(1_000, vec![]);
    let later = market.ledger.time().plus(1_000);
    assert_eq!(check(&market, later, &[by(VALIDATOR, 0, Height(9), due)]), Err(BlockError::PricesNotDue(0)));
    let day_end = TimeMs(START + 4 * MINUTE);
    assert!(market.ledger.price_due(TimeMs(day_end.0 - 1), &market.ledger.tip()).is_none());
    assert_eq!(market.ledger.price_due(day_end, &market.ledger.tip()).unwrap().day, due.day + 1);
}

#[test]
fn a_block_that_cannot_follow_is_refused_before_it_is_applied() {
    let mut market = Market::new(params());
    market.block(1_000, vec![]);
    let time = market.ledger.time().plus(1);
    let open = market.next(person(1), Action::OpenAccount { voucher: voucher(1, time.plus(1_000)) });
    let good = market.header(time, std::slice::from_ref(&open));
    let check = |header: &Header| market.ledger.check_block(header, std::slice::from_ref(&open));
    assert_eq!(check(&good), Ok(()));
    assert!(matches!(check(&Header { version: 2, ..good.clone() }), Err(BlockError::UnknownVersion(2))));
    assert!(matches!(check(&Header { chain: Hash::of(b"x"), ..good.clone() }), Err(BlockError::WrongChain(_))));
    assert!(matches!(check(&Header { height: Height(1), ..good.clone() }), Err(BlockError::WrongHeight { .. })));
    assert!(matches!(check(&Header { parent: Hash::of(b"x"), ..good.clone() }), Err(BlockError::WrongParent { .. })));
    assert!(matches!(check(&Header { time: market.ledger.time(), ..good.clone() }), Err(BlockError::TimeNotLater { .. })));
    assert!(matches!(check(&Header { proposer: person(1), ..good.clone() }), Err(BlockError::UnknownProposer(_))));
    assert!(matches!(check(&Header { transactions: Hash::of(b"x"), ..good }), Err(BlockError::WrongTransactions)));
    let twice = [open.clone(), open.clone()];
    let header = market.header(time, &twice);
    assert_eq!(market.ledger.check_block(&header, &twice), Err(BlockError::DuplicateTransaction(open.id())));
    let spec = vec![0; 90 * 1024];
    let long: Vec<_> = (0..24).map(|n| transaction(person(1), n, Height(9), Action::Borrow { spec: spec.clone() })).collect();
    let header = market.header(time, &long);
    assert!(matches!(market.ledger.check_block(&header, &long), Err(BlockError::TooLong { .. })));
}

#[test]
#[should_panic(expected = "was decided but can't follow on block 0")]
fn a_decided_block_that_cannot_follow_stops_the_validator() {
    let mut market = Market::new(params());
    let header = Header { height: Height(5), ..market.header(TimeMs(START + 1), &[]) };
    market.ledger.apply(&header, &[]);
}

#[test]
fn damaged_entries_are_no_ledger() {
    let mut market = Market::with_machines(1);
    market.submit(9, &spec(1, 1, 1_000_000));
    assert!(Ledger::from_entries(market.entries.clone()).is_ok());
    for key in market.entries.keys() {
        let mut entries = market.entries.clone();
        entries.remove(key);
        assert!(Ledger::from_entries(entries).is_err(), "without the entry {key:?}");
    }
    for (key, value) in &market.entries {
        for damaged in [value[..value.len() - 1].to_vec(), [value.as_slice(), &[0]].concat()] {
            let mut entries = market.entries.clone();
            entries.insert(key.clone(), damaged);
            assert!(Ledger::from_entries(entries).is_err(), "with a damaged entry {key:?}");
        }
    }
}
