//! Workers and auditors as they play in a story: they do what an agent does, or what a cheater would do.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use deepmarket_ledger::{Applied, Audit, AuditParams, Duty, Params, Task};
use deepmarket_types::*;

use crate::support::*;

/// Steps of each round.
pub const STEPS: usize = 4;
/// Samples of each round.
pub const SAMPLES: u64 = 10;
/// Rounds that each receipt adds.
pub const ROUNDS: u64 = 2;
/// What a worker of one core costs for a second of the test market with fixed prices of 1,000, in microcredits.
pub const SECOND: u64 = 1_210;

/// Audits of everything, as fast as they go: each step has ten seconds, pay is held for forty.
pub fn audited() -> Params {
    let audit = AuditParams {
        floor_permille: 1_000,
        first_windows: 0,
        vest_ms: 40_000,
        answer_ms: 10_000,
        wait_ms: 60_000,
        audit_ms: 1_000,
        pay_permille: 1_200,
        fee_permille: 200,
        canary_permille: 0,
        max_open: 100,
        strikes: 2,
    };
    Params { audit, max_machines_per_account: 10, ..with_fixed_prices([1_000; 4]) }
}

/// How a machine plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// Computes what it says.
    Honest,
    /// As a worker: from a step of each round on, it makes hashes up. As an auditor it is honest.
    Fakes(usize),
    /// Sends receipts, and never says a word in an audit.
    Silent,
    /// As an auditor: contradicts the worker with the same lie as all liars. As a worker it is honest.
    Lies,
    /// As a liar, and shows no steps of it.
    LiesAndHides,
    /// As an auditor: agrees with every worker without computing.
    SaysYes,
    /// As an auditor: says that inputs can't be used.
    FindsUnusable,
    /// As an auditor: says that it can't.
    IsUnable,
    /// As an auditor: gives its answer and never shows it.
    NeverShows,
}

/// The hash of the state after a step, from the one before: here "training" is hashing.
fn next_step(before: &Hash, step: usize, honest: bool) -> Hash {
    Hash::tagged("step", &[&before.0, &(step as u64).to_le_bytes(), &[u8::from(honest)]])
}

fn inputs(lease: LeaseId, round: u64) -> Hash {
    Hash::tagged("inputs", &[&lease.0.to_le_bytes(), &round.to_le_bytes()])
}

/// What a round of a lease gives, where the steps from `fake_from` on are wrong.
pub fn compute(lease: LeaseId, round: u64, fake_from: Option<usize>) -> RoundTrace {
    let inputs = inputs(lease, round);
    let mut state = inputs;
    let steps: Vec<Hash> = (0..STEPS)
        .map(|step| {
            state = next_step(&state, step, fake_from.is_none_or(|from| step != from));
            state
        })
        .collect();
    let outcome = RoundOutcome {
        inputs,
        steps: steps_root(&steps),
        output: Hash::tagged("output", &[&state.0]),
        exchange: Hash::tagged("exchange", &[&state.0]),
        samples: SAMPLES,
    };
    RoundTrace { outcome, steps }
}

/// What a validator computes for a disputed step.
pub fn judge(audit: &Audit) -> Option<Hash> {
    let step = audit.disputed_step? as usize;
    let round = audit.disclosed.as_ref()?.commitment.round;
    let before = audit.before_dispute().unwrap_or(inputs(audit.lease, round));
    Some(next_step(&before, step, true))
}

/// A worker's memory of a lease: what it committed to.
#[derive(Clone, Default)]
pub struct Worker {
    pub commitments: Vec<RoundCommitment>,
    pub traces: Vec<RoundTrace>,
    pub leaves: Vec<Hash>,
    range: MountainRange,
}

pub fn salt(lease: LeaseId, round: u64) -> Hash {
    Hash::tagged("salt", &[&lease.0.to_le_bytes(), &round.to_le_bytes()])
}

impl Worker {
    fn work(&mut self, place: &CommitmentPlace, fake_from: Option<usize>) {
        let round = self.leaves.len() as u64;
        let trace = compute(place.lease, round, fake_from);
        let sealed = seal(&trace.outcome.answer(), &salt(place.lease, round));
        let commitment = RoundCommitment { round, samples: SAMPLES, total_samples: SAMPLES * (round + 1), sealed };
        let leaf = commitment.leaf(place);
        self.range.push(leaf);
        self.leaves.push(leaf);
        self.commitments.push(commitment);
        self.traces.push(trace);
    }

    /// What opens an audit.
    pub fn disclosure(&self, audit: &Audit) -> Disclosure {
        let leaves = &self.leaves[..audit.window.committed.1 as usize];
        let proof = |index: u64| LeafProof::of(leaves, index).expect("the leaf is there");
        let last = audit.window.committed.1 - 1;
        Disclosure {
            audit: audit.id,
            commitment: self.commitments[audit.index as usize],
            salt: salt(audit.lease, audit.index),
            proof: proof(audit.index),
            last: (last != audit.index).then(|| (self.commitments[last as usize], proof(last))),
            evidence: Hash::of(b"evidence"),
        }
    }
}

/// A market with machines that play.
#[derive(Clone)]
pub struct Cast {
    pub market: Market,
    pub characters: BTreeMap<MachineId, Character>,
    pub workers: BTreeMap<LeaseId, Worker>,
    /// Machines that are off: they say nothing, not even that they are there.
    pub asleep: BTreeSet<MachineId>,
    /// Validators judge.
    pub judges: bool,
    /// Codes of what was refused of the players' words.
    pub refused: Vec<u16>,
    pub events: Vec<Event>,
}

impl Cast {
    /// Account 9 borrows; each machine `n` is offered by account `owner`. The first one is the fastest, and so on.
    pub fn new(params: Params, machines: &[(u8, u8, Character)]) -> Cast {
        Cast::of_classes(params, machines, |_| "1")
    }

    /// [`Cast::new`] with machines of several classes.
    pub fn of_classes(params: Params, machines: &[(u8, u8, Character)], class: impl Fn(u8) -> &'static str) -> Cast {
        let mut market = Market::validated(params, 4);
        market.open(9);
        let (characters, workers, asleep) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut cast = Cast { market, characters, workers, asleep, judges: true, refused: Vec::new(), events: Vec::new() };
        for (owner, number, character) in machines {
            cast.add(*owner, *number, *character, class(*number));
        }
        cast.wait(1_000);
        cast
    }

    /// One more machine of one core. It is heard of with the next block.
    pub fn add(&mut self, owner: u8, number: u8, character: Character, class: &str) {
        if self.market.ledger.account(account(owner)).is_none() {
            self.market.open(owner);
        }
        let mut config = config(number, cores(1), 1_000 - u64::from(number));
        config.trainer = class.into();
        assert_eq!(self.market.send(person(owner), register(number, config)), 0);
        self.market.offer(owner, number, offer(cores(1)));
        self.characters.insert(machine(number), character);
    }

    /// A job of one worker, on the fastest free machine, and its first receipt after ten seconds: so much is paid and held.
    pub fn hire(&mut self) -> JobId {
        let job = self.market.submit(9, &spec(1, 1, 30_000_000));
        self.train(10_000);
        job
    }

    pub fn character(&self, id: MachineId) -> Character {
        self.characters.get(&id).copied().unwrap_or(Character::Honest)
    }

    fn beats(&self) -> Vec<VerifiedTransaction> {
        let offered =
            self.market.ledger.machines().filter(|machine| machine.offer.is_some() && !self.asleep.contains(&machine.id));
        let beat = |key| {
            let addresses = Some(vec!["/ip4/10.0.0.1/tcp/4001".into()]);
            self.market.next(key, Action::Heartbeat { addresses })
        };
        offered.map(|machine| beat(machine.key)).collect()
    }

    /// A block `ms` after the last one: all machines are heard of, and somebody says something.
    pub fn block(&mut self, ms: u64, words: Vec<VerifiedTransaction>) -> Applied {
        let mut block = self.beats();
        let beats = block.len();
        block.extend(words);
        let mut applied = self.market.apply(ms, block);
        applied.results.drain(..beats);
        self.events.extend(applied.events.iter().cloned());
        applied
    }

    /// A block without a word but heartbeats.
    pub fn wait(&mut self, ms: u64) {
        self.block(ms, Vec::new());
    }

    /// What a machine does about a duty; nothing where its character says so.
    pub fn answer(&self, id: MachineId, duty: &Duty) -> Option<Action> {
        let audit = self.market.ledger.audit(duty.audit).expect("it has duties");
        let (character, worker) = (self.character(id), &self.workers[&audit.lease]);
        if character == Character::Silent {
            return None;
        }
        let is_worker = id == audit.machine;
        let lies = matches!(character, Character::Lies | Character::LiesAndHides | Character::SaysYes);
        let of_auditor = || compute(audit.lease, audit.index, lies.then_some(1));
        let trace = || if is_worker { worker.traces[audit.index as usize].clone() } else { of_auditor() };
        let salt = Hash::tagged("auditor's salt", &[&id.0, &audit.id.0.to_le_bytes()]);
        let audit_id = audit.id;
        match duty.task {
            Task::Disclose => Some(Action::Disclose(worker.disclosure(audit))),
            Task::Compute => {
                let outcome = of_auditor().outcome;
                let key = self.market.ledger.machine(id).expect("it exists").key;
                let blinded = blind(audit.id, &key, &outcome.answer(), &salt);
                let finding = match character {
                    Character::SaysYes => Finding::Equal { blinded },
                    Character::FindsUnusable => Finding::Unusable,
                    Character::IsUnable => Finding::Unable,
                    _ if audit.is_committed(&outcome) => Finding::Equal { blinded },
                    _ => Finding::Different { blinded },
                };
                Some(Action::Commit { audit: audit_id, finding })
            }
            Task::Reveal if character == Character::NeverShows => None,
            Task::Reveal => Some(Action::Reveal { audit: audit_id, outcome: of_auditor().outcome, salt }),
            Task::Trace if character == Character::LiesAndHides => None,
            Task::Trace => {
                let state = (!is_worker).then(|| Hash::of(b"state"));
                Some(Action::Trace { audit: audit_id, trace: trace(), state })
            }
        }
    }

    /// What everybody has to say in audits now.
    pub fn answers(&self) -> Vec<VerifiedTransaction> {
        let ledger = &self.market.ledger;
        let mut answers = Vec::new();
        for machine in ledger.machines().filter(|machine| !self.asleep.contains(&machine.id)) {
            let said = ledger.duties(machine.id).into_iter().filter_map(|duty| self.answer(machine.id, &duty));
            answers.extend(said.map(|action| self.market.next(machine.key, action)));
        }
        for audit in ledger.judging().filter(|_| self.judges) {
            let quiet = self.market.keys.iter().map(SecretKey::public).filter(|key| !audit.judgements.contains_key(key));
            let judged = |key| self.market.next(key, Action::Judge { audit: audit.id, step: judge(audit) });
            // More than enough of them.
            answers.extend(quiet.take(3).map(judged));
        }
        answers
    }

    /// The receipt of a lease after two more rounds.
    pub fn receipt(&mut self, lease: LeaseId) -> VerifiedTransaction {
        let lease = self.market.ledger.lease(lease).expect("it exists").clone();
        let fake_from = match self.character(lease.machine) {
            Character::Fakes(from) => Some(from),
            _ => None,
        };
        let (job, chain) = (lease.job, self.market.ledger.chain());
        let place = CommitmentPlace { chain, job, lease: lease.id, rank: lease.rank };
        let worker = self.workers.entry(lease.id).or_default();
        (0..ROUNDS).for_each(|_| worker.work(&place, fake_from));
        let rounds = worker.leaves.len() as u64;
        let receipt = Receipt {
            rounds,
            samples: SAMPLES * rounds,
            committed: rounds,
            commitments: worker.range.root(),
            parameters: Hash::tagged("parameters", &[&job.0.to_le_bytes(), &rounds.to_le_bytes()]),
            ..receipt(&lease, lease.sequence + 1, LeaseOutcome::Running)
        };
        let key = self.market.ledger.machine(lease.machine).expect("it exists").key;
        self.market.next(key, Action::Receipt(receipt))
    }

    /// A block in which all say what they have to say.
    pub fn play(&mut self, ms: u64) -> Applied {
        let answers = self.answers();
        self.say(ms, answers)
    }

    /// A block in which some words are said; remembers the codes of those that are refused.
    pub fn say(&mut self, ms: u64, words: Vec<VerifiedTransaction>) -> Applied {
        let applied = self.block(ms, words);
        self.refused.extend(applied.results.iter().map(|result| result.code).filter(|code| *code != 0));
        applied
    }

    /// A block in which all workers send a receipt too.
    pub fn train(&mut self, ms: u64) -> Applied {
        let leases: Vec<LeaseId> = self.market.ledger.leases().filter(|lease| lease.is_active()).map(|lease| lease.id).collect();
        let mut words = self.answers();
        words.extend(leases.into_iter().map(|lease| self.receipt(lease)));
        self.say(ms, words)
    }

    /// Blocks of a second until something holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Cast) -> bool) {
        for _ in 0..200 {
            if holds(self) {
                return;
            }
            self.play(1_000);
        }
        panic!("this never happened: {what}");
    }

    pub fn audit(&self, id: u64) -> &Audit {
        self.market.ledger.audit(AuditId(id)).unwrap_or_else(|| panic!("there is no audit {id}"))
    }

    /// The machines that audited, in order, by number.
    pub fn auditors(&self, id: u64) -> Vec<u8> {
        let number = |id: MachineId| (0..=255).find(|number| machine(*number) == id).expect("a test's machine");
        self.audit(id).auditors.iter().map(|auditor| number(auditor.machine)).collect()
    }

    pub fn verdict(&self, id: u64) -> Option<AuditVerdict> {
        match self.audit(id).state {
            AuditState::Closed(verdict) => Some(verdict),
            _ => None,
        }
    }

    /// The verdict of the first audit; none before there is one.
    pub fn verdict_of_first(&self) -> Option<AuditVerdict> {
        self.market.ledger.audit(AuditId(1)).and_then(|_| self.verdict(1))
    }

    /// The states that an audit went through.
    pub fn states(&self, id: u64) -> Vec<AuditState> {
        let states = self.events.iter().filter_map(|event| match event {
            Event::Audit { audit, state, .. } if audit.0 == id => Some(*state),
            _ => None,
        });
        states.collect()
    }

    /// Plays until an audit is over.
    pub fn finish(&mut self, id: u64) -> AuditVerdict {
        self.until("the audit is over", |cast| cast.market.ledger.audit(AuditId(id)).is_some_and(|audit| audit.is_closed()));
        self.verdict(id).expect("it is over")
    }

    pub fn account(&self, number: u8) -> &deepmarket_ledger::Account {
        self.market.ledger.account(account(number)).expect("the account exists")
    }

    pub fn earned(&self, number: u8) -> u64 {
        self.account(number).earned.micro()
    }
}
