//! A round as its worker computes it, as an auditor computes it again, and the one step that a validator computes.

use std::sync::Arc;

use deepmarket_job::{
    Evidence, JobSpec,
    protocol::{Part, bytes_to_floats, floats_to_bytes},
};
use deepmarket_ledger::Window;
use deepmarket_net::share_of;
use deepmarket_trainer::Trainer;
use deepmarket_types::{Hash, RoundCommitment, RoundOutcome, RoundTrace, exchange_root, steps_root};

use super::task::{SHARDS, Task};

/// What the chain says of a job: all that its rounds follow from, beside the shares of the data.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The spec and the data.
    pub task: Arc<Task>,
    /// The seed that the chain gave.
    pub seed: Hash,
    /// Workers with which it began.
    pub world: u32,
}

/// What a round gives: to the team, and to whoever wants to compare.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The update.
    pub values: Vec<f32>,
    /// What is hidden in the commitment.
    pub outcome: RoundOutcome,
    /// The hashes of the state after each step.
    pub steps: Vec<Hash>,
}

impl Computed {
    /// The trace that a dispute asks for.
    pub fn trace(&self) -> RoundTrace {
        RoundTrace { outcome: self.outcome, steps: self.steps.clone() }
    }
}

impl Setting {
    /// A trainer that works on some shards, by this spec or by one that was tampered with.
    pub fn trainer_of(&self, spec: &JobSpec, shards: &[u32], state: Option<&[u8]>) -> Trainer {
        let Task { manifest, shards: all, .. } = &*self.task;
        let trainer = Trainer::new(spec.clone(), manifest.clone(), self.seed, self.world, self.task.samples());
        let mut trainer = trainer.expect("the zoo's jobs can be trained");
        for &shard in shards {
            trainer.add_shard(Part::Train, shard, &all[shard as usize]).expect("the zoo's shards are sound");
        }
        if let Some(state) = state {
            trainer.restore(state).expect("the state is of the same model");
        }
        trainer
    }

    /// The trainer of an honest worker.
    pub fn trainer(&self, shards: &[u32], state: Option<&[u8]>) -> Trainer {
        self.trainer_of(&self.task.spec, shards, state)
    }
}

/// Computes a round, for a team of some members.
pub fn compute(trainer: &mut Trainer, round: u64, team: usize) -> Computed {
    let update = trainer.compute_round(round).expect("the zoo's jobs don't diverge");
    let outcome = RoundOutcome {
        inputs: update.inputs,
        steps: steps_root(&update.steps),
        output: update.output,
        exchange: exchange_of(&update.values, team),
        samples: update.samples,
    };
    Computed { values: update.values, outcome, steps: update.steps }
}

/// The hash of what is sent to each member of a team.
pub fn exchange_of(values: &[f32], team: usize) -> Hash {
    let part = |position: usize| &values[share_of(values.len(), team as u32, position as u32)];
    let parts: Vec<Hash> =
        (0..team).map(|position| Hash::tagged("deepmarket/v1/part", &[&floats_to_bytes(part(position))])).collect();
    exchange_root(&parts)
}

/// Inputs that can't be those of the round: what contradicts the chain, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction(pub &'static str);

/// What an auditor knows of the audited round from the chain.
#[derive(Clone, Copy, Debug)]
pub struct Audited<'a> {
    /// The receipt's window.
    pub window: &'a Window,
    /// The round that was opened.
    pub commitment: &'a RoundCommitment,
    /// The worker's rank.
    pub rank: u32,
    /// The ranks of all leases that the job ever had.
    pub ranks: u32,
}

/// Brings a trainer to the state before the audited round, and checks on the way what can be checked.
pub fn prepare(setting: &Setting, audited: &Audited<'_>, evidence: &Evidence) -> Result<Trainer, Contradiction> {
    let Audited { window, commitment, rank, ranks } = *audited;
    let demand = |holds: bool, why| if holds { Ok(()) } else { Err(Contradiction(why)) };
    demand(evidence.round == commitment.round, "they are of another round")?;
    demand(window.rounds.1 > evidence.round, "the round is after the receipt")?;
    let ascending = |numbers: &[u32]| numbers.windows(2).all(|pair| pair[0] < pair[1]);
    demand(ascending(&evidence.shards) && evidence.shards.iter().all(|shard| *shard < SHARDS), "there are no such shards")?;
    demand(evidence.team.contains(&rank) && evidence.team.iter().all(|rank| *rank < ranks), "there is no such team")?;
    let is_alone = evidence.team.len() == 1;
    demand(!is_alone || evidence.shards.len() == SHARDS as usize, "a worker alone works on all shards")?;
    let mut trainer = setting.trainer(&evidence.shards, None);
    trainer.restore(&evidence.state).map_err(|_| Contradiction("the state is none of this model"))?;
    let begins = |trainer: &Trainer| match window.parameters.0 {
        Some(before) if trainer.round() == window.rounds.0 => trainer.parameters_hash() == before,
        _ => true,
    };
    demand(begins(&trainer), "the state isn't the one of the receipt before")?;
    for average in &evidence.averages {
        let average = bytes_to_floats(average).ok_or(Contradiction("an average is no list of floats"))?;
        trainer.apply(&average).map_err(|_| Contradiction("an average can't be applied"))?;
        demand(begins(&trainer), "the averages don't lead to the receipt before")?;
    }
    demand(trainer.round() == evidence.round, "they don't lead to the round")?;
    Ok(trainer)
}

/// The first step at which two lists differ.
pub fn first_difference(own: &[Hash], other: &[Hash]) -> Option<usize> {
    let common = own.len().min(other.len());
    (0..common).find(|at| own[*at] != other[*at]).or((own.len() != other.len()).then_some(common))
}
