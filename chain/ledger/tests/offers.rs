//! Offers: hours, minimum prices, changes that wait, invitations, and why machines and jobs stand where they do.

mod support;

use deepmarket_ledger::Params;
use deepmarket_types::*;
use support::*;

const MODEL: fn() -> Hash = || Hash::of(b"model");

/// Slots whose prices make one worker of the test job cost 1210, 605, 2420 and 121 microcredits a second.
fn market(machines: u8) -> Market {
    let params = Params { max_machines_per_account: 10, ..with_fixed_prices([1_000, 500, 2_000, 100]) };
    Market::of(params, machines)
}

fn at(ms: u64) -> TimeMs {
    TimeMs(START + ms)
}

fn lend(number: u8, offer: Offer, mode: ChangeMode) -> Action {
    Action::Lend { machine: machine(number), offer, mode }
}

/// Trains and finishes a job of one worker.
fn finish(market: &mut Market, job: JobId) {
    market.train(500, job);
    let receipt = market.receipt(job, 0, LeaseOutcome::Finished(MODEL()));
    assert_eq!(market.block(500, vec![receipt]), [0]);
    assert_eq!(market.state(job), JobState::Finished(MODEL()));
}

/// A minute of the offer is a 1440th of the test market's day of four minutes: slot 0 is 0 to 360.
#[test]
fn hours_that_close_at_once_end_the_lease_as_announced_and_harm_nobodys_good_name() {
    let mut market = market(2);
    market.offer(1, 1, Offer { availability: hours(0, 60), at_close: ChangeMode::AtOnce, ..offer(cores(1)) });
    let job = market.submit(9, &spec(2, 2, 10_000_000));
    let started = market.lease(job, 0).started;
    market.beat_until(at(9_000), &[1, 2]);
    // The hours end after 60 of 360 minutes of the slot: 10 s. A receipt of the block in which they end is still paid.
    let lease = market.ledger.job_leases(job).find(|lease| lease.machine == machine(1)).unwrap().clone();
    let receipt = market.receipt(job, lease.rank as usize, LeaseOutcome::Running);
    let applied = market.apply(1_000, vec![receipt]);
    assert_eq!(market.ledger.time(), at(10_000));
    assert_eq!((market.state(job), market.ledger.job(job).unwrap().active.len()), (JobState::Matched, 1));
    let paid = 1_210 * (10_000 - (started.0 - START)) / 1_000;
    assert_eq!(market.purses(1).1, paid);
    assert_eq!(market.ledger.lease(lease.id).unwrap().state, LeaseState::Ended);
    for (number, state) in [(1, MachineState::Idle), (2, MachineState::InUse)] {
        let machine = market.machine(number);
        assert_eq!((machine.reliability, machine.leases_lost, machine.state), (500, 0, state));
    }
    assert_eq!(market.ledger.account(account(1)).unwrap().reliability, 500);
    // The receipt paid; what the hours did comes after it, and no transaction is its cause.
    assert_eq!(applied.results[0].events, 2, "{:?}", applied.events);
    assert!(matches!(applied.events[2], Event::Lease { .. }));
    market.send(person(9), Action::Cancel { job });
    assert_eq!(market.purses(9), (50_000_000 - paid, 0));

    // Until tomorrow's hours begin it takes no work.
    assert_eq!(market.machine_reason(1), MachineReason::OutsideHours { opens: Some(at(4 * MINUTE)) });
    let next = market.submit(9, &spec(2, 2, 10_000_000));
    assert_eq!(market.reason(next), JobReason::WaitsForMachines { free: 1, needed: 2 });
    market.beat_until(at(4 * MINUTE - 1), &[1, 2]);
    assert_eq!(market.state(next), JobState::Queued);
    market.beat(1, &[]);
    assert_eq!((market.state(next), market.machine_reason(1)), (JobState::Matched, MachineReason::Serving));
}

#[test]
fn hours_that_close_after_the_lease_let_it_go_on() {
    let mut market = market(1);
    market.offer(1, 1, Offer { availability: hours(0, 60), ..offer(cores(1)) });
    let job = market.submit(9, &spec(1, 1, 10_000_000));
    market.beat_until(at(20_000), &[1]);
    assert_eq!((market.state(job), market.machine_reason(1)), (JobState::Matched, MachineReason::Serving));
    let second = market.submit(9, &spec(1, 1, 10_000_000));
    finish(&mut market, job);
    assert_eq!(market.machine_reason(1), MachineReason::OutsideHours { opens: Some(at(4 * MINUTE)) });
    assert_eq!(market.reason(second), JobReason::WaitsForMachines { free: 0, needed: 1 });
    assert_eq!((market.machine(1).reliability, market.machine(1).leases_finished), (562, 1));
}

#[test]
fn an_offer_that_ran_out_takes_no_new_work_and_finishes_what_runs_or_ends_it_as_it_said() {
    let until = Availability { until: Some(at(8_000)), ..Availability::default() };
    for at_close in [ChangeMode::AfterLease, ChangeMode::AtOnce] {
        let mut market = market(1);
        market.offer(1, 1, Offer { availability: until, at_close, ..offer(cores(1)) });
        let job = market.submit(9, &spec(1, 1, 20_000_000));
        market.beat_until(at(7_999), &[1]);
        assert_eq!(market.machine_state(1), MachineState::InUse);
        market.beat(1, &[1]);
        if at_close == ChangeMode::AtOnce {
            assert_eq!(market.state(job), JobState::Queued, "it looks for another machine");
        } else {
            assert_eq!((market.machine_state(1), market.machine_reason(1)), (MachineState::Draining, MachineReason::Ending));
            finish(&mut market, job);
        }
        assert_eq!((market.machine_state(1), market.machine_reason(1)), (MachineState::Withdrawn, MachineReason::NotOffered));
        assert_eq!(market.machine(1).leases_lost, 0);
    }
}

#[test]
fn days_of_the_week_and_hours_over_midnight_hold_on_the_markets_clock() {
    let mut market = market(1);
    let (day, _) = params().slots.day_at(at(0));
    let tomorrow = Weekdays(1 << SlotClock::weekday(day + 1));
    // From 18:00 tomorrow to 6:00 on the day after it, seen from today's midnight.
    let availability = Availability { weekdays: tomorrow, ..hours(18 * 60, 6 * 60) };
    market.offer(1, 1, Offer { availability, ..offer(cores(1)) });
    let job = market.submit(9, &spec(1, 1, 10_000_000));
    let opens = at(4 * MINUTE + 3 * MINUTE);
    assert_eq!(market.machine_reason(1), MachineReason::OutsideHours { opens: Some(opens) });
    market.beat_until(TimeMs(opens.0 - 1), &[1]);
    assert_eq!(market.state(job), JobState::Queued);
    market.beat(1, &[1]);
    assert_eq!(market.state(job), JobState::Matched);
    market.send(person(9), Action::Cancel { job });
    market.beat_until(at(9 * MINUTE - 1), &[1]);
    assert_eq!(market.machine_reason(1), MachineReason::Ready, "after midnight its hours go on");
    market.beat(1, &[1]);
    let next_week = at((7 + 1) * 4 * MINUTE + 3 * MINUTE);
    assert_eq!(market.machine_reason(1), MachineReason::OutsideHours { opens: Some(next_week) });
}

#[test]
fn a_minimum_price_keeps_a_machine_closed_in_cheap_slots_and_holds_for_a_lease_that_runs_into_one() {
    let mut market = market(1);
    // 900 microcredits for a core second: less than slot 0 pays, more than slot 1 does.
    let minimum = UnitPrices { core_hour: Credits::from_micro(900 * 3_600), ..UnitPrices::default() };
    market.offer(1, 1, Offer { minimum, ..offer(cores(1)) });
    market.beat_until(at(58_000), &[1]);
    let job = market.submit(9, &spec(1, 1, 10_000_000));
    assert_eq!((market.state(job), market.lease(job, 0).started), (JobState::Matched, at(59_000)));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(4_000, vec![receipt]);
    // A second at 1000 + 200 + 10, three at the minimum of 900 and the cheap slot's 100 + 5.
    assert_eq!(market.purses(1).1, 1_210 + 3 * 1_005);

    market.send(person(9), Action::Cancel { job });
    market.beat(1_000, &[1]);
    assert_eq!((market.machine_state(1), market.machine_reason(1)), (MachineState::Idle, MachineReason::PriceBelowMinimum));
    let job = market.submit(9, &spec(1, 1, 10_000_000));
    assert_eq!(market.reason(job), JobReason::WaitsForMachines { free: 0, needed: 1 });
    market.beat_until(at(2 * MINUTE), &[1]);
    assert_eq!((market.state(job), market.lease(job, 0).started), (JobState::Matched, at(2 * MINUTE)));
}

#[test]
fn the_minimum_counts_when_an_escrow_runs_out() {
    let mut market = market(1);
    let minimum = UnitPrices { core_hour: Credits::from_micro(900 * 3_600), ..UnitPrices::default() };
    market.offer(1, 1, Offer { minimum, ..offer(cores(1)) });
    market.beat_until(at(58_000), &[1]);
    // Ten seconds of slot 1 would cost 6050, but this machine's cost 10050. After one second of slot 0 there are 10049 left.
    let job = market.submit(9, &spec(1, 1, 12_100));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(1_000, vec![receipt]);
    assert_eq!((market.ledger.time(), market.purses(1).1), (at(60_000), 1_210));
    assert_eq!(market.state(job), JobState::Running);
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(1_000, vec![receipt]);
    assert_eq!((market.state(job), market.purses(1).1), (JobState::Panic(PanicReason::Budget), 1_210 + 1_005));
    assert_eq!(market.reason(job), JobReason::Aborted { why: PanicReason::Budget, lease: None, machine: None });
}

#[test]
fn a_changed_offer_waits_for_the_lease_and_no_new_one_begins_before() {
    let mut market = market(0);
    market.lend(1, 1, cores(4), 100);
    market.beat(1_000, &[1]);
    let mut two_cores = spec(1, 1, 5_000_000);
    two_cores.workers.cores = 2;
    let job = market.submit(9, &two_cores);
    let smaller = offer(cores(1));
    assert_eq!(market.send(person(1), lend(1, smaller, ChangeMode::AfterLease)), 0);
    let changing = market.machine(1).clone();
    assert_eq!((changing.offer, changing.pending), (Some(offer(cores(4))), Some(smaller)));
    assert_eq!((changing.state, market.machine_reason(1)), (MachineState::Draining, MachineReason::OfferChanging));
    let waiting = market.submit(9, &spec(1, 1, 5_000_000));
    assert_eq!(market.reason(waiting), JobReason::WaitsForMachines { free: 0, needed: 1 });
    finish(&mut market, job);
    let changed = market.machine(1);
    assert_eq!((changed.offer, changed.pending, changed.leases.len()), (Some(smaller), None, 1));
    assert_eq!(market.state(waiting), JobState::Matched);
    // A change that is in no lease's way is made now.
    let dearer = Offer { minimum: UnitPrices { core_hour: Credits::from_credits(90), ..UnitPrices::default() }, ..smaller };
    assert_eq!(market.send(person(1), lend(1, dearer, ChangeMode::AfterLease)), 0);
    let changed = market.machine(1);
    assert_eq!((changed.offer, changed.pending, changed.state), (Some(dearer), None, MachineState::InUse));
    assert_eq!(market.lease(waiting, 0).minimum, UnitPrices::default(), "what a lease began with stays");
    // One that is, made at once, ends the lease, and that counts as lost.
    let none_now = Offer { availability: hours(720, 1_080), at_close: ChangeMode::AtOnce, ..smaller };
    assert_eq!(market.send(person(1), lend(1, none_now, ChangeMode::AtOnce)), 0);
    assert_eq!(market.state(waiting), JobState::Queued);
    assert_eq!((market.machine(1).leases_lost, market.machine(1).offer), (1, Some(none_now)));
}

#[test]
fn an_offer_that_would_close_at_once_waits_for_the_lease_too_and_a_withdrawal_takes_the_place_of_both() {
    let mut market = market(1);
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    let later = Offer { availability: hours(720, 1_080), at_close: ChangeMode::AtOnce, ..offer(cores(1)) };
    assert_eq!(market.send(person(1), lend(1, later, ChangeMode::AfterLease)), 0);
    market.beat(1_000, &[1]);
    assert_eq!((market.state(job), market.machine(1).pending), (JobState::Matched, Some(later)));
    assert_eq!(market.send(person(1), Action::Withdraw { machine: machine(1), mode: ChangeMode::AfterLease }), 0);
    assert_eq!((market.machine(1).pending, market.machine_reason(1)), (None, MachineReason::Ending));
    finish(&mut market, job);
    assert_eq!((market.machine_state(1), market.machine(1).offer), (MachineState::Withdrawn, None));
}

#[test]
fn a_change_that_waits_outlives_the_old_offer_and_ends_at_its_own_end() {
    let until = |ms| Availability { until: Some(at(ms)), ..Availability::default() };
    for (own_end, then) in [(60_000, MachineState::Idle), (20_000, MachineState::Withdrawn)] {
        let mut market = market(0);
        market.lend(1, 1, cores(2), 100);
        market.offer(1, 1, Offer { availability: until(15_000), ..offer(cores(2)) });
        market.beat(1_000, &[1]);
        let mut two_cores = spec(1, 1, 5_000_000);
        two_cores.workers.cores = 2;
        let job = market.submit(9, &two_cores);
        let smaller = Offer { availability: until(own_end), ..offer(cores(1)) };
        market.offer(1, 1, smaller);
        market.beat_until(at(30_000), &[1]);
        assert_eq!((market.machine_reason(1), market.machine(1).pending), (MachineReason::OfferChanging, Some(smaller)));
        finish(&mut market, job);
        market.beat(1_000, &[1]);
        assert_eq!(market.machine_state(1), then);
        assert_eq!(market.machine(1).offer.is_some(), then == MachineState::Idle);
    }
}

#[test]
fn a_machine_that_is_withdrawn_after_its_lease_still_closes_at_its_hours() {
    let mut market = market(1);
    market.offer(1, 1, Offer { availability: hours(0, 60), at_close: ChangeMode::AtOnce, ..offer(cores(1)) });
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    assert_eq!(market.send(person(1), Action::Withdraw { machine: machine(1), mode: ChangeMode::AfterLease }), 0);
    assert_eq!(market.machine_reason(1), MachineReason::Ending);
    market.beat_until(at(10_000), &[1]);
    assert_eq!(market.state(job), JobState::Queued);
    assert_eq!((market.machine_state(1), market.machine(1).reliability), (MachineState::Withdrawn, 500));
}

#[test]
fn an_invitation_brings_one_machine_into_its_owners_account_and_offers_it() {
    let mut market = market(0);
    let invite = |number, offer, expires| Action::Invite { code: code(number), offer, expires };
    let night = Offer { availability: hours(0, 360), ..offer(cores(1)) };
    assert_eq!(market.send(person(1), invite(1, Some(night), at(60_000))), 0);
    assert_eq!(market.send(person(1), invite(2, None, at(20_000))), 0);
    assert_eq!(market.ledger.invite(&code(1)).map(|invite| invite.owner), Some(account(1)));

    // The machine signs with its own key; nothing of the owner's is on it.
    assert_eq!(market.send(machine_key(1), join(code(1), config(1, cores(2), 100))), 0);
    let joined = market.machine(1);
    assert_eq!((joined.owner, joined.offer, joined.state), (account(1), Some(night), MachineState::Idle));
    assert_eq!(market.machine_reason(1), MachineReason::NotHeardYet);
    assert_eq!(market.ledger.account(account(1)).unwrap().machines, 1);
    assert_eq!(market.ledger.invite(&code(1)), None);
    assert_eq!(market.send(machine_key(2), join(code(1), config(2, cores(1), 100))), 2043, "a code is used once");
    market.beat(1_000, &[1]);
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    assert_eq!(market.lease(job, 0).owner, account(1));

    market.beat_until(at(20_000), &[1]);
    assert_eq!(market.ledger.invite(&code(2)), None, "nobody used it in time");
    assert_eq!(market.send(machine_key(2), join(code(2), config(2, cores(1), 100))), 2043);

    // Without an offer the owner looks at the machine first; the same machine may come again, to renew what was measured.
    for (number, speed) in [(3, 100), (4, 200)] {
        let expires = market.ledger.time().plus(60_000);
        assert_eq!(market.send(person(1), invite(number, None, expires)), 0);
        assert_eq!(market.send(machine_key(2), join(code(number), config(2, cores(1), speed))), 0);
        assert_eq!((market.machine_reason(2), market.machine(2).config.speed), (MachineReason::NotOffered, speed));
    }
    assert_eq!(market.ledger.account(account(1)).unwrap().machines, 2);
}

#[test]
fn a_new_machine_begins_as_reliable_as_its_owners_were() {
    let mut market = market(1);
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    market.send(person(1), Action::Withdraw { machine: machine(1), mode: ChangeMode::AtOnce });
    market.send(person(9), Action::Cancel { job });
    assert_eq!((market.machine(1).reliability, market.ledger.account(account(1)).unwrap().reliability), (437, 437));
    market.lend(1, 2, cores(1), 100);
    market.lend(9, 3, cores(1), 100);
    assert_eq!((market.machine(2).reliability, market.machine(3).reliability), (437, 500), "a new key is no new name");
    market.beat(1_000, &[2, 3]);
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    assert_eq!(market.lease(job, 0).machine, machine(3));
    finish(&mut market, job);
    // Recent leases weigh more: 500 + (1000 - 500) / 8, and seven eighths of 437 and an eighth of 1000.
    assert_eq!((market.machine(3).reliability, market.ledger.account(account(9)).unwrap().reliability), (562, 562));
    market.send(person(9), Action::Withdraw { machine: machine(3), mode: ChangeMode::AtOnce });
    let job = market.submit(9, &spec(1, 1, 5_000_000));
    assert_eq!(market.lease(job, 0).machine, machine(2));
    finish(&mut market, job);
    assert_eq!(market.machine(2).reliability, (7 * 437 + 1_000) / 8);
}

/// But that of a job that starts with the next block: matching ends a block.
#[test]
fn every_reason_of_a_machine_and_of_a_job_is_given() {
    let mut market = market(0);
    let reasons = |market: &Market| market.machine_reason(1);
    assert_eq!(market.send(person(1), register(1, config(1, cores(1), 100))), 0);
    assert_eq!(reasons(&market), MachineReason::NotOffered);
    let never_again = Availability { until: Some(at(100_000)), ..hours(0, 60) };
    market.offer(1, 1, Offer { availability: never_again, ..offer(cores(1)) });
    assert_eq!(reasons(&market), MachineReason::NotHeardYet);
    assert_eq!(market.send(machine_key(1), Action::Heartbeat { addresses: None }), 0);
    assert_eq!(reasons(&market), MachineReason::NoAddress);
    let waiting = market.submit(9, &spec(1, 1, 100_000));
    assert_eq!(market.reason(waiting), JobReason::WaitsForMachines { free: 0, needed: 1 });
    market.block(3_000, vec![]);
    assert_eq!((market.ledger.time(), reasons(&market)), (at(10_000), MachineReason::OutsideHours { opens: None }));
    market.offer(1, 1, offer(cores(1)));
    market.beat(500, &[1]);
    assert_eq!((reasons(&market), market.reason(waiting)), (MachineReason::Serving, JobReason::Preparing));
    let receipt = market.receipt(waiting, 0, LeaseOutcome::Running);
    market.block(500, vec![receipt]);
    assert_eq!(market.reason(waiting), JobReason::Training { workers: 1, preparing: 0 });
    finish(&mut market, waiting);
    assert_eq!((reasons(&market), market.reason(waiting)), (MachineReason::Ready, JobReason::Finished));

    // Ten seconds of slot 0 cost 12100 microcredits, of slot 2 24200.
    let mut evening = spec(1, 1, 20_000);
    evening.budget.slots = vec![1, 2];
    let evening = market.submit(9, &evening);
    assert_eq!(market.reason(evening), JobReason::WaitsForSlot { starts: at(MINUTE) });
    market.offer(1, 1, Offer { availability: hours(720, 1_440), ..offer(cores(1)) });
    market.beat_until(at(2 * MINUTE - 1), &[1]);
    assert_eq!(market.reason(evening), JobReason::WaitsForMachines { free: 0, needed: 1 });
    market.beat(1, &[1]);
    assert_eq!(reasons(&market), MachineReason::Ready);
    assert_eq!(market.reason(evening), JobReason::WaitsForLowerPrices { needed: Credits::from_micro(24_200) });
    market.send(person(9), Action::Cancel { job: evening });
    assert_eq!(market.reason(evening), JobReason::Cancelled);

    let minimum = UnitPrices { core_hour: Credits::from_credits(90), ..UnitPrices::default() };
    market.offer(1, 1, Offer { minimum, ..offer(cores(1)) });
    assert_eq!(reasons(&market), MachineReason::PriceBelowMinimum);
    market.offer(1, 1, offer(cores(1)));
    let mut once = spec(1, 1, 1_000_000);
    once.recovery.restarts = 0;
    let job = market.submit(9, &once);
    market.send(person(1), Action::Withdraw { machine: machine(1), mode: ChangeMode::AfterLease });
    assert_eq!(reasons(&market), MachineReason::Ending);
    let failed = market.receipt(job, 0, LeaseOutcome::Failed(FailureReason::TrainerCrashed));
    market.block(500, vec![failed]);
    let lease = market.lease(job, 0).id;
    let why = PanicReason::Failed(FailureReason::TrainerCrashed);
    assert_eq!(market.reason(job), JobReason::Aborted { why, lease: Some(lease), machine: Some(machine(1)) });
    market.offer(1, 1, offer(cores(1)));
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    market.train(500, job);
    let closes = Offer { availability: hours(0, 1), at_close: ChangeMode::AtOnce, ..offer(cores(1)) };
    market.offer(1, 1, closes);
    assert_eq!(reasons(&market), MachineReason::OfferChanging);
    while market.machine_state(1) != MachineState::Panic {
        market.block(2_000, vec![]);
    }
    assert_eq!(reasons(&market), MachineReason::LostContact);
    assert_eq!(market.reason(job), JobReason::Recovering { preparing: 0 });
}

#[test]
fn an_offer_as_large_as_numbers_go_stops_nothing() {
    let huge = Resources { cores: u32::MAX, gpus: u32::MAX, ram_mib: u64::MAX, disk_mib: u64::MAX };
    let mut market = market(0);
    for number in 1..=3 {
        market.lend(1, number, huge, u64::MAX);
    }
    market.beat(1_000, &[1, 2, 3]);
    let job = market.submit(9, &spec(3, 3, 1_000_000));
    assert_eq!(market.state(job), JobState::Matched);
    for _ in 0..9 {
        market.block(MINUTE, vec![]);
    }
    assert!(market.ledger.estimate(account(1)).profit <= Credits::from_micro(u64::MAX));
}
