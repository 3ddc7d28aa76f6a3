use deepmarket_api::{AuditTask, FindingView, StatementCause};
use deepmarket_genesis::{Genesis, LOCAL, Validator};
use deepmarket_types::{
    AccountId, Action, AuditId, AuditState, AuditVerdict, Availability, Block, ChangeMode, Checkpoint, CommitmentPlace,
    DailyHours, Disclosure, Finding, Hash, Header, Height, JobId, JobReason, JobState, LeafProof, LeaseId, LeaseOutcome,
    LeaseState, MachineConfig, MachineReason, MachineState, MountainRange, Offer, Receipt, Resources, RoundCommitment,
    RoundOutcome, SecretKey, Transaction, UnitPrices, Voucher, blind, invite_key, machine_proof, seal,
};

use super::*;
use crate::metrics::Metrics;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

const RESOURCES: Resources = Resources { cores: 2, gpus: 0, ram_mib: 8192, disk_mib: 8192 };

fn config() -> MachineConfig {
    MachineConfig {
        name: "m".into(),
        platform: "linux x86_64".into(),
        cpu: "cpu".into(),
        gpu: String::new(),
        host: Hash::of(b"host"),
        resources: RESOURCES,
        speed: 1_000,
        trainer: "0".into(),
    }
}

fn offer() -> Offer {
    Offer {
        resources: RESOURCES,
        availability: Availability::default(),
        minimum: UnitPrices::default(),
        at_close: ChangeMode::AfterLease,
    }
}

fn spec() -> JobSpec {
    let text = include_str!("../../../../examples/mlp.toml");
    let mut spec = JobSpec::from_toml(text, &|_| Some(Hash::of(b"manifest"))).unwrap();
    (spec.workers.min, spec.workers.max) = (1, 1);
    spec
}

/// A ledger that takes blocks of one validator, which is the registrar too.
struct Script(Ledger);

impl Script {
    fn new() -> Script {
        let validator = Validator {
            name: "v0".into(),
            key: key(9).public(),
            consensus: "/ip4/127.0.0.1/tcp/27000".into(),
            gateway: "http://127.0.0.1:7700".into(),
        };
        let genesis = Genesis::from_toml(LOCAL).unwrap();
        let genesis = genesis.complete(TimeMs(1_700_000_000_000), vec![validator], vec![key(9).public()]).unwrap();
        Script(Ledger::genesis(&genesis.ledger_state()).0)
    }

    /// A lender (key 1) whose machine (key 3) is on offer and in contact, and a borrower (key 2).
    fn with_a_machine_on_offer() -> Script {
        let mut script = Script::new();
        script.block(vec![script.open(1), script.open(2)]);
        let proof = machine_proof(&key(3), &script.0.chain(), &key(1).public(), &config());
        let id = MachineId::from_key(&key(3).public());
        let addresses = vec!["/ip4/127.0.0.1/tcp/4001".to_owned()];
        script.block(vec![
            (key(1), 0, Action::RegisterMachine { machine_key: key(3).public(), config: config(), proof }),
            (key(1), 1, Action::Lend { machine: id, offer: offer(), mode: ChangeMode::AfterLease }),
            (key(3), 0, Action::Heartbeat { addresses: Some(addresses) }),
        ]);
        script
    }

    /// One block, a second later, in which everything succeeds.
    fn block(&mut self, actions: Vec<(SecretKey, u64, Action)>) {
        let ledger = &mut self.0;
        let (chain, height, parent) = (ledger.chain(), ledger.height().next(), ledger.tip());
        let time = ledger.time().plus(1_000);
        let price = ledger.price_due(time, &parent).map(|prices| (key(9), 0, Action::Price(prices)));
        let transactions: Vec<Transaction> = price
            .into_iter()
            .chain(actions)
            .map(|(key, nonce, action)| Transaction::sign(&key, &chain, nonce, Height(1_000), action))
            .collect();
        let header = Header {
            version: Header::VERSION,
            chain,
            height,
            time,
            parent,
            state_root: Hash::default(),
            transactions: Block::transactions_hash(&transactions),
            proposer: key(9).public(),
            link: ledger.next_link(&key(9)),
        };
        let verified: Vec<_> = transactions.into_iter().map(|t| t.verify(&chain).unwrap()).collect();
        ledger.check_block(&header, &verified).unwrap();
        let applied = ledger.apply(&header, &verified);
        assert!(applied.results.iter().all(|result| result.code == 0), "{:?}", applied.results);
    }

    fn open(&self, seed: u8) -> (SecretKey, u64, Action) {
        let (chain, expires) = (self.0.chain(), self.0.time().plus(60_000));
        let voucher = Voucher::sign(&key(9), &chain, Hash::of(&[seed]), key(seed).public(), expires);
        (key(seed), 0, Action::OpenAccount { voucher })
    }

    /// One block in which machines 3 and 5 are heard of.
    fn block_with_heartbeats(&mut self, actions: Vec<(SecretKey, u64, Action)>) {
        let heartbeat = |seed: u8| {
            let nonce = self.0.machine_of_key(&key(seed).public()).unwrap().nonce;
            (key(seed), nonce, Action::Heartbeat { addresses: None })
        };
        self.block([3, 5].map(heartbeat).into_iter().chain(actions).collect());
    }

    fn account(&self, seed: u8) -> &Account {
        self.0.account_of_key(&key(seed).public()).unwrap()
    }
}

#[test]
fn before_the_first_block_prices_are_the_floor_and_nothing_was_minted() {
    let Script(ledger) = Script::new();
    let view = prices(&ledger);
    assert_eq!(view.prices.slots, [ledger.params().price_floor; 4]);
    assert_eq!(view.slot_names, ["00-06", "06-12", "12-18", "18-24"]);
    assert!(view.slot_ends > ledger.time());
    let view = totals(&ledger);
    assert_eq!((view.height, view.minted, view.conserved), (Height(0), Credits::ZERO, true));
}

/// The machine's receipt for the first lease.
fn receipt(sequence: u32, outcome: LeaseOutcome) -> Action {
    Action::Receipt(Receipt {
        job: JobId(1),
        lease: LeaseId(1),
        rank: 0,
        sequence,
        from: 0,
        rounds: 1,
        samples: 1,
        cpu_ms: 1,
        parameters: Hash::of(b"p"),
        commitments: Hash::of(b"c"),
        committed: 1,
        loss_micro: 1,
        checkpoint: Some(Checkpoint { state: Hash::of(b"state"), rounds: 1 }),
        missing: None,
        outcome,
    })
}

#[test]
fn every_view_says_what_the_ledger_holds() {
    let mut script = Script::with_a_machine_on_offer();
    let id = MachineId::from_key(&key(3).public());
    let spec = spec();
    script.block(vec![
        (key(2), 0, Action::Borrow { spec: spec.to_bytes() }),
        (key(2), 1, Action::Borrow { spec: JobSpec { name: "second".into(), ..spec.clone() }.to_bytes() }),
    ]);
    let ledger = &script.0;

    let lender = account(ledger, script.account(1));
    assert_eq!((lender.nonce, lender.granted, &lender.machines), (2, Credits::from_credits(50), &vec![id]));
    assert_eq!(lender.reliability, script.account(1).reliability);
    let borrower = account(ledger, script.account(2));
    assert_eq!(borrower.jobs, [JobId(2), JobId(1)], "the newest first");
    assert_eq!(Credits::from_credits(50), [borrower.granted, borrower.escrow].into_iter().sum());

    let of = |job_id| job(ledger, ledger.job(job_id).unwrap());
    let view = of(JobId(1));
    assert_eq!((view.owner, view.state, view.status.as_str()), (borrower.id, JobState::Matched, "matched"));
    assert_eq!((view.why, view.checkpoint), (JobReason::Preparing, None));
    assert_eq!(JobSpec::from_toml(&view.spec, &|_| None).unwrap(), spec);
    let [lease] = &view.leases[..] else { panic!("{:?}", view.leases) };
    assert_eq!((lease.machine, lease.owner, lease.state, lease.paid), (id, lender.id, LeaseState::Active, Credits::ZERO));
    let second = of(JobId(2));
    // One core of the machine's two is free, and one worker asks for one: both run there.
    assert_eq!((second.state, second.leases[0].machine), (JobState::Matched, id));

    let view = machine(ledger, ledger.machine(id).unwrap());
    assert_eq!((view.owner, view.nonce, view.state, view.offer), (lender.id, 1, MachineState::InUse, Some(offer())));
    assert_eq!((view.config, view.why, view.reason.as_str()), (config(), MachineReason::Serving, "works for at least one lease"));
    assert_eq!((view.used.cores, view.leases.len(), view.pending), (2, 2, None));

    let [assigned, _] = &assignments(ledger, id)[..] else { panic!("one lease, one assignment") };
    assert_eq!((assigned.lease, assigned.job, assigned.rank), (lease.id, JobId(1), 0));
    assert_eq!((hex::decode(&assigned.spec).unwrap(), assigned.resources), (spec.to_bytes(), spec.demand()));
    assert_eq!(Some(assigned.seed), ledger.job(JobId(1)).unwrap().seed);
    assert_eq!((assigned.generation, assigned.members.len(), assigned.world, assigned.checkpoint), (0, 0, 1, None));

    let asked = quote(ledger.quote(&spec, &spec.check().unwrap(), 60_000, 10_000));
    assert_eq!((asked.slots.len(), asked.budget), (4, spec.budget.max));
    assert!(asked.slots.iter().all(|slot| slot.allowed && slot.begins >= ledger.time()));
    assert!(totals(ledger).conserved && knows_key(ledger, &key(1).public()) && knows_key(ledger, &key(3).public()));
    assert!(!knows_key(ledger, &key(4).public()));
    assert!(
        ledger.account(AccountId::from_key(&key(4).public())).is_none() && assignments(ledger, MachineId([0; 20])).is_empty()
    );

    script.block(vec![(key(3), 0, receipt(1, LeaseOutcome::Running))]);
    script.block(vec![(key(3), 0, receipt(2, LeaseOutcome::Running))]);
    let ledger = &script.0;
    let [assigned, _] = &assignments(ledger, id)[..] else { panic!("one lease, one assignment") };
    let [member] = &assigned.members[..] else { panic!("{:?}", assigned.members) };
    assert_eq!((member.rank, member.lease, member.machine, member.key), (0, LeaseId(1), id, key(3).public()));
    assert_eq!((member.addresses.len(), member.speed), (1, config().speed));
    let kept = Some(Checkpoint { state: Hash::of(b"state"), rounds: 1 });
    assert_eq!((assigned.generation, assigned.checkpoint), (1, kept), "the first member's word counts");
    let view = job(ledger, ledger.job(JobId(1)).unwrap());
    assert_eq!((view.state, view.why), (JobState::Running, JobReason::Training { workers: 1, preparing: 0 }));
    assert_eq!((view.generation, view.members, view.checkpoint, view.failures), (1, vec![LeaseId(1)], kept, 0));
}

/// What every round of the audited job gives, and how its worker hides it.
const OUTCOME: RoundOutcome =
    RoundOutcome { inputs: Hash([1; 32]), steps: Hash([2; 32]), output: Hash([3; 32]), exchange: Hash([4; 32]), samples: 64 };
const SALT: Hash = Hash([5; 32]);

fn commitment(round: u64) -> RoundCommitment {
    let sealed = seal(&OUTCOME.answer(), &SALT);
    RoundCommitment { round, samples: OUTCOME.samples, total_samples: OUTCOME.samples * (round + 1), sealed }
}

#[test]
fn an_audit_is_told_to_everybody_and_each_machine_hears_what_it_has_to_do() {
    let mut script = Script::with_a_machine_on_offer();
    let id = |seed: u8| MachineId::from_key(&key(seed).public());
    // Another lender, whose machine can compute a round again.
    script.block(vec![script.open(4)]);
    let proof = machine_proof(&key(5), &script.0.chain(), &key(4).public(), &config());
    script.block(vec![
        (key(4), 0, Action::RegisterMachine { machine_key: key(5).public(), config: config(), proof }),
        (key(4), 1, Action::Lend { machine: id(5), offer: offer(), mode: ChangeMode::AfterLease }),
        (key(5), 0, Action::Heartbeat { addresses: Some(vec!["/ip4/127.0.0.1/tcp/4002".to_owned()]) }),
    ]);
    script.block_with_heartbeats(vec![(key(2), 0, Action::Borrow { spec: spec().to_bytes() })]);
    let lease = script.0.lease(LeaseId(1)).unwrap();
    let (worker, auditor) = if lease.machine == id(3) { (3, 5) } else { (5, 3) };
    let place = CommitmentPlace { chain: script.0.chain(), job: JobId(1), lease: LeaseId(1), rank: 0 };
    let leaves: Vec<Hash> = (0..10).map(|round| commitment(round).leaf(&place)).collect();
    let mut range = MountainRange::default();
    leaves.iter().for_each(|leaf| range.push(*leaf));
    let receipt = |sequence: u32, rounds: u64, commitments: Hash| match receipt(sequence, LeaseOutcome::Running) {
        Action::Receipt(receipt) => {
            let samples = OUTCOME.samples * rounds;
            Action::Receipt(Receipt { rounds, samples, committed: rounds, commitments, checkpoint: None, ..receipt })
        }
        _ => unreachable!("it is a receipt"),
    };
    script.block_with_heartbeats(vec![(key(worker), 0, receipt(1, 0, MountainRange::default().root()))]);
    script.block_with_heartbeats(vec![(key(worker), 0, receipt(2, 10, range.root()))]);
    script.block_with_heartbeats(vec![]);
    script.block_with_heartbeats(vec![]);

    // A new lender's first windows are always audited.
    let ledger = &script.0;
    let of = |script: &Script| audits::audit(&script.0, script.0.audit(AuditId(1)).unwrap());
    let view = of(&script);
    assert_eq!((view.state, view.lease, view.rank, view.machine), (AuditState::Disclosing, LeaseId(1), 0, id(worker)));
    assert_eq!((view.sequence, view.rounds, view.round, view.is_closed()), (2, (0, 10), None, false));
    assert!(view.status.contains("waits for the worker's inputs") && view.auditors.is_empty());
    let [duty] = &audits::duties(ledger, id(worker))[..] else { panic!("the worker has one duty") };
    assert_eq!((duty.task, duty.audit, duty.sequence, duty.index), (AuditTask::Disclose, AuditId(1), 2, view.index));
    assert_eq!((duty.committed, duty.commitments, duty.rounds, duty.samples), ((0, 10), range.root(), (0, 10), (0, 640)));
    assert_eq!((duty.deadline, duty.world), (view.since.plus(ledger.params().audit.answer_ms), 1));
    assert_eq!((&duty.leases[..], duty.resources), (&[(0, LeaseId(1))][..], spec().demand()));
    assert_eq!((hex::decode(&duty.spec).unwrap(), duty.disclosed.clone()), (spec().to_bytes(), None));
    assert!(audits::duties(ledger, id(auditor)).is_empty() && audits::judging(ledger).is_empty());
    let (lender, held) = (if worker == 3 { 1 } else { 4 }, job(ledger, ledger.job(JobId(1)).unwrap()).leases[0].held);
    let lends = account(ledger, script.account(lender));
    assert!(held > Credits::ZERO && lends.vests.is_some());
    assert_eq!((lends.held, totals(ledger).held), (held, held));

    let index = view.index;
    let last = (index < 9).then(|| (commitment(9), LeafProof::of(&leaves, 9).unwrap()));
    let proof = LeafProof::of(&leaves, index).unwrap();
    let evidence = Hash::of(b"evidence");
    let opening = Disclosure { audit: AuditId(1), commitment: commitment(index), salt: SALT, proof, last, evidence };
    script.block_with_heartbeats(vec![(key(worker), 0, Action::Disclose(opening))]);
    let [duty] = &audits::duties(&script.0, id(auditor))[..] else { panic!("the auditor has one duty") };
    assert_eq!((duty.task, duty.same_class, duty.finding), (AuditTask::Compute, true, None));
    let disclosed = duty.disclosed.clone().unwrap();
    assert_eq!((disclosed.commitment, disclosed.salt, disclosed.evidence), (commitment(index), SALT, evidence));
    assert!(audits::duties(&script.0, id(worker)).is_empty());
    let busy = machine(&script.0, script.0.machine(id(auditor)).unwrap());
    assert_eq!((busy.auditing, of(&script).round), (Some(AuditId(1)), Some(index)));

    let blinded = blind(AuditId(1), &key(auditor).public(), &OUTCOME.answer(), &SALT);
    let finding = Finding::Equal { blinded };
    script.block_with_heartbeats(vec![(key(auditor), 0, Action::Commit { audit: AuditId(1), finding })]);
    while of(&script).state == AuditState::Computing {
        script.block_with_heartbeats(vec![]);
    }
    let [duty] = &audits::duties(&script.0, id(auditor))[..] else { panic!("it has to show its answer") };
    assert_eq!((duty.task, duty.finding), (AuditTask::Reveal, Some(finding)));
    script.block_with_heartbeats(vec![(key(auditor), 0, Action::Reveal { audit: AuditId(1), outcome: OUTCOME, salt: SALT })]);
    let view = of(&script);
    assert_eq!((view.state, view.closed), (AuditState::Closed(AuditVerdict::Passed), Some(script.0.time())));
    let [told] = &view.auditors[..] else { panic!("one auditor") };
    assert_eq!((told.finding, told.shown, told.is_false, told.is_excused), (Some(FindingView::Equal), true, false, false));
    assert!(told.paid > Credits::ZERO);
    assert_eq!(account(&script.0, script.account(lender)).audits_passed, 1);
    let metrics = Metrics::default();
    let text = metrics.text(&metrics.read(&script.0), 0);
    for line in ["deepmarket_audits{state=\"passed\"} 1", "deepmarket_audits{state=\"computing\"} 0"] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    assert!(totals(&script.0).conserved);
}

#[test]
fn an_offer_is_judged_by_the_ledgers_rules_and_valued_all_the_same() {
    let Script(ledger) = Script::with_a_machine_on_offer();
    let asked = |offer: Offer, config: Option<MachineConfig>| evaluation(&ledger, &EvaluationRequest { offer, config });
    let fine = asked(offer(), Some(config()));
    assert_eq!((fine.refused, fine.slots.len()), (None, 4));
    assert!(fine.slots.iter().all(|slot| slot.reaches_minimum && slot.open_ms > 0 && slot.full > Credits::ZERO));
    assert!(fine.slots.is_sorted_by_key(|slot| slot.begins));

    let refused = |offer: Offer, config: Option<MachineConfig>| asked(offer, config).refused.unwrap_or_default();
    let large = Offer { resources: Resources { cores: 3, ..RESOURCES }, ..offer() };
    let message = refused(large, Some(config()));
    assert!(message.contains("more than the machine has") && message.ends_with("measure the machine again if it has changed"));
    assert_eq!(asked(large, None).refused, None, "of no machine in particular");
    let coreless = Offer { resources: Resources { cores: 0, ..RESOURCES }, ..offer() };
    assert_eq!(refused(coreless, None), "the offer has no core; offer at least one core");
    let past = Offer { availability: Availability { until: Some(ledger.time()), ..Availability::default() }, ..offer() };
    assert!(refused(past, Some(config())).ends_with("name a later end"));

    // A quarter of the day at a minimum that no price reaches: open, and worth nothing.
    let dear = UnitPrices { core_hour: Credits::from_credits(1_000), ..UnitPrices::default() };
    let hours = Some(DailyHours { from_minute: 0, to_minute: 360 });
    let picky = Offer { minimum: dear, availability: Availability { hours, ..Availability::default() }, ..offer() };
    let slots = asked(picky, None).slots;
    assert!(slots.iter().all(|slot| !slot.reaches_minimum && slot.full.is_zero() && (slot.slot == 0 || slot.open_ms == 0)));
}

#[test]
fn days_are_named_and_stand_newest_first_from_their_midnights() {
    let mut script = Script::with_a_machine_on_offer();
    script.block(vec![(key(2), 0, Action::Borrow { spec: spec().to_bytes() })]);
    let ledger = &script.0;
    let clock = ledger.params().slots;
    let (today, of_day_ms) = clock.day_at(ledger.time());
    let id = MachineId::from_key(&key(3).public());
    let sum = |credits| DaySum { paid_ms: 5, credits: Credits::from_micro(credits), receipts: 1 };
    let sums = vec![
        (today - 1, DayLine::Profit(id), sum(1)),
        (today, DayLine::Profit(id), sum(2)),
        (today, DayLine::Cost(JobId(1)), sum(3)),
        (today, DayLine::Cost(JobId(7)), sum(4)),
    ];
    let entries = days(ledger, sums);
    let told: Vec<_> = entries.iter().map(|entry| (entry.day, entry.name.as_str(), entry.credits.micro())).collect();
    assert_eq!(told, [(today, "m", 2), (today, "mnist-mlp", 3), (today, "", 4), (today - 1, "m", 1)]);
    assert_eq!(entries[0].begins.plus(of_day_ms), ledger.time());
    assert_eq!(clock.day_at(entries[3].begins), (today - 1, 0));
}

#[test]
fn a_statement_is_balanced_where_its_lines_are_the_purses() {
    let script = Script::with_a_machine_on_offer();
    let (ledger, lender) = (&script.0, script.account(1));
    let line = |cause, incoming, outgoing| StatementLine {
        cause,
        incoming: Credits::from_micro(incoming),
        outgoing: Credits::from_micro(outgoing),
        entries: 1,
    };
    let start = line(StatementCause::StartingCredits, 50_000_000, 0);
    let balanced = |lines| statement(ledger, lender, lines).balanced;
    assert!(balanced(vec![start.clone()]));
    assert!(balanced(vec![start.clone(), line(StatementCause::Job(JobId(1)), 7, 7)]));
    assert!(!balanced(vec![start.clone(), line(StatementCause::Job(JobId(1)), 0, 1)]));
    assert!(!balanced(vec![line(StatementCause::Job(JobId(1)), 0, 1)]), "less than nothing");
    assert!(!balanced(vec![]));
    let view = statement(ledger, lender, vec![start]);
    assert_eq!((view.height, view.granted, view.earned), (ledger.height(), Credits::from_credits(50), Credits::ZERO));
    assert_eq!(super::estimate(ledger.estimate(lender.id)).cost, Credits::ZERO);
}

#[test]
fn an_invitation_says_whose_it_is_until_when() {
    let mut script = Script::with_a_machine_on_offer();
    let code = invite_key(&script.0.chain(), "K7QD-M2XP-AAAA-BBBB").public();
    let expires = script.0.time().plus(60_000);
    script.block(vec![(key(1), 2, Action::Invite { code, offer: Some(offer()), expires })]);
    let view = invite(script.0.invite(&code).unwrap());
    assert_eq!((view.owner, view.offer, view.expires), (script.account(1).id, Some(offer()), expires));
}

#[test]
fn a_scrape_counts_jobs_machines_and_resources_and_closed_jobs_once() {
    let mut script = Script::with_a_machine_on_offer();
    let metrics = Metrics::default();
    let told = |script: &Script| metrics.text(&metrics.read(&script.0), 3);
    let has = |text: &str, line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    let text = told(&script);
    for line in [
        "deepmarket_height 2",
        "deepmarket_accounts 2",
        "deepmarket_mempool_transactions 3",
        "deepmarket_machines{state=\"idle\"} 1",
        "deepmarket_machines{state=\"panic\"} 0",
        "deepmarket_jobs{state=\"queued\"} 0",
        "deepmarket_offered{unit=\"cores\"} 2",
        "deepmarket_used{unit=\"cores\"} 0",
        "deepmarket_minted_microcredits 100000000",
        "deepmarket_credits_microcredits{place=\"purses\"} 100000000",
        "deepmarket_credits_conserved 1",
        "# EOF",
    ] {
        has(&text, line);
    }
    let price = script.0.prices().unwrap().slots[2].ram_gib_hour.micro();
    has(&text, &format!("deepmarket_price_microcredits{{slot=\"12-18\",unit=\"ram_gib_hour\"}} {price}"));

    script.block((0..4).map(|nonce| (key(2), nonce, Action::Borrow { spec: spec().to_bytes() })).collect());
    let text = told(&script);
    has(&text, "deepmarket_jobs{state=\"matched\"} 2");
    has(&text, "deepmarket_jobs{state=\"queued\"} 2");
    has(&text, "deepmarket_leases 2");
    has(&text, "deepmarket_used{unit=\"cores\"} 2");

    // Job 1 ends, later job 3 while job 2 is open; each is counted once, however often one asks.
    script.block(vec![(key(3), 0, receipt(1, LeaseOutcome::Running))]);
    has(&told(&script), "deepmarket_jobs{state=\"running\"} 1");
    let last = receipt(2, LeaseOutcome::Finished(Hash::of(b"model")));
    script.block(vec![(key(3), 0, last), (key(2), 4, Action::Cancel { job: JobId(3) })]);
    for _ in 0..2 {
        let text = told(&script);
        has(&text, "deepmarket_jobs{state=\"finished\"} 1");
        has(&text, "deepmarket_jobs{state=\"cancelled\"} 1");
        has(&text, "deepmarket_jobs{state=\"matched\"} 2");
    }
    script.block(vec![(key(2), 5, Action::Cancel { job: JobId(2) })]);
    let text = told(&script);
    has(&text, "deepmarket_jobs{state=\"cancelled\"} 2");
    has(&text, "deepmarket_jobs{state=\"matched\"} 1");
}
