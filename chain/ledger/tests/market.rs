//! The life of jobs, machines and credits, told as stories with exact amounts.

mod support;

use deepmarket_ledger::Params;
use deepmarket_types::*;
use support::*;

const MODEL: fn() -> Hash = || Hash::of(b"model");

/// Receipts of all ranks that report the same result.
fn finish(market: &Market, job: JobId, ranks: usize) -> Vec<VerifiedTransaction> {
    let one = |rank| {
        let mut body = market.receipt(job, rank, LeaseOutcome::Finished(MODEL())).body().clone();
        if let Action::Receipt(receipt) = &mut body.action {
            receipt.parameters = Hash::of(b"parameters");
        }
        market.next(body.signer, body.action)
    };
    (0..ranks).map(one).collect()
}

/// What one worker of the test job costs for some milliseconds of one slot.
fn cost(market: &Market, slot: usize, ms: u64) -> u64 {
    market.ledger.prices().unwrap().slots[slot].cost(&spec(1, 1, 1).demand(), ms).micro()
}

#[test]
fn a_job_is_matched_trained_paid_and_refunded_to_the_microcredit() {
    let mut market = Market::with_machines(3);
    let job = market.submit(9, &spec(3, 3, 20_000_000));
    assert_eq!(market.state(job), JobState::Matched);
    assert_eq!(market.purses(9), (30_000_000, 0), "the budget is in escrow");
    let matched = market.ledger.job(job).unwrap().clone();
    assert_eq!((matched.started, matched.leases.len()), (Some(market.ledger.time()), 3));

    let receipts = (0..3).map(|rank| market.receipt(job, rank, LeaseOutcome::Running)).collect();
    let applied = market.apply(5_000, receipts);
    assert_eq!(market.state(job), JobState::Running);
    let five_seconds = cost(&market, 0, 5_000);
    assert_eq!(market.purses(1), (50_000_000, 3 * five_seconds));
    let payout = Credits::from_micro(five_seconds);
    let lease = market.lease(job, 1).clone();
    assert!(applied.events.contains(&Event::Receipt {
        job,
        lease: lease.id,
        machine: lease.machine,
        lender: account(1),
        borrower: account(9),
        rank: 1,
        sequence: 1,
        rounds: 10,
        samples: 1_000_000,
        paid_ms: 5_000,
        payout
    }));
    let cause = Posting::Payout { job, lease: lease.id, machine: lease.machine, sequence: 1 };
    let balance = Credits::from_micro(2 * five_seconds);
    let posted = Event::Posted { account: account(1), purse: Purse::Earned, amount: payout, balance, incoming: true, cause };
    assert!(applied.events.contains(&posted));

    market.beat(5_000, &[1, 2, 3]);
    let last = finish(&market, job, 3);
    let applied = market.apply(2_000, last);
    let seven_seconds = cost(&market, 0, 7_000);
    assert_eq!(market.state(job), JobState::Finished(MODEL()));
    assert_eq!(market.ledger.job(job).unwrap().result(), Some(MODEL()));
    let paid = 3 * (five_seconds + seven_seconds);
    assert_eq!(market.purses(1), (50_000_000, paid));
    assert_eq!(market.purses(9), (50_000_000 - paid, 0), "what was not used came back to the purse that it came from");
    assert!(applied.events.contains(&Event::Job { job, owner: account(9), state: JobState::Finished(MODEL()) }));
    let closed = market.ledger.job(job).unwrap();
    assert!(closed.escrow().is_zero() && closed.ended == Some(market.ledger.time()));
    assert_eq!((market.machine_state(1), market.machine_state(3)), (MachineState::Idle, MachineState::Idle));
    assert_eq!(market.ledger.totals().minted, Credits::from_credits(100));
}

#[test]
fn time_that_spans_two_slots_is_paid_at_both_prices_even_over_midnight() {
    for (slot, next_day) in [(0_usize, false), (3, true)] {
        let mut market = Market::with_machines(1);
        let boundary = START + (slot as u64 + 1) * MINUTE;
        while market.ledger.time().0 + 5_000 < boundary {
            let ms = 1_500.min(boundary - 5_000 - market.ledger.time().0);
            market.beat(ms, &[1]);
        }
        let job = market.submit(9, &spec(1, 1, 20_000_000));
        assert_eq!(market.lease(job, 0).started.0, boundary - 4_000);
        let before = cost(&market, slot, 4_000);
        let receipt = market.receipt(job, 0, LeaseOutcome::Running);
        market.block(4_500, vec![receipt]);
        let (next, today) = (if next_day { 0 } else { slot + 1 }, market.ledger.prices().unwrap().day);
        assert_eq!(today, START / (4 * MINUTE) + u64::from(next_day));
        assert_eq!(market.purses(1).1, before + cost(&market, next, 500));
    }
}

#[test]
fn a_receipt_pays_one_interval_at_most_and_nothing_twice() {
    let mut market = Market::with_machines(1);
    let job = market.submit(9, &spec(1, 1, 20_000_000));
    for _ in 0..12 {
        market.beat(2_500, &[1]);
    }
    let time = market.ledger.time();
    assert_eq!(time.since(market.lease(job, 0).started), 30_000);
    let receipts = [1, 2].map(|sequence| {
        let receipt = receipt(market.lease(job, 0), sequence, LeaseOutcome::Running);
        market.next(machine_key(1), Action::Receipt(receipt))
    });
    assert_eq!(market.block(1, receipts.to_vec()), [0, 0]);
    assert_eq!(market.lease(job, 0).paid_ms, 10_000, "what no receipt covers isn't paid, and the second one covers nothing");
    assert_eq!(market.purses(1).1, cost(&market, 0, 10_000));
}

#[test]
fn starting_credits_are_spent_first_and_what_is_left_goes_back_to_both_purses() {
    let mut market = Market::with_machines(1);
    // Account 9 gets earned credits from account 1, and then borrows with both purses.
    let first = market.submit(9, &spec(1, 1, 1_000_000));
    let receipt = market.receipt(first, 0, LeaseOutcome::Running);
    market.block(9_000, vec![receipt]);
    let earned = market.purses(1).1;
    market.send(person(9), Action::Cancel { job: first });
    market.send(person(1), Action::Transfer { to: account(9), amount: Credits::from_micro(earned) });
    market.beat(1_000, &[1]);
    let job = market.submit(9, &spec(1, 1, 50_000_000));
    assert_eq!(market.purses(9), (0, 0));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(1_000, vec![receipt]);
    let paid = market.purses(1).1;
    assert_eq!(paid, cost(&market, 0, 1_000));
    market.send(person(9), Action::Cancel { job });
    assert_eq!(market.purses(9), (50_000_000 - earned - paid, earned));
}

#[test]
fn an_escrow_that_cannot_pay_the_next_interval_stops_the_job() {
    let mut market = Market::with_machines(2);
    let interval = cost(&market, 0, 10_000);
    let job = market.submit(9, &spec(2, 2, 2 * interval + 10));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(1_000, vec![receipt]);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Budget));
    assert_eq!(market.lease(job, 1).state, LeaseState::Ended);
    assert_eq!(market.purses(9).0 + market.purses(1).1, 50_000_000);
}

#[test]
fn a_budget_that_runs_out_keeps_the_last_checkpoint() {
    let mut market = Market::of(with_fixed_prices([1_000; 4]), 2);
    // Two seconds of both workers, and what the next interval needs but one microcredit.
    let budget = 4 * 1_210 + 2 * 12_100 - 1;
    let job = market.submit(9, &spec(2, 2, budget));
    market.train(500, job);
    let checkpoint = Checkpoint { state: Hash::of(b"state"), rounds: 20 };
    let both = [0, 1].map(|rank| {
        let lease = market.lease(job, rank);
        let receipt = Receipt { checkpoint: Some(checkpoint), ..receipt(lease, lease.sequence + 1, LeaseOutcome::Running) };
        market.next(market.ledger.machine(lease.machine).unwrap().key, Action::Receipt(receipt))
    });
    market.block(500, both.to_vec());
    assert_eq!(market.state(job), JobState::Running);
    market.train(1_000, job);
    let kept = market.ledger.job(job).unwrap().checkpoint;
    assert_eq!((market.state(job), kept), (JobState::Panic(PanicReason::Budget), Some(checkpoint)));
    let closed = market.ledger.job(job).unwrap();
    assert_eq!((closed.paid.micro(), closed.refunded.micro()), (4 * 1_210, 2 * 12_100 - 1));
    assert_eq!(market.purses(9), (50_000_000 - 4 * 1_210, 0));
}

#[test]
fn every_change_of_a_purse_is_told_with_its_cause_its_transaction_and_the_balance_after_it() {
    let mut market = Market::with_machines(1);
    let first = market.submit(9, &spec(1, 1, 1_000_000));
    let paid = cost(&market, 0, 2_000);
    let (lease, credits) = (market.lease(first, 0).id, Credits::from_micro);
    let block = vec![
        market.receipt(first, 0, LeaseOutcome::Running),
        market.next(person(9), Action::Transfer { to: account(1), amount: credits(1) }),
        market.next(person(1), Action::Transfer { to: account(9), amount: credits(100) }),
        transaction(person(9), 2, Height(1_000), Action::Borrow { spec: spec(1, 1, 49_000_100).to_bytes() }),
        transaction(person(9), 3, Height(1_000), Action::Cancel { job: first }),
    ];
    let applied = market.apply(2_000, block);
    let codes: Vec<u16> = applied.results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 2023, 0, 0, 0]);
    // Each transaction's own events, in order, and what the block's end did.
    let mut events = applied.events.iter();
    let mut own: Vec<Vec<&Event>> =
        applied.results.iter().map(|result| events.by_ref().take(result.events as usize).collect()).collect();
    own.push(events.collect());
    let posted = |event: &&&Event| matches!(event, Event::Posted { .. });
    let told: Vec<Vec<Event>> =
        own.iter().map(|events| events.iter().filter(posted).map(|event| (*event).clone()).collect()).collect();
    let post = |number, purse, amount, balance, incoming, cause| {
        let (amount, balance) = (credits(amount), credits(balance));
        Event::Posted { account: account(number), purse, amount, balance, incoming, cause }
    };
    let (granted, earned) = (Purse::Granted, Purse::Earned);
    let payout = Posting::Payout { job: first, lease, machine: machine(1), sequence: 1 };
    let second = JobId(2);
    assert_eq!(told[0], [post(1, earned, paid, paid, true, payout)]);
    assert_eq!(told[1], []);
    assert_eq!(
        told[2],
        [
            post(1, earned, 100, paid - 100, false, Posting::TransferTo(account(9))),
            post(9, earned, 100, 100, true, Posting::TransferFrom(account(1))),
        ]
    );
    assert_eq!(
        told[3],
        [
            post(9, granted, 49_000_000, 0, false, Posting::Escrow(second)),
            post(9, earned, 100, 0, false, Posting::Escrow(second)),
        ]
    );
    assert_eq!(told[4], [post(9, granted, 1_000_000 - paid, 1_000_000 - paid, true, Posting::Refund(first))]);
    assert_eq!(told[5], []);
    // The block's end gave the machine to the second job: a job, a lease and a machine changed.
    assert!(matches!(own[5][..], [Event::Job { .. }, Event::Lease { .. }, Event::Machine { .. }]), "{:?}", own[5]);
}

#[test]
fn a_failed_worker_is_paid_up_to_then_and_ends_a_job_that_survives_none() {
    let mut market = Market::with_machines(2);
    let mut once = spec(2, 2, 20_000_000);
    once.recovery.restarts = 0;
    let job = market.submit(9, &once);
    let failed = market.receipt(job, 1, LeaseOutcome::Failed(FailureReason::OutOfMemory));
    market.block(3_000, vec![failed]);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Failed(FailureReason::OutOfMemory)));
    assert_eq!(market.lease(job, 1).state, LeaseState::Failed(FailureReason::OutOfMemory));
    assert_eq!(market.lease(job, 0).state, LeaseState::Ended);
    assert_eq!(market.purses(1).1, cost(&market, 0, 3_000));
    let untouched = market.ledger.machine(machine(2)).unwrap();
    assert_eq!((untouched.leases_lost, untouched.reliability), (0, 500), "an honest failure is not punished");
}

#[test]
fn workers_that_report_different_models_or_parameters_finish_nothing() {
    for other_model in [true, false] {
        let mut market = Market::with_machines(3);
        let job = market.submit(9, &spec(3, 3, 20_000_000));
        market.train(1_000, job);
        let mut receipts = finish(&market, job, 2);
        let mut body = receipts.pop().unwrap().body().clone();
        if let Action::Receipt(receipt) = &mut body.action {
            match other_model {
                true => receipt.outcome = LeaseOutcome::Finished(Hash::of(b"other")),
                false => receipt.parameters = Hash::of(b"other"),
            }
        }
        receipts.push(market.next(body.signer, body.action));
        market.block(1_000, receipts);
        assert_eq!(market.state(job), JobState::Panic(PanicReason::Disagreement));
        assert_eq!(market.lease(job, 2).state, LeaseState::Ended);
    }
}

#[test]
fn a_finished_lease_is_metered_no_more_while_others_go_on() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    market.train(1_000, job);
    let first = finish(&market, job, 1);
    market.block(1_000, first);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Running, MachineState::Idle));
    market.beat(3_000, &[1, 2]);
    let paid = market.lease(job, 0).paid;
    let both = finish(&market, job, 2);
    assert_eq!(market.block(1_000, both), [2077, 0]);
    assert_eq!((market.state(job), market.lease(job, 0).paid), (JobState::Finished(MODEL()), paid));
    assert_eq!(market.machine(1).reliability, 562, "an eighth of the way from 500 to 1000");
}

#[test]
fn a_silent_machine_is_lost_with_its_lease_and_comes_back_with_a_heartbeat() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    let ranks = [1, 2].map(|number| market.ledger.job_leases(job).position(|lease| lease.machine == machine(number)).unwrap());
    // The contact clock runs at most 2 s with a block: after the fifth block machine 2 has been silent for just the timeout.
    for _ in 0..4 {
        market.beat(2_000, &[1]);
    }
    assert_eq!((market.machine_state(2), market.state(job)), (MachineState::InUse, JobState::Matched));
    market.beat(2_000, &[1]);
    assert_eq!(market.machine_state(2), MachineState::Panic);
    assert_eq!(market.state(job), JobState::Matched);
    assert_eq!(ranks.map(|rank| market.lease(job, rank).state), [LeaseState::Active, LeaseState::Lost]);
    assert_eq!(market.purses(9), (30_000_000, 0));
    assert_eq!(market.machine(2).reliability, 437, "an eighth of the way from 500 to 0");
    market.send(person(9), Action::Cancel { job });
    let waiting = market.submit(9, &spec(2, 2, 20_000_000));
    assert_eq!(market.state(waiting), JobState::Queued);
    market.beat(1_000, &[1, 2]);
    assert_eq!((market.machine_state(2), market.state(waiting)), (MachineState::InUse, JobState::Matched));
}

#[test]
fn a_chain_that_stood_still_loses_no_machine() {
    let mut market = Market::with_machines(1);
    let job = market.submit(9, &spec(1, 1, 20_000_000));
    for _ in 0..4 {
        market.block(3_600_000, vec![]);
    }
    assert_eq!(market.state(job), JobState::Matched);
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    let heartbeat = market.heartbeat(1);
    assert_eq!(market.block(3_600_000, vec![heartbeat, receipt]), [0, 0]);
    assert_eq!(market.lease(job, 0).paid_ms, 10_000);
}

#[test]
fn a_machine_gets_work_only_after_a_heartbeat_with_an_address() {
    let mut market = Market::with_machines(0);
    market.lend(1, 1, cores(1), 100);
    assert_eq!(market.machine_state(1), MachineState::Idle);
    let job = market.submit(9, &spec(1, 1, 20_000_000));
    assert_eq!(market.state(job), JobState::Queued, "nobody heard of the machine yet");
    market.send(machine_key(1), Action::Heartbeat { addresses: None });
    assert_eq!(market.state(job), JobState::Queued, "nobody knows where it is");
    market.beat(1_000, &[1]);
    assert_eq!(market.state(job), JobState::Matched);

    let mut market = Market::with_machines(0);
    market.lend(1, 1, cores(1), 100);
    for _ in 0..6 {
        market.block(2_000, vec![]);
    }
    assert_eq!(market.machine_state(1), MachineState::Panic, "it was offered and never said anything");
}

#[test]
fn withdrawing_at_once_ends_the_lease_and_withdrawing_after_the_lease_does_not() {
    let withdraw = |mode| Action::Withdraw { machine: machine(1), mode };
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    market.train(1_000, job);
    market.send(person(1), withdraw(ChangeMode::AtOnce));
    assert_eq!(market.state(job), JobState::Running);
    assert_eq!((market.machine_state(1), market.machine_state(2)), (MachineState::Withdrawn, MachineState::InUse));
    let states = market.ledger.job_leases(job).map(|lease| (lease.machine == machine(1), lease.state));
    assert!(states.into_iter().all(|(withdrawn, state)| (state == LeaseState::Ended) == withdrawn));
    let merits = |market: &Market| (market.machine(1).leases_lost, market.machine(1).reliability);
    assert_eq!(merits(&market), (1, 437), "nobody was told before");

    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(1, 2, 20_000_000));
    market.send(person(1), withdraw(ChangeMode::AfterLease));
    market.train(1_000, job);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Running, MachineState::Draining));
    let end = finish(&market, job, 2);
    market.block(1_000, end);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Finished(MODEL()), MachineState::Withdrawn));
    assert!(market.machine(1).offer.is_none());
    assert_eq!(merits(&market), (0, 562));
}

#[test]
fn ranks_go_to_reliable_then_fast_machines_and_one_machine_gets_one_rank() {
    let mut market = Market::new(Params { max_machines_per_account: 10, ..params() });
    market.open(1);
    market.open(9);
    for (number, speed) in [(1, 100), (2, 300), (3, 200)] {
        market.lend(1, number, cores(2), speed);
    }
    market.beat(1_000, &[1, 2, 3]);
    let machines = |market: &Market, job| market.ledger.job_leases(job).map(|lease| lease.machine).collect::<Vec<_>>();
    let job = market.submit(9, &spec(1, 8, 20_000_000));
    assert_eq!(machines(&market, job), [machine(2), machine(3), machine(1)]);
    market.train(1_000, job);
    let one = finish(&market, job, 3).pop().unwrap();
    market.block(1_000, vec![one]);
    market.send(person(9), Action::Cancel { job });
    market.beat(1_000, &[1, 2, 3]);
    let mut shared = spec(1, 5, 20_000_000);
    shared.workers.share_machine = true;
    let job = market.submit(9, &shared);
    let [fast, middle, slow] = [machine(2), machine(3), machine(1)];
    assert_eq!(machines(&market, job), [slow, fast, middle, slow, fast], "the slow one has served a lease to its end");
}

#[test]
fn jobs_start_in_order_and_a_small_one_passes_a_large_one_that_must_wait() {
    let mut market = Market::with_machines(2);
    let first = market.submit(9, &spec(1, 1, 1_000_000));
    let large = market.submit(9, &spec(2, 2, 1_000_000));
    let small = market.submit(9, &spec(1, 1, 1_000_000));
    assert_eq!([first, large, small].map(|job| market.state(job)), [JobState::Matched, JobState::Queued, JobState::Matched]);
    market.send(person(9), Action::Cancel { job: first });
    assert_eq!(market.state(large), JobState::Queued);
    market.beat(1_000, &[1, 2]);
    market.send(person(9), Action::Cancel { job: small });
    assert_eq!(market.state(large), JobState::Matched);
}

#[test]
fn a_job_starts_with_the_workers_that_its_escrow_pays_for() {
    let mut market = Market::with_machines(3);
    let interval = cost(&market, 0, 10_000);
    let job = market.submit(9, &spec(1, 3, 3 * interval - 1));
    assert_eq!(market.ledger.job_leases(job).count(), 2);
}

#[test]
fn the_seed_of_a_job_is_fixed_by_the_parent_of_the_block_that_matched_it() {
    let mut market = Market::with_machines(0);
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    assert_eq!(market.ledger.job(job).unwrap().seed, None);
    market.lend(1, 1, cores(1), 100);
    let parent = market.ledger.tip();
    market.beat(1_000, &[1]);
    let parts: [&[u8]; 3] = [&parent.0, &job.0.to_le_bytes(), &7_u64.to_le_bytes()];
    assert_eq!(market.ledger.job(job).unwrap().seed, Some(Hash::tagged("deepmarket/v1/job-seed", &parts)));
}

/// The stored form of a ledger is a promise: a new one needs a new version and a migration.
#[test]
fn the_entries_of_a_known_market_never_change() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    let receipts = vec![
        market.receipt(job, 0, LeaseOutcome::Running),
        market.receipt(job, 1, LeaseOutcome::Failed(FailureReason::PeerLost)),
    ];
    market.block(1_000, receipts);
    let expires = market.ledger.time().plus(MINUTE);
    assert_eq!(market.send(person(1), Action::Invite { code: code(1), offer: Some(offer(cores(1))), expires }), 0);
    let entries: Vec<_> = market.ledger.entries().collect();
    assert_eq!(entries.len(), 15);
    assert_eq!(Hash::of(&encode(&entries)).to_hex(), "4cc4cdb2988d0bba5ef4dac6386354cd002a3314abcacdce7b50faaa973e023b");
}
