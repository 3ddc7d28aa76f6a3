//! Training that survives its machines, told as stories: who trains together, and what happens when one of them goes.

mod support;

use deepmarket_ledger::{Applied, Lease, Params};
use deepmarket_types::*;
use support::*;

const SECOND: u64 = 1_210;
const PLENTY: u64 = 40_000_000;

/// Machines of one core, the first one the fastest: rank 0 goes to machine 1, and so on. A worker costs 1,210 microcredits a second.
fn market(machines: u8) -> Market {
    market_of(with_fixed_prices([1_000; 4]), machines)
}

fn market_of(params: Params, machines: u8) -> Market {
    let mut market = Market::new(Params { max_machines_per_account: 10, ..params });
    market.open(1);
    market.open(9);
    for number in 1..=machines {
        market.lend(1, number, cores(1), 1_000 - u64::from(number));
    }
    market.beat(1_000, &(1..=machines).collect::<Vec<_>>());
    market
}

fn beats(market: &Market) -> Vec<VerifiedTransaction> {
    let offered = (1..=10).filter(|number| market.ledger.machine(machine(*number)).is_some_and(|m| m.offer.is_some() && !m.lost));
    offered.map(|number| market.heartbeat(number)).collect()
}

fn say(market: &Market, lease: &Lease, change: impl FnOnce(&mut Receipt)) -> VerifiedTransaction {
    let mut receipt = receipt(lease, lease.sequence + 1, LeaseOutcome::Running);
    change(&mut receipt);
    market.next(market.ledger.machine(lease.machine).unwrap().key, Action::Receipt(receipt))
}

/// A block `ms` after the last one: all machines are heard of, and these ranks send receipts, changed as wished.
fn step(market: &mut Market, ms: u64, job: JobId, ranks: &[usize], change: impl Fn(usize, &mut Receipt)) -> Applied {
    let mut block = beats(market);
    let beats = block.len();
    block.extend(ranks.iter().map(|rank| say(market, market.lease(job, *rank), |receipt| change(*rank, receipt))));
    let mut applied = market.apply(ms, block);
    let codes: Vec<u16> = applied.results.drain(..beats).map(|result| result.code).collect();
    assert!(codes.iter().all(|code| *code == 0), "a heartbeat was refused");
    applied
}

/// Receipts without news.
fn train(market: &mut Market, ms: u64, job: JobId, ranks: &[usize]) -> Applied {
    let applied = step(market, ms, job, ranks, |_, _| {});
    assert!(applied.results.iter().all(|result| result.code == 0), "{:?}", applied.results);
    applied
}

fn fail(market: &mut Market, job: JobId, rank: usize, reason: FailureReason) {
    let applied = step(market, 1_000, job, &[rank], |_, receipt| receipt.outcome = LeaseOutcome::Failed(reason));
    assert_eq!(applied.results[0].code, 0);
}

/// These ranks have done all rounds.
fn finish(market: &mut Market, job: JobId, ranks: &[usize]) -> Vec<u16> {
    let applied = step(market, 1_000, job, ranks, |_, receipt| {
        (receipt.parameters, receipt.outcome) = (Hash::of(b"parameters"), LeaseOutcome::Finished(Hash::of(b"model")));
    });
    applied.results.iter().map(|result| result.code).collect()
}

/// Each of these ranks names another one as missing.
fn blame(market: &mut Market, job: JobId, words: &[(usize, usize)]) {
    let leases = market.ledger.job(job).unwrap().leases.clone();
    let ranks: Vec<usize> = words.iter().map(|(rank, _)| *rank).collect();
    let applied = step(market, 1_000, job, &ranks, |rank, receipt| {
        let (_, missing) = words.iter().find(|(by, _)| *by == rank).unwrap();
        receipt.missing = Some(leases[*missing]);
    });
    assert!(applied.results.iter().all(|result| result.code == 0), "{:?}", applied.results);
}

/// A machine says nothing until it is lost, while these ranks of the job work.
fn lose(market: &mut Market, number: u8, job: JobId, ranks: &[usize]) {
    for _ in 0..12 {
        let mut block: Vec<_> = (1..=10)
            .filter(|other| *other != number)
            .filter(|other| market.ledger.machine(machine(*other)).is_some_and(|m| m.offer.is_some() && !m.lost))
            .map(|other| market.heartbeat(other))
            .collect();
        block.extend(ranks.iter().map(|rank| say(market, market.lease(job, *rank), |_| {})));
        market.block(1_000, block);
        if market.machine_state(number) == MachineState::Panic {
            return;
        }
    }
    panic!("machine {number} was not lost");
}

fn withdraw(market: &mut Market, numbers: &[u8]) {
    for number in numbers {
        assert_eq!(market.send(person(1), Action::Withdraw { machine: machine(*number), mode: ChangeMode::AtOnce }), 0);
    }
}

/// Offers machines again, and lets them be heard of in one block.
fn bring_back(market: &mut Market, numbers: &[u8]) {
    numbers.iter().for_each(|number| market.offer(1, *number, offer(cores(1))));
    let block = beats(market);
    market.block(500, block);
}

fn members(market: &Market, job: JobId) -> Vec<u32> {
    market.ledger.job(job).unwrap().members.iter().map(|id| market.ledger.lease(*id).unwrap().rank).collect()
}

fn generation(market: &Market, job: JobId) -> u32 {
    market.ledger.job(job).unwrap().generation
}

fn lease_state(market: &Market, job: JobId, rank: usize) -> LeaseState {
    market.lease(job, rank).state
}

fn machine_of(market: &Market, job: JobId, rank: usize) -> MachineId {
    market.lease(job, rank).machine
}

/// A job with so many workers that all train.
fn running(market: &mut Market, min: u32, max: u32, budget: u64) -> JobId {
    let job = market.submit(9, &spec(min, max, budget));
    let ranks: Vec<usize> = (0..market.ledger.job(job).unwrap().leases.len()).collect();
    train(market, 1_000, job, &ranks);
    assert_eq!((market.state(job), members(market, job).len()), (JobState::Running, ranks.len()));
    job
}

#[test]
fn workers_get_ready_by_their_first_receipts_and_begin_to_train_at_the_end_of_the_block() {
    let mut market = market(3);
    let job = market.submit(9, &spec(3, 3, PLENTY));
    assert_eq!((market.reason(job), generation(&market, job)), (JobReason::Preparing, 0));
    train(&mut market, 1_000, job, &[1]);
    train(&mut market, 1_000, job, &[0]);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Matched, vec![]), "they wait for the third one");
    let applied = train(&mut market, 1_000, job, &[2]);
    assert_eq!((market.state(job), members(&market, job), generation(&market, job)), (JobState::Running, vec![0, 1, 2], 1));
    let leases = market.ledger.job(job).unwrap().leases.clone();
    let told = Event::Members { job, generation: 1, members: leases };
    assert!(applied.events.contains(&told), "{:?}", applied.events);
    assert!(applied.results[0].events < applied.events.len() as u32, "the block's end did it, not the receipt");
    assert_eq!(market.reason(job), JobReason::Training { workers: 3, preparing: 0 });
}

#[test]
fn the_first_ready_worker_waits_four_intervals_for_those_that_are_still_loading() {
    let mut market = market(3);
    let job = market.submit(9, &spec(3, 3, PLENTY));
    train(&mut market, 1_000, job, &[0]);
    train(&mut market, 9_000, job, &[0, 1]);
    for _ in 0..3 {
        train(&mut market, 10_000, job, &[0, 1]);
    }
    assert_eq!(market.state(job), JobState::Matched, "39 seconds");
    train(&mut market, 999, job, &[]);
    assert_eq!(market.state(job), JobState::Matched);
    train(&mut market, 1, job, &[]);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![0, 1]));
    assert_eq!(market.reason(job), JobReason::Training { workers: 2, preparing: 1 });
    train(&mut market, 1_000, job, &[2]);
    assert_eq!((members(&market, job), generation(&market, job)), (vec![0, 1, 2], 2), "later ones needn't wait");
}

#[test]
fn a_lost_machine_costs_its_job_one_worker_and_comes_back_as_a_new_rank() {
    let mut market = market(3);
    let job = running(&mut market, 2, 3, PLENTY);
    lose(&mut market, 2, job, &[0, 2]);
    assert_eq!((market.state(job), members(&market, job), generation(&market, job)), (JobState::Running, vec![0, 2], 2));
    assert_eq!(lease_state(&market, job, 1), LeaseState::Lost);
    assert_eq!((market.machine(2).leases_lost, market.machine(2).reliability), (1, 437));
    assert_eq!(market.ledger.job(job).unwrap().failures, 0, "losing contact is no failure");
    market.beat(500, &[1, 2, 3]);
    assert_eq!((market.lease(job, 3).machine, market.lease(job, 3).rank), (machine(2), 3));
    assert_eq!(market.reason(job), JobReason::Training { workers: 2, preparing: 1 });
    train(&mut market, 500, job, &[0, 2, 3]);
    assert_eq!((members(&market, job), generation(&market, job)), (vec![0, 2, 3], 3), "the newcomer is the last in order");
    assert_eq!(finish(&mut market, job, &[0, 2, 3]), [0, 0, 0]);
    assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
}

#[test]
fn a_job_goes_on_with_fewer_workers_than_it_needed_to_start() {
    let mut market = market(3);
    let job = running(&mut market, 3, 3, PLENTY);
    withdraw(&mut market, &[1, 2]);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![2]));
    assert_eq!([0, 1].map(|rank| lease_state(&market, job, rank)), [LeaseState::Ended; 2]);
    assert_eq!((market.machine(1).leases_lost, market.machine(1).reliability), (1, 437), "nobody was told before");
    assert_eq!(finish(&mut market, job, &[2]), [0]);
    assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
}

#[test]
fn members_that_come_and_go_in_one_block_are_one_new_generation() {
    let mut market = market(4);
    let job = market.submit(9, &spec(2, 4, PLENTY));
    train(&mut market, 1_000, job, &[0, 1]);
    for _ in 0..40 {
        train(&mut market, 1_000, job, &[0, 1]);
    }
    assert_eq!((members(&market, job), generation(&market, job)), (vec![0, 1], 1));
    let change = |rank, receipt: &mut Receipt| {
        if rank == 0 {
            receipt.outcome = LeaseOutcome::Failed(FailureReason::OwnerReturned);
        }
    };
    let applied = step(&mut market, 1_000, job, &[0, 2, 3], change);
    assert_eq!((members(&market, job), generation(&market, job)), (vec![1, 2, 3], 2));
    assert_eq!(applied.events.iter().filter(|event| matches!(event, Event::Members { .. })).count(), 1);
}

#[test]
fn a_job_that_lost_all_its_workers_recovers_when_as_many_machines_return_as_it_needs() {
    let mut market = market(3);
    let job = running(&mut market, 2, 3, PLENTY);
    let kept = Checkpoint { state: Hash::of(b"state"), rounds: 15 };
    step(&mut market, 1_000, job, &[0, 1, 2], |rank, receipt| receipt.checkpoint = (rank == 0).then_some(kept));
    let before = market.ledger.job(job).unwrap().clone();
    withdraw(&mut market, &[1, 2, 3]);
    assert_eq!((market.state(job), members(&market, job), generation(&market, job)), (JobState::Recovering, vec![], 4));
    assert_eq!(market.reason(job), JobReason::Recovering { preparing: 0 });
    let escrow = market.ledger.job(job).unwrap().escrow();
    bring_back(&mut market, &[3]);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 3, "one machine is less than it needs");
    bring_back(&mut market, &[1, 2]);
    assert_eq!((market.state(job), market.reason(job)), (JobState::Recovering, JobReason::Recovering { preparing: 3 }));
    let job_now = market.ledger.job(job).unwrap();
    assert_eq!((job_now.started, job_now.seed, job_now.checkpoint), (before.started, before.seed, Some(kept)));
    assert_eq!((market.ledger.began_with(job_now), job_now.leases.len(), job_now.escrow()), (3, 6, escrow));
    let applied = train(&mut market, 1_000, job, &[3, 4, 5]);
    assert_eq!((members(&market, job), generation(&market, job)), (vec![3, 4, 5], 5));
    assert!(applied.events.contains(&Event::Job { job, owner: account(9), state: JobState::Running }));
    assert_eq!(finish(&mut market, job, &[3, 4, 5]), [0, 0, 0]);
    assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
}

#[test]
fn a_job_that_lost_its_machines_before_it_trained_is_queued_again_and_keeps_its_seed() {
    let mut market = market(2);
    let job = market.submit(9, &spec(2, 2, PLENTY));
    let first = market.ledger.job(job).unwrap().clone();
    train(&mut market, 1_000, job, &[0]);
    withdraw(&mut market, &[1, 2]);
    assert_eq!((market.state(job), generation(&market, job)), (JobState::Queued, 0));
    assert_eq!(market.reason(job), JobReason::WaitsForMachines { free: 0, needed: 2 });
    bring_back(&mut market, &[1, 2]);
    let again = market.ledger.job(job).unwrap();
    assert_eq!((again.state, again.seed, market.ledger.began_with(again)), (JobState::Matched, first.seed, 2));
    assert!(again.started > first.started);
    train(&mut market, 1_000, job, &[2, 3]);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![2, 3]));
}

#[test]
fn a_job_survives_as_many_failures_as_its_spec_says() {
    let mut market = market(1);
    let job = running(&mut market, 1, 1, PLENTY);
    for failures in 1..=2 {
        let rank = market.ledger.job(job).unwrap().leases.len() - 1;
        fail(&mut market, job, rank, FailureReason::OutOfMemory);
        assert_eq!((market.state(job), market.ledger.job(job).unwrap().failures), (JobState::Recovering, failures));
        assert_eq!(market.machine_state(1), MachineState::InUse, "there is no other machine, so this one is tried again");
        train(&mut market, 1_000, job, &[rank + 1]);
        assert_eq!(market.state(job), JobState::Running);
    }
    fail(&mut market, job, 2, FailureReason::DataUnavailable);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Failed(FailureReason::DataUnavailable)));
    let (why, lease) = (PanicReason::Failed(FailureReason::DataUnavailable), Some(market.lease(job, 2).id));
    assert_eq!(market.reason(job), JobReason::Aborted { why, lease, machine: Some(machine(1)) });
    assert_eq!(market.machine(1).reliability, 500, "an honest failure is not punished");
}

#[test]
fn training_that_diverged_stops_at_once_and_a_worker_that_holds_other_parameters_leaves() {
    let mut market = market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    fail(&mut market, job, 1, FailureReason::Diverged);
    let reason = FailureReason::Diverged;
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Failed(reason)), "it would do so everywhere");
    assert_eq!([0, 1].map(|rank| lease_state(&market, job, rank)), [LeaseState::Ended, LeaseState::Failed(reason)]);

    let mut market = self::market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    fail(&mut market, job, 1, FailureReason::Disagreement);
    assert_eq!(market.state(job), JobState::Running, "the other goes on");
}

#[test]
fn preemptions_are_no_failures_however_many_there_are() {
    let mut market = market(1);
    let mut never = spec(1, 1, PLENTY);
    never.recovery.restarts = 0;
    let job = market.submit(9, &never);
    let reasons = [FailureReason::OwnerReturned, FailureReason::PeerLost, FailureReason::AgentRestarted];
    for (rank, reason) in reasons.into_iter().cycle().take(7).enumerate() {
        train(&mut market, 1_000, job, &[rank]);
        assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![rank as u32]));
        fail(&mut market, job, rank, reason);
        assert_eq!((market.state(job), market.ledger.job(job).unwrap().failures), (JobState::Recovering, 0));
        market.beat(500, &[1]);
    }
    train(&mut market, 1_000, job, &[7]);
    fail(&mut market, job, 7, FailureReason::OutOfMemory);
    assert_eq!(market.state(job), JobState::Panic(PanicReason::Failed(FailureReason::OutOfMemory)));
}

#[test]
fn a_worker_is_replaced_by_one_on_a_machine_that_did_not_fail_the_job() {
    let mut market = market(3);
    let job = running(&mut market, 2, 2, PLENTY);
    assert_eq!([0, 1].map(|rank| machine_of(&market, job, rank)), [machine(1), machine(2)]);
    fail(&mut market, job, 0, FailureReason::OutOfMemory);
    assert_eq!((machine_of(&market, job, 2), members(&market, job)), (machine(3), vec![1]), "in the same block");
    train(&mut market, 1_000, job, &[1, 2]);
    fail(&mut market, job, 2, FailureReason::OutOfMemory);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 3, "both free machines failed it");
    fail(&mut market, job, 1, FailureReason::PeerLost);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Recovering, vec![]));
    let leases = [3, 4].map(|rank| machine_of(&market, job, rank));
    assert_eq!(leases, [machine(1), machine(2)], "without any worker, and without others, it takes them all the same");

    // A worker that was preempted comes back to its machine.
    let mut market = self::market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    fail(&mut market, job, 1, FailureReason::PeerLost);
    assert_eq!(machine_of(&market, job, 2), machine(2));
}

#[test]
fn a_machine_whose_owner_came_back_gets_work_only_when_it_is_heard_of_again() {
    let mut market = market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    fail(&mut market, job, 1, FailureReason::OwnerReturned);
    market.beat(1_000, &[1]);
    assert_eq!((market.ledger.job(job).unwrap().leases.len(), market.machine_reason(2)), (2, MachineReason::NotHeardYet));
    assert_eq!(market.machine(2).reliability, 500);
    market.beat(1_000, &[1, 2]);
    assert_eq!(machine_of(&market, job, 2), machine(2));
}

#[test]
fn a_machine_on_which_workers_were_lost_three_times_is_not_taken_to_grow() {
    let mut market = market(2);
    let job = running(&mut market, 1, 2, PLENTY);
    for rank in [1, 2, 3] {
        assert_eq!(machine_of(&market, job, rank), machine(2));
        lose(&mut market, 2, job, &[0]);
        assert_eq!(lease_state(&market, job, rank), LeaseState::Lost);
        market.beat(500, &[1, 2]);
    }
    assert_eq!((market.ledger.job(job).unwrap().leases.len(), market.machine_state(2)), (4, MachineState::Idle));
    fail(&mut market, job, 0, FailureReason::PeerLost);
    assert_eq!(machine_of(&market, job, 4), machine(1), "where there is another one");
}

#[test]
fn a_member_that_most_others_miss_is_lost_and_one_word_alone_throws_nobody_out() {
    let mut market = market(3);
    let job = running(&mut market, 3, 3, PLENTY);
    blame(&mut market, job, &[(0, 2)]);
    assert_eq!(members(&market, job), [0, 1, 2], "one of three");
    train(&mut market, 1_000, job, &[0]);
    blame(&mut market, job, &[(1, 2)]);
    assert_eq!(members(&market, job), [0, 1, 2], "the first one took its word back");
    blame(&mut market, job, &[(0, 2)]);
    assert_eq!((members(&market, job), lease_state(&market, job, 2)), (vec![0, 1], LeaseState::Lost));
    assert_eq!((market.machine(3).leases_lost, market.machine(3).reliability), (1, 437));
    assert_eq!(machine_of(&market, job, 3), machine(3), "it is in contact, and gets another chance");
    train(&mut market, 1_000, job, &[0, 1, 3]);
    assert_eq!(members(&market, job), [0, 1, 3], "words about the one that is gone don't count for its successor");
}

#[test]
fn of_two_that_miss_each_other_the_second_goes_and_one_that_is_missed_by_a_single_other_stays() {
    let mut market = market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    blame(&mut market, job, &[(0, 1)]);
    assert_eq!(members(&market, job), [0, 1], "the contact timeout decides about a silent one");
    blame(&mut market, job, &[(1, 0)]);
    assert_eq!((members(&market, job), lease_state(&market, job, 1)), (vec![0], LeaseState::Lost));
}

#[test]
fn where_every_member_misses_another_one_the_most_missed_goes_and_the_last_of_several() {
    let mut market = market(4);
    let job = running(&mut market, 4, 4, PLENTY);
    // The network is cut in the middle.
    blame(&mut market, job, &[(0, 2), (1, 2), (2, 0), (3, 0)]);
    assert_eq!(members(&market, job), [0, 1, 3]);
    blame(&mut market, job, &[(0, 3), (1, 3)]);
    assert_eq!(members(&market, job), [0, 1]);
    // Nobody has more than one word against it.
    let mut market = self::market(3);
    let job = running(&mut market, 3, 3, PLENTY);
    blame(&mut market, job, &[(0, 1), (1, 2), (2, 0)]);
    assert_eq!(members(&market, job), [0, 1]);
}

#[test]
fn a_smaller_group_can_make_a_word_a_majority_and_newcomers_have_none() {
    let mut market = market(5);
    let job = running(&mut market, 4, 4, PLENTY);
    blame(&mut market, job, &[(0, 3), (1, 3)]);
    assert_eq!(members(&market, job), [0, 1, 2, 3], "two of four");
    fail(&mut market, job, 2, FailureReason::OwnerReturned);
    assert_eq!(members(&market, job), [0, 1], "two of three");

    let mut market = self::market(4);
    let job = running(&mut market, 3, 4, PLENTY);
    fail(&mut market, job, 3, FailureReason::PeerLost);
    blame(&mut market, job, &[(0, 2), (4, 2)]);
    assert_eq!(members(&market, job), [0, 1, 2, 4], "one that was no member when it said it");
    blame(&mut market, job, &[(1, 2)]);
    assert_eq!(members(&market, job), [0, 1, 2, 4], "two of four");
}

#[test]
fn a_job_is_finished_by_its_members_and_newcomers_end_with_it() {
    let mut market = market(3);
    let job = market.submit(9, &spec(2, 3, PLENTY));
    train(&mut market, 1_000, job, &[0, 1]);
    train(&mut market, 40_000, job, &[]);
    assert_eq!(members(&market, job), [0, 1]);
    assert_eq!(finish(&mut market, job, &[1]), [0]);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![0]));
    assert_eq!(lease_state(&market, job, 1), LeaseState::Finished);
    train(&mut market, 1_000, job, &[2]);
    assert_eq!(members(&market, job), [0], "nobody begins to train once one has done all rounds");
    assert_eq!(finish(&mut market, job, &[2]), [2080], "it is no member");
    assert_eq!(finish(&mut market, job, &[0]), [0]);
    assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
    assert_eq!(lease_state(&market, job, 2), LeaseState::Ended);
    let merits = [1, 2, 3].map(|number| market.machine(number).reliability);
    assert_eq!(merits, [562, 562, 500], "a newcomer's end counts neither way");
}

#[test]
fn a_job_is_finished_when_the_last_one_that_had_rounds_to_do_is_lost() {
    for failed in [false, true] {
        let mut market = market(3);
        let job = running(&mut market, 2, 2, PLENTY);
        assert_eq!(finish(&mut market, job, &[0]), [0]);
        assert_eq!(market.ledger.job(job).unwrap().leases.len(), 2, "nobody is taken in its place");
        match failed {
            true => fail(&mut market, job, 1, FailureReason::OutOfMemory),
            false => withdraw(&mut market, &[2]),
        }
        assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
        let closed = market.ledger.job(job).unwrap();
        assert_eq!((closed.failures, closed.blamed, closed.escrow()), (u32::from(failed), None, Credits::ZERO));
    }
}

#[test]
fn a_job_grows_to_its_maximum_on_machines_that_do_not_serve_it_yet() {
    let mut market = market(1);
    let job = running(&mut market, 1, 3, PLENTY);
    market.lend(1, 2, cores(2), 500);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 1, "nobody heard of the machine yet");
    market.beat(500, &[1, 2]);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 2, "its second core is no second machine");
    market.lend(1, 3, cores(1), 500);
    market.lend(1, 4, cores(1), 500);
    market.beat(500, &[1, 2, 3, 4]);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 3);
    train(&mut market, 1_000, job, &[0, 1, 2]);
    assert_eq!(members(&market, job), [0, 1, 2]);
    assert_eq!(market.ledger.began_with(market.ledger.job(job).unwrap()), 1, "its schedule stays");

    // One that may share machines takes both cores.
    let mut market = self::market(1);
    let mut shared = spec(1, 3, PLENTY);
    shared.workers.share_machine = true;
    let job = market.submit(9, &shared);
    market.lend(1, 2, cores(2), 500);
    market.beat(500, &[1, 2]);
    assert_eq!([1, 2].map(|rank| machine_of(&market, job, rank)), [machine(2); 2]);
}

#[test]
fn a_job_grows_only_as_far_as_its_escrow_pays_one_more_interval_of_all() {
    for (budget, workers) in [(3 * 12_100 + SECOND, 3), (3 * 12_100 + SECOND - 1, 2)] {
        let mut market = market(2);
        // One second of both is paid before the third machine comes.
        let job = running(&mut market, 2, 3, budget + SECOND);
        market.lend(1, 3, cores(1), 500);
        market.beat(500, &[1, 2, 3]);
        assert_eq!(market.ledger.job(job).unwrap().active.len(), workers, "{budget}");
    }
}

#[test]
fn jobs_that_wait_come_before_jobs_that_could_grow() {
    let mut market = market(1);
    let growing = running(&mut market, 1, 2, 1_000_000);
    let waiting = market.submit(9, &spec(1, 1, 1_000_000));
    assert_eq!(market.state(waiting), JobState::Queued);
    market.lend(1, 2, cores(1), 500);
    market.beat(500, &[1, 2]);
    assert_eq!((market.state(waiting), market.ledger.job(growing).unwrap().leases.len()), (JobState::Matched, 1));
    market.send(person(9), Action::Cancel { job: waiting });
    assert_eq!(machine_of(&market, growing, 1), machine(2));
}

#[test]
fn workers_begin_only_in_the_slots_that_their_job_names() {
    let mut market = market(2);
    let mut night = spec(1, 2, PLENTY);
    night.budget.slots = vec![0];
    let job = market.submit(9, &night);
    train(&mut market, 1_000, job, &[0, 1]);
    market.beat_until(TimeMs(START + MINUTE - 1_000), &[1, 2]);
    fail(&mut market, job, 1, FailureReason::OwnerReturned);
    assert_eq!((market.state(job), members(&market, job)), (JobState::Running, vec![0]), "it goes on in the next slot");
    assert_eq!(market.machine_state(2), MachineState::Idle, "and nobody joins it there");
    fail(&mut market, job, 0, FailureReason::OwnerReturned);
    assert_eq!(market.ledger.job(job).unwrap().active.len(), 0);
    assert_eq!(market.reason(job), JobReason::WaitsForSlot { starts: TimeMs(START + 4 * MINUTE) });
    market.beat_until(TimeMs(START + 4 * MINUTE), &[1, 2]);
    assert_eq!(market.reason(job), JobReason::Recovering { preparing: 2 });
}

#[test]
fn a_job_keeps_the_state_with_the_most_rounds_that_its_first_member_names() {
    let mut market = market(3);
    let job = market.submit(9, &spec(3, 3, PLENTY));
    let kept = |market: &Market| market.ledger.job(job).unwrap().checkpoint.map(|kept| kept.rounds);
    let named = |rounds: [u64; 3]| {
        move |rank: usize, receipt: &mut Receipt| {
            let state = Hash::of(&[rank as u8]);
            receipt.checkpoint = Some(Checkpoint { state, rounds: rounds[rank] }).filter(|named| named.rounds > 0);
        }
    };
    step(&mut market, 1_000, job, &[0, 1, 2], named([5, 5, 5]));
    assert_eq!(kept(&market), None, "they were no members yet");
    step(&mut market, 1_000, job, &[0, 1, 2], named([0, 7, 8]));
    assert_eq!(kept(&market), None);
    step(&mut market, 1_000, job, &[0, 1, 2], named([6, 9, 9]));
    assert_eq!(kept(&market), Some(6));
    step(&mut market, 1_000, job, &[0], named([6, 0, 0]));
    step(&mut market, 1_000, job, &[0], named([4, 0, 0]));
    assert_eq!(kept(&market), Some(6));
    fail(&mut market, job, 0, FailureReason::OwnerReturned);
    step(&mut market, 1_000, job, &[1, 2], named([0, 12, 13]));
    let now = market.ledger.job(job).unwrap().checkpoint;
    assert_eq!(now, Some(Checkpoint { state: Hash::of(&[1]), rounds: 12 }), "the second member is the first now");
    withdraw(&mut market, &[1, 2, 3]);
    assert_eq!((market.state(job), kept(&market)), (JobState::Recovering, Some(12)));
}

#[test]
fn each_second_of_each_worker_is_paid_once_through_all_of_that() {
    let mut market = market(3);
    let budget = 1_000_000;
    let job = running(&mut market, 2, 3, budget);
    // Seconds of each rank's receipts, by hand: one of all three.
    let mut seconds = vec![1, 1, 1];
    let paid = |market: &Market| -> Vec<u64> { market.ledger.job_leases(job).map(|lease| lease.paid.micro()).collect() };
    let expect = |market: &Market, seconds: &[u64]| {
        assert_eq!(paid(market), seconds.iter().map(|seconds| seconds * SECOND).collect::<Vec<_>>());
        let total = seconds.iter().sum::<u64>() * SECOND;
        assert_eq!(market.purses(1).1, total);
        let job = market.ledger.job(job).unwrap();
        let rest = if job.state.is_closed() { job.refunded } else { job.escrow() };
        assert_eq!((job.paid.micro(), rest.micro()), (total, budget - total));
    };
    train(&mut market, 4_000, job, &[0, 1, 2]);
    (seconds[0], seconds[1], seconds[2]) = (5, 5, 5);
    expect(&market, &seconds);

    // Machine 2 dies, and its rank is paid no more. The tenth block after its last heartbeat is within the timeout, the next not.
    lose(&mut market, 2, job, &[0, 2]);
    assert_eq!(lease_state(&market, job, 1), LeaseState::Lost);
    (seconds[0], seconds[2]) = (16, 16);
    expect(&market, &seconds);

    // It comes back half a second later as rank 3, whose first receipt pays the time in which it got ready.
    market.beat(500, &[1, 2, 3]);
    train(&mut market, 2_000, job, &[3]);
    seconds.push(2);
    expect(&market, &seconds);
    train(&mut market, 500, job, &[0, 2]);
    (seconds[0], seconds[2]) = (19, 19);
    expect(&market, &seconds);

    // Rank 0 fails: paid up to then. Machine 1 failed the job, so nobody takes its place.
    fail(&mut market, job, 0, FailureReason::OutOfMemory);
    seconds[0] += 1;
    // All machines leave: nothing is paid while there is nobody, nor for the time that no receipt covered.
    withdraw(&mut market, &[1, 2, 3]);
    assert_eq!(market.state(job), JobState::Recovering);
    market.block(60_000, vec![]);
    expect(&market, &seconds);
    bring_back(&mut market, &[2, 3]);
    assert_eq!(market.ledger.job(job).unwrap().leases.len(), 6, "ranks 4 and 5");
    // They began with the second machine's offer, half a second before the block of heartbeats.
    train(&mut market, 2_500, job, &[4, 5]);
    seconds.extend([3, 3]);
    expect(&market, &seconds);
    assert_eq!(finish(&mut market, job, &[4]), [0]);
    assert_eq!(finish(&mut market, job, &[5]), [0]);
    (seconds[4], seconds[5]) = (4, 5);
    assert_eq!(market.state(job), JobState::Finished(Hash::of(b"model")));
    expect(&market, &seconds);
    assert_eq!(market.purses(9).0, 50_000_000 - seconds.iter().sum::<u64>() * SECOND);
}

#[test]
fn a_finished_worker_teaches_what_its_own_machine_did_in_its_time_as_a_member() {
    let mut market = market(2);
    let job = running(&mut market, 2, 2, PLENTY);
    train(&mut market, 9_000, job, &[0, 1]);
    let applied = step(&mut market, 1_000, job, &[0, 1], |rank, receipt| {
        receipt.samples = [3_000_000_000, 1_000_000_000][rank];
        (receipt.parameters, receipt.outcome) = (Hash::of(b"parameters"), LeaseOutcome::Finished(Hash::of(b"model")));
    });
    assert!(applied.results.iter().all(|result| result.code == 0));
    // Eight multiply-adds a sample, three passes, ten seconds since both joined.
    assert_eq!([1, 2].map(|number| market.machine(number).observed_speed), [7_200, 2_400]);
}
