//! Audits, told as stories: who checks whom, who is paid for it, and who loses what.

#[path = "support/cast.rs"]
mod cast;
mod support;

use cast::{Character::*, *};
use deepmarket_ledger::{Account, AuditParams, Ledger, Params, StateKey, Task};
use deepmarket_types::*;
use support::*;

/// What ten seconds of a worker cost, and the fee for them.
const PAY: u64 = 10 * SECOND;
const FEE: u64 = PAY / 5;
/// What an auditor is paid: 1.2 times a second.
const AUDIT: u64 = SECOND * 12 / 10;
/// What account 9 has left of its starting credits when it hired.
const LEFT: u64 = 20_000_000;

use AuditState::{Closed, Computing, Disclosing, Judging, Revealing, Tracing, Waiting};
use AuditVerdict::{False, Passed, Void};

fn with(change: impl FnOnce(&mut AuditParams)) -> Params {
    let mut params = audited();
    change(&mut params.audit);
    params
}

/// A worker, and an auditor that has the round before others are there who could take it.
fn first_auditor(worker: cast::Character, auditor: cast::Character) -> Cast {
    let mut cast = Cast::new(audited(), &[(1, 1, worker), (2, 2, auditor)]);
    cast.hire();
    cast.until("the first auditor has it", |cast| cast.market.ledger.audits().any(|audit| !audit.auditors.is_empty()));
    cast
}

#[test]
fn a_right_round_passes_its_auditor_is_paid_and_the_pay_vests_when_its_time_has_come() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (2, 2, Honest)]);
    let job = cast.hire();
    let received = cast.market.ledger.time();
    let lease = cast.market.lease(job, 0);
    assert_eq!((lease.paid.micro(), lease.held.micro(), cast.earned(1)), (PAY, PAY, 0));
    assert_eq!(cast.market.ledger.job(job).unwrap().fees.micro(), FEE);
    assert_eq!(cast.market.ledger.held_of(account(1)).micro(), PAY);

    assert_eq!(cast.finish(1), Passed);
    assert_eq!(cast.states(1), [Disclosing, Waiting, Computing, Revealing, Closed(Passed)]);
    assert_eq!((cast.auditors(1), cast.earned(2), cast.audit(1).auditors[0].paid.micro()), (vec![2], AUDIT, AUDIT));
    assert_eq!(cast.market.ledger.totals().treasury.micro(), FEE - AUDIT);
    assert_eq!((cast.account(1).audits_passed, cast.account(1).windows, cast.account(1).strikes), (1, 1, 0));
    assert_eq!(cast.earned(1), 0, "not before its time");

    cast.until("forty seconds passed", |cast| cast.market.ledger.time().since(received) >= 39_000);
    assert_eq!(cast.earned(1), 0);
    let applied = cast.play(1_000);
    let vested = Posting::Payout { job, lease: cast.market.lease(job, 0).id, machine: machine(1), sequence: 1 };
    let posted = |event: &Event| matches!(event, Event::Posted { cause, purse: Purse::Earned, .. } if *cause == vested);
    assert!(applied.events.iter().any(posted));
    assert_eq!((cast.earned(1), cast.market.machine(1).earned.micro()), (PAY, PAY));
    assert_eq!((cast.market.ledger.windows().count(), cast.market.lease(job, 0).held), (0, Credits::ZERO));
    assert!(cast.refused.is_empty(), "{:?}", cast.refused);
}

#[test]
fn a_worker_that_says_nothing_gives_what_is_held_of_its_lease_back_to_the_borrower() {
    let mut cast = Cast::new(audited(), &[(1, 1, Silent), (2, 2, Honest)]);
    let job = cast.hire();
    assert_eq!(cast.market.purses(9), (LEFT, 0));
    assert_eq!(cast.finish(1), AuditVerdict::Silent);
    assert_eq!(cast.market.purses(9), (LEFT + PAY, 0), "starting credits stay what they are");
    let lease = cast.market.lease(job, 0);
    assert_eq!((lease.held, lease.forfeited.micro(), lease.is_active()), (Credits::ZERO, PAY, true));
    assert_eq!((cast.account(1).strikes, cast.account(1).reliability, cast.market.machine(1).reliability), (0, 437, 437));
}

#[test]
fn a_false_round_is_found_by_three_auditors_and_one_step_and_what_was_held_is_lost_to_the_microcredit() {
    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(2)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    let job = cast.market.submit(9, &spec(1, 1, 30_000_000));
    // 9,997 of 10,000 ms, each product rounded down: 9,997 for the core, 1,999 for memory, 99 for disk.
    cast.train(9_997);
    assert_eq!(cast.market.lease(job, 0).held.micro(), 12_095);

    assert_eq!(cast.finish(1), False);
    let path = [Disclosing, Waiting, Computing, Waiting, Computing, Revealing, Tracing, Judging, Closed(False)];
    assert_eq!((cast.states(1), cast.audit(1).disputed_step), (path.to_vec(), Some(2)));
    let lease = cast.market.lease(job, 0).clone();
    assert_eq!((lease.held, lease.forfeited.micro()), (Credits::ZERO, 12_095));
    assert_eq!(lease.state, LeaseState::Failed(FailureReason::Disagreement));
    // A quarter of 12,095 is 3,023; two of them leave 6,049.
    assert_eq!(cast.market.purses(9), (LEFT, 3_023));
    assert_eq!(cast.market.ledger.totals().burned.micro(), 6_049);
    // The fee of 2,419 pays one auditor and a part of the second.
    let paid: Vec<u64> = cast.audit(1).auditors.iter().map(|auditor| auditor.paid.micro()).collect();
    assert_eq!(paid, [AUDIT, 2_419 - AUDIT, 0]);
    let finder = cast.auditors(1)[0];
    assert_eq!(cast.earned(finder), 3_023 + AUDIT);
    assert_eq!((cast.account(1).strikes, cast.account(1).reliability, cast.earned(1)), (1, 250, 0));
    assert!(cast.audit(1).auditors.iter().all(|auditor| !auditor.is_false));

    // The job goes on elsewhere.
    let next = cast.market.lease(job, 1);
    assert!(next.is_active() && next.machine != machine(1));
    assert_eq!(cast.market.ledger.job(job).unwrap().failures, 0, "it is not the job's failure");
}

#[test]
fn an_auditor_that_lies_alone_is_outvoted_and_loses_what_is_held_of_its_own_work() {
    let mut cast = first_auditor(Honest, Lies);
    cast.add(3, 3, Honest, "1");
    cast.add(4, 4, Honest, "1");
    assert_eq!(cast.finish(1), Passed);
    assert_eq!(cast.states(1).iter().filter(|state| **state == Tracing).count(), 0);
    let auditors = &cast.audit(1).auditors;
    assert_eq!(auditors.iter().map(|auditor| auditor.is_false).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((cast.account(2).strikes, cast.account(2).reliability, cast.earned(2)), (1, 250, 0));
    assert_eq!((cast.account(1).strikes, cast.account(1).audits_passed), (0, 1));
}

#[test]
fn two_auditors_that_lie_together_are_judged_by_validators_and_the_worker_keeps_its_pay() {
    let mut cast = first_auditor(Honest, Lies);
    cast.add(3, 3, Lies, "1");
    cast.add(4, 4, Honest, "1");
    assert_eq!(cast.finish(1), Passed);
    assert_eq!(cast.states(1)[6..], [Tracing, Judging, Closed(Passed)]);
    assert_eq!([1, 2, 3, 4].map(|number| cast.account(number).strikes), [0, 1, 1, 0]);
    assert_eq!(cast.earned(4), AUDIT);
}

#[test]
fn who_is_right_about_an_earlier_step_than_the_false_one_has_not_passed() {
    // The liars lie about the second step, the worker about the fourth.
    let mut cast = first_auditor(Fakes(3), Lies);
    cast.add(3, 3, Lies, "1");
    cast.add(4, 4, Honest, "1");
    cast.until("the liars are refuted", |cast| cast.account(3).strikes > 0);
    assert!(!cast.audit(1).is_closed());
    for number in [5, 6] {
        cast.add(number, number, Honest, "1");
    }
    assert_eq!((cast.finish(1), cast.audit(1).disputed_step), (False, Some(3)));
    assert_eq!([1, 2, 3, 4, 5, 6].map(|number| cast.account(number).strikes), [1, 1, 1, 0, 0, 0]);
}

#[test]
fn liars_that_show_no_steps_ruin_nobody() {
    let mut cast = first_auditor(Honest, LiesAndHides);
    cast.add(3, 3, LiesAndHides, "1");
    cast.add(4, 4, Honest, "1");
    assert_eq!(cast.finish(1), Void);
    assert_eq!([1, 2, 3, 4].map(|number| cast.account(number).strikes), [0; 4]);
    // Both were asked, one after the other.
    assert_eq!([2, 3].map(|number| cast.market.machine(number).reliability), [437; 2]);
    cast.until("the pay vests", |cast| cast.earned(1) == PAY);
}

#[test]
fn a_worker_that_shows_no_steps_in_a_dispute_is_wrong() {
    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(0)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.hire();
    cast.until("they disagree", |cast| cast.market.ledger.audits().any(|audit| audit.state == Tracing));
    cast.characters.insert(machine(1), cast::Character::Silent);
    assert_eq!(cast.finish(1), False);
    assert_eq!((cast.account(1).strikes, cast.audit(1).disputed_step), (1, None));
}

#[test]
fn without_a_quorum_of_validators_the_majority_of_auditors_stands() {
    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(0)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.judges = false;
    cast.hire();
    assert_eq!(cast.finish(1), False);
    assert!(cast.audit(1).judgements.is_empty());
}

#[test]
fn where_validators_find_a_third_result_or_cannot_compute_nobody_is_punished() {
    for step in [Some(Hash::of(b"something else")), None] {
        let mut cast = Cast::new(audited(), &[(1, 1, Fakes(0)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
        cast.judges = false;
        cast.hire();
        cast.until("it is judged", |cast| cast.market.ledger.judging().next().is_some());
        let validators = cast.market.ledger.validators()[..3].to_vec();
        let judge = Action::Judge { audit: AuditId(1), step };
        let words: Vec<_> = validators.iter().map(|key| cast.market.next(*key, judge.clone())).collect();
        let applied = cast.block(1_000, words);
        assert!(applied.results.iter().all(|result| result.code == 0));
        assert_eq!((cast.verdict(1), cast.account(1).strikes), (Some(Void), 0));
    }
}

#[test]
fn a_yes_sayer_is_caught_when_it_has_to_show_what_it_never_computed() {
    let mut cast = first_auditor(Honest, SaysYes);
    cast.until("it has shown", |cast| cast.audit(1).auditors[0].outcome.is_some());
    assert_eq!((cast.audit(1).auditors[0].is_false, cast.account(2).strikes, cast.audit(1).state), (true, 1, Waiting));
    cast.add(3, 3, Honest, "1");
    assert_eq!(cast.finish(1), Passed);
    assert_eq!((cast.auditors(1), cast.earned(2), cast.earned(3)), (vec![2, 3], 0, AUDIT));
}

#[test]
fn a_yes_sayer_does_not_cover_a_faker() {
    let mut cast = first_auditor(Fakes(2), SaysYes);
    for number in [3, 4, 5] {
        cast.add(number, number, Honest, "1");
    }
    assert_eq!(cast.finish(1), False);
    assert_eq!([1, 2].map(|number| cast.account(number).strikes), [1, 1]);
}

#[test]
fn a_canary_is_given_to_a_second_auditor_before_the_first_one_shows_its_answer() {
    let params = with(|audit| audit.canary_permille = 1_000);
    let mut cast = Cast::new(params, &[(1, 1, Honest), (2, 2, Honest), (3, 3, Honest)]);
    cast.hire();
    cast.until("a canary was drawn", |cast| cast.market.ledger.audits().any(|audit| audit.wanted == 2));
    assert!(cast.audit(1).auditors[0].outcome.is_none());
    assert_eq!(cast.finish(1), Passed);
    assert_eq!(cast.states(1), [Disclosing, Waiting, Computing, Waiting, Computing, Revealing, Closed(Passed)]);
    assert_eq!(cast.audit(1).auditors.len(), 2);
    assert_eq!(cast.earned(2) + cast.earned(3), FEE, "two audits cost more than the fee has");

    // None is drawn: nobody waits for a second one.
    let params = with(|audit| audit.canary_permille = 1);
    let mut cast = Cast::new(params, &[(1, 1, Honest), (2, 2, Honest), (3, 3, Honest)]);
    cast.hire();
    assert_eq!((cast.finish(1), cast.audit(1).auditors.len()), (Passed, 1));
}

#[test]
fn inputs_that_two_auditors_cannot_use_are_as_bad_as_a_false_round() {
    let mut cast = first_auditor(Honest, FindsUnusable);
    cast.add(3, 3, FindsUnusable, "1");
    assert_eq!(cast.finish(1), False);
    assert_eq!((cast.account(1).strikes, cast.audit(1).worker_trace.is_none()), (1, true));

    // One who can't, where two others can, is not believed, and not paid. Gateways may have failed it: it isn't punished.
    let mut cast = first_auditor(Honest, FindsUnusable);
    cast.add(3, 3, Honest, "1");
    cast.add(4, 4, Honest, "1");
    assert_eq!(cast.finish(1), Passed);
    assert_eq!((cast.account(2).strikes, cast.earned(2)), (0, 0));
}

#[test]
fn an_auditor_that_cannot_is_late_is_gone_or_shows_nothing_is_replaced() {
    let replaced = |character| {
        let mut cast = first_auditor(Honest, character);
        cast.add(3, 3, Honest, "1");
        assert_eq!(cast.finish(1), Passed);
        assert_eq!((cast.auditors(1), cast.audit(1).auditors[0].is_excused), (vec![2, 3], true));
        assert_eq!((cast.earned(2), cast.earned(3), cast.account(2).strikes), (0, AUDIT, 0));
        assert_eq!(cast.market.machine(2).auditing, None);
        cast.market.machine(2).reliability
    };
    assert_eq!([IsUnable, cast::Character::Silent, NeverShows].map(replaced), [500, 437, 437]);

    // One that is withdrawn while it computes, at once.
    let mut cast = first_auditor(Honest, cast::Character::Silent);
    assert!(cast.market.machine(2).auditing.is_some());
    cast.add(3, 3, Honest, "1");
    let withdraw = cast.market.next(person(2), Action::Withdraw { machine: machine(2), mode: ChangeMode::AfterLease });
    cast.block(1_000, vec![withdraw]);
    assert_eq!((cast.auditors(1), cast.market.machine(2).auditing), (vec![2, 3], None));
    assert_eq!(cast.market.machine(2).reliability, 500);
    assert_eq!(cast.finish(1), Passed);
}

#[test]
fn an_auditor_is_never_of_the_worker_or_of_the_borrower_and_without_one_the_audit_is_void_in_the_end() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (1, 2, Honest), (9, 3, Honest)]);
    cast.hire();
    let received = cast.market.ledger.time();
    cast.until("its time has come", |cast| cast.market.ledger.time().since(received) >= 50_000);
    assert_eq!((cast.audit(1).state, cast.auditors(1).len(), cast.earned(1)), (Waiting, 0, 0), "an open audit holds the pay");
    assert_eq!(cast.finish(1), Void);
    assert_eq!((cast.earned(1), cast.account(1).audits_passed), (PAY, 0), "and nothing else does");
}

#[test]
fn one_of_another_class_is_asked_only_where_nobody_has_the_workers_class_and_then_two_are() {
    let class = |number| if number == 1 || number == 4 { "a" } else { "b" };
    let machines = [(1, 1, Honest), (2, 2, Honest), (3, 3, Honest)];
    let mut cast = Cast::of_classes(audited(), &machines, class);
    cast.hire();
    assert_eq!(cast.finish(1), Passed);
    let audit = cast.audit(1);
    assert_eq!((audit.auditors.len(), audit.wanted), (2, 2));
    assert!(audit.auditors.iter().all(|auditor| !auditor.same_class));

    // A machine of the class is offered, and out of its hours: it is waited for.
    let mut cast = Cast::of_classes(audited(), &machines, class);
    cast.add(4, 4, Honest, "a");
    let busy = Offer { availability: hours(0, 1), ..offer(cores(1)) };
    cast.market.offer(4, 4, busy);
    cast.hire();
    cast.until("it waits", |cast| cast.market.ledger.audits().any(|audit| audit.state == Waiting));
    (0..5).for_each(|_| drop(cast.play(1_000)));
    assert_eq!(cast.audit(1).state, Waiting);
    cast.market.offer(4, 4, offer(cores(1)));
    assert_eq!((cast.finish(1), cast.auditors(1)), (Passed, vec![4]));
}

#[test]
fn a_machine_keeps_room_for_what_it_audits() {
    let cast = first_auditor(Honest, cast::Character::Silent);
    let busy = cast.market.machine(2);
    assert_eq!((busy.free().cores, busy.used.cores, busy.auditing.map(|(id, _)| id)), (0, 0, Some(AuditId(1))));
}

#[test]
fn false_work_is_forgiven_so_often_and_then_the_account_may_lend_no_more() {
    let params = with(|audit| audit.strikes = 1);
    let mut cast = Cast::new(params, &[(1, 1, Fakes(0)), (1, 5, Honest), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.hire();
    assert_eq!(cast.finish(1), False);
    for number in [1, 5] {
        assert!(cast.market.machine(number).barred);
        assert_eq!(cast.market.machine_reason(number), MachineReason::Barred);
    }
    let lend = Action::Lend { machine: machine(1), offer: offer(cores(1)), mode: ChangeMode::AfterLease };
    assert_eq!(cast.market.send(person(1), lend), 2110);
    let invite = |offer, number| Action::Invite { code: code(number), offer, expires: cast.market.ledger.time().plus(MINUTE) };
    let (with_offer, without) = (invite(Some(offer(cores(1))), 1), invite(None, 2));
    assert_eq!(cast.market.send(person(1), with_offer), 2110);
    assert_eq!(cast.market.send(person(1), without), 0);
    assert_eq!(cast.market.send(person(1), register(6, config(6, cores(1), 1))), 0);
    assert!(cast.market.machine(6).barred, "nor with a new machine");
    let job = cast.market.submit(9, &spec(4, 4, 1_000_000));
    cast.wait(1_000);
    assert!(matches!(cast.market.reason(job), JobReason::WaitsForMachines { needed: 4, .. }));
    let withdraw = Action::Withdraw { machine: machine(1), mode: ChangeMode::AtOnce };
    assert_eq!(cast.market.send(person(1), withdraw), 0);
}

#[test]
fn the_fee_is_on_top_of_the_pay_and_a_borrower_who_turns_the_dial_pays_what_more_audits_cost() {
    let params = with(|audit| (audit.floor_permille, audit.vest_ms, audit.fee_permille) = (100, 90_000, 20));
    let mut cast = Cast::new(params, &[(1, 1, Honest)]);
    let ledger = &cast.market.ledger;
    let quote = |spec: &deepmarket_job::JobSpec| {
        let quote = ledger.quote(spec, &spec.check().unwrap(), 1_000_000_000, 0);
        (quote.audit_permille, quote.fee_permille, quote.slots[0].cost_per_hour.micro())
    };
    let hour = 3_600 * SECOND;
    let mut asked = spec(1, 1, 1_000_000);
    assert_eq!(quote(&asked), (100, 20, hour + hour * 20 / 1_000));
    // (500 - 100) ‰ · 1.2 · 1 s of 10 s: 48 ‰.
    asked.budget.audit_percent = 50;
    assert_eq!(quote(&asked), (500, 68, hour + hour * 68 / 1_000));
    asked.budget.audit_percent = 100;
    assert_eq!(quote(&asked), (1_000, 128, hour + hour * 128 / 1_000));
    asked.budget.audit_percent = 3;
    assert_eq!(quote(&asked), (100, 20, hour + hour * 20 / 1_000), "never fewer than the market's");
    let size = asked.check().unwrap();
    asked.kind = deepmarket_job::Kind::Evaluate;
    assert_eq!((ledger.audit_permille(&asked, &size), ledger.fee_permille(0)), (0, 0));
    asked.kind = deepmarket_job::Kind::Train;
    let huge = deepmarket_job::Size { parameters: 50_000_000, ..size };
    assert_eq!(ledger.audit_permille(&asked, &huge), 0);

    // The budget pays for one interval with its fee, to the microcredit, and for no second one.
    let one = 10 * SECOND + 10 * SECOND * 20 / 1_000;
    assert_eq!(cast.market.send(person(9), Action::Borrow { spec: spec(1, 1, one - 1).to_bytes() }), 2053);
    let job = cast.market.submit(9, &spec(1, 1, one));
    cast.train(10_000);
    let job = cast.market.ledger.job(job).unwrap();
    assert_eq!((job.state, job.paid.micro(), job.fees.micro()), (JobState::Panic(PanicReason::Budget), PAY, PAY * 20 / 1_000));
    assert_eq!(cast.market.ledger.totals().treasury, job.fees);
}

#[test]
fn what_is_left_of_an_escrow_is_paid_with_its_fee() {
    let mut cast = Cast::new(with(|audit| audit.fee_permille = 333), &[(1, 1, Honest)]);
    let one = PAY + PAY * 333 / 1_000;
    let job = cast.market.submit(9, &spec(1, 1, one + 1_000));
    cast.train(9_000);
    // What is left pays less than one interval more: the job stopped.
    let job = cast.market.ledger.job(job).unwrap();
    assert_eq!(job.paid.micro(), 9 * SECOND);
    assert_eq!(job.refunded.micro(), one + 1_000 - 9 * SECOND - 9 * SECOND * 333 / 1_000);
}

#[test]
fn members_that_hold_other_parameters_after_the_same_rounds_and_double_receipts_are_suspect() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (2, 2, Honest), (3, 3, Honest)]);
    let job = cast.market.submit(9, &spec(2, 2, 30_000_000));
    cast.train(10_000);
    cast.train(1_000);
    let leases = [0, 1].map(|rank| cast.market.lease(job, rank).clone());
    assert!(leases.iter().all(|lease| lease.suspect_from.is_none() && lease.took_part()));

    let mut words: Vec<_> = leases.iter().map(|lease| cast.receipt(lease.id)).collect();
    let Action::Receipt(mut other) = words[1].body().action.clone() else { panic!("it is a receipt") };
    other.parameters = Hash::of(b"others");
    words[1] = cast.market.next(words[1].body().signer, Action::Receipt(other));
    assert!(cast.block(1_000, words).results.iter().all(|result| result.code == 0));
    let suspects = |cast: &Cast| [0, 1].map(|rank| cast.market.lease(job, rank).suspect_from.is_some());
    assert_eq!(suspects(&cast), [true; 2]);
    // Their next windows are audited, and that is that.
    (0..4).for_each(|_| cast.wait(100));
    assert_eq!(suspects(&cast), [false; 2]);

    other.loss_micro += 1;
    let twice = cast.market.next(cast.market.machine(2).key, Action::Receipt(other));
    assert_eq!(cast.market.ledger.precheck(&twice), Ok(()), "the chain has to see it");
    assert_eq!(cast.block(100, vec![twice.clone()]).results[0].code, 2074);
    assert_eq!(suspects(&cast), [false, true]);
    assert_eq!(cast.market.ledger.precheck(&twice).unwrap_err().code(), 2074, "once");
}

#[test]
fn a_job_of_the_lenders_own_account_gets_its_starting_credits_back_as_what_they_were() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (2, 2, Honest)]);
    cast.market.submit(1, &spec(1, 1, 30_000_000));
    cast.train(10_000);
    assert_eq!(cast.market.purses(1), (20_000_000, 0));
    cast.until("it vests", |cast| cast.market.ledger.windows().count() == 0);
    assert_eq!(cast.market.purses(1), (20_000_000 + PAY, 0));

    // Nor does lying about one's own work turn any into others.
    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(0)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.market.submit(1, &spec(1, 1, 30_000_000));
    cast.train(10_000);
    assert_eq!(cast.finish(1), False);
    assert_eq!(cast.market.purses(1), (20_000_000, 0));
    assert_eq!(cast.market.ledger.totals().burned.micro(), PAY - PAY / 4);
}

#[test]
fn pay_vests_in_the_order_of_receipts_and_not_while_an_audit_of_the_machine_is_open() {
    let params = with(|audit| (audit.answer_ms, audit.wait_ms) = (100_000, 100_000));
    let mut cast = Cast::new(params, &[(1, 1, Honest), (2, 2, Honest)]);
    let job = cast.hire();
    (0..3).for_each(|_| drop(cast.train(5_000)));
    // From here on the machine's agent is stuck: one audit stays open.
    cast.characters.insert(machine(1), cast::Character::Silent);
    cast.train(5_000);
    (0..60).for_each(|_| drop(cast.play(1_000)));
    assert!(cast.market.ledger.open_audits().next().is_some());
    assert_eq!((cast.earned(1), cast.market.ledger.lease_windows(cast.market.lease(job, 0).id).count()), (0, 5));
    cast.characters.insert(machine(1), Honest);
    cast.until("all vests", |cast| cast.market.ledger.windows().count() == 0);
    let sequences = cast.events.iter().filter_map(|event| match event {
        Event::Posted { cause: Posting::Payout { sequence, .. }, .. } => Some(*sequence),
        _ => None,
    });
    assert_eq!(sequences.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(cast.earned(1), PAY + 4 * 5 * SECOND);
}

#[test]
fn what_no_commitment_covers_is_not_audited_and_counts_no_samples() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (2, 2, Honest)]);
    let job = cast.market.submit(9, &spec(1, 1, 30_000_000));
    let lease = cast.market.lease(job, 0).clone();
    let loading = Receipt { samples: 0, rounds: 0, ..receipt(&lease, 1, LeaseOutcome::Running) };
    let words = vec![cast.market.next(machine_key(1), Action::Receipt(loading))];
    assert_eq!(cast.block(10_000, words).results[0].code, 0);
    (0..6).for_each(|_| drop(cast.play(1_000)));
    assert_eq!((cast.market.ledger.audits().count(), cast.account(1).windows), (0, 0));
    let claims = Receipt { samples: 1, ..receipt(&lease, 2, LeaseOutcome::Running) };
    assert_eq!(cast.market.send(machine_key(1), Action::Receipt(claims)), 2079);
    cast.until("it vests", |cast| cast.earned(1) == PAY);
}

#[test]
fn every_wrong_word_is_refused_with_its_own_code_and_changes_nothing() {
    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(1)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.hire();
    let says = |cast: &mut Cast, key: PublicKey, action: Action| {
        let word = cast.market.next(key, action);
        let early = cast.market.ledger.precheck(&word).map_or_else(|rejection| rejection.code(), |()| 0);
        let code = cast.block(10, vec![word]).results[0].code;
        assert_eq!(code, early, "mempools and blocks judge alike");
        code
    };
    let unknown = Action::Commit { audit: AuditId(99), finding: Finding::Unable };
    assert_eq!(says(&mut cast, machine_key(2), unknown), 2100);

    let is_open = |state: AuditState| move |cast: &Cast| cast.market.ledger.audits().any(|audit| audit.state == state);
    while !is_open(Disclosing)(&cast) {
        cast.wait(10);
    }
    let good = cast.workers[&cast.audit(1).lease].disclosure(cast.audit(1));
    let open = |change: fn(&mut Disclosure)| {
        let mut disclosure = good.clone();
        change(&mut disclosure);
        Action::Disclose(disclosure)
    };
    assert_eq!(says(&mut cast, machine_key(2), open(|_| {})), 2102);
    assert_eq!(says(&mut cast, machine_key(1), open(|d| d.commitment.samples += 1)), 2104);
    assert_eq!(says(&mut cast, machine_key(1), open(|d| d.salt = Hash::default())), 0, "what is hidden by it, auditors will see");
    let opened = says(&mut cast, machine_key(1), open(|_| {}));
    assert_eq!(opened, 2101);
    // The salt opens nothing: no honest auditor can agree, and the worker can't show what it committed to.
    assert_eq!(cast.finish(1), False);
    assert_eq!(cast.refused.iter().filter(|code| **code != 2106).count(), 0, "{:?}", cast.refused);

    let mut cast = Cast::new(audited(), &[(1, 1, Fakes(1)), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)]);
    cast.hire();
    cast.until("an auditor computes", is_open(Computing));
    let auditor = cast.auditors(1)[0];
    let other = if auditor == 2 { 3 } else { 2 };
    let blinded = Hash::of(b"hidden");
    let equal = Action::Commit { audit: AuditId(1), finding: Finding::Equal { blinded } };
    let outcome = compute(cast.audit(1).lease, cast.audit(1).index, None).outcome;
    let reveal = Action::Reveal { audit: AuditId(1), outcome, salt: Hash::default() };
    assert_eq!(says(&mut cast, machine_key(other), equal), 2102);
    assert_eq!(says(&mut cast, machine_key(auditor), reveal.clone()), 2101);
    cast.until("it has answered", |cast| cast.audit(1).auditors[0].finding.is_some());
    let again = Action::Commit { audit: AuditId(1), finding: Finding::Unusable };
    assert_eq!(says(&mut cast, machine_key(auditor), again), 2103);
    cast.until("answers are shown", is_open(Revealing));
    assert_eq!(says(&mut cast, machine_key(auditor), reveal), 2105);
    let judge = Action::Judge { audit: AuditId(1), step: None };
    assert_eq!(says(&mut cast, person(9), judge.clone()), 2101);

    cast.until("steps are shown", is_open(Tracing));
    let (audit, right) = (cast.audit(1).clone(), compute(cast.audit(1).lease, cast.audit(1).index, None));
    let accuser = cast.market.ledger.machine(audit.accuser().unwrap().machine).unwrap().key;
    let trace = |trace: &RoundTrace, state| Action::Trace { audit: AuditId(1), trace: trace.clone(), state };
    let mine = cast.workers[&audit.lease].traces[audit.index as usize].clone();
    assert_eq!(says(&mut cast, accuser, trace(&right, None)), 2101, "the worker is first");
    assert_eq!(says(&mut cast, machine_key(1), trace(&right, None)), 2106);
    let cut = RoundTrace { steps: mine.steps[1..].to_vec(), ..mine.clone() };
    assert_eq!(says(&mut cast, machine_key(1), trace(&cut, None)), 2106);
    assert_eq!(says(&mut cast, person(9), trace(&mine, None)), 2102);
    assert_eq!(says(&mut cast, machine_key(1), trace(&mine, None)), 0);
    assert_eq!(says(&mut cast, machine_key(1), trace(&mine, None)), 2103);
    assert_eq!(says(&mut cast, accuser, trace(&mine, None)), 2106);
    assert_eq!(says(&mut cast, accuser, trace(&right, None)), 2106, "the state before the second step is missing");
    assert_eq!(says(&mut cast, accuser, trace(&right, Some(blinded))), 0);

    assert_eq!(says(&mut cast, person(9), judge.clone()), 2107);
    let validator = cast.market.ledger.validators()[0];
    assert_eq!(says(&mut cast, validator, judge.clone()), 0);
    assert_eq!(says(&mut cast, validator, judge), 2103);
}

#[test]
fn duties_say_who_has_to_do_what_until_when() {
    let mut cast = Cast::new(audited(), &[(1, 1, Honest), (2, 2, Honest)]);
    cast.hire();
    let mut told = Vec::new();
    while cast.verdict_of_first() != Some(Passed) {
        for number in [1, 2] {
            for duty in cast.market.ledger.duties(machine(number)) {
                assert_eq!(duty.deadline, cast.audit(1).since.plus(10_000));
                told.push((number, duty.task));
            }
        }
        cast.play(1_000);
    }
    assert_eq!(told, [(1, Task::Disclose), (2, Task::Compute), (2, Task::Reveal)]);
    assert!(cast.market.ledger.duties(machine(1)).is_empty() && cast.market.ledger.duties(machine(2)).is_empty());
    assert_eq!(cast.market.ledger.audits_of_machine(machine(1)).count(), 1);
}

#[test]
fn a_jobs_workers_are_of_one_class_where_enough_of_one_are_free() {
    // The best machine's class has one machine only; two workers find two of the other one.
    let class = |number| if number == 1 { "a" } else { "b" };
    let machines = [(1, 1, Honest), (2, 2, Honest), (3, 3, Honest), (4, 4, Honest)];
    let of = |cast: &Cast, job| -> Vec<String> { cast.market.ledger.job_leases(job).map(|lease| lease.class.clone()).collect() };
    let mut cast = Cast::of_classes(audited(), &machines, class);
    let job = cast.market.submit(9, &spec(2, 2, 1_000_000));
    assert_eq!(of(&cast, job), ["b", "b"]);
    // One worker is enough: it has the best machine, and more of its class aren't there.
    let mut cast = Cast::of_classes(audited(), &machines, class);
    let job = cast.market.submit(9, &spec(1, 3, 1_000_000));
    cast.wait(1_000);
    assert_eq!(of(&cast, job), ["a"]);
    // Where no class has enough, all are taken, and no more than are needed.
    let mut cast = Cast::of_classes(audited(), &machines, |number| if number <= 2 { "a" } else { "b" });
    let job = cast.market.submit(9, &spec(3, 4, 1_000_000));
    assert_eq!(of(&cast, job), ["a", "a", "b"]);
}

#[test]
fn dishonest_economics_are_no_market() {
    let refused = |change: fn(&mut AuditParams)| with(change).check().err().map(|error| error.field);
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|audit| (audit.floor_permille, audit.vest_ms) = (100, 80_000)), Some("audit.vest_ms"));
    assert_eq!(refused(|audit| (audit.floor_permille, audit.vest_ms) = (100, 90_000)), None);
    assert_eq!(refused(|audit| (audit.floor_permille, audit.vest_ms) = (50, 180_000)), Some("audit.vest_ms"));
    assert_eq!(refused(|audit| audit.pay_permille = 999), Some("audit.pay_permille"), "who audits must gain by it");
    assert_eq!(refused(|audit| audit.floor_permille = 0), Some("audit.floor_permille"));
    assert_eq!(refused(|audit| audit.strikes = 0), Some("audit.strikes"));
}

/// The same market, whose lender has passed so many audits that only the floor is left.
fn seasoned(mut cast: Cast, number: u8) -> Cast {
    let mut entries = cast.market.entries.clone();
    let key = encode(&StateKey::Account(account(number)));
    let mut seasoned: Account = decode(&entries[&key]).expect("an account");
    seasoned.audits_passed = 10_000;
    entries.insert(key, encode(&seasoned));
    cast.market.ledger = Ledger::from_entries(entries.clone()).expect("a ledger");
    cast.market.entries = entries;
    cast
}

#[test]
fn a_validator_that_holds_its_link_back_adds_draws_and_never_removes_one() {
    let params = with(|audit| (audit.floor_permille, audit.vest_ms) = (300, 600_000));
    let machines: Vec<_> = (1..=8).map(|number| (1, number, Honest)).collect();
    let mut cast = seasoned(Cast::new(params, &machines), 1);
    cast.market.submit(9, &spec(8, 8, 40_000_000));
    cast.market.thorough = false;
    let drawn = |cast: &Cast, mixes: u64| -> Vec<(LeaseId, u32)> {
        let audits = cast.market.ledger.audits().filter(|audit| audit.window.mixes == mixes);
        audits.map(|audit| (audit.lease, audit.sequence)).collect()
    };
    let (mut kept, mut added) = (0, 0);
    for trial in 0..24 {
        cast.train(10);
        let mixes = cast.market.ledger.beacon().mixes;
        cast.wait(10);
        // The proposer of this block knows what it draws.
        let mut withholding = cast.clone();
        match trial % 2 {
            0 => withholding.market.holds_back = true,
            _ => withholding.market.passes = true,
        }
        withholding.wait(10);
        (withholding.market.holds_back, withholding.market.passes) = (false, false);
        // Four blocks later it is its turn again.
        (0..5).for_each(|_| cast.wait(10));
        (0..4).for_each(|_| withholding.wait(10));
        let (honest, other) = (drawn(&cast, mixes), drawn(&withholding, mixes));
        assert!(honest.iter().all(|receipt| other.contains(receipt)), "trial {trial}: {honest:?} of {other:?}");
        kept += honest.len();
        added += other.len() - honest.len();
    }
    cast.market.check();
    let all = 24 * 8;
    assert!((all / 5..all / 2).contains(&kept), "about three of ten windows are drawn: {kept} of {all}");
    assert!(added > all / 20, "holding back makes it worse: {added} more");
}
