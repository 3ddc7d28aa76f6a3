//! The result of a `predict` job: the outputs of all shards, put together into one safetensors file. Written part by part, so that
//! no more than one shard is in memory.
//!
//! `data add` deals samples to shards in turn: shard *k* of *K* has the samples *k, k + K, k + 2K …* of the source. Outputs are put
//! back into that order, so that the first one is of the source's first sample.

use std::io;

use deepmarket_job::{PredictedShard, Predictions};
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::error::{Failure, Outcome};

/// The tensor's name, in the shards and in the whole.
const OUTPUTS: &str = "outputs";

/// The beginning of the whole file: one tensor, `outputs`, of shape `[samples, shape…]`.
pub fn header(predictions: &Predictions) -> Vec<u8> {
    let shape: Vec<u64> = std::iter::once(predictions.samples).chain(predictions.shape.iter().map(|d| u64::from(*d))).collect();
    let bytes: u64 = shape.iter().product::<u64>() * 4;
    let entries = json!({
        "__metadata__": { "format": "pt" },
        OUTPUTS: { "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] },
    });
    let mut header = serde_json::to_vec(&entries).expect("names and numbers");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file
}

/// The outputs in one shard's blob, which must be those that the result says.
pub fn outputs<'a>(predictions: &Predictions, shard: &PredictedShard, blob: &'a [u8]) -> Outcome<&'a [u8]> {
    let refuse = |why: String| {
        Failure::environment(format!("the outputs of shard {} can't be used: {why}", shard.index))
            .with_hint("the job's workers made them wrongly: submit it again")
            .with_code(3031)
    };
    let tensors = SafeTensors::deserialize(blob).map_err(|e| refuse(e.to_string()))?;
    let tensor = tensors.tensor(OUTPUTS).map_err(|e| refuse(e.to_string()))?;
    let shape = std::iter::once(shard.samples).chain(predictions.shape.iter().map(|d| u64::from(*d)));
    let same = shape.eq(tensor.shape().iter().map(|side| *side as u64));
    if tensor.dtype() != Dtype::F32 || !same {
        let (dtype, found, expected) = (tensor.dtype(), tensor.shape(), &predictions.shape);
        return Err(refuse(format!("they are {dtype:?} {found:?}, not F32 of {} times {expected:?}", shard.samples)));
    }
    Ok(tensor.data())
}

/// Writes the outputs of all shards, in the source's order. `blob` gives one shard's after the other; `write_at` writes at a place in
/// the file.
pub async fn assemble(
    predictions: &Predictions,
    mut write_at: impl FnMut(&[u8], u64) -> io::Result<()>,
    mut blob: impl AsyncFnMut(&PredictedShard) -> Outcome<bytes::Bytes>,
) -> Outcome {
    let written = |error: io::Error| Failure::environment(format!("writing the predictions: {error}"));
    let header = header(predictions);
    write_at(&header, 0).map_err(written)?;
    let (begin, row) = (header.len() as u64, predictions.values() * 4);
    let (dealt, count) = (are_dealt(predictions), predictions.shards.len() as u64);
    let mut before = 0;
    for shard in &predictions.shards {
        let bytes = blob(shard).await?;
        let outputs = outputs(predictions, shard, &bytes)?;
        if dealt && count > 1 {
            let row_bytes = usize::try_from(row).expect("a shard in memory has several rows");
            for (number, output) in (0..).zip(outputs.chunks(row_bytes)) {
                let place = number * count + u64::from(shard.index);
                write_at(output, begin + place * row).map_err(written)?;
            }
        } else {
            write_at(outputs, begin + before * row).map_err(written)?;
        }
        before += shard.samples;
    }
    Ok(())
}

/// Have the shards as many samples as they get in turn? Shards that were cut otherwise are put one after the other.
fn are_dealt(predictions: &Predictions) -> bool {
    let (samples, count) = (predictions.samples, predictions.shards.len() as u64);
    predictions.shards.iter().all(|shard| shard.samples == samples.saturating_sub(shard.index.into()).div_ceil(count))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use deepmarket_types::Hash;

    use super::*;

    /// A shard's blob, as a worker writes it: the same header for fewer samples.
    fn blob(shape: &[u32], values: &[f32]) -> Bytes {
        let samples = values.len() as u64 / shape.iter().map(|d| u64::from(*d)).product::<u64>();
        let mut file = header(&Predictions { shape: shape.to_vec(), samples, shards: vec![] });
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        file.into()
    }

    fn two_shards() -> (Predictions, [Bytes; 2]) {
        let blobs = [blob(&[2], &[1.0, 2.0, 3.0, 4.0]), blob(&[2], &[5.0, 6.0])];
        let shard = |index: u32, samples| {
            let bytes = &blobs[index as usize];
            PredictedShard { index, samples, blob: Hash::of(bytes), bytes: bytes.len() as u64 }
        };
        let predictions = Predictions { shape: vec![2], samples: 3, shards: vec![shard(0, 2), shard(1, 1)] };
        predictions.check().unwrap();
        (predictions, blobs)
    }

    /// The values of the assembled file.
    async fn assembled(predictions: &Predictions, blobs: &[Bytes]) -> Vec<f32> {
        let mut file = Vec::new();
        let write_at = |bytes: &[u8], place: u64| {
            let (begin, end) = (place as usize, place as usize + bytes.len());
            file.resize(file.len().max(end), 0);
            file[begin..end].copy_from_slice(bytes);
            Ok(())
        };
        assemble(predictions, write_at, async |shard: &PredictedShard| Ok(blobs[shard.index as usize].clone())).await.unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let outputs = tensors.tensor(OUTPUTS).unwrap();
        assert_eq!((outputs.dtype(), outputs.shape()), (Dtype::F32, [predictions.samples as usize, 2].as_slice()));
        outputs.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    }

    #[tokio::test]
    async fn the_outputs_of_all_shards_are_one_tensor_in_the_order_in_which_the_samples_were_dealt() {
        let (predictions, blobs) = two_shards();
        assert_eq!(assembled(&predictions, &blobs).await, [1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
    }

    #[tokio::test]
    async fn the_outputs_of_shards_that_were_not_dealt_follow_each_other() {
        let (mut predictions, mut blobs) = two_shards();
        predictions.shards.swap(0, 1);
        blobs.swap(0, 1);
        (0..).zip(&mut predictions.shards).for_each(|(index, shard)| shard.index = index);
        assert_eq!(assembled(&predictions, &blobs).await, [5.0, 6.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn outputs_of_another_shape_or_none_at_all_are_refused_with_the_shards_number() {
        let (predictions, blobs) = two_shards();
        for wrong in [blobs[0].clone(), blob(&[1], &[1.0]), Bytes::from_static(b"nothing")] {
            let refused = outputs(&predictions, &predictions.shards[1], &wrong).unwrap_err();
            assert!(refused.to_string().contains("shard 1 "), "{refused}");
        }
    }
}
