use deepmarket_types::Hash;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// The order in which the samples of a shard are used in one epoch: a permutation of `0..samples` that follows from the seed that
/// the chain fixed when the job was matched. Fisher-Yates over ChaCha8, without modulo bias.
pub fn permutation(seed: &Hash, shard: u32, epoch: u64, samples: u32) -> Vec<u32> {
    let key = Hash::tagged("deepmarket/v1/permutation", &[&seed.0, &shard.to_le_bytes(), &epoch.to_le_bytes()]);
    let mut rng = ChaCha8Rng::from_seed(key.0);
    let mut order: Vec<u32> = (0..samples).collect();
    for i in (1..order.len()).rev() {
        let j = below(&mut rng, i as u64 + 1) as usize;
        order.swap(i, j);
    }
    order
}

/// A uniform number below `bound`: what lies in the last, incomplete multiple of `bound` is drawn again.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let zone = u64::MAX - u64::MAX % bound;
    loop {
        let value = rng.next_u64();
        if value < zone {
            return value % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_holds_each_sample_once_and_follows_from_seed_shard_and_epoch() {
        let seed = Hash::of(b"seed");
        let order = permutation(&seed, 1, 2, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_eq!(order, permutation(&seed, 1, 2, 1000));
        assert_ne!(order, permutation(&seed, 0, 2, 1000));
        assert_ne!(order, permutation(&seed, 1, 3, 1000));
        assert_ne!(order, permutation(&Hash::of(b"other"), 1, 2, 1000));
        assert!(permutation(&seed, 0, 0, 0).is_empty());
    }

    #[test]
    fn the_first_positions_of_a_known_permutation_never_change() {
        assert_eq!(permutation(&Hash([7; 32]), 0, 0, 10), GOLDEN);
    }

    const GOLDEN: [u32; 10] = [5, 1, 3, 7, 2, 6, 8, 4, 0, 9];
}
