//! The cheater's zoo, see `deepmarket_tests::zoo`: a thousand planted cheats on simulated markets with the real ledger and the real
//! trainer. Each test prints its table; a failure names the seed of its world.

use deepmarket_tests::zoo::{Fate, Kind, Plan, league, live, newcomers, report, steady, thousand};
use deepmarket_types::VerifiedTransaction;

#[test]
fn of_a_thousand_cheats_every_audited_one_is_caught_and_nobody_honest_is_punished() {
    let plan = thousand();
    let outcomes = live(&plan, VerifiedTransaction::assume_verified);
    let all = report::sum(&outcomes);
    println!("{}\n{}", report::table(&all), report::costs(&[("with cheaters", &all)]));
    assert_eq!(all.planted.len(), plan.cheats as usize);
    for outcome in &outcomes {
        let seed = outcome.seed;
        assert_eq!(outcome.honest_punished, 0, "seed {seed}: somebody honest was punished");
        for planted in &outcome.planted {
            let is_missed = matches!(planted.fate, Fate::Missed | Fate::Passed | Fate::Void | Fate::Unknown);
            assert!(!is_missed, "seed {seed}: {:?}: an audit looked at it and didn't find it", planted);
        }
    }
    for kind in Kind::ALL {
        let of_kind = |fate| all.count(Some(kind), fate);
        let found = of_kind(Fate::Caught) + of_kind(Fate::Refused);
        assert!(found > 0, "{kind}: none was drawn");
        // What is said in an audit is always compared; a receipt of a number that was used is always refused.
        if kind.is_auditor() || kind == Kind::DoubleReceipts {
            assert_eq!(found, all.planted.iter().filter(|planted| planted.kind == kind).count(), "{kind}");
        }
    }
    assert!(all.barred > 0, "who cheats again and again may lend no more");
}

#[test]
fn audits_cost_at_most_a_tenth_of_the_work_among_newcomers_and_in_the_steady_state() {
    let live = |plan: &Plan| report::sum(&live(plan, VerifiedTransaction::assume_verified));
    let (newcomers, steady) = (live(&newcomers()), live(&steady()));
    println!("{}", report::costs(&[("newcomers", &newcomers), ("steady", &steady)]));
    for (name, outcome) in [("newcomers", &newcomers), ("steady", &steady)] {
        assert_eq!(outcome.honest_punished, 0, "{name}");
        assert!(outcome.verdicts[0] > 0 && outcome.verdicts[1..3] == [0, 0], "{name}: {:?}", outcome.verdicts);
        assert!(outcome.fee_permille() <= 100.0, "{name}: borrowers paid {:.1} ‰ for audits", outcome.fee_permille());
        assert!(outcome.pay_permille() <= 100.0, "{name}: auditors were paid {:.1} ‰", outcome.pay_permille());
        let again = outcome.recomputed_permille();
        assert!(again <= 100.0, "{name}: {again:.1} ‰ of the rounds were computed again");
    }
}

#[test]
fn two_auditors_in_league_are_found_out_by_the_validators_and_the_worker_keeps_its_pay() {
    let outcomes = live(&league(), VerifiedTransaction::assume_verified);
    for outcome in &outcomes {
        let seed = outcome.seed;
        assert_eq!(outcome.honest_punished, 0, "seed {seed}");
        assert_eq!(outcome.verdicts[1..3], [0, 0], "seed {seed}: nobody's work is false: {:?}", outcome.verdicts);
        assert_eq!(outcome.count(None, Fate::Caught), outcome.planted.len(), "seed {seed}: {:?}", outcome.planted);
    }
    assert!(report::sum(&outcomes).judged > 0, "they were drawn together");
}
