//! What the members of a team tell each other: where each of them stands when they come together, and after each round.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_net::NetError;
use deepmarket_types::{Checkpoint, Hash, decode, encode};

use crate::{holdings::Share, trainer::EvaluationSums};

/// A note between members; canonical bytes.
pub(crate) trait Note: BorshSerialize + BorshDeserialize {
    fn encoded(&self) -> Vec<u8> {
        encode(self)
    }

    /// All members' notes, by position.
    fn all(notes: &[Vec<u8>]) -> Result<Vec<Self>, NetError> {
        let read = |(note, position): (&Vec<u8>, u32)| {
            decode(note).map_err(|e| NetError::OutOfStep { position, what: format!("its note can't be read: {e}") })
        };
        notes.iter().zip(0..).map(read).collect()
    }
}

/// Where a member stands when a team comes together.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Standing {
    /// What it has done: rounds that it applied.
    pub version: u64,
    /// Hash of what it holds after that.
    pub digest: Hash,
    /// Samples of the running epoch that were trained on.
    pub trained: u64,
    /// Epochs whose evaluation was told.
    pub evaluated: u64,
    /// The shards that it works on, as bits.
    train: Vec<u8>,
    validate: Vec<u8>,
    /// Samples in a thousand seconds; 0: not known.
    pub speed: u64,
    /// The last stored state that it knows of.
    pub checkpoint: Option<Checkpoint>,
}

impl Standing {
    pub fn new(version: u64, digest: Hash, share: &Share) -> Standing {
        let (train, validate) = (to_bits(&share.train), to_bits(&share.validate));
        Standing { version, digest, trained: 0, evaluated: 0, train, validate, speed: 0, checkpoint: None }
    }

    pub fn share(&self) -> Share {
        Share { train: from_bits(&self.train), validate: from_bits(&self.validate) }
    }
}

impl Note for Standing {}

/// What brings all members of a team to the same place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CatchUp {
    /// They are there.
    Done,
    /// All take the last stored state: it is further than any of them.
    Stored(Checkpoint),
    /// Those that are behind get the state of the member at this position, the first one that is furthest.
    From(usize),
}

impl CatchUp {
    /// What the first member knows of stored states decides: others may have heard later news.
    pub fn of(standings: &[Standing]) -> CatchUp {
        let furthest = standings.iter().map(|standing| standing.version).max().unwrap_or(0);
        let stored = standings.first().and_then(|first| first.checkpoint).filter(|checkpoint| checkpoint.rounds > furthest);
        let giver = standings.iter().position(|standing| standing.version == furthest);
        let is_behind = standings.iter().any(|standing| standing.version < furthest);
        match (stored, giver.filter(|_| is_behind)) {
            (Some(stored), _) => CatchUp::Stored(stored),
            (None, Some(giver)) => CatchUp::From(giver),
            (None, None) => CatchUp::Done,
        }
    }
}

/// What a member tells after a round.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(crate) struct RoundNote {
    /// Hash of its parameters after the round.
    pub parameters: Hash,
    /// Time that it computed since its last note, in microseconds.
    pub computed_us: u64,
    /// Samples that it computed in that time.
    pub samples: u64,
    /// The latest generation that it knows of.
    pub sees: u32,
    /// Has it all that the next plan needs?
    pub is_ready: bool,
    /// What it sent to each member in each of the rounds since its last note, by name; empty where a lossy encoding changes that on
    /// its way.
    pub parts: Vec<Hash>,
}

impl RoundNote {
    /// Was what came from this member what it says that it sent? `came` holds what came in each round since the last note, and we
    /// are the member at `position` of `world`.
    pub fn sent(&self, came: &[Option<Hash>], position: usize, world: usize) -> bool {
        let said = |round: usize| self.parts.get(round * world + position);
        (0..).zip(came).all(|(round, came)| came.is_none_or(|came| said(round) == Some(&came)))
    }
}

impl Note for RoundNote {}

/// What a member tells of its part of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(crate) struct EvaluationNote {
    samples: u64,
    correct: Option<u64>,
    /// Bits of an `f64`.
    loss_sum: u64,
}

impl Note for EvaluationNote {}

impl From<EvaluationSums> for EvaluationNote {
    fn from(sums: EvaluationSums) -> Self {
        EvaluationNote { samples: sums.samples, correct: sums.correct, loss_sum: sums.loss_sum.to_bits() }
    }
}

impl From<EvaluationNote> for EvaluationSums {
    fn from(note: EvaluationNote) -> Self {
        EvaluationSums { samples: note.samples, correct: note.correct, loss_sum: f64::from_bits(note.loss_sum) }
    }
}

/// Sums in order of position. Right answers are known where all that have samples know theirs.
pub(crate) fn add_up(parts: impl IntoIterator<Item = EvaluationSums>) -> EvaluationSums {
    let mut sum = EvaluationSums { correct: Some(0), ..EvaluationSums::default() };
    for part in parts.into_iter().filter(|part| part.samples > 0) {
        sum.samples = sum.samples.saturating_add(part.samples);
        sum.loss_sum += part.loss_sum;
        sum.correct = sum.correct.zip(part.correct).map(|(a, b)| a.saturating_add(b));
    }
    sum
}

/// What most members hold; none where no value is held by more members than each other.
pub(crate) fn majority(hashes: impl IntoIterator<Item = Hash>) -> Option<Hash> {
    let mut counts: BTreeMap<[u8; 32], u32> = BTreeMap::new();
    hashes.into_iter().for_each(|hash| *counts.entry(hash.0).or_default() += 1);
    let most = counts.values().max().copied()?;
    let mut first = counts.into_iter().filter(|(_, count)| *count == most);
    match (first.next(), first.next()) {
        (Some((hash, _)), None) => Some(Hash(hash)),
        _ => None,
    }
}

fn to_bits(numbers: &[u32]) -> Vec<u8> {
    let mut bits = vec![0; numbers.iter().max().map_or(0, |most| *most as usize / 8 + 1)];
    numbers.iter().for_each(|number| bits[*number as usize / 8] |= 1 << (number % 8));
    bits
}

fn from_bits(bits: &[u8]) -> Vec<u32> {
    (0..bits.len() as u32 * 8).filter(|number| bits[*number as usize / 8] >> (number % 8) & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_add_up_over_members_and_survive_the_way() {
        let part = |samples, correct, loss_sum| EvaluationSums { samples, correct, loss_sum };
        let sum = add_up([part(10, Some(9), 1.5), part(0, None, 0.0), part(5, Some(1), 0.25)]);
        assert_eq!(sum, part(15, Some(10), 1.75));
        assert_eq!(add_up([part(10, Some(9), 1.0), part(5, None, 1.0)]).correct, None);
        assert_eq!(add_up([]).samples, 0);
        let note = EvaluationNote::from(sum);
        assert_eq!(EvaluationSums::from(EvaluationNote::all(&[note.encoded()]).unwrap()[0]), sum);
        let broken = EvaluationNote::all(&[note.encoded(), b"?".to_vec()]);
        assert!(matches!(broken, Err(NetError::OutOfStep { position: 1, .. })));
    }

    #[test]
    fn a_standing_keeps_its_shards() {
        let share = Share { train: vec![0, 7, 8, 300], validate: vec![] };
        let standing = Standing::new(5, Hash::of(b"x"), &share);
        let read = Standing::all(&[standing.encoded()]).unwrap();
        assert_eq!((read[0].share(), &read[0]), (share, &standing));
    }

    #[test]
    fn a_member_that_sends_one_thing_and_tells_another_is_noticed() {
        let [a, b, c, d] = [b"a", b"b", b"c", b"d"].map(|bytes| Hash::of(bytes));
        let note = RoundNote { parameters: a, computed_us: 1, samples: 1, sees: 1, is_ready: true, parts: vec![a, b, c, d] };
        assert!(note.sent(&[Some(b), Some(d)], 1, 2) && note.sent(&[Some(a), None], 0, 2));
        assert!(!note.sent(&[Some(b), Some(c)], 1, 2));
        assert!(!note.sent(&[Some(b), Some(d), Some(a)], 1, 2), "it tells too few");
        assert!(note.sent(&[], 1, 2));
    }

    #[test]
    fn members_catch_up_with_the_furthest_of_them_or_with_a_stored_state_that_is_further() {
        let at = |version, stored: Option<u64>| {
            let checkpoint = stored.map(|rounds| Checkpoint { state: Hash::default(), rounds });
            Standing { checkpoint, ..Standing::new(version, Hash::default(), &Share::default()) }
        };
        assert_eq!(CatchUp::of(&[at(0, None), at(0, None)]), CatchUp::Done);
        assert_eq!(CatchUp::of(&[at(4, Some(3)), at(5, None), at(5, None), at(0, None)]), CatchUp::From(1));
        let stored = Checkpoint { state: Hash::default(), rounds: 6 };
        assert_eq!(CatchUp::of(&[at(4, Some(6)), at(5, None)]), CatchUp::Stored(stored));
        assert_eq!(CatchUp::of(&[at(5, None), at(5, Some(6))]), CatchUp::Done, "the first member's news count");
    }

    #[test]
    fn a_majority_needs_more_than_any_other() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Hash::of(bytes));
        assert_eq!(majority([a, b, a]), Some(a));
        assert_eq!(majority([a, b]), None);
        assert_eq!(majority([a, b, c, b]), Some(b));
        assert_eq!(majority([]), None);
    }
}
