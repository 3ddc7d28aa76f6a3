//! The zoo's table, as Markdown.

use std::fmt::Write as _;

use super::{Fate, Kind, Outcome, Plan};

/// Sums of some worlds.
pub fn sum(outcomes: &[Outcome]) -> Outcome {
    let mut all = Outcome::new(outcomes.first().map_or(0, |outcome| outcome.seed));
    outcomes.iter().cloned().for_each(|outcome| all.add(outcome));
    all
}

/// Kind by kind: what was planted and what became of it.
pub fn table(all: &Outcome) -> String {
    let mut text = String::from(
        "| cheat | planted | audited | caught | refused at once | lost with another | not drawn, paid | no verdict | found right |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut row = |name: &str, kind: Option<Kind>| {
        let count = |fate| all.count(kind, fate);
        let planted = all.planted.iter().filter(|planted| kind.is_none_or(|kind| planted.kind == kind)).count();
        let (caught, void) = (count(Fate::Caught), count(Fate::Void));
        let missed = count(Fate::Missed) + count(Fate::Passed);
        writeln!(
            text,
            "| {name} | {planted} | {} | {caught} | {} | {} | {} | {} | {missed} |",
            caught + void + missed,
            count(Fate::Refused),
            count(Fate::Forfeited) + count(Fate::Unpaid),
            count(Fate::Escaped),
            void + count(Fate::Unknown),
        )
        .expect("writing to a string can't fail");
    };
    for kind in Kind::ALL {
        row(&kind.to_string(), Some(kind));
    }
    row("**all**", None);
    text
}

/// What a market pays for its audits.
pub fn costs(rows: &[(&str, &Outcome)]) -> String {
    let mut text = String::from(
        "| market | windows' pay, credits | fees, % of it | auditors' pay, % of it | rounds computed | again, % of them | audits: passed, false, silent, void |\n\
         |---|--:|--:|--:|--:|--:|---|\n",
    );
    for (name, outcome) in rows {
        writeln!(
            text,
            "| {name} | {:.1} | {:.2} | {:.2} | {} | {:.2} | {:?} |",
            outcome.claimed as f64 / 1e6,
            outcome.fee_permille() / 10.0,
            outcome.pay_permille() / 10.0,
            outcome.rounds,
            outcome.recomputed_permille() / 10.0,
            outcome.verdicts,
        )
        .expect("writing to a string can't fail");
    }
    text
}

/// The file that `make zoo` writes.
pub fn markdown(plan: &Plan, cheats: &Outcome, newcomers: &Outcome, steady: &Outcome) -> String {
    let audit = &plan.params.audit;
    format!(
        "# The cheater's zoo\n\n\
         {} cheats of {} kinds, planted in {} simulated markets with the rules of `genesis/networks/psu.toml`: the real ledger, the real\n\
         trainer on tiny models (`sync` and `local`, one to four workers), four validators of whom one lies as a judge in every second\n\
         market. `make zoo` makes this file; `tests/tests/zoo.rs` asserts what it shows. A window is one receipt's; here of {} rounds.\n\n\
         {}\n\
         *Audited*: an audit of the very window was drawn (of an auditor's lie: every one counts, because its answer is compared).\n\
         *Lost with another*: the window wasn't drawn, but its pay was still held when another cheat of the same machine was found.\n\
         *Not drawn, paid*: who cheats now and then, with earned trust, gets away with some of it until he is drawn. Honest lenders or\n\
         auditors who lost anything: **{}**. Cheaters who may lend no more: {}.\n\n\
         ## What it costs\n\n\
         The floor is {} ‰ of windows, {} ‰ of the audits that pass get a second auditor; pay is held for {} minutes.\n\n\
         {}\n\
         An audit computes one of a window's rounds again. Windows of the honest markets have {} rounds; a real one of a minute has more, so a\n\
         real market computes a smaller share again. Fees are what borrowers pay; what auditors don't get of it stays in the treasury for\n\
         times with more newcomers.\n",
        plan.cheats,
        Kind::ALL.len(),
        plan.worlds,
        plan.rounds,
        table(cheats),
        cheats.honest_punished,
        cheats.barred,
        audit.floor_permille,
        audit.canary_permille,
        audit.vest_ms / 60_000,
        costs(&[
            ("with cheaters, dials at 0, 30 and 100 %", cheats),
            ("honest newcomers: the first hour", newcomers),
            ("honest, steady: from the fourth hour on", steady)
        ]),
        super::steady().rounds,
    )
}
