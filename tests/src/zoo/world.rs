//! One market of the zoo: a real ledger, people who lend and borrow, rounds that are really trained, and everything that is said
//! in audits. Nothing travels: blobs are in a map, transactions go straight into the next block.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use deepmarket_job::{Evidence, share_out};
use deepmarket_ledger::{Applied, GenesisState};
use deepmarket_net::combine;
use deepmarket_types::{
    Action, AuditId, AuditState, AuditVerdict, CommitmentPlace, Credits, Event, Hash, Height, JobId, LeaseId, LeaseOutcome,
    MachineId, Posting, PublicKey, Receipt, SecretKey, Signature, TimeMs, Transaction, TransactionResult, VerifiedTransaction,
    Voucher,
};

use super::{
    Plan, Trust,
    answers::Answer,
    cheat::{Habit, Kind},
    computing::{Computed, Setting},
    dice::Dice,
    outcome::{Fate, Outcome, Planted},
    people::{Lender, machine_config, offer},
    task::{SHARDS, Task},
    worker::{Handed, Worker},
};
use crate::virtual_chain::VirtualChain;

/// The market opens at midnight of a Monday.
const START: TimeMs = TimeMs(20_003 * 24 * 3_600_000);
/// Blocks of one receipt interval.
const BLOCKS: u64 = 4;
/// Jobs that wait for machines: so that everybody has work, also those whom the market trusts least.
const QUEUED: usize = 3;
const REGISTRAR: PublicKey = PublicKey([200; 32]);
const BORROWER: PublicKey = PublicKey([201; 32]);

/// One job's training, as far as its team has come.
pub(super) struct Training {
    pub(super) setting: Setting,
    generation: u32,
    members: Vec<LeaseId>,
    /// What the first member holds: where others go on.
    state: Option<Rc<Vec<u8>>>,
    round: u64,
    rounds: u64,
}

/// What a transaction of this block is for: how its result is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It must succeed.
    Plain,
    /// It comes too late where others said enough before.
    MayBeLate,
    /// It must be refused with this code: what the planted cheat of this index tries.
    Refused(usize, u16),
    /// A disclosure that may not open the commitment.
    Doomed,
}

/// A market and what is known of it.
pub struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) dice: Dice,
    pub(super) chain: VirtualChain,
    pub(super) validators: Vec<SecretKey>,
    pub(super) lenders: Vec<Lender>,
    pub(super) machines: BTreeMap<MachineId, usize>,
    pub(super) trainings: BTreeMap<JobId, Training>,
    pub(super) workers: BTreeMap<LeaseId, Worker>,
    pub(super) blobs: BTreeMap<Hash, Rc<Vec<u8>>>,
    /// Audits that are not closed.
    pub(super) open: BTreeSet<AuditId>,
    /// What auditors found.
    pub(super) answers: BTreeMap<(AuditId, MachineId), Answer>,
    /// Who has spoken in which state of which audit.
    pub(super) spoken: BTreeSet<(AuditId, &'static str, PublicKey)>,
    /// Planted cheats by lease and receipt, and by audit and auditor.
    pub(super) windows: BTreeMap<(LeaseId, u32), usize>,
    pub(super) lies: BTreeMap<(AuditId, MachineId), usize>,
    quota: BTreeMap<Kind, u32>,
    pub(super) outcome: Outcome,
    fees_before: u128,
    /// Receipts that were paid.
    paid: BTreeSet<(LeaseId, u32)>,
    tasks: Vec<std::sync::Arc<Task>>,
    submitted: usize,
    before: BTreeMap<PublicKey, u64>,
    block: Vec<(VerifiedTransaction, Purpose)>,
    draining: bool,
}

impl<'a> World<'a> {
    /// Opens a market with its honest lenders.
    pub fn open(plan: &'a Plan, seed: u64, quota: BTreeMap<Kind, u32>, trust: Trust) -> World<'a> {
        let validators: Vec<SecretKey> = (1..=4).map(|number| SecretKey::from_seed([number; 32])).collect();
        let genesis = GenesisState {
            chain: Hash::tagged("zoo-chain", &[&seed.to_le_bytes()]),
            time: START,
            params: plan.params.clone(),
            validators: validators.iter().map(SecretKey::public).collect(),
            registrars: vec![REGISTRAR],
        };
        let seal = move |body| trust(Transaction { version: Transaction::VERSION, body, signature: Signature([0; 64]) });
        let mut world = World {
            plan,
            dice: Dice::new(seed),
            chain: VirtualChain::with_beacon(&genesis, validators.clone(), Box::new(seal)),
            validators,
            lenders: Vec::new(),
            machines: BTreeMap::new(),
            trainings: BTreeMap::new(),
            workers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            open: BTreeSet::new(),
            answers: BTreeMap::new(),
            spoken: BTreeSet::new(),
            windows: BTreeMap::new(),
            lies: BTreeMap::new(),
            quota,
            outcome: Outcome::new(seed),
            fees_before: 0,
            paid: BTreeSet::new(),
            tasks: super::task::tasks(),
            submitted: 0,
            before: BTreeMap::new(),
            block: Vec::new(),
            draining: false,
        };
        world.open_account(BORROWER);
        world.pass_block();
        for _ in 0..plan.honest {
            world.hire(None, Habit::BOLD, 1);
        }
        world.pass_block();
        world
    }

    /// Lets one receipt interval pass.
    pub fn pass(&mut self) {
        self.replace_cheaters();
        self.submit_jobs();
        self.train();
        for _ in 0..BLOCKS {
            self.speak();
            self.pass_block();
        }
        self.outcome.windows_passed += 1;
    }

    /// Begins the sums anew: what was before is no part of what is measured.
    pub fn measure_from_here(&mut self) {
        let Outcome { planted, honest_punished, seed, .. } = self.outcome.clone();
        self.outcome = Outcome { planted, honest_punished, ..Outcome::new(seed) };
        self.fees_before = self.fees();
    }

    /// What borrowers were charged for audits.
    fn fees(&self) -> u128 {
        self.chain.ledger.jobs().map(|job| u128::from(job.fees.micro())).sum()
    }

    /// Are there cheats left to plant?
    pub fn has_cheats_left(&self) -> bool {
        self.quota.values().any(|left| *left > 0)
    }

    /// Lets what is held vest and what is open close, without new jobs; then draws the sums.
    pub fn drain(mut self) -> Outcome {
        self.draining = true;
        let end = self.chain.ledger.time().plus(3 * self.plan.params.audit.vest_ms);
        let is_open = |world: &World<'_>| {
            !world.open.is_empty()
                || world.chain.ledger.windows().next().is_some()
                || world.trainings.values().any(|t| !t.members.is_empty())
        };
        while is_open(&self) && self.chain.ledger.time() < end {
            self.pass();
        }
        self.chain.ledger.check_invariants().expect("the rules that always hold hold");
        self.conclude();
        self.outcome
    }

    // People.

    fn open_account(&mut self, key: PublicKey) {
        let (identity, expires) = (Hash::of(&key.0), self.chain.ledger.time().plus(3_600_000));
        let voucher = Voucher { registrar: REGISTRAR, identity, key, expires, signature: Signature([0; 64]) };
        self.send(key, Action::OpenAccount { voucher });
    }

    /// A lender comes with some machines, for good or (a kind) not.
    fn hire(&mut self, kind: Option<Kind>, habit: Habit, machines: u32) {
        let number = self.lenders.len() as u32;
        let lender = Lender::new(number, kind, habit, machines);
        self.open_account(lender.key);
        for (index, &key) in lender.machine_keys.iter().enumerate() {
            let config = machine_config(number, index as u32);
            self.send(lender.key, Action::RegisterMachine { machine_key: key, config, proof: Signature([0; 64]) });
            let machine = MachineId::from_key(&key);
            let mode = deepmarket_types::ChangeMode::AfterLease;
            self.send(lender.key, Action::Lend { machine, offer: offer(), mode });
            let addresses = Some(vec![format!("/ip4/10.{}.{}.{index}/tcp/4001", number / 250, number % 250)]);
            self.send(key, Action::Heartbeat { addresses });
            self.machines.insert(machine, number as usize);
        }
        self.lenders.push(lender);
    }

    /// Some cheaters are there at a time. One that may lend no more, or whose kind was planted often enough, goes.
    fn replace_cheaters(&mut self) {
        if self.draining {
            return;
        }
        for number in 0..self.lenders.len() {
            let Lender { kind: Some(kind), is_gone: false, .. } = self.lenders[number] else { continue };
            let account = self.chain.ledger.account(self.lenders[number].account).expect("it was opened");
            let is_barred = account.strikes >= self.plan.params.audit.strikes;
            if is_barred || self.quota[&kind] == 0 {
                self.lenders[number].is_gone = true;
                self.outcome.barred += u32::from(is_barred);
                // Barred ones can't be matched; others leave by themselves.
                for key in self.lenders[number].machine_keys.clone() {
                    let machine = MachineId::from_key(&key);
                    if self.chain.ledger.machine(machine).is_some_and(|machine| machine.offer.is_some() && !machine.draining) {
                        let mode = deepmarket_types::ChangeMode::AfterLease;
                        self.send(self.lenders[number].key, Action::Withdraw { machine, mode });
                    }
                }
            }
        }
        for is_auditor in [false, true] {
            let wanted = if is_auditor { self.plan.cheating_auditors } else { self.plan.cheating_workers };
            let present = |world: &World<'_>| {
                let of_this =
                    |lender: &&Lender| lender.kind.is_some_and(|kind| kind.is_auditor() == is_auditor) && !lender.is_gone;
                world.lenders.iter().filter(of_this).count() as u32
            };
            while present(self) < wanted {
                let of_kind = |kind: Kind| self.lenders.iter().filter(|l| l.kind == Some(kind) && !l.is_gone).count() as u32;
                let left = Kind::ALL.into_iter().filter(|kind| kind.is_auditor() == is_auditor && self.quota[kind] > 0);
                let Some(kind) = left.max_by_key(|kind| self.quota[kind] / (1 + of_kind(*kind))) else { break };
                let habit = match self.dice.roll(3) {
                    _ if is_auditor => Habit::BOLD,
                    0 => Habit::BOLD,
                    1 => Habit::SLEEPER,
                    _ => Habit::OCCASIONAL,
                };
                // Auditors are drawn by chance: with more machines he is drawn more often.
                self.hire(Some(kind), habit, if is_auditor { 4 } else { 1 });
            }
        }
    }

    fn submit_jobs(&mut self) {
        if self.draining {
            return;
        }
        let queued = self.chain.ledger.jobs().filter(|job| job.is_waiting()).count();
        for _ in queued..QUEUED {
            let task = &self.tasks[self.submitted % self.tasks.len()];
            let mut spec = task.spec.clone();
            spec.budget.audit_percent = self.plan.dial.unwrap_or(spec.budget.audit_percent);
            self.submitted += 1;
            self.send(BORROWER, Action::Borrow { spec: spec.to_bytes() });
        }
    }

    // Training.

    /// One window of every team: rounds, and receipts for them. Workers that were just matched say that they are ready.
    fn train(&mut self) {
        let jobs: Vec<JobId> = self.chain.ledger.jobs().filter(|job| !job.active.is_empty()).map(|job| job.id).collect();
        for job in jobs {
            self.train_job(job);
        }
    }

    fn train_job(&mut self, id: JobId) {
        let job = self.chain.ledger.job(id).expect("it is there").clone();
        let world = self.chain.ledger.began_with(&job);
        if !self.trainings.contains_key(&id) {
            let spec = self.chain.ledger.spec(id).expect("it was submitted");
            let spec = deepmarket_job::JobSpec::from_bytes(spec).expect("the ledger checked it");
            let task = &self.tasks[0];
            let task = Task { spec, manifest: task.manifest.clone(), shards: task.shards.clone() };
            let seed = job.seed.expect("it was matched");
            let setting = Setting { task: std::sync::Arc::new(task), seed, world };
            let rounds = setting.trainer(&[], None).schedule().rounds;
            let training = Training { setting, generation: 0, members: Vec::new(), state: None, round: 0, rounds };
            self.trainings.insert(id, training);
        }
        let mut training = self.trainings.remove(&id).expect("it was inserted");
        if training.generation != job.generation || training.members != job.members {
            self.regroup(&mut training, &job.members, job.generation);
        }
        let mut cheats = BTreeMap::new();
        if !training.members.is_empty() {
            for &lease in &job.members {
                let sequence = self.chain.ledger.lease(lease).expect("it is a member").sequence + 1;
                if let Some(cheat) = self.plant(lease, sequence, &training) {
                    cheats.insert(lease, cheat);
                }
            }
            for &lease in &job.members {
                let told = self.chain.ledger.lease(lease).expect("it is a member").rounds;
                self.workers.get_mut(&lease).expect("members are workers").begin_window(told);
            }
            for _ in 0..self.plan.rounds.min(training.rounds - training.round) {
                self.round(&mut training, &cheats);
            }
            let first = &self.workers[&training.members[0]];
            training.state = Some(Rc::new(first.trainer.save(0)));
        }
        let is_done = training.round == training.rounds;
        for lease in &job.active {
            let is_member = training.members.contains(lease);
            self.report(*lease, &training, is_member && is_done, cheats.get(lease).copied());
        }
        self.trainings.insert(id, training);
    }

    /// The chain named other members: all data is shared out among them anew, and those that come take over the state.
    fn regroup(&mut self, training: &mut Training, members: &[LeaseId], generation: u32) {
        let samples: Vec<u64> = vec![1; SHARDS as usize];
        let shares = share_out(&samples, &vec![1; members.len()], &vec![Vec::new(); members.len()]);
        for (lease, share) in members.iter().zip(&shares) {
            let is_new = !training.members.contains(lease);
            let worker = self.workers.get_mut(lease).expect("a member reported that it is ready");
            if is_new && let Some(state) = &training.state {
                worker.catch_up(state);
            }
            worker.take(share);
        }
        (training.members, training.generation) = (members.to_vec(), generation);
    }

    /// A round of a team: each member computes it, says what it gave, and applies the average of what all said.
    fn round(&mut self, training: &mut Training, cheats: &BTreeMap<LeaseId, Kind>) {
        let (round, members) = (training.round, &training.members);
        let team = members.len();
        let mut ranks = Vec::new();
        let mut truth: Vec<Computed> = Vec::new();
        for lease in members {
            let worker = self.workers.get_mut(lease).expect("members are workers");
            ranks.push(worker.place.rank);
            truth.push(worker.compute(round, team));
        }
        let mut handed: Vec<Handed> = Vec::new();
        for (own, lease) in members.iter().enumerate() {
            let worker = self.workers.get_mut(lease).expect("members are workers");
            handed.push(worker.say(cheats.get(lease).copied(), &truth, own, &mut self.dice));
        }
        let mut average = vec![0.0; truth[0].values.len()];
        let parts: Vec<(&[f32], u64)> = handed.iter().map(|said| (said.values.as_slice(), said.samples)).collect();
        combine(&parts, &mut average);
        for (lease, said) in members.iter().zip(handed) {
            let worker = self.workers.get_mut(lease).expect("members are workers");
            worker.apply(&average, said, &ranks, &mut self.dice);
        }
        training.round += 1;
        self.outcome.rounds += team as u64;
    }

    /// Does this worker cheat in this window? Remembers it if so.
    fn plant(&mut self, lease: LeaseId, sequence: u32, training: &Training) -> Option<Kind> {
        let of = self.chain.ledger.lease(lease).expect("it is active");
        let (machine, lender) = (of.machine, self.machines[&of.machine]);
        let Lender { kind, habit, .. } = self.lenders[lender];
        self.lenders[lender].windows += 1;
        let kind = kind.filter(|kind| !kind.is_auditor() && self.quota[kind] > 0)?;
        let is_possible = match kind {
            Kind::FewerSteps => training.setting.task.is_local(),
            Kind::OldParameters => self.workers[&lease].knows_before(training.round),
            Kind::CopiesAnother => training.members.len() > 1,
            _ => true,
        };
        let is_time = self.lenders[lender].windows > habit.honest_windows && self.dice.roll(100) < habit.percent;
        if !is_possible || !is_time || self.draining {
            return None;
        }
        let index = self.planted(kind, machine);
        self.windows.insert((lease, sequence), index);
        Some(kind)
    }

    /// Takes note of a cheat.
    pub(super) fn planted(&mut self, kind: Kind, machine: MachineId) -> usize {
        *self.quota.get_mut(&kind).expect("all kinds have a quota") -= 1;
        self.outcome.planted.push(Planted { kind, machine, fate: Fate::Unknown });
        self.outcome.planted.len() - 1
    }

    /// May this lie still be planted?
    pub(super) fn is_wanted(&self, kind: Kind) -> bool {
        self.quota.get(&kind).is_some_and(|left| *left > 0) && !self.draining
    }

    /// A receipt: of what was done since the last one, or that the worker is ready.
    fn report(&mut self, id: LeaseId, training: &Training, is_done: bool, cheat: Option<Kind>) {
        let ledger = &self.chain.ledger;
        let lease = ledger.lease(id).expect("it is active");
        let key = ledger.machine(lease.machine).expect("a lease has a machine").key;
        let place = CommitmentPlace { chain: ledger.chain(), job: lease.job, lease: id, rank: lease.rank };
        let (sequence, took_part, from, job, rank) = (lease.sequence + 1, lease.took_part(), lease.from, lease.job, lease.rank);
        let worker = self
            .workers
            .entry(id)
            .or_insert_with(|| Worker::new(place, training.setting.clone(), training.state.as_deref().map(Vec::as_slice)));
        if cheat == Some(Kind::ClaimsMoreSamples) && self.dice.roll(3) == 0 {
            // The commitments don't add up to what the receipt says.
            worker.inflated_since.get_or_insert(sequence);
        }
        let (committed, commitments) = worker.commitments();
        let parameters = worker.trainer.parameters_hash();
        let rounds = training.round;
        let from = match took_part {
            true => from,
            false if committed > 0 => rounds - committed,
            false => rounds,
        };
        let receipt = Receipt {
            job,
            lease: id,
            rank,
            sequence,
            from,
            rounds,
            samples: worker.samples(),
            cpu_ms: 0,
            parameters,
            commitments,
            committed,
            loss_micro: 0,
            checkpoint: None,
            missing: None,
            outcome: if is_done { LeaseOutcome::Finished(parameters) } else { LeaseOutcome::Running },
        };
        // One that waits to join may hear only then that the others are done.
        let purpose = if training.members.contains(&id) { Purpose::Plain } else { Purpose::MayBeLate };
        self.send_for(key, Action::Receipt(receipt), purpose);
        match cheat {
            Some(Kind::DoubleReceipts) => {
                // In a block that has the same transaction twice nobody would vote for; so it comes with another expiry.
                let again = self.chain.transaction_until(key, 0, Action::Receipt(receipt), Height(u64::MAX - 1));
                let index = self.windows.remove(&(id, sequence)).expect("it was planted");
                self.block.push((again, Purpose::Refused(index, 2073)));
            }
            Some(Kind::ContradictoryReceipts) => {
                let other = Receipt { samples: receipt.samples + 1, commitments: self.dice.hash(), ..receipt };
                let other = self.chain.transaction(key, 0, Action::Receipt(other));
                let index = self.windows[&(id, sequence)];
                self.block.push((other, Purpose::Refused(index, 2074)));
            }
            _ => {}
        }
    }

    // Blocks.

    pub(super) fn send(&mut self, signer: PublicKey, action: Action) {
        self.send_for(signer, action, Purpose::Plain);
    }

    pub(super) fn send_for(&mut self, signer: PublicKey, action: Action, purpose: Purpose) {
        let before = self.before.entry(signer).or_default();
        // The opening of an account has no number.
        let is_counted = !matches!(action, Action::OpenAccount { .. });
        let transaction = self.chain.transaction(signer, *before, action);
        *before += u64::from(is_counted);
        self.block.push((transaction, purpose));
    }

    fn pass_block(&mut self) {
        self.before.clear();
        let time = self.chain.ledger.time().plus(self.plan.params.receipt_ms / BLOCKS);
        let (transactions, purposes): (Vec<_>, Vec<_>) = std::mem::take(&mut self.block).into_iter().unzip();
        let actions: Vec<Action> = transactions.iter().map(|transaction| transaction.body().action.clone()).collect();
        let applied = self.chain.try_apply(time, transactions);
        for ((result, purpose), action) in applied.results.iter().zip(purposes).zip(&actions) {
            self.judge_result(result, purpose, action);
        }
        self.follow(&applied);
        assert!(self.chain.ledger.totals().conserved(), "seed {}: credits came from nowhere", self.outcome.seed);
    }

    fn judge_result(&mut self, result: &TransactionResult, purpose: Purpose, action: &Action) {
        let seed = self.outcome.seed;
        match purpose {
            Purpose::Plain => assert_eq!(result.code, 0, "seed {seed}: {action:?} was refused: {}", result.message),
            Purpose::MayBeLate => assert!([0, 2077, 2101].contains(&result.code), "seed {seed}: {action:?}: {}", result.message),
            Purpose::Doomed => assert_ne!(result.code, 0, "seed {seed}: {action:?} doesn't open what was committed"),
            Purpose::Refused(index, code) => {
                assert_eq!(result.code, code, "seed {seed}: {action:?}: {}", result.message);
                let planted = &mut self.outcome.planted[index];
                if planted.kind == Kind::DoubleReceipts {
                    planted.fate = Fate::Refused;
                }
            }
        }
    }

    /// Learns from a block's events.
    fn follow(&mut self, applied: &Applied) {
        for event in &applied.events {
            match *event {
                Event::Audit { audit, state: AuditState::Closed(verdict), .. } => self.close(audit, verdict),
                Event::Audit { audit, .. } => {
                    self.open.insert(audit);
                }
                Event::Posted { amount, cause, .. } => self.follow_posting(amount, cause),
                Event::Receipt { payout, .. } => self.outcome.claimed += u128::from(payout.micro()),
                _ => {}
            }
        }
    }

    fn follow_posting(&mut self, amount: Credits, cause: Posting) {
        match cause {
            Posting::Payout { lease, sequence, .. } => {
                let is_first = self.paid.insert((lease, sequence));
                assert!(is_first, "seed {}: receipt {sequence} of {lease} is paid twice", self.outcome.seed);
                self.outcome.paid += u128::from(amount.micro());
                if let Some(&index) = self.windows.get(&(lease, sequence)) {
                    let fate = &mut self.outcome.planted[index].fate;
                    *fate = if *fate == Fate::Passed { Fate::Missed } else { Fate::Escaped };
                }
            }
            Posting::Audit(_) => self.outcome.audit_pay += u128::from(amount.micro()),
            Posting::Forfeit(_) => self.outcome.forfeited += u128::from(amount.micro()),
            _ => {}
        }
    }

    /// An audit is over: what became of the cheats in it, and was anybody honest punished?
    fn close(&mut self, id: AuditId, verdict: AuditVerdict) {
        self.open.remove(&id);
        let audit = self.chain.ledger.audit(id).expect("closed audits are kept for a while").clone();
        let seed = self.outcome.seed;
        self.outcome.verdicts[verdict as usize] += 1;
        let worker_is_honest = self.is_honest(audit.machine);
        if matches!(verdict, AuditVerdict::False | AuditVerdict::Silent) && worker_is_honest {
            self.outcome.honest_punished += 1;
            eprintln!("seed {seed}: honest work was found {verdict:?}: {audit:#?}");
        }
        if let Some(&index) = self.windows.get(&(audit.lease, audit.sequence)) {
            self.outcome.planted[index].fate = match verdict {
                AuditVerdict::False | AuditVerdict::Silent => Fate::Caught,
                AuditVerdict::Passed => Fate::Passed,
                AuditVerdict::Void => Fate::Unknown,
            };
        }
        for auditor in &audit.auditors {
            if auditor.is_false && self.is_honest(auditor.machine) {
                self.outcome.honest_punished += 1;
                eprintln!("seed {seed}: an honest auditor was found false: {audit:#?}");
            }
            if let Some(&index) = self.lies.get(&(id, auditor.machine)) {
                self.outcome.planted[index].fate = match () {
                    () if auditor.is_false => Fate::Caught,
                    () if verdict == AuditVerdict::Void => Fate::Void,
                    () => Fate::Missed,
                };
            }
        }
    }

    fn is_honest(&self, machine: MachineId) -> bool {
        self.lenders[self.machines[&machine]].kind.is_none()
    }

    /// The sums, when all is over.
    fn conclude(&mut self) {
        let ledger = &self.chain.ledger;
        for (&(lease, _), &index) in &self.windows {
            let planted = &mut self.outcome.planted[index];
            if planted.fate == Fate::Unknown {
                let of = ledger.lease(lease).expect("leases are kept");
                // Its pay was held, and is gone with what another audit found; or it never had any.
                planted.fate = if of.forfeited.is_zero() { Fate::Unpaid } else { Fate::Forfeited };
            }
        }
        for lender in self.lenders.iter().filter(|lender| lender.kind.is_none()) {
            let account = ledger.account(lender.account).expect("it was opened");
            let lost = ledger.leases().filter(|lease| lease.owner == lender.account && !lease.forfeited.is_zero()).count();
            self.outcome.honest_punished += account.strikes + lost as u32;
        }
        self.outcome.blocks = ledger.height().0;
        self.outcome.fees = self.fees() - self.fees_before;
    }
}

/// Reads the inputs of a round that somebody handed over.
pub(super) fn evidence_of(blobs: &BTreeMap<Hash, Rc<Vec<u8>>>, hash: &Hash) -> Option<Evidence> {
    blobs.get(hash).and_then(|bytes| Evidence::from_bytes(bytes).ok())
}
