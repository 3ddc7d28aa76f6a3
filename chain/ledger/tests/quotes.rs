//! Quotes, `lend evaluate` and the estimates of the next 24 hours.

mod support;

use deepmarket_ledger::{Ledger, Params, Quote};
use deepmarket_types::*;
use support::*;

fn at(ms: u64) -> TimeMs {
    TimeMs(START + ms)
}

fn fixed() -> Params {
    Params { max_machines_per_account: 10, ..with_fixed_prices([1_000, 500, 2_000, 100]) }
}

/// A quote for a data set of 3 million training samples and a million others: two epochs of forward and backward of the first
/// and forward of the others, of 8 multiply-adds each, are 160 million.
fn quote(ledger: &Ledger, spec: &deepmarket_job::JobSpec) -> Quote {
    let size = spec.check().expect("a sound spec");
    assert_eq!(size.multiply_adds, 8);
    ledger.quote(spec, &size, 3_000_000, 1_000_000)
}

#[test]
fn a_quote_tells_workers_time_and_cost_and_changes_nothing() {
    let mut market = Market::of(fixed(), 3);
    let spec = spec(2, 3, 20_000_000);
    let before = market.ledger.clone();
    let quoted = quote(&market.ledger, &spec);
    assert!(market.ledger == before);
    assert_eq!((quoted.workers, quoted.machines, quoted.enough), (3, 3, true));
    // Three machines of 100 million a second.
    assert_eq!(quoted.expected_ms, Some(160_000_000_u64.div_ceil(300_000)));
    assert_eq!(quoted.expected_start, Some(market.ledger.time()));
    // 534 ms: 534, 106.8 and 5.34 for each of the three.
    assert_eq!(quoted.expected_cost.micro(), 3 * (534 + 106 + 5));
    assert_eq!((quoted.budget, quoted.covered, quoted.current_slot), (Credits::from_credits(20), true, 0));
    let slot = |slot: usize| quoted.slots[slot];
    assert_eq!((slot(0).begins, slot(0).expected_cost), (market.ledger.time(), quoted.expected_cost));
    assert_eq!((slot(2).begins, slot(2).expected_start), (at(2 * MINUTE), Some(at(2 * MINUTE))));
    assert_eq!(slot(2).cost_per_hour.micro(), 3 * 3_600 * 2_420);
    assert_eq!(
        [0, 1, 2, 3].map(|i| slot(i).expected_cost.micro()),
        [1_935, 3 * (267 + 53 + 2), 3 * (1_068 + 213 + 10), 3 * (53 + 10)]
    );
    assert!(quoted.slots.iter().all(|slot| slot.allowed && slot.enough && slot.workers == 3));

    // In use now; in the next slot they would be on offer, as far as anybody can tell.
    market.submit(9, &spec);
    let quoted = quote(&market.ledger, &spec);
    assert_eq!((quoted.workers, quoted.machines, quoted.enough), (0, 3, false));
    assert_eq!((quoted.slots[0].expected_start, quoted.expected_start), (None, Some(at(MINUTE))));
    assert_eq!(quoted.expected_cost, quoted.slots[1].expected_cost);
    assert!(quoted.expected_ms.is_some());

    let nothing = Market::new(params());
    let size = spec.check().unwrap();
    let quoted = nothing.ledger.quote(&spec, &size, u64::MAX, u64::MAX);
    assert_eq!((quoted.expected_ms, quoted.machines, quoted.enough, quoted.expected_start), (None, 0, false, None));
}

#[test]
fn each_slot_says_whether_there_are_enough_machines_by_their_hours_and_minimum_prices() {
    let mut market = Market::of(fixed(), 3);
    // Machine 1 is there in slots 0 and 1, machine 2 asks for more than slots 1 and 3 pay, machine 3 is there always.
    market.offer(1, 1, Offer { availability: hours(0, 720), ..offer(cores(1)) });
    let minimum = UnitPrices { core_hour: Credits::from_micro(900 * 3_600), ..UnitPrices::default() };
    market.offer(1, 2, Offer { minimum, ..offer(cores(1)) });
    let mut spec = spec(2, 3, 20_000_000);
    spec.budget.slots = vec![1, 2, 3];
    let quoted = quote(&market.ledger, &spec);
    let slots: Vec<_> = quoted.slots.iter().map(|slot| (slot.allowed, slot.workers, slot.enough, slot.expected_start)).collect();
    assert_eq!(slots[0], (false, 3, true, Some(market.ledger.time())));
    assert_eq!(slots[1], (true, 2, true, Some(at(MINUTE))));
    assert_eq!(slots[2], (true, 2, true, Some(at(2 * MINUTE))));
    assert_eq!(slots[3], (true, 1, false, None));
    assert_eq!((quoted.expected_start, quoted.workers, quoted.enough), (Some(at(MINUTE)), 0, true));
    spec.budget.slots = vec![3];
    let quoted = quote(&market.ledger, &spec);
    assert_eq!((quoted.expected_start, quoted.expected_cost), (None, quoted.slots[3].expected_cost), "the only slot is quoted");
    // A shared machine with room for several workers is several.
    market.lend(9, 4, cores(3), 100);
    market.beat(1_000, &[1, 2, 3, 4]);
    spec.workers.share_machine = true;
    assert_eq!(quote(&market.ledger, &spec).slots[3].workers, 3);
}

#[test]
fn a_long_job_is_quoted_at_each_slots_price_and_at_its_machines_minimum() {
    let mut market = Market::of(fixed(), 1);
    let minimum = UnitPrices { core_hour: Credits::from_micro(900 * 3_600), ..UnitPrices::default() };
    market.offer(1, 1, Offer { minimum, ..offer(cores(1)) });
    market.beat_until(at(50_000), &[1]);
    let spec = spec(1, 1, 20_000_000);
    let size = spec.check().unwrap();
    // Two epochs of 3 times 8 multiply-adds: 48 for each sample. At 100 million a second, 2,083,333 samples a second.
    let seconds = |seconds: u64| 100_000_000 * seconds / 48;
    let quoted = market.ledger.quote(&spec, &size, seconds(30), 0);
    let (ten, rest) = (10 * 1_210, 20 * (900 + 100 + 5));
    assert_eq!((quoted.expected_ms, quoted.expected_cost.micro()), (Some(30_000), ten + rest));
    // A day and ten seconds: whole days cost what their four slots do.
    let quoted = market.ledger.quote(&spec, &size, seconds(250), 0);
    let day = 60 * (1_210 + 1_005 + 2_420 + (900 + 20 + 1));
    assert_eq!((quoted.expected_ms, quoted.expected_cost.micro()), (Some(250_000), ten + day));
    // Half the age of the universe is answered at once.
    let quoted = market.ledger.quote(&spec, &size, u64::MAX, 0);
    assert!(!quoted.covered && quoted.expected_cost == quoted.budget && quoted.expected_ms > Some(1 << 40));
    assert!(quoted.slots[0].expected_cost > Credits::from_credits(1_000_000));
}

#[test]
fn a_quote_reckons_with_the_speed_that_machines_showed() {
    let mut market = Market::of(fixed(), 2);
    let small = spec(2, 2, 5_000_000);
    // Both train on five million samples, three times 8 multiply-adds each.
    let trains = |market: &mut Market, seconds: u64| {
        let job = market.submit(9, &small);
        market.train(1_000, job);
        let last = [0, 1].map(|rank| {
            let lease = market.lease(job, rank);
            let mut receipt = receipt(lease, 2, LeaseOutcome::Finished(Hash::of(b"model")));
            (receipt.samples, receipt.parameters) = (5_000_000, Hash::of(b"parameters"));
            market.next(market.ledger.machine(lease.machine).unwrap().key, Action::Receipt(receipt))
        });
        market.beat(seconds * 1_000 - 500, &[1, 2]);
        assert_eq!(market.block(500, last.to_vec()), [0, 0]);
    };
    trains(&mut market, 2);
    // In two seconds: 60 million a second for each.
    assert_eq!([1, 2].map(|number| market.machine(number).observed_speed), [60, 60]);
    let quoted = quote(&market.ledger, &small);
    // The observed time has everything in it but the validation: 144 million multiply-adds of training.
    assert_eq!(quoted.expected_ms, Some(144_000_000 / (2 * 60_000)));
    // The next one takes four seconds: the mean of 60 and 30.
    trains(&mut market, 4);
    assert_eq!([1, 2].map(|number| market.machine(number).observed_speed), [45, 45]);
}

#[test]
fn an_offer_is_evaluated_for_the_four_slots_from_now_on() {
    let mut market = Market::of(fixed(), 2);
    market.beat_until(at(30_000), &[1, 2]);
    let one = offer(cores(1));
    let always = market.ledger.evaluate(&one);
    assert_eq!(always.map(|slot| slot.slot), [0, 1, 2, 3]);
    assert_eq!(always.map(|slot| slot.begins), [at(30_000), at(MINUTE), at(2 * MINUTE), at(3 * MINUTE)]);
    assert_eq!(always.map(|slot| slot.open_ms), [30_000, MINUTE, MINUTE, MINUTE]);
    // One core, one GiB of memory, four of disk.
    assert_eq!(always.map(|slot| slot.full.micro()), [30 * 1_240, 60 * 620, 60 * 2_480, 60 * 124]);
    assert!(always.iter().all(|slot| slot.utilisation_permille == 0 && slot.expected.is_zero()), "nobody used anything yet");

    // Hours from the middle of slot 1 to the middle of slot 2, and a minimum that slot 1 does not reach.
    let minimum = UnitPrices { core_hour: Credits::from_micro(900 * 3_600), ..UnitPrices::default() };
    let choosy = market.ledger.evaluate(&Offer { availability: hours(540, 900), minimum, ..one });
    assert_eq!(choosy.map(|slot| slot.open_ms), [0, 30_000, 30_000, 0]);
    assert_eq!(choosy.map(|slot| slot.reaches_minimum), [true, false, true, false]);
    assert_eq!(choosy.map(|slot| slot.full.micro()), [0, 0, 30 * 2_480, 0]);

    // One of two machines works for all of slot 1 and half of slot 2.
    let mut half = spec(1, 1, 5_000_000);
    half.budget.slots = vec![1];
    let job = market.submit(9, &half);
    market.beat_until(at(MINUTE), &[1, 2]);
    market.beat_until(at(2 * MINUTE + 30_000 - 1_000), &[1, 2]);
    market.send(person(9), Action::Cancel { job });
    market.beat_until(at(3 * MINUTE), &[1, 2]);
    assert_eq!([0, 1, 2, 3].map(|slot| market.ledger.utilisation_permille(slot)), [0, 500, 250, 0]);
    let evaluated = market.ledger.evaluate(&one);
    assert_eq!(evaluated.map(|slot| slot.slot), [3, 0, 1, 2]);
    assert_eq!(evaluated.map(|slot| slot.expected.micro()), [0, 0, 60 * 620 / 2, 60 * 2_480 / 4]);
    assert_eq!(market.ledger.estimate(account(1)).profit.micro(), 2 * (60 * 620 / 2 + 60 * 2_480 / 4));
}

#[test]
fn an_estimate_is_of_what_runs_and_never_more_than_jobs_have_left() {
    let mut market = Market::of(fixed(), 2);
    assert_eq!(market.ledger.estimate(account(9)), Default::default());
    // A day of one worker costs 60 times 1210 + 605 + 2420 + 121.
    let day = 60 * 4_356;
    let long = market.submit(9, &spec(1, 1, 1_000_000));
    let waiting = market.submit(9, &spec(2, 2, 50_000));
    assert_eq!((market.state(long), market.state(waiting)), (JobState::Matched, JobState::Queued));
    let [lender, borrower] = [1, 9].map(|number| market.ledger.estimate(account(number)));
    // The other machine is reckoned with the use of this slot so far: one of four core seconds, and 51 s to go.
    assert_eq!(market.ledger.time(), at(9_000));
    assert_eq!((lender.profit.micro(), lender.cost.micro()), (day + 51 * 1_240 / 4, 0));
    assert_eq!((borrower.profit.micro(), borrower.cost.micro()), (0, day + 50_000));
    market.send(person(9), Action::Cancel { job: long });
    // The other one has both machines now. Each is reckoned with half of what it has left.
    assert_eq!(market.state(waiting), JobState::Matched);
    let [lender, borrower] = [1, 9].map(|number| market.ledger.estimate(account(number)));
    assert_eq!((lender.profit.micro(), borrower.cost.micro()), (50_000, 50_000));
}
