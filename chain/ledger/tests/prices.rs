//! Prices: both policies, and what a job over several slots pays.

mod support;

use deepmarket_ledger::{DynamicPricing, Params, PricePolicy};
use deepmarket_types::*;
use support::*;

fn at(ms: u64) -> TimeMs {
    TimeMs(START + ms)
}

/// Prices of cores, in microcredits, of today's four slots.
fn of_cores(market: &Market) -> [u64; 4] {
    market.ledger.prices().expect("the first block set prices").slots.map(|slot| slot.core_hour.micro())
}

/// A day of four minutes, in blocks of 10 seconds with heartbeats of these machines; ends with the first block of the next.
fn pass_a_day(market: &mut Market, machines: &[u8]) {
    let (day, of_day_ms) = market.ledger.params().slots.day_at(market.ledger.time());
    market.beat(10_000 - of_day_ms % 10_000, machines);
    while market.ledger.prices().expect("it has").day == day {
        market.beat(10_000, machines);
    }
}

/// Moves with half of the distance from a pressure of 700, a fifth at most; every day counts alone.
fn pricing() -> DynamicPricing {
    DynamicPricing { target_permille: 700, gain_permille: 500, weight_permille: 1_000, max_change_permille: 200, first: None }
}

fn dynamic(pricing: DynamicPricing) -> Params {
    Params { price_policy: PricePolicy::Dynamic(pricing), max_machines_per_account: 10, ..params() }
}

#[test]
fn random_prices_are_uniform_between_floor_and_ceiling() {
    let mut market = Market::new(params());
    market.thorough = false;
    let (floor, ceiling) = (params().price_floor.core_hour.micro(), params().price_ceiling.core_hour.micro());
    let mut fifths = [0_u32; 5];
    for _ in 0..2_500 {
        market.block(4 * MINUTE, vec![]);
        for price in of_cores(&market) {
            let above = price - floor;
            assert!(above <= ceiling - floor);
            fifths[(above * 5 / (ceiling - floor + 1)) as usize] += 1;
        }
    }
    // 10,000 draws: 2,000 in each fifth, with a standard deviation of 40.
    assert!(fifths.iter().all(|count| (1_800..2_200).contains(count)), "{fifths:?}");
}

#[test]
fn a_dynamic_price_rises_with_pressure_falls_without_and_stays_where_nothing_was_seen() {
    let mut market = Market::of(dynamic(pricing()), 2);
    assert_eq!(of_cores(&market), [2_500_000; 4], "the first prices are the middle of 1 and 4 credits");
    // Two cores are on offer. Slot 1 uses one of them, slot 2 both, and a third job waits for slot 3 that nobody can serve:
    // it asks for four cores.
    let submit = |market: &mut Market, min, cores, slot| {
        let mut spec = spec(min, min, 5_000_000);
        spec.workers.cores = cores;
        spec.budget.slots = vec![slot];
        market.submit(9, &spec)
    };
    let [one, two] = [(1, 1), (2, 2)].map(|(workers, slot)| submit(&mut market, workers, 1, slot));
    let unmet = submit(&mut market, 1, 4, 3);
    market.beat_until(at(2 * MINUTE - 1), &[1, 2]);
    market.block(1, vec![market.next(person(9), Action::Cancel { job: one })]);
    assert_eq!((market.state(two), market.ledger.time()), (JobState::Matched, at(2 * MINUTE)));
    market.beat_until(at(3 * MINUTE - 1), &[1, 2]);
    market.block(1, vec![market.next(person(9), Action::Cancel { job: two })]);
    assert_eq!(market.state(unmet), JobState::Queued);
    market.beat_until(at(4 * MINUTE), &[1, 2]);
    // Pressures of 0, 500, 1000 and 2000 thousandths: -35 %, cut to -20 %; -10 %; +15 %; +65 %, cut to +20 %.
    assert_eq!(of_cores(&market), [2_000_000, 2_250_000, 2_875_000, 3_000_000]);
    let slots = market.ledger.prices().unwrap().slots;
    assert!(slots.iter().all(|slot| slot.gpu_hour == Credits::from_micro(2_500_000)), "nobody has or wants a GPU");
    assert_eq!(slots[1].ram_gib_hour.micro(), 625_000 * 9 / 10, "each unit moves by itself");

    // The third job goes on waiting for slot 3, whose price reaches the ceiling; the others' reach the floor.
    pass_a_day(&mut market, &[1, 2]);
    assert_eq!(of_cores(&market), [1_600_000, 1_800_000, 2_300_000, 3_600_000]);
    for _ in 0..4 {
        pass_a_day(&mut market, &[1, 2]);
    }
    assert_eq!(of_cores(&market), [1_000_000, 1_000_000, 1_000_000, 4_000_000]);

    // Without machines and jobs nothing is seen, and nothing moves.
    market.send(person(9), Action::Cancel { job: unmet });
    for number in [1, 2] {
        market.send(person(1), Action::Withdraw { machine: machine(number), mode: ChangeMode::AtOnce });
    }
    pass_a_day(&mut market, &[]);
    let before = of_cores(&market);
    pass_a_day(&mut market, &[]);
    assert_eq!(of_cores(&market), before);
}

#[test]
fn a_mean_over_days_moves_a_price_slower_than_the_last_day_does() {
    let mut market = Market::of(dynamic(DynamicPricing { weight_permille: 300, gain_permille: 200, ..pricing() }), 1);
    let mut wanted = spec(2, 2, 5_000_000);
    wanted.budget.slots = vec![1];
    market.submit(9, &wanted);
    // One core is on offer and two are waited for in slot 1: a pressure of 2000, the first day's mean.
    pass_a_day(&mut market, &[1]);
    assert_eq!(of_cores(&market)[1], 2_500_000 * 1_200 / 1_000, "a fifth of 1300 thousandths would be more than is allowed");
    let job = market.ledger.jobs().next().unwrap().id;
    market.send(person(9), Action::Cancel { job });
    // Then nobody wants it: 2000 + 0.3 · (0 - 2000) = 1400, and so on: 980, 686, 480. The changes are a fifth of the distance from
    // 700, towards zero: -2.8 thousandths are -2.
    let mut expected = 3_000_000_i64;
    for change in [140, 56, -2, -44] {
        expected = expected * (1_000 + change) / 1_000;
        pass_a_day(&mut market, &[1]);
        assert_eq!(i64::try_from(of_cores(&market)[1]), Ok(expected));
    }
    assert_eq!(expected, 3_445_706);
}

#[test]
fn a_chain_that_stood_still_for_days_moves_its_prices_once() {
    let mut market = Market::of(dynamic(pricing()), 1);
    let before = market.ledger.prices().unwrap().day;
    // The machine was on offer in all of the first day and nobody wanted it.
    market.block(9 * 4 * MINUTE, vec![]);
    let prices = market.ledger.prices().unwrap();
    assert_eq!((prices.day, of_cores(&market)), (before + 9, [2_000_000; 4]));
}

#[test]
fn dynamic_prices_begin_where_the_genesis_document_says() {
    let first = [1_000_000, 2_000_000, 3_000_000, 4_000_000].map(|micro| {
        let (core_hour, ram_gib_hour) = (Credits::from_micro(micro), Credits::from_micro(micro / 4));
        UnitPrices { core_hour, gpu_hour: core_hour, ram_gib_hour, disk_gib_hour: Credits::from_micro(micro / 100) }
    });
    let market = Market::of(dynamic(DynamicPricing { first: Some(first), ..pricing() }), 0);
    assert_eq!(market.ledger.prices().unwrap().slots, first);
}

#[test]
fn numbers_that_make_no_dynamic_price_are_refused() {
    let refused = |pricing| dynamic(pricing).check().unwrap_err().to_string();
    assert!(dynamic(pricing()).check().is_ok());
    assert!(
        refused(DynamicPricing { target_permille: 0, ..pricing() }).starts_with("params.price_policy.dynamic.target_permille")
    );
    assert!(refused(DynamicPricing { gain_permille: 10_001, ..pricing() }).contains("gain_permille"));
    assert!(refused(DynamicPricing { weight_permille: 0, ..pricing() }).contains("weight_permille"));
    assert!(refused(DynamicPricing { max_change_permille: 1_001, ..pricing() }).contains("max_change_permille"));
    let [floor, ceiling] = [params().price_floor, params().price_ceiling];
    for (unit, outside) in [
        ("a core", UnitPrices { core_hour: Credits::from_micro(999_999), ..floor }),
        ("a GPU", UnitPrices { gpu_hour: Credits::from_micro(4_000_001), ..ceiling }),
        ("memory", UnitPrices { ram_gib_hour: Credits::from_micro(249_999), ..floor }),
        ("disk", UnitPrices { disk_gib_hour: Credits::from_micro(40_001), ..ceiling }),
    ] {
        let first = Some([floor, ceiling, outside, floor]);
        assert!(refused(DynamicPricing { first, ..pricing() }).contains("dynamic.first: every price must be"), "{unit}");
    }
    assert!(dynamic(DynamicPricing { first: Some([floor, ceiling, floor, ceiling]), ..pricing() }).check().is_ok());
}

#[test]
fn a_job_waits_for_the_cheap_slot_that_it_names_and_tells_when_that_begins() {
    let mut market = Market::of(with_fixed_prices([1_000, 500, 2_000, 100]), 1);
    let mut night = spec(1, 1, 5_000_000);
    night.budget.slots = vec![1, 3];
    let job = market.submit(9, &night);
    assert_eq!(market.reason(job), JobReason::WaitsForSlot { starts: at(MINUTE) });
    market.beat_until(at(MINUTE - 1), &[1]);
    assert_eq!((market.state(job), market.reason(job)), (JobState::Queued, JobReason::WaitsForSlot { starts: at(MINUTE) }));
    market.beat(1, &[1]);
    assert_eq!((market.state(job), market.ledger.job(job).unwrap().started), (JobState::Matched, Some(at(MINUTE))));
    let receipt = market.receipt(job, 0, LeaseOutcome::Running);
    market.block(2_000, vec![receipt]);
    assert_eq!(market.purses(1).1, 2 * 605);

    // From slot 3, a slot that has begun too late for this job, tomorrow's is the next one.
    market.send(person(9), Action::Cancel { job });
    market.beat_until(at(3 * MINUTE), &[1]);
    let mut tomorrow = spec(1, 1, 5_000_000);
    tomorrow.budget.slots = vec![0];
    let job = market.submit(9, &tomorrow);
    assert_eq!(market.reason(job), JobReason::WaitsForSlot { starts: at(4 * MINUTE) });
}

#[test]
fn a_job_for_a_cheap_slot_needs_one_interval_of_that_slot_only() {
    let mut market = Market::of(with_fixed_prices([1_000, 500, 2_000, 100]), 1);
    // Ten seconds cost 12100, 6050, 24200 and 1210.
    let borrow = |market: &mut Market, budget, slots: &[u8]| {
        let mut spec = spec(1, 1, budget);
        spec.budget.slots = slots.to_vec();
        market.result(person(9), Action::Borrow { spec: spec.to_bytes() })
    };
    assert_eq!(borrow(&mut market, 12_099, &[]).code, 2053);
    assert_eq!(borrow(&mut market, 6_049, &[1, 2]).code, 2053);
    let message = borrow(&mut market, 1_209, &[2, 3]).message;
    assert!(message.contains("costs 0.00121"), "{message}");
    assert_eq!(borrow(&mut market, 12_100, &[]).code, 0);
    assert_eq!(borrow(&mut market, 6_050, &[1, 2]).code, 0);
    assert_eq!(borrow(&mut market, 1_210, &[2, 3]).code, 0);
}

#[test]
fn a_job_over_three_slots_is_billed_at_three_prices_to_the_microcredit() {
    let mut market = Market::of(with_fixed_prices([1_000, 500, 2_000, 100]), 1);
    market.beat_until(at(57_000), &[1]);
    let job = market.submit(9, &spec(1, 1, 1_000_000));
    assert_eq!(market.lease(job, 0).started, at(58_000));
    let pay = |market: &mut Market, time: u64, expected: u64| {
        market.beat_until(at(time - 500), &[1]);
        let receipt = market.receipt(job, 0, LeaseOutcome::Running);
        let (before, _) = (market.purses(1).1, market.block(500, vec![receipt]));
        assert_eq!(market.purses(1).1 - before, expected, "at {time} ms");
    };
    // Core, GiB of memory, GiB of disk: 1000 + 200 + 10 a second in slot 0, 500 + 100 + 5 in slot 1, 2000 + 400 + 20 in slot 2.
    // Each of the three products is rounded down in each slot: 333 ms of slot 1 are 166.5, 33.3 and 1.665.
    pay(&mut market, 60_333, 2 * 1_210 + 166 + 33 + 1);
    for time in [70_333, 80_333, 90_333, 100_333, 110_333] {
        pay(&mut market, time, 6_050);
    }
    // 9667 ms of slot 1: 4833.5, 966.7, 48.335; then 333 ms of slot 2: 666, 133.2, 6.66.
    pay(&mut market, 120_333, 4_833 + 966 + 48 + 666 + 133 + 6);
    pay(&mut market, 125_333, 5 * 2_420);
    let paid = 2_420 + 200 + 5 * 6_050 + 5_847 + 805 + 12_100;
    let lease = market.lease(job, 0);
    assert_eq!((lease.paid.micro(), lease.paid_ms), (paid, 67_333));
    market.send(person(9), Action::Cancel { job });
    assert_eq!(market.purses(9), (50_000_000 - paid, 0), "what was rounded off is the borrower's");
}
