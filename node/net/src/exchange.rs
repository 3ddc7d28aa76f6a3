//! The arithmetic of an averaging: who owns which share of a vector, and the weighted mean.

use std::{ops::Range, time::Duration};

use deepmarket_types::Hash;

/// What one averaging cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The samples that each member's values stand for, in order of position.
    pub weights: Vec<u64>,
    /// [`part_hash`] of what each member sent us to sum, in order of position; none of ourselves, and none where a lossy encoding
    /// changed the bytes on their way.
    pub parts: Vec<Option<Hash>>,
    /// Bytes sent to other members.
    pub sent: u64,
    /// Bytes received from other members.
    pub received: u64,
    /// Time until the last of the other members showed up for this round.
    pub waited: Duration,
    /// Time spent sending, receiving and summing after that.
    pub exchanged: Duration,
    /// How long after we began each member's values began to come, in order of position; zero for ourselves and for those who had
    /// sent them before. So a slow member is seen.
    pub behind: Vec<Duration>,
}

/// The share of a vector of `length` values that the member at a position sums: consecutive, all but equal, empty where there are
/// more members than values.
pub fn share_of(length: usize, world: u32, position: u32) -> Range<usize> {
    let at = |position: u32| (length as u128 * u128::from(position) / u128::from(world)) as usize;
    at(position)..at(position + 1)
}

/// Names a part of an update by its floats as little-endian bytes.
pub fn part_hash(bytes: &[u8]) -> Hash {
    Hash::tagged("deepmarket/v1/part", &[bytes])
}

/// [`part_hash`] of what each of `world` members sums of an update, in order of position. `update` holds little-endian floats.
pub fn part_hashes(update: &[u8], world: u32) -> Vec<Hash> {
    let part = |position| {
        let share = share_of(update.len() / 4, world, position);
        part_hash(&update[4 * share.start..4 * share.end])
    };
    (0..world).map(part).collect()
}

/// The mean of vectors, weighted by samples, into `mean`. One `(values, weight)` for each member, in order of position, all as long
/// as `mean`.
///
/// Defined to the bit: `(w₀·v₀ + w₁·v₁ + …) / (w₀ + w₁ + …)` in `f32`, from left to right, over the members whose weight isn't
/// zero. If that is only one its values are taken as they are; if it is none (nobody had a sample in this round) all
/// members count the same. What isn't finite passes through.
pub fn combine(parts: &[(&[f32], u64)], mean: &mut [f32]) {
    let nobody = parts.iter().all(|(_, weight)| *weight == 0);
    let mut counting = parts.iter().map(|(values, weight)| (*values, if nobody { 1 } else { *weight })).filter(|(_, w)| *w > 0);
    let total: u64 = counting.clone().map(|(_, weight)| weight).fold(0, u64::saturating_add);
    let Some((first, weight)) = counting.next() else { return };
    assert!(parts.iter().all(|(values, _)| values.len() == mean.len()), "all members' shares are equally long");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_vector_once_and_in_order() {
        for length in [0, 1, 2, 3, 7, 100, 1_000_003] {
            for world in 1..=9 {
                let shares: Vec<_> = (0..world).map(|position| share_of(length, world, position)).collect();
                assert_eq!((shares[0].start, shares[world as usize - 1].end), (0, length));
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                let sizes: Vec<_> = shares.iter().map(Range::len).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn each_part_of_an_update_has_a_name_and_the_whole_is_the_only_part_of_one_member() {
        let update: Vec<u8> = (0..7 * 4).collect();
        let parts = part_hashes(&update, 3);
        assert_eq!(parts, [0..2, 2..4, 4..7].map(|share| part_hash(&update[4 * share.start..4 * share.end])));
        assert_eq!(part_hashes(&update, 1), [part_hash(&update)]);
        assert_eq!(part_hashes(&[], 2), [part_hash(&[]); 2]);
    }

    #[test]
    fn the_mean_counts_samples_and_forgets_members_without_any() {
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
}
