//! One pass over the validation split: jobs of kind `evaluate` and `predict`. A round is a shard of each member; all members know
//! which shards are done, so that what a lost one didn't tell is simply done by another.

use std::{collections::BTreeMap, time::Instant};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_api::ProgressKind;
use deepmarket_job::{EvaluationResult, JobSpec, Kind, PredictedShard, Predictions, share_out, tensor_file};
use deepmarket_types::{FailureReason, Hash, decode, encode};

use crate::{
    checkpoints::{self, Checkpoints},
    error::LeaseFailure,
    holdings::{Holdings, Share},
    lease::{Context, upload},
    members::{Membership, Team, Trouble, exchange_standings, hand_over, peers_of, watched},
    progress::Reporter,
    receipts::Receipts,
    rounds::{Totals, micro},
    standing::{CatchUp, EvaluationNote, Note, Standing, add_up},
    trainer::{EvaluationSums, Prediction, ROUND_WITHIN, TrainerProcess},
};

/// What came of one shard.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
struct Done {
    index: u32,
    sums: EvaluationNote,
    /// The shape of one sample's outputs.
    shape: Vec<u32>,
    /// The outputs' blob and its bytes, where they are wanted.
    outputs: Option<(Hash, u64)>,
}

/// What a member tells after each of its shards.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
struct PassNote {
    done: Option<Done>,
    /// The latest generation that it knows of.
    sees: u32,
}

impl Note for PassNote {}

/// One worker's part of a pass, through all the teams that it belongs to.
pub(crate) struct Pass<'a> {
    pub context: &'a Context,
    pub spec: &'a JobSpec,
    pub trainer: TrainerProcess,
    pub holdings: Holdings,
    pub reporter: &'a Reporter,
    pub receipts: &'a Receipts,
    pub checkpoints: &'a Checkpoints,
    pub totals: Totals,
    done: BTreeMap<u32, Done>,
}

impl<'a> Pass<'a> {
    pub fn new(
        context: &'a Context,
        spec: &'a JobSpec,
        trainer: TrainerProcess,
        holdings: Holdings,
        (reporter, receipts, checkpoints): (&'a Reporter, &'a Receipts, &'a Checkpoints),
    ) -> Pass<'a> {
        let (totals, done) = (Totals::default(), BTreeMap::new());
        Pass { context, spec, trainer, holdings, reporter, receipts, checkpoints, totals, done }
    }

    fn state(&self) -> Vec<u8> {
        encode(&self.done)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), LeaseFailure> {
        let refuse = |e| LeaseFailure::new(FailureReason::DataUnavailable, format!("the job's state can't be read: {e}"));
        self.done = decode(state).map_err(refuse)?;
        Ok(())
    }

    /// Works in a team until all shards are done.
    pub async fn run(&mut self, team: &mut Team, membership: &mut Membership) -> Result<(), Trouble> {
        team.group.set_patience(ROUND_WITHIN);
        self.come_together(team, membership).await?;
        let sizes = self.holdings.sizes.validate().to_vec();
        let rest: Vec<u32> = (0..sizes.len() as u32).filter(|index| !self.done.contains_key(index)).collect();
        let samples: Vec<u64> = rest.iter().map(|index| sizes[*index as usize]).collect();
        let world = team.world();
        let plan = share_out(&samples, &vec![0; world], &vec![Vec::new(); world]);
        let turns = plan.iter().map(Vec::len).max().unwrap_or(0);
        let own: Vec<u32> = plan[team.position].iter().map(|place| rest[*place as usize]).collect();
        for turn in 0..turns {
            let began = Instant::now();
            let done = match own.get(turn) {
                Some(index) => Some(self.shard(*index, own.get(turn + 1).copied()).await?),
                None => None,
            };
            self.totals.compute += began.elapsed();
            let note = PassNote { done, sees: membership.generation() }.encoded();
            let began = Instant::now();
            let notes = watched(membership, team, async |group| group.gather(turn as u64, &note).await).await?;
            self.totals.wait += began.elapsed();
            let notes = PassNote::all(&notes).map_err(|e| team.trouble(e))?;
            let must_leave = notes.iter().all(|note| note.sees > team.generation);
            let own = notes[team.position].done.as_ref().map(|done| EvaluationSums::from(done.sums));
            self.count(notes.into_iter().filter_map(|note| note.done), own);
            if team.position == 0 && checkpoints::is_due(self.spec.recovery.checkpoint_rounds, turn as u64 + 1, turns as u64) {
                self.checkpoints.offer(self.state(), self.done.len() as u64);
            }
            if must_leave && turn + 1 < turns {
                return Err(Trouble::Changed);
            }
        }
        if team.position == 0 {
            let EvaluationSums { samples, correct, loss_sum } = self.sums();
            let loss = loss_sum / samples.max(1) as f64;
            self.reporter.report(ProgressKind::Epoch { epoch: 0, epochs: 1, trained: 0, correct, samples, loss });
        }
        Ok(())
    }

    async fn come_together(&mut self, team: &mut Team, membership: &mut Membership) -> Result<(), Trouble> {
        self.holdings.source.peers = peers_of(&team.members)?;
        let own = Standing::new(self.done.len() as u64, Hash::of(&self.state()), &Share::default());
        let standings = exchange_standings(team, membership, own).await?;
        match CatchUp::of(&standings) {
            CatchUp::Done => {}
            CatchUp::Stored(stored) => {
                let state = self.holdings.source.fetch_state(&stored.state).await?;
                self.restore(&state)?;
            }
            CatchUp::From(giver) => {
                let state = (team.position == giver).then(|| self.state());
                if let Some(state) = hand_over(self.context, team, membership, &standings, giver, state).await? {
                    self.restore(&state)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the model over one shard, while the next one is fetched.
    async fn shard(&mut self, index: u32, next: Option<u32>) -> Result<Done, LeaseFailure> {
        let only = |index| Share { train: Vec::new(), validate: vec![index] };
        self.holdings.take(&mut self.trainer, &only(index), self.reporter).await?;
        if let Some(next) = next {
            self.holdings.fetch_ahead(&only(next));
        }
        let Prediction { outputs, shape, sums } = self.trainer.predict(index).await?;
        let outputs = match self.spec.kind {
            Kind::Predict => {
                let shape: Vec<u64> = shape.iter().map(|d| u64::from(*d)).collect();
                // Not the sums' samples: where positions have answers, those count positions.
                let samples = outputs.len() as u64 / (4 * shape.iter().product::<u64>()).max(1);
                let all = [&[samples], &shape[..]].concat();
                let file = tensor_file::of_tensor("outputs", &all, &outputs);
                let bytes = file.len() as u64;
                Some((upload(self.context, file).await?, bytes))
            }
            Kind::Train | Kind::Evaluate => None,
        };
        Ok(Done { index, sums: sums.into(), shape, outputs })
    }

    fn count(&mut self, done: impl Iterator<Item = Done>, own: Option<EvaluationSums>) {
        let before = self.done.len() as u64;
        self.done.extend(done.map(|done| (done.index, done)));
        let (rounds, parameters) = (self.done.len() as u64, Hash::of(&self.state()));
        let tally = &mut self.totals.tally;
        if tally.rounds == tally.from {
            // It takes part for the first time.
            tally.from = before;
        }
        (tally.rounds, tally.parameters) = (rounds, parameters);
        if let Some(sums) = own {
            tally.samples += sums.samples;
            tally.loss_micro = micro(sums.loss_sum / sums.samples.max(1) as f64);
        }
        self.receipts.record(*tally);
        let sums = self.sums();
        self.totals.fetched_bytes = self.holdings.fetched_bytes;
        self.reporter.report(ProgressKind::Round {
            round: rounds,
            rounds: self.holdings.sizes.validate().len() as u64,
            epoch: 0,
            loss: sums.loss_sum / sums.samples.max(1) as f64,
            compute_ms: self.totals.compute.as_millis() as u64,
            exchange_ms: 0,
            wait_ms: self.totals.wait.as_millis() as u64,
            exchanged_bytes: 0,
        });
    }

    fn sums(&self) -> EvaluationSums {
        add_up(self.done.values().map(|done| done.sums.into()))
    }

    /// The job's result, and what this worker did for it.
    pub async fn end(self) -> Result<(Vec<u8>, Totals), LeaseFailure> {
        let EvaluationSums { samples, correct, loss_sum } = self.sums();
        self.trainer.stop().await;
        let result = match self.spec.kind {
            Kind::Predict => {
                let shape = self.done.values().next().map_or(Vec::new(), |done| done.shape.clone());
                // Where positions have answers, the sums count positions.
                let sizes = self.holdings.sizes.validate();
                let samples = sizes.iter().sum();
                let part = |done: &Done| {
                    let samples = sizes[done.index as usize];
                    done.outputs.map(|(blob, bytes)| PredictedShard { index: done.index, samples, blob, bytes })
                };
                Predictions { shape, samples, shards: self.done.values().filter_map(part).collect() }.to_bytes()
            }
            Kind::Train | Kind::Evaluate => {
                EvaluationResult { samples, correct, loss: loss_sum / samples.max(1) as f64 }.to_bytes()
            }
        };
        Ok((result, self.totals))
    }
}
