//! What chance decides in a world: all of it follows from the world's seed.

use deepmarket_types::Hash;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// A seeded source of chance.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of a world.
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::from_seed(Hash::tagged("zoo", &[&seed.to_le_bytes()]).0))
    }

    /// A number from 0 to one less than `sides`.
    pub fn roll(&mut self, sides: u32) -> u32 {
        (self.0.next_u64() % u64::from(sides.max(1))) as u32
    }

    /// Some hash that nobody could have known.
    pub fn hash(&mut self) -> Hash {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        Hash(bytes)
    }
}
