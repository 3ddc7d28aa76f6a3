use deepmarket_types::Hash;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    MAX_DIMENSION,
    manifest::{MAX_SHARD_BYTES, MAX_SHARD_SAMPLES},
    schedule::MAX_SAMPLES,
};

/// The most bytes of a result that isn't a model.
const MAX_RESULT_BYTES: usize = 8 * 1024 * 1024;
/// The most dimensions of one sample's outputs.
const MAX_OUTPUT_DIMENSIONS: usize = 4;

/// The result of an `evaluate` job: how well its model does on the validation split. Stored as canonical JSON in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationResult {
    /// Samples evaluated: the whole split. Where each position of a sample has an answer (next-token prediction), positions.
    pub samples: u64,
    /// Right answers (datasets with classes).
    pub correct: Option<u64>,
    /// Mean loss.
    pub loss: f64,
}

/// The result of a `predict` job: the model's outputs for the validation split, in parts. Stored as canonical JSON in a blob.
///
/// The outputs of each shard are a blob of their own: a safetensors file with one tensor, `outputs`, of type `F32` and shape
/// `[samples, shape…]`, in the order of the shard's samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictions {
    /// The shape of one sample's outputs.
    pub shape: Vec<u32>,
    /// Samples of the whole split.
    pub samples: u64,
    /// The split's shards, in its order.
    pub shards: Vec<PredictedShard>,
}

/// The outputs for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedShard {
    /// The shard's index in its split.
    pub index: u32,
    /// Its samples.
    pub samples: u64,
    /// The blob.
    pub blob: Hash,
    /// The blob's length in bytes.
    pub bytes: u64,
}

/// Why a result is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// Not the canonical JSON of a result of this kind.
    #[error("the job's result can't be read: {0}; it was not made by this release's workers")]
    NotAResult(String),
    /// A result that contradicts itself or exceeds a limit.
    #[error("the job's result is refused: {place}: {why}")]
    BadResult {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
}

impl ResultError {
    /// The stable code that REST and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            ResultError::NotAResult(_) => 3030,
            ResultError::BadResult { .. } => 3031,
        }
    }
}

impl EvaluationResult {
    /// The canonical bytes: JSON without spaces, keys in the order of the fields. A loss that is not finite has none that can be
    /// read again: such a job fails instead.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers under text keys")
    }

    /// Reads and checks. The blob's hash fixes its bytes, so that other encodings need not be refused; and the loss, a fraction in
    /// decimal digits, may be read one unit in its last place off.
    pub fn from_bytes(bytes: &[u8]) -> Result<EvaluationResult, ResultError> {
        let result: EvaluationResult = read(bytes)?;
        result.check()?;
        Ok(result)
    }

    /// The share of right answers, from 0 to 1; none without classes.
    pub fn accuracy(&self) -> Option<f64> {
        self.correct.map(|correct| correct as f64 / self.samples.max(1) as f64)
    }

    /// Checks limits.
    pub fn check(&self) -> Result<(), ResultError> {
        if !(1..=MAX_SAMPLES).contains(&self.samples) {
            return Err(bad("samples", format!("{} are not 1 to {MAX_SAMPLES}", self.samples)));
        }
        match self.correct {
            Some(correct) if correct > self.samples => {
                Err(bad("correct", format!("{correct} right answers of {} samples", self.samples)))
            }
            _ if !self.loss.is_finite() => Err(bad("loss", "it is not finite")),
            _ => Ok(()),
        }
    }
}

impl Predictions {
    /// The canonical bytes: JSON without spaces, keys in the order of the fields.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and hashes under text keys")
    }

    /// Reads and checks. Strict: one result has one encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Predictions, ResultError> {
        let result: Predictions = read(bytes)?;
        if result.to_bytes() != bytes {
            return Err(ResultError::NotAResult("it is another encoding of the same result".into()));
        }
        result.check()?;
        Ok(result)
    }

    /// The values of one sample's outputs.
    pub fn values(&self) -> u64 {
        self.shape.iter().map(|side| u64::from(*side)).product()
    }

    /// Checks limits and sums: every shard of the split is there once, in order.
    pub fn check(&self) -> Result<(), ResultError> {
        let sides = self.shape.iter().all(|side| (1..=MAX_DIMENSION).contains(side));
        if !(1..=MAX_OUTPUT_DIMENSIONS).contains(&self.shape.len()) || !sides {
            let why = format!("{:?} is not 1 to {MAX_OUTPUT_DIMENSIONS} numbers of 1 to {MAX_DIMENSION}", self.shape);
            return Err(bad("shape", why));
        }
        let sample_bytes = self.shape.iter().fold(4_u128, |bytes, side| bytes.saturating_mul(u128::from(*side)));
        let mut samples = 0_u64;
        for (position, shard) in self.shards.iter().enumerate() {
            let place = || format!("shards[{position}]");
            if u32::try_from(position) != Ok(shard.index) {
                return Err(bad(place(), format!("it is of shard {}: all shards must be there once, in order", shard.index)));
            }
            if !(1..=MAX_SHARD_SAMPLES).contains(&shard.samples) {
                return Err(bad(place(), format!("{} samples are not 1 to {MAX_SHARD_SAMPLES}", shard.samples)));
            }
            let least = sample_bytes.saturating_mul(u128::from(shard.samples));
            if u128::from(shard.bytes) < least || shard.bytes > MAX_SHARD_BYTES {
                return Err(bad(place(), format!("{} bytes are not {least} to {MAX_SHARD_BYTES}", shard.bytes)));
            }
            samples += shard.samples; // A result of 8 MiB holds fewer than 2^17 shards of 2^24 samples.
        }
        if samples != self.samples || samples == 0 {
            return Err(bad("samples", format!("its shards hold {samples} samples and it says {}", self.samples)));
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ResultError> {
    if bytes.len() > MAX_RESULT_BYTES {
        let found = format!("it has {} bytes; at most {MAX_RESULT_BYTES} are allowed", bytes.len());
        return Err(ResultError::NotAResult(found));
    }
    serde_json::from_slice(bytes).map_err(|e| ResultError::NotAResult(e.to_string()))
}

fn bad(place: impl Into<String>, why: impl Into<String>) -> ResultError {
    ResultError::BadResult { place: place.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn predictions(sizes: &[u64]) -> Predictions {
        let shard = |(index, samples): (u32, &u64)| {
            let blob = Hash::of(&index.to_le_bytes());
            PredictedShard { index, samples: *samples, blob, bytes: samples * 40 + 100 }
        };
        Predictions { shape: vec![10], samples: sizes.iter().sum(), shards: (0..).zip(sizes).map(shard).collect() }
    }

    #[test]
    fn the_bytes_of_results_are_promises() {
        let evaluation = EvaluationResult { samples: 10_000, correct: Some(9_870), loss: 0.125 };
        assert_eq!(evaluation.to_bytes(), br#"{"samples":10000,"correct":9870,"loss":0.125}"#);
        let blob = Hash::of(&0_u32.to_le_bytes());
        let text = format!(r#"{{"shape":[10],"samples":3,"shards":[{{"index":0,"samples":3,"blob":"{blob}","bytes":220}}]}}"#);
        assert_eq!(String::from_utf8(predictions(&[3]).to_bytes()).unwrap(), text);
    }

    #[test]
    fn an_evaluation_that_contradicts_itself_is_refused() {
        let good = EvaluationResult { samples: 10, correct: Some(9), loss: 0.5 };
        assert_eq!(EvaluationResult::from_bytes(&good.to_bytes()), Ok(good));
        assert_eq!(good.accuracy(), Some(0.9));
        let none = EvaluationResult { correct: None, ..good };
        assert_eq!((EvaluationResult::from_bytes(&none.to_bytes()), none.accuracy()), (Ok(none), None));
        for wrong in [
            EvaluationResult { samples: 0, correct: None, ..good },
            EvaluationResult { correct: Some(11), ..good },
            EvaluationResult { loss: f64::INFINITY, ..good },
            EvaluationResult { loss: f64::NAN, ..good },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
            assert!(EvaluationResult::from_bytes(&wrong.to_bytes()).is_err(), "{wrong:?}");
        }
        for wrong in ["", "{}", r#"{"samples":10,"correct":9,"loss":0.5,"x":1}"#, r#"{"samples":-1,"correct":0,"loss":0.5}"#] {
            assert!(matches!(EvaluationResult::from_bytes(wrong.as_bytes()), Err(ResultError::NotAResult(_))), "{wrong}");
        }
    }

    #[test]
    fn predictions_name_every_shard_once_in_order_and_add_up() {
        let good = predictions(&[5, 7, 1]);
        assert_eq!(Predictions::from_bytes(&good.to_bytes()), Ok(good.clone()));
        assert_eq!(good.values(), 10);
        let wrong = |change: fn(&mut Predictions)| {
            let mut wrong = good.clone();
            change(&mut wrong);
            assert!(Predictions::from_bytes(&wrong.to_bytes()).is_err(), "{wrong:?}");
        };
        wrong(|p| p.samples += 1);
        wrong(|p| p.shards.swap(0, 1));
        wrong(|p| p.shards[2].index = 3);
        wrong(|p| p.shards.truncate(2));
        wrong(|p| p.shards[0].bytes = 199);
        wrong(|p| p.shards[0].bytes = MAX_SHARD_BYTES + 1);
        wrong(|p| p.shape = vec![]);
        wrong(|p| p.shape = vec![0]);
        wrong(|p| p.shape = vec![MAX_DIMENSION; 4]);
        wrong(|p| (p.samples, p.shards) = (0, vec![]));
        let longest = vec![b' '; MAX_RESULT_BYTES + 1];
        assert!(matches!(Predictions::from_bytes(&longest), Err(ResultError::NotAResult(_))));
    }

    proptest! {
        #[test]
        fn results_survive_their_bytes(samples in 1_u64..MAX_SAMPLES, correct: u64, loss in -1e300_f64..1e300, sizes in proptest::collection::vec(1_u64..1000, 1..20)) {
            let evaluation = EvaluationResult { samples, correct: Some(correct % samples), loss };
            let back = EvaluationResult::from_bytes(&evaluation.to_bytes()).unwrap();
            prop_assert_eq!((back.samples, back.correct), (evaluation.samples, evaluation.correct));
            prop_assert!((back.loss - loss).abs() <= loss.abs() * 1e-15);
            let predictions = predictions(&sizes);
            prop_assert_eq!(Predictions::from_bytes(&predictions.to_bytes()), Ok(predictions));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(EvaluationResult::from_bytes(&bytes).is_err());
            prop_assert!(Predictions::from_bytes(&bytes).is_err());
        }
    }
}
