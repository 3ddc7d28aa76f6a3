use std::{collections::BTreeMap, ops::Range};

use deepmarket_api::{Progress, ProgressKind};
use serde::Serialize;

/// Rounds that some workers trained together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// How often the workers had changed.
    pub generation: u32,
    /// The first round, counted from 0 over the whole job.
    pub from: u64,
    /// The round after the last one.
    pub to: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Samples that the rounds used.
    pub samples: u64,
    /// Is `samples` a share of what was reported of more rounds, in proportion?
    pub estimated: bool,
    /// The workers' ranks.
    pub ranks: Vec<u32>,
    /// Does it count?
    pub fate: Fate,
}

/// Does a batch count?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum Fate {
    /// The model has learnt from it.
    Counted,
    /// All workers were lost before its result was stored: the job went back to a checkpoint, and trained these rounds again.
    Replaced {
        /// With the workers of this generation.
        by: u32,
    },
}

/// The ledger of batches: which workers trained which rounds of a job, and which of them count. Each sample of an epoch belongs to
/// one round of it, so that it was used once where each round counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Batches {
    /// Those that count and those that were replaced, in the order of their rounds.
    pub batches: Vec<Batch>,
}

/// What counts of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochSum {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Samples of the batches that count.
    pub samples: u64,
    /// Is a part of them estimated?
    pub estimated: bool,
    /// Rounds before the last known one that no report tells of.
    pub untold: u64,
}

impl Batches {
    /// Puts reports together; see [`Record::batches`](super::Record::batches).
    pub fn of<'a>(reports: impl Iterator<Item = &'a Progress>, samples_of: &dyn Fn(Range<u64>) -> Option<u64>) -> Batches {
        // A later generation goes on from what an earlier one left. Of one generation several workers may tell the same.
        let told: BTreeMap<(u32, u64, u64), Batch> =
            reports.filter_map(batch).map(|b| ((b.generation, b.from, b.to), b)).collect();
        let (mut counted, mut replaced): (Vec<Batch>, Vec<Batch>) = Default::default();
        for next in told.into_values() {
            while let Some(last) = counted.pop_if(|last| last.to > next.from) {
                let cut = last.from.max(next.from);
                if cut > last.from {
                    counted.push(last.part(last.from..cut, samples_of));
                }
                if last.generation < next.generation {
                    replaced.push(Batch { fate: Fate::Replaced { by: next.generation }, ..last.part(cut..last.to, samples_of) });
                } else if last.to > next.to {
                    // The same workers' longer report tells the rest.
                    let rest = last.part(cut..last.to, samples_of);
                    counted.push(rest);
                    break;
                }
            }
            if counted.last().is_none_or(|last| last.to <= next.from) {
                counted.push(next);
            }
        }
        let mut batches: Vec<Batch> = counted.into_iter().chain(replaced).collect();
        batches.sort_by_key(|batch| (batch.from, batch.generation));
        Batches { batches: merged(batches) }
    }

    /// The batches that count.
    pub fn counted(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|batch| batch.fate == Fate::Counted)
    }

    /// What counts of each epoch.
    pub fn epochs(&self) -> Vec<EpochSum> {
        let mut sums: BTreeMap<u64, EpochSum> = BTreeMap::new();
        let mut next = 0;
        for batch in self.counted() {
            let new = EpochSum { epoch: batch.epoch, samples: 0, estimated: false, untold: 0 };
            let sum = sums.entry(batch.epoch).or_insert(new);
            sum.samples += batch.samples;
            sum.estimated |= batch.estimated;
            sum.untold += batch.from.saturating_sub(next);
            next = batch.to.max(next);
        }
        sums.into_values().collect()
    }

    /// Samples of one round, on average, near a round; none where nothing is known of it.
    pub fn samples_per_round(&self, round: u64) -> Option<f64> {
        let batch = self.counted().find(|batch| (batch.from..batch.to).contains(&round)).or_else(|| self.counted().last())?;
        Some(batch.samples as f64 / (batch.to - batch.from) as f64)
    }
}

impl Batch {
    /// A part of its rounds.
    fn part(&self, rounds: Range<u64>, samples_of: &dyn Fn(Range<u64>) -> Option<u64>) -> Batch {
        if rounds == (self.from..self.to) {
            return self.clone();
        }
        let known = samples_of(rounds.clone());
        let share = u128::from(self.samples) * u128::from(rounds.end - rounds.start) / u128::from(self.to - self.from);
        let samples = known.unwrap_or(u64::try_from(share).expect("a share is not more than the whole"));
        Batch { from: rounds.start, to: rounds.end, samples, estimated: known.is_none(), ..self.clone() }
    }

    /// Is it of the same workers and does it go on where this one ends?
    fn is_continued_by(&self, next: &Batch) -> bool {
        let same =
            |a: &Batch, b: &Batch| (a.generation, a.epoch, a.fate) == (b.generation, b.epoch, b.fate) && a.ranks == b.ranks;
        self.to == next.from && same(self, next)
    }
}

fn batch(report: &Progress) -> Option<Batch> {
    match &report.kind {
        ProgressKind::Trained { generation, from, to, epoch, samples, ranks } if from < to => Some(Batch {
            generation: *generation,
            from: *from,
            to: *to,
            epoch: *epoch,
            samples: *samples,
            estimated: false,
            ranks: ranks.clone(),
            fate: Fate::Counted,
        }),
        _ => None,
    }
}

/// Neighbours of the same workers as one.
fn merged(batches: Vec<Batch>) -> Vec<Batch> {
    let mut merged: Vec<Batch> = Vec::new();
    for next in batches {
        match merged.iter_mut().rev().take(8).find(|last| last.is_continued_by(&next)) {
            Some(last) => {
                last.to = next.to;
                last.samples += next.samples;
                last.estimated |= next.estimated;
            }
            None => merged.push(next),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{report, trained},
        *,
    };

    fn batches(told: &[(u32, Range<u64>, &[u32])]) -> Batches {
        let reports: Vec<Progress> = (1..)
            .zip(told)
            .map(|(sequence, (generation, rounds, ranks))| report(0, 0, sequence, trained(*generation, rounds.clone(), ranks)))
            .collect();
        Batches::of(reports.iter(), &|_| None)
    }

    fn rounds(batches: &Batches, fate: Fate) -> Vec<(u32, u64, u64, u64)> {
        let of = batches.batches.iter().filter(|batch| batch.fate == fate);
        of.map(|batch| (batch.generation, batch.from, batch.to, batch.samples)).collect()
    }

    #[test]
    fn workers_that_go_on_without_a_lost_one_leave_no_round_out_and_train_none_twice() {
        let batches = batches(&[(1, 0..4, &[0, 1, 2]), (1, 4..6, &[0, 1, 2]), (2, 6..10, &[0, 1]), (2, 10..12, &[0, 1])]);
        assert_eq!(rounds(&batches, Fate::Counted), [(1, 0, 6, 120), (2, 6, 10, 80), (2, 10, 12, 40)]);
        let epoch = |epoch, samples| EpochSum { epoch, samples, estimated: false, untold: 0 };
        assert_eq!(batches.epochs(), [epoch(0, 200), epoch(1, 40)]);
        assert_eq!(batches.samples_per_round(7), Some(20.0));
    }

    #[test]
    fn what_was_trained_after_the_last_checkpoint_is_marked_where_the_job_went_back_to_it() {
        let told: [(u32, Range<u64>, &[u32]); 4] =
            [(1, 0..5, &[0, 1]), (1, 5..10, &[0, 1]), (1, 10..13, &[0, 1]), (3, 5..10, &[2])];
        let batches = batches(&told);
        assert_eq!(rounds(&batches, Fate::Counted), [(1, 0, 5, 100), (3, 5, 10, 100)]);
        assert_eq!(rounds(&batches, Fate::Replaced { by: 3 }), [(1, 5, 10, 100), (1, 10, 13, 60)]);
        assert_eq!(batches.epochs()[0].samples, 200);
    }

    #[test]
    fn a_batch_that_was_replaced_in_its_middle_is_cut_by_the_jobs_own_schedule_where_that_is_known() {
        let told = [report(0, 0, 1, trained(1, 0..10, &[0, 1])), report(0, 2, 1, trained(2, 7..10, &[2]))];
        let by_share = Batches::of(told.iter(), &|_| None);
        assert_eq!(rounds(&by_share, Fate::Counted), [(1, 0, 7, 140), (2, 7, 10, 60)]);
        assert!(by_share.epochs()[0].estimated);
        let by_schedule = Batches::of(told.iter(), &|rounds| Some(rounds.end - rounds.start));
        assert_eq!(rounds(&by_schedule, Fate::Counted), [(1, 0, 7, 7), (2, 7, 10, 60)]);
        assert_eq!(rounds(&by_schedule, Fate::Replaced { by: 2 }), [(1, 7, 10, 3)]);
        assert!(!by_schedule.epochs()[0].estimated);
    }

    #[test]
    fn what_several_workers_tell_of_the_same_rounds_counts_once() {
        let all: &[u32] = &[0, 1];
        let twice = batches(&[(1, 0..6, all), (1, 0..6, all), (1, 6..10, all)]);
        assert_eq!(rounds(&twice, Fate::Counted), [(1, 0, 10, 200)]);
        let otherwise_cut = batches(&[(1, 0..4, all), (1, 0..6, all), (1, 2..5, all), (1, 5..10, all)]);
        assert_eq!(rounds(&otherwise_cut, Fate::Counted), [(1, 0, 10, 200)]);
        assert_eq!(rounds(&otherwise_cut, Fate::Replaced { by: 1 }), []);
    }

    #[test]
    fn rounds_that_nobody_told_of_are_counted_as_such() {
        let batches = batches(&[(1, 2..4, &[0]), (1, 7..10, &[0])]);
        assert_eq!(batches.epochs(), [EpochSum { epoch: 0, samples: 100, estimated: false, untold: 5 }]);
        assert_eq!(Batches::of([].iter(), &|_| None).samples_per_round(3), None);
    }
}
