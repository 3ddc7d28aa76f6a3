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
        rank: 1,
        sequence: 1,
        rounds: 10,
        samples: 100,
        paid_ms: 5_000,
        payout
    }));
    let cause = Posting::Payout { job, lease: lease.id, sequence: 1 };
    let posted = Event::Posted { account: account(1), purse: Purse::Earned, amount: payout, incoming: true, cause };
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
    // Account 1 earns something by its machine, and then borrows with both purses.
    let first = market.submit(9, &spec(1, 1, 1_000_000));
    let receipt = market.receipt(first, 0, LeaseOutcome::Running);
    market.block(9_000, vec![receipt]);
    let earned = market.purses(1).1;
    market.send(person(9), Action::Cancel { job: first });
    market.beat(1_000, &[1]);
    let job = market.submit(1, &spec(1, 1, 50_000_000 + earned));
    assert_eq!(market.purses(1), (0, 0));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(1_000, vec![receipt]);
    let paid = market.purses(1).1;
    assert_eq!(paid, cost(&market, 0, 1_000));
    market.send(person(1), Action::Cancel { job });
    assert_eq!(market.purses(1), (50_000_000 - paid, earned + paid));
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
fn a_failed_worker_is_paid_up_to_then_and_ends_the_job() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    let failed = market.receipt(job, 1, LeaseOutcome::Failed(FailureReason::OutOfMemory));
    market.block(3_000, vec![failed]);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Failed(FailureReason::OutOfMemory)));
    assert_eq!(market.lease(job, 1).state, LeaseState::Failed(FailureReason::OutOfMemory));
    assert_eq!(market.lease(job, 0).state, LeaseState::Ended);
    assert_eq!(market.purses(1).1, cost(&market, 0, 3_000));
    let untouched = market.ledger.machine(machine(2)).unwrap();
    assert_eq!((untouched.leases_lost, untouched.reliability()), (0, 500), "an honest failure is not punished");
}

#[test]
fn workers_that_report_different_models_or_parameters_finish_nothing() {
    for other_model in [true, false] {
        let mut market = Market::with_machines(3);
        let job = market.submit(9, &spec(3, 3, 20_000_000));
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
    let first = finish(&market, job, 1);
    market.block(2_000, first);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Running, MachineState::Idle));
    market.beat(3_000, &[1, 2]);
    let paid = market.lease(job, 0).paid;
    let both = finish(&market, job, 2);
    assert_eq!(market.block(1_000, both), [2077, 0]);
    assert_eq!((market.state(job), market.lease(job, 0).paid), (JobState::Finished(MODEL()), paid));
    assert_eq!(market.ledger.machine(machine(1)).unwrap().reliability(), 666);
}

#[test]
fn a_silent_machine_is_lost_with_its_job_and_comes_back_with_a_heartbeat() {
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    // The contact clock runs at most 2 s with a block: after the fifth block machine 2 has been silent for just the timeout.
    for _ in 0..4 {
        market.beat(2_000, &[1]);
    }
    assert_eq!((market.machine_state(2), market.state(job)), (MachineState::InUse, JobState::Matched));
    market.beat(2_000, &[1]);
    assert_eq!(market.machine_state(2), MachineState::Panic);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::MachineLost));
    assert_eq!((market.lease(job, 0).state, market.lease(job, 1).state), (LeaseState::Ended, LeaseState::Lost));
    assert_eq!(market.purses(9), (50_000_000, 0));
    assert_eq!(market.ledger.machine(machine(2)).unwrap().reliability(), 333);
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
fn withdrawing_at_once_ends_the_job_and_withdrawing_after_the_lease_does_not() {
    let withdraw = |mode| Action::Withdraw { machine: machine(1), mode };
    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(2, 2, 20_000_000));
    market.send(person(1), withdraw(WithdrawMode::AtOnce));
    assert_eq!(market.state(job), JobState::Panic(PanicReason::MachineLost));
    assert_eq!((market.machine_state(1), market.machine_state(2)), (MachineState::Withdrawn, MachineState::Idle));
    assert_eq!(market.lease(job, 0).state, LeaseState::Ended);
    assert_eq!(market.ledger.machine(machine(1)).unwrap().leases_lost, 1);

    let mut market = Market::with_machines(2);
    let job = market.submit(9, &spec(1, 2, 20_000_000));
    market.send(person(1), withdraw(WithdrawMode::AfterLease));
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Matched, MachineState::Draining));
    let end = finish(&market, job, 2);
    market.block(1_000, end);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Finished(MODEL()), MachineState::Withdrawn));
    assert!(market.ledger.machine(machine(1)).unwrap().offer.is_none());
}

#[test]
fn an_offer_that_ran_out_takes_no_new_work_and_finishes_what_runs() {
    let mut market = Market::with_machines(1);
    let until = Availability::Until(market.ledger.time().plus(4_000));
    let lend = Action::Lend { machine: machine(1), offer: Offer { availability: until, ..offer(cores(1)) } };
    market.send(person(1), lend);
    let job = market.submit(9, &spec(1, 1, 20_000_000));
    market.block(2_000, vec![]);
    assert_eq!(market.machine_state(1), MachineState::Draining);
    let end = finish(&market, job, 1);
    market.block(1_000, end);
    assert_eq!((market.state(job), market.machine_state(1)), (JobState::Finished(MODEL()), MachineState::Withdrawn));
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
fn a_job_starts_in_its_slots_at_prices_that_its_machines_accept_with_workers_it_can_pay() {
    let mut market = Market::with_machines(2);
    let mut evening = spec(1, 1, 1_000_000);
    evening.budget.slots = vec![1];
    let job = market.submit(9, &evening);
    assert_eq!(market.state(job), JobState::Queued);
    while market.ledger.time().0 < START + MINUTE {
        assert_eq!(market.state(job), JobState::Queued);
        market.beat(2_000, &[1, 2]);
    }
    assert_eq!(market.state(job), JobState::Matched);

    let mut market = Market::with_machines(2);
    let price = market.ledger.current_prices().core_hour;
    for (number, min_core_hour) in [(1, Credits::from_micro(price.micro() + 1)), (2, price)] {
        let offer = Offer { min_core_hour, ..offer(cores(1)) };
        market.send(person(1), Action::Lend { machine: machine(number), offer });
    }
    let job = market.submit(9, &spec(1, 2, 1_000_000));
    assert_eq!(market.ledger.job_leases(job).map(|lease| lease.machine).collect::<Vec<_>>(), [machine(2)]);

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

#[test]
fn prices_are_uniform_between_floor_and_ceiling() {
    let mut market = Market::new(params());
    market.thorough = false;
    let (floor, ceiling) = (params().price_floor.core_hour.micro(), params().price_ceiling.core_hour.micro());
    let mut fifths = [0_u32; 5];
    for _ in 0..2_500 {
        market.block(4 * MINUTE, vec![]);
        for slot in market.ledger.prices().unwrap().slots {
            let above = slot.core_hour.micro() - floor;
            assert!(above <= ceiling - floor);
            fifths[(above * 5 / (ceiling - floor + 1)) as usize] += 1;
        }
    }
    // 10,000 draws: 2,000 in each fifth, with a standard deviation of 40.
    assert!(fifths.iter().all(|count| (1_800..2_200).contains(count)), "{fifths:?}");
}

#[test]
fn a_quote_tells_workers_time_and_cost_and_changes_nothing() {
    let mut market = Market::with_machines(3);
    let spec = spec(2, 3, 20_000_000);
    let size = spec.check().unwrap();
    assert_eq!(size.multiply_adds, 8);
    let before = market.ledger.clone();
    // Forward and backward of 3 million samples and forward of a million, twice, of 8 multiply-adds each, on three machines of
    // 100 million a second.
    let quote = market.ledger.quote(&spec, &size, 3_000_000, 1_000_000);
    assert_eq!((quote.workers, quote.machines, quote.enough), (3, 3, true));
    assert_eq!(quote.expected_ms, Some((2_u64 * 8 * (3 * 3_000_000 + 1_000_000)).div_ceil(3 * 100_000)));
    assert_eq!(quote.expected_start, Some(market.ledger.time()));
    let one = cost(&market, 0, quote.expected_ms.unwrap());
    assert_eq!(quote.expected_cost.micro(), 3 * one);
    assert_eq!(
        (quote.slots[0].expected_cost, quote.slots[2].cost_per_hour.micro()),
        (quote.expected_cost, 3 * cost(&market, 2, 3_600_000))
    );
    assert_eq!((quote.budget, quote.current_slot, quote.slots.len()), (Credits::from_credits(20), 0, 4));
    assert!(market.ledger == before);

    market.submit(9, &spec);
    let quote = market.ledger.quote(&spec, &size, 3_000_000, 1_000_000);
    assert_eq!((quote.workers, quote.machines, quote.enough, quote.expected_start), (0, 3, false, None));
    assert!(quote.expected_ms.is_some());
    let nothing = Market::new(params());
    let quote = nothing.ledger.quote(&spec, &size, u64::MAX, u64::MAX);
    assert_eq!((quote.expected_ms, quote.machines, quote.enough), (None, 0, false));
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
    let entries: Vec<_> = market.ledger.entries().collect();
    assert_eq!(entries.len(), 11);
    assert_eq!(Hash::of(&encode(&entries)).to_hex(), "562f8ee0093d08ee6ebfd1ebe82e97a354139396bef7cca4422728b0b1d6b89b");
}
