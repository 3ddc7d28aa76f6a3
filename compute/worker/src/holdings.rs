//! Who works on which shards, and how that changes: at once where a worker was lost, and without a pause where one came or turned
//! out to be faster or slower than the others.
//!
//! ```text
//! a worker was lost ─▶ its shards are shared out ─▶ all wait until they are fetched ─▶ the round is computed again
//! a worker came, or speeds differ ─▶ a better plan ─▶ each fetches what it will need while rounds go on as before
//!                                                        └─ all have it ─▶ all change over after the same round
//! ```

use std::{collections::BTreeSet, time::Duration};

use deepmarket_job::{DatasetManifest, JobSpec, Schedule, Shard, protocol::Part, share_out};
use tokio::task::JoinHandle;

use crate::{
    data::{Piece, Source},
    error::LeaseFailure,
    progress::Reporter,
    trainer::TrainerProcess,
};

/// A better plan is taken where it makes rounds shorter by at least this part of a thousand.
const WORTH_PERMILLE: u128 = 120;
/// How much computing is measured before speeds are believed, of the worker that was measured least.
const MEASURED: Duration = Duration::from_millis(1_500);

/// The shards of one worker, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub train: Vec<u32>,
    pub validate: Vec<u32>,
}

/// The shards of all workers, by position.
pub(crate) type Plan = Vec<Share>;

/// What is shared out: the samples of each shard.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    train: Vec<u64>,
    validate: Vec<u64>,
}

impl Sizes {
    pub fn validate(&self) -> &[u64] {
        &self.validate
    }

    /// The samples that each member of a plan gives to a round.
    pub fn weights(&self, plan: &Plan, schedule: &Schedule, round: u64) -> Vec<u64> {
        let shards = self.train.len() as u32;
        let given = |shard: &u32| {
            let slice = schedule.slice(round, *shard, shards, self.train[*shard as usize]);
            slice.end - slice.start
        };
        plan.iter().map(|share| share.train.iter().map(given).sum()).collect()
    }

    fn of(shards: &[Shard]) -> Vec<u64> {
        shards.iter().map(|shard| shard.samples).collect()
    }

    /// The plan for workers of some speeds that hold something already.
    pub fn plan(&self, speeds: &[u64], held: &[Share]) -> Plan {
        let of = |sizes: &[u64], held: Vec<Vec<u32>>| share_out(sizes, speeds, &held);
        let train = of(&self.train, held.iter().map(|share| share.train.clone()).collect());
        let validate = of(&self.validate, held.iter().map(|share| share.validate.clone()).collect());
        train.into_iter().zip(validate).map(|(train, validate)| Share { train, validate }).collect()
    }

    /// What workers hold, where that is all shards, each once.
    pub fn complete(&self, held: &[Share]) -> bool {
        let each_once = |sizes: &[u64], part: fn(&Share) -> &Vec<u32>| {
            let mut all: Vec<u32> = held.iter().flat_map(|share| part(share).iter().copied()).collect();
            all.sort_unstable();
            all.len() == sizes.len() && all.iter().enumerate().all(|(place, shard)| place as u32 == *shard)
        };
        each_once(&self.train, |share| &share.train) && each_once(&self.validate, |share| &share.validate)
    }

    /// How long a round takes the slowest worker, in a unit of its own.
    fn slowest(&self, plan: &Plan, speeds: &[u64]) -> u128 {
        let samples = |share: &Share| share.train.iter().map(|shard| u128::from(self.train[*shard as usize])).sum::<u128>();
        let times = plan.iter().zip(speeds).map(|(share, speed)| samples(share) * 1_000_000 / u128::from((*speed).max(1)));
        times.max().unwrap_or(0)
    }

    /// A plan by measured speeds, where it is worth changing over to it.
    pub fn better_plan(&self, current: &Plan, speeds: &[u64]) -> Option<Plan> {
        let plan = self.plan(speeds, current);
        let (now, then) = (self.slowest(current, speeds), self.slowest(&plan, speeds));
        (plan != *current && then * 1000 < now * (1000 - WORTH_PERMILLE)).then_some(plan)
    }
}

/// How fast workers compute, as they tell each other after each round: the same numbers on all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speeds {
    measured: Vec<(Duration, u64)>,
}

impl Speeds {
    pub fn new(world: usize) -> Speeds {
        Speeds { measured: vec![(Duration::ZERO, 0); world] }
    }

    pub fn add(&mut self, position: usize, computed: Duration, samples: u64) {
        let (time, count) = &mut self.measured[position];
        *time += computed;
        *count += samples;
    }

    /// Samples in a thousand seconds, by position; 0 where nothing is known.
    pub fn known(&self) -> Vec<u64> {
        let speed = |(time, samples): &(Duration, u64)| match time.as_micros() {
            0 => 0,
            micros => u64::try_from(u128::from(*samples) * 1_000_000_000 / micros).unwrap_or(u64::MAX),
        };
        self.measured.iter().map(speed).collect()
    }

    /// Makes room for what comes: half of what was measured is forgotten.
    pub fn fade(&mut self) {
        for (time, samples) in &mut self.measured {
            (*time, *samples) = (*time / 2, *samples / 2);
        }
    }

    /// The same once enough was measured of everybody who has samples.
    pub fn believed(&self) -> Option<Vec<u64>> {
        let enough = self.measured.iter().all(|(time, samples)| *samples == 0 || *time >= MEASURED);
        let any = self.measured.iter().any(|(_, samples)| *samples > 0);
        (enough && any).then(|| self.known())
    }
}

/// How fast members will probably be: as they were seen to compute for this job; for one that wasn't seen yet, what the chain tells
/// of its machine, by the measure of those that were: the units differ. 0 where nothing can be said.
pub(crate) fn expected_speeds(seen: &[u64], told: &[u64]) -> Vec<u64> {
    let both = seen.iter().zip(told).filter(|(seen, told)| **seen > 0 && **told > 0);
    let (all_seen, all_told) = both.fold((0_u128, 0_u128), |(a, b), (s, t)| (a + u128::from(*s), b + u128::from(*t)));
    if seen.iter().all(|seen| *seen == 0) {
        return told.to_vec();
    }
    let expected = |(seen, told): (&u64, &u64)| match *seen {
        0 => u64::try_from((u128::from(*told) * all_seen).checked_div(all_told).unwrap_or(0)).unwrap_or(u64::MAX),
        seen => seen,
    };
    seen.iter().zip(told).map(expected).collect()
}

/// The shards that this worker's trainer has, and where they come from.
pub(crate) struct Holdings {
    pub source: Source,
    pub sizes: Sizes,
    /// What the trainer works on.
    pub own: Share,
    train: Vec<Shard>,
    validate: Vec<Shard>,
    loaded: BTreeSet<(bool, u32)>,
    fetching: Option<JoinHandle<bool>>,
    /// Bytes of data that were fetched.
    pub fetched_bytes: u64,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        if let Some(task) = &self.fetching {
            task.abort();
        }
    }
}

impl Holdings {
    pub fn new(source: Source, manifest: &DatasetManifest, spec: &JobSpec) -> Result<Holdings, deepmarket_job::DataError> {
        let train = manifest.split(&spec.data.train)?.shards.clone();
        let validate = manifest.split(&spec.data.validate)?.shards.clone();
        let sizes = Sizes { train: Sizes::of(&train), validate: Sizes::of(&validate) };
        let (own, loaded) = (Share::default(), BTreeSet::new());
        Ok(Holdings { source, sizes, own, train, validate, loaded, fetching: None, fetched_bytes: 0 })
    }

    /// As for a job that never trains: nobody needs the training split.
    pub fn without_training(&mut self) {
        self.train.clear();
        self.sizes.train.clear();
    }

    fn pieces(&self, share: &Share) -> Vec<Piece> {
        let train = share.train.iter().map(|index| (Part::Train, *index, self.train[*index as usize]));
        let validate = share.validate.iter().map(|index| (Part::Validate, *index, self.validate[*index as usize]));
        let pieces = train.chain(validate).map(|(part, index, shard)| Piece { part, index, shard });
        pieces.filter(|piece| !self.loaded.contains(&(piece.part == Part::Train, piece.index))).collect()
    }

    /// Makes the trainer work on a share: fetches what it lacks.
    pub async fn take(&mut self, trainer: &mut TrainerProcess, share: &Share, reporter: &Reporter) -> Result<(), LeaseFailure> {
        self.fetching = None;
        let pieces = self.pieces(share);
        if !pieces.is_empty() {
            let trainer = tokio::sync::Mutex::new(&mut *trainer);
            let give = |piece: Piece, bytes| {
                let trainer = &trainer;
                async move {
                    trainer.lock().await.shard(piece.part, piece.index, bytes).await?;
                    Ok(())
                }
            };
            self.fetched_bytes += self.source.shards(&pieces, reporter, give).await?;
        }
        if pieces.is_empty() && *share == self.own {
            return Ok(());
        }
        trainer.assign(share.train.clone(), share.validate.clone()).await?;
        self.loaded = share.train.iter().map(|index| (true, *index)).chain(share.validate.iter().map(|i| (false, *i))).collect();
        self.own = share.clone();
        Ok(())
    }

    /// Fetches a share into this machine's store, before anything is begun.
    pub async fn prepare(&mut self, share: &Share, reporter: &Reporter) -> Result<(), LeaseFailure> {
        let pieces = self.pieces(share);
        self.fetched_bytes += self.source.shards(&pieces, reporter, async |_, _| Ok(())).await?;
        Ok(())
    }

    /// Fetches a share into this machine's store while the trainer goes on with what it has.
    pub fn fetch_ahead(&mut self, share: &Share) {
        let (pieces, source) = (self.pieces(share), self.source.clone());
        if let Some(task) = self.fetching.take() {
            task.abort();
        }
        self.fetching = Some(tokio::spawn(async move {
            for piece in pieces {
                if let Err(e) = source.fetch(&piece.shard.hash, piece.shard.bytes, &|_| {}).await {
                    tracing::warn!("a shard could not be fetched ahead: {e}");
                    return false;
                }
            }
            true
        }));
    }

    /// Is what was to be fetched ahead here (or given up: it will be tried again when it is needed)?
    pub fn is_fetched(&self) -> bool {
        self.fetching.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> Sizes {
        Sizes { train: vec![100; 12], validate: vec![10; 4] }
    }

    #[test]
    fn a_plan_holds_every_shard_once_and_what_is_missing_is_noticed() {
        let sizes = sizes();
        let plan = sizes.plan(&[0, 0, 0], &vec![Share::default(); 3]);
        assert!(sizes.complete(&plan));
        assert!(!sizes.complete(&plan[..2]) && !sizes.complete(&[plan[0].clone(), plan[0].clone(), plan[1].clone()]));
        let two = sizes.plan(&[0, 0], &plan[1..]);
        assert!(sizes.complete(&two));
        assert!(plan[1].train.iter().all(|shard| two[0].train.contains(shard)), "who stays keeps what it has");
    }

    #[test]
    fn a_worker_that_was_not_seen_yet_is_expected_to_be_as_fast_as_its_machine_is_said_to_be() {
        assert_eq!(expected_speeds(&[0, 0, 0], &[800, 400, 0]), [800, 400, 0]);
        assert_eq!(expected_speeds(&[30, 0, 50], &[600, 400, 1000]), [30, 20, 50]);
        assert_eq!(expected_speeds(&[30, 0], &[0, 400]), [30, 0], "nothing to measure it by");
    }

    #[test]
    fn a_slow_worker_gets_less_once_enough_was_measured() {
        let sizes = sizes();
        let plan = sizes.plan(&[0, 0], &vec![Share::default(); 2]);
        let mut speeds = Speeds::new(2);
        speeds.add(0, Duration::from_secs(1), 1_000);
        speeds.add(1, Duration::from_secs(3), 1_000);
        assert_eq!(speeds.believed(), None, "a second is too little");
        speeds.add(0, Duration::from_secs(1), 1_000);
        let believed = speeds.believed().unwrap();
        let better = sizes.better_plan(&plan, &believed).unwrap();
        assert_eq!((better[0].train.len(), better[1].train.len()), (9, 3));
        assert_eq!(sizes.better_plan(&better, &believed), None);
        assert_eq!(sizes.better_plan(&plan, &[1_000, 930]), None, "not worth it");
    }
}
