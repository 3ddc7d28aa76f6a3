//! What is sent between ranks, and the arithmetic: who owns which share of a vector, and the weighted mean.

use std::{ops::Range, time::Duration};

/// What one averaging cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The samples that each rank's values stand for, in rank order.
    pub weights: Vec<u64>,
    /// Bytes sent to other ranks.
    pub sent: u64,
    /// Bytes received from other ranks.
    pub received: u64,
    /// Time until the last of the other ranks showed up for this round.
    pub waited: Duration,
    /// Time spent sending, receiving and summing after that.
    pub exchanged: Duration,
}

/// The share of a vector of `length` values that a rank sums: consecutive, all but equal, empty where there are more ranks
/// than values.
pub fn share_of(length: usize, world: u32, rank: u32) -> Range<usize> {
    let at = |rank: u32| (length as u128 * u128::from(rank) / u128::from(world)) as usize;
    at(rank)..at(rank + 1)
}

/// The mean of vectors, weighted by samples, into `mean`. One `(values, weight)` for each rank, in rank order, all as long
/// as `mean`.
///
/// Defined to the bit: `(w₀·v₀ + w₁·v₁ + …) / (w₀ + w₁ + …)` in `f32`, from left to right, over the ranks whose weight isn't
/// zero. If that is only one rank its values are taken as they are; if it is none (nobody had a sample in this round) all
/// ranks count the same. What isn't finite passes through.
pub fn combine(parts: &[(&[f32], u64)], mean: &mut [f32]) {
    let nobody = parts.iter().all(|(_, weight)| *weight == 0);
    let mut counting = parts.iter().map(|(values, weight)| (*values, if nobody { 1 } else { *weight })).filter(|(_, w)| *w > 0);
    let total: u64 = counting.clone().map(|(_, weight)| weight).fold(0, u64::saturating_add);
    let Some((first, weight)) = counting.next() else { return };
    assert!(parts.iter().all(|(values, _)| values.len() == mean.len()), "all ranks' shares are equally long");
    if weight == total {
        mean.copy_from_slice(first);
        return;
    }
    let weight = weight as f32;
    mean.iter_mut().zip(first).for_each(|(m, v)| *m = weight * v);
    for (values, weight) in counting {
        let weight = weight as f32;
        mean.iter_mut().zip(values).for_each(|(m, v)| *m += weight * v);
    }
    let total = total as f32;
    mean.iter_mut().for_each(|m| *m /= total);
}

/// What a frame between ranks carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The sender's values of the receiver's share.
    Values,
    /// The mean of the sender's share.
    Mean,
    /// A note to all.
    Note,
}

/// Stands before each frame; 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub part: Part,
    /// The sender's rank.
    pub from: u32,
    /// The round, or the note's tag.
    pub tag: u64,
    /// The sender's samples; 0 in notes and means.
    pub weight: u64,
    /// The length of the whole vector in floats; 0 in notes.
    pub floats: u32,
    /// Bytes that follow.
    pub bytes: u32,
}

impl FrameHeader {
    pub const BYTES: usize = 32;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = match self.part {
            Part::Values => 1,
            Part::Mean => 2,
            Part::Note => 3,
        };
        bytes[4..8].copy_from_slice(&self.from.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tag.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.weight.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.floats.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<FrameHeader> {
        let part = match bytes[..4] {
            [1, 0, 0, 0] => Part::Values,
            [2, 0, 0, 0] => Part::Mean,
            [3, 0, 0, 0] => Part::Note,
            _ => return None,
        };
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Some(FrameHeader { part, from: u32_at(4), tag: u64_at(8), weight: u64_at(16), floats: u32_at(24), bytes: u32_at(28) })
    }
}

/// Appends values as little-endian bytes.
pub(crate) fn append_floats(bytes: &mut Vec<u8>, values: &[f32]) {
    let start = bytes.len();
    bytes.resize(start + values.len() * 4, 0);
    for (to, value) in bytes[start..].chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// Reads little-endian bytes into values of the same number.
pub(crate) fn read_floats(bytes: &[u8], values: &mut [f32]) {
    for (value, from) in values.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes(from.try_into().expect("chunks of four"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_vector_once_and_in_order() {
        for length in [0, 1, 2, 3, 7, 100, 1_000_003] {
            for world in 1..=9 {
                let shares: Vec<_> = (0..world).map(|rank| share_of(length, world, rank)).collect();
                assert_eq!((shares[0].start, shares[world as usize - 1].end), (0, length));
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                let sizes: Vec<_> = shares.iter().map(Range::len).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn the_mean_counts_samples_and_forgets_ranks_without_any() {
        let mut mean = [0.0; 2];
        combine(&[(&[1.0, 2.0], 1), (&[4.0, 8.0], 2), (&[f32::NAN, 9.0], 0)], &mut mean);
        assert_eq!(mean, [3.0, 6.0]);
        combine(&[(&[0.1, 0.3], 7), (&[f32::NAN, 9.0], 0)], &mut mean);
        assert_eq!(mean, [0.1, 0.3]);
        combine(&[(&[1.0, 2.0], 0), (&[3.0, 4.0], 0)], &mut mean);
        assert_eq!(mean, [2.0, 3.0]);
        combine(&[(&[1.0, f32::INFINITY], 1), (&[f32::NAN, 4.0], 1)], &mut mean);
        assert!(mean[0].is_nan() && mean[1].is_infinite());
    }

    #[test]
    fn a_frame_header_survives_its_bytes_and_nonsense_is_refused() {
        let header = FrameHeader { part: Part::Mean, from: 3, tag: 1 << 40, weight: 99, floats: 20_000, bytes: 80_000 };
        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
        assert_eq!(FrameHeader::decode(&[9; 32]), None);
        let mut bytes = Vec::new();
        append_floats(&mut bytes, &[1.5, -0.0, f32::NAN]);
        let mut values = [0.0; 3];
        read_floats(&bytes, &mut values);
        assert_eq!(values.map(f32::to_bits), [1.5, -0.0, f32::NAN].map(f32::to_bits));
    }
}
