//! Thousands of random blocks of a market with audits: honest machines, fakers, liars, sleepers, validators that hold links back.
//! After every block everything must hold, and in the end nobody honest was punished and every faker that was checked was found.

#[path = "support/cast.rs"]
mod cast;
mod support;

use std::collections::BTreeMap;

use cast::{Character::*, *};
use deepmarket_ledger::{Audit, AuditParams, Params};
use deepmarket_types::*;
use support::*;

/// Markets of a default run, and blocks of each; `DEEPMARKET_RANDOM_MARKETS` asks for more.
const MARKETS: u64 = 24;
const BLOCKS: u64 = 160;

/// One account each, so that whoever has a strike is known. One alone finds inputs unusable: two together would be believed. The
/// fakers' steps aren't those that the liars make up.
const MACHINES: [(u8, u8, cast::Character); 12] = [
    (1, 1, Honest),
    (2, 2, Fakes(0)),
    (3, 3, Honest),
    (4, 4, Lies),
    (5, 5, Honest),
    (6, 6, SaysYes),
    (7, 7, Honest),
    (8, 8, Fakes(3)),
    (10, 10, Honest),
    (11, 11, LiesAndHides),
    (12, 12, FindsUnusable),
    (13, 13, NeverShows),
];

/// Where enough are honest, and nobody is ever away.
fn mostly_honest() -> [(u8, u8, cast::Character); 12] {
    MACHINES.map(|(machine, owner, character)| match character {
        LiesAndHides | FindsUnusable | NeverShows => (machine, owner, Honest),
        _ => (machine, owner, character),
    })
}

fn params(random: &mut Random) -> Params {
    let audit = AuditParams {
        floor_permille: 200 + random.below(500) as u32,
        first_windows: random.below(4) as u32,
        canary_permille: random.below(300) as u32,
        fee_permille: random.below(200) as u32,
        max_open: 1 + random.below(4) as u32,
        strikes: 1 + random.below(3) as u32,
        ..audited().audit
    };
    Params { audit, max_open_jobs_per_account: 6, ..audited() }
}

/// What happens beside the work: jobs come and go, machines are withdrawn, offered, switched off and on.
fn happenings(random: &mut Random, cast: &mut Cast) -> Vec<VerifiedTransaction> {
    let mut words = Vec::new();
    let ledger = &cast.market.ledger;
    if random.percent(20) {
        let owner = random.pick(&[9, 9, 9, 1, 4, 2]).expect("one of them");
        let workers = 1 + random.below(3) as u32;
        let mut asked = spec(workers, workers + random.below(3) as u32, 20_000 + random.below(1_000_000));
        asked.budget.audit_percent = random.below(3) as u8 * 30;
        words.push(cast.market.next(person(owner), Action::Borrow { spec: asked.to_bytes() }));
    }
    let open: Vec<(JobId, AccountId)> =
        ledger.jobs().filter(|job| !job.state.is_closed()).map(|job| (job.id, job.owner)).collect();
    if let Some((job, owner)) = random.pick(&open).filter(|_| random.percent(3)) {
        let key = ledger.account(owner).expect("it exists").key;
        if words.iter().all(|word| word.body().signer != key) {
            words.push(cast.market.next(key, Action::Cancel { job }));
        }
    }
    let (owner, number, _) = random.pick(&MACHINES).expect("there are some");
    if words.iter().all(|word| word.body().signer != person(owner)) && random.percent(6) {
        let (machine, mode) = (machine(number), if random.percent(50) { ChangeMode::AtOnce } else { ChangeMode::AfterLease });
        words.push(cast.market.next(
            person(owner),
            match random.percent(30) {
                true => Action::Withdraw { machine, mode },
                false => Action::Lend { machine, offer: offer(cores(1)), mode },
            },
        ));
    }
    words
}

fn receipts(random: &mut Random, cast: &mut Cast) -> Vec<VerifiedTransaction> {
    let leases: Vec<(LeaseId, MachineId)> =
        cast.market.ledger.leases().filter(|lease| lease.is_active()).map(|lease| (lease.id, lease.machine)).collect();
    let mut words = Vec::new();
    for (lease, machine) in leases {
        if cast.asleep.contains(&machine) || !random.percent(50) {
            continue;
        }
        let mut word = cast.receipt(lease);
        let joined = cast.market.ledger.lease(lease).is_some_and(|lease| lease.joined.is_some());
        let Action::Receipt(mut receipt) = word.body().action.clone() else { unreachable!("it is a receipt") };
        if joined && random.percent(3) {
            receipt.outcome = LeaseOutcome::Finished(Hash::of(&receipt.job.0.to_le_bytes()));
            receipt.parameters = Hash::of(b"final");
            word = cast.market.next(word.body().signer, Action::Receipt(receipt));
        }
        words.push(word);
    }
    words
}

fn named(is_faker: bool, verdict: AuditVerdict) -> String {
    format!("{} {verdict:?}", if is_faker { "faker" } else { "other" })
}

/// Checks what a market with this seed came to; tells how many audits ended in which way, by what the worker was.
fn play_market(seed: u64, seen: &mut BTreeMap<String, u64>) {
    let mut random = Random(seed);
    let params = params(&mut random);
    let mut cast = Cast::new(params, &MACHINES);
    cast.market.thorough = false;
    let mut said: Vec<VerifiedTransaction> = Vec::new();
    for block in 0..BLOCKS {
        // The end is quiet: what is open can come to its end.
        let is_quiet = block + 30 > BLOCKS;
        cast.market.holds_back = random.percent(8);
        cast.market.passes = random.percent(5);
        if random.percent(4) && !is_quiet {
            let (_, number, _) = random.pick(&MACHINES).expect("there are some");
            let id = machine(number);
            if !cast.asleep.remove(&id) {
                cast.asleep.insert(id);
            }
        }
        let mut words = cast.answers();
        words.retain(|_| random.percent(80));
        if !is_quiet {
            words.extend(happenings(&mut random, &mut cast));
            words.extend(receipts(&mut random, &mut cast));
        }
        // Some say again what was said before, and some say what others should.
        for _ in 0..random.below(3) {
            if let Some(again) = (!said.is_empty()).then(|| said[random.below(said.len() as u64) as usize].clone()) {
                let body = again.body().clone();
                let signer = if random.percent(50) { body.signer } else { machine_key(1 + random.below(13) as u8) };
                let again = transaction(signer, body.nonce, body.expires, body.action);
                if words.iter().all(|word| word.id() != again.id()) {
                    words.push(again);
                }
            }
        }
        said.extend(words.iter().filter(|word| word.body().nonce == 0).cloned());
        let ms = if is_quiet { 2_000 } else { 200 + random.below(4_000) };
        cast.say(ms, words);
        cast.market.ledger.check_invariants().expect("an invariant is broken");
        if block % 10 == 0 {
            cast.market.check();
        }
    }

    let ledger = &cast.market.ledger;
    let character = |id: MachineId| cast.character(id);
    for (_, number, character) in MACHINES {
        let strikes = cast.account(number).strikes;
        let is_cheater = matches!(character, Fakes(_) | Lies | LiesAndHides | SaysYes);
        assert!(strikes == 0 || is_cheater, "market {seed}: {character:?} has {strikes} strikes");
    }
    for audit in ledger.audits() {
        let is_faker = matches!(character(audit.machine), Fakes(_));
        if let AuditState::Closed(verdict) = audit.state {
            *seen.entry(named(is_faker, verdict)).or_default() += 1;
            assert!(!is_faker || verdict != AuditVerdict::Passed, "market {seed}: {} let a faker pass", audit.id);
            assert!(is_faker || verdict != AuditVerdict::False, "market {seed}: {} punished an honest worker", audit.id);
        }
        for auditor in audit.auditors.iter().filter(|auditor| auditor.is_false) {
            let character = character(auditor.machine);
            assert!(matches!(character, Lies | LiesAndHides | SaysYes), "market {seed}: {character:?} was called false");
        }
    }
}

#[test]
fn where_enough_are_honest_and_awake_every_faker_that_was_audited_is_punished_and_nobody_else() {
    let mut punished = 0;
    for seed in 0..6 {
        let mut random = Random(1_000 + seed);
        let mut params = params(&mut random);
        (params.audit.wait_ms, params.audit.strikes) = (600_000, 1_000);
        let mut cast = Cast::new(params, &mostly_honest());
        cast.market.thorough = false;
        for _ in 0..60 {
            let mut words = cast.answers();
            if random.percent(20) {
                let workers = 1 + random.below(3) as u32;
                let asked = spec(workers, workers, 20_000 + random.below(500_000));
                words.push(cast.market.next(person(9), Action::Borrow { spec: asked.to_bytes() }));
            }
            words.extend(receipts(&mut random, &mut cast));
            cast.say(200 + random.below(4_000), words);
            cast.market.ledger.check_invariants().expect("an invariant is broken");
        }
        let jobs: Vec<JobId> = cast.market.ledger.jobs().filter(|job| !job.state.is_closed()).map(|job| job.id).collect();
        for job in jobs {
            assert_eq!(cast.market.send(person(9), Action::Cancel { job }), 0);
        }
        cast.until("all audits are over", |cast| cast.market.ledger.open_audits().next().is_none());
        cast.market.check();
        let is_faker = |audit: &Audit| matches!(cast.character(audit.machine), Fakes(_));
        for audit in cast.market.ledger.audits() {
            let expected = if is_faker(audit) { AuditVerdict::False } else { AuditVerdict::Passed };
            assert_eq!(audit.state, AuditState::Closed(expected), "market {seed}: {}", audit.id);
        }
        let found = cast.market.ledger.audits().filter(|audit| is_faker(audit)).count();
        let strikes = [2, 8].map(|number| cast.account(number).strikes as usize);
        assert_eq!(strikes.iter().sum::<usize>(), found, "market {seed}: one strike for each");
        punished += found;
    }
    assert!(punished > 5, "{punished} fakers were found");
}

#[test]
fn in_random_markets_nobody_honest_is_punished_and_no_faker_passes() {
    let markets = std::env::var("DEEPMARKET_RANDOM_MARKETS").ok().and_then(|count| count.parse().ok()).unwrap_or(MARKETS);
    let mut seen = BTreeMap::new();
    (0..markets).for_each(|seed| play_market(seed, &mut seen));
    println!("audits by worker and verdict: {seen:?}");
    use AuditVerdict::{False, Passed, Silent, Void};
    for (is_faker, verdict) in [(false, Passed), (true, False), (false, Silent), (false, Void)] {
        let expected = named(is_faker, verdict);
        assert!(seen.contains_key(&expected), "never happened: {expected}");
    }
}
