//! A round of any worker, computed again by who has only its inputs; and any one step of it.

use std::collections::VecDeque;

use deepmarket_job::{JobSpec, protocol::Part};
use deepmarket_types::{FailureReason, Hash};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{Failure, Trainer, Update, hashing::hash_state, testing};

const MODES: [&str; 5] = [
    "\"sync\"",
    "{ async = { staleness = 2 } }",
    "{ local = { steps = 3 } }",
    "{ local = { steps = 2, outer = { nesterov = { lr = 0.7, momentum = 0.9 } } } }",
    "{ local = { steps = 1 } }",
];

const OPTIMIZERS: [&str; 4] = [
    "sgd = { lr = 0.01 }",
    "sgd = { lr = 0.01, momentum = 0.9, nesterov = true, weight_decay = 1e-3 }",
    "adam = { lr = 0.01 }",
    "adamw = { lr = 0.01 }",
];

fn spec(mode: &str, optimizer: &str) -> JobSpec {
    let layers = "{ conv2d = { out = 8, kernel = 5, padding = 2 } }, { batch_norm = {} }, \"relu\", { dropout = { rate = 0.25 } }, \
                  { conv2d = { out = 8, kernel = 3, padding = 1 } }, \"global_avg_pool\", { linear = { out = 2 } }";
    let training = format!(
        "loss = \"cross_entropy\"\noptimizer = {{ {optimizer} }}\nschedule = {{ cosine = {{ warmup_steps = 2 }} }}\nbatch = 10\nepochs = 8\n\
         mode = {mode}"
    );
    testing::spec(layers, &training)
}

/// A rank of a job on the sharded dataset that began with two ranks.
fn rank(spec: &JobSpec, shards: &[u32]) -> Trainer {
    let (manifest, bytes) = testing::sharded();
    let mut trainer = Trainer::new(spec.clone(), manifest, Hash::of(b"job"), 2, testing::SHARDED_SAMPLES).unwrap();
    for index in shards {
        trainer.add_shard(Part::Train, *index, &bytes[*index as usize]).unwrap();
    }
    trainer.assign(shards, &[]).unwrap();
    trainer
}

/// What a worker must be able to hand over of a round, and what it gave.
struct Recorded {
    round: u64,
    shards: Vec<u32>,
    state: Vec<u8>,
    averages: Vec<Vec<f32>>,
    update: Update,
}

impl Recorded {
    /// The auditor: nothing but the spec, the seed, the shards and what was handed over.
    fn auditor(&self, spec: &JobSpec) -> Trainer {
        let mut auditor = rank(spec, &self.shards);
        auditor.restore(&self.state).unwrap();
        for average in &self.averages {
            auditor.apply(average).unwrap();
        }
        auditor
    }
}

/// A state that is kept, and what was applied since.
#[derive(Clone)]
struct Kept {
    state: Vec<u8>,
    averages: Vec<Vec<f32>>,
}

/// A team of ranks that record their rounds, as agents do.
struct Team {
    members: Vec<(Trainer, Vec<u32>, Kept)>,
    /// Updates that were computed ahead, of all members.
    ahead: VecDeque<Vec<Update>>,
    recorded: Vec<Recorded>,
    /// Whether rounds don't depend on the optimizer, so that averages lead from an older state to a newer one.
    shares_steps: bool,
}

impl Team {
    fn new(spec: &JobSpec, shares: &[&[u32]]) -> Team {
        let member = |share: &&[u32]| {
            let trainer = rank(spec, share);
            let state = trainer.save(0);
            (trainer, share.to_vec(), Kept { state, averages: Vec::new() })
        };
        let shares_steps = !matches!(spec.training.mode, deepmarket_job::Mode::Local { .. });
        Team { members: shares.iter().map(member).collect(), ahead: VecDeque::new(), recorded: Vec::new(), shares_steps }
    }

    fn compute(&mut self, round: u64) {
        let mut updates = Vec::new();
        for (trainer, shards, kept) in &mut self.members {
            let update = trainer.compute_round(round).unwrap();
            let Kept { state, averages } = kept.clone();
            self.recorded.push(Recorded { round, shards: shards.clone(), state, averages, update: update.clone() });
            updates.push(update);
        }
        self.ahead.push_back(updates);
    }

    fn apply(&mut self, keep: bool) {
        let updates = self.ahead.pop_front().expect("a round was computed");
        let total: u64 = updates.iter().map(|update| update.samples).sum();
        let mut average = vec![0.0; updates[0].values.len()];
        for update in &updates {
            let weight = update.samples as f32 / total as f32;
            average.iter_mut().zip(&update.values).for_each(|(sum, value)| *sum += weight * value);
        }
        for (trainer, _, kept) in &mut self.members {
            trainer.apply(&average).unwrap();
            kept.averages.push(average.clone());
            if keep || !self.shares_steps {
                *kept = Kept { state: trainer.save(0), averages: Vec::new() };
            }
        }
    }
}

/// A job of two ranks, of which one is lost on the way: the other takes over its shards, and a third joins from its state.
fn recorded(spec: &JobSpec, rng: &mut ChaCha8Rng) -> Vec<Recorded> {
    let staleness = match spec.training.mode {
        deepmarket_job::Mode::Async { staleness } => u64::from(staleness),
        _ => 0,
    };
    let mut team = Team::new(spec, &[&[0, 3], &[1, 2, 4]]);
    let mut run = |team: &mut Team, rounds: std::ops::Range<u64>| {
        let mut computed = rounds.start;
        for applied in rounds.clone() {
            // Some rounds are computed on parameters that are older than they could be.
            let wanted = (applied + 1 + rng.next_u64() % (staleness + 1)).min(rounds.end);
            while computed < wanted {
                team.compute(computed);
                computed += 1;
            }
            team.apply(rng.next_u32().is_multiple_of(3));
        }
    };
    run(&mut team, 0..4);
    let survivor = team.members[0].0.save(0);
    let mut later = Team::new(spec, &[&[0, 1, 3], &[2, 4]]);
    for (trainer, _, kept) in &mut later.members {
        trainer.restore(&survivor).unwrap();
        *kept = Kept { state: survivor.clone(), averages: Vec::new() };
    }
    run(&mut later, 4..8);
    team.recorded.extend(later.recorded);
    team.recorded
}

#[test]
fn an_auditor_who_has_a_rounds_inputs_gets_the_same_bits() {
    let mut rng = ChaCha8Rng::from_seed([5; 32]);
    for mode in MODES {
        for optimizer in OPTIMIZERS {
            let spec = spec(mode, optimizer);
            let rounds = recorded(&spec, &mut rng);
            assert_eq!(rounds.len(), 16);
            for recorded in &rounds {
                let update = recorded.auditor(&spec).compute_round(recorded.round).unwrap();
                assert_eq!(update, recorded.update, "{mode}, {optimizer}, round {}", recorded.round);
                assert!(!update.steps.is_empty());
            }
            let others = |r: &Recorded| rounds.iter().filter(|other| other.update.inputs == r.update.inputs).count();
            assert!(rounds.iter().all(|recorded| others(recorded) == 1), "inputs say which round of which worker it is");
            let most_steps = rounds.iter().map(|recorded| recorded.update.steps.len()).max();
            assert_eq!(
                most_steps,
                Some(if mode == MODES[2] {
                    3
                } else if mode == MODES[3] {
                    2
                } else {
                    1
                }),
                "{mode}"
            );
        }
    }
}

#[test]
fn a_judge_who_has_the_state_before_a_step_computes_exactly_that_step() {
    let mut rng = ChaCha8Rng::from_seed([6; 32]);
    for mode in MODES {
        for optimizer in &OPTIMIZERS[1..3] {
            let spec = spec(mode, optimizer);
            for recorded in recorded(&spec, &mut rng).iter().step_by(3) {
                let (round, update) = (recorded.round, &recorded.update);
                let mut auditor = recorded.auditor(&spec);
                let mut judge = rank(&spec, &recorded.shards);
                let untouched = judge.save(0);
                let mut before = hash_state(&auditor.values, &auditor.optimizer);
                for (step, after) in (0..).zip(&update.steps) {
                    let (state, _) = auditor.save_step(round, step).unwrap();
                    let stepped = judge.step(round, step, &state).unwrap();
                    assert_eq!((stepped.before, stepped.after), (before, *after), "{mode}, {optimizer}, step {step}");
                    assert_eq!(stepped.inputs, (step == 0).then_some(update.inputs));
                    assert_eq!(judge.save(0), untouched);
                    before = *after;
                }
                assert_eq!(auditor.save_step(round, 0).unwrap().0, auditor.save(0));
                // Asking for steps changes nothing for the round.
                assert_eq!(&auditor.compute_round(round).unwrap(), update);
                let past_the_end = update.steps.len() as u32;
                for failure in [
                    auditor.save_step(round, past_the_end).unwrap_err(),
                    judge.step(round, past_the_end, &recorded.state).unwrap_err(),
                    judge.step(round + 9, 0, &recorded.state).unwrap_err(),
                ] {
                    assert_eq!(failure.reason, FailureReason::TrainerCrashed, "{failure}");
                }
            }
        }
    }
}

#[test]
fn a_step_from_another_state_or_of_another_worker_is_another_step() {
    let spec = spec(MODES[2], OPTIMIZERS[2]);
    let mut worker = rank(&spec, &[0, 3]);
    let update = worker.compute_round(0).unwrap();
    let state = |worker: &mut Trainer, step| worker.save_step(0, step).unwrap().0;
    let second = state(&mut worker, 1);
    let honest = rank(&spec, &[0, 3]).step(0, 1, &second).unwrap();
    assert_eq!(honest.after, update.steps[1]);
    let elsewhere = rank(&spec, &[1, 2, 4]).step(0, 1, &second).unwrap();
    assert_eq!(elsewhere.before, honest.before);
    assert_ne!(elsewhere.after, honest.after);
    let mut changed = worker.save_step(0, 1).unwrap().0;
    let last = changed.len() - 1;
    // A high bit of a mantissa: lower ones may be rounded away again.
    changed[last - 1] ^= 0x40;
    let other = rank(&spec, &[0, 3]).step(0, 1, &changed).unwrap();
    assert!(other.before != honest.before && other.after != honest.after);
    let refused: Failure = rank(&spec, &[0, 3]).step(0, 1, &second[..last]).unwrap_err();
    assert_eq!(refused.reason, FailureReason::DataUnavailable);
}

#[test]
fn a_rank_without_samples_has_no_steps_of_its_own_and_still_an_outcome() {
    for mode in MODES {
        let spec = spec(mode, OPTIMIZERS[0]);
        let mut idle = rank(&spec, &[]);
        let update = idle.compute_round(0).unwrap();
        assert_eq!((update.samples, update.loss_sum), (0, 0.0));
        assert_eq!(update.steps.is_empty(), mode.contains("local"));
        assert_eq!(rank(&spec, &[]).compute_round(0).unwrap(), update);
        assert!(idle.save_step(0, 0).is_ok() != mode.contains("local"));
    }
}

#[test]
fn a_net_with_few_operations_for_each_parameter_is_traced_every_few_steps() {
    let layers = "\"flatten\", { linear = { out = 16 } }, \"relu\", { linear = { out = 2 } }";
    let training = "loss = \"cross_entropy\"\noptimizer = { adam = { lr = 0.01 } }\nbatch = 1\nepochs = 2\nmode = { local = { steps = 50 } }";
    let spec = testing::spec(layers, training);
    let all = [0, 1, 2, 3, 4];
    let mut worker = rank(&spec, &all);
    assert_eq!(worker.stretch, 32);
    let update = worker.compute_round(0).unwrap();
    assert_eq!((update.samples, update.steps.len()), (50, 2));
    let (state, _) = worker.save_step(0, 1).unwrap();
    let stepped = rank(&spec, &all).step(0, 1, &state).unwrap();
    assert_eq!([stepped.before, stepped.after], update.steps[..]);
}
