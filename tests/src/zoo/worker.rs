//! One lease: what its agent computes, commits to, and keeps for audits; and what a cheater makes of it.

use std::{collections::VecDeque, rc::Rc};

use deepmarket_job::{Evidence, protocol::floats_to_bytes};
use deepmarket_trainer::Trainer;
use deepmarket_types::{
    AuditId, CommitmentPlace, Disclosure, Hash, LeafProof, MountainRange, RoundCommitment, RoundTrace, seal, steps_root,
};

use super::{
    cheat::Kind,
    computing::{Computed, Setting, compute, exchange_of},
    dice::Dice,
};

/// A worker's memory of a round that it committed to.
#[derive(Debug)]
struct Leaf {
    commitment: RoundCommitment,
    hash: Hash,
    salt: Hash,
    trace: RoundTrace,
    state: Rc<Vec<u8>>,
    averages: Vec<Rc<Vec<u8>>>,
    shards: Vec<u32>,
    team: Vec<u32>,
    /// Old parameters with a story that fits them.
    forged: Option<Rc<Vec<u8>>>,
}

/// A lease's worker.
pub struct Worker {
    /// What binds its commitments.
    pub place: CommitmentPlace,
    setting: Setting,
    shards: Vec<u32>,
    /// It knows the truth also where it tells something else: a cheater has to go on in step with the others.
    pub trainer: Trainer,
    leaves: Vec<Leaf>,
    range: MountainRange,
    total_samples: u64,
    /// What was saved when the window began, and the averages since.
    saved: Rc<Vec<u8>>,
    averages: Vec<Rc<Vec<u8>>>,
    /// The round with which the window began, where the receipt before told the parameters.
    bound: Option<u64>,
    /// The state before the present round, and the one before it.
    states: VecDeque<Rc<Vec<u8>>>,
    /// From this receipt on, its receipts claim more samples than its commitments.
    pub inflated_since: Option<u32>,
}

/// How many more it claims.
const INFLATED: u64 = 1_000;

/// What a member hands to its team for a round.
pub struct Handed {
    /// The update, as it says.
    pub values: Vec<f32>,
    /// The samples that it says the update stands for.
    pub samples: u64,
    trace: RoundTrace,
    forged: Option<Rc<Vec<u8>>>,
}

impl Worker {
    /// A worker that goes on from a state (none: from the job's beginning).
    pub fn new(place: CommitmentPlace, setting: Setting, state: Option<&[u8]>) -> Worker {
        let trainer = setting.trainer(&[], state);
        let saved = Rc::new(trainer.save(0));
        Worker {
            place,
            setting,
            shards: Vec::new(),
            trainer,
            leaves: Vec::new(),
            range: MountainRange::default(),
            total_samples: 0,
            saved,
            averages: Vec::new(),
            bound: None,
            states: VecDeque::new(),
            inflated_since: None,
        }
    }

    /// Works on these shards from now on.
    pub fn take(&mut self, shards: &[u32]) {
        let state = self.trainer.save(0);
        self.trainer = self.setting.trainer(shards, Some(&state));
        self.shards = shards.to_vec();
    }

    /// Goes to a job's state: it was away from the team.
    pub fn catch_up(&mut self, state: &[u8]) {
        self.trainer.restore(state).expect("a member saved it");
    }

    /// Saves the state that the window's evidence begins with. `told` is the round of the receipt before.
    pub fn begin_window(&mut self, told: u64) {
        self.bound = (told == self.trainer.round()).then_some(told);
        self.saved = Rc::new(self.trainer.save(0));
        self.averages.clear();
    }

    /// What the round really gives.
    pub fn compute(&mut self, round: u64, team: usize) -> Computed {
        if self.states.len() == 2 {
            self.states.pop_front();
        }
        self.states.push_back(Rc::new(self.trainer.save(0)));
        if self.setting.task.is_local() {
            // A round of own steps needs the optimizer's state too: that isn't among the averages.
            self.saved = Rc::clone(&self.states[self.states.len() - 1]);
            self.averages.clear();
        }
        compute(&mut self.trainer, round, team)
    }

    /// What it says that the round gives. `all` is what it gives to each member, `own` its place among them.
    pub fn say(&mut self, cheat: Option<Kind>, all: &[Computed], own: usize, dice: &mut Dice) -> Handed {
        let (truth, team) = (&all[own], all.len());
        let mut said = truth.clone();
        let mut forged = None;
        match cheat {
            None | Some(Kind::DoubleReceipts | Kind::LyingAuditor | Kind::YesMan) => {}
            Some(Kind::ComputesNothing | Kind::SilentAtAudit | Kind::ContradictoryReceipts) => {
                // It knows the inputs, and makes the rest up.
                said.values.fill(0.0);
                said.steps = said.steps.iter().map(|_| dice.hash()).collect();
                said.outcome.output = dice.hash();
                said.outcome.exchange = exchange_of(&said.values, team);
            }
            Some(Kind::FewerSteps) => {
                let spec = self.setting.task.with_fewer_steps();
                let mut lazy = self.setting.trainer_of(&spec, &self.shards, self.states.back().map(|state| state.as_slice()));
                let computed = compute(&mut lazy, self.trainer.round(), team);
                (said.values, said.steps) = (computed.values, computed.steps);
                (said.outcome.output, said.outcome.exchange) = (computed.outcome.output, computed.outcome.exchange);
            }
            Some(Kind::SmallerBatch) => {
                let half = &self.shards[..self.shards.len() / 2];
                let mut lazy = self.setting.trainer(half, self.states.back().map(|state| state.as_slice()));
                let computed = compute(&mut lazy, self.trainer.round(), team);
                (said.values, said.steps) = (computed.values, computed.steps);
                (said.outcome.output, said.outcome.exchange) = (computed.outcome.output, computed.outcome.exchange);
            }
            Some(Kind::OldParameters) => {
                let (mut stale, is_old) = self.stale();
                let computed = compute(&mut stale, self.trainer.round(), team);
                let inputs = said.outcome.inputs;
                said = computed;
                if is_old && self.bound == Some(self.trainer.round()) && dice.roll(2) == 0 {
                    // It says so, and has inputs that fit.
                    forged = Some(Rc::new(stale.save(0)));
                } else {
                    said.outcome.inputs = inputs;
                }
            }
            Some(Kind::CopiesAnother) => said = all[(own + 1) % team].clone(),
            Some(Kind::FlipsSigns) => {
                said.values.iter_mut().for_each(|value| *value = -*value);
                said.outcome.exchange = exchange_of(&said.values, team);
                match dice.roll(2) {
                    // It says that the update is what it sends, or admits that it isn't.
                    0 => said.outcome.output = dice.hash(),
                    _ => (said.outcome.output, said.steps) = (dice.hash(), said.steps.iter().map(|_| dice.hash()).collect()),
                }
            }
            Some(Kind::ClaimsMoreSamples) => said.outcome.samples *= 2,
        }
        said.outcome.steps = steps_root(&said.steps);
        Handed { samples: said.outcome.samples, trace: said.trace(), values: said.values, forged }
    }

    /// A trainer that goes into the round with the parameters of the round before; tells whether that is another state than the
    /// true one.
    fn stale(&self) -> (Trainer, bool) {
        let before = if self.states.len() == 2 { &self.states[0] } else { &self.states[self.states.len() - 1] };
        let mut stale = self.setting.trainer(&self.shards, Some(before.as_slice()));
        let is_old = stale.round() + 1 == self.trainer.round();
        if is_old {
            if self.setting.task.is_local() {
                stale.compute_round(stale.round()).expect("it could be computed before");
            }
            let nothing = vec![0.0; stale.floats() as usize];
            stale.apply(&nothing).expect("zeros can be applied");
        }
        (stale, is_old)
    }

    /// Takes over the team's average, and commits to the round.
    pub fn apply(&mut self, average: &[f32], handed: Handed, team: &[u32], dice: &mut Dice) {
        let round = self.trainer.round();
        self.trainer.apply(average).expect("the zoo's jobs don't diverge");
        self.total_samples += handed.samples;
        let salt = dice.hash();
        let commitment = RoundCommitment {
            round,
            samples: handed.samples,
            total_samples: self.total_samples,
            sealed: seal(&handed.trace.outcome.answer(), &salt),
        };
        let hash = commitment.leaf(&self.place);
        self.range.push(hash);
        self.leaves.push(Leaf {
            commitment,
            hash,
            salt,
            trace: handed.trace,
            state: Rc::clone(&self.saved),
            averages: self.averages.clone(),
            shards: self.shards.clone(),
            team: team.to_vec(),
            forged: handed.forged,
        });
        self.averages.push(Rc::new(floats_to_bytes(average)));
    }

    /// Did it compute the round before, so that it knows its parameters?
    pub fn knows_before(&self, round: u64) -> bool {
        self.leaves.last().is_some_and(|leaf| leaf.commitment.round + 1 == round)
    }

    /// Rounds that it committed to, and the root over them.
    pub fn commitments(&self) -> (u64, Hash) {
        (self.range.leaves(), self.range.root())
    }

    /// Samples that its receipts claim.
    pub fn samples(&self) -> u64 {
        self.total_samples + if self.inflated_since.is_some() { INFLATED } else { 0 }
    }

    /// Opens one of the first `leaves` commitments, and hands over the round's inputs.
    pub fn disclose(&self, audit: AuditId, index: u64, leaves: u64) -> (Disclosure, Evidence) {
        let hashes: Vec<Hash> = self.leaves[..leaves as usize].iter().map(|leaf| leaf.hash).collect();
        let proof = |index| LeafProof::of(&hashes, index).expect("the receipt's tree has this leaf");
        let (leaf, last) = (&self.leaves[index as usize], leaves - 1);
        let evidence = Evidence {
            round: leaf.commitment.round,
            state: leaf.forged.as_ref().unwrap_or(&leaf.state).to_vec(),
            averages: if leaf.forged.is_some() { Vec::new() } else { leaf.averages.iter().map(|a| a.to_vec()).collect() },
            applied: leaf.commitment.round,
            shards: leaf.shards.clone(),
            team: leaf.team.clone(),
            update: None,
            steps: None,
        };
        let disclosure = Disclosure {
            audit,
            commitment: leaf.commitment,
            salt: leaf.salt,
            proof: proof(index),
            last: (index != last).then(|| (self.leaves[last as usize].commitment, proof(last))),
            evidence: evidence.hash(),
        };
        (disclosure, evidence)
    }

    /// The steps of a round, as it told them.
    pub fn trace(&self, index: u64) -> RoundTrace {
        self.leaves[index as usize].trace.clone()
    }
}
